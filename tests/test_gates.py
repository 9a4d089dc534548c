"""Each rule of the verification, broken once: ``pytest --nbval`` must see it, and nothing else."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import nbformat
import pytest
from nbformat import NotebookNode

from vaebook.notebooks import read_text

BROKEN: dict[str, tuple[Callable, str, str]] = {}


def broken(cell: str, problem: str) -> Callable:
    """Registers a way to break the record: which item of pytest must fail, and with what in its message."""

    def register(mutate: Callable) -> Callable:
        BROKEN[mutate.__name__] = (mutate, cell, problem)
        return mutate

    return register


def code(record: NotebookNode, number: int) -> NotebookNode:
    return [cell for cell in record.cells if cell.cell_type == "code"][number - 1]


@broken("Cell 3", "stdout: 113.82 was stored, 108.40 came out")
def number_in_text_five_percent_off(record):
    code(record, 3).outputs[0].text = "the bound is 113.82 nats after 5 epochs\n"


@broken("Cell 3", "stdout: 6 was stored, 5 came out")
def count_off_by_one(record):
    code(record, 3).outputs[0].text = "the bound is 108.40 nats after 6 epochs\n"


@broken("Cell 3", "'the bound is # bits after # ")
def word_changed(record):
    code(record, 3).outputs[0].text = "the bound is 108.40 bits after 5 epochs\n"


@broken("Cell 4", "text/html: 102.18 was stored, 97.31 came out")
def number_in_table_five_percent_off(record):
    html = code(record, 4).outputs[0].data
    html["text/html"] = html["text/html"].replace("97.31", "102.18")


@broken("Cell 5", "image/png: the figure differs")
def figures_swapped(record):
    first, second = code(record, 5), code(record, 6)
    first.outputs[0].data, second.outputs[0].data = second.outputs[0].data, first.outputs[0].data


@broken("Cell 6", "image/png: the figure differs")
def figure_in_another_colour(record):
    code(record, 6).outputs[0].data["image/png"] = code(record, 5).outputs[0].data["image/png"]


@broken("Cell 7", "papermill.record/text/plain: 113.82 was stored, 108.4 came out")
def number_for_the_prose_five_percent_off(record):
    code(record, 7).outputs[0].data["application/papermill.record/text/plain"] = "113.82"


@broken("Cell 7", "metadata {'scrapbook': {'mime_prefix'")
def number_for_the_prose_under_another_name(record):
    code(record, 7).outputs[0].metadata.scrapbook.name = "other"


@broken("Cell 8", "stdout: 0.958 was stored, 0.912 came out (difference 0.046, allowed 0.0106)")
def number_of_a_training_run_five_percent_off(record):
    code(record, 8).outputs[0].text = code(record, 8).outputs[0].text.replace("0.912", "0.958")


@broken("Cell 3", "outputs [] were stored, ['stream stdout'] came out")
def outputs_cleared(record):
    code(record, 3).outputs = []


@broken("Cell 3", "was never executed when it was recorded")
def execution_count_cleared(record):
    code(record, 3).execution_count = None


@broken("Record", "code cell 1 was never executed")
def all_stripped(record):
    for cell in record.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None


@broken(
    "Cell 3", "outputs ['stream stdout', 'display_data text/plain'] were stored, ['stream stdout'] came out"
)
def output_added(record):
    code(record, 3).outputs.append(nbformat.v4.new_output("display_data", {"text/plain": "1"}))


@broken("Record", "code cell 3 wrote to stderr: 'careful'")
def stderr_stored(record):
    code(record, 3).outputs.append(nbformat.v4.new_output("stream", name="stderr", text="careful"))


@broken("Record", "code cell 3 ended in an error: ValueError: no")
def error_stored(record):
    code(record, 3).outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])]


@broken("Record", "code cell 5 was executed as number 6, out of order")
def cells_in_another_order(record):
    record.cells[5], record.cells[6] = record.cells[6], record.cells[5]


@broken("Record", "code cell 3 has the tag nbval-skip without a reason")
def cell_skipped(record):
    code(record, 3).metadata.tags = ["nbval-skip"]


@broken("Record", "code cell 3 has the tag raises-exception")
def exception_expected(record):
    code(record, 3).metadata.tags = ["raises-exception"]


@broken("Record", "code cell 8 has the unknown tag 'traind'; did you mean 'trained'?")
def tag_misspelt(record):
    code(record, 8).metadata.tags = ["traind"]


@broken("Record", "code cell 3 differs from the text in its metadata")
def tolerance_added_to_the_record_only(record):
    code(record, 3).metadata.compare = {"rtol": 0.1}


FAILING = """\
# Failing

```{code-cell} python
print("fine")
```

```{code-cell} python
1 / 0
```

```{code-cell} python
print("fine again")
```
"""

WARNING = '# Warning\n\n```{code-cell} python\nimport sys\nprint("careful", file=sys.stderr)\n```\n'
SKIPPING = "# Skipping\n\n```{code-cell} python\n:tags: [nbval-skip]\n:reason: needs a GPU\n\n1 / 0\n```\n"
ENDLESS = FAILING.replace("1 / 0", "while True:\n    pass").replace('print("fine")', "value = 1")
FORGED = {"cell_fails": FAILING, "only_warns": WARNING, "cell_skipped_with_reason": SKIPPING}


def executed(text_cells: NotebookNode) -> NotebookNode:
    """A forged record, with execution counts and without outputs."""
    for number, cell in enumerate((c for c in text_cells.cells if c.cell_type == "code"), start=1):
        cell.execution_count = number
    return text_cells


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, make_book, sample_text, sample_record):
    """One run of pytest over a book of broken chapters: what each item says."""
    book = make_book(tmp_path_factory.mktemp("broken"))
    for name, (mutate, _, _) in BROKEN.items():
        record = nbformat.reads(sample_record, as_version=4)
        mutate(record)
        book.write(name, sample_text)
        book.store(name, record)
    book.write("unchanged", sample_text)
    (book.folder / "unchanged.ipynb").write_text(sample_record, "utf-8")

    within = nbformat.reads(sample_record, as_version=4)
    code(within, 3).outputs[0].text = "the bound is 108.41 nats after 5 epochs\n"
    code(within, 8).outputs[0].text = "accuracy 0.905 after a training run, 54.6 nats a pixel\n"
    code(within, 9).outputs[0].text = "about 41.9 seconds\n"
    book.write("within_tolerance", sample_text)
    book.store("within_tolerance", within)

    book.write("text_edited", sample_text.replace("promises little", "promises much"))
    (book.folder / "text_edited.ipynb").write_text(sample_record, "utf-8")
    book.write("code_edited", sample_text.replace("nats after", "bits after"))
    (book.folder / "code_edited.ipynb").write_text(sample_record, "utf-8")
    (book.folder / "no_text.ipynb").write_text(sample_record, "utf-8")
    book.write("no_record", sample_text)
    book.write("damaged", sample_text)
    (book.folder / "damaged.ipynb").write_text(sample_record[:1000], "utf-8")
    for name, text in FORGED.items():
        book.write(name, text)
        book.store(name, executed(read_text(book.folder / "text" / f"{name}.md")))

    done = run_pytest(book, "-n", "2", "--dist", "loadfile")
    return read_report(book) | {"": done.stdout}


def run_pytest(book, *options):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval",
        "-q",
        "-rs",
        "--junitxml=report.xml",
        *options,
        "book",
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    return subprocess.run(
        command, cwd=book.root, env=environment, capture_output=True, text=True, check=False
    )


def read_report(book):
    """{chapter: {item: what was wrong, or None where it passed}}"""
    outcome = {}
    for case in ElementTree.parse(book.root / "report.xml").iter("testcase"):
        chapter = re.search(r"(\w+)(\.ipynb|\.md)?$", case.get("classname"))[1]
        problems = [f"{p.get('message')}\n{p.text}" for kind in ("failure", "error") for p in case.iter(kind)]
        outcome.setdefault(chapter, {})[case.get("name")] = problems[0] if problems else None
    return outcome


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_record_fails_where_it_is_broken(outcome, name):
    _, item, problem = BROKEN[name]
    assert problem in (outcome[name][item] or "passed"), outcome[name]


def test_the_cells_that_are_not_broken_pass(outcome):
    red = {item for item, problem in outcome["number_in_text_five_percent_off"].items() if problem}
    assert red == {"Cell 3"}


def test_an_unchanged_record_passes(outcome):
    assert outcome["unchanged"] == dict.fromkeys(["Record", *(f"Cell {n}" for n in range(1, 11))])


def test_a_record_within_its_tolerances_passes(outcome):
    assert set(outcome["within_tolerance"].values()) == {None}


def test_an_edited_text_fails_until_it_is_recorded(outcome):
    assert "markdown cell 1 differs from the text in its source" in outcome["text_edited"]["Record"]
    assert "record it again with `vaebook record code_edited`" in outcome["code_edited"]["Record"]


def test_a_text_needs_a_record_and_a_record_a_text(outcome):
    assert "no_text.md is missing" in outcome["no_text"]["Record"]
    assert "make it with `vaebook record no_record`" in outcome["no_record"]["Record"]
    assert list(outcome["no_record"]) == ["Record"]


def test_a_damaged_record_fails(outcome):
    assert (
        "damaged.ipynb is damaged: record it again with `vaebook record damaged`"
        in outcome["damaged"]["Record"]
    )


def test_after_a_cell_that_fails_no_cell_passes(outcome):
    assert "ZeroDivisionError" in outcome["cell_fails"]["Cell 2"]
    assert "not run, because Cell 2 did not finish" in outcome["cell_fails"]["Cell 3"]


def test_a_warning_that_is_new_fails(outcome):
    assert "wrote to stderr: 'careful" in outcome["only_warns"]["Cell 1"]


def test_a_cell_may_be_skipped_for_a_reason_that_is_shown(outcome):
    assert outcome["cell_skipped_with_reason"] == {"Record": None, "Cell 1": None}
    assert re.search(r"SKIPPED .*needs a GPU", outcome[""])


def test_the_summary_counts_the_chapters_without_failure(outcome):
    assert "verified 14 numbers, 2 tables, 4 figures in 3 chapters (1 cell skipped)" in outcome[""]


def test_after_a_cell_that_takes_too_long_no_cell_passes(empty_book):
    empty_book.write("endless", ENDLESS)
    empty_book.store("endless", executed(read_text(empty_book.folder / "text" / "endless.md")))
    run_pytest(empty_book, "--nbval-cell-timeout", "5")
    outcome = read_report(empty_book)
    assert outcome["endless"]["Record"] is None
    assert outcome["endless"]["Cell 1"] is None
    assert "Timeout of 5 seconds exceeded" in outcome["endless"]["Cell 2"]
    assert "not run, because Cell 2 did not finish" in outcome["endless"]["Cell 3"]


def test_the_cells_of_a_chapter_are_not_spread_over_processes(empty_book):
    done = run_pytest(empty_book, "-n", "2")
    assert done.returncode != 0
    assert "the cells of a chapter share a kernel: add --dist loadfile" in done.stderr
