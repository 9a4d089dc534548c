"""Noise on one pixel at a time, against sums and integrals over what the clean pixel may be."""

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from vaebook.corruption import Corruption, flips, gaussian_noise
from vaebook.distributions import Bernoulli, DiagonalNormal

LOGITS = torch.tensor([-3.0, -0.4, 0.0, 1.2, 6.0], dtype=torch.float64)
P_ONE = torch.sigmoid(LOGITS)


def binary_pixel() -> Bernoulli:
    """Five codes for an image of one pixel."""
    return Bernoulli(LOGITS.view(5, 1, 1, 1))


def normal_pixel() -> DiagonalNormal:
    mu = torch.tensor([[0.3], [-1.0]], dtype=torch.float64)
    return DiagonalNormal(mu, torch.tensor([[-1.2], [0.4]], dtype=torch.float64))


def image(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("noisy", [0, 1])
def test_flips_of_a_pixel_by_enumeration(rate, noisy):
    given = [1 - rate if noisy == x else rate for x in (0, 1)]
    p_noisy = (1 - P_ONE) * given[0] + P_ONE * given[1]
    corruption = flips(rate)
    torch.testing.assert_close(corruption(binary_pixel()).log_prob(image(noisy)), p_noisy.log())
    p_clean = corruption.clean(binary_pixel(), image(noisy)).mean.flatten()
    torch.testing.assert_close(p_clean, P_ONE * given[1] / p_noisy)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("noisy", [-0.3, 0.0, 0.45, 1.0, 1.7])
def test_gaussian_noise_on_a_binary_pixel_by_enumeration(sigma, noisy):
    given = [norm.pdf(noisy, x, sigma) for x in (0, 1)]
    p_noisy = (1 - P_ONE) * given[0] + P_ONE * given[1]
    corruption = gaussian_noise(sigma)
    torch.testing.assert_close(corruption(binary_pixel()).log_prob(image(noisy)), p_noisy.log())
    p_clean = corruption.clean(binary_pixel(), image(noisy)).mean.flatten()
    torch.testing.assert_close(p_clean, P_ONE * given[1] / p_noisy)


@pytest.mark.parametrize("sigma", [0.3, 1.5])
@pytest.mark.parametrize("noisy", [-1.0, 0.2, 2.0])
def test_gaussian_noise_on_a_normal_pixel_by_quadrature(sigma, noisy):
    p_x, corruption = normal_pixel(), gaussian_noise(sigma)
    value = torch.tensor([noisy], dtype=torch.float64)
    p_noisy, p_clean = corruption(p_x), corruption.clean(p_x, value)
    spreads = p_x.variance.sqrt()
    for code in range(2):
        mu, spread = p_x.mean[code].item(), spreads[code].item()
        moments = [
            quad(
                lambda x, power, mu, spread: x**power * norm.pdf(x, mu, spread) * norm.pdf(noisy, x, sigma),
                -12,
                12,
                args=(power, mu, spread),
                points=[mu, noisy],
            )[0]
            for power in range(3)
        ]
        mean = moments[1] / moments[0]
        assert p_noisy.log_prob(value)[code].item() == pytest.approx(math.log(moments[0]), abs=1e-8)
        assert p_clean.mean[code].item() == pytest.approx(mean, abs=1e-8)
        assert p_clean.variance[code].item() == pytest.approx(moments[2] / moments[0] - mean**2, abs=1e-8)


def test_densities_count_every_pixel():
    logits = torch.tensor([[[[0.3, -2.0], [1.0, 0.1]]]], dtype=torch.float64)
    noisy = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]], dtype=torch.float64)
    for corruption in (flips(0.2), gaussian_noise(0.4)):
        together = corruption(Bernoulli(logits))
        assert together.event_shape == (1, 2, 2)
        alone = corruption(Bernoulli(logits.view(4, 1, 1, 1))).log_prob(noisy.view(4, 1, 1, 1))
        torch.testing.assert_close(together.log_prob(noisy), alone.sum().view(1))


def test_the_mean_of_the_noisy_image():
    torch.testing.assert_close(flips(0.1)(binary_pixel()).mean.flatten(), 0.9 * P_ONE + 0.1 * (1 - P_ONE))
    torch.testing.assert_close(gaussian_noise(0.1)(binary_pixel()).mean.flatten(), P_ONE)


def test_a_confident_decoder_and_hardly_any_noise_stay_finite():
    sure = Bernoulli(torch.tensor([-40.0, 40.0]).view(2, 1, 1, 1))
    for corruption in (flips(1e-4), gaussian_noise(0.01)):
        for noisy in (torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)):
            assert corruption(sure).log_prob(noisy).isfinite().all()
            assert corruption.clean(sure, noisy).mean.isfinite().all()


@pytest.mark.parametrize("rate", [0, 1, -0.1, 2, math.nan])
def test_a_rate_that_is_none(rate):
    with pytest.raises(ValueError, match="rate must be greater than 0 and less than 1, got"):
        flips(rate)


@pytest.mark.parametrize("sigma", [0, -1.0, math.inf, math.nan])
def test_a_sigma_that_is_none(sigma):
    with pytest.raises(ValueError, match="sigma must be positive and finite, got"):
        gaussian_noise(sigma)


def test_flips_are_of_binary_pixels():
    message = "flips needs pixels with the distribution Bernoulli, got DiagonalNormal"
    with pytest.raises(TypeError, match=message):
        flips(0.1)(normal_pixel())
    with pytest.raises(TypeError, match=message):
        flips(0.1).clean(normal_pixel(), torch.zeros(1))
    with pytest.raises(ValueError, match=r"noisy images with flips must be from 0 to 1, .* got 1\.5 to 1\.5"):
        flips(0.1).clean(binary_pixel(), image(1.5))


def test_gaussian_noise_has_no_formula_for_other_pixels():
    message = "gaussian_noise needs pixels with the distribution Bernoulli or DiagonalNormal, got Poisson"
    other = torch.distributions.Poisson(torch.ones(1))
    with pytest.raises(TypeError, match=message):
        gaussian_noise(0.1)(other)
    with pytest.raises(TypeError, match=message):
        gaussian_noise(0.1).clean(other, torch.zeros(1))


def test_both_are_corruptions():
    assert isinstance(flips(0.1), Corruption)
    assert isinstance(gaussian_noise(0.1), Corruption)
    assert not isinstance(lambda p_x: p_x, Corruption)
