r"""Distributions that draw with an explicit generator, and KL divergences in closed form.

Shapes follow ``torch.distributions``: a draw has shape ``(sample, batch, *event)``, a log density
``(sample, batch)``. Densities and divergences are in nats. Spread is stored as ``logvar``
:math:`= \log\sigma^2` only.
"""

import copy
import math
from typing import Self

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence, register_kl

__all__ = [
    "Bernoulli",
    "DiagonalNormal",
    "DiscretisedLogistic",
    "FullNormal",
    "kl_diagonal_normal",
    "kl_discrete",
    "kl_divergence",
    "kl_full_normal",
    "kl_normal",
    "kl_standard_normal",
    "sigma_from",
    "standard_normal",
]

LOG_TWO_PI = math.log(2 * math.pi)


def sigma_from(logvar: Tensor) -> Tensor:
    r"""Standard deviation :math:`\sigma = e^{\frac12 \log\sigma^2}`; no other code takes this step."""
    return torch.exp(0.5 * logvar)


def standard_normal(*event_shape: int, dtype: torch.dtype = torch.float32) -> "DiagonalNormal":
    """The prior N(0, I) over events of shape ``event_shape``."""
    zeros = torch.zeros(event_shape, dtype=dtype)
    return DiagonalNormal(zeros, zeros, event_dim=len(event_shape))


class _Drawn(Distribution):
    """A distribution that trusts its parameters and whose draws name their generator."""

    arg_constraints = {}  # noqa: RUF012  (torch's own protocol: a class attribute)

    def __init__(self, parameter_shape: torch.Size, event_dim: int):
        split = len(parameter_shape) - event_dim
        super().__init__(parameter_shape[:split], parameter_shape[split:], validate_args=False)


class _Independent(_Drawn):
    """A distribution with independent coordinates: what it says of an event is a sum over them."""

    _counted: Tensor | None = None

    def marginal(self, counted: Tensor) -> Self:
        """The distribution of some of the coordinates: only these count in densities and divergences.

        Draws and means still have the shape of the whole event.

        Args:
            counted: boolean, any shape that broadcasts with ``(batch, *event)``; True for the
                coordinates that remain.
        """
        if counted.dtype != torch.bool:
            raise TypeError(f"the coordinates that count must be boolean, got {counted.dtype}")
        marginal = copy.copy(self)
        marginal._counted = counted
        return marginal

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density or log probability in nats, shape ``(sample, batch)``."""
        return self._event_sum(self.coordinate_log_prob(value))

    def coordinate_log_prob(self, value: Tensor) -> Tensor:
        """What each coordinate contributes to :meth:`log_prob`, shape ``(sample, batch, *event)``."""
        raise NotImplementedError

    def _event_sum(self, per_coordinate: Tensor) -> Tensor:
        """Sum over the event: ``(sample, batch, *event) -> (sample, batch)``."""
        if self._counted is not None:
            per_coordinate = per_coordinate.where(self._counted, 0)
        return per_coordinate.flatten(per_coordinate.dim() - len(self.event_shape)).sum(-1)


class DiagonalNormal(_Independent):
    r"""Normal distribution with independent coordinates, :math:`\mathcal N(\mu, \mathrm{diag}(\sigma^2))`.

    Args:
        mu: means, shape ``(batch, *event)``.
        logvar: :math:`\log\sigma^2`, any shape that broadcasts with ``mu``.
        event_dim: how many of the last dimensions are the event, at least 1.
    """

    has_rsample = True

    def __init__(self, mu: Tensor, logvar: Tensor, event_dim: int = 1):
        self.mu, self.logvar = torch.broadcast_tensors(mu, logvar)
        super().__init__(self.mu.shape, event_dim)

    @property
    def mean(self) -> Tensor:
        return self.mu

    @property
    def variance(self) -> Tensor:
        return torch.exp(self.logvar)

    def rsample(self, sample_shape=(), *, generator: torch.Generator | None = None) -> Tensor:
        r"""Draw by reparameterization: :math:`z = \mu + \sigma \odot \epsilon`, noise from N(0, I).

        Args:
            sample_shape: shape of the draws, put before the batch.
            generator: source of the noise; ``None`` uses torch's global one.

        Returns:
            Draws of shape ``(*sample_shape, batch, *event)``, differentiable with respect to ``mu``
            and ``logvar``.

        Kingma & Welling (2014), section 2.4; chapter *The reparameterization trick*, eq.
        (reparameterization-diagonal).
        """
        eps = torch.randn(
            (*sample_shape, *self.mu.shape), generator=generator, dtype=self.mu.dtype, device=self.mu.device
        )
        return self.mu + sigma_from(self.logvar) * eps

    def sample(self, sample_shape=(), *, generator: torch.Generator | None = None) -> Tensor:
        """Draw without a gradient; shape ``(*sample_shape, batch, *event)``."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator=generator)

    def coordinate_log_prob(self, value: Tensor) -> Tensor:
        """Log density of each coordinate in nats, shape ``(sample, batch, *event)``."""
        squared = (value - self.mu) ** 2 * torch.exp(-self.logvar)
        return -0.5 * (LOG_TWO_PI + self.logvar + squared)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, shape ``(batch,)``."""
        return self._event_sum(0.5 * (1 + LOG_TWO_PI + self.logvar))


class FullNormal(_Drawn):
    r"""Normal distribution with any covariance, :math:`\mathcal N(\mu, L L^\top)`.

    Args:
        mu: means, shape ``(batch, k)``.
        scale_tril: lower-triangular Cholesky factor :math:`L` with a positive diagonal, shape
            ``(batch, k, k)`` or ``(k, k)``.
    """

    has_rsample = True

    def __init__(self, mu: Tensor, scale_tril: Tensor):
        self.mu = mu
        self.scale_tril = scale_tril.expand(*mu.shape[:-1], *scale_tril.shape[-2:])
        super().__init__(mu.shape, event_dim=1)

    @property
    def mean(self) -> Tensor:
        return self.mu

    @property
    def covariance(self) -> Tensor:
        r""":math:`\Sigma = L L^\top`, shape ``(batch, k, k)``."""
        return self.scale_tril @ self.scale_tril.mT

    @property
    def variance(self) -> Tensor:
        return self.scale_tril.square().sum(-1)

    def rsample(self, sample_shape=(), *, generator: torch.Generator | None = None) -> Tensor:
        r"""Draw by reparameterization, :math:`z = \mu + L \epsilon`; shape ``(*sample_shape, batch, k)``.

        Chapter *The reparameterization trick*, eq. (reparameterization-full).
        """
        eps = torch.randn(
            (*sample_shape, *self.mu.shape), generator=generator, dtype=self.mu.dtype, device=self.mu.device
        )
        return self.mu + (self.scale_tril @ eps.unsqueeze(-1)).squeeze(-1)

    def sample(self, sample_shape=(), *, generator: torch.Generator | None = None) -> Tensor:
        """Draw without a gradient; shape ``(*sample_shape, batch, k)``."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator=generator)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density in nats, shape ``(sample, batch)``."""
        whitened = _solve(self.scale_tril, value - self.mu)
        k = self.mu.shape[-1]
        return -0.5 * (k * LOG_TWO_PI + whitened.square().sum(-1)) - _half_log_det(self.scale_tril)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, shape ``(batch,)``."""
        return 0.5 * self.mu.shape[-1] * (1 + LOG_TWO_PI) + _half_log_det(self.scale_tril)


class Bernoulli(_Independent):
    """Independent binary coordinates, given by their logits.

    ``log_prob`` also accepts grey values between 0 and 1. It is then the negative cross-entropy
    that the sources train with, not a log-likelihood: such values may be compared with one another
    only.

    Args:
        logits: log odds of a one, shape ``(batch, *event)``.
        event_dim: how many of the last dimensions are the event; 3 for ``(channel, height,
            width)``.
    """

    def __init__(self, logits: Tensor, event_dim: int = 3):
        self.logits = logits
        super().__init__(logits.shape, event_dim)

    @property
    def mean(self) -> Tensor:
        return torch.sigmoid(self.logits)

    @property
    def variance(self) -> Tensor:
        return self.mean * (1 - self.mean)

    def sample(self, sample_shape=(), *, generator: torch.Generator | None = None) -> Tensor:
        """Draw zeros and ones, shape ``(*sample_shape, batch, *event)``."""
        with torch.no_grad():
            return torch.bernoulli(self.mean.expand(*sample_shape, *self.logits.shape), generator=generator)

    def coordinate_log_prob(self, value: Tensor) -> Tensor:
        """Log probability of each coordinate in nats, finite for any finite logit; shape ``(sample, batch,
        *event)``."""
        return value * self.logits - _softplus(self.logits)


class DiscretisedLogistic(_Independent):
    r"""Independent coordinates with finitely many levels, as the bytes of an image: what a logistic
    distribution leaves in the interval around each level.

    .. math:: P(x) = F\left(\frac{x + h - \mu}{s}\right) - F\left(\frac{x - h - \mu}{s}\right),
        \quad x = \frac{k}{L - 1}, \quad F(a) = \frac{1}{1 + e^{-a}}, \quad h = \frac{1}{2(L - 1)}

    The intervals of the lowest and the highest level reach to infinity, so that the probabilities of all
    levels add up to one.

    Args:
        mu: locations, in units in which the highest level is 1, shape ``(batch, *event)``; they may lie
            outside [0, 1].
        log_scale: :math:`\log s`, any shape that broadcasts with ``mu``.
        levels: how many levels there are, L, at least 2: 0, 1/(L - 1), ..., 1.
        event_dim: how many of the last dimensions are the event; 3 for ``(channel, height, width)``.

    Kingma et al. (2016); Salimans et al. (2017), section 2.1; chapter *Beyond MNIST*, eq.
    (beyond-logistic).
    """

    def __init__(self, mu: Tensor, log_scale: Tensor, levels: int = 256, event_dim: int = 3):
        if not isinstance(levels, int) or levels < 2:
            raise ValueError(f"levels must be an integer of 2 or more, got {levels!r}")
        self.mu, self.log_scale = torch.broadcast_tensors(mu, log_scale)
        self.levels = levels
        self._own_log_scale = log_scale  # of fewer numbers, where all of an image share it
        super().__init__(self.mu.shape, event_dim)

    @property
    def mean(self) -> Tensor:
        """Exact, for the levels and not for the logistic beneath them: the sum over all levels but the
        lowest of the probability to reach it, divided by their number."""
        slope = torch.exp(-self._own_log_scale)
        top = self.levels - 1
        mean = torch.zeros_like(self.mu)
        for level in range(top):
            mean = mean + torch.sigmoid((self.mu - (level + 0.5) / top) * slope)
        return mean / top

    def sample(self, sample_shape=(), *, generator: torch.Generator | None = None) -> Tensor:
        """Draw levels, shape ``(*sample_shape, batch, *event)``."""
        with torch.no_grad():
            u = torch.rand(
                (*sample_shape, *self.mu.shape),
                generator=generator,
                dtype=self.mu.dtype,
                device=self.mu.device,
            )
            logistic = self.mu + torch.exp(self._own_log_scale) * torch.logit(u)
            return logistic.mul_(self.levels - 1).round_().clamp_(0, self.levels - 1).div_(self.levels - 1)

    def coordinate_log_prob(self, value: Tensor) -> Tensor:
        r"""Log probability of each coordinate in nats, finite however far the level is from ``mu``; shape
        ``(sample, batch, *event)``.

        With :math:`a > b` the ends of an interval, :math:`F(a) - F(b) = F(a)\,F(-b)\,(1 - e^{b - a})`, each
        factor of which has a logarithm without cancellation. Chapter *Beyond MNIST*, eq. (beyond-factors).

        Args:
            value: levels; a number between two of them counts as the nearer one. Outside [0, 1] there
                are none: the log probability is minus infinity.
        """
        top = self.levels - 1
        slope = torch.exp(-self._own_log_scale)
        level = (value * top).round()
        centred = level / top - self.mu
        half = 0.5 / top
        width = torch.log(-torch.expm1(-slope / top))
        below_end = -_softplus(-(centred + half) * slope)  # log F(a)
        above_start = -_softplus((centred - half) * slope)  # log F(-b)
        lowest, highest = level == 0, level == top
        log_prob = below_end.masked_fill(highest, 0) + above_start.masked_fill(lowest, 0)
        log_prob = log_prob + width.expand_as(log_prob).masked_fill(lowest | highest, 0)
        return log_prob.masked_fill((level < 0) | (level > top), -math.inf)


def kl_discrete(p: Tensor, q: Tensor) -> Tensor:
    r"""KL divergence between distributions over finitely many outcomes.

    .. math:: D[p \,\|\, q] = \sum_x p(x) \log\frac{p(x)}{q(x)}

    Args:
        p: probabilities, shape ``(batch, outcomes)``, each row summing to 1; outcomes with p = 0
            contribute nothing.
        q: probabilities, same shape; infinite divergence where q = 0 and p > 0.

    Returns:
        Nats, shape ``(batch,)``.

    Kullback & Leibler (1951); chapter *The Kullback-Leibler divergence*, eq. (kl-discrete).
    """
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1)


def kl_normal(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    r"""KL divergence between univariate normals, coordinate by coordinate.

    .. math:: D[\mathcal N(\mu_q, \sigma_q^2) \,\|\, \mathcal N(\mu_p, \sigma_p^2)]
        = \log\frac{\sigma_p}{\sigma_q} + \frac{\sigma_q^2 + (\mu_q - \mu_p)^2}{2\sigma_p^2} -
        \frac12

    Args:
        mu_q, logvar_q, mu_p, logvar_p: means and log variances, shapes that broadcast.

    Returns:
        Nats, the broadcast shape.

    Chapter *The Kullback-Leibler divergence*, eq. (kl-univariate).
    """
    variance_ratio = torch.exp(logvar_q - logvar_p)
    squared_shift = (mu_q - mu_p) ** 2 * torch.exp(-logvar_p)
    return 0.5 * (logvar_p - logvar_q + variance_ratio + squared_shift - 1)


def kl_diagonal_normal(mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    """KL divergence between diagonal normals: :func:`kl_normal`, summed over the last dimension.

    Returns:
        Nats, shape ``(batch,)``. Chapter *The Kullback-Leibler divergence*, eq. (kl-diagonal).
    """
    return kl_normal(mu_q, logvar_q, mu_p, logvar_p).sum(-1)


def kl_standard_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    r"""KL divergence from a diagonal normal to the standard normal, the regulariser of the VAE.

    .. math:: D[\mathcal N(\mu, \mathrm{diag}\,\sigma^2) \,\|\, \mathcal N(0, I)]
        = \frac12 \sum_{j=1}^k \left(\mu_j^2 + \sigma_j^2 - \log\sigma_j^2 - 1\right)

    Args:
        mu, logvar: shape ``(batch, k)``.

    Returns:
        Nats, shape ``(batch,)``.

    Kingma & Welling (2014), appendix B; chapter *The Kullback-Leibler divergence*, eq.
    (kl-standard).
    """
    return 0.5 * (mu**2 + torch.exp(logvar) - logvar - 1).sum(-1)


def kl_full_normal(mu_q: Tensor, scale_tril_q: Tensor, mu_p: Tensor, scale_tril_p: Tensor) -> Tensor:
    r"""KL divergence between normals with full covariances :math:`\Sigma = L L^\top`.

    .. math:: D = \frac12\left(\mathrm{tr}(\Sigma_p^{-1}\Sigma_q)
        + (\mu_p-\mu_q)^\top \Sigma_p^{-1} (\mu_p-\mu_q) - k +
        \log\frac{\det\Sigma_p}{\det\Sigma_q}\right)

    Computed from the Cholesky factors: no matrix is inverted, and the determinants are sums of
    logs.

    Args:
        mu_q, mu_p: means, shape ``(batch, k)``.
        scale_tril_q, scale_tril_p: Cholesky factors, shape ``(batch, k, k)`` or ``(k, k)``.

    Returns:
        Nats, shape ``(batch,)``.

    Chapter *The Kullback-Leibler divergence*, eq. (kl-full).
    """
    trace = torch.linalg.solve_triangular(scale_tril_p, scale_tril_q, upper=False).square().sum((-2, -1))
    squared_shift = _solve(scale_tril_p, mu_p - mu_q).square().sum(-1)
    log_det_ratio = 2 * (_half_log_det(scale_tril_p) - _half_log_det(scale_tril_q))
    return 0.5 * (trace + squared_shift - mu_q.shape[-1] + log_det_ratio)


@register_kl(DiagonalNormal, DiagonalNormal)
def _kl_diagonal(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    return q._event_sum(kl_normal(q.mu, q.logvar, p.mu, p.logvar))


@register_kl(FullNormal, FullNormal)
def _kl_full(q: FullNormal, p: FullNormal) -> Tensor:
    return kl_full_normal(q.mu, q.scale_tril, p.mu, p.scale_tril)


@register_kl(DiagonalNormal, FullNormal)
def _kl_diagonal_full(q: DiagonalNormal, p: FullNormal) -> Tensor:
    return kl_full_normal(q.mu, torch.diag_embed(sigma_from(q.logvar)), p.mu, p.scale_tril)


@register_kl(FullNormal, DiagonalNormal)
def _kl_full_diagonal(q: FullNormal, p: DiagonalNormal) -> Tensor:
    return kl_full_normal(q.mu, q.scale_tril, p.mu, torch.diag_embed(sigma_from(p.logvar)))


def _softplus(logits: Tensor) -> Tensor:
    r""":math:`\log(1 + e^a) = \max(a, 0) - \log\mathrm{sigmoid}(|a|)`, to one rounding of 1.

    Not torch's own, which is as exact for a large negative ``a`` but takes ten times as long
    on a CPU: a third of a training step of an MLP.
    """
    return torch.relu(logits) - torch.log(torch.sigmoid(logits.abs()))


def _solve(scale_tril: Tensor, vector: Tensor) -> Tensor:
    """:math:`L^{-1} v` for a batch of vectors."""
    return torch.linalg.solve_triangular(scale_tril, vector.unsqueeze(-1), upper=False).squeeze(-1)


def _half_log_det(scale_tril: Tensor) -> Tensor:
    r""":math:`\frac12 \log\det L L^\top = \sum_j \log L_{jj}`."""
    return scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
