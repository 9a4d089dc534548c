import errno
import os
import re

import nbformat
import pytest

from vaebook import gates, notebooks
from vaebook.chapters import NotebookError, UnknownChapterError
from vaebook.parameters import ParameterError

ADDING = """\
---
quick: {a: 2}
---

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


def test_an_unknown_chapter_is_refused_with_a_guess(book):
    with pytest.raises(
        UnknownChapterError, match="unknown chapter 'smaple'; did you mean 'sample'\\? known: sample"
    ):
        notebooks.record(book.folder, "smaple")


def test_a_record_is_the_text_with_outputs_and_nothing_that_changes(book):
    record = book.read("sample")
    assert gates.problems(book.folder, "sample") == []
    assert set(record.metadata) == {"kernelspec", "language_info", "quick", "key_figure"}
    assert record.metadata.kernelspec.language == record.metadata.language_info.name == "python"
    assert [cell.id for cell in record.cells] == [f"cell-{n}" for n in range(1, 13)]
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


def test_of_a_long_error_the_first_line_and_the_last_are_told(book):
    error = r'raise ValueError("odd digits:\n  3\n  5\n  nothing else was looked at\n")'
    book.write("sample", f"```{{code-cell}} python\n{error}\n```\n")
    with pytest.raises(NotebookError, match=r"ValueError: odd digits: … nothing else was looked at$"):
        book.record("sample")


def without_prose(record) -> list:
    return [(cell.source, cell.outputs) for cell in record.cells if cell.cell_type == "code"]


def test_a_change_of_the_prose_keeps_the_outputs(book):
    before, text = book.read("sample"), (book.folder / "text" / "sample.md").read_text("utf-8")
    book.write("sample", text + "\nAnd one more remark.\n")
    assert gates.problems(book.folder, "sample")
    notebooks.record_prose(book.folder, "sample")
    after = book.read("sample")
    assert gates.problems(book.folder, "sample") == []
    assert after.cells[-1].source.endswith("And one more remark.")
    assert without_prose(after) == without_prose(before)


def test_a_change_of_the_code_keeps_nothing(book):
    before, text = (book.folder / "sample.ipynb").read_bytes(), book.folder / "text" / "sample.md"
    book.write("sample", text.read_text("utf-8").replace("about 40.0 seconds", "about 41.0 seconds"))
    with pytest.raises(NotebookError, match="the code of sample has changed, too: record it again with"):
        notebooks.record_prose(book.folder, "sample")
    assert (book.folder / "sample.ipynb").read_bytes() == before


def test_prose_alone_is_no_record(empty_book):
    empty_book.write("sample", "# A title\n")
    with pytest.raises(NotebookError, match="sample has no outputs that could be kept"):
        notebooks.record_prose(empty_book.folder, "sample")


def test_a_dead_kernel_is_a_failure(empty_book):
    empty_book.write("sample", "```{code-cell} python\nimport os\nos._exit(1)\n```\n")
    with pytest.raises(NotebookError, match="the kernel died"):
        empty_book.record("sample")


def test_a_kernel_that_does_not_come_up_is_started_again(empty_book, stillborn_kernels):
    starts = stillborn_kernels(2)
    empty_book.write("sample", "```{code-cell} python\n1 + 1\n```\n")
    empty_book.record("sample")
    assert starts.read_text() == "III"
    assert empty_book.read("sample").cells[0].outputs[0].data["text/plain"] == "2"


def test_a_kernel_that_never_comes_up_is_a_failure(empty_book, stillborn_kernels):
    starts = stillborn_kernels(3)
    empty_book.write("sample", "```{code-cell} python\n1 + 1\n```\n")
    with pytest.raises(NotebookError, match="the kernel did not start"):
        empty_book.record("sample")
    assert starts.read_text() == "III"
    assert not (empty_book.folder / "sample.ipynb").exists()


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


def test_kernels_see_no_progress_bar_and_no_backend_of_the_caller(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    before = dict(os.environ)
    with notebooks.kernel_environment():
        assert os.environ["TQDM_DISABLE"] == "1"
        assert "MPLBACKEND" not in os.environ
    assert dict(os.environ) == before
