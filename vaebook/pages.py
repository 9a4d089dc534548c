"""What the built pages get beside Jupyter Book's own, by a Sphinx extension that ``_config.yml`` names.

Under its title, each chapter says how much of it is verified, and how to repeat that. Check lines lead to
the equation that they verify: when a chapter runs, ``check(..., equation="label")`` knows
only the label. Here, where the whole book is known, the label becomes a link with the equation's number,
on whatever page the equation stands. A label that no equation has is a warning: the strict build fails.
"""

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from vaebook import chapters, summary
from vaebook.equations import EQUATION_LINK

logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, object]:
    """Register with Sphinx, which calls this."""
    app.connect("doctree-read", say_what_is_verified)
    app.connect("doctree-resolved", resolve_check_links)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def say_what_is_verified(app: Sphinx, doctree: nodes.document) -> None:
    """Put a line under the title of a chapter: how much is verified, and the command that repeats it."""
    record = Path(app.srcdir, f"{app.env.docname}.ipynb")
    title = next(doctree.findall(nodes.title), None)
    if title is None or not record.is_file():
        return
    found = summary.counts(chapters.read_record(record))
    quantities = [
        f"{found[what]} {what if found[what] != 1 else what[:-1]}" for what in summary.COLUMNS if found[what]
    ]
    line = nodes.paragraph(classes=["verified-page"])
    line += nodes.Text(f"Verified on this page: {', '.join(quantities) or 'nothing yet'}. Repeat it: ")
    line += nodes.literal(text=f"vaebook verify {record.stem}")
    title.parent.insert(title.parent.index(title) + 1, line)


def resolve_check_links(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Replace the link of each check line on a page by one to the numbered equation."""
    for node in doctree.findall(nodes.raw):
        if 'class="verified"' in node.astext():
            resolved = EQUATION_LINK.sub(lambda match: _link(app, page, match[1]), node.astext())
            node.children[:] = [nodes.Text(resolved)]


def _link(app: Sphinx, page: str, label: str) -> str:
    equations = app.env.get_domain("math").equations
    if label not in equations:
        logger.warning("a check names the equation %r, which does not exist", label, location=page)
        return ""
    target, number = equations[label]
    anchor = f"equation-{label}"
    numbers = app.env.toc_fignumbers.get(target, {}).get("displaymath", {})
    number = ".".join(map(str, numbers.get(anchor, (number,))))
    address = "" if target == page else app.builder.get_relative_uri(page, target)
    return f'<a class="equation" href="{address}#{anchor}">({number})</a>'
