"""The page of a sweep: its runs as a table, results as lines over each parameter, figures side by side.

It is one file that loads nothing, neither from the network nor from its folder; links lead to the notebooks.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jinja2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from vaebook import chapters, sweep_table
from vaebook.sweep_plan import Plan
from vaebook.sweep_table import Row

SEED = "seed"  # the parameter over which results spread; the others are axes
WIDE_RANGE = 100  # largest over smallest value, from which on an axis is logarithmic
SIZE = (4.4, 2.9)  # of a plot, in inches
PICTURES = ("image/png", "image/jpeg", "image/svg+xml")


@dataclass(frozen=True)
class Picture:
    """An image in the page: its data address, what it shows, and where it leads."""

    source: str
    caption: str
    link: str = ""


def page(plan: Plan, rows: Sequence[Row], folder: Path) -> str:
    """The page in HTML.

    Args:
        plan: what was to run.
        rows: the runs that have ended, in the order of the plan.
        folder: of the sweep, where the notebooks are.
    """
    columns = sweep_table.columns(rows)
    results = list(sweep_table.groups(rows)["result"])
    swept = [name for name, values in plan.asked.items() if len(values) > 1]
    shown = [*swept, "status", *(["error"] if any(columns["error"]) else []), *results, "seconds", "notebook"]
    same = {
        name: values[0]
        for name, values in columns.items()
        if name not in [*shown, "error", "name"] and all(value == values[0] for value in values)
    }
    changing, constant = _plots(rows, swept, results)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"shown": _shown, "sortable": _sortable}
    return environment.from_string(files("vaebook").joinpath("sweep_page.html").read_text("utf-8")).render(
        plan=plan,
        counts={status: columns["status"].count(status) for status in ("done", "failed")},
        shown=shown,
        table=[dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)],
        same=same,
        spread=SEED in swept and len(swept) > 1,
        changing=changing,
        constant=constant,
        figures=[picture for row in rows if (picture := _key_figure(row, swept, folder))],
    )


def _shown(value: object) -> str:
    """A value as people read it."""
    if isinstance(value, float):
        return f"{value:.5g}"
    return "" if value is None else str(value)


def _sortable(value: object) -> str:
    """What the page sorts a cell by: numbers as numbers; missing values have none and come last."""
    return json.dumps(value) if isinstance(value, int | float) else _shown(value)


def _key_figure(row: Row, swept: Sequence[str], folder: Path) -> Picture | None:
    """The figure that the header of the chapter names as its ``key_figure``, or the last one there is."""
    if not row.notebook:
        return None
    notebook = json.loads((folder / row.notebook).read_text("utf-8"))
    wanted = notebook["metadata"].get("key_figure")
    found = {}
    for number, cell in enumerate(notebook["cells"]):
        name = chapters.figure_name(cell) or number
        for output in cell.get("outputs", []):
            for mime in PICTURES:
                if mime in output.get("data", {}):
                    found[name] = _address(mime, output["data"][mime])
    if not found:
        return None
    caption = ", ".join(f"{name} = {row.values[name]}" for name in swept)
    if row.status == "failed":
        caption += " (failed)"
    return Picture(found.get(wanted, [*found.values()][-1]), caption, row.notebook)


def _address(mime: str, content: str | Sequence[str]) -> str:
    """The data address of an image as a notebook keeps it."""
    text = content if isinstance(content, str) else "".join(content)
    data = base64.b64encode(text.encode()).decode() if mime == "image/svg+xml" else "".join(text.split())
    return f"data:{mime};base64,{data}"


def _plots(
    rows: Sequence[Row], swept: Sequence[str], results: Sequence[str]
) -> tuple[list[Picture], list[Picture]]:
    """Every number that was reported over every parameter: where it changes with that, and where not."""
    table = pd.DataFrame(sweep_table.columns(rows))
    table = table[table["status"] == "done"].infer_objects()
    numbers = [name for name in results if pd.api.types.is_numeric_dtype(table[name])]
    axes = [name for name in swept if name != SEED] or swept
    changing, constant = [], []
    for number in numbers:
        for axis in axes:
            found = changing if _depends(table, number, axis, swept) else constant
            found.append(Picture(_svg(lines(table, axis, number, axes)), f"{number} over {axis}"))
    return changing, constant


def _depends(table: pd.DataFrame, number: str, axis: str, swept: Sequence[str]) -> bool:
    """Whether a number differs anywhere between runs that differ in this parameter only."""
    others = [name for name in swept if name != axis]
    settings = table.groupby(others, dropna=False) if others else table.groupby(lambda _: 0)
    return bool((settings[number].nunique(dropna=False) > 1).any())


def lines(table: pd.DataFrame, axis: str, number: str, axes: Sequence[str]) -> Figure:
    """One number over one parameter: mean and standard deviation over the seeds.

    Args:
        table: the runs that are done.
        axis: the parameter.
        number: the column of the number.
        axes: all parameters with several values; there is a line for each setting of the others.
    """
    from vaebook import plots  # loads PyTorch

    with plt.rc_context():
        plots.use_style()
        return _lines(table, axis, number, axes, plots.COLORS)


def _lines(
    table: pd.DataFrame, axis: str, number: str, axes: Sequence[str], colors: Mapping[str, str]
) -> Figure:
    data = pd.DataFrame({axis: table[axis], number: table[number].astype(float)})
    data[number] = data[number].where(np.isfinite(data[number]))
    numeric = pd.api.types.is_numeric_dtype(data[axis]) and not pd.api.types.is_bool_dtype(data[axis])
    numeric = numeric and data[axis].notna().all()
    if not numeric:
        data[axis] = data[axis].astype(str)
    style = {"color": colors["blue"], "marker": "o"}
    if others := [name for name in axes if name != axis]:
        label = ", ".join(others)
        data[label] = table[others].astype(str).agg(", ".join, axis=1)
        count, palette = data[label].nunique(), list(colors.values())
        palette = palette[:count] if count <= len(palette) else seaborn.color_palette("viridis", count)
        style = {"hue": label, "style": label, "markers": True, "dashes": False, "palette": palette}
    figure = Figure(figsize=SIZE)
    ax = seaborn.lineplot(data, x=axis, y=number, errorbar="sd", ax=figure.subplots(), **style)
    if numeric:
        values = sorted(data[axis].unique())
        if values[0] > 0 and values[-1] >= WIDE_RANGE * values[0]:
            ax.set_xscale("log")
        ax.set_xticks(values, [f"{value:g}" for value in values])
    return figure


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return _address("image/svg+xml", file.getvalue())
