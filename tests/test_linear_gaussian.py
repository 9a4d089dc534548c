import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from vaebook.distributions import DiagonalNormal
from vaebook.linear_gaussian import ConditionalLinearGaussian, LinearGaussian


@pytest.fixture
def model() -> LinearGaussian:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    return LinearGaussian(weight, torch.arange(5.0, dtype=torch.float64), logvar=-0.7)


def test_evidence_is_the_integral_over_the_code():
    weight = torch.tensor([[1.5]], dtype=torch.float64)
    model = LinearGaussian(weight, torch.tensor([0.3], dtype=torch.float64), logvar=math.log(0.4))
    integral, _ = quad(lambda z: norm.pdf(z) * norm.pdf(2.0, 1.5 * z + 0.3, math.sqrt(0.4)), -10, 10)
    evidence = model.log_evidence(torch.tensor([[2.0]], dtype=torch.float64))
    assert evidence.item() == pytest.approx(math.log(integral), abs=1e-9)


def test_bayes_rule_holds_at_every_code(model):
    generator = torch.Generator().manual_seed(1)
    x = model.sample(7, generator=generator)
    z = 3 * torch.randn(4, 7, 2, generator=generator, dtype=torch.float64)
    by_bayes = model.decode(z).log_prob(x) + model.prior.log_prob(z) - model.posterior(x).log_prob(z)
    torch.testing.assert_close(by_bayes, model.log_evidence(x).expand(4, 7))


def test_samples_have_the_covariance_of_the_evidence(model):
    x = model.sample(200_000, generator=torch.Generator().manual_seed(2)) - model.bias
    products = x.unsqueeze(-1) * x.unsqueeze(-2)
    expected = model.weight @ model.weight.mT + math.exp(-0.7) * torch.eye(5)
    assert ((products.mean(0) - expected).abs() <= 5 * products.std(0) / math.sqrt(len(x))).all()


def test_another_encoder_takes_the_place_of_the_posterior(model):
    q = DiagonalNormal(torch.zeros(1, 2), torch.zeros(1, 2))
    other = LinearGaussian(model.weight, model.bias, -0.7, encoder=lambda x: q)
    assert other.encode(torch.zeros(1, 5)) is q


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"weight must be \(d, k\) and bias \(d,\); got \(3, 2\), \(2,\)"):
        LinearGaussian(torch.zeros(3, 2), torch.zeros(2), 0.0)


@pytest.fixture
def conditional() -> ConditionalLinearGaussian:
    generator = torch.Generator().manual_seed(0)
    weight, shift, prior_weight = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in [(5, 2), (5, 3), (2, 3)]
    )
    return ConditionalLinearGaussian(weight, shift, prior_weight, torch.arange(5.0).double(), logvar=-0.7)


def test_bayes_rule_holds_under_every_condition(conditional):
    generator = torch.Generator().manual_seed(1)
    y = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    x = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    z = torch.randn(4, 7, 2, generator=generator, dtype=torch.float64)
    model = conditional.given(y)
    by_bayes = model.decode(z).log_prob(x) + model.prior.log_prob(z) - model.posterior(x).log_prob(z)
    torch.testing.assert_close(by_bayes, model.log_evidence(x).expand(4, 7))


def test_the_condition_moves_the_code_and_the_observation(conditional):
    y = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    x = conditional.given(y).sample(200_000, generator=torch.Generator().manual_seed(2))
    expected = conditional.weight @ conditional.prior_weight @ y + conditional.shift @ y + conditional.bias
    assert ((x.mean(0) - expected).abs() <= 5 * x.std(0) / math.sqrt(len(x))).all()


def test_another_conditional_encoder_is_given_the_condition_too(conditional):
    conditional.encoder = lambda x, y: (x, y)
    assert conditional.given(torch.ones(3).double()).encode("x")[1].tolist() == [1, 1, 1]
