import functools

import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from vaebook import autoencoders, data, train
from vaebook.distributions import standard_normal

SHAPE = (1, 4, 4)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model() -> autoencoders.Autoencoder:
    torch.manual_seed(0)
    return autoencoders.mlp_autoencoder((16, 8, 3), image_shape=SHAPE)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(5, *SHAPE, generator=generator())


def layers(network: nn.Module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in network.modules() if isinstance(m, nn.Linear)]


def test_the_default_is_the_network_of_the_source():
    model = autoencoders.mlp_autoencoder()
    assert layers(model.encoder) == [(784, 256), (256, 128), (128, 20)]
    assert layers(model.decoder) == [(20, 128), (128, 256), (256, 784)]
    assert sum(isinstance(m, nn.ReLU) for m in model.modules()) == 4


def test_shapes_of_codes_and_images(model, x):
    assert model.encode(x).shape == (5, 3)
    assert model.decode(torch.randn(2, 5, 3)).shape == (2, 5, *SHAPE)
    assert model.reconstruct(x).shape == x.shape


def test_the_output_is_logits_or_the_image(model, x):
    z = model.encode(x)
    torch.testing.assert_close(model.decode(z), torch.sigmoid(model.output(z)))
    linear = autoencoders.mlp_autoencoder((16, 3), logits=False, image_shape=SHAPE)
    assert torch.equal(linear.decode(z), linear.output(z))


def test_two_widths_make_a_linear_autoencoder(x):
    model = autoencoders.mlp_autoencoder((16, 3), logits=False, image_shape=SHAPE)
    assert layers(model) == [(16, 3), (3, 16)]
    y, halfway = torch.rand_like(x), 0.5
    torch.testing.assert_close(
        model.reconstruct(halfway * (x + y)), halfway * (model.reconstruct(x) + model.reconstruct(y))
    )


def test_the_code_is_linear_unless_asked_for():
    leaky = functools.partial(nn.LeakyReLU, 0.1)
    x = torch.rand(200, *SHAPE, generator=generator())
    torch.manual_seed(0)
    plain = autoencoders.mlp_autoencoder((16, 8, 3), activation=leaky, image_shape=SHAPE)
    torch.manual_seed(0)
    activated = autoencoders.mlp_autoencoder(
        (16, 8, 3), activation=leaky, activate_code=True, image_shape=SHAPE
    )
    torch.testing.assert_close(activated.encode(x), nn.functional.leaky_relu(plain.encode(x), 0.1))
    assert not torch.equal(activated.encode(x), plain.encode(x))


def test_dropout_is_random_in_training_only(x):
    model = autoencoders.mlp_autoencoder((16, 8, 3), dropout=0.5, image_shape=SHAPE)
    assert not torch.equal(model.reconstruct(x), model.reconstruct(x))
    model.eval()
    assert torch.equal(model.reconstruct(x), model.reconstruct(x))


def test_the_output_is_in_full_precision(model, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.output(model.encode(x)).dtype == torch.float32
    assert model.double().output(torch.zeros(1, 3, dtype=torch.float64)).dtype == torch.float64


def test_losses_are_sums_over_pixels_with_a_value_for_each_image(model, x):
    reconstruction = model.reconstruct(x)
    expected = ((x - reconstruction) ** 2).sum((1, 2, 3))
    torch.testing.assert_close(autoencoders.squared_error(model, x), expected)
    expected = nn.functional.binary_cross_entropy(reconstruction, x, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(autoencoders.cross_entropy(model, x), expected)


@pytest.mark.parametrize("loss", [autoencoders.squared_error, autoencoders.cross_entropy])
def test_losses_see_the_corrupted_image_and_aim_at_the_target(model, x, loss):
    corrupted = autoencoders.add_gaussian_noise(x, 0.5, generator=generator())
    assert torch.equal(loss(model, x, x), loss(model, x))
    difference = loss(model, corrupted, x) - loss(model, corrupted, torch.zeros_like(x))
    seen = model.output(model.encode(corrupted))
    expected = -x * seen if loss is autoencoders.cross_entropy else x**2 - 2 * x * torch.sigmoid(seen)
    torch.testing.assert_close(difference, expected.flatten(1).sum(1), atol=1e-5, rtol=1e-5)


def test_linear_autoencoder_reaches_the_error_of_pca():
    x = torch.randn(200, 6, generator=generator()) @ torch.randn(6, 16, generator=generator(1)) + 3
    images = x.view(-1, *SHAPE).double()
    torch.manual_seed(0)
    model = autoencoders.mlp_autoencoder((16, 2), logits=False, image_shape=SHAPE).double()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = autoencoders.squared_error(model, images).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    pca = PCA(2).fit(x.double())
    best = ((pca.inverse_transform(pca.transform(x.double())) - x.double().numpy()) ** 2).sum(1).mean()
    assert autoencoders.squared_error(model, images).mean().item() == pytest.approx(best, rel=1e-4)


def test_gaussian_noise_has_its_variance():
    x = torch.full((400, 500), 0.3)
    noise = autoencoders.add_gaussian_noise(x, 0.25, generator=generator()) - x
    assert noise.mean().item() == pytest.approx(0, abs=5 * 0.5 / x.numel() ** 0.5)
    assert noise.var().item() == pytest.approx(0.25, rel=5 * (2 / x.numel()) ** 0.5)
    assert torch.equal(autoencoders.add_gaussian_noise(x, 0, generator=generator()), x)


def test_masking_keeps_a_pixel_or_sets_it_to_zero():
    x = torch.rand(400, 500, generator=generator()) + 0.1
    masked = autoencoders.mask_pixels(x, 0.3, generator=generator(1))
    lost = masked == 0
    assert torch.equal(masked[~lost], x[~lost])
    assert lost.float().mean().item() == pytest.approx(0.3, abs=5 * (0.21 / x.numel()) ** 0.5)
    assert torch.equal(autoencoders.mask_pixels(x, 0.0), x)
    assert not autoencoders.mask_pixels(x, 1.0).any()


@pytest.mark.parametrize("corrupt", [autoencoders.add_gaussian_noise, autoencoders.mask_pixels])
def test_corruption_is_reproducible(x, corrupt):
    assert torch.equal(corrupt(x, 0.4, generator=generator(7)), corrupt(x, 0.4, generator=generator(7)))
    assert not torch.equal(corrupt(x, 0.4, generator=generator(7)), corrupt(x, 0.4, generator=generator(8)))


def adversary(model, generator_loss="non-saturating", rates=(1e-3, 1e-3, 1e-3)):
    torch.manual_seed(1)
    discriminator = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 1))
    step = autoencoders.adversarial_step(
        model,
        discriminator,
        standard_normal(3),
        reconstruct_optimizer=torch.optim.SGD(model.parameters(), lr=rates[0]),
        discriminate_optimizer=torch.optim.SGD(discriminator.parameters(), lr=rates[1]),
        confuse_optimizer=torch.optim.SGD(model.encoder.parameters(), lr=rates[2]),
        generator_loss=generator_loss,
        generator=generator(),
        precision="float32",
    )
    return discriminator, step


@pytest.mark.parametrize("generator_loss", ["non-saturating", "minimax"])
def test_adversarial_losses_are_those_of_the_formula(model, x, generator_loss):
    discriminator, step = adversary(model, generator_loss, rates=(0, 0, 0))
    of_codes = torch.sigmoid(discriminator(model.encode(x)))
    of_draws = torch.sigmoid(discriminator(standard_normal(3).sample((5,), generator=generator())))
    losses = step(x)
    assert set(losses) == {"reconstruction", "discrimination", "confusion"}
    torch.testing.assert_close(losses["reconstruction"], autoencoders.squared_error(model, x).mean())
    torch.testing.assert_close(
        losses["discrimination"], -(of_draws.log().mean() + (1 - of_codes).log().mean())
    )
    confusion = (1 - of_codes).log().mean() if generator_loss == "minimax" else -of_codes.log().mean()
    torch.testing.assert_close(losses["confusion"], confusion)


@pytest.mark.parametrize(
    ("rates", "moves"),
    [((0.1, 0, 0), {"encoder", "decoder"}), ((0, 0.1, 0), {"discriminator"}), ((0, 0, 0.1), {"encoder"})],
)
def test_each_phase_moves_its_own_networks(model, x, rates, moves):
    discriminator, step = adversary(model, rates=rates)
    networks = {"encoder": model.encoder, "decoder": model.decoder, "discriminator": discriminator}
    before = {name: nn.utils.parameters_to_vector(net.parameters()).clone() for name, net in networks.items()}
    step(x)
    after = {name: nn.utils.parameters_to_vector(net.parameters()) for name, net in networks.items()}
    assert {name for name in networks if not torch.equal(before[name], after[name])} == moves


@pytest.mark.parametrize("generator_loss", ["non-saturating", "minimax"])
def test_confusion_makes_codes_look_drawn_from_the_prior(model, x, generator_loss):
    discriminator, step = adversary(model, generator_loss, rates=(0, 0, 0.01))
    before = discriminator(model.encode(x)).mean()
    step(x)
    assert discriminator(model.encode(x)).mean() > before


def test_adversarial_training_moves_the_codes_towards_the_prior():
    digits = data.Split(
        torch.randint(0, 256, (512, *SHAPE), generator=generator(), dtype=torch.uint8), torch.zeros(512), 255
    )
    torch.manual_seed(0)
    model = autoencoders.mlp_autoencoder((16, 32, 3), image_shape=SHAPE)
    discriminator = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1))
    step = autoencoders.adversarial_step(
        model,
        discriminator,
        standard_normal(3),
        reconstruct_optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        discriminate_optimizer=torch.optim.Adam(discriminator.parameters(), lr=1e-3),
        confuse_optimizer=torch.optim.Adam(model.encoder.parameters(), lr=1e-3),
        generator=generator(),
    )
    far = model.encode(digits.x()).std(0).sub(1).abs().max()
    train.fit(step, data.Batches(digits, 64, generator=generator()), 60)
    assert model.encode(digits.x()).std(0).sub(1).abs().max() < far / 2


def low_rank_probabilities(count: int = 200) -> torch.Tensor:
    g = generator(3)
    logits = torch.randn(count, 2, generator=g) @ torch.randn(2, 30, generator=g) + torch.randn(
        30, generator=g
    )
    return torch.sigmoid(logits)


def test_logistic_pca_recovers_logits_of_its_rank():
    x = low_rank_probabilities()
    model = autoencoders.LogisticPCA(2, steps=200, generator=generator()).fit(x[:150])
    torch.testing.assert_close(model.reconstruct(x[150:]), x[150:], atol=0.01, rtol=0)
    smaller = autoencoders.LogisticPCA(1, steps=200, generator=generator()).fit(x[:150])
    assert (smaller.reconstruct(x[150:]) - x[150:]).abs().max() > 0.1


def test_logistic_pca_codes_are_stationary_points_of_the_likelihood():
    model = autoencoders.LogisticPCA(2, steps=200)
    model.mean = torch.randn(30, generator=generator())
    model.components = torch.randn(2, 30, generator=generator(1))
    x = torch.rand(40, 30, generator=generator(2))
    residual = x - model.reconstruct(x)
    assert (residual @ model.components.T).abs().max() < 1e-3


def test_logistic_pca_is_reproducible():
    x = low_rank_probabilities(50)
    first, second = (
        autoencoders.LogisticPCA(2, steps=5, generator=generator()).fit(x).transform(x) for _ in range(2)
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": ()}, r"widths needs two or more positive numbers, from pixels to code; got \(\)"),
        ({"widths": (784,)}, "two or more"),
        ({"widths": (784, 0)}, "two or more positive"),
        (
            {"widths": (100, 20)},
            r"must start with the 784 pixels of an image of shape \(1, 28, 28\), got 100",
        ),
        ({"widths": (784, 400, 785)}, "the code must not be larger than the image: got 785 > 784"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, r"dropout must be in \[0, 1\), got -0.1"),
    ],
)
def test_impossible_networks_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        autoencoders.mlp_autoencoder(**options)


def test_images_of_another_shape_are_refused(model):
    with pytest.raises(ValueError, match=r"shape \(batch, \*\(1, 4, 4\)\), got \(2, 1, 5, 5\)"):
        model.encode(torch.rand(2, 1, 5, 5))


def test_pixels_that_are_not_finite_are_refused(model, x):
    x[0, 0, 0, :2] = torch.tensor([float("nan"), float("inf")])
    with pytest.raises(ValueError, match="images must have finite pixels; 2 are not"):
        autoencoders.squared_error(model, x)


def test_cross_entropy_needs_logits(x):
    model = autoencoders.mlp_autoencoder((16, 3), logits=False, image_shape=SHAPE)
    with pytest.raises(ValueError, match="make the autoencoder with logits=True"):
        autoencoders.cross_entropy(model, x)


def test_impossible_corruption_is_refused(x):
    for variance in (-0.1, float("nan")):
        with pytest.raises(ValueError, match=f"variance must be 0 or more, got {variance}"):
            autoencoders.add_gaussian_noise(x, variance)
    for fraction in (-0.1, 1.1):
        with pytest.raises(ValueError, match=rf"fraction must be in \[0, 1\], got {fraction}"):
            autoencoders.mask_pixels(x, fraction)


def test_an_unknown_generator_loss_is_refused(model):
    with pytest.raises(ValueError, match="unknown generator_loss 'wgan'; known: non-saturating, minimax"):
        adversary(model, "wgan")


@pytest.mark.parametrize("options", [{"components": 0}, {"components": 2, "steps": 0}, {"components": 2.0}])
def test_logistic_pca_needs_positive_integers(options):
    with pytest.raises(ValueError, match="must be a positive integer, got"):
        autoencoders.LogisticPCA(**options)


def test_logistic_pca_refuses_impossible_images():
    model = autoencoders.LogisticPCA(5)
    with pytest.raises(ValueError, match="components must be at most the number of pixels, 4; got 5"):
        model.fit(torch.rand(10, 4))
    with pytest.raises(ValueError, match=r"values in \[0, 1\]; got shape \(3, 6\), from 2 to 2"):
        model.fit(torch.full((3, 6), 2.0))
    with pytest.raises(ValueError, match="finite pixels; 18 are not"):
        model.fit(torch.full((3, 6), float("nan")))
