"""The peer: the fully connected VAE in JAX, with a whole epoch as one compiled program.

XLA sees everything from the permutation to Adam and is free to fuse it. The arithmetic is float32.
"""

import itertools
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LEARNING_RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8


def make(contestant, seed: int, folder: Path):
    """The loop of a contestant, seeded; ``folder`` holds the files of MNIST."""
    return Jax(contestant, seed, folder)


def read_images(file: Path) -> jax.Array:
    """Bytes of shape (images, pixels)."""
    return jnp.asarray(np.frombuffer(file.read_bytes(), np.uint8, offset=16).reshape(-1, 784))


def initial_mlp(key: jax.Array, *widths: int) -> list[tuple[jax.Array, jax.Array]]:
    """Weights and biases of each layer, as PyTorch draws them."""
    layers = []
    for inputs, outputs in itertools.pairwise(widths):
        key, weights, biases = jax.random.split(key, 3)
        draw = partial(jax.random.uniform, minval=-(inputs**-0.5), maxval=inputs**-0.5)
        layers.append((draw(weights, (inputs, outputs)), draw(biases, (outputs,))))
    return layers


def mlp(layers: list[tuple[jax.Array, jax.Array]], x: jax.Array) -> jax.Array:
    """Linear layers with rectified linear units between them."""
    *hidden, (weight, bias) = layers
    for w, b in hidden:
        x = jax.nn.relu(x @ w + b)
    return x @ weight + bias


def negative_bound(networks: dict, x: jax.Array, key: jax.Array) -> jax.Array:
    """Nats, the mean over the images ``x`` (batch, pixels)."""
    mu, logvar = jnp.split(mlp(networks["encoder"], x), 2, axis=-1)
    z = mu + jnp.exp(0.5 * logvar) * jax.random.normal(key, mu.shape)
    logits = mlp(networks["decoder"], z)
    reconstruction = jnp.sum(jax.nn.softplus(logits) - x * logits)
    divergence = 0.5 * jnp.sum(mu**2 + jnp.exp(logvar) - logvar - 1)
    return (reconstruction + divergence) / len(x)


def adam(state: dict, gradient: dict) -> dict:
    """The next state: networks, moments and count of steps."""
    count = state["count"] + 1
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, state["m"], gradient)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g**2, state["v"], gradient)
    rate, scale = LEARNING_RATE / (1 - BETA1**count), 1 / (1 - BETA2**count)
    networks = jax.tree.map(
        lambda w, m, v: w - rate * m / (jnp.sqrt(scale * v) + EPSILON), state["networks"], m, v
    )
    return {"networks": networks, "m": m, "v": v, "count": count}


@partial(jax.jit, static_argnames="batch_size", donate_argnames="state")
def train_epoch(state: dict, images: jax.Array, key: jax.Array, batch_size: int) -> tuple[dict, jax.Array]:
    """One pass over the images in a random order, and the mean loss."""

    def step(state: dict, batch: tuple[jax.Array, jax.Array]) -> tuple[dict, jax.Array]:
        rows, key = batch
        x = images[rows].astype(jnp.float32) / 255
        loss, gradient = jax.value_and_grad(negative_bound)(state["networks"], x, key)
        return adam(state, gradient), loss * len(rows)

    order_key, noise_key = jax.random.split(key)
    order = jax.random.permutation(order_key, len(images))
    whole, rest = divmod(len(images), batch_size)
    keys = jax.random.split(noise_key, whole + 1)
    rows = order[: whole * batch_size].reshape(whole, batch_size)
    state, losses = lax.scan(step, state, (rows, keys[:whole]))
    total = losses.sum()
    if rest:
        state, loss = step(state, (order[-rest:], keys[-1]))
        total += loss
    return state, total / len(images)


class Jax:
    """One epoch at a time."""

    def __init__(self, contestant, seed: int, folder: Path):
        self.images = read_images(folder / "train-images-idx3-ubyte")[: contestant.images]
        self.test_images = folder / "t10k-images-idx3-ubyte"
        self.batch_size = contestant.batch_size
        self.key, encoder, decoder = jax.random.split(jax.random.key(seed), 3)
        hidden, k = contestant.hidden, contestant.latent_dim
        networks = {
            "encoder": initial_mlp(encoder, 784, *hidden, 2 * k),
            "decoder": initial_mlp(decoder, k, *reversed(hidden), 784),
        }
        zeros = partial(jax.tree.map, jnp.zeros_like)
        self.state = {
            "networks": networks,
            "m": zeros(networks),
            "v": zeros(networks),
            "count": jnp.zeros(()),
        }

    def epoch(self) -> None:
        self.key, key = jax.random.split(self.key)
        self.state, loss = train_epoch(self.state, self.images, key, self.batch_size)
        loss.block_until_ready()

    def test_loss(self) -> float:
        x = read_images(self.test_images).astype(jnp.float32) / 255
        return float(negative_bound(self.state["networks"], x, self.key))
