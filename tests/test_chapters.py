import nbformat
import pytest

from vaebook import chapters
from vaebook.chapters import NotebookError, UnknownChapterError, read_text


def test_the_book_is_found_from_any_folder_below_it(book, monkeypatch):
    monkeypatch.chdir(book.folder / "text")
    assert chapters.find_book() == book.folder


def test_outside_the_book_the_error_says_where_to_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UnknownChapterError, match=r"is outside the book: go to the folder with _toc.yml and book/"
    ):
        chapters.find_book()


def test_chapters_come_in_the_order_of_the_contents(empty_book):
    for name in ("zebra", "second", "apple", "sample"):
        empty_book.write(name, f"# The {name}")
    assert chapters.names(empty_book.folder) == ["sample", "second", "apple", "zebra"]
    assert chapters.front_page(empty_book.folder) == "sample"
    assert chapters.title(read_text(empty_book.folder / "text" / "apple.md")) == "The apple"


def test_an_unknown_chapter_is_refused_with_a_guess(book):
    with pytest.raises(
        UnknownChapterError, match="unknown chapter 'smaple'; did you mean 'sample'\\? known: sample"
    ):
        chapters.text_path(book.folder, "smaple")


@pytest.mark.parametrize(
    "text", ["```{code-cell} python\n---\ntags: [\n---\n1\n```\n", "---\nverifies: a: b\n---\n\n# Title\n"]
)
def test_a_text_with_a_broken_header_is_named(empty_book, text):
    empty_book.write("sample", text)
    with pytest.raises(NotebookError, match=r"sample\.md: .*(Invalid YAML|mapping values)"):
        read_text(empty_book.folder / "text" / "sample.md")


def test_a_text_and_its_record_have_the_same_form(book):
    text = read_text(book.folder / "text" / "sample.md")
    record = chapters.read_record(book.folder / "sample.ipynb")
    assert text.metadata == record.metadata
    assert set(text.metadata) == {"kernelspec", "language_info", "quick", "key_figure"}
    assert [cell.metadata for cell in text.cells] == [cell.metadata for cell in record.cells]
    assert [cell.id for cell in text.cells] == [f"cell-{n}" for n in range(1, 13)]


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"nbformat": 4, "nbformat_minor": 5}'])
def test_a_damaged_record_is_an_error_with_a_remedy(book, content):
    path = book.folder / "sample.ipynb"
    path.write_text(content)
    with pytest.raises(NotebookError, match=r"sample\.ipynb is damaged: record it again with"):
        chapters.read_record(path)


def test_cells_are_named_by_their_type_and_number(book):
    record = book.read("sample")
    labels = [label for label, _ in chapters.labelled_cells(record)]
    assert labels == ["markdown cell 1", *(f"code cell {n}" for n in range(1, 12))]
    assert next(chapters.labelled_cells(record, "code"))[0] == "code cell 1"


def test_what_changes_from_run_to_run_is_stripped():
    stream = nbformat.v4.new_output("stream", name="stdout", text="a")
    table = nbformat.v4.new_output("display_data", {"text/html": '<table id="T_0a1b2">'})
    cell = nbformat.v4.new_code_cell("1", outputs=[stream, nbformat.from_dict(stream | {"text": "b"}), table])
    cell.metadata = {"papermill": {"duration": 1.5}, "tags": []}
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"papermill": {}, "quick": {"a": 1}})
    chapters.normalise(notebook)
    assert set(notebook.metadata) == {"quick", "kernelspec", "language_info"}
    assert cell.metadata == {}
    assert [output.output_type for output in cell.outputs] == ["stream", "display_data"]
    assert cell.outputs[0].text == "ab"
    assert cell.outputs[1].data["text/html"] == '<table id="T_00000">'
