"""Markdown as the book's build reads it: the parser of MyST, and what stands inside directives."""

import re
from collections.abc import Iterator
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

EXTENSIONS = {
    "amsmath",
    "attrs_block",
    "attrs_inline",
    "colon_fence",
    "deflist",
    "dollarmath",
    "substitution",
}
VERBATIM = {"code", "code-block", "code-cell", "image", "literalinclude", "math"}
DIRECTIVE = re.compile(r"\{([^}]+)\}")
OPTIONS = re.compile(r"\A(?:---\n.*?\n---\n|(?::[\w-]+:[^\n]*\n)+)", re.DOTALL)
COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)


@cache
def _parser() -> MarkdownIt:
    return create_md_parser(MdParserConfig(enable_extensions=EXTENSIONS), RendererHTML)


@cache
def tokens(source: str) -> tuple[Token, ...]:
    """The tokens of a text in reading order, with those of the text inside its directives.

    Args:
        source: Markdown, for example of a notebook's cell.

    Returns:
        Tokens of markdown-it. A directive comes first, as one token, and then what it contains, unless that
        is code or mathematics.
    """
    return tuple(_walk(source))


def _walk(source: str) -> Iterator[Token]:
    for token in _parser().parse(source):
        yield token
        name = directive(token)
        if name and name not in VERBATIM:
            yield from _walk(OPTIONS.sub("", token.content))


def directive(token: Token) -> str:
    """The name of the directive that a token is; empty for any other token."""
    found = DIRECTIVE.match(token.info) if token.type in ("fence", "colon_fence") else None
    return found[1] if found else ""


def comment(token: Token) -> str:
    """The words of the HTML comment that a token is; empty for any other token."""
    found = COMMENT.match(token.content) if token.type in ("html_block", "html_inline") else None
    return " ".join(found[1].split()) if found else ""
