"""What the built pages get beside Jupyter Book's own: check lines that lead to the equation they verify.

A Sphinx extension, named in ``_config.yml``. When a chapter runs, ``check(..., equation="label")`` knows
only the label. Here, where the whole book is known, the label becomes a link with the equation's number,
on whatever page the equation stands. A label that no equation has is a warning: the strict build fails.
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from vaebook.equations import EQUATION_LINK

logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, object]:
    """Register with Sphinx, which calls this."""
    app.connect("doctree-resolved", resolve_check_links)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


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
