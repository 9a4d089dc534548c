"""Calibration of the tolerances: how far honest runs elsewhere are from the records, and wrong ones.

Each chapter is executed again in other ways: as on a processor without vector instructions for bfloat16, and
on one with matrix units for it (AMX), where training rounds differently and goes another way; and with
another seed, which is what a wrong run looks like. Their distances from the record are kept in
``calibration.csv``, a row a compared cell:

    chapter, cell, source    where: the number of the code cell, and a digest of its code
    figure                   the name of its figure, if it has one
    rtol, atol, rms          its tolerance
    relative                 no vectors: largest difference of a number, as a part of it
    used                     no vectors: largest share of its tolerance that a number takes up
    needed                   no vectors: the tolerance rms that the figure needs
    matrix_used              matrix units: as ``used``
    matrix_needed            matrix units: as ``needed``
    other_seed               other seed: as ``needed``

A machine without matrix units leaves these two columns as they are where nothing else has changed, and empty
elsewhere. A record that was made with matrix units (``vae_balance``) has the distance of a run without them,
with vector instructions for bfloat16, there.

    python tests/calibration.py                 all chapters; exit status 1 if an honest run would fail
    python tests/calibration.py vae elbo        only some
    python tests/calibration.py --measure       run only what was not run since its code changed
    python tests/calibration.py --no-seed       the other processors only; other_seed stays empty

``test_calibration.py`` holds the table up to date and the tolerances between the two.
"""

import argparse
import csv
import hashlib
import io
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from nbformat import NotebookNode

from vaebook import chapters, compare
from vaebook.files import replacing

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
TABLE = Path(__file__).with_suffix(".csv")
RUNS = ROOT / ".cache" / "calibration"
KINDS = {  # the other ways to execute a chapter: its parameters, the environment
    "processor": ([], {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX2"}),
    "matrix": ([], {}),
    "seed": (["-p", "seed", "1"], {}),
}
PLACE = ("chapter", "cell", "source", "figure", "rtol", "atol", "rms")
COLUMNS = [*PLACE, "relative", "used", "needed", "matrix_used", "matrix_needed", "other_seed"]


def compared(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    """The code cells whose outputs hold numbers or figures that are compared, with their numbers."""
    for number, (_, cell) in enumerate(chapters.labelled_cells(notebook, "code"), start=1):
        shown = compare.count(cell.get("outputs", []))
        if compare.is_compared(cell.metadata) and (shown["numbers"] or shown["figures"]):
            yield number, cell


def digest(source: str) -> str:
    """A short name for the code of a cell."""
    return hashlib.sha256(source.encode()).hexdigest()[:8]


def figure_name(cell: NotebookNode) -> str:
    """The name of a cell's figure; empty if it has none."""
    return chapters.figure_name(cell) or ""


def execute(name: str, kind: str, *, again: bool) -> NotebookNode | None:
    """A chapter as executed in one of the other ways, or None if that cannot be done: it has no seed that
    could be another, or this machine has no matrix units."""
    text = chapters.read_text(chapters.text_path(BOOK, name))
    path = RUNS / f"{name}.{kind}.ipynb"
    if kind == "seed" and "seed" not in {parameter.name for parameter in chapters.schema(text)}:
        return None
    if kind == "matrix" and not torch.cpu._is_amx_tile_supported():
        return None
    if again or not path.is_file() or not _is_of(path, text):
        values, extra = KINDS[kind]
        command = [sys.executable, "-m", "vaebook", "run", name, *values, "-o", str(path)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | extra
        print(f"executing {name}, other {kind}", flush=True)
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{name}, other {kind}: {done.stderr.strip()}")
    return chapters.read_record(path)


def _is_of(path: Path, text: NotebookNode) -> bool:
    """Whether an executed notebook has the code of a text, besides the parameters that papermill put in."""
    executed = [cell.source for cell in _own_cells(chapters.read_record(path))]
    return executed == [cell.source for cell in _own_cells(text)]


def _own_cells(notebook: NotebookNode) -> list[NotebookNode]:
    code = [cell for _, cell in chapters.labelled_cells(notebook, "code")]
    return [cell for cell in code if "injected-parameters" not in cell.metadata.get("tags", [])]


def measure(name: str, kinds: Sequence[str], *, again: bool) -> list[dict[str, str]]:
    """The rows of a chapter."""
    record = chapters.read_record(BOOK / f"{name}.ipynb")
    other = {kind: execute(name, kind, again=again) for kind in kinds}
    outputs = {kind: [cell.outputs for cell in _own_cells(run)] for kind, run in other.items() if run}
    earlier = {_place(row): row for row in (read() if TABLE.exists() else [])}
    rows = []
    for number, cell in compared(record):
        tolerance = compare.tolerance(cell.metadata)
        found = {
            kind: _distance(cell.outputs, cells[number - 1], tolerance) for kind, cells in outputs.items()
        }
        row = dict.fromkeys(COLUMNS, "") | {
            "chapter": name,
            "cell": str(number),
            "source": digest(cell.source),
            "figure": figure_name(cell),
            **{key: f"{getattr(tolerance, key):g}" for key in ("rtol", "atol", "rms")},
            "relative": f"{found['processor'].relative:.2g}",
            "used": f"{found['processor'].used:.2f}",
            "needed": _rms(found["processor"]),
        }
        if "seed" in found:
            row["other_seed"] = _rms(found["seed"])
        if "matrix" in found:
            row |= {"matrix_used": f"{found['matrix'].used:.2f}", "matrix_needed": _rms(found["matrix"])}
        elif before := earlier.get(_place(row)):
            row |= {column: before[column] for column in ("matrix_used", "matrix_needed")}
        rows.append(row)
    return rows


def _place(row: Mapping[str, str]) -> tuple[str, ...]:
    """Which cell a row is of, with which tolerance."""
    return tuple(row[column] for column in PLACE)


def _rms(distance: compare.Distance) -> str:
    return "" if distance.rms is None else f"{distance.rms:.1f}"


def fails(row: Mapping[str, str]) -> bool:
    """Whether an honest run on another processor is farther from the record than the tolerance allows."""
    used = [float(row[column] or 0) for column in ("used", "matrix_used")]
    needed = [float(row[column] or 0) for column in ("needed", "matrix_needed")]
    return max(used) > 1 or max(needed) > float(row["rms"])


def _distance(stored: list, fresh: list, tolerance: compare.Tolerance) -> compare.Distance:
    try:
        return compare.distance(stored, fresh, tolerance)
    except ValueError:  # other words, another size
        return compare.Distance(math.inf, math.inf, math.inf)


def read() -> list[dict[str, str]]:
    """The table."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(rows: list[Mapping[str, str]]) -> None:
    """Replace the table, its rows in the order of the book."""
    order = {name: position for position, name in enumerate(chapters.names(BOOK))}
    kept = sorted((row for row in rows if row["chapter"] in order), key=lambda row: order[row["chapter"]])
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(kept)
    with replacing(TABLE) as file:
        file.write(text.getvalue().encode())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help="only these")
    parser.add_argument("--measure", action="store_true", help="run only what was not run since")
    parser.add_argument("--no-seed", action="store_true", help="the other processors only, in less time")
    arguments = parser.parse_args()
    names = arguments.chapters or chapters.names(BOOK)
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        kinds = [kind for kind in KINDS if not (arguments.no_seed and kind == "seed")]
        measured = pool.map(lambda name: measure(name, kinds, again=not arguments.measure), names)
        fresh = [row for rows in measured for row in rows]
    write([row for row in (read() if TABLE.exists() else []) if row["chapter"] not in names] + fresh)
    failing = [row for row in fresh if fails(row)]
    for row in failing:
        print(", ".join(f"{column} {value}" for column, value in row.items() if value != ""))
    print(
        f"{len(fresh)} cells measured, {len(failing)} with a tolerance that another processor does not keep"
    )
    return 1 if failing else 0


if __name__ == "__main__":
    sys.exit(main())
