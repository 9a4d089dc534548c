"""Bounds against the linear-Gaussian model, whose evidence and posterior are exact."""

import math

import pytest
import torch

from vaebook import objectives, vae
from vaebook.distributions import Bernoulli, DiagonalNormal, kl_divergence
from vaebook.linear_gaussian import LinearGaussian


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def exact(generator) -> LinearGaussian:
    weight = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    return LinearGaussian(weight, torch.zeros(6, dtype=torch.float64), logvar=-0.5)


@pytest.fixture
def approximate(exact) -> LinearGaussian:
    """The same model with a diagonal q that is a little off."""

    def encoder(x):
        posterior = exact.posterior(x)
        return DiagonalNormal(posterior.mean + 0.1, posterior.variance.log())

    return LinearGaussian(exact.weight, exact.bias, -0.5, encoder=encoder)


@pytest.mark.parametrize("samples", [1, 2, 13])
def test_with_the_exact_posterior_every_log_weight_is_the_log_evidence(exact, generator, samples):
    x = exact.sample(5, generator=generator)
    log_evidence = exact.log_evidence(x)
    log_w = objectives.log_weights(exact, x, samples, generator=generator)
    torch.testing.assert_close(log_w, log_evidence.expand(samples, 5))
    torch.testing.assert_close(objectives.iwae(exact, x, samples, generator=generator), log_evidence)


def test_elbo_is_unbiased_for_the_evidence_less_the_gap(approximate, generator):
    x = approximate.sample(4, generator=generator)
    gap = kl_divergence(approximate.encode(x), approximate.posterior(x))
    expected = approximate.log_evidence(x) - gap
    many = x.repeat(20_000, 1)
    draws = objectives.elbo(approximate, many, generator=generator).view(20_000, 4)
    assert (gap > 0.01).all()
    assert ((draws.mean(0) - expected).abs() <= 5 * draws.std(0) / math.sqrt(20_000)).all()


def test_mean_log_weight_has_the_same_expectation_as_the_closed_form(approximate, generator):
    x = approximate.sample(4, generator=generator)
    log_w = objectives.log_weights(approximate, x, 20_000, generator=generator)
    expected = approximate.log_evidence(x) - kl_divergence(approximate.encode(x), approximate.posterior(x))
    assert ((log_w.mean(0) - expected).abs() <= 5 * log_w.std(0) / math.sqrt(20_000)).all()


def test_iwae_with_one_sample_is_the_monte_carlo_elbo(approximate):
    x = approximate.sample(4, generator=torch.Generator().manual_seed(1))
    one, weight = (
        function(approximate, x, 1, generator=torch.Generator().manual_seed(2))
        for function in (objectives.iwae, objectives.log_weights)
    )
    torch.testing.assert_close(one, weight[0])


def test_iwae_rises_towards_the_evidence(approximate, generator):
    x = approximate.sample(200, generator=generator).repeat(50, 1)
    bounds = [objectives.iwae(approximate, x, k, generator=generator).mean() for k in (1, 5, 50)]
    truth = approximate.log_evidence(x).mean()
    assert bounds[0] < bounds[1] < bounds[2] < truth
    assert truth - bounds[2] < 0.1 * (truth - bounds[0])


def test_beta_weighs_the_divergence_only():
    torch.manual_seed(0)
    model = vae.mlp_vae(latent_dim=2, hidden=(5,), image_shape=(1, 3, 3))
    x = torch.rand(4, 1, 3, 3)
    log_p, kl = objectives.elbo_terms(model, x, generator=torch.Generator().manual_seed(3))
    for beta in (0.0, 1.0, 4.0):
        bound = objectives.elbo(model, x, beta=beta, generator=torch.Generator().manual_seed(3))
        torch.testing.assert_close(bound, log_p - beta * kl)


def test_gradient_reaches_encoder_and_decoder():
    torch.manual_seed(0)
    model = vae.mlp_vae(latent_dim=2, hidden=(5,), image_shape=(1, 3, 3))
    objectives.elbo(model, torch.rand(4, 1, 3, 3)).mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_reconstruction_alone_has_a_gradient_for_the_encoder():
    torch.manual_seed(0)
    model = vae.mlp_vae(latent_dim=2, hidden=(5,), image_shape=(1, 3, 3))
    objectives.elbo_terms(model, torch.rand(4, 1, 3, 3)).log_p_x_given_z.mean().backward()
    means_and_logvars = model.encoder[1][-1].bias.grad
    assert (means_and_logvars != 0).all()


def test_log_mean_exp_does_not_overflow():
    log_w = torch.tensor([[1000.0, -1000.0], [1000.0, -1000.0 + math.log(3)]])
    torch.testing.assert_close(objectives.log_mean_exp(log_w), torch.tensor([1000.0, -1000 + math.log(2)]))


@pytest.mark.parametrize("samples", [0, -3, 1.5])
def test_samples_must_be_a_positive_integer(exact, samples):
    with pytest.raises(ValueError, match=f"samples must be a positive integer, got {samples}"):
        objectives.log_weights(exact, torch.zeros(1, 6, dtype=torch.float64), samples)


def test_fair_coins_cost_one_bit_each():
    pixels = Bernoulli(torch.zeros(4, 3, 5, 2))
    bits = objectives.bits_per_dim(pixels.log_prob(torch.ones(4, 3, 5, 2)), (3, 5, 2))
    torch.testing.assert_close(bits, torch.ones(4))


def test_a_flat_density_over_256_levels_costs_eight_bits_in_any_unit():
    for white in (1.0, 255.0):
        log_density = torch.tensor(
            -30 * math.log(white * 256 / 255)
        )  # of 30 pixels from -0.5 to 255.5 levels
        bits = objectives.bits_per_dim(log_density, (3, 5, 2), cell=white / 255)
        assert bits.item() == pytest.approx(8)


def test_a_cell_must_have_a_width():
    with pytest.raises(ValueError, match="cell must be positive, got 0"):
        objectives.bits_per_dim(torch.zeros(2), (1, 2, 2), cell=0)
