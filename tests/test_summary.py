import shutil

import pytest

from vaebook import chapters, gates, summary

FRONT = """\
# The book

```{code-cell} python
from vaebook import summary
summary.show()
```
"""


@pytest.fixture
def front(book, sample_text):
    """A book whose front page shows the table of its only other chapter, ``second``."""
    book.write("second", sample_text.replace("---\n", "---\nverifies: little\n", 1))
    shutil.copy(book.folder / "sample.ipynb", book.folder / "second.ipynb")
    record = book.read("second")
    record.metadata["verifies"] = "little"
    book.store("second", record)
    book.write("sample", FRONT)
    book.record("sample")
    return book


def test_a_record_is_counted(book):
    assert summary.counts(book.read("sample")) == {
        "equations": 1,
        "checks": 1,
        "numbers": 8,
        "tables": 1,
        "figures": 3,
    }


@pytest.mark.parametrize("tag", ["nbval-skip", "nbval-ignore-output", "provenance"])
def test_what_is_not_compared_is_not_counted(book, tag):
    record = book.read("sample")
    chapter_cells = [cell for cell in record.cells if cell.cell_type == "code"]
    chapter_cells[3].metadata.tags = [tag]  # the table
    assert summary.counts(record)["tables"] == 0


def test_the_table_has_a_row_for_each_other_chapter(front):
    assert summary.table(front.folder).splitlines() == [
        "| chapter | what it verifies | equations | checks | numbers | tables | figures |",
        "|---|---|--:|--:|--:|--:|--:|",
        "| [A sample chapter](second.ipynb) | little | 1 | 1 | 8 | 1 | 3 |",
        "| **all** |  | 1 | 1 | 8 | 1 | 3 |",
    ]
    (shown,) = chapters.outputs(front.read("sample"))
    assert shown.data["text/markdown"] == summary.table(front.folder)


def test_the_table_is_out_of_date_when_a_record_changes(front):
    assert gates.problems(front.folder, "sample") == []
    record = front.read("second")
    record.cells[5].outputs = []
    front.store("second", record)
    assert gates.problems(front.folder, "sample") == [
        "the table of what the chapters verify is out of date: second changed: "
        "record it again with `vaebook record sample`"
    ]


def test_the_table_is_out_of_date_when_a_chapter_is_gone(front):
    (front.folder / "second.ipynb").unlink()
    assert "is out of date: the list of chapters changed" in gates.problems(front.folder, "sample")[0]
