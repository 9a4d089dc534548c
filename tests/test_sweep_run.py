import os
import signal

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from vaebook import sweep_run
from vaebook.sweep_run import Job, package_digest, reported

CHAPTER = """\
# Inverting

```{code-cell} python
:tags: [parameters]
number: int = 1  # what is inverted, in [0, 9]
word: str = ""  # reported as it is
```

```{code-cell} python
import os
from vaebook.checks import report
from vaebook.parameters import validate
validate(In, globals())
if number == 9:
    os.kill(os.getppid(), 9)
report(inverse=1 / number, word=word, threads=int(os.environ["OMP_NUM_THREADS"]))
```

```{code-cell} python
:tags: [provenance]
from types import SimpleNamespace
from vaebook.provenance import provenance
provenance(In, globals(), [SimpleNamespace(name="digits", checksum="abc")])
```
"""


def job(*, number=4, package=None, threads=3, word="None", text=CHAPTER, root="/nowhere"):
    values = {"number": number, "word": word}
    return Job("inverting", text, values, package or package_digest(), threads, str(root))


def test_a_run_gives_its_notebook_its_results_and_its_provenance(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(sweep_run.tempfile, "tempdir", None)
    outcome = sweep_run.execute(job())
    assert outcome.error == ""
    assert outcome.results == {"inverse": 0.25, "word": "None", "threads": 3}
    assert outcome.provenance["data"] == {"digits": "abc"}
    assert outcome.provenance["threads"] == 3
    assert outcome.seconds > 0
    notebook = nbformat.reads(outcome.notebook, as_version=4)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert list(tmp_path.iterdir()) == []


def test_the_worker_says_how_many_threads_a_run_has_unless_the_sweep_does(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert sweep_run.execute(job(threads=None)).results["threads"] == 7
    monkeypatch.delenv("OMP_NUM_THREADS")
    outcome = sweep_run.execute(job(threads=None, number=0))
    assert outcome.provenance["threads"] == 1
    assert outcome.error == "code cell 3 failed: ZeroDivisionError: division by zero"
    assert "ZeroDivisionError" in outcome.notebook
    assert outcome.results == {}


def test_a_run_whose_process_is_killed_is_a_failure():
    outcome = sweep_run.execute(job(number=9))
    assert outcome.error == f"the run's process ended with exit code {-signal.SIGKILL}"
    assert outcome.notebook == ""


def test_another_version_of_the_package_runs_nothing():
    outcome = sweep_run.execute(job(package="another"))
    assert outcome.error == (
        f"vaebook {sweep_run.vaebook.__version__} on {os.uname().nodename}, or what it uses, is not what the "
        "sweep was started with: install the same versions on every machine, and leave them alone while it "
        "runs"
    )
    assert outcome.provenance["host"] == os.uname().nodename
    assert outcome.notebook == ""


def test_any_change_of_the_package_changes_its_digest(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_run, "__file__", str(tmp_path / "sweep_run.py"))
    digests = {package_digest()}
    for content in ("a = 1", "a = 2"):
        (tmp_path / "module.py").write_text(content)
        digests.add(package_digest())
    (tmp_path / "module.py").rename(tmp_path / "renamed.py")
    digests.add(package_digest())
    monkeypatch.setattr(sweep_run.importlib.metadata, "version", lambda name: f"another {name}")
    digests.add(package_digest())
    assert len(digests) == 5


def test_a_chapter_reads_what_lies_around_it(empty_book):
    (empty_book.root / "benchmarks").mkdir()
    (empty_book.root / "benchmarks" / "results.txt").write_text("0.5")
    empty_book.write("sample", "# Sample")
    empty_book.write("inverting", "# What is here now is not what the sweep was started with")
    reading = CHAPTER.replace("word=word", "word=str(look())").replace(
        "import os\n",
        """import os
from vaebook.chapters import find_book, front_page, names
def look():
    book = find_book()
    return [(book.parent / "benchmarks" / "results.txt").read_text(), front_page(book), *names(book)]
""",
    )
    outcome = sweep_run.execute(job(text=reading, root=empty_book.root))
    assert outcome.error == ""
    assert outcome.results["word"] == "['0.5', 'sample', 'sample', 'inverting']"
    assert "What is here now" not in outcome.notebook
    assert (empty_book.root / "benchmarks" / "results.txt").is_file()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.25", 0.25),
        ("7", 7),
        ("'a word'", "a word"),
        ("[1, 2.5]", [1, 2.5]),
        ("inf", float("inf")),
        ("[-inf, 1.0]", [float("-inf"), 1.0]),
    ],
)
def test_what_a_chapter_reports_is_read_back(text, value):
    prefix = "application/papermill.record/"
    output = new_output(
        "display_data",
        {prefix + "text/plain": text},
        metadata={"scrapbook": {"name": "bound", "mime_prefix": prefix}},
    )
    other = new_output("display_data", {"text/plain": "1"})
    assert reported(new_notebook(cells=[new_code_cell("", outputs=[other, output])])) == {"bound": value}
