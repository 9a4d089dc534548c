"""A small training run in which everything has a state; it kills itself at a moment of the caller's choice.

``python resumable_run.py CHECKPOINT RESULT PATIENCE MOMENT``, with a moment such as ``batch 14``: at the
start of the 14th batch of this process it sends itself SIGKILL, as ``kill -9`` would. The loss to stop by is
best after the first epoch: with a patience of 3 a run ends after four epochs, with 5 after all five.
"""

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable

import torch
from torch import nn

from vaebook import train
from vaebook.checkpoints import Checkpoint

EPOCHS = 5


class Batches:
    """96 vectors in batches of 16, in an order that a generator draws."""

    generator = torch.Generator().manual_seed(1)
    x = torch.randn(96, 6, generator=torch.Generator().manual_seed(2))

    def __iter__(self):
        yield from self.x[torch.randperm(96, generator=self.generator)].split(16)


def deadly(moment: str, name: str, function: Callable, calls: Counter) -> Callable:
    def call(*arguments, **keywords):
        calls[name] += 1
        if moment == f"{name} {calls[name]}":
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)

    return call


def main(checkpoint: str, result: str, patience: str, moment: str) -> None:
    calls = Counter()
    os.fsync = deadly(moment, "fsync", os.fsync, calls)  # the new checkpoint is half on the disk
    os.replace = deadly(moment, "replace", os.replace, calls)  # it is whole, and not yet in its place
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 6))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
    stop = train.EarlyStopping(model, "rising", patience=int(patience))
    batches = Batches()

    def losses(x):
        noisy = x + 0.1 * torch.randn(x.shape, generator=batches.generator)
        loss = (model(noisy) - x).square().mean()
        return {"loss": loss, "rising": -loss}

    history = train.fit(
        deadly(moment, "batch", train.gradient_step(losses, optimizer, precision="float32"), calls),
        batches,
        EPOCHS,
        schedule=schedule,
        stop=stop,
        checkpoint=Checkpoint(
            checkpoint,
            {"epochs": EPOCHS},
            model=model,
            optimizer=optimizer,
            schedule=schedule,
            stop=stop,
            generator=batches.generator,
        ),
    )
    torch.save({"weights": model.state_dict(), "history": history.to_dict()}, result)


if __name__ == "__main__":
    main(*sys.argv[1:])
