import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import cdist, pdist

from vaebook import plots

mpl.use("agg")


@pytest.fixture(autouse=True)
def style():
    with mpl.rc_context():
        plots.use_style()
        yield
    plt.close("all")


def pixels(figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


def test_figures_are_transparent():
    figure, axes = plots.new_figure(2, height=2)
    assert len(axes) == 2
    assert (pixels(figure)[0, 0] == [255, 255, 255, 0]).all()


def test_image_grid_shows_every_image_in_reading_order():
    images = torch.zeros(5, 1, 8, 8)
    images[3] = 1  # first image of the second row
    figure = plots.image_grid(images, columns=3)
    assert len(figure.axes) == 2
    top, bottom = (axes.images[0].get_array() for axes in figure.axes)
    night, paper = plots.INK(0.0), plots.INK(1.0)
    np.testing.assert_allclose(top[0, 0], night)
    np.testing.assert_allclose(bottom[0, 0], paper)
    np.testing.assert_allclose(bottom[0, 9], night)
    assert bottom[0, -1, 3] == 0  # no sixth image
    assert top[0, 8, 3] == 0  # the gap between images


def test_colour_images_keep_their_colours():
    red = torch.zeros(1, 3, 4, 4)
    red[:, 0] = 1
    strip = plots.image_grid(red, columns=1).axes[0].images[0].get_array()
    np.testing.assert_allclose(strip[0, 0], [1, 0, 0, 1])


def test_image_rows_are_labelled():
    figure = plots.image_rows({"data": torch.rand(4, 1, 5, 5), "model": torch.rand(4, 1, 5, 5)})
    assert [text.get_text() for text in figure.texts] == ["data", "model"]


def test_image_rows_need_equal_lengths():
    with pytest.raises(ValueError, match=r"same number of images, got \[3, 4\]"):
        plots.image_rows({"data": torch.rand(4, 1, 5, 5), "model": torch.rand(3, 1, 5, 5)})


def test_loss_curves_draw_training_and_validation():
    history = pd.DataFrame({"loss": [2.0, 1.0], "validation loss": [2.5, 1.5]}, index=[1, 2])
    axes = plots.loss_curves(history, ["loss"], ylabel="nats").axes[0]
    training, validation = axes.lines
    assert list(training.get_ydata()) == [2.0, 1.0]
    assert list(validation.get_ydata()) == [2.5, 1.5]
    assert axes.get_ylabel() == "nats"


def test_loss_curves_need_columns_that_exist():
    history = pd.DataFrame({"loss": [2.0], "divergence": [1.0]})
    with pytest.raises(ValueError, match="no 'los'; its columns: loss, divergence"):
        plots.loss_curves(history, ["los"], ylabel="nats")


FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Boot")


def cloud(n=2000, classes=10) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 2, generator=generator), torch.arange(n) * classes // n  # sorted by class


def glyphs(axes) -> list:
    """The collections of glyphs, one for each class; the first collection are the dots."""
    return axes.collections[1:]


def places(collections, axes) -> np.ndarray:
    """Where on the page they are, in pixels."""
    axes.figure.draw_without_rendering()
    return axes.transData.transform(np.concatenate([collection.get_offsets() for collection in collections]))


def test_every_class_has_a_glyph_and_a_colour_of_its_own():
    axes = plots.code_scatter(*cloud(), FASHION)
    shapes = {collection.get_paths()[0].vertices.tobytes() for collection in glyphs(axes)}
    colors = {tuple(collection.get_facecolor()[0]) for collection in glyphs(axes)}
    assert len(shapes) == len(colors) == len(glyphs(axes)) == 10


def test_glyphs_and_dots_stand_at_codes_of_their_class():
    z, labels = cloud(200)
    dots, *glyphs = plots.code_scatter(z, labels, FASHION).collections
    for k, glyph in enumerate(glyphs):
        color = glyph.get_facecolor()[0, :3]
        mine = (dots.get_facecolor()[:, :3] == color).all(1)
        shown = np.concatenate([glyph.get_offsets(), dots.get_offsets()[mine]])
        assert mine.any()
        assert (np.isclose(shown[:, None], z[labels == k].numpy()).all(-1).any(-1)).all()


def test_glyphs_do_not_overlap_and_no_class_hides_another():
    axes = plots.code_scatter(*cloud(), FASHION)
    size = plots.GLYPH * axes.figure.dpi / 72
    written, dots = places(glyphs(axes), axes), places(axes.collections[:1], axes)
    assert pdist(written).min() > size
    assert cdist(written, dots).min() > size / 2
    counts = [len(collection.get_offsets()) for collection in glyphs(axes)]
    assert min(counts) >= 0.4 * max(counts)


def test_there_are_as_many_glyphs_as_have_room():
    z, labels = cloud()
    axes = plots.code_scatter(z, labels, FASHION)
    written = places(glyphs(axes), axes)
    everything = axes.transData.transform(z)
    assert cdist(written, everything).min(0).max() < 1.5 * plots.GLYPH * axes.figure.dpi / 72


def test_units_are_equal_and_limits_are_kept():
    axes = plots.new_figure(2)[1]
    for panel in axes:
        panel.set(xlim=(-5, 5), ylim=(-5, 5))
        plots.code_scatter(*cloud(50), FASHION, axes=panel)
    axes[0].figure.draw_without_rendering()
    for panel in axes:
        assert panel.get_xlim() == panel.get_ylim() == (-5, 5)
        assert panel.bbox.width == pytest.approx(panel.bbox.height)


def test_panels_share_one_legend_that_names_the_classes():
    figure, axes = plots.new_figure(2)
    for panel in axes:
        plots.code_scatter(*cloud(50), FASHION, axes=panel)
    (legend,) = figure.legends
    assert tuple(text.get_text() for text in legend.get_texts()) == FASHION
    signs = [handle.get_marker() for handle in legend.legend_handles]
    assert "3" in signs[3]
    assert len(set(signs)) == 10


def test_classes_of_one_letter_are_their_own_glyphs():
    axes = plots.code_scatter(np.eye(2), np.array([0, 1]), ("a", "β"))
    assert [handle.get_marker() for handle in axes.figure.legends[0].legend_handles] == ["o", "o"]


@pytest.mark.parametrize(
    ("z", "labels", "message"),
    [
        (np.zeros((5, 3)), np.zeros(5, int), r"of shape \(n, 2\), got \(5, 3\); choose two dimensions"),
        (np.zeros((0, 2)), np.zeros(0, int), r"got \(0, 2\)"),
        (np.array([[0, np.nan], [0, 1]]), np.zeros(2, int), "codes must be finite; 1 of 2 are not"),
        (np.zeros((5, 2)), np.zeros(4, int), r"one for each of 5 codes, got shape \(4,\)"),
        (np.zeros((5, 2)), np.zeros(5), "labels must be integers, got float64"),
        (np.zeros((5, 2)), np.full(5, 2), "from 0 to 1 for 2 classes, got 2 to 2"),
        (np.zeros((5, 2)), np.full(5, -1), "got -1 to -1"),
    ],
)
def test_codes_and_labels_must_fit(z, labels, message):
    with pytest.raises(ValueError, match=message):
        plots.code_scatter(z, labels, ("a", "b"))


@pytest.mark.parametrize("page", ["#ffffff", "#121212"])
def test_colours_stand_out_on_light_and_dark_pages(page):
    def luminance(color):
        channels = np.array(mpl.colors.to_rgb(color))
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    for name, color in plots.COLORS.items():
        light, dark = sorted([luminance(color), luminance(page)], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 2.8, name
