"""What generated images are judged by: measures that know real images, and no model of them.

Each has a blind spot: a classifier does not see what all its classes have in common, a distance to the
nearest image praises copies, a Fréchet distance looks at two moments only. Read them together.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import ExponentialLR

from vaebook.data import Batches, Split
from vaebook.train import fit, gradient_step


def digit_classifier(
    split: Split,
    *,
    epochs: int = 3,
    precision: str = "auto",
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Train a small convolutional network to name the class of an image; on MNIST, right in 99 per cent.

    Its weights start from torch's global generator.

    Args:
        split: labelled images of one channel, whose sides are multiples of 4.
        epochs: passes over them; the learning rate falls to a third after each.
        precision: as in :func:`vaebook.train.gradient_step`.
        generator: source of the order of the images; ``None`` uses torch's global one.

    Returns:
        The network in evaluation mode, from images ``(n, 1, height, width)`` to logits ``(n, classes)``.
    """
    _, height, width = split.images.shape[1:]
    classes = int(split.labels.max()) + 1
    network = nn.Sequential(
        *_convolution(1, 16),
        *_convolution(16, 32),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, classes),
    ).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, fused=True)

    def losses(batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        x, y = batch
        return {"loss": functional.cross_entropy(network(x), y)}

    fit(
        gradient_step(losses, optimizer, precision=precision),
        Batches(split, 128, generator=generator, labels=True),
        epochs,
        schedule=ExponentialLR(optimizer, 0.3),
    )
    return network.eval().requires_grad_(False)


def sharpness(images: Tensor) -> Tensor:
    """Mean square of the step from a pixel to its neighbours, across and down.

    Args:
        images: shape ``(n, channel, height, width)``.

    Returns:
        Squared units of the pixels, shape ``(n,)``.
    """
    across, down = images.diff(dim=-1), images.diff(dim=-2)
    return across.square().flatten(1).mean(1) + down.square().flatten(1).mean(1)


def nearest_distance(images: Tensor, data: Tensor) -> Tensor:
    """Euclidean distance from each image to the nearest of the data.

    Args:
        images: shape ``(n, *event)``.
        data: shape ``(m, *event)``.

    Returns:
        In units of the pixels, shape ``(n,)``.
    """
    return torch.cdist(images.flatten(1), data.flatten(1)).min(1).values


def frechet_distance(features: Tensor, others: Tensor) -> float:
    r"""Squared Fréchet distance of two sets of vectors, each taken for normally distributed.

    .. math:: \|\mu - \mu'\|^2 + \mathrm{tr}\left(\Sigma + \Sigma' - 2 (\Sigma \Sigma')^{1/2}\right)

    It depends on the number of vectors: compare sets of one size only.

    Args:
        features: shape ``(n, k)``.
        others: shape ``(m, k)``.

    Dowson & Landau (1982); chapter *The balance of the two terms*, eq. (balance-frechet).
    """
    features, others = features.double(), others.double()
    covariance, other_covariance = torch.cov(features.T), torch.cov(others.T)
    root = torch.linalg.eigvals(covariance @ other_covariance).real.clamp(min=0).sqrt().sum()
    shift = (features.mean(0) - others.mean(0)).square().sum()
    return (shift + covariance.trace() + other_covariance.trace() - 2 * root).item()


def _convolution(channels_in: int, channels_out: int) -> list[nn.Module]:
    """A convolution that halves height and width."""
    return [
        nn.Conv2d(channels_in, channels_out, 5, padding=2),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    ]
