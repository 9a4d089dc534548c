r"""Classifiers from few labels and many images: the models M1, M2 and M1+M2.

M1 is a VAE whose codes are features for any classifier. M2 is a conditional VAE whose condition, the label,
may be missing. M1+M2 is M2 on the features of M1.

A bound has its true sign and is in nats, one value for each image; the paper's :math:`\mathcal L(x, y)` and
:math:`\mathcal U(x)` are the negatives of :func:`labelled_bound` and :func:`unlabelled_bound`.

Kingma, Mohamed, Rezende & Welling (2014); chapter *Learning from a hundred labels*.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vaebook import train
from vaebook.data import Batches, Split, binarise
from vaebook.distributions import Bernoulli, DiagonalNormal, kl_discrete
from vaebook.nets import Concatenated, OneHot, mlp, mlp_decoder, mlp_encoder, require_labels
from vaebook.objectives import elbo, log_mean_exp, log_weights
from vaebook.vae import CVAE, VAE, Given, NormalLikelihood

Bound = Callable[..., Tensor]
"""From a model M2 and inputs ``(batch, *event)`` to a bound on log p(x), ``(batch,)``; takes ``beta`` and
``generator`` by name, as :func:`two_label_bound` does."""


def balanced_labels(
    y: Tensor, count: int, *, classes: int = 10, generator: torch.Generator | None = None
) -> Tensor:
    """Choose the images that may keep their label: at random, the same number of each class.

    Args:
        y: labels of all images, int64 ``(n,)``, from 0 to ``classes - 1``.
        count: labels to keep in all, a multiple of ``classes``.
        classes: how many there are.
        generator: source of the choice; ``None`` uses torch's global one.

    Returns:
        Indices of the chosen images, int64 ``(count,)``, sorted.

    Raises:
        ValueError: labels out of range, ``count`` no multiple of ``classes``, or too few images.
    """
    require_labels(y, classes)
    if not isinstance(count, int) or count < classes or count % classes:
        raise ValueError(
            f"count must be a positive multiple of the {classes} classes, so that each has as many labels; "
            f"got {count!r}"
        )
    if count > len(y):
        raise ValueError(f"count must be at most the number of images, {len(y)}; got {count}")
    order = torch.randperm(len(y), generator=generator)
    chosen = []
    for k in range(classes):
        of_class = order[y[order] == k][: count // classes]
        if len(of_class) < count // classes:
            raise ValueError(
                f"{count} labels need {count // classes} images of each class; class {k} has {len(of_class)}"
            )
        chosen.append(of_class)
    return torch.cat(chosen).sort().values


class Features(TransformerMixin, BaseEstimator):
    r"""M1: the code of a trained VAE as features, for any classifier of scikit-learn.

    ``make_pipeline(Features(vae), SVC())`` classifies images. Dimensions of the code that the VAE does not
    use are left out: in those, the posterior mean is the same for all images.

    Args:
        vae: trained, such as by :func:`train_m1`; it is not changed.
        threshold: a dimension is used if the standard deviation of its posterior mean over images is larger.

    Attributes:
        used_: which dimensions are used, int64 indices; there after :meth:`fit`.

    Kingma et al. (2014), section 2; chapter *Learning from a hundred labels*, eq. (semi-m1).
    """

    def __init__(self, vae: VAE, threshold: float = 0.1):
        self.vae = vae
        self.threshold = threshold

    def fit(self, x: Tensor, y=None) -> "Features":
        """Find the dimensions that images ``(n, channel, height, width)`` use; ``y`` is not looked at."""
        with torch.no_grad():
            spread = self.vae.encode(x).mean.std(0)
        self.used_ = (spread > self.threshold).nonzero().squeeze(-1)
        if not len(self.used_):
            raise ValueError(
                f"the VAE uses no dimension of its code: the largest standard deviation of a posterior mean "
                f"is {spread.max():.2g}, and the threshold {self.threshold}; train it longer"
            )
        return self

    @torch.no_grad()
    def encode(self, x: Tensor) -> DiagonalNormal:
        """q(z|x) of the used dimensions, for images ``(batch, channel, height, width)``."""
        q_z = self.vae.encode(x)
        return DiagonalNormal(q_z.mu[..., self.used_], q_z.logvar[..., self.used_])

    def transform(self, x: Tensor) -> np.ndarray:
        """Means of the used dimensions, ``(batch, used)``."""
        return self.encode(x).mean.numpy()

    @torch.no_grad()
    def decode(self, z: Tensor) -> Bernoulli | DiagonalNormal:
        """p(x|z) for codes ``(..., used)``; the other dimensions, which the decoder ignores, are zero."""
        code = z.new_zeros(*z.shape[:-1], self.vae.latent_dim)
        code[..., self.used_] = z
        return self.vae.decode(code)


class M2(nn.Module):
    r"""The generative semi-supervised model: a label, which may be missing, and a code generate an image.

    .. math:: p(x, y, z) = p(y)\, p(z)\, p(x|y, z), \qquad q(y, z|x) = q(y|x)\, q(z|x, y)

    Args:
        classifier: network of q(y|x), from ``(batch, *event)`` to logits ``(batch, classes)``.
        cvae: p(x, z|y) and q(z|x, y); its condition is the label.
        prior: p(y), ``(classes,)``; the labels are equally probable where it is not given.
        classes: how many labels there are.

    Kingma et al. (2014), section 2; chapter *Learning from a hundred labels*, eq. (semi-m2).
    """

    def __init__(
        self, classifier: nn.Module, cvae: CVAE, *, prior: Sequence[float] | None = None, classes: int = 10
    ):
        super().__init__()
        probabilities = torch.ones(classes) if prior is None else torch.as_tensor(prior)
        if probabilities.shape != (classes,) or not (probabilities > 0).all():
            raise ValueError(f"prior must be {classes} positive probabilities, got {prior}")
        self.classifier = classifier
        self.cvae = cvae
        self.classes = classes
        self.register_buffer("log_prior", (probabilities / probabilities.sum()).log())

    def classify(self, x: Tensor) -> Categorical:
        """q(y|x) for inputs ``(batch, *event)``."""
        logits = self.classifier(x)
        full_precision = torch.promote_types(logits.dtype, torch.float32)
        return Categorical(logits=logits.to(full_precision), validate_args=False)

    def predict(self, x: Tensor) -> Tensor:
        """The most probable label under q(y|x), int64 ``(batch,)``."""
        with torch.no_grad():
            return self.classifier(x).argmax(-1)

    def given(self, y: Tensor) -> Given:
        """The model of x for known labels ``(batch,)``: a VAE for each of them."""
        return self.cvae.given(y)


def labelled_bound(
    model: M2, x: Tensor, y: Tensor, *, beta: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    r"""Bound on the log probability of an image and its label.

    .. math:: -\mathcal L_\beta(x, y) = E_{q(z|x, y)}\left[\log p(x|y, z)\right]
        - \beta\, D\left[q(z|x, y) \,\|\, p(z)\right] + \log p(y)

    Args:
        model: M2.
        x: inputs ``(batch, *event)``.
        y: labels ``(batch,)``, or several for each input, ``(labels, batch)``.
        beta: what a nat of the code costs; the paper's bound on log p(x, y) for 1, a looser one for more, and
            none for less.
        generator: source of the noise; ``None`` uses torch's global one.

    Returns:
        Nats, the shape of ``y``, each a one-sample estimate.

    Kingma et al. (2014), eq. 6; chapter *Learning from a hundred labels*, eq. (semi-labelled).
    """
    copies = x.expand(*y.shape, *x.shape[1:]).flatten(end_dim=y.dim() - 1)
    of_x_given_y = elbo(model.given(y.flatten()), copies, beta=beta, generator=generator)
    return of_x_given_y.view_as(y) + model.log_prior[y]


def unlabelled_bound(
    model: M2, x: Tensor, *, beta: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    r"""Bound on the log probability of an image whose label is unknown: a sum over all labels.

    .. math:: -\mathcal U(x) = \sum_y q(y|x) \left(-\mathcal L(x, y)\right) + H[q(y|x)] \le \log p(x)

    Args:
        model, x, beta, generator: as in :func:`labelled_bound`.

    Returns:
        Nats, shape ``(batch,)``, each a one-sample estimate.

    Kingma et al. (2014), eq. 7; chapter *Learning from a hundred labels*, eq. (semi-unlabelled).
    """
    q_y = model.classify(x)
    y = _every_label(model, x)  # (classes, batch)
    bounds = labelled_bound(model, x, y, beta=beta, generator=generator)
    return (q_y.probs.mT * bounds).sum(0) + q_y.entropy()


def two_label_bound(
    model: M2, x: Tensor, *, beta: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    r"""An unbiased estimate of :func:`unlabelled_bound` from two labels instead of all of them.

    .. math:: -\mathcal L(x, \hat y) + \frac{q(y'|x)}{r(y')} \left(\mathcal L(x, \hat y) -
        \mathcal L(x, y')\right) + H[q(y|x)], \qquad y' \sim r

    The first label is the most probable one; the second is drawn from the others, in proportion to q(y|x). As
    the probabilities sum to one, only the differences from the first have to be estimated.

    Args:
        model, x, beta, generator: as in :func:`labelled_bound`.

    Returns:
        Nats, shape ``(batch,)``; value and gradient have the expectation of :func:`unlabelled_bound`.

    Chapter *Learning from a hundred labels*, eq. (semi-two-labels).
    """
    log_q_y = model.classify(x).logits
    q_y = log_q_y.exp()  # (batch, classes)
    first = q_y.argmax(-1, keepdim=True)
    r = q_y.detach().clamp_min(1e-12).scatter(-1, first, 0)  # every other label stays possible
    r = r / r.sum(-1, keepdim=True)
    second = torch.multinomial(r, 1, generator=generator)
    weight = q_y.gather(-1, second) / r.gather(-1, second)
    chosen = torch.cat([first, second], dim=-1).mT  # (2, batch)
    at_first, at_second = labelled_bound(model, x, chosen, beta=beta, generator=generator)
    return at_first + weight.squeeze(-1) * (at_second - at_first) - (q_y * log_q_y).sum(-1)


def log_joint(model: M2, x: Tensor, samples: int = 50, *, generator: torch.Generator | None = None) -> Tensor:
    r"""Importance-sampling estimate of log p(x, y) for every label.

    Its ``logsumexp`` over labels estimates log p(x), and its ``softmax`` is the model's own p(y|x), without
    the classifier.

    Args:
        model, x, generator: as in :func:`labelled_bound`.
        samples: codes drawn for each image and label.

    Returns:
        Nats, shape ``(classes, batch)``.

    Chapter *Learning from a hundred labels*, eq. (semi-bayes).
    """
    by_label = [
        log_mean_exp(log_weights(model.given(y), x, samples, generator=generator))
        for y in _every_label(model, x)
    ]
    return torch.stack(by_label) + model.log_prior[:, None]


def feature_m2(width: int, latent_dim: int = 10, hidden: Sequence[int] = (600,), *, classes: int = 10) -> M2:
    """M2 of feature vectors, such as the codes of M1; the upper half of M1+M2.

    Args:
        width: numbers in a vector.
        latent_dim: dimensions of the code.
        hidden: widths of the hidden layers of each of the three networks, from the vector to the code.
        classes: how many labels there are.
    """
    cvae = CVAE(
        Concatenated(mlp(width + classes, *hidden, 2 * latent_dim)),
        Concatenated(mlp(latent_dim + classes, *reversed(hidden), 2 * width)),
        latent_dim,
        conditioner=OneHot(classes),
        likelihood=NormalLikelihood((-6, 6)),
    )
    return M2(mlp(width, *hidden, classes), cvae, classes=classes)


def image_m2(
    image_shape: Sequence[int] = (1, 28, 28),
    latent_dim: int = 50,
    hidden: Sequence[int] = (500, 500),
    *,
    classes: int = 10,
) -> M2:
    """M2 of binary images, pixel by pixel.

    Args:
        image_shape: ``(channel, height, width)``.
        latent_dim, hidden, classes: as in :func:`feature_m2`.
    """
    cvae = CVAE(
        Concatenated(mlp(math.prod(image_shape) + classes, *hidden, 2 * latent_dim), event_dim=3),
        Concatenated(mlp_decoder(latent_dim + classes, tuple(reversed(hidden)), image_shape)),
        latent_dim,
        conditioner=OneHot(classes),
    )
    return M2(mlp_encoder(image_shape, hidden, classes), cvae, classes=classes)


def train_m1(
    vae: VAE,
    split: Split,
    epochs: int = 60,
    *,
    warm_up: int = 20,
    batch_size: int = 500,
    learning_rate: float = 1e-3,
    precision: str = "auto",
    generator: torch.Generator | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Train the VAE of M1 on images, binarised anew each time; their labels are not looked at.

    Args:
        vae: trained in place; its likelihood should be Bernoulli.
        split: the images.
        epochs, progress: as in :func:`vaebook.train.fit`.
        warm_up: epochs in which the weight of the divergence rises from 0 to 1, so that more dimensions of
            the code come into use before it costs anything to use them (Sønderby et al. 2016).
        batch_size: images a step.
        learning_rate: of Adam; held for three fifths of the epochs, then falling along a cosine.
        precision: as in :func:`vaebook.train.gradient_step`.
        generator: source of orders and noise; ``None`` uses torch's global one.

    Returns:
        The history: "loss" is the mean negative bound in nats; less than that while warming up.
    """
    optimizer = torch.optim.Adam(vae.parameters(), lr=learning_rate, fused=True)
    batches = Batches(split, batch_size, generator=generator)
    steps = itertools.count(1)

    def losses(x: Tensor) -> train.Metrics:
        beta = min(1.0, next(steps) / (warm_up * len(batches))) if warm_up else 1.0
        return {"loss": -elbo(vae, binarise(x, generator=generator), beta=beta, generator=generator).mean()}

    return train.fit(
        train.gradient_step(losses, optimizer, precision=precision),
        batches,
        epochs,
        schedule=_held_then_cosine(optimizer, epochs, hold=0.6),
        progress=progress,
    )


def train_m2(
    model: M2,
    draw: Callable[[Tensor], Tensor],
    y: Tensor,
    labelled: Tensor,
    epochs: int = 200,
    *,
    bound: Bound = two_label_bound,
    labelled_weight: float = 0.03,
    classifier_weight: float = 1.0,
    balance: float = 2.0,
    first_beta: float = 1.0,
    batch_size: int = 1000,
    learning_rate: float = 3e-3,
    average: float = 0.99,
    precision: str = "auto",
    validate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    generator: torch.Generator | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    r"""Train M2 on a few images with their label and on all others without it.

    Each step minimises, over a batch of unlabelled images and all of the labelled ones,

    .. math:: \overline{\mathcal U(x)} + w\, \overline{\mathcal L(x, y)} - \alpha\, \overline{\log q(y|x)}
        + \gamma\, D\left[\overline{q(y|x)} \,\|\, p(y)\right]

    The objective of the paper has w = labelled / unlabelled images, :math:`\alpha = 0.1` and no last term.
    Where the code can explain everything, the label may be left unused; ``first_beta`` above one makes the
    code dear at first, so that the label explains what it can before the code does.

    Args:
        model: trained in place; at the end its classifier has the moving average of its weights.
        draw: from indices of images to inputs ``(batch, *event)``, with fresh noise: codes drawn from M1's
            q(z|x), or binarised pixels.
        y: labels of all images, int64 ``(n,)``; only those of ``labelled`` are looked at.
        labelled: indices of the images with a label; every class must be among them.
        epochs, progress: as in :func:`vaebook.train.fit`; an epoch draws every unlabelled image once.
        bound: on log p(x): :func:`two_label_bound` or, slower, :func:`unlabelled_bound`.
        labelled_weight: w, of the bound of a labelled image.
        classifier_weight: alpha, of the cross-entropy of q(y|x).
        balance: gamma, of the divergence of the mean q(y|x) of a batch from p(y).
        first_beta: weight of the divergence of the code in the bound of the unlabelled images, at the first
            step; it falls evenly, to one when the training ends. Labelled images have one throughout.
        batch_size: unlabelled images a step.
        learning_rate: of Adam; held for half of the epochs, then falling along a cosine.
        average: decay, step by step, of the moving average of the classifier.
        precision: as in :func:`vaebook.train.gradient_step`.
        validate: called after each epoch with the averaged classifier; what it returns joins the history.
        generator: source of orders and noise; ``None`` uses torch's global one.

    Returns:
        The history: "loss" and its terms in nats.

    Raises:
        ValueError: labels out of range, a class without labels, more labels than images, or ``first_beta``
            below 1.

    Kingma et al. (2014), eq. 8 and 9; chapter *Learning from a hundred labels*, eq. (semi-practical).
    """
    _require_labelled(y, labelled, model.classes)
    if not first_beta >= 1:
        raise ValueError(f"first_beta must be at least 1, where the bound is the paper's; got {first_beta}")
    unlabelled = torch.ones(len(y), dtype=torch.bool)
    unlabelled[labelled] = False
    rows, y_labelled = unlabelled.nonzero().squeeze(-1), y[labelled]
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    batches = _Rows(rows, batch_size, generator)
    steps = itertools.count()
    averaged = AveragedModel(model.classifier, multi_avg_fn=get_ema_multi_avg_fn(average))

    def losses(batch: Tensor) -> train.Metrics:
        x, x_labelled = draw(batch), draw(labelled)
        beta = 1 + (first_beta - 1) * (1 - next(steps) / (epochs * len(batches)))
        terms = {
            "unlabelled": -bound(model, x, beta=beta, generator=generator).mean(),
            "labelled": -labelled_bound(model, x_labelled, y_labelled, generator=generator).mean(),
            "classifier": functional.cross_entropy(model.classify(x_labelled).logits, y_labelled),
            "imbalance": _divergence_from_prior(model, x) if balance else torch.zeros(()),
        }
        weights = (1.0, labelled_weight, classifier_weight, balance)
        loss = sum(weight * term for weight, term in zip(weights, terms.values(), strict=True))
        return {"loss": loss, **terms}

    gradient_step = train.gradient_step(losses, optimizer, precision=precision)

    def step(batch: Tensor) -> train.Metrics:
        metrics = gradient_step(batch)
        averaged.update_parameters(model.classifier)
        return metrics

    history = train.fit(
        step,
        batches,
        epochs,
        validate=validate and (lambda: validate(averaged.module)),
        schedule=_held_then_cosine(optimizer, epochs, hold=0.5),
        progress=progress,
    )
    model.classifier.load_state_dict(averaged.module.state_dict())
    return history


class _Rows:
    """Indices in batches, in another order in each epoch."""

    def __init__(self, rows: Tensor, batch_size: int, generator: torch.Generator | None):
        self.rows, self.batch_size, self.generator = rows, batch_size, generator

    def __iter__(self) -> Iterator[Tensor]:
        order = torch.randperm(len(self.rows), generator=self.generator)
        return iter(self.rows[order].split(self.batch_size))

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)


def _held_then_cosine(optimizer: torch.optim.Optimizer, epochs: int, *, hold: float) -> LambdaLR:
    """The learning rate, held for a share of the epochs, and then down to a fiftieth along a cosine."""

    def factor(epoch: int) -> float:
        fallen = max(0.0, epoch / epochs - hold) / (1 - hold)
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fallen))

    return LambdaLR(optimizer, factor)


def _divergence_from_prior(model: M2, x: Tensor) -> Tensor:
    """The divergence of the labels that q(y|x) gives to a batch from p(y), in nats, 0-d."""
    return kl_discrete(model.classify(x).logits.exp().mean(0), model.log_prior.exp())


def _every_label(model: M2, x: Tensor) -> Tensor:
    """Each label for each input, ``(classes, batch)``."""
    return torch.arange(model.classes).unsqueeze(1).expand(-1, len(x))


def _require_labelled(y: Tensor, labelled: Tensor, classes: int) -> None:
    if len(labelled) >= len(y):
        raise ValueError(f"there must be fewer labels than images, got {len(labelled)} for {len(y)} images")
    require_labels(y[labelled], classes)
    counts = torch.bincount(y[labelled], minlength=classes)
    if not counts.all():
        missing = ", ".join(str(k) for k in (counts == 0).nonzero().squeeze(-1).tolist())
        raise ValueError(f"every class needs a label, and none is of class {missing}; see balanced_labels")
