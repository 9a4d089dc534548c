"""Trained models put to use: they write, fill in what is missing, remove noise, and say what is odd.

Kinds of noise are in :mod:`vaebook.corruption`; what belongs together is found by :mod:`vaebook.clustering`.
"""

import math
import operator
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vaebook.arguments import require_known, require_positive
from vaebook.corruption import Corruption, require_unit_interval
from vaebook.distributions import Bernoulli, sigma_from
from vaebook.objectives import log_mean_exp, log_weight
from vaebook.vae import CVAE, known_pixels

PIXELS_AT_ONCE = 2**22
"""How many are decoded at a time: 16 MiB in float32, and as much again for each step of their density."""


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


class Imputation(NamedTuple):
    """Images filled in by a Markov chain, by :func:`impute`."""

    images: Tensor
    """The chain, its first state first, ``(steps + 1, batch, channel, height, width)``; known pixels as they
    are."""

    mean: Tensor
    """Estimate of the mean of the missing pixels given the known ones, ``(batch, channel, height, width)``:
    the mean images of the chain's second half, averaged; known pixels as they are."""

    accepted: Tensor
    """Share of the proposed codes that were accepted after the warm-up, ``(batch,)``; ones without
    correction."""


@torch.no_grad()
def impute(
    model,
    x: Tensor,
    missing: Tensor,
    steps: int = 100,
    *,
    corrected: bool = False,
    generator: torch.Generator | None = None,
) -> Imputation:
    r"""Fill in missing pixels by a model that was never told about them, with a Markov chain.

    Each step draws a code for the image as it now is, then the missing pixels given the code:

    .. math:: z \sim q(z|x), \qquad x_{\text{missing}} \sim p(x_{\text{missing}}|z)

    With the exact posterior for q this is Gibbs sampling of
    :math:`p(z, x_{\text{missing}}|x_{\text{known}})`; with an approximate one, the chain settles near it. The
    correction makes the code a proposal z', accepted in place of the code z before it with the probability

    .. math:: \min\left(1, \frac{w(z')}{w(z)}\right), \qquad w(z) = \frac{p(x|z)\, p(z)}{q(z|x)}

    and the chain then settles at that distribution whatever q is, if not always soon. It starts at a draw of
    the model that knows nothing of the image. A narrow q hardly ever proposes the code of such a draw, which
    gives it so large a weight that it would stay; therefore the first fifth of the steps accepts every code.
    Where all pixels of an image are missing, what it settles at is p(x). A chain may stay with one answer for
    long: several, by ``x.repeat(10, 1, 1, 1)``, find more of them and a better mean.

    Args:
        model: has ``encode``, ``decode`` and ``prior``.
        x: images, shape ``(batch, channel, height, width)``, floats in the support of ``model.decode``;
            anything, even NaN, where pixels are missing.
        missing: boolean, broadcasts with ``x``; True where a pixel is to be filled in.
        steps: how often both are drawn, at least 1. The whole chain is kept: ``steps + 1`` times the memory
            of ``x``.
        corrected: whether codes are accepted or rejected, after a fifth of the steps, at most all but one;
            takes two decodings a step instead of one.
        generator: source of the noise; ``None`` uses torch's global one.

    Raises:
        TypeError: the mask is not boolean, or the images are not floats.
        ValueError: the mask or the images do not fit, nothing is missing, a known pixel is not a number that
            the model can give, or ``steps`` is not positive.

    Rezende, Mohamed & Wierstra (2014), on missing data; the correction: Mattei & Frellsen (2018).
    """
    require_positive(steps=steps)
    x, missing = known_pixels(x, missing)
    _require_images(model, x)
    images = x.new_empty((steps + 1, *x.shape))
    mean = torch.zeros_like(x)
    accepted = x.new_zeros(len(x))
    warm_up = min(math.ceil(steps / 5), steps - 1)
    of_prior = () if model.prior.batch_shape else (len(x),)
    z = model.prior.sample(of_prior, generator=generator)
    p_x = model.decode(z)
    images[0] = p_x.sample(generator=generator).where(missing, x)
    for step in range(1, steps + 1):
        x = images[step - 1]
        q_z = model.encode(x)
        proposed = q_z.sample(generator=generator)
        accept = torch.ones_like(accepted, dtype=torch.bool)
        if corrected and step > warm_up:
            log_ratio = log_weight(x, proposed, model.decode(proposed), model.prior, q_z)
            log_ratio -= log_weight(x, z, p_x, model.prior, q_z)
            u = torch.rand(accept.shape, generator=generator, dtype=x.dtype, device=x.device)
            accept = u.log() < log_ratio
        if step > warm_up:
            accepted += accept
        z = proposed.where(accept.unsqueeze(-1), z)
        p_x = model.decode(z)
        images[step] = p_x.sample(generator=generator).where(missing, x)
        if step > steps // 2:
            mean += p_x.mean
    mean /= steps - steps // 2
    return Imputation(images, mean.where(missing, x), accepted / (steps - warm_up))


@torch.no_grad()
def denoise(
    model,
    noisy: Tensor,
    corruption: Corruption | None = None,
    *,
    samples: int = 100,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Remove noise from images, by a model of clean ones.

    Without knowledge of the noise, this is the plain reconstruction: the mean image of the mean code of the
    noisy image. With it, the posterior mean of the clean image, by importance sampling:

    .. math:: E[x|\text{noisy}] \approx \sum_i \bar w_i\, E[x|z_i, \text{noisy}], \qquad
        w_i = \frac{p(\text{noisy}|z_i)\, p(z_i)}{q(z_i|\text{noisy})}, \quad z_i \sim q(z|\text{noisy})

    with weights that sum to 1. The encoder has not seen noise: where there is much of it, few of its codes
    have a weight that counts, and more samples help.

    Args:
        model: has ``encode``, ``decode`` and ``prior``.
        noisy: images, shape ``(batch, channel, height, width)``, floats.
        corruption: the noise, such as ``flips(0.1)`` or ``gaussian_noise(0.3)``; ``None`` where it is not
            known.
        samples: codes drawn for each image, at least 1; one mean code for each without ``corruption``.
        generator: source of the noise; ``None`` uses torch's global one.

    Returns:
        Images of the shape of ``noisy``.

    Raises:
        TypeError: the images are not floats, or ``corruption`` is not one for the pixels of this model.
        ValueError: the images do not fit or hold what is not a number, or ``samples`` is not positive.
    """
    require_positive(samples=samples)
    _require_images(model, noisy, clean=False)
    if corruption is None:
        parts = _parts(model, noisy, samples=1)
        return torch.cat([model.decode(model.encode(part).mean).mean for part in parts])
    if not isinstance(corruption, Corruption):
        raise TypeError(
            f"corruption must be a Corruption such as flips(0.1) or gaussian_noise(0.3), got {corruption!r}"
        )
    restored = []
    for part in _parts(model, noisy, samples):
        q_z = model.encode(part)
        z = q_z.sample((samples,), generator=generator)  # (samples, batch, latent_dim)
        p_x = model.decode(z)
        weight = log_weight(part, z, corruption(p_x), model.prior, q_z).softmax(dim=0)
        restored.append(torch.einsum("sb,sb...->b...", weight, corruption.clean(p_x, part).mean))
    return torch.cat(restored)


class AnomalyScores(NamedTuple):
    """How odd images are, in nats, each of shape ``(batch,)``: larger is odder."""

    reconstruction: Tensor
    """Expected error of the reconstruction, -E_q[log p(x|z)]: does not ask how usual the code is."""

    elbo: Tensor
    """The negative evidence lower bound; at least -log p(x)."""

    importance: Tensor
    """The negative importance-weighted bound; between the two, and nearer to -log p(x) with more samples."""


@torch.no_grad()
def anomaly_scores(
    model, x: Tensor, *, samples: int = 50, generator: torch.Generator | None = None
) -> AnomalyScores:
    """How odd images are to a model: all scores, from the same codes.

    Args:
        model: has ``encode``, ``decode`` and ``prior``.
        x: images, shape ``(batch, channel, height, width)``, floats in the support of ``model.decode``. Grey
            values under a Bernoulli are accepted; such scores can be compared with one another only.
        samples: codes drawn for each image, at least 1.
        generator: source of the noise; ``None`` uses torch's global one.

    Raises:
        TypeError: the images are not floats.
        ValueError: the images do not fit or are not what the model can give, or ``samples`` is not positive.

    An & Cho (2015); Burda et al. (2016), eq. 8; chapter *What is odd, and what belongs together*, eq.
    (anomalies-scores).
    """
    require_positive(samples=samples)
    _require_images(model, x)
    bounds = []
    for part in _parts(model, x, samples):
        q_z = model.encode(part)
        z = q_z.sample((samples,), generator=generator)  # (samples, batch, latent_dim)
        p_x = model.decode(z)
        log_w = log_weight(part, z, p_x, model.prior, q_z)
        bounds.append(torch.stack([p_x.log_prob(part).mean(0), log_w.mean(0), log_mean_exp(log_w)]))
    return AnomalyScores(*-torch.cat(bounds, dim=1))


def anomaly_score(
    model, x: Tensor, kind: str = "elbo", *, samples: int = 50, generator: torch.Generator | None = None
) -> Tensor:
    """How odd images are to a model, in nats, ``(batch,)``: larger is odder.

    Args:
        model, x, samples, generator: as in :func:`anomaly_scores`.
        kind: "reconstruction", "elbo" or "importance", a field of :class:`AnomalyScores`. The first alone is
            unreliable: show another beside it.

    Raises:
        TypeError, ValueError: as :func:`anomaly_scores` does, or there is no such ``kind``.
    """
    require_known("kind", kind, AnomalyScores._fields)
    return getattr(anomaly_scores(model, x, samples=samples, generator=generator), kind)


@torch.no_grad()
def anomaly_map(model, x: Tensor, *, samples: int = 50, generator: torch.Generator | None = None) -> Tensor:
    r"""Where images are odd: how much each pixel surprises.

    .. math:: a_i = -E_{q(z|x)}[\log p(x_i|z)]

    The sum over the pixels is the score "reconstruction" of :func:`anomaly_scores`, from the same codes.

    Args:
        model: as in :func:`anomaly_scores`, with pixels that are independent given the code.
        x, samples, generator: as in :func:`anomaly_scores`.

    Returns:
        Nats, of the shape of ``x``: the larger, the odder.

    Raises:
        TypeError, ValueError: as :func:`anomaly_scores` does, or the pixels are not independent.

    Chapter *What is odd, and what belongs together*, eq. (anomalies-pixels).
    """
    require_positive(samples=samples)
    _require_images(model, x)
    maps = []
    for part in _parts(model, x, samples):
        p_x = model.decode(model.encode(part).sample((samples,), generator=generator))
        if not hasattr(p_x, "coordinate_log_prob"):
            raise TypeError(f"anomaly_map needs pixels that are independent, got {type(p_x).__name__}")
        maps.append(-p_x.coordinate_log_prob(part).mean(0))
    return torch.cat(maps)


def _parts(model, x: Tensor, samples: int) -> Sequence[Tensor]:
    """Images, split so that all decodings of a part fit into memory; in one where each has its condition."""
    if model.prior.batch_shape:
        return [x]
    return x.split(max(1, PIXELS_AT_ONCE // (samples * math.prod(x.shape[1:]))))


def _require_images(model, x: Tensor, *, clean: bool = True) -> None:
    """Refuse what are no images of this model; ``clean`` ones have values that the model can give."""
    if not x.is_floating_point():
        raise TypeError(f"images must be floats, as split.x() gives them, got {x.dtype}")
    p_x = model.decode(model.prior.mean)
    if x.shape[1:] != p_x.event_shape or (p_x.batch_shape and x.shape[:1] != p_x.batch_shape):
        batch = p_x.batch_shape[0] if p_x.batch_shape else "batch"
        expected = ", ".join(map(str, (batch, *p_x.event_shape)))
        raise ValueError(f"images must have the shape ({expected}), got {tuple(x.shape)}")
    if not x.isfinite().all():
        raise ValueError("the images hold values that are not finite numbers")
    if clean and isinstance(p_x, Bernoulli):
        require_unit_interval("images", x)
