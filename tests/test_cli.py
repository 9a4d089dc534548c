import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from vaebook import __main__, __version__, chapters, data, verify

ADDING = """\
---
quick: {a: 2}
---

# Adding

```{code-cell} python
:tags: [parameters]
a: int = 1  # the first summand, in [-9, 9]
note: str = ""  # shown behind the sum
```

```{code-cell} python
from vaebook.parameters import validate
validate(In, globals())
```

```{code-cell} python
print(a + 2.5, note)
```
"""


@pytest.fixture
def call(capfd, monkeypatch):
    """Calls the command line in the folder of a book; returns exit code, output and errors."""

    def call(book, *arguments):
        monkeypatch.chdir(book.folder)
        with pytest.raises(SystemExit) as exit:
            __main__.main(arguments)
        return exit.value.code or 0, *capfd.readouterr()

    return call


@pytest.fixture
def adding(empty_book):
    empty_book.write("sample", ADDING)
    return empty_book


def result(path):
    return nbformat.read(path, as_version=4).cells[-1].outputs[0].text


def test_help_and_version(call, empty_book):
    code, out, _ = call(empty_book, "--help")
    assert code == 0
    assert all(command in out for command in ("record", "run", "sweep", "verify", "chapters", "data"))
    assert call(empty_book, "--version") == (0, f"vaebook {__version__}\n", "")


def test_chapters_are_listed_with_their_titles(call, adding):
    adding.write("second", "# Subtracting")
    assert call(adding, "chapters") == (0, "sample  Adding\nsecond  Subtracting\n", "")


def test_record_and_run(call, adding):
    code, out, _ = call(adding, "record")
    assert code == 0
    assert out == f"recording sample\nwrote {adding.folder / 'sample.ipynb'}\n"
    assert result(adding.folder / "sample.ipynb") == "3.5 \n"

    target = adding.root / "out.ipynb"
    code, out, _ = call(adding, "run", "sample", "-p", "a", "-2", "-p", "note=x=y", "-o", str(target))
    assert code == 0
    assert out == f"wrote {target}\n"
    assert result(target) == "0.5 x=y\n"


def test_plain_papermill_runs_a_record_with_other_parameters(call, adding):
    call(adding, "record", "sample")

    def papermill(*values):
        command = [sys.executable, "-m", "papermill", "book/sample.ipynb", "out.ipynb", *values]
        return subprocess.run(command, cwd=adding.root, capture_output=True, text=True, check=False)

    assert papermill("-p", "a", "4", "-p", "note", "z").returncode == 0
    assert result(adding.root / "out.ipynb") == "6.5 z\n"
    refused = papermill("-p", "aa", "4")
    assert refused.returncode != 0
    assert "ParameterError: unknown parameter 'aa'; did you mean 'a'?" in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("sample", "--help"),
        ("--help", "sample"),
        ("sample", "-p", "a", "2", "--help"),
        ("sample", "--help", "-o", "x"),
    ],
)
def test_the_help_on_a_chapter_lists_its_parameters(call, adding, arguments):
    code, out, _ = call(adding, "run", *arguments)
    assert code == 0
    assert "Set a parameter; can be repeated." in out
    assert out.splitlines()[-3:] == [
        "Parameters of sample:",
        "  a: int = 1  # the first summand, in [-9, 9]",
        "  note: str = ''  # shown behind the sum",
    ]


def test_the_help_without_a_chapter_lists_no_parameters(call, adding):
    code, out, _ = call(adding, "run", "--help")
    assert code == 0
    assert "Set a parameter; can be repeated." in out
    assert "Parameters of" not in out


def test_the_help_on_a_chapter_without_parameters_says_so(call, adding):
    adding.write("second", "# Subtracting")
    _, out, _ = call(adding, "run", "second", "--help")
    assert out.splitlines()[-2:] == ["Parameters of second:", "  none"]


def test_a_dry_run_of_a_sweep_lists_its_runs_and_estimates_their_time(call, adding):
    text = (
        ADDING + "\n```{code-cell} python\n:tags: [provenance]\nfrom vaebook.provenance import provenance\n"
    )
    adding.write("sample", text + "provenance(In, globals())\n```\n")
    call(adding, "record", "sample")
    arguments = (
        "sweep",
        "sample",
        "-p",
        "a",
        "-2",
        "3",
        "5:7",
        "--workers",
        "2",
        "-p",
        "note=x=y",
        "--dry-run",
    )
    code, out, _ = call(adding, *arguments)
    assert code == 0
    *table, estimate = out.splitlines()
    assert [line.split() for line in table] == [
        ["a", "note", "status"],
        *([a, "x=y", "missing"] for a in ("-2", "3", "5", "6")),
    ]
    assert re.fullmatch(
        r"4 runs, 4 of them to be made: about \d+ s on 2 workers, if each takes the \d+ s of the record",
        estimate,
    )
    _, out, _ = call(adding, "sweep", "sample", "-p", "a", "1", "--scheduler", "tcp://nowhere:1", "--dry-run")
    assert "of one worker's time, if each takes" in out
    assert not (adding.root / "runs").exists()


def test_the_help_of_a_sweep_on_a_chapter_lists_its_parameters(call, adding):
    code, out, _ = call(adding, "sweep", "sample", "--help")
    assert code == 0
    assert out.splitlines()[-3] == "Parameters of sample:"


def test_a_sweep_tells_where_its_page_is_and_how_many_runs_failed(call, adding):
    adding.write("sample", ADDING + "\n```{code-cell} python\n1 / (a - 3)\n```\n")
    folder = adding.root / "runs" / "sweep-sample"
    code, out, err = call(adding, "sweep", "sample", "-p", "a", "2", "3", "--workers", "1")
    assert code == 1  # as many as failed
    assert out == f"wrote {folder / 'index.html'}\n"
    assert "failed: a = 3: code cell 5 failed: ZeroDivisionError: division by zero" in err
    assert err.endswith("vaebook: 1 of 2 runs failed; the page tells why\n")
    assert call(adding, "sweep", "sample", "-p", "a", "2")[:2] == (0, out)


def test_the_front_page_is_recorded_last(call, adding):
    adding.write("second", ADDING)
    _, out, _ = call(adding, "record", "sample", "second")
    assert re.findall(r"recording (\w+)", out) == ["second", "sample"]


def test_records_and_verifications_are_reported_in_one_table(call, book):
    book.write("second", "# Not recorded")
    code, out, _ = call(book, "verify", "--report")
    head, sample, second = (re.split(r"\s{2,}", line) for line in out.splitlines())
    assert code == 0
    assert head == list(verify.COLUMNS)
    assert sample == ["sample", "without provenance", "not verified"]
    assert second == ["second", "not recorded", "not verified"]
    assert call(book, "verify", "smaple", "--report")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["record", "smaple"], "vaebook: unknown chapter 'smaple'; did you mean 'sample'? known: sample\n"),
        (["verify", "smaple"], "vaebook: unknown chapter 'smaple'; did you mean 'sample'? known: sample\n"),
        (["run", "smaple", "--help"], "vaebook: unknown chapter 'smaple'; did you mean 'sample'?"),
        (["run", "smaple"], "vaebook: unknown chapter 'smaple'; did you mean 'sample'? known: sample\n"),
        (["run", "sample", "-p", "a", "x"], "vaebook: a must be int, got 'x'\n"),
        (["run", "sample", "-p", "a"], "vaebook: parameter 'a' needs a value: -p a VALUE\n"),
        (
            ["run", "sample", "-p", "nte", "1"],
            "vaebook: unknown parameter 'nte'; did you mean 'note'?\nsample has:\n",
        ),
        (["sweep", "smaple", "-p", "a", "1"], "vaebook: unknown chapter 'smaple'; did you mean 'sample'?"),
        (["sweep", "sample"], "vaebook: nothing to sweep over: name a parameter of sample"),
        (["sweep", "sample", "-p", "a", "1", "x"], "vaebook: a must be int, got 'x'\n"),
        (
            ["sweep", "sample", "-p", "a", "--workers", "1"],
            "vaebook: parameter 'a' needs values: -p a VALUE VALUE ...\n",
        ),
        (["sweep", "sample", "-p", "a", "1", "-p", "a", "1"], "vaebook: a is given the value 1 twice\n"),
        (["sweep", "sample", "-p", "a", "0:3", "-o", "book/x"], "vaebook: the folder must be outside "),
        (
            ["sweep", "sample", "-p", "a", "1", "--workers", "2", "--scheduler", "tcp://a:1"],
            "vaebook: --workers is for this machine, and --scheduler for others: give one of them\n",
        ),
        (["data", "mnits"], "vaebook: unknown data set 'mnits'; did you mean 'mnist'"),
    ],
)
def test_a_mistaken_request_is_refused_with_a_guess(call, adding, arguments, message):
    code, out, err = call(adding, *arguments)
    assert (code, out) == (255 if arguments[0] == "sweep" else 2, "")  # a sweep's code counts failed runs
    assert err.startswith(message)
    assert "Traceback" not in err


def test_a_chapter_that_fails_ends_with_one_message(call, adding):
    adding.write("sample", "```{code-cell} python\n1 / 0\n```\n")
    code, _, err = call(adding, "record")
    assert code == 1
    assert "code cell 1 failed: ZeroDivisionError: division by zero" in err
    assert "Traceback" not in err


def test_outside_the_book_the_error_says_where_to_go(call, tmp_path):
    code, _, err = call(SimpleNamespace(folder=tmp_path), "chapters")
    assert code == 2
    assert err == f"vaebook: {tmp_path} is outside the book: go to the folder with _toc.yml and book/\n"


def test_an_error_that_is_not_ours_keeps_its_traceback(adding, monkeypatch):
    def fail():
        raise KeyError("a bug")

    monkeypatch.setattr(chapters, "find_book", fail)
    with pytest.raises(KeyError):
        __main__.main(["chapters"])


def test_data_sets_are_listed_and_fetched(call, adding, monkeypatch):
    rows = [
        data.Status("digits", Path("/a"), True, 0, "small images"),
        data.Status("mnist", Path("/b"), False, 0, "larger images"),
    ]
    monkeypatch.setattr(data, "status", lambda: rows)
    code, out, _ = call(adding, "data")
    assert code == 0
    assert re.search(r"digits +present +/a\n +small images\nmnist +absent +/b\n +larger images", out)

    monkeypatch.setattr(data, "fetch", lambda name: Path("/cache") / name)
    assert call(adding, "data", "mnist") == (0, "/cache/mnist\n", "")


def test_data_that_cannot_be_had_end_with_one_message(call, adding, monkeypatch):
    def fail(name):
        raise data.DataUnavailable("tried everything")

    monkeypatch.setattr(data, "fetch", fail)
    assert call(adding, "data", "mnist") == (3, "", "vaebook: tried everything\n")


def test_verify_runs_what_changed_and_says_what_did_not(call, book, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "--collect-only")  # would be green without running anything
    code, out, _ = call(book, "verify")
    assert code == 0
    assert out == "sample: running\nsample: verified 8 numbers, 1 table, 3 figures in 1 chapter\n"

    code, out, _ = call(book, "verify")
    assert code == 0
    assert re.fullmatch(r"sample: up to date since \d{4}-\d\d-\d\d \d\d:\d\d\n", out)

    record = book.read("sample")
    record.cells[3].outputs[0].text = "the bound is 113.82 nats after 5 epochs\n"
    book.store("sample", record)
    (book.folder / "orphan.ipynb").write_text("{}")
    code, out, err = call(book, "verify")
    assert code == 1
    assert "113.82 was stored, 108.40 came out" in out
    assert "sample: FAILED, see above" in out
    assert "orphan: FAILED, see above" in out
    assert err.startswith("vaebook: 2 failed: ")
    assert not (book.root / ".cache" / "verified" / "orphan").exists()
    assert call(book, "verify", "sample")[0] == 1


@pytest.mark.parametrize("module", ["__main__", "notebooks", "summary", "sweep", "verify"])
def test_the_door_opens_without_torch(module):
    code = f"import sys, vaebook.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0
