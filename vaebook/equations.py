"""Equations bound to checks: a labelled equation is verified on its page, or the text says why it is not.

A check names the equation that it verifies, ``check(..., equation="label")``. Where there is nothing to
verify, a comment directly below the equation gives the reason, with more words where they help::

    <!-- unchecked: definition -->
    <!-- unchecked: model -->
    <!-- unchecked: quoted, what the source prints, which is wrong -->

The first gives something a name, the second says what a chapter assumes, and the third is the claim of
somebody else, about which the text says more.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from markdown_it.token import Token
from nbformat import NotebookNode

from vaebook import chapters
from vaebook.arguments import suggestion
from vaebook.markdown import comment, directive, tokens

REASONS = ("definition", "model", "quoted")
UNCHECKED = re.compile(r"unchecked:\s*(\w*)")
LABEL = re.compile(r"^:?label:\s*(\S+)", re.MULTILINE)
CHECK_LINE = re.compile(r'<div class="verified">')
EQUATION_LINK = re.compile(r'<a class="equation" href="#equation-([^"]+)">[^<]*</a>')  # in a check's line
CITATION = re.compile(r"\b[Ee]q(?:\.|uation)\s+\(([a-z][\w-]*)\)")


def labelled(markdown: str) -> dict[str, str]:
    """The labels of a text's equations, each with the comment below the equation; empty if there is none."""
    found, above = {}, ""
    for token in tokens(markdown):
        if above and token.type == "html_block":
            found[above] = comment(token)
        above = _label(token)
        if above:
            found[above] = ""
    return found


def _label(token: Token) -> str:
    if token.type == "math_block_label":
        return token.info
    label = LABEL.search(token.content) if directive(token) == "math" else None
    return label[1] if label else ""


def labels(book: Path) -> set[str]:
    """The labels of all equations of a book."""
    return {label for text in (book / "text").glob("*.md") for label in labelled(text.read_text("utf-8"))}


def cited(code: str) -> set[str]:
    """The labels that code cites in words, as in ``eq. (elbo-kl-form)``."""
    return set(CITATION.findall(code))


def checks(notebook: NotebookNode) -> int:
    """How many checks a record shows."""
    return sum(len(CHECK_LINE.findall(html)) for html in _pages(notebook))


def verified(notebook: NotebookNode) -> Counter[str]:
    """How many checks of a record name each label."""
    return Counter(label for html in _pages(notebook) for label in EQUATION_LINK.findall(html))


def _pages(notebook: NotebookNode) -> Iterator[str]:
    for output in chapters.outputs(notebook):
        yield output.get("data", {}).get("text/html", "")


def problems(book: Path, notebook: NotebookNode, named: Collection[str]) -> list[str]:
    """Which equations of a chapter lack a check, and which names lack an equation.

    Args:
        book: the book's folder.
        notebook: the chapter.
        named: the labels that its checks name.

    Returns:
        One problem an entry, in words; empty if there is none.
    """
    prose, code = (chapters.sources(notebook, cell_type) for cell_type in ("markdown", "code"))
    ours = labelled(prose)
    found = [problem for label, note in ours.items() for problem in _binding(label, note, label in named)]
    if _comments(prose) > sum(note.startswith("unchecked") for note in ours.values()):
        found.append("a comment 'unchecked: …' is not directly below a labelled equation: move it there")
    found += _unknown("a check names", set(named), ours, book)
    return found + _unknown("code cites", cited(code), ours, book)


def _comments(prose: str) -> int:
    parts = [part for token in tokens(prose) for part in (token, *(token.children or []))]
    return sum(comment(part).startswith("unchecked") for part in parts)


def _binding(label: str, note: str, is_checked: bool) -> Iterator[str]:
    reason = UNCHECKED.match(note)
    if reason and is_checked:
        yield f"equation {label!r} has a check, and a comment that says why it has none: remove the comment"
    elif reason and reason[1] not in REASONS:
        guess = f"{suggestion(reason[1], REASONS)}; known: {', '.join(REASONS)}"
        yield f"equation {label!r} is unchecked for the unknown reason {reason[1]!r}{guess}"
    elif not reason and not is_checked:
        yield (
            f"equation {label!r} is not checked: name it in a check, check(…, equation={label!r}), "
            f"or write the reason below it, <!-- unchecked: {REASONS[0]} -->"
        )


def _unknown(who: str, names: set[str], ours: Collection[str], book: Path) -> list[str]:
    missing = names - set(ours)
    known = sorted(labels(book) | set(ours)) if missing else []
    return [
        f"{who} the equation {label!r}, which does not exist{suggestion(label, known)}"
        for label in sorted(missing - set(known))
    ]
