"""What can be said about a chapter without running it: rules that its text and its record must keep.

A record is executed whole and in order, without errors, with nothing hidden from the comparison, and was
made from the present text. Its equations are bound to checks and its numbers come from the run.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from nbformat import NotebookNode

from vaebook import chapters, compare, equations, needs, prose, reads, summary
from vaebook.arguments import unknown
from vaebook.chapters import NotebookError, labelled_cells, remedy
from vaebook.parameters import ParameterError, check_values

PAGE_TAGS = {f"{verb}-{part}" for verb in ("hide", "remove") for part in ("input", "output", "cell")}
TAGS = PAGE_TAGS | {"full-width", "margin", "scroll-output", "parameters", "trained", "provenance"}
SKIPPING = ("nbval-skip", "nbval-ignore-output")
RAISING = {"raises-exception", "nbval-raises-exception"}
MARKER = re.compile(r"^\s*#+\s*(?:NBVAL_\w+|PYTEST_VALIDATE_\w+)", re.MULTILINE)
ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,}")


def problems(book: Path, name: str) -> list[str]:
    """All that is wrong with a chapter's record and can be found without running it.

    Args:
        book: the book's folder.
        name: the chapter.

    Returns:
        One problem an entry, in words; empty if there is none.
    """
    record, text = book / f"{name}.ipynb", book / "text" / f"{name}.md"
    if not record.is_file():
        return [f"{text} has no record: make it with `vaebook record {name}`"]
    if not text.is_file():
        return [f"{record} has no text: {text} is missing"]
    try:
        return record_problems(book, name, chapters.read_record(record), chapters.read_text(text))
    except NotebookError as error:
        return [str(error)]


def text_problems(book: Path, name: str, text: NotebookNode) -> list[str]:
    """The rules that a text breaks, found before it is run.

    Args:
        book: the book's folder.
        name: the chapter.
        text: its text, as a notebook.

    Returns:
        One problem an entry, in words; empty if there is none.
    """
    checked = _mentioned(text, equations.labels(book))
    reported = _mentioned(text, {quote.name for _, quote in prose.quotes(text)})
    return (
        _rules(book, text)
        + _twin(book, name)
        + prose.literals(text)
        + equations.problems(book, text, checked)
        + prose.unknown_quotes(book, text, reported)
    )


def record_problems(book: Path, name: str, record: NotebookNode, text: NotebookNode) -> list[str]:
    """The rules that a record breaks.

    Args:
        book: the book's folder.
        name: the chapter.
        record: its executed notebook.
        text: its text, as a notebook.

    Returns:
        One problem an entry, in words; empty if there is none.
    """
    return (
        _rules(book, record)
        + _twin(book, name)
        + execution_problems(record)
        + sync_problems(record, text, name)
        + prose.literals(record)
        + equations.problems(book, record, equations.verified(record))
        + prose.unknown_quotes(book, record, prose.reported(record))
        + [f"{problem}: {remedy(name)}" for problem in summary.problems(book, record)]
    )


def _mentioned(text: NotebookNode, names: Iterable[str]) -> set[str]:
    """Which of these names the code of a text may give when it runs: in a string or as a keyword."""
    given, patterns = set(), set()
    for _, cell in labelled_cells(text, "code"):
        try:
            nodes = list(ast.walk(ast.parse(cell.source)))
        except SyntaxError:  # the rules say so
            continue
        for node in nodes:
            match node:
                case ast.Constant(value=str(name)) | ast.keyword(arg=str(name)):
                    given.add(name)
                case ast.JoinedStr(values=[_, _, *_] as parts):  # a lone value could be anything
                    patterns.add("".join(map(_pattern, parts)))
    return {name for name in names if name in given or any(re.fullmatch(p, name) for p in patterns)}


def _pattern(part: ast.expr) -> str:
    """What a piece of an f-string can be."""
    return re.escape(part.value) if isinstance(part, ast.Constant) else ".*"


def _twin(book: Path, name: str) -> list[str]:
    """The book's build takes one of two files of one name, and it may be the one without outputs."""
    beside = [book / f"{name}{suffix}" for suffix in (".md", ".rst")]
    return [
        f"{path} has the name of a chapter, whose text belongs to {book / 'text'}"
        for path in beside
        if path.is_file()
    ]


def sync_problems(record: NotebookNode, text: NotebookNode, name: str) -> list[str]:
    """Compare a record with its text, cell by cell and without the outputs.

    Args:
        record: the executed notebook.
        text: the text, as a notebook.
        name: the chapter.

    Returns:
        One problem an entry, in words; empty if the record was made from this text.
    """
    if len(record.cells) != len(text.cells):
        return [f"the record has {len(record.cells)} cells and the text {len(text.cells)}: {remedy(name)}"]
    found = [] if record.metadata == text.metadata else [f"the header differs from the text: {remedy(name)}"]
    for (label, ours), theirs in zip(labelled_cells(record), text.cells, strict=True):
        parts = ("cell_type", "source", "metadata", "attachments")
        differing = [part for part in parts if ours.get(part) != theirs.get(part)]
        if differing:
            found.append(f"{label} differs from the text in its {' and '.join(differing)}: {remedy(name)}")
    return found


def _rules(book: Path, notebook: NotebookNode) -> list[str]:
    """The rules of tags, metadata and parameters, which a text breaks by what is written in it."""
    found = [
        f"{label} {problem}" for label, cell in labelled_cells(notebook) for problem in _cell_problems(cell)
    ]
    code = [cell for _, cell in labelled_cells(notebook, "code")]
    tagged = {tag: [i for i, cell in enumerate(code) if tag in cell.metadata.get("tags", [])] for tag in TAGS}
    if tagged["provenance"] not in ([], [len(code) - 1]):
        found.append("the tag provenance, which no comparison reaches, belongs to the last code cell only")
    if tagged["parameters"] not in ([], [0]):
        found.append("the tag parameters belongs to the first code cell only")
    elif tagged["parameters"]:
        if len(code) == 1 or "validate(In, globals())" not in code[1].source:
            found.append("code cell 2 must call validate(In, globals()), which checks the parameters")
        found += _parameter_problems(notebook)
    found += filter(None, [needs.problem(notebook), reads.problem(book, notebook)])
    return [*found, *_key_figure_problems(notebook, needed=bool(tagged["parameters"]))]


def _key_figure_problems(notebook: NotebookNode, *, needed: bool) -> Iterator[str]:
    """The page of a sweep shows one figure of each run: a chapter with parameters says which."""
    figures = [name for cell in notebook.cells if (name := chapters.figure_name(cell))]
    wanted = notebook.metadata.get("key_figure")
    if wanted is not None and wanted not in figures:
        yield f"the header names the {unknown('key_figure', str(wanted), figures)}"
    elif wanted is None and figures and needed:
        yield f"the header must name the figure that sweeps show, for example key_figure: {figures[-1]}"


def _parameter_problems(notebook: NotebookNode) -> Iterator[str]:
    """A chapter with parameters is tested with other values than its defaults, too: quick ones."""
    try:
        schema, quick = chapters.schema(notebook), notebook.metadata.get("quick")
        if not isinstance(quick, Mapping) or not quick:
            yield "the header needs values for a quick run in the tests, for example quick: {draws: 2000}"
        elif check_values(schema, quick).items() <= {p.name: p.default for p in schema}.items():
            yield "the header's quick run has the default values, and would test nothing: change one"
    except ParameterError as error:
        yield str(error)


def _cell_problems(cell: NotebookNode) -> Iterator[str]:
    tags = cell.metadata.get("tags", [])
    if not isinstance(tags, list):
        yield f"has tags that are no list: {tags!r}"
        return
    known = sorted(TAGS | set(SKIPPING))
    for tag in tags:
        if tag in RAISING:
            yield f"has the tag {tag}: catch the exception and print it, for a record has no failing cell"
        elif tag in SKIPPING and not cell.metadata.get("reason"):
            yield f"has the tag {tag} without a reason: write one into the cell's metadata"
        elif tag not in known:
            yield f"has the {unknown('tag', tag, known)}"
    if cell.cell_type == "code":
        yield from _code_problems(cell)
    elif re.search(r"^\s*[`~:]{3,}\s*\{code-cell\}", cell.source, re.MULTILINE):
        yield "holds a code-cell inside another directive, which is never executed: put it at the top level"


def _code_problems(cell: NotebookNode) -> Iterator[str]:
    if not cell.source.strip():
        yield "is empty"
    if marker := MARKER.search(cell.source):
        yield f"has the comment {marker[0].strip()!r}: use the tag {' or '.join(SKIPPING)} and a reason"
    try:
        ast.parse(cell.source)
    except SyntaxError as error:
        yield f"is not plain Python (a magic or a shell command?), line {error.lineno}: {error.msg}"
    try:
        compare.tolerance(cell.metadata)
    except ValueError as error:
        yield f"has metadata that cannot be used: {error}"


def execution_problems(record: NotebookNode) -> list[str]:
    """Which cells of a record were not executed in order, failed, warned, or show what changes.

    Args:
        record: the executed notebook.

    Returns:
        One problem an entry, in words; empty if there is none.
    """
    return [
        f"{label} {problem}"
        for number, (label, cell) in enumerate(labelled_cells(record, "code"), start=1)
        for problem in _execution_problems(cell, number)
    ]


def _execution_problems(cell: NotebookNode, number: int) -> Iterator[str]:
    if cell.execution_count is None:
        yield "was never executed"
    elif cell.execution_count != number:
        yield f"was executed as number {cell.execution_count}, out of order"
    for output in cell.outputs:
        if output.output_type == "error":
            yield f"ended in an error: {output.ename}: {output.evalue}"
        if output.get("name") == "stderr":
            yield f"wrote to stderr: {output.text.strip()!r}"
        if ADDRESS.search(str(output.get("data", output.get("text", "")))):
            yield "shows the address of an object, which changes from run to run"
    if not cell.metadata.get("reason"):
        yield from _wide_atol(cell)


def _wide_atol(cell: NotebookNode) -> Iterator[str]:
    """An absolute tolerance is wide if it would be a wide relative one of the largest number shown."""
    stated = cell.metadata.get("compare", {})
    atol = stated.get("atol", 0) if isinstance(stated, dict) else 0
    limit = compare.WIDEST["rtol"] * compare.largest_number(cell.outputs)
    if isinstance(atol, int | float) and atol > limit:
        yield f"states atol {atol}, above a fifth of its largest number ({limit:g}), without a reason"
