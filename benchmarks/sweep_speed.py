"""How much faster a sweep is on all cores than one run after another, for the chapter sweeps.

Both make the same runs of a chapter from nothing. One after another means one worker, whose run has a thread
for each core; on all cores means a worker for each core, whose run has one thread. So both may use the whole
machine.

    python benchmarks/sweep_speed.py                                    nine runs, over an hour on two cores
    python benchmarks/sweep_speed.py --also seeds=1 fashion_epochs=1    quicker runs
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
RESULT = Path(__file__).parent / "results" / "sweep-speed.json"


def seconds(plan: sweep_plan.Plan, workers: int) -> float:
    """How long a sweep takes, in a folder of its own."""
    with TemporaryDirectory(prefix="vaebook-sweep-") as folder:
        start = time.perf_counter()
        rows = sweep.sweep(plan, Path(folder), workers=workers)
        taken = time.perf_counter() - start
    if failed := [row.error for row in rows if row.status != "done"]:
        raise RuntimeError(f"{len(failed)} of {len(rows)} runs failed, the first with: {failed[0]}")
    return taken


def measure(plan: sweep_plan.Plan) -> dict[str, float]:
    """Both times, and how much faster all cores are."""
    one, every = seconds(plan, workers=1), seconds(plan, workers=sweep.CPU_COUNT)
    return {"runs": len(plan.runs), "one_after_another": one, "on_all_cores": every, "ratio": one / every}


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
    parser.add_argument("--output", type=Path, default=RESULT, help=f"default {RESULT.name} of results")
    arguments = parser.parse_args(argv)
    values = grid(arguments.also)
    plan = sweep_plan.plan(chapters.find_book(), CHAPTER, values)
    found = measure(plan)
    facts = provenance.collect([], {}, [data.load("mnist")]) | {"parameters": values}
    with replacing(arguments.output) as file:
        file.write((json.dumps(found | {"provenance": facts}, indent=1) + "\n").encode())
    print(
        f"{found['runs']} runs one after another {found['one_after_another']:.0f} s, "
        f"on {sweep.CPU_COUNT} cores {found['on_all_cores']:.0f} s: {found['ratio']:.2f} times as fast"
    )


if __name__ == "__main__":
    main()
