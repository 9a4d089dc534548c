import itertools
import math

import pytest
import torch

from vaebook import applications, objectives, vae
from vaebook.applications import (
    AnomalyScores,
    anomaly_map,
    anomaly_score,
    anomaly_scores,
    denoise,
    impute,
    write_in_style,
)
from vaebook.corruption import flips, gaussian_noise
from vaebook.distributions import Bernoulli, DiagonalNormal, FullNormal
from vaebook.linear_gaussian import LinearGaussian


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Writing


@pytest.fixture
def cvae() -> vae.CVAE:
    torch.manual_seed(0)
    return vae.mlp_cvae(latent_dim=3, hidden=(8,), image_shape=(1, 4, 4), conditioner=(5,))


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(1))


def test_a_line_of_digits_has_the_shape_of_its_source(cvae, image):
    line = write_in_style(cvae, image, 7, "2026")
    assert line.shape == (4, 1, 4, 4)
    assert ((line > 0) & (line < 1)).all()


def test_each_digit_is_the_style_decoded_with_its_own_label(cvae, image):
    z = cvae.given(torch.tensor([7])).encode(image.unsqueeze(0)).mean
    line = write_in_style(cvae, image, 7, "203")
    for label, written in zip((2, 0, 3), line, strict=True):
        torch.testing.assert_close(written, cvae.given(torch.tensor([label])).decode(z).mean[0])


def test_the_style_is_read_with_the_label_of_its_digit(cvae, image):
    assert not torch.allclose(write_in_style(cvae, image, 7, "1"), write_in_style(cvae, image, 8, "1"))


def test_a_string_and_labels_say_the_same(cvae, image):
    line = write_in_style(cvae, image, 0, "907")
    assert torch.equal(line, write_in_style(cvae, image, 0, [9, 0, 7]))
    assert torch.equal(line, write_in_style(cvae, image, torch.tensor(0), torch.tensor([9, 0, 7])))


def test_without_a_generator_equal_digits_are_equal(cvae, image):
    first, second = write_in_style(cvae, image, 7, "11")
    assert torch.equal(first, second)


def test_with_a_generator_digits_vary_and_the_line_repeats(cvae, image):
    line = write_in_style(cvae, image, 7, "11", generator=torch.Generator().manual_seed(2))
    again = write_in_style(cvae, image, 7, "11", generator=torch.Generator().manual_seed(2))
    assert not torch.allclose(line[0], line[1])
    assert torch.equal(line, again)


def test_drawn_styles_have_the_distribution_of_the_code(cvae, image):
    q_z = cvae.given(torch.tensor([7])).encode(image.unsqueeze(0))
    one = cvae.given(torch.tensor([1]))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        drawn = write_in_style(cvae, image, 7, [1] * 20_000, generator=generator)
        expected = one.decode(q_z.sample((20_000,), generator=generator)).mean.squeeze(1)
    slack = 5 * (drawn.var(0) / 20_000 + expected.var(0) / 20_000).sqrt()
    assert ((drawn.mean(0) - expected.mean(0)).abs() <= slack).all()


def test_no_gradient_is_kept(cvae, image):
    assert not write_in_style(cvae, image, 7, "1").requires_grad


@pytest.mark.parametrize("digits", ["", "20 26", "3.14", "-1", "²", "٣"])
def test_only_digits_can_be_written(cvae, image, digits):
    with pytest.raises(ValueError, match=r"digits must be one or more of 0 to 9, such as '2026', got"):
        write_in_style(cvae, image, 7, digits)


def test_nothing_cannot_be_written(cvae, image):
    with pytest.raises(ValueError, match="digits must be one or more, got none"):
        write_in_style(cvae, image, 7, [])


@pytest.mark.parametrize("digits", [[10], [-1]])
def test_labels_that_the_model_does_not_have(cvae, image, digits):
    with pytest.raises(ValueError, match="labels must be from 0 to 9"):
        write_in_style(cvae, image, 7, digits)
    with pytest.raises(ValueError, match="labels must be from 0 to 9"):
        write_in_style(cvae, image, digits[0], "1")


@pytest.mark.parametrize(("label", "digits"), [(1.0, "1"), ("7", "1"), (7, [1.5]), (7, ["1"])])
def test_labels_are_integers(cvae, image, label, digits):
    with pytest.raises(TypeError, match="integer"):
        write_in_style(cvae, image, label, digits)


@pytest.mark.parametrize("shape", [(4, 4), (1, 1, 4, 4), (1, 28, 28)])
def test_an_image_of_another_shape(cvae, shape):
    with pytest.raises(ValueError, match=r"the image must have the shape \(1, 4, 4\), got \("):
        write_in_style(cvae, torch.zeros(shape), 7, "1")


@pytest.mark.parametrize("value", [-0.1, 255.0, torch.nan])
def test_an_image_that_is_not_from_0_to_1(cvae, value):
    with pytest.raises(ValueError, match="the values of the image must be from 0 to 1"):
        write_in_style(cvae, torch.full((1, 4, 4), value), 7, "1")


def test_an_encoder_without_the_label_writes_too(image):
    cvae = vae.mlp_cvae(latent_dim=2, hidden=(8,), image_shape=(1, 4, 4), encoder_conditioned=False)
    assert torch.equal(write_in_style(cvae, image, 7, "2026"), write_in_style(cvae, image, 8, "2026"))


def test_with_a_learned_prior_the_place_in_it_is_the_style(image):
    cvae = vae.mlp_cvae(latent_dim=2, hidden=(8,), image_shape=(1, 4, 4), learned_prior=True)
    seven, one = cvae.given(torch.tensor([7])), cvae.given(torch.tensor([1]))
    place = (seven.encode(image.unsqueeze(0)).mean - seven.prior.mean) / seven.prior.variance.sqrt()
    expected = one.decode(one.prior.mean + one.prior.variance.sqrt() * place).mean
    torch.testing.assert_close(write_in_style(cvae, image, 7, "1"), expected)


# Models whose every integral is known, and one of 4x4 pixels with random weights


class Counting:
    """A model that notes how many codes are decoded at a time."""

    def __init__(self, model):
        self.model, self.prior, self.encode, self.decoded = model, model.prior, model.encode, []

    def decode(self, z):
        self.decoded.append(z.shape[:-1].numel())
        return self.model.decode(z)


def linear(encoder=None) -> LinearGaussian:
    weight = torch.randn(4, 2, generator=seeded(4), dtype=torch.float64)
    return LinearGaussian(weight, torch.tensor([0.5, -1.0, 0.0, 2.0]).double(), 0.3, encoder)


def wrong(shift: float = 0.0, scale: float = 1.0) -> LinearGaussian:
    """The linear model whose encoder's normal has another place and another size than the posterior's."""

    def encoder(x):
        posterior = linear().posterior(x)
        return FullNormal(posterior.mean + shift, posterior.scale_tril * scale)

    return linear(encoder)


@pytest.fixture
def model() -> vae.VAE:
    torch.manual_seed(0)
    return vae.mlp_vae(latent_dim=2, hidden=(8,), image_shape=(1, 4, 4))


@pytest.fixture
def binary() -> torch.Tensor:
    return torch.randint(2, (5, 1, 4, 4), generator=seeded(5)).float()


# Imputation

HOLE = torch.zeros(4, 4, dtype=torch.bool)
HOLE[:2, :3] = True
MISSING = torch.tensor([True, False, True, False])
KNOWN_X = torch.tensor([1.5, 0.7]).double()
CHAINS = 10_000


def conditional() -> tuple[torch.Tensor, torch.Tensor]:
    """The exact mean and covariance of the missing coordinates given the known ones."""
    model = linear()
    covariance = model.weight @ model.weight.mT + math.exp(0.3) * torch.eye(4, dtype=torch.float64)
    gain = covariance[MISSING][:, ~MISSING] @ torch.linalg.inv(covariance[~MISSING][:, ~MISSING])
    mean = model.bias[MISSING] + gain @ (KNOWN_X - model.bias[~MISSING])
    return mean, covariance[MISSING][:, MISSING] - gain @ covariance[~MISSING][:, MISSING]


def chains(model, steps: int = 60, **options) -> applications.Imputation:
    x = torch.full((CHAINS, 4), math.nan, dtype=torch.float64)
    x[:, ~MISSING] = KNOWN_X
    return impute(model, x, MISSING, steps, generator=seeded(6), **options)


def errors(draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How many standard errors the mean and the variance of independent draws are off the truth."""
    mean, covariance = conditional()
    squares = (draws - mean) ** 2
    return (
        ((draws.mean(0) - mean) / (draws.std(0) / math.sqrt(len(draws)))).abs(),
        ((squares.mean(0) - covariance.diagonal()) / (squares.std(0) / math.sqrt(len(draws)))).abs(),
    )


def test_with_the_exact_posterior_every_proposal_is_accepted():
    assert (chains(linear(), 10, corrected=True).accepted == 1).all()


@pytest.mark.parametrize("corrected", [False, True])
def test_with_the_exact_posterior_missing_pixels_have_their_conditional_distribution(corrected):
    filled = chains(linear(), corrected=corrected)
    off_mean, off_variance = errors(filled.images[-1][:, MISSING])
    assert (off_mean < 5).all()
    assert (off_variance < 5).all()
    truth, _ = conditional()
    means = filled.mean[:, MISSING]
    assert ((means.mean(0) - truth).abs() < 5 * means.std(0) / math.sqrt(CHAINS)).all()
    assert (means.std(0) < 0.3 * filled.images[-1][:, MISSING].std(0)).all()


@pytest.mark.parametrize(
    ("encoder", "moment"), [({"shift": 0.3}, 0), ({"scale": 0.6}, 1), ({"scale": 1.6}, 1)]
)
def test_a_wrong_encoder_misleads_the_chain_unless_it_is_corrected(encoder, moment):
    misled = chains(wrong(**encoder))
    assert (errors(misled.images[-1][:, MISSING])[moment] > 7).all()
    assert (misled.accepted == 1).all()
    right = chains(wrong(**encoder), 100, corrected=True)
    off_mean, off_variance = errors(right.images[-1][:, MISSING])
    assert (off_mean < 5).all()
    assert (off_variance < 5).all()
    assert 0.3 < right.accepted.mean() < 0.9
    truth, _ = conditional()
    means = right.mean[:, MISSING]
    assert ((means.mean(0) - truth).abs() < 5 * means.std(0) / math.sqrt(CHAINS)).all()


def test_the_first_fifth_of_the_steps_accepts_everything():
    free = chains(wrong(scale=0.5), 4)
    bound = chains(wrong(scale=0.5), 20, corrected=True)
    assert torch.equal(free.images, bound.images[:5])
    assert (impute(wrong(scale=0.1), free.images[0], MISSING, 1, corrected=True).accepted < 1).any()


def test_the_mean_is_of_the_second_half_of_the_chain():
    """A decoder that has no doubt: the images of the chain are the means of their codes."""
    sure = linear()
    sure.logvar = torch.tensor(-60.0, dtype=torch.float64)
    sure.encode = lambda x: FullNormal(x[:, :2], 0.5 * torch.eye(2, dtype=torch.float64))
    for steps in (1, 4, 5):
        filled = impute(sure, torch.zeros(3, 4).double(), MISSING, steps, generator=seeded())
        expected = filled.images[steps // 2 + 1 :].mean(0)
        torch.testing.assert_close(filled.mean, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("corrected", [False, True])
def test_known_pixels_stay_and_missing_ones_are_not_looked_at(model, binary, corrected):
    hidden = binary.where(~HOLE, math.nan)
    filled = impute(model, hidden, HOLE, 7, corrected=corrected, generator=seeded(1))
    assert filled.images.shape == (8, 5, 1, 4, 4)
    assert filled.mean.shape == (5, 1, 4, 4)
    assert filled.accepted.shape == (5,)
    assert torch.equal(filled.images[..., ~HOLE], binary[..., ~HOLE].expand(8, 5, 1, 10))
    assert torch.equal(filled.mean[..., ~HOLE], binary[..., ~HOLE])
    assert set(filled.images.unique().tolist()) == {0, 1}
    assert ((filled.mean[..., HOLE] > 0) & (filled.mean[..., HOLE] < 1)).all()
    other = impute(
        model, 1 - binary.where(HOLE, 1 - binary), HOLE, 7, corrected=corrected, generator=seeded(1)
    )
    assert all(torch.equal(*pair) for pair in zip(filled, other, strict=True))


def test_each_image_may_have_a_mask_of_its_own(model, binary):
    missing = torch.rand(5, 1, 4, 4, generator=seeded(2)) < 0.5
    missing[0] = False
    filled = impute(model, binary, missing, 3, generator=seeded(1))
    assert torch.equal(filled.images.where(~missing, 0), binary.where(~missing, 0).expand(4, 5, 1, 4, 4))
    assert torch.equal(filled.mean[0], binary[0])


def test_where_all_is_missing_the_chain_draws_from_the_model():
    x = torch.full((CHAINS, 4), math.nan, dtype=torch.float64)
    drawn = impute(linear(), x, torch.tensor(True), 5, generator=seeded(3)).images
    model = linear()
    variance = (model.weight @ model.weight.mT).diagonal() + math.exp(0.3)
    for images in (drawn[0], drawn[-1]):
        assert ((images.mean(0) - model.bias).abs() < 5 * (variance / CHAINS).sqrt()).all()
        assert ((images.var(0) / variance - 1).abs() < 5 * math.sqrt(2 / CHAINS)).all()


def test_a_model_given_its_conditions_fills_in(cvae, binary):
    given = cvae.given(torch.arange(5))
    filled = impute(given, binary, HOLE, 2, corrected=True, generator=seeded())
    assert filled.images.shape == (3, 5, 1, 4, 4)
    assert not filled.mean.requires_grad


def test_a_generator_repeats_the_chain(model, binary):
    first, again, other = (
        impute(model, binary, HOLE, 5, generator=seeded(seed)).images for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (HOLE.float(), TypeError, r"must be boolean, got torch\.float32"),
        (HOLE[:3], ValueError, r"\(3, 4\), does not fit images \(5, 1, 4, 4\)"),
        (HOLE & ~HOLE, ValueError, "no pixel is missing"),
    ],
)
def test_masks_that_are_none(model, binary, mask, error, message):
    with pytest.raises(error, match=message):
        impute(model, binary, mask)


def test_a_known_pixel_that_is_no_number(model, binary):
    with pytest.raises(ValueError, match="a pixel that is not missing is not a finite number"):
        impute(model, binary.where(HOLE, math.nan), HOLE)


@pytest.mark.parametrize("steps", [0, -1, 2.0])
def test_steps_that_are_none(model, binary, steps):
    with pytest.raises(ValueError, match="steps must be a positive integer, got"):
        impute(model, binary, HOLE, steps)


# Denoising


def exact_denoised(noisy: torch.Tensor, sigma: float) -> torch.Tensor:
    """E[x|noisy] for the linear model and added noise."""
    model = linear()
    covariance = model.weight @ model.weight.mT + math.exp(0.3) * torch.eye(4, dtype=torch.float64)
    gain = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(4, dtype=torch.float64))
    return model.bias + (noisy - model.bias) @ gain.mT


@pytest.mark.parametrize("encoder", [{}, {"shift": 0.3, "scale": 1.3}])
def test_normal_noise_on_the_linear_model_has_a_known_answer(encoder):
    sigma = 0.8
    noisy = torch.tensor([1.0, -2.0, 0.5, 3.0]).double()
    restored = denoise(
        wrong(**encoder), noisy.expand(200, 4), gaussian_noise(sigma), samples=1000, generator=seeded()
    )
    expected = exact_denoised(noisy, sigma)
    assert ((restored.mean(0) - expected).abs() < 5 * restored.std(0) / math.sqrt(200)).all()
    assert (restored.std(0) < 0.1).all()


@pytest.mark.parametrize("corruption", [flips(0.2), gaussian_noise(0.6)])
def test_the_posterior_mean_by_enumeration_of_all_clean_images(corruption):
    """Four binary pixels, a code of one dimension: p(x) by quadrature, p(noisy|x) as defined."""
    torch.manual_seed(3)
    tiny = vae.mlp_vae(latent_dim=1, hidden=(6,), image_shape=(1, 2, 2)).double()
    for parameter in tiny.decoder.parameters():
        parameter.data *= 4
    noisy = torch.tensor([1.0, 0.0, 0.0, 1.0]).double()
    clean = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).double()  # (16, 4)
    z = torch.linspace(-8, 8, 2001, dtype=torch.float64).unsqueeze(-1)
    with torch.no_grad():
        p_x_given_z = tiny.decode(z).log_prob(clean.view(16, 1, 1, 2, 2)).exp()  # (16, 2001)
    p_x = (p_x_given_z * tiny.prior.log_prob(z).exp()).sum(-1)
    if isinstance(corruption, flips):
        p_noisy = (clean == noisy).double().mul(0.6).add(0.2).prod(-1)
    else:
        p_noisy = (-((noisy - clean) ** 2).sum(-1) / (2 * 0.6**2)).exp()
    posterior = p_x * p_noisy
    expected = (posterior / posterior.sum()) @ clean
    restored = denoise(
        tiny, noisy.view(1, 1, 2, 2).expand(100, 1, 2, 2), corruption, samples=3000, generator=seeded()
    )
    restored = restored.flatten(1)
    assert ((restored.mean(0) - expected).abs() < 5 * restored.std(0) / 10).all()
    assert (restored.std(0) < 0.02).all()


def test_without_a_corruption_it_is_the_plain_reconstruction(model, binary, monkeypatch):
    with torch.no_grad():
        expected = model.reconstruct(binary)
    assert torch.equal(denoise(model, binary), expected)
    monkeypatch.setattr(applications, "PIXELS_AT_ONCE", 32)
    torch.testing.assert_close(denoise(model, binary), expected)


def test_noise_may_leave_the_range_of_the_pixels(model, binary):
    noisy = binary + 2 * torch.randn(binary.shape, generator=seeded())
    assert noisy.min() < 0
    for corruption in (None, gaussian_noise(2.0)):
        restored = denoise(model, noisy, corruption, samples=7, generator=seeded())
        assert restored.shape == (5, 1, 4, 4)
        assert ((restored > 0) & (restored < 1)).all()


@pytest.mark.parametrize("corruption", ["flips", 0.1, lambda p_x: p_x])
def test_what_is_no_corruption(model, binary, corruption):
    with pytest.raises(TypeError, match=r"corruption must be a Corruption such as flips\(0\.1\)"):
        denoise(model, binary, corruption)


# What is odd


def test_with_the_exact_posterior_both_bounds_are_the_evidence():
    x = linear().sample(7, generator=seeded())
    scores = anomaly_scores(linear(), x, samples=3, generator=seeded(1))
    torch.testing.assert_close(scores.elbo, -linear().log_evidence(x))
    torch.testing.assert_close(scores.importance, -linear().log_evidence(x))


def test_scores_are_the_bounds_at_the_same_codes(model, binary):
    with torch.no_grad():
        log_w = objectives.log_weights(model, binary, 6, generator=seeded(1))
        iwae = objectives.iwae(model, binary, 6, generator=seeded(1))
        log_p = model.decode(model.encode(binary).sample((6,), generator=seeded(1))).log_prob(binary)
    scores = anomaly_scores(model, binary, samples=6, generator=seeded(1))
    torch.testing.assert_close(scores.reconstruction, -log_p.mean(0))
    torch.testing.assert_close(scores.elbo, -log_w.mean(0))
    torch.testing.assert_close(scores.importance, -iwae)


def test_the_importance_weighted_score_lies_between_the_elbo_and_the_evidence():
    x = linear().sample(4, generator=seeded()).repeat(2000, 1)
    model = wrong(shift=0.2, scale=1.3)
    few, many = (anomaly_scores(model, x, samples=k, generator=seeded(1)) for k in (2, 20))
    assert (few.elbo >= few.importance).all()
    truth = -linear().log_evidence(x).mean()
    assert few.elbo.mean() > few.importance.mean() > many.importance.mean() > truth


@pytest.mark.parametrize("kind", AnomalyScores._fields)
def test_one_score_is_one_of_all(model, binary, kind):
    one = anomaly_score(model, binary, kind, samples=4, generator=seeded())
    assert torch.equal(one, getattr(anomaly_scores(model, binary, samples=4, generator=seeded()), kind))
    assert not one.requires_grad


def test_the_default_score_is_the_elbo(model, binary):
    expected = anomaly_score(model, binary, "elbo", generator=seeded())
    assert torch.equal(anomaly_score(model, binary, generator=seeded()), expected)


@pytest.mark.parametrize("kind", AnomalyScores._fields)
def test_what_is_odder_has_the_larger_score(kind):
    model = linear()
    far = torch.tensor([[1.0], [3.0], [9.0]]).double() * torch.tensor([1.0, -1.0, 1.0, -1.0]).double()
    near, farther, farthest = anomaly_score(model, model.bias + far, kind, generator=seeded())
    assert near < farther < farthest


def test_a_large_batch_is_worked_on_in_parts(monkeypatch):
    x = linear().sample(50, generator=seeded())
    monkeypatch.setattr(applications, "PIXELS_AT_ONCE", 100)
    counting = Counting(linear())
    scores = anomaly_scores(counting, x, samples=5, generator=seeded())
    assert max(counting.decoded) == 25  # codes of four pixels
    torch.testing.assert_close(scores.elbo, -linear().log_evidence(x))
    for work in (anomaly_map, lambda *data, **options: denoise(*data, gaussian_noise(1.0), **options)):
        counting = Counting(linear())
        assert work(counting, x, samples=200, generator=seeded()).shape == (50, 4)
        assert max(counting.decoded) == 200  # one image at a time, if there is no room for more


def test_a_model_given_its_conditions_scores_all_images_at_once(cvae, binary, monkeypatch):
    monkeypatch.setattr(applications, "PIXELS_AT_ONCE", 1)
    given = cvae.given(torch.arange(5))
    assert anomaly_score(given, binary, samples=3, generator=seeded()).shape == (5,)


def test_an_unknown_kind_is_refused_with_a_suggestion(model, binary):
    message = r"unknown kind 'elbow'; did you mean 'elbo'\? known: reconstruction, elbo, importance"
    with pytest.raises(ValueError, match=message):
        anomaly_score(model, binary, "elbow")


# Where it is odd


class Painted:
    """A model that paints the same image, whatever the code."""

    prior = DiagonalNormal(torch.zeros(2), torch.zeros(2))

    def __init__(self, p_x):
        self.p_x = p_x

    def encode(self, x):
        return DiagonalNormal(torch.zeros(len(x), 2), torch.zeros(len(x), 2))

    def decode(self, z):
        logits = self.p_x.logits.expand(*z.shape[:-1], *self.p_x.logits.shape)
        return Bernoulli(logits)


def test_the_map_sums_to_the_reconstruction_score(model, binary):
    maps = anomaly_map(model, binary, samples=9, generator=seeded(1))
    assert maps.shape == binary.shape
    with torch.no_grad():
        z = model.encode(binary).sample((9,), generator=seeded(1))
        pixels = torch.distributions.Bernoulli(logits=model.decode(z).logits)
    error = anomaly_score(model, binary, "reconstruction", samples=9, generator=seeded(1))
    torch.testing.assert_close(maps.sum((1, 2, 3)), error)
    torch.testing.assert_close(maps, -pixels.log_prob(binary).mean(0))


def test_the_map_of_normal_pixels_sums_to_the_same():
    x = linear().sample(6, generator=seeded())
    maps = anomaly_map(linear(), x, samples=9, generator=seeded(1))
    error = anomaly_score(linear(), x, "reconstruction", samples=9, generator=seeded(1))
    torch.testing.assert_close(maps.sum(-1), error)


def test_the_map_finds_a_blot_and_a_gap():
    picture = torch.full((1, 4, 4), -4.0)
    picture[0, 1:3] = 4.0
    picture[0, 0] = 0.0  # the model does not know: either colour is a surprise of log 2
    x = (picture > 0).float().unsqueeze(0)
    x[0, 0, 3, 3] = 1
    x[0, 0, 1, 2] = 0
    found = anomaly_map(Painted(Bernoulli(picture)), x, samples=2)[0, 0]
    odd = torch.zeros(4, 4, dtype=torch.bool)
    odd[3, 3] = odd[1, 2] = True
    assert (found[odd] > 4).all()
    assert (found[~odd] < 0.7).all()
    torch.testing.assert_close(found[0], torch.full((4,), math.log(2)))


def test_the_map_needs_pixels_that_it_knows():
    other = Painted(None)
    other.decode = lambda z: torch.distributions.Independent(
        torch.distributions.Poisson(torch.ones(1, 2, 2)), 3
    )
    with pytest.raises(TypeError, match="anomaly_map needs pixels that are independent, got Independent"):
        anomaly_map(other, torch.zeros(3, 1, 2, 2))


# What none of them takes

METHODS = {
    "impute": lambda model, x: impute(model, x, HOLE),
    "denoise": denoise,
    "anomaly_score": anomaly_score,
    "anomaly_map": anomaly_map,
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (
            torch.zeros(5, 1, 4, 4, dtype=torch.uint8),
            TypeError,
            r"images must be floats, .* got torch\.uint8",
        ),
        (torch.zeros(4, 4), ValueError, r"images must have the shape \(batch, 1, 4, 4\), got \(4, 4\)"),
        (torch.zeros(5, 3, 4, 4), ValueError, r"shape \(batch, 1, 4, 4\), got \(5, 3, 4, 4\)"),
        (torch.full((5, 1, 4, 4), math.nan), ValueError, "not (a )?finite number"),
    ],
)
def test_images_that_are_none(model, method, x, error, message):
    with pytest.raises(error, match=message):
        method(model, x)


@pytest.mark.parametrize("method", [METHODS[name] for name in METHODS if name != "denoise"])
def test_values_that_binary_pixels_cannot_have(model, binary, method):
    with pytest.raises(ValueError, match=r"the values of images must be from 0 to 1, .* got 0 to 255"):
        method(model, 255 * binary)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_as_many_images_as_conditions(cvae, binary, method):
    with pytest.raises(ValueError, match=r"images must have the shape \(3, 1, 4, 4\), got \(5, 1, 4, 4\)"):
        method(cvae.given(torch.arange(3)), binary)


@pytest.mark.parametrize("method", [denoise, anomaly_score, anomaly_scores, anomaly_map])
@pytest.mark.parametrize("samples", [0, -3, 1.5])
def test_samples_that_are_none(model, binary, method, samples):
    with pytest.raises(ValueError, match="samples must be a positive integer, got"):
        method(model, binary, samples=samples)
