"""The notebooks of the book: written as text, executed into a record, run with other values, verified.

A chapter NAME is written in ``book/text/NAME.md``. Its record ``book/NAME.ipynb`` is that text with the
outputs of one run. :func:`record` makes it, :func:`problems` says what is wrong with it without running
anything, and :func:`verify` runs it again through ``pytest --nbval``, where ``book/conftest.py`` compares
every output.
"""

import ast
import hashlib
import importlib.metadata
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
import nbformat
import papermill
import yaml
from jupytext.myst import MystMetadataParsingError
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode, ValidationError
from nbformat.reader import NotJSONError
from papermill.exceptions import PapermillExecutionError

from vaebook import compare, parameters
from vaebook.parameters import Parameter, ParameterError, suggestion

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
PAGE_TAGS = {f"{verb}-{part}" for verb in ("hide", "remove") for part in ("input", "output", "cell")}
TAGS = PAGE_TAGS | {"full-width", "margin", "scroll-output", "parameters", "trained", "provenance"}
SKIPPING = ("nbval-skip", "nbval-ignore-output")
RAISING = {"raises-exception", "nbval-raises-exception"}
MARKER = re.compile(r"^\s*#+\s*(?:NBVAL_\w+|PYTEST_VALIDATE_\w+)", re.MULTILINE)
ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,}")


class NotebookError(RuntimeError):
    """A chapter that cannot be recorded, run or written."""


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


def chapters(book: Path) -> list[str]:
    """The chapters that have a text, in the order of ``_toc.yml``; those that it does not list come last."""
    contents = yaml.safe_load((book.parent / "_toc.yml").read_text("utf-8"))
    listed = [Path(file).stem for file in _listed(contents)]
    texts = sorted(path.stem for path in (book / "text").glob("*.md"))
    return sorted(texts, key=lambda name: listed.index(name) if name in listed else len(listed))


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
    known = chapters(book)
    if name not in known:
        guess = suggestion(name, known)
        raise UnknownChapterError(f"unknown chapter {name!r}{guess}; known: {', '.join(known)}")
    return book / "text" / f"{name}.md"


def read_text(path: Path) -> NotebookNode:
    """Read a chapter's text as a notebook without outputs, in the form that its record has.

    Raises:
        NotebookError: the header of a cell is not valid YAML.
    """
    try:
        return _normalise(jupytext.read(path, fmt="md:myst"))
    except MystMetadataParsingError as error:
        raise NotebookError(f"{path}: {error}") from error


def read_record(path: Path) -> NotebookNode:
    """Read a chapter's record.

    Raises:
        NotebookError: the file is damaged.
    """
    try:
        return nbformat.read(path, as_version=4)
    except (NotJSONError, ValidationError, AttributeError) as error:  # the last for JSON that is no object
        raise NotebookError(f"{path} is damaged: {_remedy(path.stem)}") from error


def _remedy(name: str) -> str:
    return f"record it again with `vaebook record {name}`"


def title(text: NotebookNode) -> str:
    """The first heading of a chapter."""
    prose = "\n".join(cell.source for cell in text.cells if cell.cell_type == "markdown")
    heading = re.search(r"^# (.+)$", prose, re.MULTILINE)
    return heading[1] if heading else ""


def schema(text: NotebookNode) -> list[Parameter]:
    """The parameters of a chapter; empty if it has no cell with the tag ``parameters``."""
    cells = [cell for cell in text.cells if "parameters" in cell.metadata.get("tags", [])]
    return parameters.parse(cells[0].source) if cells else []


def _normalise(notebook: NotebookNode) -> NotebookNode:
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


def record(book: Path, name: str) -> Path:
    """Execute a chapter with its default parameters and replace its record, if every cell succeeded.

    Args:
        book: the book's folder.
        name: the chapter.

    Returns:
        The path of the record.

    Raises:
        UnknownChapterError: the book has no such chapter.
        NotebookError: the text breaks a rule of the book, a cell failed or the disk is full; the previous
            record is then as it was.
    """
    text = read_text(text_path(book, name))
    if found := _text_problems(text):
        raise NotebookError(_listing(f"{name} cannot be recorded", found))
    path, failed = book / f"{name}.ipynb", _runs(book) / f"{name}.failed.ipynb"
    with _untouched_if_disk_fails(path):
        notebook, failure = _execute(text, {}, book)
        notebook = _normalise(notebook)
        found = [failure] if failure else gates(notebook) + sync_problems(notebook, text, name)
        if found:
            _write(notebook, failed)
            raise NotebookError(_listing(f"{name} was not recorded; to debug, open {failed}", found))
        _write(notebook, path)
        failed.unlink(missing_ok=True)
    return path


def run(book: Path, name: str, values: Mapping[str, object], output: Path | None = None) -> Path:
    """Execute a chapter with other parameters, into a notebook of its own.

    Args:
        book: the book's folder.
        name: the chapter.
        values: value by parameter; strings are read as on the command line.
        output: the notebook to write; ``runs/NAME-VALUES.ipynb`` beside the book if not given.

    Returns:
        The path of the notebook.

    Raises:
        UnknownChapterError: the book has no such chapter.
        ParameterError: the chapter has no such parameter, or does not take the value; nothing has run then.
        NotebookError: a cell failed or the disk is full; an earlier output is then as it was, and what was
            executed is beside it, under the ending ``.failed.ipynb``.
    """
    text = read_text(text_path(book, name))
    values = parameters.check_values(schema(text), values, chapter=name)
    output = (output or _runs(book) / f"{_slug(name, values)}.ipynb").resolve()
    if output.suffix != ".ipynb" or output.is_relative_to(book.resolve()):
        raise NotebookError(f"the output must be a .ipynb file outside {book} and its records, got {output}")
    failed = output.with_suffix(".failed.ipynb")
    with _untouched_if_disk_fails(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        notebook, failure = _execute(text, values, book)
        if failure:
            _write(notebook, failed)
            raise NotebookError(_listing(f"{name} was not finished; to debug, open {failed}", [failure]))
        _write(notebook, output)
        failed.unlink(missing_ok=True)
    return output


def _runs(book: Path) -> Path:
    return book.parent / "runs"


def _slug(name: str, values: Mapping[str, object]) -> str:
    words = [name, *(f"{key}={value}" for key, value in values.items())]
    return re.sub(r"[^\w.=-]+", "_", "-".join(words))


def _listing(heading: str, found: Sequence[str]) -> str:
    return "\n  ".join([heading, *found])


@contextmanager
def _untouched_if_disk_fails(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotebookError(f"{path} was not written and is as it was: {error}") from error


@contextmanager
def kernel_environment() -> Iterator[None]:
    """Kernels started inside see the same environment, whether they record, run or verify.

    Progress bars are off, for they would be part of the output, and figures go to the notebook even if the
    caller's own matplotlib draws elsewhere.
    """
    before = dict(os.environ)
    os.environ["TQDM_DISABLE"] = "1"
    os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _execute(notebook: NotebookNode, values: Mapping[str, object], book: Path) -> tuple[NotebookNode, str]:
    """Run a notebook in a fresh kernel; return it as far as it went, and what stopped it, if anything."""
    failure = ""
    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of annotations that it cannot read
    with TemporaryDirectory(prefix="vaebook-") as folder, kernel_environment():
        source, target = Path(folder, "source.ipynb"), Path(folder, "target.ipynb")
        nbformat.write(notebook, source)
        try:
            papermill.execute_notebook(
                source,
                target,
                parameters=dict(values),
                cwd=book,
                progress_bar=sys.stderr.isatty(),
                record_timing=False,
                extra_arguments=["--IPKernelApp.log_level=50"],
            )
        except PapermillExecutionError as error:
            first_line = (error.evalue.strip().splitlines() or [""])[0]
            failure = f"code cell {error.exec_count} failed: {error.ename}: {first_line}"
        except DeadKernelError:
            failure = "the kernel died; it may have run out of memory"
        notebook = nbformat.read(target, as_version=4)
    unrun = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.execution_count is None]
    return notebook, failure or ("a cell ended the run before the last cell" if unrun else "")


def _write(notebook: NotebookNode, path: Path) -> None:
    """Replace a file at once and only when its content is safely on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            file.write(nbformat.writes(notebook).rstrip("\n") + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


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
        notebook = read_record(record)
        return gates(notebook) + sync_problems(notebook, read_text(text), name)
    except NotebookError as error:
        return [str(error)]


def sync_problems(record: NotebookNode, text: NotebookNode, name: str) -> list[str]:
    """Compare a record with its text, cell by cell and without the outputs.

    Args:
        record: the executed notebook.
        text: what :func:`read_text` makes of the text.
        name: the chapter.

    Returns:
        One problem an entry, in words; empty if the record was made from this text.
    """
    remedy = _remedy(name)
    if len(record.cells) != len(text.cells):
        return [f"the record has {len(record.cells)} cells and the text {len(text.cells)}: {remedy}"]
    found = [] if record.metadata == text.metadata else [f"the header differs from the text: {remedy}"]
    for (label, ours), theirs in zip(_labelled(record), text.cells, strict=True):
        parts = ("cell_type", "source", "metadata", "attachments")
        differing = [part for part in parts if ours.get(part) != theirs.get(part)]
        if differing:
            found.append(f"{label} differs from the text in its {' and '.join(differing)}: {remedy}")
    return found


def gates(notebook: NotebookNode) -> list[str]:
    """The rules that every record keeps: executed whole and in order, without errors, with nothing hidden.

    Args:
        notebook: the record.

    Returns:
        One problem an entry, in words; empty if there is none.
    """
    cells = [(label, cell) for label, cell in _labelled(notebook) if cell.cell_type == "code"]
    executed = [
        f"{label} {problem}"
        for number, (label, cell) in enumerate(cells, start=1)
        for problem in _execution_problems(cell, number)
    ]
    return _text_problems(notebook) + executed


def _labelled(notebook: NotebookNode) -> Iterator[tuple[str, NotebookNode]]:
    """Each cell with the name that messages give it; a code cell's number is its execution count, too."""
    numbers = {}
    for cell in notebook.cells:
        numbers[cell.cell_type] = numbers.get(cell.cell_type, 0) + 1
        yield f"{cell.cell_type} cell {numbers[cell.cell_type]}", cell


def _text_problems(notebook: NotebookNode) -> list[str]:
    """Which rules a chapter breaks by what is written in it."""
    found = [f"{label} {problem}" for label, cell in _labelled(notebook) for problem in _cell_problems(cell)]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    tagged = {tag: [i for i, cell in enumerate(code) if tag in cell.metadata.get("tags", [])] for tag in TAGS}
    if tagged["provenance"] not in ([], [len(code) - 1]):
        found.append("the tag provenance, which no comparison reaches, belongs to the last code cell only")
    if tagged["parameters"] not in ([], [0]):
        found.append("the tag parameters belongs to the first code cell only")
    elif tagged["parameters"]:
        try:
            schema(notebook)
        except ParameterError as error:
            found.append(str(error))
        if len(code) == 1 or "validate(In, globals())" not in code[1].source:
            found.append("code cell 2 must call validate(In, globals()), which checks the parameters")
    return found


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
            yield f"has the unknown tag {tag!r}{suggestion(str(tag), known)}; known: {', '.join(known)}"
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


@dataclass(frozen=True)
class Verdict:
    """What :func:`verify` says of a chapter: it is ``unchanged``, ``running``, ``verified`` or ``failed``."""

    name: str
    state: str
    detail: str


def verify(book: Path, names: Sequence[str] = (), *, everything: bool = False) -> Iterator[Verdict]:
    """Run chapters again with ``pytest --nbval``, two at a time, one thread each, if there are two cores.

    A chapter that passes is stamped in ``.cache/verified``. The stamp holds until the record, the text, the
    library, the comparison or an installed package changes.

    Args:
        book: the book's folder.
        names: the chapters; all of them if empty, without those whose stamp holds.
        everything: whether to run those, too.

    Yields:
        What becomes of each chapter, as soon as it is known.

    Raises:
        UnknownChapterError: the book has no such chapter.
    """
    orphans = {path.stem for path in book.glob("*.ipynb")} - set(chapters(book))
    for name in set(names) - orphans:
        text_path(book, name)
    waiting = {}
    for name in names or [*chapters(book), *sorted(orphans)]:
        stamp, key = book.parent / ".cache" / "verified" / name, _fingerprint(book, name)
        if not (names or everything) and stamp.is_file() and stamp.read_text("utf-8").startswith(key):
            date = stamp.read_text("utf-8").partition(" ")[2]
            yield Verdict(name, "unchanged", f"up to date since {date}")
        else:
            waiting[name] = (stamp, key)
    for name in waiting:
        yield Verdict(name, "running", "running")
    workers = min(2, os.cpu_count() or 1, len(waiting))
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        futures = {pool.submit(_run_pytest, book, name, one_thread=workers > 1): name for name in waiting}
        for future in as_completed(futures):
            (stamp, key), verdict = waiting[futures[future]], future.result()
            stamp.unlink(missing_ok=True)
            if verdict.state == "verified":
                stamp.parent.mkdir(parents=True, exist_ok=True)
                stamp.write_text(f"{key} {datetime.now():%Y-%m-%d %H:%M}", encoding="utf-8")
            yield verdict


def _run_pytest(book: Path, name: str, *, one_thread: bool) -> Verdict:
    record, text = book / f"{name}.ipynb", book / "text" / f"{name}.md"
    environment = os.environ | ({"OMP_NUM_THREADS": "1"} if one_thread else {})
    environment.pop("PYTEST_ADDOPTS", None)  # it could leave cells out
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider"]
    command.append(str(record if record.is_file() else text))
    done = subprocess.run(
        command, cwd=book.parent, env=environment, text=True, capture_output=True, check=False
    )
    summary = re.search(r"^verified .*$", done.stdout, re.MULTILINE)
    if done.returncode == 0 and summary:
        return Verdict(name, "verified", summary[0])
    return Verdict(name, "failed", (done.stdout + done.stderr).strip())


def _fingerprint(book: Path, name: str) -> str:
    """A digest of all that the outcome of a verification depends on."""
    files = [book / f"{name}.ipynb", book / "text" / f"{name}.md", book / "conftest.py"]
    files += [book.parent / "constraints.txt", *sorted(Path(__file__).parent.glob("*.py"))]
    digest = hashlib.sha256("\n".join([sys.version, *_packages()]).encode())
    for file in files:
        digest.update(f"\n{file.name}\n".encode())
        digest.update(file.read_bytes() if file.is_file() else b"missing")
    return digest.hexdigest()


@cache
def _packages() -> list[str]:
    return sorted(f"{package.name} {package.version}" for package in importlib.metadata.distributions())
