"""Runs that can be killed at any moment and taken up again, to the same weights bit by bit.

A checkpoint is one file. It is replaced at once or not at all, so that what lies there is always whole, and
it is read as data: nothing in it is executed.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch

from vaebook.files import replacing

FORMAT = 1


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be taken up."""


class Checkpoint:
    """Where a training run is kept, and all of it that changes while it runs.

    The random state of torch itself (used by dropout, and by every draw without a generator) is kept, too.

    Args:
        path: the file; its folder is made if it is not there.
        settings: what the run was started with, in plain values (numbers, strings, lists, dicts). A
            checkpoint with other settings is refused, because going on from it would mix two runs.
        parts: everything else that changes: the model, its optimiser, a schedule, an early stopping (all
            that has ``state_dict`` and ``load_state_dict``), and each generator that random numbers come
            from.

    Example:
        ``Checkpoint("run.pt", {"latent_dim": 20}, model=model, optimizer=optimizer, generator=generator)``
    """

    def __init__(self, path: str | Path, settings: Mapping[str, object], **parts: object) -> None:
        self.path = Path(path)
        self.settings = dict(settings)
        self.parts = parts
        for name, part in parts.items():
            if not isinstance(part, torch.Generator) and not hasattr(part, "load_state_dict"):
                raise TypeError(f"{name} has no state that could be kept: {type(part).__name__}")

    def keeps(self, part: object) -> bool:
        """Whether this very object is among the parts."""
        return any(part is kept for kept in self.parts.values())

    def save(self, history: list[dict[str, float]]) -> None:
        """Replace the file by the present state.

        Args:
            history: one row for each epoch so far.
        """
        content = {
            "format": FORMAT,
            "settings": self.settings,
            "history": history,
            "parts": {name: _state(part) for name, part in self.parts.items()},
            "random": _random_states(),
        }
        with replacing(self.path) as file:
            torch.save(content, file)

    def restore(self) -> list[dict[str, float]]:
        """Put everything into the state of the file.

        Returns:
            The history so far; empty, and nothing is changed, if there is no file yet.

        Raises:
            CheckpointError: the file is damaged, or of a run with other settings or parts.
        """
        if not self.path.exists():
            return []
        content = self._read()
        for name, part in self.parts.items():
            try:
                _restore(part, content["parts"][name])
            except (RuntimeError, ValueError, KeyError, TypeError) as error:
                first_line = str(error).strip().splitlines()[0]
                raise CheckpointError(f"{self.path} does not fit {name}: {first_line}") from error
        _set_random_states(content["random"])
        return content["history"]

    def _read(self) -> dict:
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            version = content["format"]
        except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{self.path} is no checkpoint, or damaged: delete it to start over ({type(error).__name__})"
            ) from error
        if version != FORMAT:
            raise CheckpointError(f"{self.path} has format {version}, this version reads {FORMAT}")
        for what, kept, given in (
            ("settings", content["settings"], self.settings),
            ("parts", dict.fromkeys(content["parts"]), dict.fromkeys(self.parts)),
        ):
            if kept != given:
                raise CheckpointError(
                    f"{self.path} is of a run with other {what}: {_difference(kept, given)}; "
                    "delete it to start over, or choose another file"
                )
        return content


def _state(part: object) -> object:
    return part.get_state() if isinstance(part, torch.Generator) else part.state_dict()


def _restore(part: object, state: object) -> None:
    if isinstance(part, torch.Generator):
        part.set_state(state)
    else:
        part.load_state_dict(state)


def _random_states() -> dict[str, object]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def _set_random_states(states: Mapping[str, object]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])


def _difference(kept: Mapping, given: Mapping) -> str:
    """Each entry in which two mappings differ, in words."""
    absent = object()
    words = []
    for name in [*kept, *(name for name in given if name not in kept)]:
        old, new = kept.get(name, absent), given.get(name, absent)
        if old is absent or new is absent:
            words.append(f"{name} only {'here' if old is absent else 'there'}")
        elif old != new:
            words.append(f"{name} {old!r} there, {new!r} here")
    return ", ".join(words)
