"""Networks, without probability: vectors to vectors, images to vectors, vectors to images.

A network works on the last dimensions only, so that a stack of draws ``(sample, batch, k)`` passes
as a batch does.
"""

import itertools
import math
from collections.abc import Sequence

from torch import nn


def mlp(*widths: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Fully connected network, with ``activation`` between its linear layers only.

    Args:
        widths: sizes from the input to the output, at least two, such as ``mlp(784, 400, 40)``.
        activation: module type put between the layers.
    """
    if len(widths) < 2 or any(width < 1 for width in widths):
        raise ValueError(f"mlp needs two or more positive widths, from input to output; got {widths}")
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])


def mlp_encoder(image_shape: Sequence[int], hidden: Sequence[int], outputs: int, **options) -> nn.Sequential:
    """An :func:`mlp` from images ``(..., channel, height, width)`` to vectors ``(..., outputs)``."""
    flatten = nn.Flatten(start_dim=-len(image_shape))
    return nn.Sequential(flatten, mlp(math.prod(image_shape), *hidden, outputs, **options))


def mlp_decoder(
    latent_dim: int, hidden: Sequence[int], image_shape: Sequence[int], **options
) -> nn.Sequential:
    """An :func:`mlp` from codes ``(..., latent_dim)`` to images ``(..., channel, height, width)``."""
    unflatten = nn.Unflatten(-1, tuple(image_shape))
    return nn.Sequential(mlp(latent_dim, *hidden, math.prod(image_shape), **options), unflatten)
