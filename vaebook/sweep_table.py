"""The table of a sweep: one row a run, with parameters, status, results and provenance.

As ``results.csv`` and ``results.parquet`` it is tidy: each column one variable, and no number is text.
"""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa

from vaebook import provenance


@dataclass(frozen=True)
class Row:
    """A run that has ended.

    Attributes:
        name: of its files, without their endings; it ends in the digest of what the run was made from.
        chapter: its name.
        values: of all its parameters.
        status: ``done`` or ``failed``.
        error: what stopped a failed run, in one line; else empty.
        notebook: the path of the executed notebook in the folder of the sweep; empty if there is none.
        seconds: wall time; None if it is not known.
        results: what the chapter reported, value by name.
        provenance: the facts of :func:`vaebook.provenance.collect`, and the ``host``; empty if its worker
            could not tell.
    """

    name: str
    chapter: str
    values: Mapping[str, object]
    status: str
    error: str = ""
    notebook: str = ""
    seconds: float | None = None
    results: Mapping[str, object] = field(default_factory=dict)
    provenance: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """The row as it is kept in a file."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def read(cls, path: Path) -> "Row | None":
        """The row in a file; None if there is none that could be used."""
        try:
            return cls(**json.loads(path.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None


def columns(rows: Sequence[Row]) -> dict[str, list]:
    """The values of each column, None where a row has none."""
    return {name: values for group in groups(rows).values() for name, values in group.items()}


def groups(rows: Sequence[Row]) -> dict[str, dict[str, list]]:
    """The columns by what they are: ``parameter``, ``run``, ``result`` and ``provenance``.

    A column has the name of what is in it. Where an earlier one has that name already, the group is put
    before it, ``result_NAME``; if it says the same, such as a parameter that a chapter also reports, it is
    left out.
    """
    run = ("status", "error", "seconds", "notebook")
    records = {
        "parameter": [row.values for row in rows],
        "run": [{name: getattr(row, name) for name in run} for row in rows],
        "result": [row.results for row in rows],
        "provenance": [
            {"chapter": row.chapter, "name": row.name} | _provenance(row.provenance) for row in rows
        ],
    }
    earlier, found = {}, {}
    for group, some in records.items():
        found[group] = {}
        for name in _names(some):
            values = [record.get(name) for record in some]
            if name not in earlier:
                found[group][name] = values
            elif any(value not in (None, other) for value, other in zip(values, earlier[name], strict=True)):
                found[group][f"{group}_{name}"] = values
        earlier |= found[group]
    return found


def _names(records: Iterable[Mapping]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record))


def _provenance(facts: Mapping) -> dict[str, object]:
    if not facts:
        return {}
    words = provenance.in_words(facts)
    kept = ("data", "packages", "commit", "processor", "recorded")
    exact = {"python": facts["python"], "host": facts["host"], "threads": facts["threads"]}
    return {name: words[name] for name in kept} | exact


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """The table with a type for each column: an integer stays one where another row has no value."""
    arrays = {name: _array(values) for name, values in columns(rows).items()}
    return pa.table(arrays).to_pandas(types_mapper=pd.ArrowDtype)


def _array(values: Sequence[object]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):  # of different kinds, or an immense integer
        return pa.array([value if value is None else str(value) for value in values])


def files(rows: Sequence[Row]) -> dict[str, bytes]:
    """The content of ``results.csv`` and ``results.parquet``; arrays are JSON in one, lists in the other."""
    table = frame(rows)
    parquet = io.BytesIO()
    table.to_parquet(parquet, index=False)
    text = table.assign(**{name: table[name].map(_as_json) for name in table if _is_list(table[name])})
    return {
        "results.csv": text.to_csv(index=False).encode(),
        "results.parquet": parquet.getvalue(),
    }


def _is_list(column: pd.Series) -> bool:
    return pa.types.is_list(column.dtype.pyarrow_dtype)


def _as_json(values: object) -> str | None:
    return json.dumps(list(values)) if isinstance(values, Iterable) else None
