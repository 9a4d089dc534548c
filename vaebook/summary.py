"""What each chapter verifies, counted from its record: the table that the front page shows."""

from collections import Counter
from pathlib import Path

from nbformat import NotebookNode

from vaebook import chapters, compare, equations

COLUMNS = ("equations", "checks", "numbers", "tables", "figures")
HEADER = f"| chapter | what it verifies | {' | '.join(COLUMNS)} |"


def counts(record: NotebookNode) -> Counter[str]:
    """How many of its equations, checks, numbers, tables and figures a record has verified."""
    labels = equations.labelled(chapters.sources(record, "markdown"))
    own = labels.keys() & equations.verified(record).keys()
    total = Counter(equations=len(own), checks=equations.checks(record))
    for _, cell in chapters.labelled_cells(record, "code"):
        if compare.is_compared(cell.metadata):
            total.update(compare.count(cell.outputs))
    return total


def rows(book: Path) -> dict[str, str]:
    """The row of each recorded chapter but the front page, in Markdown; the last adds them up."""
    records = {
        name: chapters.read_record(book / f"{name}.ipynb")
        for name in chapters.names(book)
        if name != chapters.front_page(book) and (book / f"{name}.ipynb").is_file()
    }
    found = {name: counts(record) for name, record in records.items()}
    lines = {
        name: _row(
            f"[{chapters.title(record)}]({name}.ipynb)", record.metadata.get("verifies", ""), found[name]
        )
        for name, record in records.items()
    }
    return lines | {"": _row("**all**", "", sum(found.values(), Counter()))}


def _row(link: str, sentence: str, found: Counter[str]) -> str:
    return " | ".join([f"| {link}", sentence, *(str(found[column]) for column in COLUMNS)]) + " |"


def table(book: Path) -> str:
    """The table in Markdown: a row a chapter, with what it says that it verifies and what it did."""
    return "\n".join([HEADER, f"|---|---|{'--:|' * len(COLUMNS)}", *rows(book).values()])


def show() -> None:
    """Show the table; the front page calls this."""
    from IPython.display import Markdown, display

    display(Markdown(table(chapters.find_book())))


def problems(book: Path, record: NotebookNode) -> list[str]:
    """Whether a record shows a table that is out of date.

    Args:
        book: the book's folder.
        record: the record of any chapter.

    Returns:
        One problem, in words; empty if there is no table, or it is that of the present records.
    """
    for output in chapters.outputs(record):
        shown = output.get("data", {}).get("text/markdown", "").splitlines()
        if shown[:1] == [HEADER] and shown != table(book).splitlines():
            changed = [name for name, row in rows(book).items() if name and row not in shown]
            what = ", ".join(changed) or "the list of chapters"
            return [f"the table of what the chapters verify is out of date: {what} changed"]
    return []
