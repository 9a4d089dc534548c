"""The ledger of the sources: what each of them says, where the book treats it, and what was found.

The rows are data, in ``book/sources.yml``; its first lines describe them. This module reads them, refuses
what is not whole, and writes the tables that the chapter *sources* shows.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml

VERDICTS = {
    "reproduced": "holds here as the source says",
    "corrected": "wrong or imprecise there; what is right stands here",
    "contradicted": "measured otherwise",
    "illustration": "a drawing, with nothing to measure",
    "out of reach": "needs data that cannot be had here; nothing was run",
    "not measured": "outside of this book; nothing was run",
}
KINDS = ("equation", "figure", "table", "claim", "listing")
NUMBERED = ("equations", "figures", "tables")


@dataclass(frozen=True)
class Row:
    """One statement of a source.

    Attributes:
        at: where in the source.
        kind: one of ``KINDS``.
        says: the statement, in words or formulas.
        here: where the book treats it, with roles that become links; the name of a chapter to come.
        found: what was measured; may be empty for an illustration.
        verdict: one of ``VERDICTS``.
        covers: the numbered items of the source that this row accounts for.
    """

    at: str
    kind: str
    says: str
    here: str
    found: str
    verdict: str
    covers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """A source: its citation key, what it numbers, and the rows about it."""

    key: str
    inventory: dict[str, tuple[str, ...]]
    rows: tuple[Row, ...]

    def counts(self) -> Counter:
        """How many rows have each verdict."""
        return Counter(row.verdict for row in self.rows)


def read(path: Path) -> list[Source]:
    """Read the ledger and check that it is whole.

    Args:
        path: the data file.

    Raises:
        ValueError: a row lacks a field, or an item of an inventory has no row; names the first fault.
    """
    contents = yaml.safe_load(path.read_text("utf-8"))
    return [_source(key, entry) for key, entry in contents.items()]


def table(source: Source) -> str:
    """The rows about a source as a table in MyST Markdown."""
    lines = ["| place | it says | here | what we find | verdict |", "|---|---|---|---|---|"]
    lines += [f"| {row.at} | {row.says} | {row.here} | {row.found} | {row.verdict} |" for row in source.rows]
    return "\n".join(lines)


def _source(key: str, entry: dict) -> Source:
    inventory = {kind: tuple(map(str, entry["inventory"][kind])) for kind in NUMBERED}
    source = Source(key, inventory, tuple(_row(key, fields) for fields in entry["rows"]))
    for kind in NUMBERED:
        covered = {item for row in source.rows if f"{row.kind}s" == kind for item in row.covers}
        if missing := set(inventory[kind]) - covered:
            raise ValueError(f"{key}: {min(missing)} of its {kind} has no row in the ledger")
        if unknown := covered - set(inventory[kind]):
            raise ValueError(f"{key}: a row covers {min(unknown)}, which is not among its {kind}")
    return source


def _row(key: str, fields: dict) -> Row:
    row = Row(**fields | {"covers": tuple(map(str, fields.get("covers", ())))})
    if row.kind not in KINDS:
        raise ValueError(f"{key}, {row.at}: unknown kind {row.kind!r}; known: {', '.join(KINDS)}")
    if row.verdict not in VERDICTS:
        raise ValueError(f"{key}, {row.at}: unknown verdict {row.verdict!r}; known: {', '.join(VERDICTS)}")
    if not (row.at and row.says and row.here):
        raise ValueError(f"{key}, {row.at}: the fields at, says and here must not be empty")
    if not row.found and row.verdict != "illustration":
        raise ValueError(f"{key}, {row.at}: {row.verdict}, but it does not say what was found")
    return row
