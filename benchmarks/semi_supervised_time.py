"""Error against training time, on one thread, for the chapter semi_supervised.

Trains M1 and the models on the first draw of a hundred labels, with the settings of semi_supervised.py, and
keeps the error on the validation images after each epoch beside the processor time until then. Looking at
the error costs a little of that time.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import semi_supervised as table
import torch
from torch import nn
from tqdm import tqdm

from vaebook import provenance
from vaebook.files import replacing

COURSES = Path(__file__).parent / "results" / "semi_supervised_time.csv"
METHODS = ("M2, paper's objective", "M2", "M1+M2, paper's objective", "M1+M2")
M1_SEED = 0


def seconds_of_m1() -> float:
    """Processor time to train M1."""
    start = time.process_time()
    table.trained_m1(M1_SEED)
    return time.process_time() - start


def inputs(method: str) -> torch.Tensor:
    """What the classifier of a method sees of the validation images."""
    x = table.mnist().validation.x()
    return table.m1(M1_SEED).encode(x).mean if "M1" in method else x


def course(method: str, before: float = 0.0) -> list[dict]:
    """A row an epoch: processor time in seconds, ``before`` it began included, and error in per cent."""
    x, rows = inputs(method), []
    start = time.process_time() - before

    def watch(classifier: nn.Module) -> dict:
        seconds = time.process_time() - start
        with torch.no_grad():
            found = table.error(classifier(x).argmax(-1).numpy(), table.mnist().validation)
        rows.append({"method": method, "seconds": round(seconds, 1), "validation_error": round(found, 2)})
        return {}

    run = table.Run(method, 100, 0, M1_SEED if "M1" in method else table.NO_M1)
    table.METHODS[method](run, validate=watch)
    return rows


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
    rows = []
    for method in tqdm(arguments.methods, unit="method"):
        rows += course(method, before if "M1" in method else 0.0)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(arguments.output) as file:
        pd.DataFrame(rows).to_csv(file, index=False)
    with replacing(arguments.output.with_suffix(".json")) as file:
        file.write(
            (json.dumps({"seconds_of_m1": round(before, 1), "provenance": facts}, indent=1) + "\n").encode()
        )


if __name__ == "__main__":
    main()
