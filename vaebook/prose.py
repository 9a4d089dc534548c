"""Numbers in the prose: those that look computed are quoted from a run, or say why they are typed by hand.

A cell publishes a number with ``report(bound=…)``, and the text quotes it: ``{glue:text}`bound:.1f```, or
from the record of another chapter ``{glue:text}`vae.ipynb::bound:.1f```. What somebody else has measured,
or somebody chose, is typed by hand, with a comment behind it that says so::

    … reports 105.6 nats. <!-- literal: the public run of 2024 -->

A comment covers the numbers before it in its sentence, or in its cell of a table. Numbers in mathematics,
code, headings and references ("eq. 1.5") are not looked at, and small or round integers are taken for
choices.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from markdown_it.token import Token
from nbformat import NotebookNode

from vaebook import chapters
from vaebook.arguments import suggestion
from vaebook.markdown import comment, tokens

GAP = "[ \u00a0\u2009\u202f,]"  # between groups of thousands
NUMBER = re.compile(
    rf"(?:(?P<about>≈)\s*|(?<![\w.\-−]))(?P<number>[-−]?(?P<whole>\d{{1,3}}(?:{GAP}\d{{3}})+(?!\d)|\d*)"
    r"(?P<fraction>\.\d+)?(?P<exponent>[eE]-?\d+)?)(?<=\d)(?![\w-]|\.\d)"
    r"(?P<unit>\s?%|\s(?:per cent|percent|nats?|bits?|ms|s|seconds?|minutes?|hours?|[kMG]B)\b)?"
)
REFERENCE = re.compile(
    r"(?:§+|\b(?:[Ee]qs?\.|[Ff]igs?\.|[Ss]ecs?\.|pp?\.|[Ee]quations?|[Ff]igures?|[Tt]ables?|[Ss]ections?"
    r"|[Cc]hapters?|[Pp]ages?|[Ee]xercises?|[Vv]ersions?|Python|CC BY))\s*"
    r"\d[\w.\-]*\w?(?:(?:,| and| or| to|–)\s*\d[\w.\-]*)*"
)
APPROXIMATE = re.compile(r"(?:\\approx|\\simeq|≈)\s*(-?\d*\.?\d+)")
SENTENCE_END = re.compile(r"[.!?]\s+")
QUOTE = re.compile(r"(?:(?P<file>[^:]+)::)?(?P<name>[^:]+)(?::(?P<format>.+))?")
HIDDEN, COMMENTED = "¤", "\0"


@dataclass(frozen=True)
class Quote:
    """A number in the text that comes from a run: of this chapter, or of the one in ``file``."""

    role: str
    name: str
    file: str = ""
    format: str = ""


def passages(notebook: NotebookNode) -> Iterator[tuple[str, str]]:
    """The prose of a chapter, with the name that messages give it: its text, captions and descriptions."""
    yield "the header", str(notebook.metadata.get("verifies", ""))
    for label, cell in chapters.labelled_cells(notebook):
        if cell.cell_type == "markdown":
            yield label, cell.source
        shown = cell.metadata.get("mystnb", {})
        yield f"the caption of {label}", str(shown.get("figure", {}).get("caption", ""))
        yield f"the description of {label}", str(shown.get("image", {}).get("alt", ""))


def literals(notebook: NotebookNode) -> list[str]:
    """The numbers of a chapter that look computed and are typed by hand, and comments that cover none.

    Args:
        notebook: the chapter's text or record.

    Returns:
        One problem an entry, in words; empty if there is none.
    """
    return [
        f"{label} {problem}"
        for label, source in passages(notebook)
        for block in _blocks(source)
        for problem in _block_problems(block)
    ]


def _blocks(source: str) -> Iterator[str]:
    """The words of each paragraph and of each cell of a table, without headings."""
    before = None
    for token in tokens(source):
        if token.type == "inline" and before.type != "heading_open":
            yield "".join(map(_words, token.children))
        before = token


def _words(token: Token) -> str:
    match token.type:
        case "text" | "image":
            return token.content
        case "softbreak" | "hardbreak":
            return " "
        case "math_inline":
            number = APPROXIMATE.search(token.content)
            return f" ≈ {number[1]} " if number else HIDDEN
        case "html_inline":
            return COMMENTED if re.match(r"literal: *\S", comment(token)) else ""
        case "code_inline" | "myst_role" | "math_inline_double" | "substitution_inline":
            return HIDDEN
        case _:
            return ""


def _block_problems(block: str) -> Iterator[str]:
    *commented, rest = REFERENCE.sub(HIDDEN, block).split(COMMENTED)
    for stretch in commented:
        ends = [end.end() for end in SENTENCE_END.finditer(stretch.rstrip(" .!?"))]
        start = ends[-1] if ends else 0
        yield from map(_refusal, _computed(stretch[:start]))
        if not _computed(stretch[start:]):
            yield f"has a comment 'literal: …' behind {_tail(stretch)}, where no number looks computed"
    yield from map(_refusal, _computed(rest))


def _computed(words: str) -> list[re.Match]:
    return [number for number in NUMBER.finditer(words) if _looks_computed(number)]


def _looks_computed(number: re.Match) -> bool:
    if number["fraction"] or number["exponent"] or number["unit"] or number["about"]:
        return True
    digits = re.sub(r"\D", "", number["whole"])
    value, is_grouped = int(digits), digits != number["whole"]
    is_year, is_power_of_two = 1900 <= value < 2100 and not is_grouped, value.bit_count() == 1
    return value >= 1000 and len(digits.rstrip("0")) > 2 and not is_year and not is_power_of_two


def _refusal(number: re.Match) -> str:
    return (
        f"has the number {number['number']!r} behind {_tail(number.string[: number.start()])}, which looks "
        "computed: quote it from the run with a glue role, or say behind it why it is typed by hand, "
        "<!-- literal: the reason -->"
    )


def _tail(words: str) -> str:
    return repr(words.strip()[-30:])


def quotes(notebook: NotebookNode) -> list[tuple[str, Quote]]:
    """The quoted numbers of a chapter, each with the place that messages give it."""
    return [
        (label, _quote(role))
        for label, source in passages(notebook)
        for token in tokens(source)
        for role in token.children or []
        if role.type == "myst_role" and role.meta["name"].startswith("glue")
    ]


def _quote(role: Token) -> Quote:
    parts = QUOTE.fullmatch(role.content)
    if parts is None:
        return Quote(role.meta["name"], role.content)
    return Quote(role.meta["name"], parts["name"], parts["file"] or "", parts["format"] or "")


def reported(notebook: NotebookNode) -> set[str]:
    """The names under which a record reports numbers."""
    labels = [output.get("metadata", {}).get("scrapbook", {}) for output in chapters.outputs(notebook)]
    return {label["name"] for label in labels if "name" in label}


def unknown_quotes(book: Path, notebook: NotebookNode, known: Collection[str]) -> list[str]:
    """The quotes of a chapter that no run answers.

    Args:
        book: the book's folder, where the records of other chapters are.
        notebook: the chapter.
        known: the names that its own run reports.

    Returns:
        One problem an entry, in words; empty if there is none.
    """
    found = quotes(notebook)
    records = {path.name for path in book.glob("*.ipynb")}
    wanted = {quote.file for _, quote in found} & records
    names = {"": known} | {file: reported(chapters.read_record(book / file)) for file in wanted}
    return [
        f"{label} {problem}" for label, quote in found for problem in _quote_problems(quote, names, records)
    ]


def _quote_problems(quote: Quote, names: Mapping[str, Collection[str]], records: set[str]) -> Iterator[str]:
    who = f"quotes {quote.name!r}" + (f" from {quote.file}" if quote.file else "")
    if quote.role != "glue:text":
        yield f"has the role {{{quote.role}}}: numbers are quoted by {{glue:text}}"
    elif quote.file not in names:
        guess = suggestion(quote.file, sorted(records))
        yield f"{who}, which is no record{guess}; known: {', '.join(sorted(records))}"
    elif quote.name not in names[quote.file]:
        guess = suggestion(quote.name, sorted(names[quote.file]))
        yield f"{who}, which {'it' if quote.file else 'the chapter'} does not report{guess}"
    elif quote.file and not quote.format:
        yield f"{who} without a format: append one, as in {quote.file}::{quote.name}:.2f"
