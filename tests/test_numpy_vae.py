"""The VAE by hand against autograd, finite differences and the library's own model."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from vaebook import objectives, vae
from vaebook.distributions import kl_standard_normal
from vaebook.numpy_vae import VAE, Pass, random_layer, sigmoid

SIZES = {"pixels": 6, "hidden": 5, "latent_dim": 3}


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def model(generator) -> VAE:
    return randomised(VAE(**SIZES, generator=generator), generator)


def randomised(model: VAE, generator: np.random.Generator) -> VAE:
    """The model with biases that are not zero, as after training."""
    for layer in model.layers:
        layer.bias[:] = generator.normal(0, 0.3, layer.bias.shape)
    return model


def batch(generator: np.random.Generator, size: int = 4) -> tuple[np.ndarray, np.ndarray]:
    return generator.random((size, SIZES["pixels"])), generator.standard_normal((size, SIZES["latent_dim"]))


def flat(layers) -> np.ndarray:
    return np.concatenate([parameter.ravel() for layer in layers for parameter in layer])


def twin_of(model: VAE, hidden: int) -> vae.VAE:
    """The library's model with the same weights; its encoder has one layer for both heads."""
    twin = vae.mlp_vae(model.latent_dim, (hidden,), (1, 1, model.pixels)).double()
    heads = [
        np.concatenate([m, s], axis=-1) for m, s in zip(model.layers.mu, model.layers.logvar, strict=True)
    ]
    layers = [model.layers.h, heads, model.layers.g, model.layers.logits]
    linear = [module for module in twin.modules() if isinstance(module, torch.nn.Linear)]
    with torch.no_grad():
        for module, (weight, bias) in zip(linear, layers, strict=True):
            module.weight.copy_(torch.from_numpy(weight.T))
            module.bias.copy_(torch.from_numpy(bias))
    return twin


def test_terms_of_the_loss_are_those_of_the_library(model, generator):
    p = model.forward(*batch(generator))
    logits, x = torch.from_numpy(p.logits), torch.from_numpy(p.x)
    cross_entropy = binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
    np.testing.assert_allclose(p.reconstruction, cross_entropy, atol=1e-12)
    kl = kl_standard_normal(torch.from_numpy(p.mu), torch.from_numpy(p.logvar))
    np.testing.assert_allclose(p.kl, kl, atol=1e-12)
    np.testing.assert_allclose(p.loss, (cross_entropy + kl).mean(), atol=1e-12)


def test_the_loss_is_the_negative_bound_of_the_library(model, generator):
    x, _ = batch(generator)
    eps = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    images = torch.from_numpy(x).view(4, 1, 1, 6)
    bound = objectives.elbo(twin_of(model, hidden=5), images, generator=torch.Generator().manual_seed(1))
    assert model.forward(x, eps.numpy()).loss == pytest.approx(-bound.mean().item(), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [1, 7])
def test_every_gradient_agrees_with_autograd(seed, size):
    generator = np.random.default_rng(seed)
    model = randomised(VAE(**SIZES, generator=generator), generator)
    x, eps = batch(generator, size)
    w = [torch.tensor(parameter, requires_grad=True) for layer in model.layers for parameter in layer]
    h = torch.relu(torch.from_numpy(x) @ w[0] + w[1])
    mu, logvar = h @ w[2] + w[3], h @ w[4] + w[5]
    z = mu + torch.exp(logvar / 2) * torch.from_numpy(eps)
    logits = torch.relu(z @ w[6] + w[7]) @ w[8] + w[9]
    cross_entropy = binary_cross_entropy_with_logits(logits, torch.from_numpy(x), reduction="sum")
    loss = (cross_entropy + kl_standard_normal(mu, logvar).sum()) / size
    expected = np.concatenate([g.numpy().ravel() for g in torch.autograd.grad(loss, w)])
    np.testing.assert_allclose(flat(model.backward(model.forward(x, eps))), expected, rtol=0, atol=1e-12)


def test_every_gradient_agrees_with_finite_differences(model, generator):
    x, eps = batch(generator)
    gradient = model.backward(model.forward(x, eps))
    step = 1e-6
    for layer, slopes in zip(model.layers, gradient, strict=True):
        for parameter, slope in zip(layer, slopes, strict=True):
            for index in np.ndindex(parameter.shape):
                kept = parameter[index]
                losses = []
                for moved in (kept + step, kept - step):
                    parameter[index] = moved
                    losses.append(model.forward(x, eps).loss)
                parameter[index] = kept
                assert slope[index] == pytest.approx((losses[0] - losses[1]) / (2 * step), abs=1e-7)


def test_a_step_subtracts_the_gradient_times_the_learning_rate(model, generator):
    gradient = model.backward(model.forward(*batch(generator)))
    before = flat(model.layers)
    model.descend(gradient, learning_rate=0.25)
    np.testing.assert_array_equal(flat(model.layers), before - 0.25 * flat(gradient))


def test_training_walks_the_path_of_the_library_in_pytorch(generator):
    model = VAE(**SIZES, generator=generator)
    twin = twin_of(model, hidden=5)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    noise = torch.Generator().manual_seed(2)
    for _ in range(20):
        x, _ = batch(generator)
        eps = torch.randn(4, 3, generator=torch.Generator().set_state(noise.get_state()), dtype=torch.float64)
        loss = -objectives.elbo(twin, torch.from_numpy(x).view(4, 1, 1, 6), generator=noise).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.descend(model.backward(model.forward(x, eps.numpy())), 0.1)
    expected = twin_of(model, hidden=5).state_dict()
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-12)


def test_encode_and_decode_are_the_halves_of_the_forward_pass(model, generator):
    p = model.forward(*batch(generator))
    mu, logvar = model.encode(p.x)
    np.testing.assert_array_equal(mu, p.mu)
    np.testing.assert_array_equal(logvar, p.logvar)
    np.testing.assert_allclose(model.decode(p.z), 1 / (1 + np.exp(-p.logits)))


def test_a_weight_has_the_variance_gain_over_inputs(generator):
    layer = random_layer(50, 4000, gain=2, generator=generator)
    squares = layer.weight**2
    assert abs(squares.mean() - 2 / 50) < 5 * squares.std() / squares.size**0.5
    assert not layer.bias.any()


def test_layers_before_rectified_units_get_the_gain_of_he_and_the_others_one(generator):
    model = VAE(pixels=400, hidden=300, latent_dim=200, generator=generator)
    gains = [layer.weight.var() * len(layer.weight) for layer in model.layers]
    np.testing.assert_allclose(gains, [2, 1, 1, 2, 1], rtol=0.05)


def test_extreme_logits_neither_overflow_nor_lose_the_loss():
    logits = np.array([[-1e4, -1e4, 1e4, 1e4]])
    zeros = np.zeros((1, 1))
    with np.errstate(all="raise", under="ignore"):
        p = Pass(np.array([[0.0, 1, 1, 0]]), zeros, zeros, zeros, zeros, zeros, zeros, logits)
        assert p.reconstruction == pytest.approx([2e4])
        np.testing.assert_array_equal(sigmoid(logits), [[0, 0, 1, 1]])


class TestFit:
    def test_training_lowers_the_loss_on_images_that_it_has_not_seen(self, generator):
        patterns = (generator.random((3, 6)) > 0.5).astype(float)
        x = patterns[generator.integers(0, 3, 300)]
        model = VAE(**SIZES, generator=generator)
        history = model.fit(x[:200], 40, generator=generator, learning_rate=0.1, validation=x[200:])
        assert history[-1]["loss"] < history[0]["loss"] - 1
        assert history[-1]["validation loss"] < history[0]["validation loss"] - 1

    def test_history_has_a_row_an_epoch_with_both_terms(self, model, generator):
        x, _ = batch(generator, 10)
        history = model.fit(x, 3, generator=generator, validation=x)
        names = ["loss", "reconstruction", "kl"]
        assert len(history) == 3
        assert list(history[0]) == names + [f"validation {name}" for name in names]
        for row, prefix in itertools.product(history, ("", "validation ")):
            total = row[f"{prefix}reconstruction"] + row[f"{prefix}kl"]
            assert row[f"{prefix}loss"] == pytest.approx(total)
        assert list(model.fit(x, 1, generator=generator)[0]) == names

    def test_every_image_comes_once_an_epoch_in_another_order_also_in_a_short_last_batch(
        self, model, generator, monkeypatch
    ):
        x, _ = batch(generator, 7)
        seen = []
        forward = model.forward
        monkeypatch.setattr(model, "forward", lambda x, eps: seen.append(x) or forward(x, eps))
        model.fit(x, 2, generator=generator, batch_size=3)
        assert [len(rows) for rows in seen] == [3, 3, 1] * 2
        first, second = np.concatenate(seen[:3]), np.concatenate(seen[3:])
        assert not np.array_equal(first, second)
        for epoch in (first, second):
            np.testing.assert_array_equal(np.sort(epoch, axis=0), np.sort(x, axis=0))

    def test_the_same_seed_gives_the_same_weights_and_another_seed_others(self):
        x = np.random.default_rng(9).random((50, 6))

        def trained(seed):
            generator = np.random.default_rng(seed)
            model = VAE(**SIZES, generator=generator)
            model.fit(x, 3, generator=generator)
            return flat(model.layers)

        np.testing.assert_array_equal(trained(1), trained(1))
        assert not np.allclose(trained(1), trained(2))

    def test_float32_stays_float32(self, generator):
        model = VAE(**SIZES, generator=generator, dtype=np.float32)
        x = generator.random((20, 6))
        model.fit(x, 2, generator=generator)
        p = model.forward(x, model.noise(20, generator))
        assert {array.dtype for array in (*p, flat(model.layers), p.loss)} == {np.dtype(np.float32)}

    def test_divergence_is_told_in_words(self, model, generator):
        with pytest.raises(FloatingPointError, match=r"diverged in epoch \d+: .*rate than 1e\+06"):
            model.fit(batch(generator, 40)[0], 50, generator=generator, learning_rate=1e6)

    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (np.full((3, 6), np.nan), "x must be finite, got 18 values that are not"),
            (np.full((3, 6), 16 / 15), r"x must lie in \[0, 1\], got values from 1.06667 to 1.06667; divide"),
            (np.full((3, 6), -0.5), r"x must lie in \[0, 1\], got values from -0.5 to -0.5; divide"),
            (np.zeros((3, 5)), r"x must have the shape \(batch, 6\) and a row or more, got \(3, 5\)"),
            (np.zeros(6), r"x must have the shape \(batch, 6\) and a row or more, got \(6,\)"),
            (np.zeros((0, 6)), r"x must have the shape \(batch, 6\) and a row or more, got \(0, 6\)"),
        ],
    )
    def test_images_must_be_rows_of_pixels_in_the_unit_interval(self, model, generator, x, message):
        with pytest.raises(ValueError, match=message):
            model.fit(x, 1, generator=generator)
        with pytest.raises(ValueError, match=message.replace("x must", "validation must", 1)):
            model.fit(np.zeros((3, 6)), 1, generator=generator, validation=x)

    @pytest.mark.parametrize("rate", [0, -0.1, np.nan, np.inf])
    def test_the_learning_rate_must_be_positive(self, model, generator, rate):
        with pytest.raises(ValueError, match="learning_rate must be positive and finite, got"):
            model.fit(np.zeros((3, 6)), 1, generator=generator, learning_rate=rate)

    @pytest.mark.parametrize("name", ["epochs", "batch_size"])
    def test_counts_must_be_positive_integers(self, model, generator, name):
        with pytest.raises(ValueError, match=f"{name} must be a positive integer, got 0"):
            model.fit(np.zeros((3, 6)), **{"epochs": 1, name: 0}, generator=generator)


@pytest.mark.parametrize("name", ["pixels", "hidden", "latent_dim"])
@pytest.mark.parametrize("value", [0, -1, 2.0])
def test_sizes_must_be_positive_integers(generator, name, value):
    with pytest.raises(ValueError, match=f"{name} must be a positive integer, got {value}"):
        VAE(**SIZES | {name: value}, generator=generator)


def test_precision_must_be_one_that_training_survives(generator):
    with pytest.raises(ValueError, match="dtype must be float64 or float32, got <class 'int'>"):
        VAE(generator=generator, dtype=int)


def test_randomness_must_be_an_explicit_generator(model):
    with pytest.raises(TypeError, match=r"np.random.default_rng\(seed\), got 3"):
        VAE(generator=3)
    with pytest.raises(TypeError, match=r"np.random.default_rng\(seed\), got None"):
        model.fit(np.zeros((3, 6)), 1, generator=None)


def test_the_forward_pass_refuses_noise_that_does_not_fit_and_codes_that_are_infinite(model):
    with pytest.raises(ValueError, match="eps must have a row for each of the 2 images, got 3"):
        model.forward(np.zeros((2, 6)), np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"eps must have the shape \(batch, 3\)"):
        model.forward(np.zeros((2, 6)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="z must be finite, got 3 values that are not"):
        model.decode(np.full((1, 3), np.inf))
