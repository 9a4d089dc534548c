"""Training throughput of the 784-400-20 VAE, side by side with the classic loop, in one run.

Both train the same network with the same optimiser settings on all of MNIST. The *classic* loop is what most
published code does: a ``DataLoader`` with ``ToTensor``, float32, binary cross-entropy on probabilities, and
``loss.item()`` at each step. *vaebook* is ``train.fit``, in both of its precisions. They take turns, epoch by
epoch, so that whatever else the machine does hits all of them; what counts is the ratio.
"""

import argparse
import os
import platform
import time

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from vaebook import data, objectives, train, vae


class ClassicVAE(nn.Module):
    """The network as tutorials write it."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.fc3, self.fc4 = nn.Linear(20, 400), nn.Linear(400, 784)

    def forward(self, x):
        h = functional.relu(self.fc1(x.view(-1, 784)))
        mu, logvar = self.fc21(h), self.fc22(h)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(logvar)
        return torch.sigmoid(self.fc4(functional.relu(self.fc3(z)))), mu, logvar

    def loss(self, x):
        reconstruction, mu, logvar = self(x)
        cross_entropy = functional.binary_cross_entropy(reconstruction, x.view(-1, 784), reduction="sum")
        return cross_entropy - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


class Classic:
    """One epoch at a time of the classic loop."""

    def __init__(self, batch_size: int):
        images = datasets.MNIST(data.fetch("mnist").parents[1], transform=transforms.ToTensor())
        self.loader = DataLoader(images, batch_size, shuffle=True)
        self.model = ClassicVAE()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def epoch(self) -> None:
        total = 0.0
        for x, _ in self.loader:
            self.optimizer.zero_grad()
            loss = self.model.loss(x)
            loss.backward()
            total += loss.item()
            self.optimizer.step()

    @torch.no_grad()
    def test_bound(self, x: torch.Tensor) -> float:
        return self.model.loss(x).item() / len(x)


class Vaebook:
    """One epoch at a time of ``train.fit``."""

    def __init__(self, split: data.Split, batch_size: int, precision: str):
        self.batches = data.Batches(split, batch_size)
        self.model = vae.mlp_vae()
        optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=True)
        self.step = train.gradient_step(
            lambda x: {"loss": -objectives.elbo(self.model, x).mean()}, optimizer, precision=precision
        )

    def epoch(self) -> None:
        train.fit(self.step, self.batches, epochs=1, progress=False)

    @torch.no_grad()
    def test_bound(self, x: torch.Tensor) -> float:
        return -objectives.elbo(self.model, x).mean().item()


def main() -> None:
    """Run the benchmark and print one line a loop."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--epochs", type=int, default=5, help="epochs of each loop (default 5)")
    parser.add_argument("--batch-size", type=int, default=128, help="images a step (default 128)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and orders (default 0)")
    arguments = parser.parse_args()
    if arguments.epochs < 1 or arguments.batch_size < 1:
        parser.error("--epochs and --batch-size must be 1 or more")

    torch.manual_seed(arguments.seed)
    mnist = data.load("mnist")
    loops = {
        "classic": Classic(arguments.batch_size),
        "vaebook, float32": Vaebook(mnist.train, arguments.batch_size, "float32"),
        "vaebook, bfloat16": Vaebook(mnist.train, arguments.batch_size, "bfloat16"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(arguments.epochs):
        for name, loop in loops.items():
            start = time.perf_counter()
            loop.epoch()
            seconds[name].append(time.perf_counter() - start)

    print(f"784-400-20 VAE on MNIST, batch {arguments.batch_size}, the best of {arguments.epochs} epochs")
    print(f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    baseline = min(seconds["classic"])
    for name, loop in loops.items():
        best = min(seconds[name])
        print(
            f"{name:18} {len(mnist.train) / best:8,.0f} images/s  {baseline / best:5.2f} x"
            f"   test: {loop.test_bound(mnist.test.x()):.2f} nats"
        )


if __name__ == "__main__":
    main()
