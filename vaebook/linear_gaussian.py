r"""The linear-Gaussian model, where every integral of the theory has an exact answer.

.. math:: z \sim \mathcal N(m, I_k), \qquad x \,|\, z \sim \mathcal N(W z + b, \sigma^2 I_d)

The mean m of the prior is zero unless it is given. The model has the interface of a VAE (``encode``,
``decode``, ``prior``), so that every bound and estimator of the library can be held against the truth. With
a maximum-likelihood W it is probabilistic PCA (Tipping & Bishop 1999).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaebook.distributions import DiagonalNormal, FullNormal


class LinearGaussian:
    """A linear decoder with Gaussian noise, its exact posterior and its exact evidence.

    Args:
        weight: W, shape ``(d, k)``, floating point; all results have its dtype.
        bias: b, shape ``(d,)``, or ``(batch, d)`` for one to each observation.
        logvar: log variance of the noise on every coordinate of x.
        encoder: function from ``x`` of shape ``(batch, d)`` to a distribution over codes, the
            approximate posterior q; the exact posterior where not given.
        prior_mu: mean of the prior where it is not zero, shape ``(k,)`` or ``(batch, k)``.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        logvar: float,
        encoder: Callable[[Tensor], Distribution] | None = None,
        *,
        prior_mu: Tensor | None = None,
    ):
        if weight.dim() != 2 or bias.shape[-1:] != weight.shape[:1]:
            raise ValueError(
                f"weight must be (d, k) and bias (d,); got {tuple(weight.shape)}, {tuple(bias.shape)}"
            )
        self.weight = weight
        self.bias = bias
        self.prior_mu = weight.new_zeros(weight.shape[1]) if prior_mu is None else prior_mu
        self.logvar = torch.as_tensor(logvar, dtype=weight.dtype)
        self.encode = encoder or self.posterior

    @property
    def prior(self) -> DiagonalNormal:
        """p(z), a normal with unit variances over codes ``(k,)``."""
        return DiagonalNormal(self.prior_mu, torch.zeros_like(self.prior_mu))

    def decode(self, z: Tensor) -> DiagonalNormal:
        """p(x|z) for codes ``(..., k)``; events ``(d,)``."""
        return DiagonalNormal(z @ self.weight.mT + self.bias, self.logvar)

    def posterior(self, x: Tensor) -> FullNormal:
        r"""The exact p(z|x) for ``x`` of shape ``(batch, d)``; events ``(k,)``. The prior has the mean m.

        .. math:: p(z|x) = \mathcal N\!\left(\sigma^{-2} S W^\top (x - b) + S m,\; S\right),
            \qquad S = \left(I + \sigma^{-2} W^\top W\right)^{-1}

        Bishop (2006), eq. 2.116; chapter *The evidence lower bound*, eq. (elbo-exact-posterior).
        """
        precision = torch.exp(-self.logvar)
        covariance = torch.linalg.inv(self._identity() + precision * self.weight.mT @ self.weight)
        mu = (precision * (x - self.bias) @ self.weight + self.prior_mu) @ covariance
        return FullNormal(mu, torch.linalg.cholesky(covariance))

    def log_evidence(self, x: Tensor) -> Tensor:
        r"""The exact log p(x) in nats, shape ``(batch,)``. The prior has the mean m.

        .. math:: \log p(x) = \log \mathcal N(x;\, W m + b,\, W W^\top + \sigma^2 I)

        Bishop (2006), eq. 2.115; chapter *The evidence lower bound*, eq. (elbo-exact-evidence).
        """
        noise = torch.exp(self.logvar) * torch.eye(len(self.weight), dtype=self.weight.dtype)
        mu = self.prior_mu @ self.weight.mT + self.bias
        marginal = FullNormal(mu, torch.linalg.cholesky(self.weight @ self.weight.mT + noise))
        return marginal.log_prob(x)

    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``count`` observations from p(x), shape ``(count, d)``."""
        z = self.prior.sample((count,), generator=generator)
        return self.decode(z).sample(generator=generator)

    def _identity(self) -> Tensor:
        return torch.eye(self.weight.shape[1], dtype=self.weight.dtype)


class ConditionalLinearGaussian:
    r"""The model given a vector y, which moves the code and the observation; linear, and so still exact.

    .. math:: z \,|\, y \sim \mathcal N(A y, I_k), \qquad
        x \,|\, z, y \sim \mathcal N(W z + V y + b, \sigma^2 I_d)

    It has the interface of a :class:`vaebook.vae.CVAE`.

    Args:
        weight: W, shape ``(d, k)``, floating point; all results have its dtype.
        shift: V, shape ``(d, condition)``.
        prior_weight: A, shape ``(k, condition)``.
        bias: b, shape ``(d,)``.
        logvar: log variance of the noise on every coordinate of x.
        encoder: function from ``x`` of shape ``(batch, d)`` and ``y`` of shape ``(batch, condition)`` to a
            distribution over codes, the approximate posterior q; the exact posterior where not given.
    """

    def __init__(
        self,
        weight: Tensor,
        shift: Tensor,
        prior_weight: Tensor,
        bias: Tensor,
        logvar: float,
        encoder: Callable[[Tensor, Tensor], Distribution] | None = None,
    ):
        self.weight, self.shift, self.prior_weight = weight, shift, prior_weight
        self.bias, self.logvar, self.encoder = bias, logvar, encoder

    def given(self, y: Tensor) -> LinearGaussian:
        """The model of x for known ``y``, shape ``(condition,)`` or ``(batch, condition)``."""
        encoder = self.encoder and (lambda x: self.encoder(x, y))
        bias = self.bias + y @ self.shift.mT
        return LinearGaussian(self.weight, bias, self.logvar, encoder, prior_mu=y @ self.prior_weight.mT)
