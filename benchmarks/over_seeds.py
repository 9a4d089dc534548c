"""The sweeps behind the last tables of the chapter sweeps: what trains over seeds, in blocks of seeds.

A run trains with the fewest seeds that its chapter accepts; the next one has the seeds after those. The same
command again runs only what is missing. A chapter of which a run fails gets no table, and the others go on.

    python benchmarks/over_seeds.py             all chapters, an hour and a half on two cores
    python benchmarks/over_seeds.py vae cvae    only some
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from vaebook import chapters, sweep, sweep_plan
from vaebook.files import replacing
from vaebook.parameters import Parameter

BLOCKS = 3
RESULTS = Path(__file__).parent / "results" / "over-seeds"


def over_seeds(book: Path) -> dict[str, Parameter]:
    """The chapters that have a number of seeds, and that parameter."""
    found = {}
    for name in chapters.names(book):
        path = chapters.text_path(book, name)
        schema = chapters.schema(chapters.read_text(path)) if path.is_file() else []
        by_name = {parameter.name: parameter for parameter in schema}
        if "seeds" in by_name:
            found[name] = by_name["seeds"]
    return found


def grid(seeds: Parameter) -> dict[str, list[str]]:
    """The values of a sweep in blocks of seeds, as on the command line."""
    fewest = int(dict(seeds.bounds)[">="])
    return {"seed": [f"0:{BLOCKS * fewest}:{fewest}"], "seeds": [str(fewest)]}


def record(book: Path, name: str, values: Mapping[str, Sequence[str]]) -> None:
    """Run a sweep, as far as it has not been run, and keep its table.

    Raises:
        RuntimeError: a run failed; no table is kept.
    """
    folder = sweep.folder_of(book, f"{name}-over-seeds")
    rows = sweep.sweep(sweep_plan.plan(book, name, values), folder, progress=True)
    if failed := [row.error for row in rows if row.status != "done"]:
        raise RuntimeError(f"{len(failed)} of {len(rows)} runs of {name} failed, the first with: {failed[0]}")
    with replacing(RESULTS / f"{name}.csv") as file:
        file.write((folder / "results.csv").read_bytes())


def main(argv: Sequence[str] | None = None) -> None:
    """Run the sweeps and keep their tables."""
    book = chapters.find_book()
    found = over_seeds(book)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "chapters", nargs="*", metavar="CHAPTER", help=f"of {', '.join(found)}; all by default"
    )
    names = parser.parse_args(argv).chapters or list(found)
    if unknown := sorted(set(names) - set(found)):
        parser.error(f"no chapter with seeds: {', '.join(unknown)}; there are {', '.join(found)}")
    failures = []
    for name in names:
        values = grid(found[name])
        words = [f"-p {key} {' '.join(some)}" for key, some in values.items()]
        print("vaebook sweep", name, *words, flush=True)
        try:
            record(book, name, values)
        except RuntimeError as error:
            failures.append(str(error))
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
