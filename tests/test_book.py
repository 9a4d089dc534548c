"""The chapters themselves: they keep the rules, and run with other parameters than those of their records."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from vaebook import chapters, equations, gates, needs, notebooks, prose, provenance
from vaebook.parameters import ParameterError, check_values

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
NAMES = chapters.names(BOOK)


def text_of(name: str) -> nbformat.NotebookNode:
    return chapters.read_text(chapters.text_path(BOOK, name))


@pytest.mark.parametrize("name", NAMES)
def test_a_chapter_keeps_the_rules(name):
    assert gates.problems(BOOK, name) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_record_says_where_it_comes_from(name):
    facts = provenance.stored(chapters.read_record(BOOK / f"{name}.ipynb"))
    assert facts, "the last cell must call provenance(In, globals())"
    assert facts["parameters"] == {p.name: p.default for p in chapters.schema(text_of(name))}


@pytest.mark.parametrize("name", [name for name in NAMES if name != chapters.front_page(BOOK)])
def test_a_chapter_says_in_a_sentence_what_it_verifies(name):
    assert text_of(name).metadata.get("verifies"), "write it into the header, for the table of the front page"


def test_the_library_cites_equations_of_the_book():
    cited = {
        label: path.name
        for path in (ROOT / "vaebook").glob("*.py")
        for label in equations.cited(path.read_text("utf-8"))
        if path.stem != "equations"
    }
    unknown = {label: file for label, file in cited.items() if label not in equations.labels(BOOK)}
    assert len(cited) > 5
    assert not unknown


@pytest.mark.parametrize("page", sorted(BOOK.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_without_a_record_has_no_number_that_looks_computed(page):
    cells = [nbformat.v4.new_markdown_cell(page.read_text("utf-8"))]
    assert prose.literals(nbformat.v4.new_notebook(cells=cells)) == []


@pytest.mark.chapters
@pytest.mark.parametrize("name", NAMES)
def test_a_chapter_runs_with_other_parameters(name, tmp_path):
    text = text_of(name)
    if reason := needs.unavailable(text):
        pytest.skip(reason)
    quick = check_values(chapters.schema(text), text.metadata.get("quick", {}))
    result = chapters.read_record(notebooks.run(BOOK, name, quick, tmp_path / "result.ipynb"))
    assert provenance.stored(result)["parameters"].items() >= quick.items()
    assert [output.text for output in chapters.outputs(result) if output.get("name") == "stderr"] == []


def test_plain_papermill_stops_at_a_bad_value_in_the_first_cells(tmp_path):
    """It knows no ranges: the chapter itself refuses, in the words of ``vaebook run``."""
    with pytest.raises(ParameterError) as caught:
        notebooks.run(BOOK, "kl_divergence", {"draws": 1})
    command = [sys.executable, "-m", "papermill", "book/kl_divergence.ipynb", tmp_path / "out.ipynb"]
    done = subprocess.run([*command, "-p", "draws", "1"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert f"ParameterError: {caught.value}" in done.stderr
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    counts = [cell.execution_count for cell in executed if cell.cell_type == "code"]
    assert [count for count in counts if count] == [
        1,
        2,
        3,
    ]  # papermill puts the values into a cell of its own
