"""The models of Kingma et al. (2014): bounds against explicit sums and exact models, estimators, training."""

import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from vaebook import objectives, vae
from vaebook import semisupervised as semi
from vaebook.data import Split
from vaebook.distributions import DiagonalNormal, FullNormal, kl_discrete, kl_divergence
from vaebook.linear_gaussian import ConditionalLinearGaussian

CLASSES = 4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model() -> semi.M2:
    """M2 of vectors of five numbers with a prior that is not uniform, in float64."""
    torch.manual_seed(0)
    model = semi.feature_m2(5, latent_dim=2, hidden=(7,), classes=CLASSES).double()
    prior = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    return semi.M2(model.classifier, model.cvae, prior=prior, classes=CLASSES)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(6, 5, generator=seeded(1), dtype=torch.float64)


class ExactM2(semi.M2):
    """M2 whose p(x|y), p(x, y) and p(x) are known, and whose q(z|x, y) is exact."""

    def __init__(self):
        weight = torch.randn(5, 2, generator=seeded(2), dtype=torch.float64)
        shift = torch.randn(5, CLASSES, generator=seeded(3), dtype=torch.float64)
        super().__init__(torch.nn.Linear(5, CLASSES).double(), None, prior=[1, 2, 3, 4], classes=CLASSES)
        zeros = torch.zeros(2, CLASSES, dtype=torch.float64)
        bias = torch.zeros(5, dtype=torch.float64)
        self.exact = ConditionalLinearGaussian(weight, shift, zeros, bias, -0.5)

    def given(self, y):
        return self.exact.given(torch.nn.functional.one_hot(y, CLASSES).double())

    def log_joint(self, x):
        """The exact log p(x, y), ``(classes, batch)``."""
        labels = torch.arange(CLASSES)
        rows = [self.given(labels[k : k + 1]).log_evidence(x) for k in labels]
        return torch.stack(rows) + self.log_prior[:, None]


# Labels


def test_labels_are_balanced_and_named_by_their_seed():
    y = torch.arange(200) % 10
    chosen = semi.balanced_labels(y, 50, generator=seeded(0))
    assert torch.bincount(y[chosen]).tolist() == [5] * 10
    assert len(chosen.unique()) == 50
    assert torch.equal(chosen, semi.balanced_labels(y, 50, generator=seeded(0)))
    assert not torch.equal(chosen, semi.balanced_labels(y, 50, generator=seeded(1)))


@pytest.mark.parametrize(
    ("y", "count", "message"),
    [
        (torch.arange(200) % 10, 55, "multiple of the 10 classes.*got 55"),
        (torch.arange(200) % 10, 0, "got 0"),
        (torch.arange(200) % 10, 210, "at most the number of images, 200; got 210"),
        (torch.arange(200) % 9, 20, "2 images of each class; class 9 has 0"),
        (torch.arange(200) % 11, 20, "from 0 to 9, got 0 to 10"),
        (torch.arange(200) % 10 - 1, 20, "got -1 to 8"),
    ],
)
def test_impossible_choices_of_labels_are_refused(y, count, message):
    with pytest.raises(ValueError, match=message):
        semi.balanced_labels(y, count)


def test_labels_must_be_integers():
    with pytest.raises(TypeError, match=r"torch\.int64.*float32"):
        semi.balanced_labels(torch.zeros(20), 10)


# Bounds


def test_the_bound_with_the_label_is_that_of_the_conditional_model_and_the_prior(model, x):
    y = torch.tensor([0, 1, 2, 3, 3, 0])
    found = semi.labelled_bound(model, x, y, generator=seeded())
    given = objectives.elbo(model.cvae.given(y), x, generator=seeded())
    expected = given + torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)[y].log()
    torch.testing.assert_close(found, expected)


def test_several_labels_for_each_input_are_bounds_one_by_one():
    exact = ExactM2()
    x = torch.randn(6, 5, generator=seeded(1), dtype=torch.float64)
    y = torch.randint(CLASSES, (3, 6), generator=seeded(2))
    found = semi.log_joint(exact, x, 1, generator=seeded()).gather(0, y)
    torch.testing.assert_close(found, exact.log_joint(x).gather(0, y))


def test_beta_is_what_a_nat_of_the_code_costs(model, x):
    y = torch.arange(CLASSES)[:, None].expand(-1, len(x))

    def by_label(beta):
        return semi.labelled_bound(model, x, y, beta=beta, generator=seeded(4))

    codes = [model.given(y[k]) for k in range(CLASSES)]
    kl = torch.stack([kl_divergence(given.encode(x), given.prior) for given in codes])
    torch.testing.assert_close(by_label(1.0) - by_label(3.0), 2 * kl)

    def without(bound, beta):
        return bound(model, x, beta=beta, generator=seeded(4))

    q_y = model.classify(x).probs.mT
    dearer = without(semi.unlabelled_bound, 1.0) - without(semi.unlabelled_bound, 3.0)
    torch.testing.assert_close(dearer, 2 * (q_y * kl).sum(0))

    copies = 4000
    few = [
        semi.two_label_bound(model, x.repeat(copies, 1), beta=beta, generator=seeded(4)).detach()
        for beta in (1.0, 3.0)
    ]
    dearer = (few[0] - few[1]).view(copies, len(x))  # the second label is all that is left to chance
    width = dearer.std(0) / math.sqrt(copies)
    assert ((dearer.mean(0) - 2 * (q_y * kl).sum(0)).abs() < 5 * width).all()


def test_with_exact_posteriors_log_weights_give_the_exact_joint_and_evidence(x):
    exact = ExactM2()
    log_p_xy = semi.log_joint(exact, x, samples=3, generator=seeded())
    torch.testing.assert_close(log_p_xy, exact.log_joint(x))
    mixture = [
        FullNormal(given.decode(given.prior.mean).mean[0], torch.linalg.cholesky(covariance)).log_prob(x)
        for given in (exact.given(torch.tensor([k])) for k in range(CLASSES))
        for covariance in [given.weight @ given.weight.mT + math.exp(-0.5) * torch.eye(5)]
    ]
    log_p_x = torch.logsumexp(torch.stack(mixture) + exact.log_prior[:, None], dim=0)
    torch.testing.assert_close(torch.logsumexp(log_p_xy, dim=0), log_p_x)


def test_the_bound_without_the_label_is_the_explicit_sum(model, x):
    q_y = torch.softmax(model.classifier(x), dim=-1)
    noise = seeded()
    labels = torch.arange(CLASSES).repeat_interleave(len(x))
    bounds = semi.labelled_bound(model, x.repeat(CLASSES, 1), labels, generator=noise).view(CLASSES, -1)
    expected = sum(q_y[:, k] * (bounds[k] - q_y[:, k].log()) for k in range(CLASSES))
    torch.testing.assert_close(semi.unlabelled_bound(model, x, generator=seeded()), expected)


def test_with_exact_codes_the_gap_is_the_divergence_of_the_label(x):
    """log p(x) - bound = D[q(y|x) || p(y|x)], as q(z|x, y) is exact."""
    exact, generator = ExactM2(), seeded()
    log_p_xy = exact.log_joint(x)
    gap = kl_discrete(exact.classify(x).probs, torch.softmax(log_p_xy, dim=0).mT)
    expected = torch.logsumexp(log_p_xy, dim=0) - gap
    for bound in (semi.unlabelled_bound, semi.two_label_bound):
        draws = torch.stack([bound(exact, x, generator=generator) for _ in range(500)])
        standard_error = draws.std(0) / math.sqrt(len(draws))
        assert ((draws.mean(0) - expected).abs() < 5 * standard_error).all()


@pytest.mark.parametrize("confidence", [1.0, 20.0])
def test_two_labels_give_the_sum_over_all_in_value_and_gradient(model, x, confidence):
    """The noise of the codes is turned off, so that the sum over all labels is exact."""
    with torch.no_grad():
        model.classifier[-1].weight.mul_(confidence)
        model.cvae.encoder.network[-1].bias[2:] = -60  # log variances, held at -20
    parameters = list(model.parameters())

    def value_and_gradient(bound, generator):
        value = bound(model, x, generator=generator).sum()
        gradient = torch.autograd.grad(value, parameters)
        return torch.cat([value.detach()[None], *(g.flatten() for g in gradient)])

    expected = value_and_gradient(semi.unlabelled_bound, seeded())
    generator = seeded(5)
    draws = torch.stack([value_and_gradient(semi.two_label_bound, generator) for _ in range(600)])
    standard_error = draws.std(0) / math.sqrt(len(draws))
    slack = 1e-3 * expected.abs() + 1e-4  # the codes still have a standard deviation of e^-10
    assert ((draws.mean(0) - expected).abs() <= 5 * standard_error + slack).all()
    assert standard_error[0] > 0


def test_two_labels_cannot_overflow_where_one_is_certain(model, x):
    with torch.no_grad():
        model.classifier[-1].weight.mul_(1e4)
    bound = semi.two_label_bound(model.float(), x.float(), generator=seeded())
    (gradient,) = torch.autograd.grad(bound.sum(), [model.classifier[-1].weight])
    assert bound.isfinite().all()
    assert gradient.isfinite().all()


def test_the_prior_must_be_probabilities(model):
    with pytest.raises(ValueError, match="prior must be 4 positive probabilities"):
        semi.M2(model.classifier, model.cvae, prior=[0.5, 0.5], classes=4)
    torch.testing.assert_close(model.log_prior.exp().sum().item(), 1.0)


def test_networks_of_pixels_and_of_features_fit_their_inputs():
    pixels = semi.image_m2((1, 4, 4), latent_dim=3, hidden=(6, 5))
    x = torch.rand(8, 1, 4, 4).round()
    assert semi.unlabelled_bound(pixels, x).shape == (8,)
    assert pixels.predict(x).shape == (8,)
    assert pixels.given(torch.arange(8)).decode(torch.zeros(8, 3)).mean.shape == (8, 1, 4, 4)
    vectors = semi.feature_m2(5, 2, (6,))
    p_x = vectors.given(torch.arange(8)).decode(torch.zeros(8, 2))
    assert isinstance(p_x, DiagonalNormal)
    assert p_x.mean.shape == (8, 5)


# M1


@pytest.fixture
def blobs() -> Split:
    """Images of 4x4 pixels in two classes: the upper or the lower half is bright."""
    y = torch.arange(400) % 2
    bright = torch.zeros(400, 1, 4, 4)
    bright[y == 0, :, :2] = 200
    bright[y == 1, :, 2:] = 200
    noise = torch.randint(0, 50, bright.shape, generator=seeded())
    return Split((bright + noise).to(torch.uint8), y, 255)


@pytest.fixture
def m1(blobs) -> vae.VAE:
    torch.manual_seed(0)
    model = vae.mlp_vae(4, (16,), (1, 4, 4))
    semi.train_m1(model, blobs, 40, batch_size=40, learning_rate=1e-2, generator=seeded(), progress=False)
    return model


def test_warming_up_leaves_the_divergence_out_at_first_and_counts_it_in_the_end(blobs):
    def first_and_last_loss(warm_up):
        torch.manual_seed(0)
        model = vae.mlp_vae(4, (16,), (1, 4, 4))
        with torch.no_grad():
            model.encoder[-1][-1].bias[:4] = 3  # a divergence of 4 x 4.5 nats to begin with
        options = {"batch_size": 400, "learning_rate": 1e-6, "progress": False}
        losses = semi.train_m1(model, blobs, 3, warm_up=warm_up, generator=seeded(), **options)["loss"]
        return losses.iloc[0], losses.iloc[-1]

    cold, warm = first_and_last_loss(0), first_and_last_loss(3)
    assert cold[0] - warm[0] == pytest.approx(2 / 3 * 18, abs=1)
    assert warm[1] == pytest.approx(cold[1], abs=0.01)


def test_features_are_the_codes_that_the_vae_uses(m1, blobs):
    features = semi.Features(m1).fit(blobs.x())
    means = m1.encode(blobs.x()).mean
    assert 1 <= len(features.used_) < 4
    spread = means.std(0)
    assert (spread[features.used_] > 0.1).all()
    assert features.transform(blobs.x()) == pytest.approx(means[:, features.used_].detach().numpy())


def test_any_classifier_takes_the_features(m1, blobs):
    few = torch.arange(4)
    classifier = make_pipeline(semi.Features(m1).fit(blobs.x()), LogisticRegression())
    classifier.named_steps["logisticregression"].fit(
        classifier.named_steps["features"].transform(blobs.x()[few]), blobs.labels[few]
    )
    assert (classifier.predict(blobs.x()) == blobs.labels.numpy()).mean() > 0.99


def test_features_decode_to_the_images_that_they_came_from(m1, blobs):
    features = semi.Features(m1).fit(blobs.x())
    p_x = features.decode(features.encode(blobs.x()).mean)
    assert (p_x.mean - blobs.x()).abs().mean() < 0.2
    unused = [k for k in range(4) if k not in features.used_]
    code = torch.zeros(1, 4)
    code[0, features.used_] = 0.5
    torch.testing.assert_close(features.decode(code[:, features.used_]).logits, m1.decode(code).logits)
    assert unused


def test_a_vae_that_uses_nothing_has_no_features():
    model = vae.mlp_vae(3, (5,), (1, 4, 4))
    with torch.no_grad():
        model.encoder[-1][-1].weight.zero_()
    with pytest.raises(ValueError, match=r"uses no dimension of its code.*threshold 0\.1; train it longer"):
        semi.Features(model).fit(torch.rand(9, 1, 4, 4))


# Training


def train(split, labelled, *, epochs=15, seed=0, **options):
    torch.manual_seed(seed)
    generator = seeded(seed)
    model = semi.image_m2((1, 4, 4), 2, (16,), classes=2)
    history = semi.train_m2(
        model,
        lambda rows: split.x()[rows],
        split.labels,
        labelled,
        epochs,
        batch_size=50,
        learning_rate=1e-2,
        average=0.9,
        generator=generator,
        progress=False,
        **options,
    )
    return model, history


@pytest.mark.parametrize("bound", [semi.unlabelled_bound, semi.two_label_bound])
def test_two_labels_are_enough_for_two_clusters(blobs, bound):
    model, history = train(blobs, torch.tensor([0, 1]), bound=bound)
    assert (model.predict(blobs.x()) == blobs.labels).float().mean() > 0.95
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]


def test_training_repeats_and_looks_at_no_other_label(blobs):
    labelled = torch.tensor([0, 1])
    hidden = Split(blobs.images, torch.where(torch.arange(400) < 2, blobs.labels, 0), 255)
    first, second = train(blobs, labelled, epochs=2)[0], train(hidden, labelled, epochs=2)[0]
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_loss_is_its_weighted_terms_and_the_classifier_is_averaged(blobs):
    seen = []
    weights = {"labelled_weight": 0.5, "classifier_weight": 3.0, "balance": 0.25}
    model, history = train(
        blobs,
        torch.tensor([0, 1]),
        epochs=2,
        validate=lambda classifier: seen.append(classifier(blobs.x()).detach()) or {"error": 0.5},
        **weights,
    )
    terms = history[["unlabelled", "labelled", "classifier", "imbalance"]].to_numpy()
    assert history["loss"].to_numpy() == pytest.approx(terms @ [1.0, 0.5, 3.0, 0.25], rel=1e-5)
    assert history["validation error"].tolist() == [0.5, 0.5]
    torch.testing.assert_close(model.classifier(blobs.x()), seen[-1])


def test_the_code_is_dear_at_first_and_its_price_falls_evenly(blobs):
    seen = []

    def bound(model, x, *, beta, generator):
        seen.append(beta)
        return semi.two_label_bound(model, x, beta=beta, generator=generator)

    train(blobs, torch.tensor([0, 1]), epochs=2, bound=bound, first_beta=5.0)
    assert len(seen) == 2 * 8  # 398 images in batches of 50
    assert seen == pytest.approx([5 - 4 * k / 16 for k in range(16)])
    with pytest.raises(ValueError, match=r"first_beta must be at least 1.*got 0.5"):
        train(blobs, torch.tensor([0, 1]), first_beta=0.5)


@pytest.mark.parametrize(
    ("labelled", "y", "message"),
    [
        (torch.tensor([0, 2]), torch.arange(400) % 2, "none is of class 1; see balanced_labels"),
        (torch.arange(400), torch.arange(400) % 2, "fewer labels than images, got 400 for 400 images"),
        (torch.tensor([0, 1, 2]), torch.arange(400) % 3, "from 0 to 1, got 0 to 2"),
    ],
)
def test_labels_that_cannot_be_learned_from_are_refused(blobs, labelled, y, message):
    with pytest.raises(ValueError, match=message):
        train(Split(blobs.images, y, 255), labelled)
