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


def initialise(network: nn.Module, scheme: str | float) -> nn.Module:
    """Draw the weights of all linear layers again, from torch's global generator, and zero their biases.

    Args:
        network: changed in place.
        scheme: "he", normal with variance 2 / inputs, which keeps the size of a signal through
            rectified linear units; or the standard deviation of a normal, the same for all layers.

    Returns:
        ``network``.

    He et al. (2015); chapter *The sources, line by line*, eq. (sources-signal).
    """
    if scheme != "he" and not (isinstance(scheme, int | float) and scheme >= 0):
        raise ValueError(f"scheme must be 'he' or a standard deviation of 0 or more, got {scheme!r}")
    for module in network.modules():
        if isinstance(module, nn.Linear):
            std = math.sqrt(2 / module.in_features) if scheme == "he" else scheme
            nn.init.normal_(module.weight, 0, std)
            nn.init.zeros_(module.bias)
    return network
