"""How much faster a sweep is than one run after another, for the chapter sweeps.

The same runs of a chapter are made three times, each time from nothing: one after another with one thread
each, one after another with a thread for each core, and as the sweep does it by itself, as many at a time as
there are cores. The first two tell what a run alone makes of the other cores.

    python benchmarks/sweep_speed.py                                    nine long runs, over an hour
    python benchmarks/sweep_speed.py --also seeds=1 fashion_epochs=1    short ones, a quarter of an hour
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from vaebook import chapters, data, provenance, sweep, sweep_plan
from vaebook.files import replacing

CHAPTER = "vae"
GRID = {"latent_dim": ["2", "10", "20"], "seed": ["0:3"], "epochs": ["1"]}
ALL_CORES = "one after another, all cores each"
RESULTS = Path(__file__).parent / "results"


def ways() -> dict[str, dict[str, int]]:
    """The ways to make the runs, by name: what the sweep is told."""
    return {
        "one after another, one thread each": {"workers": 1, "threads": 1},
        ALL_CORES: {"workers": 1, "threads": sweep.CPU_COUNT},
        "sweep": {},
    }


def seconds(plan: sweep_plan.Plan, **way: int) -> float:
    """How long the runs take, in a folder of their own."""
    with TemporaryDirectory(prefix="vaebook-sweep-") as folder:
        start = time.perf_counter()
        rows = sweep.sweep(plan, Path(folder), **way)
        taken = time.perf_counter() - start
    if failed := [row.error for row in rows if row.status != "done"]:
        raise RuntimeError(f"{len(failed)} of {len(rows)} runs failed, the first with: {failed[0]}")
    return taken


def grid(also: Sequence[str]) -> Mapping[str, list[str]]:
    """The parameters of the runs, with others beside them as ``name=value``."""
    return GRID | {name: [value] for name, _, value in (word.partition("=") for word in also)}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and keep the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--also", nargs="+", default=[], metavar="NAME=VALUE", help="further parameters of every run"
    )
    parser.add_argument("--without-all-cores", action="store_true", help="leave out the second of the ways")
    arguments = parser.parse_args(argv)
    values = grid(arguments.also)
    plan = sweep_plan.plan(chapters.find_book(), CHAPTER, values)
    images = [data.load(name) for name in ("mnist", "fashion_mnist")]  # fetched before the clock runs
    facts = provenance.collect([], {}, images) | {"parameters": values}
    taken = {}
    for name, way in ways().items():
        if name == ALL_CORES and arguments.without_all_cores:
            continue
        taken[name] = seconds(plan, **way)
        print(f"{len(plan.runs)} runs, {name}: {taken[name]:.0f} s", flush=True)
    for name in list(taken)[:-1]:
        print(f"the sweep is {taken[name] / taken['sweep']:.2f} times as fast as {name}")
    content = {"runs": len(plan.runs), "seconds": taken, "provenance": facts}
    with replacing(RESULTS / f"sweep-speed{'' if arguments.also else '-long'}.json") as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
