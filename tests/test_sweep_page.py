import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from browser import EXECUTABLE, chromium
from nbformat.v4 import new_code_cell, new_notebook, new_output, writes

from vaebook import sweep_page
from vaebook.sweep_plan import Plan, Run
from vaebook.sweep_table import Row, columns

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
OTHER = PIXEL.replace("9QDwADhgGAWjR9", "9QDwADhgGAWjR8")


def notebook(key_figure=""):
    def figure(name, pixel):
        output = new_output("display_data", {"image/png": pixel})
        return new_code_cell("", metadata={"mystnb": {"figure": {"name": name}}}, outputs=[output])

    cells = [figure("fig-a", PIXEL), figure("fig-b", OTHER)]
    header = {"key_figure": key_figure} if key_figure else {}
    return writes(new_notebook(cells=cells, metadata=header))


def sweep(folder, *, key_figure="", dims=(2, 10, 100), seeds=(0, 1)):
    """A plan, and rows whose last run has failed; their notebooks are in the folder."""
    folder.joinpath("runs").mkdir(exist_ok=True)
    rows, runs = [], []
    for dim in dims:
        for seed in seeds:
            values, name = {"dim": dim, "set": "mnist", "seed": seed}, f"dim={dim}-seed={seed}"
            (folder / f"runs/{name}.ipynb").write_text(notebook(key_figure), "utf-8")
            results = {"bound": 100.0 + dim + seed, "epochs": 1, "noise": seed / 7}
            results |= {"<word>": "a & b", "curve": [1, 2]}
            rows.append(Row(name, "sample", values, "done", "", f"runs/{name}.ipynb", 9.5, results))
            runs.append(Run(values, values, name))
    failed = Row(rows[-1].name, "sample", rows[-1].values, "failed", "ZeroDivisionError: <by> zero")
    asked = {"dim": list(dims), "seed": list(seeds)}
    return Plan(folder, "sample", "", "A & B", asked, runs, ""), [*rows[:-1], failed]


@pytest.fixture(scope="module")
def browser():
    if not EXECUTABLE:
        pytest.skip("chromium is not installed; on Debian: apt-get install chromium")
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    path = folder / "index.html"
    path.write_text(sweep_page.page(*sweep(folder), folder), "utf-8")
    return path


def test_the_page_counts_links_and_escapes(path):
    html = path.read_text("utf-8")
    assert "5 of 6 runs done" in html
    assert "1 failed" in html
    assert html.count('href="runs/dim%3D2-seed%3D0.ipynb"') == 2
    assert "A &amp; B" in html
    assert "ZeroDivisionError: &lt;by&gt; zero" in html
    assert "&lt;word&gt;" in html


def test_a_failed_run_leads_to_its_notebook(tmp_path):
    plan, rows = sweep(tmp_path)
    rows[-1] = replace(rows[-1], notebook=f"runs/{rows[-1].name}.ipynb")
    html = sweep_page.page(plan, rows, tmp_path)
    row = html.partition("ZeroDivisionError")[2].partition("</tr>")[0]
    assert 'href="runs/dim%3D100-seed%3D1.ipynb"' in row
    assert html.count("dim = 100, seed = 1 (failed)") == html.count("(failed)") >= 1


def test_bands_are_explained_where_there_are_some(path, tmp_path):
    words = "bands one standard deviation"
    assert words in path.read_text("utf-8")
    assert words not in sweep_page.page(*sweep(tmp_path, dims=(2,)), tmp_path)


def test_every_number_is_plotted_over_every_parameter_but_the_seed(path):
    html = path.read_text("utf-8")
    plots, _, constant = html.partition("Numbers over parameters that do not change them")
    assert re.findall("A plot of (.*);", plots) == ["bound over dim"]
    assert re.findall("A plot of (.*);", constant) == ["epochs over dim", "noise over dim"]


def test_without_another_parameter_the_seed_is_the_axis(tmp_path):
    html = sweep_page.page(*sweep(tmp_path, dims=[2]), tmp_path)
    assert "A plot of bound over seed;" in html


def test_the_line_of_a_number_is_its_mean_and_spread_over_the_seeds(tmp_path):
    _, rows = sweep(tmp_path, dims=(1, 10, 100), seeds=(0, 1))
    figure = sweep_page.lines(pd.DataFrame(columns(rows[:4])), "dim", "bound", ["dim"])
    (line,) = figure.axes[0].get_lines()
    assert line.get_xydata().tolist() == [[1, 101.5], [10, 110.5]]
    (band,) = figure.axes[0].collections
    assert band.get_paths()[0].vertices[:, 1].min() == pytest.approx(101.5 - 0.5**0.5)


@pytest.mark.parametrize(("named", "shown", "hidden"), [("fig-a", PIXEL, OTHER), ("", OTHER, PIXEL)])
def test_the_figure_of_a_run_is_the_one_that_the_chapter_names_or_the_last(tmp_path, named, shown, hidden):
    html = sweep_page.page(*sweep(tmp_path, key_figure=named), tmp_path)
    assert html.count(f'<img src="data:image/png;base64,{shown}"') == 5
    assert hidden not in html


def test_a_sweep_without_results_has_a_page(tmp_path):
    plan, rows = sweep(tmp_path)
    html = sweep_page.page(plan, rows[-1:], tmp_path)
    assert "0 of 6 runs done" in html
    assert "<img" not in html


@pytest.mark.browser
@pytest.mark.parametrize(("width", "theme"), [(1400, "light"), (390, "dark")], ids=["wide", "phone"])
def test_the_page_loads_nothing_and_fits_the_window(path, browser, width, theme):
    page = browser.open(path.as_uri(), width=width, theme=theme)
    assert page.problems == []
    assert [url for url in page.requests if not url.startswith("data:")] == [path.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 29)"}[theme]


@pytest.mark.browser
def test_a_click_sorts_the_table_by_numbers_and_leaves_gaps_at_the_end(path, browser):
    page = browser.open(path.as_uri())
    names = page.evaluate("[...document.querySelectorAll('#runs th')].map(head => head.textContent)")

    def column_after_click(name):
        column = names.index(name)
        return json.loads(
            page.evaluate(
                f"document.querySelectorAll('#runs th button')[{column}].click();"
                "JSON.stringify([...document.querySelectorAll('#runs tbody tr')]"
                f".map(row => row.cells[{column}].textContent))"
            )
        )

    assert column_after_click("bound") == ["102", "103", "110", "111", "200", ""]
    assert column_after_click("bound") == ["200", "111", "110", "103", "102", ""]
    assert column_after_click("status") == ["done"] * 5 + ["failed"]
    assert page.evaluate("document.querySelectorAll('[aria-sort]').length") == 1
