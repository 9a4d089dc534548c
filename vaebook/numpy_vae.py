r"""A whole variational autoencoder by hand: forward, backward and gradient descent, in NumPy alone.

One hidden layer of rectified linear units stands on either side of the code:

.. math:: x \to h \to (\mu, \log\sigma^2), \qquad z = \mu + \sigma \odot \epsilon, \qquad z \to g \to a

Here :math:`a` are the logits of Bernoulli pixels. Nothing differentiates by itself: :meth:`VAE.backward`
is the chain rule, and each of its lines is an equation of the chapter *A variational autoencoder by hand*.
A variable ``d_name`` is the derivative of the loss with respect to ``name``.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from vaebook.arguments import require_positive

__all__ = ["VAE", "Layers", "Linear", "Pass", "random_layer", "sigma_from", "sigmoid", "softplus"]


class Linear(NamedTuple):
    """An affine map of row vectors; also the gradient of a loss with respect to one.

    Attributes:
        weight: shape ``(inputs, outputs)``.
        bias: shape ``(outputs,)``.
    """

    weight: Array
    bias: Array

    def __call__(self, h: Array) -> Array:
        """Rows ``(batch, inputs)`` to rows ``(batch, outputs)``."""
        return h @ self.weight + self.bias

    def backward(self, h: Array, d_output: Array) -> tuple["Linear", Array]:
        """From the derivative at the output of this map to those at its parameters and at its input.

        Args:
            h: what the map was applied to, shape ``(batch, inputs)``.
            d_output: derivative of the loss with respect to what came out, shape ``(batch, outputs)``.

        Returns:
            The gradients of weight and bias, and the derivative with respect to ``h``.

        Chapter *A variational autoencoder by hand*, eq. (vae-numpy-layer).
        """
        return Linear(h.T @ d_output, d_output.sum(0)), d_output @ self.weight.T


class Layers(NamedTuple):
    """The five affine maps, each by the name of what it computes; also the gradient of all of them."""

    h: Linear
    mu: Linear
    logvar: Linear
    g: Linear
    logits: Linear


class Pass(NamedTuple):
    """What a forward pass has computed, and all that the backward pass needs.

    Attributes:
        x: images, shape ``(batch, pixels)``.
        eps: noise, shape ``(batch, latent_dim)``.
        h, g: hidden units of encoder and decoder, shape ``(batch, hidden)``.
        mu, logvar: parameters of q(z|x), shape ``(batch, latent_dim)``.
        z: the code that was drawn, shape ``(batch, latent_dim)``.
        logits: log odds of the pixels, shape ``(batch, pixels)``.
    """

    x: Array
    eps: Array
    h: Array
    mu: Array
    logvar: Array
    z: Array
    g: Array
    logits: Array

    @property
    def reconstruction(self) -> Array:
        r""":math:`-\log p(x|z)` in nats, shape ``(batch,)``: the cross-entropy, summed over pixels."""
        return (softplus(self.logits) - self.x * self.logits).sum(-1)

    @property
    def kl(self) -> Array:
        r""":math:`D[q(z|x) \,\|\, p(z)]` in nats, shape ``(batch,)``; eq. (kl-standard)."""
        return 0.5 * (self.mu**2 + np.exp(self.logvar) - self.logvar - 1).sum(-1)

    @property
    def loss(self) -> float:
        """Mean over the batch of the two terms together: the negative bound, eq. (vae-loss)."""
        return (self.reconstruction + self.kl).mean()


class VAE:
    """Variational autoencoder with Bernoulli pixels, trained by gradient descent.

    Args:
        pixels: numbers in an image, at least 1.
        hidden: units in the hidden layer of encoder and decoder, at least 1.
        latent_dim: dimensions of the code, at least 1.
        generator: source of the first weights.
        dtype: precision of all that is computed, float64 or float32.

    Attributes:
        layers: the weights; :meth:`descend` changes them in place.

    The defaults are the network of Ryu for the 8x8 digits.
    """

    def __init__(
        self,
        pixels: int = 64,
        hidden: int = 16,
        latent_dim: int = 2,
        *,
        generator: np.random.Generator,
        dtype: type = np.float64,
    ):
        require_positive(pixels=pixels, hidden=hidden, latent_dim=latent_dim)
        if dtype not in (np.float64, np.float32):
            raise ValueError(f"dtype must be float64 or float32, got {dtype!r}")
        self.pixels, self.latent_dim, self.dtype = pixels, latent_dim, dtype
        options = {"generator": generator, "dtype": dtype}
        self.layers = Layers(
            h=random_layer(pixels, hidden, gain=2, **options),
            mu=random_layer(hidden, latent_dim, gain=1, **options),
            logvar=random_layer(hidden, latent_dim, gain=1, **options),
            g=random_layer(latent_dim, hidden, gain=2, **options),
            logits=random_layer(hidden, pixels, gain=1, **options),
        )

    def encode(self, x: Array) -> tuple[Array, Array]:
        """Means and log variances of q(z|x), each ``(batch, latent_dim)``, for images ``(batch, pixels)``."""
        _, mu, logvar = self._encode(self._rows("x", x, self.pixels))
        return mu, logvar

    def decode(self, z: Array) -> Array:
        """Probabilities of the pixels, shape ``(batch, pixels)``, for codes ``(batch, latent_dim)``."""
        _, logits = self._decode(self._rows("z", z, self.latent_dim))
        return sigmoid(logits)

    def noise(self, batch: int, generator: np.random.Generator) -> Array:
        """Draws from N(0, I) for the codes of a batch, shape ``(batch, latent_dim)``."""
        return _checked(generator).standard_normal((batch, self.latent_dim), dtype=self.dtype)

    def forward(self, x: Array, eps: Array) -> Pass:
        """From images and noise to logits.

        Args:
            x: images, shape ``(batch, pixels)``. That they lie in [0, 1] is not asked here but in
                :meth:`fit`: the chapter shows what happens to those that do not.
            eps: noise, shape ``(batch, latent_dim)``, as :meth:`noise` draws it.

        Raises:
            ValueError: a shape is wrong, or a value is not finite.

        Chapter *A variational autoencoder by hand*, eq. (vae-numpy-forward).
        """
        x, eps = self._rows("x", x, self.pixels), self._rows("eps", eps, self.latent_dim)
        if len(x) != len(eps):
            raise ValueError(f"eps must have a row for each of the {len(x)} images, got {len(eps)}")
        h, mu, logvar = self._encode(x)
        z = mu + sigma_from(logvar) * eps
        g, logits = self._decode(z)
        return Pass(x, eps, h, mu, logvar, z, g, logits)

    def backward(self, p: Pass) -> Layers:
        """The gradient of ``p.loss`` with respect to every weight and bias.

        Chapter *A variational autoencoder by hand*, eq. (vae-numpy-logits) to (vae-numpy-encoder).
        """
        batch = len(p.x)
        d_logits = (sigmoid(p.logits) - p.x) / batch
        grad_logits, d_g = self.layers.logits.backward(p.g, d_logits)
        grad_g, d_z = self.layers.g.backward(p.z, d_g * (p.g > 0))
        d_mu = d_z + p.mu / batch
        d_logvar = 0.5 * (d_z * sigma_from(p.logvar) * p.eps + (np.exp(p.logvar) - 1) / batch)
        grad_mu, d_h_by_mu = self.layers.mu.backward(p.h, d_mu)
        grad_logvar, d_h_by_logvar = self.layers.logvar.backward(p.h, d_logvar)
        grad_h, _ = self.layers.h.backward(p.x, (d_h_by_mu + d_h_by_logvar) * (p.h > 0))
        return Layers(grad_h, grad_mu, grad_logvar, grad_g, grad_logits)

    def descend(self, gradient: Layers, learning_rate: float) -> None:
        """Take one step against the gradient, in place.

        Args:
            gradient: of the loss, as :meth:`backward` returns it.
            learning_rate: step size, positive.

        Chapter *A variational autoencoder by hand*, eq. (vae-numpy-descent).
        """
        if not 0 < learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive and finite, got {learning_rate!r}")
        for layer, slopes in zip(self.layers, gradient, strict=True):
            for parameter, slope in zip(layer, slopes, strict=True):
                parameter -= learning_rate * slope

    def fit(
        self,
        x: Array,
        epochs: int,
        *,
        generator: np.random.Generator,
        batch_size: int = 32,
        learning_rate: float = 0.032,
        validation: Array | None = None,
    ) -> list[dict[str, float]]:
        """Train by stochastic gradient descent.

        Args:
            x: training images, shape ``(n, pixels)``, values in [0, 1].
            epochs: passes over them, at least 1, each in another order.
            generator: source of the orders and of the noise.
            batch_size: images a step, at least 1; the last batch of an epoch has what is left.
            learning_rate: step size along the gradient of the *mean* over a batch, positive.
            validation: images like ``x`` on which the loss is measured after each epoch.

        Returns:
            One row an epoch: loss, reconstruction and kl in nats an image, means over the epoch
            while the weights moved; with validation images the same after it, each name behind
            "validation".

        Raises:
            ValueError: an argument is out of its range; says which, and what is accepted.
            FloatingPointError: the loss was not finite; says in which epoch and what to try.
        """
        require_positive(epochs=epochs, batch_size=batch_size)
        x = self._images("x", x)
        validation = None if validation is None else self._images("validation", validation)
        history = []
        with np.errstate(over="ignore", invalid="ignore"):  # a divergence is told in words, below
            for epoch in range(1, epochs + 1):
                order = _checked(generator).permutation(len(x))
                passes = []
                for rows in np.split(order, range(batch_size, len(x), batch_size)):
                    passes.append(self.forward(x[rows], self.noise(len(rows), generator)))
                    self.descend(self.backward(passes[-1]), learning_rate)
                row = _means(passes)
                if not math.isfinite(row["loss"]):
                    raise FloatingPointError(
                        f"training diverged in epoch {epoch}: loss {row['loss']}; "
                        f"try a smaller learning rate than {learning_rate:g}"
                    )
                if validation is not None:
                    after = _means([self.forward(validation, self.noise(len(validation), generator))])
                    row |= {f"validation {name}": value for name, value in after.items()}
                history.append(row)
        return history

    def _encode(self, x: Array) -> tuple[Array, Array, Array]:
        h = np.maximum(self.layers.h(x), 0)
        return h, self.layers.mu(h), self.layers.logvar(h)

    def _decode(self, z: Array) -> tuple[Array, Array]:
        g = np.maximum(self.layers.g(z), 0)
        return g, self.layers.logits(g)

    def _rows(self, name: str, array: Array, width: int) -> Array:
        """The array in this model's precision, or an error where it is no batch of finite rows."""
        array = np.asarray(array, self.dtype)
        if array.ndim != 2 or array.shape[1] != width or not len(array):
            raise ValueError(
                f"{name} must have the shape (batch, {width}) and a row or more, got {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite, got {np.sum(~np.isfinite(array))} values that are not")
        return array

    def _images(self, name: str, x: Array) -> Array:
        x = self._rows(name, x, self.pixels)
        if x.min() < 0 or x.max() > 1:
            raise ValueError(
                f"{name} must lie in [0, 1], got values from {x.min():g} to {x.max():g}; "
                "divide by the largest value that a pixel can take, 16 for the 8x8 digits"
            )
        return x


def random_layer(
    inputs: int, outputs: int, *, gain: float, generator: np.random.Generator, dtype: type = np.float64
) -> Linear:
    """An affine map with normal weights of variance ``gain / inputs``, and without bias.

    Args:
        inputs, outputs: widths.
        gain: 2 for a layer that rectified linear units follow, which halve the mean square of what they
            get; 1 for a layer that nothing follows.
        generator: source of the weights.
        dtype: float64 or float32.

    He et al. (2015); chapter *A variational autoencoder by hand*, eq. (vae-numpy-he).
    """
    weight = _checked(generator).normal(0, math.sqrt(gain / inputs), (inputs, outputs))
    return Linear(weight.astype(dtype), np.zeros(outputs, dtype))


def sigma_from(logvar: Array) -> Array:
    r"""Standard deviation :math:`\sigma = e^{\frac12 \log\sigma^2}`."""
    return np.exp(0.5 * logvar)


def sigmoid(a: Array) -> Array:
    r""":math:`1 / (1 + e^{-a})`, written as a hyperbolic tangent, which overflows nowhere."""
    return 0.5 * (1 + np.tanh(0.5 * a))


def softplus(a: Array) -> Array:
    r""":math:`\log(1 + e^a) = \max(a, 0) + \log(1 + e^{-|a|})`; the second form overflows nowhere."""
    return np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a)))


def _means(passes: list[Pass]) -> dict[str, float]:
    """The terms of the loss, each image weighing the same."""
    reconstruction = np.concatenate([p.reconstruction for p in passes]).mean()
    kl = np.concatenate([p.kl for p in passes]).mean()
    return {"loss": float(reconstruction + kl), "reconstruction": float(reconstruction), "kl": float(kl)}


def _checked(generator: np.random.Generator) -> np.random.Generator:
    if not isinstance(generator, np.random.Generator):
        raise TypeError(f"generator must be a NumPy one, np.random.default_rng(seed), got {generator!r}")
    return generator
