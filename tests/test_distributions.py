"""Densities, draws and divergences against torch, quadrature and identities."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import logistic, norm
from torch.distributions import MultivariateNormal, Normal

from vaebook import distributions as d

KL_PAIRS = [(0.3, 0.2, -1.1, 0.9), (0.0, 0.0, 0.0, 0.0), (5.0, -3.0, 4.0, 1.0), (-2.0, 2.0, 1.0, -1.0)]


def doubles(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


def random_cholesky(generator: torch.Generator, k: int) -> torch.Tensor:
    a = torch.randn(k, k, generator=generator, dtype=torch.float64)
    return torch.linalg.cholesky(a @ a.mT + 0.1 * torch.eye(k, dtype=torch.float64))


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_sigma_from_logvar():
    torch.testing.assert_close(d.sigma_from(torch.tensor([0.0, math.log(4.0)])), torch.tensor([1.0, 2.0]))


class TestDivergences:
    @pytest.mark.parametrize("parameters", KL_PAIRS)
    def test_kl_normal_is_the_integral(self, parameters):
        mu_q, logvar_q, mu_p, logvar_p = parameters
        q, p = norm(mu_q, math.exp(0.5 * logvar_q)), norm(mu_p, math.exp(0.5 * logvar_p))
        integral, _ = quad(
            lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)),
            *q.interval(1 - 1e-15),
            epsabs=1e-12,
            epsrel=1e-12,
        )
        assert d.kl_normal(*doubles(*parameters)).item() == pytest.approx(integral, abs=1e-9)

    @given(
        mu=st.lists(st.floats(-30, 30), min_size=1, max_size=5),
        logvar=st.floats(-10, 10),
    )
    def test_kl_of_a_distribution_with_itself_is_zero_and_otherwise_positive(self, mu, logvar):
        mu = torch.tensor(mu, dtype=torch.float64)
        logvars = torch.full_like(mu, logvar)
        assert d.kl_diagonal_normal(mu, logvars, mu, logvars).item() == pytest.approx(0, abs=1e-12)
        assert d.kl_diagonal_normal(mu, logvars, mu + 1, logvars) > 0
        assert d.kl_standard_normal(mu, logvars) >= -1e-15  # a rounding error, near the prior

    def test_kl_standard_normal_is_the_diagonal_one_with_a_standard_prior(self, generator):
        mu, logvar = torch.randn(2, 7, 3, generator=generator, dtype=torch.float64)
        zeros = torch.zeros_like(mu)
        torch.testing.assert_close(
            d.kl_standard_normal(mu, logvar), d.kl_diagonal_normal(mu, logvar, zeros, zeros)
        )

    def test_kl_full_normal_of_diagonal_matrices_is_the_diagonal_one(self, generator):
        mu_q, logvar_q, mu_p, logvar_p = torch.randn(4, 6, 3, generator=generator, dtype=torch.float64)
        full = d.kl_full_normal(
            mu_q, torch.diag_embed(d.sigma_from(logvar_q)), mu_p, torch.diag_embed(d.sigma_from(logvar_p))
        )
        torch.testing.assert_close(full, d.kl_diagonal_normal(mu_q, logvar_q, mu_p, logvar_p))

    def test_kl_full_normal_agrees_with_torch(self, generator):
        mu_q, mu_p = torch.randn(2, 4, generator=generator, dtype=torch.float64)
        q, p = random_cholesky(generator, 4), random_cholesky(generator, 4)
        expected = d.kl_divergence(
            MultivariateNormal(mu_q, scale_tril=q), MultivariateNormal(mu_p, scale_tril=p)
        )
        torch.testing.assert_close(d.kl_full_normal(mu_q, q, mu_p, p), expected)

    def test_kl_discrete(self):
        p = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]], dtype=torch.float64)
        q = torch.tensor([[0.25, 0.25, 0.5], [0.2, 0.3, 0.5]], dtype=torch.float64)
        torch.testing.assert_close(d.kl_discrete(p, q), torch.tensor([math.log(2), 0.0], dtype=torch.float64))
        assert d.kl_discrete(q, p)[0] == math.inf

    def test_kl_divergence_knows_every_pair_of_our_normals(self, generator):
        mu, logvar = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
        diagonal = d.DiagonalNormal(mu, logvar)
        full = d.FullNormal(mu, torch.diag_embed(d.sigma_from(logvar)))
        other = d.FullNormal(mu.flip(0), random_cholesky(generator, 3))
        for q in (diagonal, full):
            for p in (diagonal, full):
                torch.testing.assert_close(d.kl_divergence(q, p), torch.zeros(5, dtype=torch.float64))
        torch.testing.assert_close(d.kl_divergence(diagonal, other), d.kl_divergence(full, other))
        prior = d.standard_normal(3, dtype=torch.float64)
        for q in (diagonal, full):
            torch.testing.assert_close(d.kl_divergence(q, prior), d.kl_standard_normal(mu, logvar))

    def test_gradients(self, generator):
        mu, logvar = torch.randn(2, 3, generator=generator, dtype=torch.float64).unbind()
        assert torch.autograd.gradcheck(d.kl_standard_normal, (mu.requires_grad_(), logvar.requires_grad_()))


class TestDiagonalNormal:
    def test_log_prob_and_entropy_agree_with_torch(self, generator):
        mu, logvar, z = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64)
        ours, theirs = d.DiagonalNormal(mu, logvar), Normal(mu, d.sigma_from(logvar))
        torch.testing.assert_close(ours.log_prob(z), theirs.log_prob(z).sum(-1))
        torch.testing.assert_close(ours.entropy(), theirs.entropy().sum(-1))
        torch.testing.assert_close(ours.variance, theirs.variance)

    def test_shapes_are_sample_batch_event(self):
        image = d.DiagonalNormal(torch.zeros(7, 1, 4, 4), torch.zeros(()), event_dim=3)
        assert image.batch_shape == (7,)
        assert image.event_shape == (1, 4, 4)
        draws = image.sample((3,))
        assert draws.shape == (3, 7, 1, 4, 4)
        assert image.log_prob(draws).shape == (3, 7)

    def test_moments_of_draws(self, generator):
        q = d.DiagonalNormal(torch.tensor([1.0, -2.0]), torch.tensor([0.5, -1.0]))
        z = q.rsample((100_000,), generator=generator)
        standard_error = d.sigma_from(q.logvar) / math.sqrt(len(z))
        assert (z.mean(0) - q.mean).abs().le(5 * standard_error).all()
        torch.testing.assert_close(z.var(0), q.variance, rtol=5 * math.sqrt(2 / len(z)), atol=0)

    def test_generator_makes_draws_repeatable_and_leaves_the_global_one_alone(self):
        q = d.standard_normal(3)
        state = torch.get_rng_state()
        first, again = (q.sample((2,), generator=torch.Generator().manual_seed(1)) for _ in range(2))
        assert torch.equal(first, again)
        assert torch.equal(torch.get_rng_state(), state)

    def test_rsample_carries_gradients_and_sample_does_not(self):
        mu = torch.zeros(2, requires_grad=True)
        q = d.DiagonalNormal(mu, torch.zeros(2))
        assert q.rsample().requires_grad
        assert not q.sample().requires_grad

    def test_the_gradient_of_a_draw_is_that_of_its_formula(self):
        def draw(mu, logvar):
            return d.DiagonalNormal(mu, logvar).rsample((2,), generator=torch.Generator().manual_seed(1))

        mu, logvar = (torch.linspace(start, 1, 3, dtype=torch.float64).requires_grad_() for start in (-1, -2))
        assert torch.autograd.gradcheck(draw, (mu, logvar))


class TestFullNormal:
    def test_agrees_with_torch(self, generator):
        mu, z = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)
        factor = random_cholesky(generator, 3)
        ours, theirs = d.FullNormal(mu, factor), MultivariateNormal(mu, scale_tril=factor)
        torch.testing.assert_close(ours.log_prob(z), theirs.log_prob(z))
        torch.testing.assert_close(ours.entropy(), theirs.entropy())
        torch.testing.assert_close(ours.covariance, theirs.covariance_matrix)
        torch.testing.assert_close(ours.variance, theirs.variance)

    def test_covariance_of_draws(self, generator):
        q = d.FullNormal(torch.zeros(3, dtype=torch.float64), random_cholesky(generator, 3))
        z = q.rsample((200_000,), generator=generator)
        products = z.unsqueeze(-1) * z.unsqueeze(-2)
        standard_error = products.std(0) / math.sqrt(len(z))
        assert ((products.mean(0) - q.covariance).abs() <= 5 * standard_error).all()

    def test_the_gradient_of_a_draw_is_that_of_its_formula(self, generator):
        def draw(mu, scale_tril):
            return d.FullNormal(mu, scale_tril).rsample((2,), generator=torch.Generator().manual_seed(1))

        mu = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(draw, (mu, random_cholesky(generator, 3).requires_grad_()))


class TestBernoulli:
    def test_agrees_with_torch(self, generator):
        logits = 3 * torch.randn(5, 1, 4, 4, generator=generator, dtype=torch.float64)
        x = torch.bernoulli(torch.full_like(logits, 0.5), generator=generator)
        ours, theirs = d.Bernoulli(logits), torch.distributions.Bernoulli(logits=logits)
        torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x).sum((1, 2, 3)))
        torch.testing.assert_close(ours.mean, theirs.mean)
        torch.testing.assert_close(ours.variance, theirs.variance)

    @pytest.mark.parametrize("logit", [-500.0, 500.0])
    def test_log_prob_and_gradient_stay_finite_far_out(self, logit):
        logits = torch.full((1, 1, 1, 1), logit, requires_grad=True)
        log_prob = d.Bernoulli(logits).log_prob(torch.full((1, 1, 1, 1), float(logit < 0)))
        assert log_prob.item() == pytest.approx(-500)
        log_prob.sum().backward()
        assert logits.grad.abs().item() == pytest.approx(1)

    def test_gradient_with_respect_to_the_logit_is_data_minus_probability(self, generator):
        logits = torch.randn(2, 1, 3, 3, generator=generator, requires_grad=True)
        x = torch.rand(2, 1, 3, 3, generator=generator)
        d.Bernoulli(logits).log_prob(x).sum().backward()
        torch.testing.assert_close(logits.grad, x - torch.sigmoid(logits))

    def test_draws_are_binary_with_the_right_mean(self, generator):
        p = d.Bernoulli(torch.tensor([[[[-1.0, 2.0]]]]))
        x = p.sample((50_000,), generator=generator)
        assert set(x.unique().tolist()) == {0.0, 1.0}
        standard_error = (p.variance / len(x)).sqrt()
        assert ((x.mean(0) - p.mean).abs() <= 5 * standard_error).all()

    def test_generator_makes_draws_repeatable(self):
        p = d.Bernoulli(torch.zeros(1, 1, 8, 8))
        first, again = (p.sample((2,), generator=torch.Generator().manual_seed(1)) for _ in range(2))
        assert torch.equal(first, again)


def every_level(mu, log_scale, levels=256):
    """The distribution of one pixel, and all its levels as a batch of them: ``(levels, 1)``."""
    pixel = d.DiscretisedLogistic(*doubles([mu], log_scale), levels, event_dim=1)
    return pixel, (torch.arange(levels, dtype=torch.float64) / (levels - 1)).unsqueeze(1)


LOGISTICS = [
    (mu, log_scale, levels)
    for mu in (-3.0, 0.0, 0.3, 0.5, 1.2)
    for log_scale in (-8.0, -4.0, -1.0, 3.0)
    for levels in (2, 7, 256)
]


class TestDiscretisedLogistic:
    @pytest.mark.parametrize(("mu", "log_scale", "levels"), LOGISTICS)
    def test_probabilities_of_all_levels_add_up_to_one_with_the_mean(self, mu, log_scale, levels):
        pixel, x = every_level(mu, log_scale, levels)
        p = pixel.log_prob(x).exp()
        assert p.sum().item() == pytest.approx(1, abs=1e-12)
        assert pixel.mean.item() == pytest.approx((p * x.squeeze()).sum().item(), abs=1e-12)

    def test_the_probability_of_a_level_is_what_the_logistic_has_in_its_interval(self):
        mu, log_scale = 0.4, -3.0
        pixel, x = every_level(mu, log_scale)
        ends = (np.arange(255) + 0.5) / 255
        below = logistic.cdf(np.concatenate([[-np.inf], ends, [np.inf]]), loc=mu, scale=math.exp(log_scale))
        np.testing.assert_allclose(pixel.log_prob(x).exp(), np.diff(below), rtol=1e-9)

    def test_in_the_far_tail_it_is_the_probability_and_not_a_difference_of_ones(self):
        pixel = d.DiscretisedLogistic(torch.tensor([0.1]), torch.tensor(-6.0), event_dim=1)
        slope = math.exp(6)
        x = torch.tensor([0.8])
        level = round(0.8 * 255)
        expected = -slope * ((level - 0.5) / 255 - 0.1) + math.log(-math.expm1(-slope / 255))
        assert pixel.log_prob(x).item() == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("log_scale", [-14.0, -7.0, 0.0, 7.0])
    @pytest.mark.parametrize("mu", [-100.0, 0.0, 0.5, 1.0, 100.0])
    def test_log_probs_and_gradients_are_finite_in_single_precision(self, mu, log_scale):
        parameters = torch.full((256, 1), mu, requires_grad=True), torch.tensor(log_scale, requires_grad=True)
        log_prob = d.DiscretisedLogistic(*parameters, event_dim=1).log_prob(
            torch.arange(256.0).unsqueeze(1) / 255
        )
        assert log_prob.isfinite().all()
        assert (log_prob <= 0).all()
        log_prob.sum().backward()
        assert all(p.grad.isfinite().all() for p in parameters)

    def test_gradients(self, generator):
        x = torch.randint(256, (3, 2, 4, 4), generator=generator).double() / 255
        mu = torch.rand(3, 2, 4, 4, generator=generator, dtype=torch.float64).requires_grad_()
        log_scale = torch.tensor([-3.0, -1.0], dtype=torch.float64).view(2, 1, 1).requires_grad_()
        assert torch.autograd.gradcheck(lambda m, s: d.DiscretisedLogistic(m, s).log_prob(x), (mu, log_scale))

    def test_shapes_are_sample_batch_event(self):
        images = d.DiscretisedLogistic(torch.rand(7, 3, 4, 4), torch.zeros(3, 1, 1))
        assert (images.batch_shape, images.event_shape) == ((7,), (3, 4, 4))
        draws = images.sample((5,))
        assert draws.shape == (5, 7, 3, 4, 4)
        assert images.log_prob(draws).shape == (5, 7)
        assert images.mean.shape == (7, 3, 4, 4)

    def test_draws_have_the_probabilities_of_their_levels(self, generator):
        pixel, x = every_level(0.9, -1.5, levels=5)
        draws = pixel.sample((50_000,), generator=generator)
        assert torch.equal(draws.unique(), x.squeeze())
        p = pixel.log_prob(x).exp()
        shares = (draws == x.squeeze()).double().mean(0)
        assert ((shares - p).abs() <= 5 * (p * (1 - p) / len(draws)).sqrt()).all()

    def test_generator_makes_draws_repeatable(self):
        p = d.DiscretisedLogistic(torch.rand(2, 3, 4, 4), torch.tensor(-2.0))
        first, again = (p.sample((2,), generator=torch.Generator().manual_seed(1)) for _ in range(2))
        assert torch.equal(first, again)

    def test_levels_survive_rounding_and_outside_of_them_is_nothing(self):
        pixel, x = every_level(0.5, -1.0)
        near = (x.float() * (1 + 1e-6)).double()
        torch.testing.assert_close(pixel.log_prob(near), pixel.log_prob(x))
        assert pixel.log_prob(torch.tensor([[-0.1], [1.1], [255.0]])).eq(-math.inf).all()

    @pytest.mark.parametrize("levels", [1, 0, 2.5, "256"])
    def test_levels_must_be_two_or_more(self, levels):
        with pytest.raises(ValueError, match=r"^levels must be an integer of 2 or more, got ") as caught:
            d.DiscretisedLogistic(torch.zeros(3), torch.zeros(()), levels)
        assert str(caught.value).endswith(repr(levels))


@pytest.mark.parametrize("family", ["normal", "bernoulli", "discretised logistic"])
def test_the_marginal_of_some_coordinates_is_the_distribution_of_these(family):
    make = {
        "normal": lambda p: d.DiagonalNormal(p, 0.3 * p),
        "bernoulli": lambda p: d.Bernoulli(p, event_dim=1),
        "discretised logistic": lambda p: d.DiscretisedLogistic(p, torch.zeros(()), event_dim=1),
    }[family]
    parameters, value = torch.randn(3, 5), torch.bernoulli(torch.full((3, 5), 0.5))
    kept = torch.tensor([True, False, True, True, False])
    whole, part = make(parameters), make(parameters[:, kept])
    torch.testing.assert_close(whole.marginal(kept).log_prob(value), part.log_prob(value[:, kept]))
    if family == "normal":
        torch.testing.assert_close(whole.marginal(kept).entropy(), part.entropy())
    assert not torch.equal(whole.log_prob(value), part.log_prob(value[:, kept]))  # the first is as it was


def test_a_coordinate_that_does_not_count_may_be_anything():
    kept = torch.tensor([True, False])
    log_prob = (
        d.DiagonalNormal(torch.zeros(2), torch.zeros(2))
        .marginal(kept)
        .log_prob(torch.tensor([0.0, math.nan]))
    )
    assert log_prob.item() == pytest.approx(-0.5 * math.log(2 * math.pi))


def test_a_marginal_needs_a_boolean_mask():
    with pytest.raises(TypeError, match=r"must be boolean, got torch\.float32"):
        d.Bernoulli(torch.zeros(2), event_dim=1).marginal(torch.ones(2))
