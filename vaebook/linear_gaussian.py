r"""The linear-Gaussian model, where every integral of the theory has an exact answer.

.. math:: z \sim \mathcal N(0, I_k), \qquad x \,|\, z \sim \mathcal N(W z + b, \sigma^2 I_d)

It has the interface of a VAE (``encode``, ``decode``, ``prior``), so that every bound and estimator
of the library can be held against the truth. With a maximum-likelihood W it is probabilistic PCA
(Tipping & Bishop 1999).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaebook.distributions import DiagonalNormal, FullNormal, standard_normal


class LinearGaussian:
    """A linear decoder with Gaussian noise, its exact posterior and its exact evidence.

    Args:
        weight: W, shape ``(d, k)``, floating point; all results have its dtype.
        bias: b, shape ``(d,)``.
        logvar: log variance of the noise on every coordinate of x.
        encoder: function from ``x`` of shape ``(batch, d)`` to a distribution over codes, the
            approximate posterior q; the exact posterior where not given.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        logvar: float,
        encoder: Callable[[Tensor], Distribution] | None = None,
    ):
        if weight.dim() != 2 or bias.shape != weight.shape[:1]:
            raise ValueError(
                f"weight must be (d, k) and bias (d,); got {tuple(weight.shape)}, {tuple(bias.shape)}"
            )
        self.weight = weight
        self.bias = bias
        self.logvar = torch.as_tensor(logvar, dtype=weight.dtype)
        self.encode = encoder or self.posterior

    @property
    def prior(self) -> DiagonalNormal:
        """p(z), the standard normal over codes ``(k,)``."""
        return standard_normal(self.weight.shape[1], dtype=self.weight.dtype)

    def decode(self, z: Tensor) -> DiagonalNormal:
        """p(x|z) for codes ``(..., k)``; events ``(d,)``."""
        return DiagonalNormal(z @ self.weight.mT + self.bias, self.logvar)

    def posterior(self, x: Tensor) -> FullNormal:
        r"""The exact p(z|x) for ``x`` of shape ``(batch, d)``; events ``(k,)``.

        .. math:: p(z|x) = \mathcal N\!\left(\sigma^{-2} S W^\top (x - b),\; S\right),
            \qquad S = \left(I + \sigma^{-2} W^\top W\right)^{-1}

        Bishop (2006), eq. 2.116; chapter *The evidence lower bound*, eq. (elbo-exact-posterior).
        """
        precision = torch.exp(-self.logvar)
        covariance = torch.linalg.inv(self._identity() + precision * self.weight.mT @ self.weight)
        mu = precision * (x - self.bias) @ self.weight @ covariance
        return FullNormal(mu, torch.linalg.cholesky(covariance))

    def log_evidence(self, x: Tensor) -> Tensor:
        r"""The exact log p(x) in nats, shape ``(batch,)``.

        .. math:: \log p(x) = \log \mathcal N(x;\, b,\, W W^\top + \sigma^2 I)

        Bishop (2006), eq. 2.115; chapter *The evidence lower bound*, eq. (elbo-exact-evidence).
        """
        noise = torch.exp(self.logvar) * torch.eye(len(self.bias), dtype=self.weight.dtype)
        marginal = FullNormal(self.bias, torch.linalg.cholesky(self.weight @ self.weight.mT + noise))
        return marginal.log_prob(x)

    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``count`` observations from p(x), shape ``(count, d)``."""
        z = self.prior.sample((count,), generator=generator)
        return self.decode(z).sample(generator=generator)

    def _identity(self) -> Tensor:
        return torch.eye(self.weight.shape[1], dtype=self.weight.dtype)
