import pytest

from vaebook import prose
from vaebook.chapters import read_text

REPORTING = """\
# Reporting

The bound is {glue:text}`bound:.2f` nats.

```{code-cell} python
report(bound=1.0, epochs=2)
```
"""


@pytest.fixture
def lint(empty_book):
    """The numbers in a text that look computed, as messages."""

    def problems(text: str) -> list[str]:
        empty_book.write("sample", text)
        return prose.literals(read_text(empty_book.folder / "text" / "sample.md"))

    return problems


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The bound is 105.6 nats.", "105.6"),
        ("It fell to -0.5 and stayed.", "-0.5"),
        ("A minus sign, −0.25, counts.", "−0.25"),
        ("A third, .333, is left.", ".333"),
        ("A rate of 1e-3 is usual.", "1e-3"),
        ("It is right in 97 % of cases.", "97"),
        ("It is right in 97% of cases.", "97"),
        ("Of all images 97 per cent are right.", "97"),
        ("A gap of 3 nats.", "3"),
        ("It took 40 seconds.", "40"),
        ("The network has 478 410 weights.", "478 410"),
        ("The network has 478,410 weights.", "478,410"),
        ("The network has 12345 weights.", "12345"),
        ("It needs $k \\approx 17$ codes.", "17"),
        ("The solution is **0.5** here.", "0.5"),
        (":::{admonition} Note\n:class: tip\nIt is 0.5.\n:::", "0.5"),
        (":::{solution} ex\nIt is 0.5.\n:::", "0.5"),
        ("| a |\n|---|\n| 0.5 |", "0.5"),
        ("- it is 0.5", "0.5"),
        ("See eq. 1.5: the value 0.5 is wrong.", "0.5"),
        ("---\nverifies: a bound of 0.5\n---\n", "0.5"),
        ("```{code-cell} python\n---\nmystnb:\n  figure:\n    caption: At 0.5.\n---\n1\n```", "0.5"),
        ("```{code-cell} python\n---\nmystnb:\n  image:\n    alt: A line at 0.5.\n---\n1\n```", "0.5"),
    ],
)
def test_a_number_that_looks_computed_is_found(lint, text, number):
    (problem,) = lint(text)
    assert f"has the number {number!r}" in problem
    assert "quote it from the run with a glue role, or say behind it why it is typed by hand" in problem


@pytest.mark.parametrize(
    "text",
    [
        "MNIST holds 70 000 digits of 28 by 28 pixels, 10 000 of them for the test.",
        "The 784-400-20 network trains for 10 epochs in batches of 128, up to 784.",
        "In 2014, and in 1998, 2048 codes were many.",
        "At $t = 1$ and $\\sigma = 0.1$, the bound $\\log 2$; $\\tfrac12$.",
        "$$x = 0.25$$ (label)\n",
        "```{math}\n:label: a\nx = 0.25\n```",
        "Call `fit(0.01)` for {eq}`elbo-1.5`.",
        "```python\nrate = 0.01\n```",
        "```{literalinclude} a.py\n:lines: 1.5\n```",
        "# Part 1.5",
        "{cite:t}`shan2020`, eq. 1.5 to 1.8, 12-2 and 1.12; §2.4.2, §12.4.1.",
        "Equation 1.11 and equations 1.6 to 1.8 of the source; figure 2.4, table 3.1.",
        "float32, bfloat16, conv2d, x2.5y, version 2.15.0, Python 3.11 and torch-2.15.",
        "[a link](https://example.org/0.5) and ![](a-0.5.png)",
        "Quoted: {glue:text}`bound:.2f` per cent.",
    ],
)
def test_what_is_defined_needs_no_comment(lint, text):
    assert lint(text) == []


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Others report 105.6 nats <!-- literal: a public run -->.", []),
        ("Others report 105.6 nats. <!-- literal: a public run -->", []),
        ("Others report 105.6\nand 99.5 nats <!-- literal:\na public run -->.", []),
        ("Others say 0.5. We find 0.7 <!-- literal: a public run -->.", ["0.5"]),
        ("We say 0.5 <!-- literal: chosen --> and find 0.7.", ["0.7"]),
        ("We say 0.5 <!-- literal: chosen --> and 0.7 <!-- literal: chosen -->.", []),
        ("| 0.5 <!-- literal: chosen --> | 0.7 |\n|---|---|\n", ["0.7"]),
        ("Others report 105.6 <!-- literal: -->.", ["105.6"]),
        ("Others report 105.6 <!-- a public run -->.", ["105.6"]),
        ("Others say 0.5.\n\nAnd 3.0 <!-- literal: chosen -->", ["0.5"]),
    ],
)
def test_a_comment_covers_the_numbers_before_it_in_its_sentence(lint, text, left):
    found = lint(text)
    assert len(found) == len(left), found
    assert all(f"has the number {number!r}" in problem for number, problem in zip(left, found, strict=True))


def test_a_comment_that_covers_no_number_is_refused(lint):
    (problem,) = lint("There is no number here <!-- literal: gone -->.")
    assert "comment 'literal: …' behind 'There is no number here', where no number looks computed" in problem


@pytest.fixture
def reporting(book):
    """A book of two chapters, of which ``sample`` reports ``test_bound``."""

    def quote(text: str, *known: str) -> list[str]:
        book.write("second", text)
        notebook = read_text(book.folder / "text" / "second.md")
        return prose.unknown_quotes(book.folder, notebook, known)

    return quote


@pytest.mark.parametrize(
    "text",
    [
        REPORTING,
        "{glue:text}`bound:.2f`",
        "{glue:text}`sample.ipynb::test_bound:.2f`",
        ":::{solution} ex\n{glue:text}`bound:.2f`\n:::",
    ],
)
def test_a_quote_of_what_is_reported_passes(reporting, text):
    assert reporting(text, "bound") == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "{glue:text}`bond:.2f`",
            "markdown cell 1 quotes 'bond', which the chapter does not report; did you mean 'bound'?",
        ),
        (
            "```{code-cell} python\n---\nmystnb: {figure: {caption: '{glue:text}`bond:.2f`'}}\n---\n1\n```",
            "the caption of code cell 1 quotes 'bond'",
        ),
        (
            "{glue:text}`sample.ipynb::bound:.2f`",
            "quotes 'bound' from sample.ipynb, which it does not report; did you mean 'test_bound'?",
        ),
        (
            "{glue:text}`sampel.ipynb::test_bound:.2f`",
            "quotes 'test_bound' from sampel.ipynb, which is no record; did you mean 'sample.ipynb'?; known",
        ),
        ("{glue:text}`sample::test_bound:.2f`", "from sample, which is no record"),
        (
            "{glue:text}`sample.ipynb::test_bound`",
            "without a format: append one, as in sample.ipynb::test_bound:.2f",
        ),
        ("{glue}`bound`", "has the role {glue}: numbers are quoted by {glue:text}"),
    ],
)
def test_a_quote_that_no_run_answers_is_refused(reporting, text, problem):
    (found,) = reporting(text, "bound")
    assert problem in found


def test_what_is_reported_is_read_from_the_outputs(book):
    record = book.read("sample")
    assert prose.reported(record) == {"test_bound"}
    record.cells[7].outputs = []
    assert prose.reported(record) == set()
