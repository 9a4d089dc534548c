r"""Lower bounds on the log evidence, for any model with ``encode``, ``decode`` and ``prior``.

A bound has its true sign and is in nats, one value for each data point: larger is better, and a
loss is the negative mean. All of them read the same three distributions: the approximate posterior
q(z|x), the likelihood p(x|z) and the prior p(z).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaebook.arguments import require_positive
from vaebook.distributions import kl_divergence


class ElboTerms(NamedTuple):
    """The two terms of the bound, each of shape ``(batch,)``, in nats."""

    log_p_x_given_z: Tensor
    kl: Tensor


def elbo_terms(model, x: Tensor, *, generator: torch.Generator | None = None) -> ElboTerms:
    r"""One-sample estimate of the expected log-likelihood, and the KL divergence in closed form.

    Args:
        model: has ``encode``, ``decode`` and ``prior``.
        x: data, shape ``(batch, *event)``.
        generator: source of the noise; ``None`` uses torch's global one.
    """
    q_z = model.encode(x)
    z = q_z.rsample(generator=generator)
    return ElboTerms(model.decode(z).log_prob(x), kl_divergence(q_z, model.prior))


def elbo(model, x: Tensor, *, beta: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    r"""Evidence lower bound, with the KL term in closed form.

    .. math:: \mathcal{L}(x) = E_{q(z|x)}[\log p(x|z)] - \beta\, D[q(z|x) \,\|\, p(z)] \le \log p(x)

    Args:
        model: has ``encode``, ``decode`` and ``prior``.
        x: data, shape ``(batch, *event)``, values in the support of ``model.decode``.
        beta: weight of the KL term; a bound on the evidence for 1 or more, the evidence lower bound
            for 1.
        generator: source of the noise; ``None`` uses torch's global one.

    Returns:
        Nats, shape ``(batch,)``, each a one-sample estimate. Larger is better; a loss is its
        negative mean.

    Kingma & Welling (2014), eq. 7; chapter *The evidence lower bound*, eq. (elbo-kl-form).
    """
    log_p_x_given_z, kl = elbo_terms(model, x, generator=generator)
    return log_p_x_given_z - beta * kl


def log_weights(model, x: Tensor, samples: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
    r"""Log importance weights of codes drawn from the approximate posterior.

    .. math:: \log w_i = \log p(x|z_i) + \log p(z_i) - \log q(z_i|x), \qquad z_i \sim q(z|x)

    Their mean is the Monte-Carlo form of the evidence lower bound; the mean of the weights
    themselves is an unbiased estimate of p(x). With the exact posterior as q every weight equals
    p(x).

    Args:
        model: has ``encode``, ``decode`` and ``prior``.
        x: data, shape ``(batch, *event)``.
        samples: codes drawn for each data point, at least 1.
        generator: source of the noise; ``None`` uses torch's global one.

    Returns:
        Nats, shape ``(samples, batch)``.

    Burda et al. (2016), section 3; chapter *The evidence lower bound*, eq. (elbo-log-weights).
    """
    require_positive(samples=samples)
    q_z = model.encode(x)
    z = q_z.rsample((samples,), generator=generator)  # (samples, batch, latent_dim)
    return log_weight(x, z, model.decode(z), model.prior, q_z)


def log_weight(x: Tensor, z: Tensor, p_x: Distribution, p_z: Distribution, q_z: Distribution) -> Tensor:
    r"""Log importance weight of codes that are there already, as those of :func:`log_weights`.

    Args:
        x: data, shape ``(batch, *event)``.
        z: codes, shape ``(samples, batch, latent_dim)`` or ``(batch, latent_dim)``.
        p_x: p(x|z) at these codes.
        p_z: the prior p(z).
        q_z: what the codes are weighted against, q(z|x).

    Returns:
        Nats, of the shape of ``z`` without its last dimension.
    """
    return p_x.log_prob(x) + p_z.log_prob(z) - q_z.log_prob(z)


def iwae(model, x: Tensor, samples: int = 50, *, generator: torch.Generator | None = None) -> Tensor:
    r"""Importance-weighted lower bound: the ELBO with one sample, tighter with more.

    .. math:: \mathcal{L}_k(x) = E\left[\log \frac1k \sum_{i=1}^k w_i\right]

    Args:
        model, x, samples, generator: as in :func:`log_weights`.

    Returns:
        Nats, shape ``(batch,)``, each a one-sample estimate of the bound.

    Burda et al. (2016), eq. 8; chapter *The evidence lower bound*, eq. (elbo-importance-weighted).
    """
    return log_mean_exp(log_weights(model, x, samples, generator=generator))


def log_mean_exp(log_w: Tensor) -> Tensor:
    """Log of the mean weight over the first dimension, ``(samples, batch) -> (batch,)``."""
    return torch.logsumexp(log_w, dim=0) - math.log(len(log_w))


def bits_per_dim(log_p_x: Tensor, image_shape: Sequence[int], *, cell: float = 1.0) -> Tensor:
    r"""Bits for each number of an image, as compression counts them: smaller is better.

    .. math:: -\frac{\log p(x) + D \log\Delta}{D \log 2}

    Args:
        log_p_x: log probabilities of images, or bounds on them, in nats, any shape.
        image_shape: ``(channel, height, width)``; their product is the number D of dimensions.
        cell: width of the interval that one level of a pixel stands for; 1 where ``log_p_x`` is the
            logarithm of a probability. A density p over pixels that were spread evenly over intervals of
            this width bounds a probability, :math:`P(x) \ge p\,\Delta^D` on average of logarithms.

    Returns:
        Bits per dimension, shape of ``log_p_x``.

    Chapter *Beyond MNIST*, eq. (beyond-bits).
    """
    if not cell > 0:
        raise ValueError(f"cell must be positive, got {cell}")
    return -(log_p_x / math.prod(image_shape) + math.log(cell)) / math.log(2)
