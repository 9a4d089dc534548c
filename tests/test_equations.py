import nbformat
import pytest

from vaebook import equations
from vaebook.chapters import read_text

TEXT = """\
# Theory

```{math}
:label: energy
E = mc^2 .
```

$$a = b$$ (dollars)
<!-- unchecked: definition -->

:::{prf:proof}
```{math}
:label: inner
1 = 1
```
<!-- unchecked: quoted, what the source
prints -->
:::

```{math}
no = label
```
"""


@pytest.fixture
def theory(empty_book):
    """Writes a text, and says what is wrong with it if its checks name these labels."""

    def problems(text: str, *named: str) -> list[str]:
        empty_book.write("sample", text)
        notebook = read_text(empty_book.folder / "text" / "sample.md")
        return equations.problems(empty_book.folder, notebook, named)

    return problems


def test_labelled_equations_are_found_with_the_comment_below():
    assert equations.labelled(TEXT) == {
        "energy": "",
        "dollars": "unchecked: definition",
        "inner": "unchecked: quoted, what the source prints",
    }


def test_an_equation_needs_a_check(theory):
    assert theory(TEXT, "energy") == []
    assert theory(TEXT) == [
        "equation 'energy' is not checked: name it in a check, check(…, equation='energy'), "
        "or write the reason below it, <!-- unchecked: definition -->"
    ]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "definition -->",
            "definitoin -->",
            "equation 'dollars' is unchecked for the unknown reason 'definitoin'; "
            "did you mean 'definition'?; known: definition, model, quoted",
        ),
        ("unchecked: definition", "unchecked:", "for the unknown reason ''; known: definition"),
        ("unchecked: definition", "uncheked: definition", "equation 'dollars' is not checked"),
        (
            "mc^2 .\n```\n",
            "mc^2 .\n```\n<!-- unchecked: model -->\n",
            "equation 'energy' has a check, and a comment that says why it has none: remove the comment",
        ),
        (
            "label\n```\n",
            "label\n```\n<!-- unchecked: model -->\n",
            "a comment 'unchecked: …' is not directly below a labelled equation: move it there",
        ),
        (
            "# Theory\n",
            "# Theory\n\nIn words. <!-- unchecked: model -->\n",
            "a comment 'unchecked: …' is not directly below a labelled equation",
        ),
    ],
)
def test_a_reason_is_one_of_few_words_directly_below_its_equation(theory, old, new, problem):
    assert old in TEXT
    found = theory(TEXT.replace(old, new), "energy")
    assert len(found) == 1
    assert problem in found[0]


def test_a_check_names_an_equation_of_the_book(theory, empty_book):
    empty_book.write("other", "```{math}\n:label: far\nx\n```")
    assert theory(TEXT, "energy", "far") == []
    assert theory(TEXT, "energy", "enrgy") == [
        "a check names the equation 'enrgy', which does not exist; did you mean 'energy'?"
    ]


def test_code_cites_an_equation_of_the_book(theory):
    code = "# Equation (enrgy), as in eq. (inner), Bishop (2006)"
    assert theory(f"{TEXT}\n```{{code-cell}} python\n{code}\n```\n", "energy") == [
        "code cites the equation 'enrgy', which does not exist; did you mean 'energy'?"
    ]


def test_citations_are_labels_and_no_years():
    docstring = "Bishop (2006), eq. 2.115; chapter *The bound*, eq. (elbo-exact), and equation (kl)."
    assert equations.cited(docstring) == {"elbo-exact", "kl"}


def test_checks_are_counted_in_the_outputs_of_a_record(book):
    record = book.read("sample")
    assert equations.checks(record) == 1
    assert equations.verified(record) == {"sample-half": 1}
    for cell in record.cells:
        if cell.cell_type == "code":
            cell.outputs = []  # naming the label in the code is not enough
    assert equations.checks(record) == 0
    assert not equations.verified(record)


def test_a_page_that_is_no_check_verifies_nothing():
    output = nbformat.v4.new_output("display_data", {"text/html": "<p>half of the bound [sample-half]</p>"})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[output])])
    assert not equations.verified(notebook)
