from types import SimpleNamespace

import pytest
from docutils import nodes

from vaebook import pages


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
