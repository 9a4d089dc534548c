"""The chapters of the book: where they are, and how their texts and records are read.

A chapter NAME is written in ``book/text/NAME.md``. Its record ``book/NAME.ipynb`` is that text with the
outputs of one run. Both are read into notebooks of the same form, so that they can be compared.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jupytext
import nbformat
import yaml
from jupytext.myst import MystMetadataParsingError
from nbformat import NotebookNode, ValidationError
from nbformat.reader import NotJSONError

from vaebook import compare, parameters
from vaebook.arguments import unknown
from vaebook.parameters import Parameter

KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "pygments_lexer": "ipython3",
    },
}
VOLATILE = {"papermill", "execution", "jupytext"}


class NotebookError(RuntimeError):
    """A chapter that cannot be read, recorded, run or written."""


class UnknownChapterError(ValueError):
    """A chapter, or a book, that is not there."""


def find_book() -> Path:
    """The folder ``book`` beside the ``_toc.yml`` of the nearest folder upward of the current one.

    Raises:
        UnknownChapterError: there is none.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "_toc.yml").is_file() and (folder / "book").is_dir():
            return folder / "book"
    raise UnknownChapterError(f"{here} is outside the book: go to the folder with _toc.yml and book/")


def names(book: Path) -> list[str]:
    """The chapters that have a text, in the order of ``_toc.yml``; those that it does not list come last."""
    listed = _contents(book)
    texts = sorted(path.stem for path in (book / "text").glob("*.md"))
    return sorted(texts, key=lambda name: listed.index(name) if name in listed else len(listed))


def front_page(book: Path) -> str:
    """The chapter that ``_toc.yml`` names as its root: it shows what the others verify."""
    return _contents(book)[0]


def _contents(book: Path) -> list[str]:
    contents = yaml.safe_load((book.parent / "_toc.yml").read_text("utf-8"))
    return [Path(file).stem for file in _listed(contents)]


def _listed(contents: object) -> Iterator[str]:
    """The files that a table of contents names, in reading order."""
    if isinstance(contents, dict):
        for key, value in contents.items():
            yield from [value] if key in ("root", "file") else _listed(value)
    elif isinstance(contents, list):
        for entry in contents:
            yield from _listed(entry)


def text_path(book: Path, name: str) -> Path:
    """Where the text of a chapter is.

    Raises:
        UnknownChapterError: the book has no such chapter.
    """
    known = names(book)
    if name not in known:
        raise UnknownChapterError(unknown("chapter", name, known))
    return book / "text" / f"{name}.md"


def read_text(path: Path) -> NotebookNode:
    """Read a chapter's text as a notebook without outputs, in the form that its record has.

    Raises:
        NotebookError: the header of the text or of a cell is not valid YAML.
    """
    try:
        return normalise(jupytext.read(path, fmt="md:myst"))
    except (MystMetadataParsingError, yaml.YAMLError) as error:
        raise NotebookError(f"{path}: {' '.join(str(error).split())}") from error


def read_record(path: Path) -> NotebookNode:
    """Read a chapter's record.

    Raises:
        NotebookError: the file is damaged.
    """
    try:
        return nbformat.read(path, as_version=4)
    except (NotJSONError, ValidationError, AttributeError) as error:  # the last for JSON that is no object
        raise NotebookError(f"{path} is damaged: {remedy(path.stem)}") from error


def remedy(name: str) -> str:
    """What to do about a record that is missing, damaged or out of date."""
    return f"record it again with `vaebook record {name}`"


def sources(notebook: NotebookNode, cell_type: str) -> str:
    """The prose (``markdown``) or the program (``code``) of a chapter in one piece."""
    return "\n\n".join(cell.source for _, cell in labelled_cells(notebook, cell_type))


def title(text: NotebookNode) -> str:
    """The first heading of a chapter."""
    heading = re.search(r"^# (.+)$", sources(text, "markdown"), re.MULTILINE)
    return heading[1] if heading else ""


def schema(text: NotebookNode) -> list[Parameter]:
    """The parameters of a chapter; empty if it has no cell with the tag ``parameters``."""
    cells = [cell for cell in text.cells if "parameters" in cell.metadata.get("tags", [])]
    return parameters.parse(cells[0].source) if cells else []


def labelled_cells(notebook: NotebookNode, *types: str) -> Iterator[tuple[str, NotebookNode]]:
    """Each cell, or each of these types, with the name that messages give it.

    A code cell's number is its execution count, too.
    """
    numbers = {}
    for cell in notebook.cells:
        numbers[cell.cell_type] = numbers.get(cell.cell_type, 0) + 1
        if not types or cell.cell_type in types:
            yield f"{cell.cell_type} cell {numbers[cell.cell_type]}", cell


def outputs(notebook: NotebookNode) -> Iterator[NotebookNode]:
    """All outputs of a notebook."""
    for _, cell in labelled_cells(notebook, "code"):
        yield from cell.get("outputs", [])


def figure_name(cell: Mapping) -> str | None:
    """The name of the figure that a cell shows, if it has one."""
    return cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Strip what differs from run to run: two records of a deterministic chapter are the same file."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    kept = {key: value for key, value in notebook.metadata.items() if key not in VOLATILE}
    notebook.metadata = nbformat.from_dict(_as_json(kept | KERNEL))
    styler_ids = {}
    for position, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{position}"
        kept = {key: value for key, value in cell.metadata.items() if key not in VOLATILE and value != []}
        cell.metadata = nbformat.from_dict(_as_json(kept))
        if cell.cell_type == "code":
            cell.outputs = _merge_streams(cell.outputs)
            for output in cell.outputs:
                if html := output.get("data", {}).get("text/html"):
                    output.data["text/html"] = compare.stable_ids(html, styler_ids)
    return notebook


def _as_json(metadata: Mapping) -> dict:
    """Metadata as they come back from a notebook's file: YAML has dates, JSON has none."""
    return json.loads(json.dumps(metadata, default=str))


def _merge_streams(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    """Join neighbouring pieces of one stream: where it is cut is chance."""
    merged = []
    for output in outputs:
        if merged and output.output_type == "stream" and output.get("name") == merged[-1].get("name"):
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged
