"""The built book: no warnings, no dead links, and nothing that comes from another host."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from browser import EXECUTABLE, chromium

ROOT = Path(__file__).parents[1]
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
CHAPTERS = [TOC["root"]] + [chapter["file"] for part in TOC["parts"] for chapter in part["chapters"]]


class Addresses(HTMLParser):
    """What a page loads, where its links lead, and the anchors that links can lead to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if values.get("id"):
            self.anchors.add(values["id"])
        if values.get("src"):
            self.loaded.append(values["src"])
        if values.get("href"):
            (self.links if tag == "a" else self.loaded).append(values["href"])


def pages(html: Path) -> list[Path]:
    """The pages of a built book; the theme leaves templates of its own in ``_static``."""
    return sorted(path for path in html.rglob("*.html") if "_static" not in path.parts)


def dead_addresses(html: Path) -> list[str]:
    """Every address in a built book that loads from another host or leads nowhere."""
    addresses = {page: Addresses(page) for page in pages(html)}

    def is_alive(page: Path, address: str) -> bool:
        url = urlsplit(address)
        if url.netloc:
            return address in addresses[page].links
        if url.scheme == "data":
            return True
        target = (page.parent / unquote(url.path)).resolve() if url.path else page
        if not target.is_relative_to(html) or not target.is_file():
            return False
        return not url.fragment or target not in addresses or url.fragment in addresses[target].anchors

    return [
        f"{page.relative_to(html)}: {address}"
        for page, found in addresses.items()
        for address in found.loaded + found.links
        if not is_alive(page, address)
    ]


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """The whole book as `jupyter-book build . -n -W --keep-going` makes it, in a folder of its own."""
    output = tmp_path_factory.mktemp("book")
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [jupyter_book, "build", ROOT, "-n", "-W", "--keep-going", "--path-output", output]
    process = subprocess.run(command, capture_output=True, text=True)
    return process, output / "_build" / "html"


@pytest.fixture(scope="session")
def html(build):
    return build[1].resolve()


@pytest.fixture(scope="session")
def browser():
    if not EXECUTABLE:
        pytest.skip("chromium is not installed; on Debian: apt-get install chromium")
    with chromium() as running:
        yield running


def test_the_build_has_no_warning(build):
    process, _ = build
    assert process.stderr == ""
    assert process.returncode == 0


def test_the_front_page_leads_to_the_book(html):
    target = re.search(r"url=([^\"]+)", (html / "index.html").read_text())[1]
    assert (html / target).samefile(html / "book" / "index.html")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_chapter_is_built_and_its_record_can_be_downloaded(html, chapter):
    [source] = (ROOT / chapter).parent.glob(f"{Path(chapter).name}.[im][pd]*")  # .ipynb, or .md
    page = html / f"{chapter}.html"
    download = html / "_sources" / source.relative_to(ROOT)
    assert download.read_bytes() == source.read_bytes()
    assert any((page.parent / link).resolve() == download for link in Addresses(page).links)


def test_nothing_outside_the_table_of_contents_is_built(html):
    built = {page.relative_to(html).with_suffix("").as_posix() for page in pages(html)}
    assert built == {*CHAPTERS, "index", "search"}


def test_every_address_is_local_and_leads_somewhere(html):
    assert dead_addresses(html) == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_page_has_one_search_field(html, chapter):
    assert (html / f"{chapter}.html").read_text().count("search-button-field") == 1


@pytest.mark.parametrize(
    "address",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<img src="//cdn.example/x.png">',
        '<link href="../outside.css">',
        '<a href="gone.html">',
        '<a href="#gone">',
    ],
)
def test_a_dead_address_is_found(tmp_path, address):
    (tmp_path / "outside.css").touch()
    html = tmp_path / "html"
    html.mkdir()
    (html / "page.html").write_text(f'<p id="here"><a href="#here">, <a href="https://example.org">{address}')
    assert len(dead_addresses(html)) == 1


@pytest.mark.browser
@pytest.mark.parametrize(("width", "theme"), [(1400, "light"), (390, "dark")], ids=["wide", "phone"])
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_page_renders_without_a_network(html, browser, chapter, width, theme):
    page = browser.open((html / f"{chapter}.html").as_uri(), width=width, theme=theme)
    assert page.problems == []
    assert [url for url in page.requests if not url.startswith((f"{html.as_uri()}/", "data:"))] == []
    assert page.evaluate("document.querySelectorAll('mjx-merror').length") == 0
    formulas = page.evaluate("document.querySelectorAll('.math').length")
    assert page.evaluate("document.querySelectorAll('.math mjx-container').length") == formulas
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("document.documentElement.dataset.theme") == theme


@pytest.mark.browser
def test_the_theory_has_mathematics(html, browser):
    page = browser.open((html / "book" / "elbo.html").as_uri())
    assert page.evaluate("document.querySelectorAll('mjx-container').length") >= 10


@pytest.mark.browser
def test_a_line_cannot_break_between_a_formula_and_its_full_stop(html, browser):
    page = browser.open((html / "book" / "elbo.html").as_uri())
    stops = page.evaluate(
        "[...document.querySelectorAll('span.math')].filter(formula => formula.nextSibling?.data?.[0] == '.')"
        ".map(formula => getComputedStyle(formula.parentElement).whiteSpace)"
    )
    assert set(stops) == {"nowrap"}


@pytest.mark.browser
def test_figures_keep_their_transparent_ground_in_the_dark(html, browser):
    page = browser.open((html / "book" / "vae.html").as_uri(), theme="dark")
    grounds = page.evaluate(
        "[...document.querySelectorAll('article img')].map(getComputedStyle.bind(window))"
        ".map(style => [style.backgroundColor, style.filter])"
    )
    assert grounds
    assert all(ground == ["rgba(0, 0, 0, 0)", "none"] for ground in grounds)


@pytest.mark.browser
def test_the_theme_switch_switches(html, browser):
    page = browser.open((html / "book" / "index.html").as_uri(), theme="light")
    page.evaluate("document.querySelector('.theme-switch-button').click()")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


@pytest.mark.browser
def test_the_search_works_on_files_from_disk(html, browser):
    page = browser.open((html / "search.html").as_uri() + "?q=bound")
    page.evaluate(
        "new Promise(done => { const look = () => document.querySelector('#search-results li a')"
        " ? done() : setTimeout(look, 50); look() })"
    )
    assert page.problems == []


@pytest.mark.browser
def test_the_browser_reports_a_request_to_another_host_and_an_error(tmp_path, browser):
    (tmp_path / "page.html").write_text('<img src="https://example.org/x.png"><script>unknown()</script>')
    page = browser.open((tmp_path / "page.html").as_uri())
    assert "https://example.org/x.png" in page.requests
    assert any("ERR_NAME_NOT_RESOLVED" in problem for problem in page.problems)
    assert any("Uncaught" in problem for problem in page.problems)
