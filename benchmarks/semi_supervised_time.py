"""Error against training time, on one thread, and what the label tells, for the chapter semi_supervised.

Trains M1 and the models on the first draw of a hundred labels, with the settings of semi_supervised.py. Kept
are, after each epoch, the error on the validation images and the processor time until then, looking at the
error included; and in the end, for each model, what Bayes' rule makes of its importance weights.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import semi_supervised as table
import torch
from torch import Tensor, nn
from tqdm import tqdm

from vaebook import data, provenance
from vaebook import semisupervised as semi
from vaebook.files import replacing

COURSES = Path(__file__).parent / "results" / "semi_supervised_time.csv"
METHODS = ("M2, paper's objective", "M2", "M1+M2, paper's objective", "M1+M2")
M1_SEED = 0
JUDGED, CODES = 1000, 20  # images, and codes for each image and label, where Bayes' rule is carried out


def seconds_of_m1() -> float:
    """Processor time to train M1."""
    start = time.process_time()
    table.trained_m1(M1_SEED)
    return time.process_time() - start


def train(method: str, before: float = 0.0) -> tuple[semi.M2, list[dict]]:
    """The trained model, and a row an epoch: error in per cent, and seconds, ``before`` included."""
    stacked = "M1" in method
    run = table.Run(method, 100, 0, M1_SEED if stacked else table.NO_M1)
    x, y, rows = means(stacked), table.mnist().validation, []
    start = time.process_time() - before

    def watch(classifier: nn.Module) -> dict:
        seconds = time.process_time() - start
        with torch.no_grad():
            found = table.error(classifier(x).argmax(-1).numpy(), y)
        rows.append({"method": method, "seconds": round(seconds, 1), "validation_error": round(found, 2)})
        return {}

    train_method = table.trained_stack if stacked else table.trained_m2
    return train_method(run, watch), rows


def means(stacked: bool) -> Tensor:
    """What the classifier sees of the validation images: the means of their codes, or their grey values."""
    x = table.mnist().validation.x()
    return table.m1(M1_SEED).encode(x).mean if stacked else x


def by_bayes(model: semi.M2, stacked: bool) -> dict[str, float]:
    """Errors in per cent of Bayes' rule and of q(y|x) on the same inputs, and the lead of the right label.

    The lead is in nats: log p(x, y) for the true y less that of the best other one, the median over images.
    """
    generator = torch.Generator().manual_seed(0)
    x = means(stacked)[:JUDGED]
    x = x if stacked else data.binarise(x, generator=generator)
    y = table.mnist().validation.labels[:JUDGED]
    with torch.no_grad():
        log_p = semi.log_joint(model, x, CODES, generator=generator)  # (classes, batch)
    of_truth = log_p.gather(0, y[None])[0]
    of_others = log_p.scatter(0, y[None], -torch.inf).amax(0)
    return {
        "bayes_error": 100 * float((log_p.argmax(0) != y).float().mean()),
        "classifier_error": 100 * float((model.predict(x) != y).float().mean()),
        "lead": float((of_truth - of_others).median()),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Train, watch and keep the courses."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--methods", nargs="+", default=METHODS, choices=METHODS, metavar="METHOD", help="default: all four"
    )
    parser.add_argument("--output", type=Path, default=COURSES, help=f"default {COURSES.name} of results")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    facts = provenance.collect([], {}, [table.mnist()])
    before = seconds_of_m1() if any("M1" in method for method in arguments.methods) else 0.0
    rows, ends = [], {}
    for method in tqdm(arguments.methods, unit="method"):
        stacked = "M1" in method
        model, course = train(method, before if stacked else 0.0)
        rows += course
        ends[method] = by_bayes(model, stacked)
    found = {"seconds_of_m1": round(before, 1), "ends": ends, "provenance": facts}
    with replacing(arguments.output) as file:
        pd.DataFrame(rows).to_csv(file, index=False)
    with replacing(arguments.output.with_suffix(".json")) as file:
        file.write((json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
