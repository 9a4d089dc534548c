import nbformat
import pytest

from vaebook import reads


@pytest.fixture
def chapter(tmp_path):
    """A book with tables beside it, and what makes a chapter that reads what some patterns say."""
    tables = tmp_path / "tables"
    (tables / "folder.csv").mkdir(parents=True)
    for name in ("b.csv", "a.csv", "c.txt"):
        (tables / name).write_text(name)
    return tmp_path / "book", lambda *patterns: nbformat.v4.new_notebook(metadata={"reads": list(patterns)})


def test_files_are_those_of_the_patterns_each_once_and_in_order(chapter):
    book, reading = chapter
    found = reads.files(book, reading("tables/*.csv", "tables/a*"))
    assert [path.name for path in found] == ["a.csv", "b.csv"]
    assert reads.files(book, nbformat.v4.new_notebook()) == []


def test_the_digest_changes_with_names_and_contents(chapter):
    book, reading = chapter
    text, tables = reading("tables/*.csv"), book.parent / "tables"
    digests = [reads.digest(book, text)]
    for change in (
        lambda: (tables / "c.txt").write_text("not read"),
        lambda: (tables / "a.csv").write_text("A.csv"),
        lambda: (tables / "a.csv").rename(tables / "d.csv"),
        lambda: (tables / "d.csv").unlink(),
    ):
        change()
        digests.append(reads.digest(book, text))
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4


@pytest.mark.parametrize("patterns", ["tables/a.csv", [1], [""], ["/etc/hosts"], ["tables/../../a.csv"]])
def test_what_is_no_list_of_paths_inside_is_refused(chapter, patterns):
    book, _ = chapter
    text = nbformat.v4.new_notebook(metadata={"reads": patterns})
    assert reads.problem(book, text).startswith("the header's reads must be a list of paths, such as")
    assert reads.files(book, text) == []


def test_what_is_not_there_is_named(chapter):
    book, reading = chapter
    assert reads.problem(book, reading("tables/*.csv")) == ""
    missing = reads.problem(book, reading("tables/*.csv", "tables/*.md", "a.csv"))
    assert missing == "the header says that the chapter reads tables/*.md, a.csv, which is not there"


def test_who_looks_for_the_book_says_what_for(chapter):
    book, reading = chapter
    text = reading()
    text.cells.append(nbformat.v4.new_code_cell("folder = notebooks.find_book().parent"))
    assert reads.problem(book, text).startswith("the header must name the files that find_book() finds")
    text.metadata["reads"] = ["tables/*"]
    assert reads.problem(book, text) == ""
