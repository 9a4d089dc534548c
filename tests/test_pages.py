import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from docutils import nodes

from vaebook import pages, summary
from vaebook.chapters import read_text


@pytest.fixture
def app():
    """As much of a Sphinx application as a page of checks needs."""
    equations = {"here": ("book/elbo", 3), "there": ("book/kl", 7), "unnumbered": ("book/index", 2)}
    numbers = {
        "book/elbo": {"displaymath": {"equation-here": (1, 4)}},
        "book/kl": {"displaymath": {"equation-there": (2, 9)}},
    }
    return SimpleNamespace(
        env=SimpleNamespace(
            get_domain=lambda name: SimpleNamespace(equations=equations), toc_fignumbers=numbers
        ),
        builder=SimpleNamespace(get_relative_uri=lambda page, target: f"../{target}.html"),
    )


def resolve(app, label: str) -> str:
    line = f'<div class="verified">true <a class="equation" href="#equation-{label}">equation</a></div>'
    document = nodes.document(None, None)
    document += nodes.raw("", line, format="html")
    pages.resolve_check_links(app, document, "book/elbo")
    return document.astext()


@pytest.mark.parametrize(
    ("label", "link"),
    [
        ("here", 'href="#equation-here">(1.4)</a>'),
        ("there", 'href="../book/kl.html#equation-there">(2.9)</a>'),
        ("unnumbered", 'href="../book/index.html#equation-unnumbered">(2)</a>'),
    ],
)
def test_a_check_leads_to_the_numbered_equation(app, label, link):
    assert resolve(app, label) == f'<div class="verified">true <a class="equation" {link}</div>'


def test_an_unknown_label_is_a_warning(app, monkeypatch):
    warnings = []
    monkeypatch.setattr(
        pages.logger, "warning", lambda message, *values, location: warnings.append(message % values)
    )
    assert resolve(app, "nowhere") == '<div class="verified">true </div>'
    assert warnings == ["a check names the equation 'nowhere', which does not exist"]


def test_other_outputs_are_left_alone(app):
    document = nodes.document(None, None)
    document += nodes.raw("", '<a class="equation" href="#equation-here">equation</a>', format="html")
    pages.resolve_check_links(app, document, "book/elbo")
    assert document.astext() == '<a class="equation" href="#equation-here">equation</a>'


CONFIGURATION = """\
extensions = ["myst_nb", "vaebook.pages"]
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
myst_enable_extensions = ["dollarmath", "colon_fence"]
exclude_patterns = ["text"]
"""
CITING = """\
---
verifies: little
---

# Citing

The bound of {doc}`sample` is {glue:text}`sample.ipynb::test_bound:.1f` nats, not 3.5 <!-- literal: why -->.

$$a = b$$ (equal)
<!-- unchecked: definition -->
"""


@pytest.fixture
def build(book):
    """Builds the pages of a book of two chapters; returns the warnings, and the page of the second."""

    def build(text: str) -> tuple[str, str]:
        book.write("second", text)
        book.store("second", read_text(book.folder / "text" / "second.md"))
        (book.folder / "conf.py").write_text(CONFIGURATION, "utf-8")
        (book.folder / "index.md").write_text("# Index\n\n```{toctree}\nsample\nsecond\n```\n", "utf-8")
        command = [
            sys.executable,
            "-m",
            "sphinx",
            "-q",
            "-n",
            "-W",
            "--keep-going",
            book.folder,
            book.root / "html",
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        assert bool(done.returncode) == bool(done.stderr)
        return done.stderr, (book.root / "html" / "second.html").read_text("utf-8")

    return build


def test_a_number_is_quoted_from_the_record_of_another_chapter(build):
    warnings, page = build(CITING)
    assert warnings == ""
    assert '<span class="pasted-text">108.4</span> nats' in page


def test_a_page_says_what_it_verifies_and_how_to_repeat_that(build, book):
    build(CITING)
    page = (book.root / "html" / "sample.html").read_text("utf-8")
    line = re.search(r'<h1>.*?</h1>\s*<p class="verified-page">(.*?)</p>', page, re.DOTALL)[1]
    found = summary.counts(book.read("sample"))
    assert re.sub(r"<.*?>", "", line) == (
        f"Verified on this page: 1 equation, 1 check, {found['numbers']} numbers, 1 table, "
        f"{found['figures']} figures. Repeat it: vaebook verify sample"
    )


def test_comments_for_the_gates_are_not_shown(build):
    _, page = build(CITING)
    shown = re.sub(r"<!--.*?-->", "", page, flags=re.DOTALL)
    assert "why" not in shown
    assert "unchecked" not in shown
    assert "verifies" not in shown


def test_a_number_that_the_other_chapter_does_not_report_fails_the_strict_build(build):
    warnings, _ = build(CITING.replace("test_bound", "tst_bound"))
    assert "Glue reference 'tst_bound' not found in doc 'sample'" in warnings
