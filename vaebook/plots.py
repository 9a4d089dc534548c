"""Figures of the book: tensors in, a matplotlib ``Figure`` out. Knows no model.

:func:`use_style` sets the one style of the book. Figures are transparent and drawn in mid-tones, so
that they stand on a light page and on a dark one alike.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle, islice

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.spatial import KDTree
from torch import Tensor

__all__ = [
    "COLORS",
    "INK",
    "code_scatter",
    "image_grid",
    "image_rows",
    "loss_curves",
    "new_figure",
    "use_style",
]

COLORS = {
    "blue": "#3f87c5",
    "orange": "#d9822b",
    "green": "#2f9e7a",
    "red": "#cf5b64",
    "purple": "#9074c2",
    "grey": "#8a8f94",
    "brown": "#a3795a",
    "pink": "#d36cad",
    "olive": "#8f9233",
    "cyan": "#2b9bb3",
}
"""Mid-tones that keep a contrast of 3:1 on white and on the dark page."""

TEXT = "#7d8489"
RULE = "#9aa0a640"
INK = LinearSegmentedColormap.from_list("ink", ["#14212b", "#5c7688", "#f4efe4"])
"""Pixels from 0 (night) to 1 (paper)."""

WIDTH = 6.4
"""Width of a full-width figure, in inches."""

GLYPH = 6.0
"""Height of a glyph in a scatter of codes, in points."""


def use_style() -> None:
    """Set the style of all figures of the book; a chapter calls it once, at its start."""
    plt.rcParams.update(
        {
            "figure.dpi": 144,
            "figure.figsize": (WIDTH, 3.4),
            "figure.facecolor": "none",
            "figure.constrained_layout.use": True,
            "savefig.facecolor": "none",
            "axes.facecolor": "none",
            "axes.prop_cycle": plt.cycler(color=list(COLORS.values())),
            "axes.edgecolor": TEXT,
            "axes.labelcolor": TEXT,
            "axes.titlecolor": TEXT,
            "axes.titlesize": 10,
            "axes.titleweight": "bold",
            "axes.labelsize": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": RULE,
            "grid.linewidth": 0.6,
            "xtick.color": TEXT,
            "ytick.color": TEXT,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "text.color": TEXT,
            "font.size": 9,
            "legend.frameon": False,
            "legend.fontsize": 8.5,
            "lines.linewidth": 1.8,
            "image.interpolation": "nearest",
        }
    )
    _keep_figure_size_in_notebooks()


def new_figure(
    columns: int = 1, rows: int = 1, *, height: float = 3.0, **options
) -> tuple[Figure, np.ndarray]:
    """A full-width figure with a grid of axes.

    Args:
        columns, rows: axes beside and above one another.
        height: of the whole figure, in inches.
        options: passed to ``plt.subplots``.

    Returns:
        The figure, and its axes as a flat array.
    """
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), **options)
    return figure, np.atleast_1d(axes).ravel()


def image_grid(images: Tensor, columns: int = 10) -> Figure:
    """Images side by side, row by row.

    Args:
        images: shape ``(n, channel, height, width)``, values from 0 to 1; one channel, or three for
            colour.
        columns: images in a row.
    """
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    return _stack([_join(row, columns) for row in rows])


def image_rows(rows: Mapping[str, Tensor]) -> Figure:
    """Rows of images with a name before each, such as the data and their reconstructions.

    Args:
        rows: name to images ``(n, channel, height, width)``, values from 0 to 1; the same n in each
            row.
    """
    counts = sorted({len(images) for images in rows.values()})
    if len(counts) != 1:
        raise ValueError(f"all rows need the same number of images, got {counts}")
    return _stack([_join(images, counts[0]) for images in rows.values()], list(rows))


def _stack(strips: Sequence[np.ndarray], labels: Sequence[str] = ()) -> Figure:
    """Strips of pixels ``(height, width, 4)`` under one another, each with its label where given."""
    margin = 1.15 if labels else 0.0
    inches_per_pixel = (WIDTH - margin) / strips[0].shape[1]
    gap = 2 * inches_per_pixel
    heights = [strip.shape[0] * inches_per_pixel for strip in strips]
    total = sum(heights) + gap * (len(strips) - 1)
    figure = plt.figure(figsize=(WIDTH, total), layout="none")
    top = total
    for index, (strip, height) in enumerate(zip(strips, heights, strict=True)):
        axes = figure.add_axes((margin / WIDTH, (top - height) / total, 1 - margin / WIDTH, height / total))
        axes.imshow(strip, vmin=0, vmax=1, aspect="auto")
        axes.set_axis_off()
        if labels:
            figure.text(
                (margin - 0.12) / WIDTH, (top - height / 2) / total, labels[index], ha="right", va="center"
            )
        top -= height + gap
    return figure


def loss_curves(
    history: pd.DataFrame, names: Sequence[str], *, ylabel: str, axes: Axes | None = None
) -> Figure:
    """Curves over epochs, training (pale) and validation (full) in one colour for each quantity.

    Args:
        history: what ``train.fit`` returned.
        names: columns to draw; "validation NAME" is drawn beside NAME where the history has it.
        ylabel: what the columns measure, with its unit.
        axes: where to draw; a new figure where not given.

    Raises:
        ValueError: the history has no such column.
    """
    for name in names:
        if name not in history:
            raise ValueError(f"the history has no {name!r}; its columns: {', '.join(history)}")
    if axes is None:
        axes = new_figure()[1][0]
    for name, color in zip(names, cycle(COLORS.values()), strict=False):
        axes.plot(history.index, history[name], color=color, alpha=0.45, label=f"{name}, training")
        if f"validation {name}" in history:
            axes.plot(history.index, history[f"validation {name}"], color=color, label=f"{name}, validation")
    axes.set(xlabel="epoch", ylabel=ylabel)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    return axes.figure


def code_scatter(
    z: Tensor | np.ndarray, labels: Tensor | np.ndarray, classes: Sequence[str], *, axes: Axes | None = None
) -> Axes:
    """Codes in the plane, with classes that can be told apart with and without colour.

    As many codes as have room, chosen at random, are written as the glyph of their class: its name if that
    is one letter or digit, otherwise its number. The others are dots, where no glyph is in the way. Both
    have the colour of the class. The panels of a figure share one legend.

    Args:
        z: codes, shape ``(n, 2)``.
        labels: the class of each code, integers ``(n,)``.
        classes: their names; ``classes[k]`` belongs to the label k.
        axes: where to draw, with limits that are set before, if at all; a new figure where not given.

    Returns:
        The axes, square, with equal units in both directions.

    Raises:
        ValueError: the codes are not finite or not in the plane, or the labels do not fit to them.
    """
    z, labels = _as_array(z), _as_array(labels)
    _require_labelled_codes(z, labels, len(classes))
    if axes is None:
        axes = new_figure(height=4.6)[1][0]
    figure = axes.figure
    glyphs = [name if len(name) == 1 and name.isalnum() else str(k) for k, name in enumerate(classes)]
    markers = [f"$\\mathbf{{{glyph}}}$" for glyph in glyphs]
    colors = np.array(list(islice(cycle(COLORS.values()), len(classes))))

    axes.set_aspect("equal", adjustable="datalim")
    axes.set_box_aspect(1)
    axes.update_datalim(z)
    axes.autoscale_view()
    if not figure.legends:
        signs = [
            "o" if glyph == name else marker
            for name, glyph, marker in zip(classes, glyphs, markers, strict=True)
        ]
        handles = [
            Line2D([], [], color=color, marker=sign, markersize=GLYPH, markeredgewidth=0, linestyle="none")
            for color, sign in zip(colors, signs, strict=True)
        ]
        columns = max(1, 80 // (5 + max(map(len, classes))))
        figure.legend(
            handles, classes, loc="outside lower center", ncols=columns, handletextpad=0, columnspacing=1
        )
    figure.draw_without_rendering()  # only now the axes have their place on the page
    size = GLYPH * figure.dpi / 72
    places = axes.transData.transform(z)
    written = _apart(places, 1.15 * size)
    dots = KDTree(places[written]).query(places)[0] > 0.7 * size
    axes.scatter(*z[dots].T, s=3, c=colors[labels[dots]], alpha=0.4, linewidths=0)
    for k, marker in enumerate(markers):
        chosen = written[labels[written] == k]
        axes.scatter(*z[chosen].T, s=GLYPH**2, color=colors[k], marker=marker, linewidths=0)
    return axes


def _as_array(values: Tensor | np.ndarray) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _apart(points: np.ndarray, distance: float) -> np.ndarray:
    """Indices of points that keep a distance, chosen in an order that is random, and the same each time."""
    free = np.random.default_rng(0).permutation(len(points))
    chosen = []
    while len(free):
        chosen.append(free[0])
        free = free[np.square(points[free] - points[free[0]]).sum(1) >= distance**2]
    return np.array(chosen)


def _require_labelled_codes(z: np.ndarray, labels: np.ndarray, classes: int) -> None:
    if z.ndim != 2 or z.shape[1] != 2 or len(z) == 0:
        raise ValueError(
            f"z must be codes in the plane, of shape (n, 2), got {z.shape}; choose two dimensions"
        )
    if not np.isfinite(z).all():
        raise ValueError(f"codes must be finite; {int((~np.isfinite(z)).any(1).sum())} of {len(z)} are not")
    if labels.shape != z.shape[:1]:
        raise ValueError(f"labels must be one for each of {len(z)} codes, got shape {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"labels must be from 0 to {classes - 1} for {classes} classes, "
            f"got {labels.min()} to {labels.max()}"
        )


def _join(images: Tensor, columns: int) -> np.ndarray:
    """One strip of pixels from at most ``columns`` images, with transparent gaps: ``(height, width, 4)``."""
    pixels = images.detach().float().cpu().clamp(0, 1).numpy()
    shades = (
        INK(pixels[:, 0]) if pixels.shape[1] == 1 else np.moveaxis(pixels, 1, -1)
    )  # (n, height, width, 3 or 4)
    if shades.shape[-1] == 3:
        shades = np.concatenate([shades, np.ones_like(shades[..., :1])], axis=-1)
    count, height, width, _ = shades.shape
    gap = max(1, width // 14)
    strip = np.zeros((height, columns * (width + gap) - gap, 4))
    for index in range(count):
        left = index * (width + gap)
        strip[:, left : left + width] = shades[index]
    return strip


def _keep_figure_size_in_notebooks() -> None:
    """Stop notebooks from cropping figures: a moved label would change the size of the picture."""
    try:
        from matplotlib_inline.config import InlineBackend
    except ImportError:
        return
    InlineBackend.instance().print_figure_kwargs = {"bbox_inches": None}
