"""Noise on images, as a model of clean images sees it: what it makes of them, and what it leaves to know.

It acts on each pixel by itself, so that given the code all of this has a closed form.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaebook.distributions import Bernoulli, DiagonalNormal


@runtime_checkable
class Corruption(Protocol):
    """Noise whose law is known; for :func:`vaebook.applications.denoise`."""

    def __call__(self, p_x: Distribution) -> Distribution:
        """p(noisy|z) for ``p_x`` = p(x|z): the noisy image given the code."""

    def clean(self, p_x: Distribution, noisy: Tensor) -> Distribution:
        """p(x|z, noisy) for ``p_x`` = p(x|z): the clean image given the code and the noisy image."""


@dataclass(frozen=True)
class flips(Corruption):
    r"""Noise that turns each pixel of a binary image to its opposite with probability ``rate``.

    With :math:`\pi` the probability of a one in the clean image,

    .. math:: p(\text{noisy} = 1|z) = (1 - r)\,\pi + r\,(1 - \pi), \qquad
        \operatorname{logit} p(x = 1|z, \text{noisy})
            = \operatorname{logit} \pi \pm \operatorname{logit}(1 - r)

    with + where the noisy pixel is one.

    Grey values are taken as :class:`vaebook.distributions.Bernoulli` takes them.

    Args:
        rate: r, greater than 0 and less than 1.
    """

    rate: float

    def __post_init__(self):
        if not 0 < self.rate < 1:
            raise ValueError(f"rate must be greater than 0 and less than 1, got {self.rate!r}")

    def __call__(self, p_x: Bernoulli) -> Bernoulli:
        require_family(p_x, "flips", Bernoulli)
        p_one = p_x.mean + self.rate * (1 - 2 * p_x.mean)
        return Bernoulli(torch.logit(p_one), len(p_x.event_shape))

    def clean(self, p_x: Bernoulli, noisy: Tensor) -> Bernoulli:
        require_family(p_x, "flips", Bernoulli)
        require_unit_interval("noisy images with flips", noisy)
        evidence = (2 * noisy - 1) * math.log((1 - self.rate) / self.rate)
        return Bernoulli(p_x.logits + evidence, len(p_x.event_shape))


@dataclass(frozen=True)
class gaussian_noise(Corruption):
    r"""Noise from :math:`\mathcal N(0, \sigma^2)`, added to every pixel of a binary or a normal image.

    A binary pixel becomes a mixture of two normals, and noise adds to the log odds of a one
    :math:`(\text{noisy} - \frac12) / \sigma^2`; for a normal one, variances add, and so do precisions.

    Args:
        sigma: standard deviation, positive, in the units of the pixels.
    """

    sigma: float

    def __post_init__(self):
        if not (self.sigma > 0 and math.isfinite(self.sigma)):
            raise ValueError(f"sigma must be positive and finite, got {self.sigma!r}")

    def __call__(self, p_x: Bernoulli | DiagonalNormal) -> Distribution:
        require_family(p_x, "gaussian_noise", Bernoulli, DiagonalNormal)
        event_dim = len(p_x.event_shape)
        if isinstance(p_x, DiagonalNormal):
            return DiagonalNormal(p_x.mu, torch.log(p_x.variance + self.sigma**2), event_dim)
        return NoisyBinary(p_x, self)

    def clean(self, p_x: Bernoulli | DiagonalNormal, noisy: Tensor) -> Bernoulli | DiagonalNormal:
        require_family(p_x, "gaussian_noise", Bernoulli, DiagonalNormal)
        event_dim = len(p_x.event_shape)
        if isinstance(p_x, DiagonalNormal):
            precision = 1 / p_x.variance + 1 / self.sigma**2
            mu = (p_x.mu / p_x.variance + noisy / self.sigma**2) / precision
            return DiagonalNormal(mu, -torch.log(precision), event_dim)
        return Bernoulli(p_x.logits + (noisy - 0.5) / self.sigma**2, event_dim)


class NoisyBinary(Distribution):
    """Binary pixels with Gaussian noise: each has a mixture of two normals, around 0 and around 1.

    Args:
        p_x: distribution of the binary image.
        noise: what is added to it.
    """

    arg_constraints = {}  # noqa: RUF012  (torch's own protocol: a class attribute)

    def __init__(self, p_x: Bernoulli, noise: gaussian_noise):
        super().__init__(p_x.batch_shape, p_x.event_shape, validate_args=False)
        self.p_x = p_x
        self.noise = noise

    @property
    def mean(self) -> Tensor:
        return self.p_x.mean

    def log_prob(self, value: Tensor) -> Tensor:
        r"""Log density in nats, shape ``(sample, batch)``; Bayes' rule, which holds at any x, at x = 0.

        .. math:: p(\text{noisy}|z) = \frac{p(\text{noisy}|x)\, p(x|z)}{p(x|z, \text{noisy})}
        """
        x = torch.zeros_like(value)
        of_noise = DiagonalNormal(x, x + 2 * math.log(self.noise.sigma), len(self.event_shape))
        return of_noise.log_prob(value) + self.p_x.log_prob(x) - self.noise.clean(self.p_x, value).log_prob(x)


def require_unit_interval(what: str, x: Tensor) -> None:
    """Refuse pixels that are no probabilities."""
    if not ((x >= 0) & (x <= 1)).all():
        raise ValueError(
            f"the values of {what} must be from 0 to 1, as split.x() gives them, "
            f"got {x.min():g} to {x.max():g}"
        )


def require_family(p_x: Distribution, what: str, *families: type[Distribution]) -> None:
    """Refuse pixels with a distribution that ``what`` has no formula for."""
    if not isinstance(p_x, families):
        known = " or ".join(family.__name__ for family in families)
        raise TypeError(f"{what} needs pixels with the distribution {known}, got {type(p_x).__name__}")
