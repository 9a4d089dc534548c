"""The gates: what is said of a record without running it, and each known trap, broken once.

The second half runs ``pytest --nbval`` over a book of chapters that are broken in one way each, as by the
tools' own behaviour that would let them pass; it must see what is broken, and nothing else.
"""

import base64
import copy
import io
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass

import nbformat
import pytest
from nbformat import NotebookNode
from PIL import Image

from vaebook import gates
from vaebook.chapters import read_text
from vaebook.gates import sync_problems


def code(record: NotebookNode, number: int) -> NotebookNode:
    """The code cell with this number."""
    return [cell for cell in record.cells if cell.cell_type == "code"][number - 1]


def clear_count(record):
    code(record, 3).execution_count = None


def strip(record):
    for cell in record.cells:
        if cell.cell_type == "code":
            cell.execution_count, cell.outputs = None, []


def swap_cells(record):
    record.cells[5], record.cells[6] = record.cells[6], record.cells[5]


def store_error(record):
    code(record, 3).outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])]


def store_stderr(record):
    code(record, 3).outputs.append(nbformat.v4.new_output("stream", name="stderr", text="careful\n"))


def store_address(record):
    code(record, 3).outputs[0].text = "<object at 0x7f03a4b2c1d0>"


def tag(number, *tags, **metadata):
    def mutate(record):
        code(record, number).metadata.update({"tags": list(tags), **metadata})

    return mutate


def source(number, new):
    def mutate(record):
        code(record, number).source = new

    return mutate


def prose(old, new):
    def mutate(record):
        assert old in record.cells[0].source
        record.cells[0].source = record.cells[0].source.replace(old, new)

    return mutate


def header(**entry):
    def mutate(record):
        record.metadata.update(entry)

    return mutate


def quick(value):
    return header(quick=value)


NEST = "\n\n````{solution} ex\n```{code-cell} python\n1\n```\n````"


@pytest.mark.parametrize(
    ("mutate", "problem"),
    [
        (clear_count, "code cell 3 was never executed"),
        (strip, "code cell 11 was never executed"),
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
        (
            header(needs=["mnist"]),
            "the header needs mnist, without which no chapter may be skipped: leave it out",
        ),
        (
            header(reads="a.csv"),
            "the header's reads must be a list of paths, such as [book/sources.yml], got 'a.csv'",
        ),
        (header(reads=["/etc/hosts"]), "the header's reads must be a list of paths"),
        (header(reads=["book/../../a.csv"]), "the header's reads must be a list of paths"),
        (header(reads=[""]), "the header's reads must be a list of paths"),
        (header(reads=["book/*.csv", "book/*.py"]), "the chapter reads book/*.csv, which is not there"),
        (
            source(3, "notebooks.find_book() / 'a.csv'"),
            "the header must name the files that find_book() finds",
        ),
        (quick({}), "the header needs values for a quick run in the tests, for example quick: {draws: 2000}"),
        (quick("size: 16"), "the header needs values for a quick run"),
        (quick({"size": 32}), "the header's quick run has the default values, and would test nothing"),
        (quick({"size": 4}), "size must be >= 8 and <= 256, got 4"),
        (quick({"sise": 16}), "unknown parameter 'sise'; did you mean 'size'?"),
        (
            header(key_figure="fig-sqare"),
            "the header names the unknown key_figure 'fig-sqare'; did you mean 'fig-square'? known: ",
        ),
        (
            header(key_figure=None),
            "the header must name the figure that sweeps show, for example key_figure: fig-square",
        ),
        (prose("of it", f"of it{NEST}"), "markdown cell 1 holds a code-cell inside another directive"),
        (prose("sample-half", "sample"), "equation 'sample' is not checked"),
        (prose("promises little", "promises 0.5"), "markdown cell 1 has the number '0.5' behind"),
        (prose("test_bound", "tst_bound"), "markdown cell 1 quotes 'tst_bound', which the chapter does not"),
    ],
)
def test_each_gate_finds_its_record(book, mutate, problem):
    record = book.read("sample")
    text = copy.deepcopy(record)
    mutate(record)
    found = gates.record_problems(book.folder, "sample", record, text)
    assert any(problem in line for line in found), found


@pytest.mark.parametrize(
    "mutate",
    [
        tag(3, "nbval-skip", reason="needs a data set that no index has"),
        tag(3, "hide-input", "full-width"),
        tag(3, compare={"rtol": 0.3}, reason="a timing"),
        tag(3, compare={"atol": 1}),
        tag(3, compare={"rms": 12}),
        quick({"bound": "1e2"}),
    ],
)
def test_what_has_a_reason_passes_the_gates(book, mutate):
    record = book.read("sample")
    mutate(record)
    assert gates.record_problems(book.folder, "sample", record, record) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("[trained]", "[traind]", "code cell 8 has the unknown tag 'traind'; did you mean 'trained'?"),
        ("promises little", "promises 0.5", "markdown cell 1 has the number '0.5'"),
        ('equation="sample-half"', 'equation="sample"', "equation 'sample-half' is not checked"),
        ('"test_bound"', '"bound"', "markdown cell 1 quotes 'test_bound', which the chapter does not report"),
        ('"test_bound"', 'f"{a}_"', "markdown cell 1 quotes 'test_bound', which the chapter does not report"),
        (
            '"test_bound"',
            'f"{a:g}"',
            "markdown cell 1 quotes 'test_bound', which the chapter does not report",
        ),
        ("quick: {size: 16}", "quick: {}", "the header needs values for a quick run"),
    ],
)
def test_most_is_found_before_a_text_is_run(book, sample_text, old, new, problem):
    assert old in sample_text
    book.write("sample", sample_text.replace(old, new))
    text = read_text(book.folder / "text" / "sample.md")
    (found,) = gates.text_problems(book.folder, "sample", text)
    assert problem in found


@pytest.mark.parametrize("name", ['"test_bound"', 'f"test_{what}"', 'f"{part}_bound"'])
def test_a_name_may_be_put_together_when_the_text_runs(book, sample_text, name):
    book.write("sample", sample_text.replace('"test_bound"', name))
    text = read_text(book.folder / "text" / "sample.md")
    assert gates.text_problems(book.folder, "sample", text) == []


def test_a_sound_text_has_no_problems(book):
    text = read_text(book.folder / "text" / "sample.md")
    assert gates.text_problems(book.folder, "sample", text) == []
    assert gates.problems(book.folder, "sample") == []


def drop_cell(record):
    del record.cells[3]


def attach(record):
    record.cells[0].attachments = {"a.png": {"image/png": ""}}


def change_kernel(record):
    record.metadata.kernelspec.name = "julia"


@pytest.mark.parametrize(
    ("mutate", "problem"),
    [
        (prose("little", "much"), "markdown cell 1 differs from the text in its source"),
        (attach, "markdown cell 1 differs from the text in its attachments"),
        (source(3, "print(1)"), "code cell 3 differs from the text in its source"),
        (tag(3, compare={"rtol": 0.2}), "code cell 3 differs from the text in its metadata"),
        (tag(8), "code cell 8 differs from the text in its metadata"),
        (swap_cells, "code cell 5 differs from the text in its source and metadata"),
        (drop_cell, "the record has 11 cells and the text 12"),
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
    assert "is missing" in gates.problems(book.folder, "sample")[0]
    assert gates.problems(book.folder, "other") == [
        f"{orphan} has no record: make it with `vaebook record other`"
    ]


def test_a_damaged_record_is_a_problem(book):
    path = book.folder / "sample.ipynb"
    path.write_text("{")
    assert gates.problems(book.folder, "sample") == [
        f"{path} is damaged: record it again with `vaebook record sample`"
    ]


@dataclass
class Chapter:
    """A chapter to be broken: its record, its text, and files that lie beside them."""

    record: NotebookNode
    text: str
    beside: str = ""

    def cell(self, number: int) -> NotebookNode:
        return code(self.record, number)

    def edit(self, number: int, old: str, new: str) -> None:
        """Change a code cell in the text and in the record, and keep the outputs."""
        cell = self.cell(number)
        assert old in cell.source
        self.text = self.text.replace(cell.source, cell.source.replace(old, new))
        cell.source = cell.source.replace(old, new)


@dataclass(frozen=True)
class Trap:
    """Behaviour of a tool that would let a broken chapter pass, or what could go wrong without any tool.

    Attributes:
        quote: the trap in few words.
        mutate: breaks a chapter in this way.
        item: which item of pytest must fail.
        problem: what it must say.
    """

    quote: str
    mutate: Callable[[Chapter], None]
    item: str
    problem: str


TRAPS: dict[str, Trap] = {}


def trap(quote: str, item: str, problem: str) -> Callable:
    """Registers a way to break a chapter under the name of the function."""

    def register(mutate: Callable) -> Callable:
        TRAPS[mutate.__name__] = Trap(quote, mutate, item, problem)
        return mutate

    return register


@trap("nbval: a cell without count and outputs passes whatever it prints", "Cell 3", "was never executed")
def cell_stripped(chapter):
    chapter.cell(3).outputs, chapter.cell(3).execution_count = [], None


@trap("nbval: a stripped notebook is all green", "Record", "code cell 1 was never executed")
def all_stripped(chapter):
    strip(chapter.record)


@trap("nbval: without a count nothing is compared", "Cell 3", "was never executed when it was recorded")
def count_cleared(chapter):
    chapter.cell(3).execution_count = None


@trap("nothing stored, nothing compared", "Cell 3", "outputs [] were stored, ['stream stdout'] came out")
def outputs_cleared(chapter):
    chapter.cell(3).outputs = []


@trap(
    "an output that no run gives", "Cell 3", "'display_data text/plain'] were stored, ['stream stdout'] came"
)
def output_added(chapter):
    chapter.cell(3).outputs.append(nbformat.v4.new_output("display_data", {"text/plain": "1"}))


@trap("nbval: image/png is never compared", "Cell 5", "image/png: the figure differs")
def figures_swapped(chapter):
    first, second = chapter.cell(5).outputs[0], chapter.cell(6).outputs[0]
    first.data, second.data = second.data, first.data


@trap("nbval: image/png is never compared", "Cell 6", "output 1, image/png: the figure differs")
def figure_in_another_colour(chapter):
    chapter.cell(6).outputs[0].data["image/png"] = chapter.cell(5).outputs[0].data["image/png"]


@trap("nbval: image/jpeg is never compared", "Cell 6", "output 2, image/jpeg: the figure differs")
def photograph_swapped(chapter):
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(file, format="JPEG")
    chapter.cell(6).outputs[1].data["image/jpeg"] = base64.b64encode(file.getvalue()).decode()


@trap(
    "nbval: a rule that sanitizes away what differs", "Cell 3", "stdout: 113.82 was stored, 108.40 came out"
)
def number_in_text_five_percent_off(chapter):
    chapter.cell(3).outputs[0].text = "the bound is 113.82 nats after 5 epochs\n"


@trap("nbval has no tolerance: too wide a one of ours", "Cell 3", "stdout: 6 was stored, 5 came out")
def count_off_by_one(chapter):
    chapter.cell(3).outputs[0].text = "the bound is 108.40 nats after 6 epochs\n"


@trap("nbval has no tolerance: too wide a one of ours", "Cell 3", "'the bound is # bits after # ")
def word_changed(chapter):
    chapter.cell(3).outputs[0].text = "the bound is 108.40 bits after 5 epochs\n"


@trap(
    "nbval has no tolerance: too wide a one of ours", "Cell 4", "text/html: 102.18 was stored, 97.31 came out"
)
def number_in_table_five_percent_off(chapter):
    html = chapter.cell(4).outputs[0].data
    html["text/html"] = html["text/html"].replace("97.31", "102.18")


@trap(
    "nbval has no tolerance: too wide a one of ours",
    "Cell 8",
    "stdout: 0.958 was stored, 0.912 came out (difference 0.046, allowed 0.0106)",
)
def number_of_a_training_run_five_percent_off(chapter):
    chapter.cell(8).outputs[0].text = chapter.cell(8).outputs[0].text.replace("0.912", "0.958")


@trap(
    "glue stores what no page shows",
    "Cell 7",
    "papermill.record/text/plain: 113.82 was stored, 108.4 came out",
)
def number_for_the_prose_five_percent_off(chapter):
    chapter.cell(7).outputs[0].data["application/papermill.record/text/plain"] = "113.82"


@trap("glue finds numbers by name", "Cell 7", "metadata {'scrapbook': {'mime_prefix'")
def number_for_the_prose_under_another_name(chapter):
    chapter.cell(7).outputs[0].metadata.scrapbook.name = "other"


@trap(
    "nbval: raises-exception on a cell that does not raise", "Record", "code cell 3 has the tag raises-except"
)
def exception_expected(chapter):
    chapter.cell(3).metadata.tags = ["raises-exception"]


@trap(
    "nbval: a misspelt magic passes",
    "Record",
    "code cell 10 is not plain Python (a magic or a shell command?)",
)
def magic_misspelt(chapter):
    chapter.edit(10, "check(", "%tiem 1\ncheck(")


@trap("nbval: a tag that skips", "Record", "code cell 3 has the tag nbval-skip without a reason")
def cell_skipped(chapter):
    chapter.cell(3).metadata.tags = ["nbval-skip"]


@trap("nbval: a comment that skips", "Record", "code cell 10 has the comment '# NBVAL_SKIP'")
def cell_skipped_by_a_comment(chapter):
    chapter.edit(10, "check(", "# NBVAL_SKIP\ncheck(")


@trap("nbval: a tag that it does not know is ignored", "Record", "has the unknown tag 'traind'; did you mean")
def tag_misspelt(chapter):
    chapter.cell(8).metadata.tags = ["traind"]


@trap(
    "nbval: the kernel named in the notebook is used", "Record", "the header differs from the text: record it"
)
def kernel_changed(chapter):
    change_kernel(chapter.record)


@trap("papermill: an output that is a warning or a bar", "Record", "code cell 3 wrote to stderr: 'careful'")
def stderr_stored(chapter):
    store_stderr(chapter.record)


@trap(
    "jupytext: --sync keeps the old output",
    "Cell 3",
    "nats after#epochs\\n' was stored, 'the bound is#nats after all",
)
def code_edited_and_synced(chapter):
    chapter.edit(3, "after 5 epochs", "after all")


@trap("jupytext: --sync keeps the old output", "Cell 9", "stdout: 40.0 was stored, 45.0 came out")
def number_edited_and_synced(chapter):
    chapter.edit(9, "40.0", "45.0")


@trap(
    "jupytext: an .md beside the .ipynb of the same name", "Record", "has the name of a chapter, whose text"
)
def text_beside_the_record(chapter):
    chapter.beside = ".md"


@trap("jupyter-book: a failing notebook exits 0", "Record", "code cell 3 ended in an error: ValueError: no")
def error_stored(chapter):
    store_error(chapter.record)


@trap(
    "jupyter-book renders the record, not the text",
    "Record",
    "markdown cell 1 differs from the text in its so",
)
def text_edited(chapter):
    chapter.text = chapter.text.replace("promises little", "promises much")


@trap(
    "jupyter-book renders the record, not the text",
    "Record",
    "record it again with `vaebook record code_edited`",
)
def code_edited(chapter):
    chapter.text = chapter.text.replace("nats after", "bits after")


@trap("jupyter-book: without language_info no highlighting", "Record", "the header differs from the text")
def language_forgotten(chapter):
    chapter.record.metadata.pop("language_info")


@trap(
    "a tolerance that the text does not have", "Record", "code cell 3 differs from the text in its metadata"
)
def tolerance_added_to_the_record_only(chapter):
    chapter.cell(3).metadata.compare = {"rtol": 0.1}


@trap("cells run by hand, in another order", "Record", "code cell 5 was executed as number 6, out of order")
def cells_in_another_order(chapter):
    swap_cells(chapter.record)


@trap("a derivation that nothing verifies", "Record", "equation 'sample-double' is not checked: name it in a")
def equation_without_a_check(chapter):
    prose("sample-half", "sample-double")(chapter.record)
    chapter.text = chapter.text.replace(":label: sample-half", ":label: sample-double")


@trap("a check of something else", "Record", "a check names the equation 'sample-hlf', which does not exist")
def check_without_an_equation(chapter):
    chapter.edit(10, "sample-half", "sample-hlf")
    data = chapter.cell(10).outputs[0].data
    chapter.cell(10).outputs[0].data = {
        mime: text.replace("sample-half", "sample-hlf") for mime, text in data.items()
    }


@trap("a check that did not run", "Record", "equation 'sample-half' is not checked")
def check_whose_line_is_gone(chapter):
    chapter.cell(10).outputs = []


@trap("a number typed by hand drifts", "Record", "markdown cell 1 has the number '108.4' behind 'It promises")
def number_typed_by_hand(chapter):
    role = "{glue:text}`test_bound:.1f`"
    prose(role, "108.4")(chapter.record)
    chapter.text = chapter.text.replace(role, "108.4")


@trap(
    "jupyter-book: a name that nothing glues is a warning",
    "Record",
    "quotes 'tst_bound', which the chapter do",
)
def number_quoted_under_another_name(chapter):
    prose("`test_bound", "`tst_bound")(chapter.record)
    chapter.text = chapter.text.replace("`test_bound", "`tst_bound")


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
SANITIZE = "[numbers]\nregex: [0-9]+\nreplace: 0\n\n[words]\nregex: (nats|bits)\nreplace: nats\n"


def executed(text_cells: NotebookNode) -> NotebookNode:
    """A forged record, with execution counts and without outputs."""
    for number, cell in enumerate((c for c in text_cells.cells if c.cell_type == "code"), start=1):
        cell.execution_count = number
    return text_cells


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, make_book, sample_text, sample_record):
    """One run of pytest over a book of broken chapters: what each item says."""
    book = make_book(tmp_path_factory.mktemp("broken"))
    for name, trap in TRAPS.items():
        chapter = Chapter(nbformat.reads(sample_record, as_version=4), sample_text)
        trap.mutate(chapter)
        book.write(name, chapter.text)
        book.store(name, chapter.record)
        if chapter.beside:
            (book.folder / name).with_suffix(chapter.beside).write_text("# No outputs", "utf-8")
    book.write("unchanged", sample_text)
    (book.folder / "unchanged.ipynb").write_text(sample_record, "utf-8")

    within = nbformat.reads(sample_record, as_version=4)
    code(within, 3).outputs[0].text = "the bound is 108.41 nats after 5 epochs\n"
    code(within, 8).outputs[0].text = "accuracy 0.905 after a training run, 54.6 nats a pixel\n"
    code(within, 9).outputs[0].text = "about 41.9 seconds\n"
    book.write("within_tolerance", sample_text)
    book.store("within_tolerance", within)

    (book.folder / "no_text.ipynb").write_text(sample_record, "utf-8")
    book.write("no_record", sample_text)
    book.write("damaged", sample_text)
    (book.folder / "damaged.ipynb").write_text(sample_record[:1000], "utf-8")
    for name, text in FORGED.items():
        book.write(name, text)
        book.store(name, executed(read_text(book.folder / "text" / f"{name}.md")))

    (book.root / "sanitize.cfg").write_text(SANITIZE, "utf-8")
    done = run_pytest(book, "-n", "2", "--dist", "loadfile", "--nbval-sanitize-with", "sanitize.cfg")
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


@pytest.mark.parametrize("name", TRAPS)
def test_a_chapter_in_a_trap_fails_where_it_is_broken(outcome, name):
    trap = TRAPS[name]
    assert trap.problem in (outcome[name][trap.item] or "passed"), (trap.quote, outcome[name])


def test_the_cells_that_are_not_broken_pass(outcome):
    red = {item for item, problem in outcome["number_in_text_five_percent_off"].items() if problem}
    assert red == {"Cell 3"}
    red = {item for item, problem in outcome["check_whose_line_is_gone"].items() if problem}
    assert red == {"Record", "Cell 10"}


def test_an_unchanged_record_passes(outcome):
    assert outcome["unchanged"] == dict.fromkeys(["Record", *(f"Cell {n}" for n in range(1, 12))])


def test_a_record_within_its_tolerances_passes(outcome):
    assert set(outcome["within_tolerance"].values()) == {None}


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
    assert "verified 16 numbers, 2 tables, 6 figures in 3 chapters (1 cell skipped)" in outcome[""]


def test_after_a_cell_that_takes_too_long_no_cell_passes(empty_book):
    empty_book.write("endless", ENDLESS)
    empty_book.store("endless", executed(read_text(empty_book.folder / "text" / "endless.md")))
    run_pytest(empty_book, "--nbval-cell-timeout", "5")
    outcome = read_report(empty_book)
    assert outcome["endless"]["Record"] is None
    assert outcome["endless"]["Cell 1"] is None
    assert "Timeout of 5 seconds exceeded" in outcome["endless"]["Cell 2"]
    assert "not run, because Cell 2 did not finish" in outcome["endless"]["Cell 3"]


def test_a_kernel_that_does_not_come_up_is_started_again(book, stillborn_kernels):
    starts = stillborn_kernels(2)
    run_pytest(book)
    assert set(read_report(book)["sample"].values()) == {None}
    assert starts.read_text() == "III"


def test_the_cells_of_a_chapter_are_not_spread_over_processes(empty_book):
    done = run_pytest(empty_book, "-n", "2")
    assert done.returncode != 0
    assert "the cells of a chapter share a kernel: add --dist loadfile" in done.stderr
