import copy
import errno
import os
import re

import nbformat
import pytest

from vaebook import notebooks
from vaebook.notebooks import NotebookError, UnknownChapterError, gates, read_text, sync_problems
from vaebook.parameters import ParameterError

ADDING = """\
# Adding

```{code-cell} python
:tags: [parameters]
a: int = 1  # the first summand, in [0, 9]
```

```{code-cell} python
from vaebook.parameters import validate
validate(In, globals())
```

```{code-cell} python
1 / (3 - a)
```
"""


def test_the_book_is_found_from_any_folder_below_it(book, monkeypatch):
    monkeypatch.chdir(book.folder / "text")
    assert notebooks.find_book() == book.folder


def test_outside_the_book_the_error_says_where_to_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UnknownChapterError, match=r"is outside the book: go to the folder with _toc.yml and book/"
    ):
        notebooks.find_book()


def test_chapters_come_in_the_order_of_the_contents(empty_book):
    for name in ("zebra", "second", "apple", "sample"):
        empty_book.write(name, f"# The {name}")
    assert notebooks.chapters(empty_book.folder) == ["sample", "second", "apple", "zebra"]
    assert notebooks.title(read_text(empty_book.folder / "text" / "apple.md")) == "The apple"


def test_an_unknown_chapter_is_refused_with_a_guess(book):
    with pytest.raises(
        UnknownChapterError, match="unknown chapter 'smaple'; did you mean 'sample'\\?; known: sample"
    ):
        notebooks.record(book.folder, "smaple")


def test_a_text_with_a_broken_header_is_named(empty_book):
    empty_book.write("sample", "```{code-cell} python\n---\ntags: [\n---\n1\n```\n")
    with pytest.raises(NotebookError, match=r"sample\.md: .*Invalid YAML"):
        empty_book.record("sample")


def test_a_record_is_the_text_with_outputs_and_nothing_that_changes(book):
    record = book.read("sample")
    assert gates(record) == []
    assert notebooks.problems(book.folder, "sample") == []
    assert set(record.metadata) == {"kernelspec", "language_info"}
    assert record.metadata.kernelspec.language == record.metadata.language_info.name == "python"
    assert [cell.id for cell in record.cells] == [f"cell-{n}" for n in range(1, 12)]
    assert {key for cell in record.cells for key in cell.metadata} == {"tags", "mystnb", "compare"}
    assert 'id="T_00000"' in record.cells[4].outputs[0].data["text/html"]
    text = (book.folder / "sample.ipynb").read_text("utf-8")
    assert text.endswith("}\n")
    assert not text.endswith("\n\n")


def test_recording_twice_gives_the_same_file(book):
    before = (book.folder / "sample.ipynb").read_bytes()
    assert book.record("sample").read_bytes() != before  # the provenance tells the time
    assert re.sub(rb"finished at .*", b"", before) == re.sub(
        rb"finished at .*", b"", (book.folder / "sample.ipynb").read_bytes()
    )
    assert sorted(path.name for path in book.folder.iterdir()) == ["conftest.py", "sample.ipynb", "text"]


def test_a_failing_cell_leaves_the_record_and_says_how_to_debug(book):
    before = (book.folder / "sample.ipynb").read_bytes()
    book.write("sample", "```{code-cell} python\nvalue = 7\n```\n\n```{code-cell} python\nvalue / 0\n```\n")
    with pytest.raises(NotebookError) as caught:
        book.record("sample")
    failed = book.root / "runs" / "sample.failed.ipynb"
    assert str(caught.value).splitlines() == [
        f"sample was not recorded; to debug, open {failed}",
        "  code cell 2 failed: ZeroDivisionError: division by zero",
    ]
    assert (book.folder / "sample.ipynb").read_bytes() == before
    assert nbformat.read(failed, as_version=4).cells[-1].outputs[0].ename == "ZeroDivisionError"


def test_a_dead_kernel_is_a_failure(empty_book):
    empty_book.write("sample", "```{code-cell} python\nimport os\nos._exit(1)\n```\n")
    with pytest.raises(NotebookError, match="the kernel died"):
        empty_book.record("sample")


def test_a_full_disk_leaves_the_record(book, monkeypatch):
    before = (book.folder / "sample.ipynb").read_bytes()
    book.write("sample", "```{code-cell} python\n1 + 1\n```\n")

    def no_space(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(
        NotebookError, match=r"sample\.ipynb was not written and is as it was: .*No space left"
    ):
        book.record("sample")
    assert (book.folder / "sample.ipynb").read_bytes() == before
    assert sorted(path.name for path in book.folder.iterdir()) == ["conftest.py", "sample.ipynb", "text"]


def test_what_is_written_wrongly_is_refused_before_anything_runs(empty_book, monkeypatch):
    monkeypatch.setattr(notebooks.papermill, "execute_notebook", lambda *_, **__: pytest.fail("it ran"))
    empty_book.write("sample", "```{code-cell} python\n:tags: [traind]\n%time 1\n```\n")
    with pytest.raises(NotebookError) as caught:
        empty_book.record("sample")
    first, tag, magic = str(caught.value).splitlines()
    assert first == "sample cannot be recorded"
    assert tag.startswith("  code cell 1 has the unknown tag 'traind'; did you mean 'trained'?")
    assert magic.startswith("  code cell 1 is not plain Python (a magic or a shell command?), line 1")


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import sys\nprint('careful', file=sys.stderr)", "code cell 1 wrote to stderr: 'careful'"),
        ("raise SystemExit", "a cell ended the run before the last cell"),
    ],
)
def test_what_runs_wrongly_is_not_recorded(empty_book, code, problem):
    empty_book.write("sample", f"```{{code-cell}} python\n{code}\n```\n\n```{{code-cell}} python\n1\n```\n")
    with pytest.raises(NotebookError, match=problem):
        empty_book.record("sample")
    assert not (empty_book.folder / "sample.ipynb").exists()


def test_a_run_uses_the_values_and_stays_out_of_the_book(empty_book, monkeypatch):
    empty_book.write("sample", ADDING)
    monkeypatch.chdir("/")
    output = notebooks.run(empty_book.folder, "sample", {"a": "2"})
    assert output == empty_book.root / "runs" / "sample-a=2.ipynb"
    assert nbformat.read(output, as_version=4).cells[-1].outputs[0].data["text/plain"] == "1.0"
    assert not (empty_book.folder / "sample.ipynb").exists()

    output.write_text("a good one")
    with pytest.raises(NotebookError) as caught:
        notebooks.run(empty_book.folder, "sample", {"a": 3}, output)
    failed = output.with_suffix(".failed.ipynb")
    assert str(caught.value).splitlines() == [
        f"sample was not finished; to debug, open {failed}",
        "  code cell 4 failed: ZeroDivisionError: division by zero",
    ]
    assert output.read_text() == "a good one"
    assert failed.exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"b": "2"}, "unknown parameter 'b'"),
        ({"a": "x"}, "a must be int, got 'x'"),
        ({"a": "10"}, "a must be >= 0 and <= 9, got 10"),
    ],
)
def test_values_are_checked_before_anything_runs(empty_book, monkeypatch, values, message):
    monkeypatch.setattr(notebooks.papermill, "execute_notebook", lambda *_, **__: pytest.fail("it ran"))
    empty_book.write("sample", ADDING)
    with pytest.raises(ParameterError, match=message):
        notebooks.run(empty_book.folder, "sample", values)


@pytest.mark.parametrize("name", ["book/other.ipynb", "runs/other.txt"])
def test_a_run_is_written_neither_among_the_records_nor_elsewhere_but_in_a_notebook(empty_book, name):
    empty_book.write("sample", ADDING)
    with pytest.raises(
        NotebookError, match=r"the output must be a \.ipynb file outside .*book and its records"
    ):
        notebooks.run(empty_book.folder, "sample", {}, empty_book.root / name)


def change(record, number):
    """The code cell with this number."""
    return [cell for cell in record.cells if cell.cell_type == "code"][number - 1]


def clear_count(record):
    change(record, 3).execution_count = None


def strip(record):
    for cell in record.cells:
        if cell.cell_type == "code":
            cell.execution_count, cell.outputs = None, []


def swap_cells(record):
    record.cells[5], record.cells[6] = record.cells[6], record.cells[5]


def store_error(record):
    change(record, 3).outputs = [
        nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    ]


def store_stderr(record):
    change(record, 3).outputs.append(nbformat.v4.new_output("stream", name="stderr", text="careful\n"))


def store_address(record):
    change(record, 3).outputs[0].text = "<object at 0x7f03a4b2c1d0>"


def tag(number, *tags, **metadata):
    def mutate(record):
        change(record, number).metadata.update({"tags": list(tags), **metadata})

    return mutate


def source(number, code):
    def mutate(record):
        change(record, number).source = code

    return mutate


def nest(record):
    record.cells[0].source += "\n\n````{solution} ex\n```{code-cell} python\n1\n```\n````"


@pytest.mark.parametrize(
    ("mutate", "problem"),
    [
        (clear_count, "code cell 3 was never executed"),
        (strip, "code cell 10 was never executed"),
        (swap_cells, "code cell 5 was executed as number 6, out of order"),
        (store_error, "code cell 3 ended in an error: ValueError: no"),
        (store_stderr, "code cell 3 wrote to stderr: 'careful'"),
        (store_address, "code cell 3 shows the address of an object"),
        (tag(3, "nbval-skip"), "code cell 3 has the tag nbval-skip without a reason"),
        (
            tag(3, "nbval-ignore-output", reason=""),
            "code cell 3 has the tag nbval-ignore-output without a reason",
        ),
        (tag(3, "raises-exception", reason="it must"), "code cell 3 has the tag raises-exception: catch the"),
        (
            tag(3, "nbval-raises-exception"),
            "code cell 3 has the tag nbval-raises-exception: catch the exception",
        ),
        (tag(3, "hide-inptu"), "code cell 3 has the unknown tag 'hide-inptu'; did you mean 'hide-input'?"),
        (tag(3, "nbval_skip"), "code cell 3 has the unknown tag 'nbval_skip'; did you mean 'nbval-skip'?"),
        (tag(3, "skip-execution"), "code cell 3 has the unknown tag 'skip-execution'"),
        (
            tag(3, "provenance"),
            "the tag provenance, which no comparison reaches, belongs to the last code cell",
        ),
        (tag(3, "parameters"), "the tag parameters belongs to the first code cell only"),
        (tag(3, compare={"rtoll": 0.1}), "code cell 3 has metadata that cannot be used: compare takes rtol"),
        (tag(3, compare={"rtol": 0.3}), "compare: rtol 0.3 is above 0.2, which needs a reason"),
        (
            tag(3, compare={"atol": 50}),
            "code cell 3 states atol 50, above a fifth of its largest number (21.68)",
        ),
        (
            source(3, "# NBVAL_SKIP\n1"),
            "code cell 3 has the comment '# NBVAL_SKIP': use the tag nbval-skip or",
        ),
        (source(3, "#  NBVAL_IGNORE_OUTPUT\n1"), "code cell 3 has the comment '#  NBVAL_IGNORE_OUTPUT'"),
        (
            source(3, "%matplotlib inline"),
            "code cell 3 is not plain Python (a magic or a shell command?), line 1",
        ),
        (source(3, "!ls"), "code cell 3 is not plain Python"),
        (source(3, "  \n"), "code cell 3 is empty"),
        (source(1, "size = 32"), "parameters cell, line 1: 'size = 32' is not of the form"),
        (source(1, "size: int = 32"), "size needs a comment that says what it is"),
        (
            source(2, "import io"),
            "code cell 2 must call validate(In, globals()), which checks the parameters",
        ),
        (nest, "markdown cell 1 holds a code-cell inside another directive, which is never executed"),
    ],
)
def test_each_gate_finds_its_record(book, mutate, problem):
    record = book.read("sample")
    mutate(record)
    found = gates(record)
    assert any(problem in line for line in found), found


@pytest.mark.parametrize(
    "mutate",
    [
        tag(3, "nbval-skip", reason="needs a data set that no index has"),
        tag(3, "hide-input", "full-width"),
        tag(3, compare={"rtol": 0.3}, reason="a timing"),
        tag(3, compare={"atol": 1}),
        tag(3, compare={"rms": 12}),
    ],
)
def test_what_has_a_reason_passes_the_gates(book, mutate):
    record = book.read("sample")
    mutate(record)
    assert gates(record) == []


def edit_text(record):
    record.cells[0].source = record.cells[0].source.replace("little", "much")


def drop_cell(record):
    del record.cells[3]


def attach(record):
    record.cells[0].attachments = {"a.png": {"image/png": ""}}


def change_kernel(record):
    record.metadata.kernelspec.name = "julia"


@pytest.mark.parametrize(
    ("mutate", "problem"),
    [
        (edit_text, "markdown cell 1 differs from the text in its source"),
        (attach, "markdown cell 1 differs from the text in its attachments"),
        (source(3, "print(1)"), "code cell 3 differs from the text in its source"),
        (tag(3, compare={"rtol": 0.2}), "code cell 3 differs from the text in its metadata"),
        (tag(8), "code cell 8 differs from the text in its metadata"),
        (swap_cells, "code cell 5 differs from the text in its source and metadata"),
        (drop_cell, "the record has 10 cells and the text 11"),
        (change_kernel, "the header differs from the text"),
    ],
)
def test_a_record_that_is_not_of_this_text_is_found(book, mutate, problem):
    record, text = book.read("sample"), read_text(book.folder / "text" / "sample.md")
    assert sync_problems(copy.deepcopy(record), text, "sample") == []
    mutate(record)
    assert f"{problem}: record it again with `vaebook record sample`" in sync_problems(record, text, "sample")


def test_a_text_without_a_record_and_a_record_without_a_text_are_problems(book):
    text = book.folder / "text" / "sample.md"
    orphan = text.rename(book.folder / "text" / "other.md")
    assert "is missing" in notebooks.problems(book.folder, "sample")[0]
    assert notebooks.problems(book.folder, "other") == [
        f"{orphan} has no record: make it with `vaebook record other`"
    ]


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"nbformat": 4, "nbformat_minor": 5}'])
def test_a_damaged_record_is_a_problem(book, content):
    path = book.folder / "sample.ipynb"
    path.write_text(content)
    assert notebooks.problems(book.folder, "sample") == [
        f"{path} is damaged: record it again with `vaebook record sample`"
    ]


def test_kernels_see_no_progress_bar_and_no_backend_of_the_caller(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    before = dict(os.environ)
    with notebooks.kernel_environment():
        assert os.environ["TQDM_DISABLE"] == "1"
        assert "MPLBACKEND" not in os.environ
    assert dict(os.environ) == before
