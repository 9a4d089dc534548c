"""Trained models put to use."""

import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from vaebook.distributions import sigma_from
from vaebook.vae import CVAE


@torch.no_grad()
def write_in_style(
    cvae: CVAE,
    image: Tensor,
    label: int,
    digits: str | Sequence[int],
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Write a line of digits in the style of one that is given.

    The style is where the code of the given digit lies in the prior of its label. Each digit of the line is
    decoded from the code at this place in its own label's prior; where p(z|y) is one normal distribution for
    all labels, from the same code.

    Args:
        cvae: a model of images given their labels, such as :func:`vaebook.vae.mlp_cvae`, trained.
        image: the digit whose style is taken, shape ``(channel, height, width)``, values from 0 to 1.
        label: which digit it is.
        digits: what to write: a string such as "2026", or labels.
        generator: where given, every digit has a code of its own, drawn from q(z|x, y), so that digits vary
            as they do by hand; otherwise all have its mean.

    Returns:
        The mean image of each digit, shape ``(len(digits), channel, height, width)``.

    Raises:
        TypeError: the label or a digit is not an integer.
        ValueError: there is nothing to write, a character is not a digit, the model has no such label, or the
            image does not have the shape of the model's images or values from 0 to 1.

    Chapter *Generation on demand*, eq. (cvae-analogy).
    """
    labels = torch.tensor(_labels(digits))
    given_label = torch.tensor([operator.index(label)])
    style, written = cvae.given(given_label), cvae.given(labels)
    expected = style.decode(style.prior.mean).event_shape
    if image.shape != expected:
        raise ValueError(f"the image must have the shape {tuple(expected)}, got {tuple(image.shape)}")
    if not ((image >= 0) & (image <= 1)).all():
        raise ValueError("the values of the image must be from 0 to 1, as split.x() gives them")
    q_z = style.encode(image.unsqueeze(0))
    z = q_z.mean if generator is None else q_z.sample((len(labels),), generator=generator).squeeze(1)
    place = (z - style.prior.mean) / sigma_from(style.prior.logvar)
    return written.decode(written.prior.mean + sigma_from(written.prior.logvar) * place).mean


def _labels(digits: str | Sequence[int]) -> list[int]:
    """What to write, as labels."""
    if isinstance(digits, str) and not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"digits must be one or more of 0 to 9, such as '2026', got {digits!r}")
    labels = [int(digit) if isinstance(digits, str) else operator.index(digit) for digit in digits]
    if not labels:
        raise ValueError("digits must be one or more, got none")
    return labels
