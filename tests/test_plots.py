import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

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


@pytest.mark.parametrize("page", ["#ffffff", "#121212"])
def test_colours_stand_out_on_light_and_dark_pages(page):
    def luminance(color):
        channels = np.array(mpl.colors.to_rgb(color))
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    for name, color in plots.COLORS.items():
        light, dark = sorted([luminance(color), luminance(page)], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 2.8, name
