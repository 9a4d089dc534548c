"""Errors of semi-supervised classifiers of MNIST, run by run, for the chapter semi_supervised.

A run is a method, a number of labels, a draw of the images that have them, and a seed of M1. When it ends, it
adds a row to the table; what is in the table is not run again. So this may be killed at any time and started
again, and several may work at once. The provenance of each invocation is kept beside the table.

Settings are chosen on 10 000 validation images. The test images are looked at once in each run, at its end;
but test errors of earlier settings were known when the last ones were chosen.
"""

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import platformdirs
import torch
from filelock import FileLock
from scipy.sparse import csr_array
from sklearn.base import ClassifierMixin
from sklearn.neighbors import KNeighborsClassifier, kneighbors_graph
from sklearn.semi_supervised import LabelSpreading
from sklearn.svm import SVC
from tqdm import tqdm

from vaebook import data, provenance, vae
from vaebook import semisupervised as semi
from vaebook.distributions import DiagonalNormal
from vaebook.files import replacing

TABLE = Path(__file__).parent / "results" / "semi_supervised.csv"
NO_M1 = -1
M1_EPOCHS, WARM_UP = 60, 20
STACK_EPOCHS = 200
PIXEL_EPOCHS = 50
C = (0.1, 1.0, 10.0, 100.0)  # penalties of support vector machines, from which validation chooses


@dataclass(frozen=True)
class Run:
    """What is trained once; ``m1_seed`` is ``NO_M1`` where M1 takes no part."""

    method: str
    labels: int
    draw: int
    m1_seed: int

    def labelled(self) -> torch.Tensor:
        """Indices of the training images that have their label: the same for every method."""
        generator = torch.Generator().manual_seed(self.draw)
        return semi.balanced_labels(mnist().train.labels, self.labels, generator=generator)


Predictions = tuple[np.ndarray, np.ndarray]
"""Labels for the validation and for the test images."""

Validate = Callable[[torch.nn.Module], dict[str, float]]
"""What :func:`vaebook.semisupervised.train_m2` calls after each epoch."""


@cache
def mnist() -> data.DataSet:
    """50 000 images to learn from, 10 000 to choose settings, and the 10 000 of the test."""
    return data.load("mnist", validation=10_000)


@cache
def m1(seed: int) -> semi.Features:
    """The trained M1 of a seed, from the user's cache if it is there."""
    path = platformdirs.user_cache_path("vaebook") / "semi_supervised" / f"m1-{seed}-{M1_EPOCHS}-{WARM_UP}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.exists():
            with replacing(path) as file:
                torch.save(trained_m1(seed).state_dict(), file)
    model = untrained_m1()
    model.load_state_dict(torch.load(path, weights_only=True))
    return semi.Features(model).fit(mnist().train.x())


def untrained_m1() -> vae.VAE:
    """The networks of M1."""
    return vae.mlp_vae(50, (500, 500))


def trained_m1(seed: int) -> vae.VAE:
    """M1, trained on all images without their labels."""
    torch.manual_seed(seed)
    model = untrained_m1()
    generator = torch.Generator().manual_seed(seed)
    semi.train_m1(model, mnist().train, M1_EPOCHS, warm_up=WARM_UP, generator=generator)
    return model


@cache
def pixels() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training, validation and test images as vectors of 784 numbers."""
    return tuple(split.x().flatten(1).numpy() for split in (mnist().train, mnist().validation, mnist().test))


@cache
def codes(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same as features of M1."""
    return tuple(m1(seed).transform(split.x()) for split in (mnist().train, mnist().validation, mnist().test))


def best_classifier(run: Run, candidates: list[ClassifierMixin]) -> Predictions:
    """Fit each candidate to the labelled images, and predict with the one that validation prefers."""
    train, validation, test = pixels() if run.m1_seed == NO_M1 else codes(run.m1_seed)
    rows, y = run.labelled(), mnist().train.labels
    for candidate in candidates:
        candidate.fit(train[rows], y[rows])
    predicted = [candidate.predict(validation) for candidate in candidates]
    best = int(np.argmin([error(labels, mnist().validation) for labels in predicted]))
    return predicted[best], candidates[best].predict(test)


def nearest_neighbour(run: Run) -> Predictions:
    """The label of the nearest labelled image, in pixels."""
    return best_classifier(run, [KNeighborsClassifier(1)])


def support_vectors(run: Run, kernel: str) -> Predictions:
    """A support vector machine on pixels or on the features of M1."""
    return best_classifier(run, [SVC(C=c, kernel=kernel) for c in C])


def spreading(run: Run) -> Predictions:
    """Labels spread along a graph of near neighbours, of which the images to be classified are a part."""
    train, validation, test = codes(run.m1_seed)
    y = np.full(len(train) + len(validation) + len(test), -1)
    y[run.labelled()] = mnist().train.labels[run.labelled()]
    spread = LabelSpreading(lambda x, _: near_neighbours(x, 5), alpha=0.99, max_iter=1000)
    spread.fit(np.concatenate([train, validation, test]), y)
    predicted = spread.transduction_[len(train) :]
    return predicted[: len(validation)], predicted[len(validation) :]


def near_neighbours(x: np.ndarray, count: int) -> csr_array:
    """The graph that joins two points if either is among the ``count`` nearest of the other.

    scikit-learn's own graph has arrows from a point to its nearest only (its issue 8008). Its Laplacian is
    then not that of the method.
    """
    arrows = kneighbors_graph(x, count)
    return csr_array(arrows.maximum(arrows.T))


def stack(run: Run) -> Predictions:
    """M1+M2: q(y|z1) is asked about the means of M1's codes."""
    features, model = m1(run.m1_seed), trained_stack(run)
    return tuple(
        model.predict(features.encode(part.x()).mean).numpy() for part in (mnist().validation, mnist().test)
    )


def trained_stack(run: Run, validate: Validate | None = None) -> semi.M2:
    """M2 on codes that are drawn anew from M1's posterior whenever an image is seen."""
    features, split = m1(run.m1_seed), mnist().train
    q_z1 = features.encode(split.x())
    torch.manual_seed(run.draw)
    generator = torch.Generator().manual_seed(run.draw)

    def draw(rows: torch.Tensor) -> torch.Tensor:
        return DiagonalNormal(q_z1.mu[rows], q_z1.logvar[rows]).rsample(generator=generator)

    model = semi.feature_m2(len(features.used_))
    options = paper_objective(run) if "paper's objective" in run.method else {}
    semi.train_m2(
        model,
        draw,
        split.labels,
        run.labelled(),
        STACK_EPOCHS,
        validate=validate,
        generator=generator,
        **options,
    )
    return model


def m2(run: Run) -> Predictions:
    """M2 on pixels: q(y|x) is asked about grey values."""
    model = trained_m2(run)
    return tuple(model.predict(part.x()).numpy() for part in (mnist().validation, mnist().test))


def trained_m2(run: Run, validate: Validate | None = None) -> semi.M2:
    """M2 on pixels that are binarised anew whenever an image is seen."""
    split, options = mnist().train, pixel_options(run)
    x = split.x()
    torch.manual_seed(run.draw)
    generator = torch.Generator().manual_seed(run.draw)
    model = semi.image_m2(latent_dim=options.pop("latent_dim"))
    semi.train_m2(
        model,
        lambda rows: data.binarise(x[rows], generator=generator),
        split.labels,
        run.labelled(),
        PIXEL_EPOCHS,
        validate=validate,
        generator=generator,
        **options,
    )
    return model


def pixel_options(run: Run) -> dict[str, float]:
    """What M2 on pixels is trained with: our settings, in which its code is dear at first, or the paper's."""
    ours = {"latent_dim": 10, "labelled_weight": 1.0, "first_beta": 10.0}
    paper = paper_objective(run) | {"latent_dim": 50, "first_beta": 1.0, "learning_rate": 1e-3}
    return {
        "M2": ours,
        "M2, code never dear": ours | {"first_beta": 1.0},
        "M2, code of 50 dimensions": ours | {"latent_dim": 50},
        "M2, paper's objective": paper,
        "M2, paper's objective, code dear at first": paper | {"first_beta": 10.0},
    }[run.method]


def paper_objective(run: Run) -> dict[str, float]:
    """The weights of the paper: each image counts once, and alpha is a tenth of their number."""
    unlabelled = len(mnist().train) - run.labels
    return {
        "labelled_weight": run.labels / unlabelled,
        "classifier_weight": 0.1 * len(mnist().train) / unlabelled,
        "balance": 0.0,
    }


METHODS: dict[str, Callable[[Run], Predictions]] = {
    "nearest neighbour": nearest_neighbour,
    "SVM": partial(support_vectors, kernel="rbf"),
    "M1 + linear SVM": partial(support_vectors, kernel="linear"),
    "M1 + SVM": partial(support_vectors, kernel="rbf"),
    "M1 + label spreading": spreading,
    "M2, paper's objective": m2,
    "M2, paper's objective, code dear at first": m2,
    "M2": m2,
    "M2, code never dear": m2,
    "M2, code of 50 dimensions": m2,
    "M1+M2, paper's objective": stack,
    "M1+M2": stack,
}


def error(predicted: np.ndarray, split: data.Split) -> float:
    """Images with the wrong label, in per cent."""
    return 100 * float(np.mean(predicted != split.labels.numpy()))


def finished(path: Path) -> pd.DataFrame:
    """The table so far; no rows if there is none."""
    columns = [field.name for field in dataclasses.fields(Run)]
    if path.exists():
        return pd.read_csv(path)
    return pd.DataFrame(columns=[*columns, "validation_error", "test_error", "seconds", "invocation"])


def append(row: dict, facts: dict, path: Path) -> None:
    """Add a row, and the provenance of its invocation if that is new; another process may do the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        beside = path.with_suffix(".json")
        invocations = json.loads(beside.read_text("utf-8")) if beside.exists() else {}
        invocations.setdefault(row["invocation"], facts)
        with replacing(beside) as file:
            file.write((json.dumps(invocations, indent=1) + "\n").encode())
        rows = pd.concat([finished(path), pd.DataFrame([row])]) if path.exists() else pd.DataFrame([row])
        with replacing(path) as file:
            rows.to_csv(file, index=False)


def planned(arguments: argparse.Namespace) -> list[Run]:
    """All runs that the arguments name."""
    return [
        Run(method, labels, draw, m1_seed)
        for labels in arguments.labels
        for draw in range(arguments.first_draw, arguments.first_draw + arguments.draws)
        for method in arguments.methods
        for m1_seed in (arguments.m1_seeds if "M1" in method else [NO_M1])
    ]


def main(argv: list[str] | None = None) -> None:
    """Run what is not in the table yet."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n", 1)[0],
        epilog="methods: "
        + "; ".join(METHODS)
        + ". A run of M1+M2 takes some three minutes on one thread, the first with each seed of M1 four "
        "minutes more; a run of M2 takes five. Set OMP_NUM_THREADS=1 to let several work at once.",
    )
    parser.add_argument(
        "--methods", nargs="+", default=["M1+M2"], choices=METHODS, metavar="METHOD", help="default M1+M2"
    )
    parser.add_argument(
        "--labels", nargs="+", type=int, default=[100], metavar="N", help="multiples of 10; default 100"
    )
    parser.add_argument("--draws", type=int, default=10, metavar="N", help="draws of labels; default 10")
    parser.add_argument("--first-draw", type=int, default=0, metavar="K", help="the first of them; default 0")
    parser.add_argument(
        "--m1-seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED", help="default 0 1 2"
    )
    parser.add_argument(
        "--output", type=Path, default=TABLE, help=f"the table; default {TABLE.name} of results"
    )
    arguments = parser.parse_args(argv)
    if arguments.draws < 1:
        parser.error(f"--draws must be 1 or more, got {arguments.draws}")
    if bad := [n for n in arguments.labels if n < 10 or n % 10 or n >= len(mnist().train)]:
        parser.error(f"--labels must be multiples of 10 below {len(mnist().train):,}, got {bad[0]}")

    known = set(
        finished(arguments.output)[[f.name for f in dataclasses.fields(Run)]].itertuples(
            index=False, name=None
        )
    )
    runs = [run for run in planned(arguments) if dataclasses.astuple(run) not in known]
    facts = provenance.collect([], {}, [mnist()])
    invocation = f"{facts['recorded']} {os.getpid()}"
    with tqdm(runs, unit="run") as bar:
        for run in bar:
            bar.set_description(f"{run.method}, {run.labels} labels, draw {run.draw}")
            start = time.perf_counter()
            validation, test = METHODS[run.method](run)
            row = dataclasses.asdict(run) | {
                "validation_error": round(error(validation, mnist().validation), 2),
                "test_error": round(error(test, mnist().test), 2),
                "seconds": round(time.perf_counter() - start, 1),
                "invocation": invocation,
            }
            append(row, facts, arguments.output)
            bar.write(f"{run.method:26} {run.labels:5} labels, draw {run.draw}: {row['test_error']:5.2f} %")


if __name__ == "__main__":
    main()
