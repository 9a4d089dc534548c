"""Running chapters: into their records, or with other parameters into a notebook elsewhere."""

import copy
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from tenacity import retry, retry_if_exception_message, stop_after_attempt

from vaebook import chapters, gates
from vaebook.chapters import NotebookError, find_book, labelled_cells, read_text, text_path
from vaebook.files import replacing
from vaebook.parameters import check_values

__all__ = ["find_book", "kernel_environment", "record", "record_prose", "run", "starting_again"]

UNSTARTED = "Kernel died before replying"  # what Jupyter says of a kernel that did not come up

# The ports of a kernel are free when they are chosen; when it takes them, another process may have one.
starting_again = retry(
    retry=retry_if_exception_message(match=UNSTARTED), stop=stop_after_attempt(3), reraise=True
)
"""Makes what starts a kernel try it anew if the kernel does not come up, twice at most."""


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
    text = _recordable(book, name)
    path, failed = book / f"{name}.ipynb", _runs(book) / f"{name}.failed.ipynb"
    with _untouched_if_disk_fails(path):
        notebook, failure = _execute(text, {}, book)
        notebook = chapters.normalise(notebook)
        found = [failure] if failure else gates.record_problems(book, name, notebook, text)
        if found:
            _write(notebook, failed)
            raise NotebookError(_listing(f"{name} was not recorded; to debug, open {failed}", found))
        _write(notebook, path)
        failed.unlink(missing_ok=True)
    return path


def record_prose(book: Path, name: str) -> Path:
    """Bring the prose of a record up to date, and the tags of its cells, without a run.

    The outputs stay as they are, and their provenance still tells the run that they come from.

    Args:
        book: the book's folder.
        name: the chapter.

    Returns:
        The path of the record.

    Raises:
        UnknownChapterError: the book has no such chapter.
        NotebookError: there is no record, its code is not that of the text, the text breaks a rule of the
            book, or the disk is full; the record is then as it was.
    """
    text = _recordable(book, name)
    path = book / f"{name}.ipynb"
    if not path.is_file():
        raise NotebookError(f"{name} has no outputs that could be kept: {chapters.remedy(name)}")
    fresh, recorded = copy.deepcopy(text), chapters.read_record(path)
    pairs = [[cell for _, cell in labelled_cells(notebook, "code")] for notebook in (fresh, recorded)]
    if [cell.source for cell in pairs[0]] != [cell.source for cell in pairs[1]]:
        raise NotebookError(f"the code of {name} has changed, too: {chapters.remedy(name)}")
    for cell, executed in zip(*pairs, strict=True):
        cell.outputs, cell.execution_count = executed.outputs, executed.execution_count
    if found := gates.record_problems(book, name, fresh, text):
        raise NotebookError(_listing(f"{name} was not recorded", found))
    with _untouched_if_disk_fails(path):
        _write(fresh, path)
    return path


def _recordable(book: Path, name: str) -> NotebookNode:
    """The text of a chapter, which keeps the rules of the book."""
    text = read_text(text_path(book, name))
    if found := gates.text_problems(book, name, text):
        raise NotebookError(_listing(f"{name} cannot be recorded", found))
    return text


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
    values = check_values(chapters.schema(text), values, chapter=name)
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
            starting_again(papermill.execute_notebook)(
                source,
                target,
                parameters=dict(values),
                cwd=book,
                progress_bar=sys.stderr.isatty(),
                record_timing=False,
                extra_arguments=["--IPKernelApp.log_level=50"],
            )
        except PapermillExecutionError as error:
            lines = error.evalue.strip().splitlines() or [""]
            message = " … ".join(dict.fromkeys([lines[0], lines[-1].strip()]))  # a long one by its ends
            failure = f"code cell {error.exec_count} failed: {error.ename}: {message}"
        except DeadKernelError:
            failure = "the kernel died; it may have run out of memory"
        except RuntimeError as error:
            if not str(error).startswith(UNSTARTED):
                raise
            failure = "the kernel did not start"
        notebook = nbformat.read(target, as_version=4)
    unrun = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.execution_count is None]
    return notebook, failure or ("a cell ended the run before the last cell" if unrun else "")


def _write(notebook: NotebookNode, path: Path) -> None:
    with replacing(path) as file:
        file.write((nbformat.writes(notebook).rstrip("\n") + "\n").encode())
