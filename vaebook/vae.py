r"""The variational autoencoder: a prior, a likelihood (decoder), an approximate posterior (encoder).

``vae.encode(x)`` and ``vae.decode(z)`` return distributions. Bounds on the evidence live in
:mod:`vaebook.objectives`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vaebook.distributions import Bernoulli, DiagonalNormal
from vaebook.nets import ConvDecoder, ConvEncoder, initialise, mlp_decoder, mlp_encoder

LOGVAR_RANGE = (-20.0, 20.0)
"""Log variances of codes are held in this range, so that the KL divergence cannot overflow."""


class BernoulliLikelihood(nn.Module):
    """Binary pixels: the decoder's output is read as logits."""

    def forward(self, logits: Tensor) -> Bernoulli:
        return Bernoulli(logits, event_dim=3)


class GaussianLikelihood(nn.Module):
    r"""Real-valued pixels with one variance for all: the decoder's output is read as the mean.

    Args:
        sigma: standard deviation of a pixel around the decoder's mean, in the units of the pixels;
            its first value where it is learned.
        learned: whether :math:`\log\sigma^2` is a parameter that training adjusts.
    """

    def __init__(self, sigma: float = 1.0, learned: bool = False):
        super().__init__()
        if not sigma > 0:
            raise ValueError(f"sigma must be positive, got {sigma}")
        self.logvar = nn.Parameter(2 * torch.log(torch.tensor(float(sigma))), requires_grad=learned)

    def forward(self, mu: Tensor) -> DiagonalNormal:
        return DiagonalNormal(mu, self.logvar, event_dim=3)


class VAE(nn.Module):
    r"""Variational autoencoder with prior :math:`p(z) = \mathcal N(0, I)`.

    .. math:: p(x, z) = p(z)\, p(x|z), \qquad q(z|x) = \mathcal N(\mu(x), \mathrm{diag}\,\sigma^2(x))

    Args:
        encoder: network from images ``(batch, channel, height, width)`` to ``(batch, 2 *
            latent_dim)``: the means and the log variances of the code.
        decoder: network from codes ``(..., latent_dim)`` to ``(..., channel, height, width)``: what
            ``likelihood`` reads.
        latent_dim: dimensions of the code, at least 1.
        likelihood: module from the decoder's output to the distribution of the image; Bernoulli
            where not given.

    Kingma & Welling (2014).
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, latent_dim: int, likelihood: nn.Module | None = None
    ):
        super().__init__()
        _positive("latent_dim", latent_dim)
        self.encoder = encoder
        self.decoder = decoder
        self.latent_dim = latent_dim
        self.likelihood = likelihood or BernoulliLikelihood()
        self.register_buffer("_origin", torch.zeros(latent_dim), persistent=False)

    @property
    def prior(self) -> DiagonalNormal:
        """p(z), the standard normal over codes ``(latent_dim,)``."""
        return DiagonalNormal(self._origin, self._origin)

    def encode(self, x: Tensor) -> DiagonalNormal:
        """q(z|x) for images ``(batch, channel, height, width)``; events ``(latent_dim,)``."""
        mu, logvar = _full_precision(self.encoder(x)).chunk(2, dim=-1)
        return DiagonalNormal(mu, logvar.clamp(*LOGVAR_RANGE))

    def decode(self, z: Tensor) -> Bernoulli | DiagonalNormal:
        """p(x|z) for codes ``(..., latent_dim)``; events ``(channel, height, width)``."""
        return self.likelihood(_full_precision(self.decoder(z)))

    def reconstruct(self, x: Tensor) -> Tensor:
        """Mean image decoded from the mean code of ``x``, same shape as ``x``."""
        return self.decode(self.encode(x).mean).mean

    def generate(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Mean images of codes from the prior, shape ``(count, channel, height, width)``."""
        return self.decode(self.prior.sample((count,), generator=generator)).mean


def mlp_vae(
    latent_dim: int = 20,
    hidden: Sequence[int] = (400,),
    image_shape: Sequence[int] = (1, 28, 28),
    likelihood: nn.Module | None = None,
) -> VAE:
    """The VAE with fully connected networks; by default the 784-400-20 one of Shan (2020).

    Args:
        latent_dim: dimensions of the code, at least 1.
        hidden: widths from the image to the code; the decoder has the same in reverse.
        image_shape: ``(channel, height, width)``.
        likelihood: as in :class:`VAE`.
    """
    _positive("latent_dim", latent_dim)
    encoder = mlp_encoder(image_shape, hidden, 2 * latent_dim)
    decoder = mlp_decoder(latent_dim, tuple(reversed(hidden)), image_shape)
    return VAE(encoder, decoder, latent_dim, likelihood)


def conv_vae(
    latent_dim: int = 2,
    image_shape: Sequence[int] = (1, 28, 28),
    likelihood: nn.Module | None = None,
    *,
    channels: Sequence[int] = (32, 64, 64, 64),
    strides: Sequence[int] = (1, 2, 1, 1),
    hidden: Sequence[int] = (),
    decoder_channels: Sequence[int] = (64, 32),
    decoder_strides: Sequence[int] = (2, 1),
    kernel_size: int = 3,
) -> VAE:
    """The VAE with convolutional networks; by default the one of Bhatt et al. (2018).

    Weights start as in Keras, which the source used: "glorot" of :func:`vaebook.nets.initialise`.

    Args:
        latent_dim: dimensions of the code, at least 1.
        image_shape: ``(channel, height, width)``; the strides of each network must divide height and
            width.
        likelihood: as in :class:`VAE`.
        channels, strides, hidden: of :class:`vaebook.nets.ConvEncoder`.
        decoder_channels, decoder_strides: of :class:`vaebook.nets.ConvDecoder`.
        kernel_size: odd, of all convolutions.
    """
    _positive("latent_dim", latent_dim)
    encoder = ConvEncoder(
        image_shape,
        2 * latent_dim,
        channels=channels,
        strides=strides,
        hidden=hidden,
        kernel_size=kernel_size,
    )
    decoder = ConvDecoder(
        latent_dim, image_shape, channels=decoder_channels, strides=decoder_strides, kernel_size=kernel_size
    )
    return initialise(VAE(encoder, decoder, latent_dim, likelihood), "glorot")


def _full_precision(output: Tensor) -> Tensor:
    """What a network computed, in float32 at least: densities and divergences are not for bfloat16."""
    return output.to(torch.promote_types(output.dtype, torch.float32))


def _positive(name: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
