r"""The variational autoencoder: a prior, a likelihood (decoder), an approximate posterior (encoder).

``vae.encode(x)`` and ``vae.decode(z)`` return distributions. Bounds on the evidence live in
:mod:`vaebook.objectives`. A conditional autoencoder has the same interface once its condition is
known: ``cvae.given(y)``.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from vaebook.arguments import require_positive
from vaebook.distributions import Bernoulli, DiagonalNormal, DiscretisedLogistic
from vaebook.nets import (
    Concatenated,
    ConvDecoder,
    ConvEncoder,
    OneHot,
    initialise,
    mlp,
    mlp_decoder,
    mlp_encoder,
)

LOGVAR_RANGE = (-20.0, 20.0)
"""Log variances of codes are held in this range, so that the KL divergence cannot overflow."""

LEAK = 0.1
"""Slope of Nguyen-Chinh's (2019) rectified linear units below zero."""


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


class NormalLikelihood(nn.Module):
    r"""Real vectors: the decoder's output is read as a mean and a log variance for each coordinate.

    Args:
        logvar_range: where log variances are held; the lower end keeps the density of a coordinate that
            hardly varies from growing without bound.
    """

    def __init__(self, logvar_range: tuple[float, float] = (-6.0, 6.0)):
        super().__init__()
        self.logvar_range = logvar_range

    def forward(self, output: Tensor) -> DiagonalNormal:
        mu, logvar = output.chunk(2, dim=-1)
        return DiagonalNormal(mu, logvar.clamp(*self.logvar_range))


class DiscretisedLogisticLikelihood(nn.Module):
    r"""Pixels of finitely many levels, such as bytes: the decoder's output is read as the location of a
    logistic distribution, above middle grey, and each channel has one scale for all its pixels.

    Args:
        channels: of the images.
        scale: :math:`s` of every channel before training, in units in which the highest level is 1.
        levels: how many levels a pixel has, at least 2.
    """

    def __init__(self, channels: int = 3, scale: float = 0.1, levels: int = 256):
        super().__init__()
        require_positive(channels=channels)
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}")
        self.levels = levels
        self.log_scale = nn.Parameter(torch.full((channels, 1, 1), math.log(scale)))

    def forward(self, output: Tensor) -> DiscretisedLogistic:
        return DiscretisedLogistic(output + 0.5, self.log_scale, self.levels, event_dim=3)


class _Model:
    """What every model with ``encode``, ``decode`` and ``prior`` can do."""

    def reconstruct(self, x: Tensor) -> Tensor:
        """Mean image decoded from the mean code of ``x``, same shape as ``x``."""
        return self.decode(self.encode(x).mean).mean

    def generate(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Mean images of codes from the prior, ``(count, channel, height, width)``; given a batch of
        conditions, ``(count, batch, channel, height, width)``."""
        return self.decode(self.prior.sample((count,), generator=generator)).mean


class VAE(_Model, nn.Module):
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
        require_positive(latent_dim=latent_dim)
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
        return _code(self.encoder(x))

    def decode(self, z: Tensor) -> Bernoulli | DiagonalNormal:
        """p(x|z) for codes ``(..., latent_dim)``; events ``(channel, height, width)``."""
        return self.likelihood(_full_precision(self.decoder(z)))


class CVAE(nn.Module):
    r"""Conditional variational autoencoder: one for every value of a condition y, which share their networks.

    .. math:: p(x, z|y) = p(z|y)\, p(x|z, y), \qquad
        q(z|x, y) = \mathcal N(\mu(x, y), \mathrm{diag}\,\sigma^2(x, y))

    With the condition put in, ``cvae.given(y)``, it is a model like any other: every bound and estimator
    takes it as it is.

    Args:
        encoder: network from images and features of the condition, ``(batch, channel, height, width)`` and
            ``(batch, features)``, to ``(batch, 2 * latent_dim)``: the means and the log variances of the
            code.
        decoder: network from codes ``(..., batch, latent_dim)`` and features to what ``likelihood`` reads.
        latent_dim: dimensions of the code, at least 1.
        conditioner: network from conditions ``(batch, ...)`` to features; the conditions themselves where not
            given.
        prior_network: network from features to ``(batch, 2 * latent_dim)``, for a learned p(z|y); where not
            given, p(z|y) is the standard normal.
        likelihood: as in :class:`VAE`.
        encoder_conditioned: whether the encoder is given the features, too. Without them it is called with
            the images only, and q(z|x) stands for q(z|x, y): still a bound, but a looser one.

    Sohn et al. (2015); chapter *Generation on demand*, eq. (cvae-bound).
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        conditioner: nn.Module | None = None,
        prior_network: nn.Module | None = None,
        likelihood: nn.Module | None = None,
        encoder_conditioned: bool = True,
    ):
        super().__init__()
        require_positive(latent_dim=latent_dim)
        self.encoder = encoder
        self.decoder = decoder
        self.latent_dim = latent_dim
        self.conditioner = conditioner or nn.Identity()
        self.prior_network = prior_network
        self.likelihood = likelihood or BernoulliLikelihood()
        self.encoder_conditioned = encoder_conditioned

    def given(self, y: Tensor, *, counted: Tensor | None = None) -> "Given":
        """The model of x for known conditions.

        Args:
            y: conditions ``(batch, ...)``, as ``conditioner`` reads them: labels, images, ...
            counted: boolean, broadcasts with the images: the pixels that the model is about, all where not
                given.
        """
        return Given(self, self.conditioner(y), counted)

    def completing(self, x: Tensor, missing: Tensor) -> "Given":
        """The model of the missing pixels, given the others; for a ``conditioner`` that reads
        :func:`observed`.

        Args:
            x, missing: as in :func:`observed`.
        """
        return self.given(observed(x, missing), counted=missing)

    def complete(
        self, x: Tensor, missing: Tensor, count: int = 1, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Fill in what is missing: ``count`` guesses for each image.

        Args:
            x, missing: as in :func:`observed`.
            count: codes drawn from p(z|y) for each image.
            generator: source of the noise; ``None`` uses torch's global one.

        Returns:
            Images ``(count, batch, channel, height, width)``: the known pixels as they are, the missing ones
            at their mean given the code.
        """
        return self.completing(x, missing).generate(count, generator=generator).where(missing, x)


class Given(_Model):
    """A conditional model whose condition is known; made by :meth:`CVAE.given`."""

    def __init__(self, cvae: CVAE, features: Tensor, counted: Tensor | None = None):
        self.cvae = cvae
        self.features = features
        self.counted = counted

    @property
    def prior(self) -> DiagonalNormal:
        """p(z|y); one for each condition, events ``(latent_dim,)``."""
        if self.cvae.prior_network is not None:
            return _code(self.cvae.prior_network(self.features))
        origin = self.features.new_zeros(len(self.features), self.cvae.latent_dim)
        return DiagonalNormal(origin, origin)

    def encode(self, x: Tensor) -> DiagonalNormal:
        """q(z|x, y) for images ``(batch, channel, height, width)``; events ``(latent_dim,)``."""
        if self.cvae.encoder_conditioned:
            return _code(self.cvae.encoder(x, self.features))
        return _code(self.cvae.encoder(x))

    def decode(self, z: Tensor) -> Bernoulli | DiagonalNormal:
        """p(x|z, y) for codes ``(..., batch, latent_dim)``; events ``(channel, height, width)``."""
        p_x = self.cvae.likelihood(_full_precision(self.cvae.decoder(z, self.features)))
        return p_x if self.counted is None else p_x.marginal(self.counted)


def observed(x: Tensor, missing: Tensor) -> Tensor:
    """What is known of images: their pixels where none is missing, zero elsewhere, and which are known.

    Args:
        x, missing: as in :func:`known_pixels`.

    Returns:
        Shape ``(batch, 2 * channel, height, width)``: the pixels, then ones for known and zeros for missing.

    Raises:
        TypeError, ValueError: as :func:`known_pixels` does.
    """
    known, missing = known_pixels(x, missing)
    return torch.cat([known, (~missing).to(x.dtype)], dim=1)


def known_pixels(x: Tensor, missing: Tensor) -> tuple[Tensor, Tensor]:
    """The pixels that are known, zero elsewhere, and the mask of the missing ones, one for each image.

    Args:
        x: images, shape ``(batch, channel, height, width)``; anything, even NaN, where pixels are missing.
        missing: boolean, broadcasts with ``x``; True where a pixel is not known.

    Returns:
        Two tensors of the shape of ``x``.

    Raises:
        TypeError: the mask is not boolean.
        ValueError: the mask does not fit, nothing is missing, or a known pixel is not a finite number.
    """
    if missing.dtype != torch.bool:
        raise TypeError(f"the mask of missing pixels must be boolean, got {missing.dtype}")
    try:
        missing = missing.expand(x.shape)
    except RuntimeError as error:
        raise ValueError(
            f"the mask of missing pixels, {tuple(missing.shape)}, does not fit images {tuple(x.shape)}"
        ) from error
    if not missing.any():
        raise ValueError("no pixel is missing: the mask must be True where a pixel is to be filled in")
    known = x.where(~missing, 0)
    if not known.isfinite().all():
        raise ValueError("a pixel that is not missing is not a finite number; mark it in the mask, too")
    return known, missing


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
    require_positive(latent_dim=latent_dim)
    encoder = mlp_encoder(image_shape, hidden, 2 * latent_dim)
    decoder = mlp_decoder(latent_dim, tuple(reversed(hidden)), image_shape)
    return VAE(encoder, decoder, latent_dim, likelihood)


def mlp_cvae(
    latent_dim: int = 100,
    hidden: Sequence[int] = (512, 256, 128),
    image_shape: Sequence[int] = (1, 28, 28),
    classes: int = 10,
    conditioner: Sequence[int] = (16, 32, 64),
    likelihood: nn.Module | None = None,
    *,
    encoder_conditioned: bool = True,
    learned_prior: bool = False,
) -> CVAE:
    """The CVAE of images given their labels, with fully connected networks; by default the one of
    Nguyen-Chinh (2019), but for its encoder, which is given the label here, too.

    Args:
        latent_dim: dimensions of the code, at least 1.
        hidden: widths from the image to the code; the decoder has the same in reverse.
        image_shape: ``(channel, height, width)``.
        classes: how many labels there are.
        conditioner: widths from the one-hot label to its features, the last of which join the code; none
            feeds the one-hot label itself.
        likelihood: as in :class:`VAE`.
        encoder_conditioned: as in :class:`CVAE`; False for the source's own encoder.
        learned_prior: whether p(z|y) has a mean and a variance of its own for each label.
    """
    require_positive(latent_dim=latent_dim)
    leaky = {"activation": partial(nn.LeakyReLU, LEAK)}
    label = OneHot(classes)
    if conditioner:
        label = nn.Sequential(label, mlp(classes, *conditioner, **leaky), nn.LeakyReLU(LEAK))
    features = conditioner[-1] if conditioner else classes
    if encoder_conditioned:
        pixels = math.prod(image_shape)
        encoder = Concatenated(mlp(pixels + features, *hidden, 2 * latent_dim, **leaky), event_dim=3)
    else:
        encoder = mlp_encoder(image_shape, hidden, 2 * latent_dim, **leaky)
    decoder = mlp_decoder(latent_dim + features, tuple(reversed(hidden)), image_shape, **leaky)
    return CVAE(
        encoder,
        Concatenated(decoder),
        latent_dim,
        conditioner=label,
        prior_network=nn.Linear(features, 2 * latent_dim) if learned_prior else None,
        likelihood=likelihood,
        encoder_conditioned=encoder_conditioned,
    )


def completion_cvae(
    latent_dim: int = 50,
    hidden: int = 500,
    image_shape: Sequence[int] = (1, 28, 28),
    conditioner: nn.Module | None = None,
    likelihood: nn.Module | None = None,
) -> CVAE:
    """The CVAE of images given what is known of them, with a learned p(z|y); for :meth:`CVAE.complete`.

    Args:
        latent_dim: dimensions of the code, at least 1.
        hidden: units of every hidden layer.
        image_shape: ``(channel, height, width)``.
        conditioner: network from :func:`observed`, ``(batch, 2 * channel, height, width)``, to features
            ``(batch, hidden)``, such as the hidden layers of a trained regression network; two new layers
            where not given.
        likelihood: as in :class:`VAE`.

    Sohn et al. (2015); chapter *Filling in what is missing*, eq. (completion-model).
    """
    require_positive(latent_dim=latent_dim)
    channels, *sides = image_shape
    if conditioner is None:
        conditioner = nn.Sequential(mlp_encoder((2 * channels, *sides), (hidden,), hidden), nn.ReLU())
    encoder = mlp(math.prod(image_shape) + hidden, hidden, 2 * latent_dim)
    return CVAE(
        Concatenated(encoder, event_dim=3),
        Concatenated(mlp_decoder(latent_dim + hidden, (hidden,), image_shape)),
        latent_dim,
        conditioner=conditioner,
        prior_network=nn.Linear(hidden, 2 * latent_dim),
        likelihood=likelihood,
    )


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

    Channels and kernels are those of Chollet (2018, section 8.4), whose sizes agree with it. Weights start as
    in Keras, which the source used: "glorot" of :func:`vaebook.nets.initialise`.

    Args:
        latent_dim: dimensions of the code, at least 1.
        image_shape: ``(channel, height, width)``; the strides of each network must divide height and
            width.
        likelihood: as in :class:`VAE`.
        channels, strides, hidden: of :class:`vaebook.nets.ConvEncoder`.
        decoder_channels, decoder_strides: of :class:`vaebook.nets.ConvDecoder`.
        kernel_size: odd, of all convolutions.
    """
    require_positive(latent_dim=latent_dim)
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


def _code(output: Tensor) -> DiagonalNormal:
    """The distribution of a code, of which a network computed means and log variances."""
    mu, logvar = _full_precision(output).chunk(2, dim=-1)
    return DiagonalNormal(mu, logvar.clamp(*LOGVAR_RANGE))


def _full_precision(output: Tensor) -> Tensor:
    """What a network computed, in float32 at least: densities and divergences are not for bfloat16."""
    return output.to(torch.promote_types(output.dtype, torch.float32))
