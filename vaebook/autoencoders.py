r"""Autoencoders: an encoder to a short code, a decoder back to the image, and no probability.

.. math:: x \;\xrightarrow{\;f\;}\; z \;\xrightarrow{\;g\;}\; \tilde x \approx x

Losses are sums over pixels, one value for each image; the caller averages over the batch. Training is
``train.fit`` with ``train.gradient_step``, or with :func:`adversarial_step`.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim import LBFGS, Optimizer

from vaebook.arguments import require_positive
from vaebook.distributions import Bernoulli
from vaebook.nets import mlp_decoder, mlp_encoder
from vaebook.train import Step, gradient_step

GENERATOR_LOSSES = ("non-saturating", "minimax")


class Autoencoder(nn.Module):
    """An encoder and a decoder.

    Args:
        encoder: network from images ``(batch, channel, height, width)`` to codes ``(batch, k)``.
        decoder: network from codes ``(..., k)`` to ``(..., channel, height, width)``.
        logits: whether the decoder's output is read as logits, so that an image is its sigmoid;
            otherwise it is the image.
        image_shape: ``(channel, height, width)`` of the images that are accepted.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        logits: bool,
        image_shape: Sequence[int] = (1, 28, 28),
    ):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.logits = logits
        self.image_shape = tuple(image_shape)

    def encode(self, x: Tensor) -> Tensor:
        """Codes ``(batch, k)`` of images ``(batch, channel, height, width)``.

        Raises:
            ValueError: the images have another shape, or a pixel is not finite.
        """
        if x.shape[1:] != self.image_shape:
            raise ValueError(f"images must have the shape (batch, *{self.image_shape}), got {tuple(x.shape)}")
        _require_finite(x)
        return self.encoder(x)

    def output(self, z: Tensor) -> Tensor:
        """What the decoder computes for codes ``(..., k)``, in float32 at least: logits or images."""
        output = self.decoder(z)
        return output.to(torch.promote_types(output.dtype, torch.float32))

    def decode(self, z: Tensor) -> Tensor:
        """Images ``(..., channel, height, width)`` of codes ``(..., k)``."""
        output = self.output(z)
        return torch.sigmoid(output) if self.logits else output

    def reconstruct(self, x: Tensor) -> Tensor:
        """Images encoded and decoded again, same shape as ``x``."""
        return self.decode(self.encode(x))


def mlp_autoencoder(
    widths: Sequence[int] = (784, 256, 128, 20),
    *,
    activation: Callable[[], nn.Module] = nn.ReLU,
    activate_code: bool = False,
    dropout: float = 0.0,
    logits: bool = True,
    image_shape: Sequence[int] = (1, 28, 28),
) -> Autoencoder:
    """An autoencoder of fully connected networks; by default the one of Long & Zeng (2022), section 12.2.

    Args:
        widths: from the pixels to the code; the decoder has the same in reverse. ``(784, 20)`` is the
            linear autoencoder.
        activation: makes the module between two layers.
        activate_code: whether the code passes an activation as well; otherwise it is linear.
        dropout: probability that a hidden unit is left out of a training step, in [0, 1); call ``eval()``
            before reconstructing.
        logits: as in :class:`Autoencoder`.
        image_shape: ``(channel, height, width)``.
    """
    _check_widths(widths, image_shape)
    hidden, code = widths[1:-1], widths[-1]
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")

    def between_layers() -> nn.Module:
        return nn.Sequential(activation(), nn.Dropout(dropout)) if dropout else activation()

    encoder = mlp_encoder(image_shape, hidden, code, activation=between_layers)
    if activate_code:
        encoder.append(activation())
    decoder = mlp_decoder(code, hidden[::-1], image_shape, activation=between_layers)
    return Autoencoder(encoder, decoder, logits=logits, image_shape=image_shape)


def squared_error(autoencoder: Autoencoder, x: Tensor, target: Tensor | None = None) -> Tensor:
    r"""Squared distance of each reconstruction from its target, :math:`\sum_i (x_i - \tilde x_i)^2`.

    Args:
        autoencoder: reconstructs.
        x: what it sees, shape ``(batch, channel, height, width)``.
        target: what it should return, the same shape; ``x`` where not given.

    Returns:
        Shape ``(batch,)``. Chapter *Autoencoders*, eq. (autoencoders-objective).
    """
    target = x if target is None else target
    return (autoencoder.reconstruct(x) - target).square().flatten(1).sum(1)


def cross_entropy(autoencoder: Autoencoder, x: Tensor, target: Tensor | None = None) -> Tensor:
    """Cross-entropy of each target with its reconstruction, summed over pixels, computed from logits.

    Args:
        autoencoder: reconstructs; its decoder outputs logits.
        x: what it sees, shape ``(batch, channel, height, width)``.
        target: what it should return, the same shape, pixels in [0, 1]; ``x`` where not given.

    Returns:
        Nats, shape ``(batch,)``. Chapter *Autoencoders*, eq. (autoencoders-cross-entropy).
    """
    if not autoencoder.logits:
        raise ValueError("cross_entropy reads logits; make the autoencoder with logits=True")
    target = x if target is None else target
    return -Bernoulli(autoencoder.output(autoencoder.encode(x))).log_prob(target)


def add_gaussian_noise(x: Tensor, variance: float, *, generator: torch.Generator | None = None) -> Tensor:
    """Images with independent normal noise on every pixel; values may leave [0, 1].

    Args:
        x: images, any shape.
        variance: of the noise, 0 or more.
        generator: source of the noise; ``None`` uses torch's global one.
    """
    if not variance >= 0:
        raise ValueError(f"variance must be 0 or more, got {variance}")
    eps = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    return x + math.sqrt(variance) * eps


def mask_pixels(x: Tensor, fraction: float, *, generator: torch.Generator | None = None) -> Tensor:
    """Images of which each pixel is set to zero with probability ``fraction``.

    Args:
        x: images, any shape.
        fraction: expected share of the pixels that are lost, in [0, 1].
        generator: source of the mask; ``None`` uses torch's global one.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be in [0, 1], got {fraction}")
    return x * (torch.rand(x.shape, generator=generator, device=x.device) >= fraction)


def adversarial_step(
    autoencoder: Autoencoder,
    discriminator: nn.Module,
    prior,
    *,
    reconstruct_optimizer: Optimizer,
    discriminate_optimizer: Optimizer,
    confuse_optimizer: Optimizer,
    loss: Callable[[Autoencoder, Tensor], Tensor] = squared_error,
    generator_loss: str = "non-saturating",
    generator: torch.Generator | None = None,
    precision: str = "auto",
) -> Step:
    r"""Make a training step of the adversarial autoencoder, for ``train.fit``.

    On each batch it (1) reconstructs, (2) teaches the discriminator :math:`D` to tell codes of images
    from draws of the prior, which count as real, and (3) teaches the encoder :math:`f` to confuse it:

    .. math:: -\log D(f(x)) \;\text{(non-saturating)} \quad\text{or}\quad \log(1 - D(f(x)))
        \;\text{(minimax)}.

    Args:
        autoencoder: what is trained.
        discriminator: network from codes ``(batch, k)`` to logits ``(batch, 1)``; high means "drawn
            from the prior".
        prior: has ``sample((n,), generator=...)``, which returns ``(n, k)``.
        reconstruct_optimizer: updates encoder and decoder.
        discriminate_optimizer: updates the discriminator.
        confuse_optimizer: updates the encoder.
        loss: of the reconstruction, ``(autoencoder, x) -> (batch,)``.
        generator_loss: "non-saturating" or "minimax".
        generator: source of the draws from the prior; ``None`` uses torch's global one.
        precision: as in ``train.gradient_step``.

    Returns:
        A function from images to their "reconstruction", "discrimination" and "confusion" losses.

    Makhzani et al. (2015), section 2.
    """
    if generator_loss not in GENERATOR_LOSSES:
        raise ValueError(f"unknown generator_loss {generator_loss!r}; known: {', '.join(GENERATOR_LOSSES)}")

    def reconstruction(x):
        return {"loss": loss(autoencoder, x).mean()}

    def discrimination(x):
        with torch.no_grad():
            codes = autoencoder.encode(x)
        draws = prior.sample((len(x),), generator=generator)
        of_draws, of_codes = discriminator(draws).float(), discriminator(codes).float()
        return {"loss": softplus(-of_draws).mean() + softplus(of_codes).mean()}

    def confusion(x):
        of_codes = discriminator(autoencoder.encode(x)).float()
        if generator_loss == "minimax":
            return {"loss": -softplus(of_codes).mean()}
        return {"loss": softplus(-of_codes).mean()}

    phases = {
        "reconstruction": gradient_step(reconstruction, reconstruct_optimizer, precision=precision),
        "discrimination": gradient_step(discrimination, discriminate_optimizer, precision=precision),
        "confusion": gradient_step(confusion, confuse_optimizer, precision=precision),
    }
    return lambda x: {name: phase(x)["loss"] for name, phase in phases.items()}


class LogisticPCA:
    r"""Principal component analysis for Bernoulli pixels: a low-rank matrix of logits.

    .. math:: p(x_{ni} = 1) = \mathrm{sigmoid}\Big(b_i + \sum_j z_{nj} W_{ji}\Big)

    Maximum likelihood over mean :math:`b`, components :math:`W` and a free code :math:`z_n` for each
    image. Where a pixel can be fitted exactly the logits grow without end, so that ``steps`` stops early
    what would not converge.

    Args:
        components: dimensions of the code, at least 1.
        steps: iterations of L-BFGS, for fitting and for each set of new codes.
        generator: source of the first components; ``None`` uses torch's global one.

    Attributes:
        mean: logits ``(pixels,)``, after ``fit``.
        components: ``(components, pixels)``, after ``fit``.

    Schein et al. (2003); Collins et al. (2001).
    """

    def __init__(self, components: int, *, steps: int = 100, generator: torch.Generator | None = None):
        require_positive(components=components, steps=steps)
        self.count = components
        self.steps = steps
        self.generator = generator

    def fit(self, x: Tensor) -> "LogisticPCA":
        """Find mean and components for images ``(n, pixels)`` with values in [0, 1]."""
        _require_pixels(x)
        if self.count > x.shape[1]:
            raise ValueError(
                f"components must be at most the number of pixels, {x.shape[1]}; got {self.count}"
            )
        self.mean = torch.logit(x.mean(0), eps=1e-3)
        self.components = torch.randn(self.count, x.shape[1], generator=self.generator) / x.shape[1] ** 0.5
        codes = x.new_zeros(len(x), self.count)
        self._maximise_likelihood(x, codes, [codes, self.components, self.mean])
        return self

    def transform(self, x: Tensor) -> Tensor:
        """The likeliest codes ``(n, components)`` of images ``(n, pixels)``; mean and components stay."""
        _require_pixels(x)
        codes = x.new_zeros(len(x), self.count)
        self._maximise_likelihood(x, codes, [codes])
        return codes

    def reconstruct(self, x: Tensor) -> Tensor:
        """Probabilities ``(n, pixels)`` of the pixels, from the likeliest codes of ``x``."""
        return torch.sigmoid(self._logits(self.transform(x)))

    def _logits(self, codes: Tensor) -> Tensor:
        return self.mean + codes @ self.components

    def _maximise_likelihood(self, x: Tensor, codes: Tensor, parameters: list[Tensor]) -> None:
        """Move ``parameters``, among them ``codes``, in place."""
        for parameter in parameters:
            parameter.requires_grad_()
        optimizer = LBFGS(parameters, max_iter=self.steps, history_size=10, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = -Bernoulli(self._logits(codes), event_dim=1).log_prob(x).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        for parameter in parameters:
            parameter.requires_grad_(False)


def _check_widths(widths: Sequence[int], image_shape: Sequence[int]) -> None:
    if len(widths) < 2 or any(width < 1 for width in widths):
        raise ValueError(
            f"widths needs two or more positive numbers, from pixels to code; got {tuple(widths)}"
        )
    if widths[0] != math.prod(image_shape):
        raise ValueError(
            f"widths must start with the {math.prod(image_shape)} pixels of an image of shape "
            f"{tuple(image_shape)}, got {widths[0]}"
        )
    if widths[-1] > widths[0]:
        raise ValueError(f"the code must not be larger than the image: got {widths[-1]} > {widths[0]}")


def _require_finite(x: Tensor) -> None:
    if not torch.isfinite(x.sum()):
        raise ValueError(f"images must have finite pixels; {int((~torch.isfinite(x)).sum())} are not")


def _require_pixels(x: Tensor) -> None:
    _require_finite(x)
    if x.dim() != 2 or x.min() < 0 or x.max() > 1:
        raise ValueError(
            f"x must be images (n, pixels) with values in [0, 1]; "
            f"got shape {tuple(x.shape)}, from {x.min():g} to {x.max():g}"
        )
