"""Training and evaluation loops that know no model.

A *step* takes a batch and returns a dict of 0-d tensors: :func:`gradient_step` makes one from a loss
and an optimiser, and anything else that returns such a dict will do. Nothing in a loop waits for a
number: the tensors of an epoch are gathered as they are and averaged once at its end.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache

import pandas as pd
import torch
from torch import Tensor
from torch.optim import Optimizer
from tqdm import tqdm

Metrics = Mapping[str, Tensor]
Step = Callable[..., Metrics]

PRECISIONS = ("auto", "bfloat16", "float32")


def gradient_step(losses: Step, optimizer: Optimizer, *, precision: str = "auto") -> Step:
    """Make a training step from a loss and an optimiser.

    Args:
        losses: function from a batch to a dict of 0-d tensors, of which ``"loss"`` is minimised.
        optimizer: updates the parameters; ``fused=True`` is the fastest.
        precision: "bfloat16" runs the networks' matrix products in bfloat16 (autocast) and keeps
            weights, gradients and everything that is not a product in float32; "float32" leaves all
            as it is; "auto" takes bfloat16 where :func:`has_fast_bfloat16`.

    Returns:
        A function from a batch to the dict of ``losses``, detached.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")

    def step(batch) -> Metrics:
        device = next(_tensors(batch)).device.type
        reduced = precision == "bfloat16" or (precision == "auto" and has_fast_bfloat16(device))
        with torch.autocast(device, dtype=torch.bfloat16, enabled=reduced):
            metrics = losses(batch)
        optimizer.zero_grad(set_to_none=True)
        metrics["loss"].backward()
        optimizer.step()
        return {name: value.detach() for name, value in metrics.items()}

    return step


@cache
def has_fast_bfloat16(device: str) -> bool:
    """Whether a type of device multiplies bfloat16 in hardware; elsewhere it is far slower than float32.

    Args:
        device: such as "cpu" or "cuda".
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return (
        device == "cpu"
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.cpu._is_avx512_bf16_supported()
    )


def fit(
    step: Step,
    batches: Iterable,
    epochs: int,
    *,
    validate: Callable[[], Mapping[str, float]] | None = None,
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
        progress: whether to show a bar; ``None`` shows it on a terminal only.

    Returns:
        The history, one row an epoch (the index counts from 1): means over the epoch of what ``step``
        returned, each example weighing the same, and what ``validate`` measured at its end.

    Raises:
        FloatingPointError: a loss was not finite; says in which epoch and what to try.
    """
    if not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"epochs must be a positive integer, got {epochs!r}")
    history = []
    with tqdm(unit=" images", unit_scale=True, disable=None if progress is None else not progress) as bar:
        for epoch in range(1, epochs + 1):
            bar.set_description(f"epoch {epoch}/{epochs}")
            row = mean_over(batches, step, on_batch=bar.update)
            if not all(math.isfinite(value) for value in row.values()):
                raise FloatingPointError(
                    f"training diverged in epoch {epoch}: {_words(row)}; try a smaller learning rate"
                )
            if validate is not None:
                row |= {f"validation {name}": float(value) for name, value in validate().items()}
            history.append(row)
            bar.set_postfix_str(_words(row))
    return pd.DataFrame(history, index=pd.RangeIndex(1, epochs + 1, name="epoch"))


@torch.no_grad()
def evaluate(metrics: Step, batches: Iterable) -> dict[str, float]:
    """Mean of ``metrics`` over all examples of ``batches``, without gradients.

    Args:
        metrics: function from a batch to a dict of tensors, 0-d means over the batch or one value for
            each example.
        batches: as in :func:`fit`.
    """
    return mean_over(batches, lambda batch: {name: value.mean() for name, value in metrics(batch).items()})


def mean_over(
    batches: Iterable, step: Step, *, on_batch: Callable[[int], object] = lambda size: None
) -> dict[str, float]:
    """Call ``step`` on each batch and average what it returns, each example weighing the same.

    Args:
        batches: as in :func:`fit`.
        step: function from a batch to a dict of 0-d tensors.
        on_batch: called with the size of each batch after it.
    """
    collected: dict[str, list[Tensor]] = {}
    sizes = []
    for batch in batches:
        for name, value in step(batch).items():
            collected.setdefault(name, []).append(value)
        sizes.append(len(next(_tensors(batch))))
        on_batch(sizes[-1])
    if not sizes:
        raise ValueError("there is no batch to go over")
    weights = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
    return {name: float(weights @ torch.stack(values).double().cpu()) for name, values in collected.items()}


def _tensors(batch) -> Iterable[Tensor]:
    return iter(batch if isinstance(batch, tuple | list) else (batch,))


def _words(row: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in row.items())
