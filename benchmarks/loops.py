"""The loops that PyTorch runs. Each has ``epoch()``, and ``test_loss()`` in nats an image.

The *classic* loop is what most published code does: a ``DataLoader`` with ``ToTensor``, float32, binary
cross-entropy on probabilities, and ``loss.item()`` at each step. *vaebook* is ``train.fit``. *Products* are
the matrix products and convolutions of one training step and nothing else: no loop that calls them can be
faster.
"""

from collections.abc import Collection
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Subset

from vaebook import autoencoders, data, machine, nets, objectives, train, vae

PIXELS = 784
aten = torch.ops.aten


def make(contestant, seed: int, folder: Path):
    """The loop of a contestant, seeded; ``folder`` holds the files of MNIST."""
    torch.manual_seed(seed)
    kind, *options = contestant.loop.split()
    if kind == "classic":
        return Classic(contestant, folder)
    if kind == "products":
        return Products(contestant, options[0])
    return Vaebook(contestant, options[0], compile="compiled" in options)


def mean_over_test_set(loss) -> float:
    """The mean of ``loss(x)``, which is the sum over a batch, over all test images."""
    x = data.load("mnist").test.x()
    with torch.no_grad():
        return sum(loss(batch).item() for batch in x.split(500)) / len(x)


class ClassicVAE(nn.Module):
    """A variational autoencoder as tutorials write it."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, features: int, latent_dim: int):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.mu, self.logvar = nn.Linear(features, latent_dim), nn.Linear(features, latent_dim)

    def forward(self, x):
        h = self.encoder(x)
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(logvar)
        return torch.sigmoid(self.decoder(z)), mu, logvar

    def loss(self, x):
        reconstruction, mu, logvar = self(x)
        cross_entropy = functional.binary_cross_entropy(reconstruction, x, reduction="sum")
        return cross_entropy - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


class ClassicAutoencoder(nn.Module):
    """An autoencoder as tutorials write it."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def loss(self, x):
        reconstruction = torch.sigmoid(self.decoder(self.encoder(x)))
        return functional.binary_cross_entropy(reconstruction, x, reduction="sum")


def classic_model(contestant) -> nn.Module:
    """The network of a contestant in PyTorch's modules, initialised as ours is."""
    hidden, latent_dim = contestant.hidden, contestant.latent_dim
    if contestant.model == "conv_vae":
        encoder = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()),
            nn.Flatten(),
        )
        decoder = nn.Sequential(
            *(nn.Linear(latent_dim, 64 * 14 * 14), nn.Unflatten(1, (64, 14, 14)), nn.ReLU()),
            *(nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1), nn.ReLU()),
            nn.Conv2d(32, 1, 3, padding=1),
        )
        return nets.initialise(ClassicVAE(encoder, decoder, 64 * 14 * 14, latent_dim), "glorot")
    decoder = nn.Sequential(nets.mlp(latent_dim, *reversed(hidden), PIXELS), nn.Unflatten(1, (1, 28, 28)))
    if contestant.model == "autoencoder":
        encoder = nn.Sequential(nn.Flatten(), nets.mlp(PIXELS, *hidden, latent_dim))
        return ClassicAutoencoder(encoder, decoder)
    encoder = nn.Sequential(nn.Flatten(), nets.mlp(PIXELS, *hidden), nn.ReLU())
    return ClassicVAE(encoder, decoder, hidden[-1], latent_dim)


class Classic:
    """The classic loop."""

    def __init__(self, contestant, folder: Path):
        from torchvision import datasets, transforms

        images = datasets.MNIST(folder.parents[1], transform=transforms.ToTensor())
        self.loader = DataLoader(
            Subset(images, range(contestant.images)), contestant.batch_size, shuffle=True
        )
        self.model = classic_model(contestant)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)

    def epoch(self) -> None:
        total = 0.0
        for x, _ in self.loader:
            self.optimizer.zero_grad()
            loss = self.model.loss(x)
            loss.backward()
            total += loss.item()
            self.optimizer.step()

    def test_loss(self) -> float:
        return mean_over_test_set(self.model.loss)


class Vaebook:
    """``train.fit``."""

    def __init__(self, contestant, precision: str, *, compile: bool):
        mnist, count = data.load("mnist").train, contestant.images
        split = data.Split(mnist.images[:count], mnist.labels[:count], mnist.maximum)
        self.batches = data.Batches(split, contestant.batch_size)
        self.step, self.losses = self.step_and_losses(contestant, precision, compile=compile)

    @classmethod
    def step_and_losses(cls, contestant, precision: str, *, compile: bool = False):
        """The training step, and the function from images to the loss of each."""
        model, losses = cls.model_and_losses(contestant)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        step = train.gradient_step(
            lambda x: {"loss": losses(x).mean()}, optimizer, precision=precision, compile=compile
        )
        return step, losses

    @staticmethod
    def model_and_losses(contestant):
        """The model, and the function from images to the loss of each."""
        if contestant.model == "autoencoder":
            widths = (PIXELS, *contestant.hidden, contestant.latent_dim)
            autoencoder = autoencoders.mlp_autoencoder(widths)
            return autoencoder, lambda x: autoencoders.cross_entropy(autoencoder, x)
        if contestant.model == "conv_vae":
            model = vae.conv_vae(contestant.latent_dim, hidden=contestant.hidden)
        else:
            model = vae.mlp_vae(contestant.latent_dim, contestant.hidden)
        return model, lambda x: -objectives.elbo(model, x)

    def epoch(self) -> None:
        train.fit(self.step, self.batches, epochs=1, progress=False)

    def test_loss(self) -> float:
        return mean_over_test_set(lambda x: self.losses(x).sum())


class Products:
    """The matrix products and convolutions of one training step, again and again, and nothing else."""

    def __init__(self, contestant, precision: str):
        step, _ = Vaebook.step_and_losses(contestant, precision)
        with Recorder({aten.mm, aten.addmm, aten.convolution, aten.convolution_backward}) as recorder:
            step(torch.rand(contestant.batch_size, 1, 28, 28))
        self.calls, self.steps = recorder.calls, -(-contestant.images // contestant.batch_size)
        machine.keep_freed_memory()  # as fit does

    def epoch(self) -> None:
        for _ in range(self.steps):
            for call in self.calls:
                call()

    def test_loss(self) -> None:
        """Nothing is learned."""


class Recorder(TorchDispatchMode):
    """Keeps the calls of some operations, with what they were given, so that they can be made again."""

    def __init__(self, operations: Collection):
        super().__init__()
        self.operations, self.calls = operations, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        call = partial(function, *args, **(kwargs or {}))
        if function.overloadpacket in self.operations:
            self.calls.append(call)
        return call()
