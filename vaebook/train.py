"""Training and evaluation loops that know no model.

A *step* takes a batch and returns a dict of 0-d tensors: :func:`gradient_step` makes one from a loss
and an optimiser, and anything else that returns such a dict will do. Nothing in a loop waits for a
number: the tensors of an epoch are gathered as they are and averaged once at its end.

A run that may be interrupted takes a :class:`vaebook.checkpoints.Checkpoint`.
"""

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from tqdm import tqdm

from vaebook import machine
from vaebook.arguments import require_positive

Metrics = Mapping[str, Tensor]
Step = Callable[..., Metrics]

PRECISIONS = ("auto", "bfloat16", "float32")


def gradient_step(
    losses: Step,
    optimizer: Optimizer,
    *,
    precision: str = "auto",
    max_norm: float | None = None,
    compile: bool = False,
) -> Step:
    """Make a training step from a loss and an optimiser.

    Args:
        losses: function from a batch to a dict of 0-d tensors, of which ``"loss"`` is minimised.
        optimizer: updates the parameters; ``fused=True`` is the fastest.
        precision: "bfloat16" runs the networks' matrix products in bfloat16 (autocast) and keeps
            weights, gradients and everything that is not a product in float32; "float32" leaves all
            as it is; "auto" takes bfloat16 where :func:`vaebook.machine.has_fast_bfloat16`.
        max_norm: the gradient is scaled down to this norm where it is longer, and its norm before that
            is returned as ``"gradient norm"``.
        compile: whether to run ``losses`` through ``torch.compile``: it costs up to a minute at the first
            batch, needs a C++ compiler on a CPU, and draws other random numbers.

    Returns:
        A function from a batch to the dict of ``losses``, detached.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    if max_norm is not None and not max_norm > 0:
        raise ValueError(f"max_norm must be positive, got {max_norm!r}")
    if compile:
        losses = torch.compile(losses, dynamic=False)  # for each size of batch, of which there are two

    def step(batch) -> Metrics:
        device = next(_tensors(batch)).device.type
        reduced = precision == "bfloat16" or (precision == "auto" and machine.has_fast_bfloat16(device))
        with torch.autocast(device, dtype=torch.bfloat16, enabled=reduced):
            metrics = losses(batch)
        optimizer.zero_grad(set_to_none=True)
        metrics["loss"].backward()
        if max_norm is not None:
            trained = [weights for group in optimizer.param_groups for weights in group["params"]]
            metrics = {**metrics, "gradient norm": nn.utils.clip_grad_norm_(trained, max_norm)}
        optimizer.step()
        return {name: value.detach() for name, value in metrics.items()}

    return step


class EarlyStopping:
    """Ends a training that no longer gets better, and puts the best weights back.

    Args:
        model: its weights are kept at each new best.
        monitor: the column of the history to watch; it should fall.
        patience: epochs without a new best after which training ends, at least 1.
    """

    def __init__(self, model: nn.Module, monitor: str = "validation loss", *, patience: int = 10) -> None:
        require_positive(patience=patience)
        self.model, self.monitor, self.patience = model, monitor, patience
        self.best, self.waited, self.weights = math.inf, 0, {}

    def update(self, row: Mapping[str, float]) -> None:
        """Take notice of an epoch's row of the history."""
        self.waited += 1
        if _monitored(row, self.monitor) < self.best:
            self.best, self.waited = row[self.monitor], 0
            self.weights = copy.deepcopy(self.model.state_dict())

    @property
    def reached(self) -> bool:
        """Whether training should end."""
        return self.waited >= self.patience

    def restore_best(self) -> None:
        """Give the model the weights of its best epoch."""
        self.model.load_state_dict(self.weights)

    def state_dict(self) -> dict:
        """For a checkpoint."""
        return {"best": self.best, "waited": self.waited, "weights": self.weights}

    def load_state_dict(self, state: Mapping) -> None:
        """From a checkpoint."""
        self.best, self.waited, self.weights = state["best"], state["waited"], state["weights"]


class Keeper(Protocol):
    """What :func:`fit` asks of a checkpoint; :class:`vaebook.checkpoints.Checkpoint` is one."""

    def keeps(self, part: object) -> bool: ...

    def restore(self) -> list[dict[str, float]]: ...

    def save(self, history: list[dict[str, float]]) -> None: ...


def fit(
    step: Step,
    batches: Iterable,
    epochs: int,
    *,
    validate: Callable[[], Mapping[str, float]] | None = None,
    schedule: LRScheduler | None = None,
    stop: EarlyStopping | None = None,
    checkpoint: Keeper | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Train for a number of epochs.

    Args:
        step: called with each batch; updates the model and returns a dict of 0-d tensors.
        batches: iterated once an epoch, in an order of its own choice; each batch is a tensor, or a
            tuple of tensors, of shape ``(batch, ...)``.
        epochs: passes over ``batches``, at least 1.
        validate: called after each epoch; what it returns joins the history, each name after
            "validation".
        schedule: one of torch's schedules of the learning rate, which takes a step after each epoch;
            ``ReduceLROnPlateau`` watches the "validation loss", or the "loss" where nothing is validated.
        stop: ends training early; the model then has the weights of its best epoch.
        checkpoint: taken up where it was left, if there is one, and saved after each epoch. A run that
            was killed and started again ends with the same weights, bit by bit.
        progress: whether to show a bar; ``None`` shows it on a terminal only.

    Returns:
        The history, one row an epoch (the index counts from 1): means over the epoch of what ``step``
        returned, each example weighing the same, and what ``validate`` measured at its end.

    Raises:
        FloatingPointError: a loss was not finite; says in which epoch and batch, or after which epoch in
            validation, and what to try.
        CheckpointError: the checkpoint is damaged, or of another run.
    """
    require_positive(epochs=epochs)
    machine.keep_freed_memory()
    generator = getattr(batches, "generator", None)
    for name, part in {"schedule": schedule, "stop": stop, "generator of the batches": generator}.items():
        if checkpoint and part is not None and not checkpoint.keeps(part):
            raise ValueError(f"the checkpoint must keep the {name}, too, or the run could not be taken up")
    history = checkpoint.restore() if checkpoint else []
    hidden = None if progress is None else not progress
    with machine.subnormals_are_zero(), tqdm(unit=" images", unit_scale=True, disable=hidden) as bar:
        for epoch in range(len(history) + 1, epochs + 1):
            if stop and stop.reached:
                break
            bar.set_description(f"epoch {epoch}/{epochs}")
            weights, values = _collect(batches, step, bar.update)
            _refuse_infinities(values, epoch)
            row = _means(weights, values)
            if validate is not None:
                row |= _validated(validate(), epoch)
            history.append(row)
            bar.set_postfix_str(_words(row))
            if isinstance(schedule, ReduceLROnPlateau):
                schedule.step(row.get("validation loss", row["loss"]))
            elif schedule:
                schedule.step()
            if stop:
                stop.update(row)
            if checkpoint:
                checkpoint.save(history)
    if stop:
        stop.restore_best()
    return pd.DataFrame(history, index=pd.RangeIndex(1, len(history) + 1, name="epoch"))


@torch.no_grad()
def evaluate(metrics: Step, batches: Iterable) -> dict[str, float]:
    """Mean of ``metrics`` over all examples of ``batches``, without gradients.

    Args:
        metrics: function from a batch to a dict of tensors, 0-d means over the batch or one value for
            each example.
        batches: as in :func:`fit`.
    """
    return mean_over(batches, lambda batch: {name: value.mean() for name, value in metrics(batch).items()})


def mean_over(batches: Iterable, step: Step) -> dict[str, float]:
    """Call ``step`` on each batch and average what it returns, each example weighing the same.

    Args:
        batches: as in :func:`fit`.
        step: function from a batch to a dict of 0-d tensors.
    """
    return _means(*_collect(batches, step))


def _collect(
    batches: Iterable, step: Step, on_batch: Callable[[int], object] = lambda size: None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The share of each batch in all examples, and what ``step`` returned, each of shape ``(batches,)``."""
    collected: dict[str, list[Tensor]] = {}
    sizes = []
    for batch in batches:
        for name, value in step(batch).items():
            collected.setdefault(name, []).append(value.detach())
        sizes.append(len(next(_tensors(batch))))
        on_batch(sizes[-1])
    if not sizes:
        raise ValueError("there is no batch to go over")
    weights = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
    return weights, {name: torch.stack(values).double().cpu() for name, values in collected.items()}


def _means(weights: Tensor, values: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(weights @ column) for name, column in values.items()}


def _validated(values: Mapping[str, float], epoch: int) -> dict[str, float]:
    """What was measured after an epoch, each name after "validation"."""
    row = {f"validation {name}": float(value) for name, value in values.items()}
    if not all(map(math.isfinite, row.values())):
        raise FloatingPointError(
            f"validation after epoch {epoch} found {_words(row)}; look for images outside the range of the "
            "others, or try a smaller learning rate"
        )
    return row


def _refuse_infinities(values: Mapping[str, Tensor], epoch: int) -> None:
    finite = torch.stack([column.isfinite() for column in values.values()]).all(dim=0)
    if not finite.all():
        batch = int(finite.int().argmin())
        found = _words({name: float(column[batch]) for name, column in values.items()})
        raise FloatingPointError(
            f"training diverged in epoch {epoch}, batch {batch + 1}: {found}; "
            "try a smaller learning rate, or limit the gradient's norm with max_norm"
        )


def _monitored(row: Mapping[str, float], name: str) -> float:
    if name not in row:
        raise ValueError(f"the history has no {name!r} to watch; it has: {', '.join(row)}")
    return row[name]


def _tensors(batch) -> Iterable[Tensor]:
    return iter(batch if isinstance(batch, tuple | list) else (batch,))


def _words(row: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in row.items())
