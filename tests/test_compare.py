import base64
import io
import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_digits

from vaebook.compare import (
    DEFAULT,
    TRAINED,
    Distance,
    Tolerance,
    compare_image,
    compare_outputs,
    compare_text,
    count,
    distance,
    is_compared,
    largest_number,
    stable_ids,
    tolerance,
)

DECIMALS = st.decimals(min_value="0.001", max_value=10**7, places=6, allow_nan=False)


def printed(value: Decimal, digits: int) -> str:
    """A decimal with this many significant digits, and at least one behind the point."""
    return f"{value:.{max(digits - 1 - value.adjusted(), 1)}f}"


@given(value=DECIMALS, digits=st.integers(2, 7), change=st.decimals("0.05", 3, places=3), up=st.booleans())
@pytest.mark.parametrize("tol", [DEFAULT, TRAINED])
def test_a_stored_number_that_is_changed_by_five_percent_is_always_found(tol, value, digits, change, up):
    text = printed(value, digits)
    wrong = Decimal(text) * (1 + change if up else 1 - change)
    decimals = len(text.partition(".")[2])
    stored = f"{wrong:.{decimals + 3}f}"
    assert compare_text(stored, text, tol), (stored, text)
    rounded = f"{wrong:.{decimals}f}"
    if abs(Decimal(rounded) / Decimal(text) - 1) >= Decimal("0.05"):
        assert compare_text(f"bound {rounded} nats", f"bound {text} nats", tol), (rounded, text)


@given(value=DECIMALS, part=st.decimals(-1, 1, places=6))
def test_a_change_within_the_relative_tolerance_passes(value, part):
    near = value * (1 + part * Decimal(str(TRAINED.rtol)))
    assert compare_text(f"{value:.9f}", f"{near:.9f}", TRAINED) == []


@given(st.text(alphabet="0123456789.,-+eE% ab\n<>&#", max_size=40))
def test_every_text_equals_itself_and_no_other_text(text):
    assert compare_text(text, text, DEFAULT) == []
    assert compare_text(text, f"{text}!", DEFAULT, html=True)


@pytest.mark.parametrize(
    ("stored", "fresh"),
    [
        ("108.41 nats", "108.42 nats"),  # a rounding edge
        ("loss -0.00", "loss 0.00"),
        ("x= 0.00", "x=-0.00"),
        ("  9.99  a\n 10.02  b", " 10.00  a\n 10.01  b"),  # a column that got wider
        ("1.000e-03", "9.999e-04"),
        ("0.3", "0.30000000000000004"),
        ("97.31%", "97.32%"),
        ("−0.512", "-0.513"),
        ("0.69314718", "0.69314741"),  # single precision
        ("[0.123 0.456]", "[0.124 0.455]"),
        ("nan inf", "nan inf"),
    ],
)
def test_rounding_and_alignment_are_forgiven(stored, fresh):
    assert compare_text(stored, fresh, DEFAULT) == []


@pytest.mark.parametrize(
    ("stored", "fresh"),
    [
        ("1.2", "1.3"),  # 8 %
        ("0.1", "0.2"),
        ("60000 images", "60001 images"),
        ("60,000", "60,001"),
        ("0.50 nats", "0.50 bits"),
        ("0.50", "-0.50"),
        ("0.50", "nan"),
        ("0.50 0.60", "0.50"),
        ("model v1.2.3", "model v1.2.4"),
        ("2.15.0", "2.15.1"),
        ("conv2d 4", "conv3d 4"),
        ("12e45678", "13e45678"),  # a digest, not a number beyond all bounds
        ("5,108.4", "5,150.4"),  # two columns, and no tolerance of 5108 for the second
        ("a  b 0.50", "a b 0.50"),  # spaces change, but no number got wider
        ("yes", "no"),
        ("a # b", "a 5 b"),
    ],
)
@pytest.mark.parametrize("tol", [DEFAULT, TRAINED])
def test_everything_else_is_a_difference(stored, fresh, tol):
    assert len(compare_text(stored, fresh, tol)) == 1


def test_more_than_one_unit_of_the_last_digit_is_a_difference():
    assert compare_text("108.41", "108.43", DEFAULT)
    assert compare_text("108.41", "108.5", DEFAULT)  # fewer digits hide nothing
    assert compare_text("108.41", "108.4", DEFAULT) == []


def test_the_message_names_the_numbers_and_the_tolerance():
    assert compare_text("bound 108.40", "bound 113.82", DEFAULT) == [
        "108.40 was stored, 113.82 came out (difference 5.42, allowed 0.0101)"
    ]
    assert compare_text("test bound 108.40 nats", "test bound 108.41 bits", DEFAULT) == [
        "'test bound # nats' was stored, 'test bound # bits' came out (# is a number)"
    ]


def test_integers_are_exact_unless_the_cell_states_a_tolerance():
    assert compare_text("123 errors", "124 errors", TRAINED)
    stated = tolerance({"tags": ["trained"], "compare": {"rtol": 0.02}})
    assert compare_text("123 errors", "124 errors", stated) == []
    assert compare_text("123 errors", "130 errors", stated)


def test_a_stated_tolerance_replaces_the_default_one():
    assert tolerance({}) == DEFAULT
    assert tolerance({"tags": ["trained"]}) == TRAINED
    assert tolerance({"tags": ["trained"], "compare": {"rms": 12}}) == Tolerance(rtol=1e-2, rms=12)
    assert tolerance({"compare": {"atol": 0.1}}) == Tolerance(atol=0.1, integers=True)
    assert tolerance({"compare": {"rtol": 0.5}, "reason": "a timing"}).rtol == 0.5


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"rtoll": 0.1}, "compare takes rtol, atol, rms; got {'rtoll': 0.1}"),
        ({"integers": True}, "compare takes rtol, atol, rms"),
        ([0.1], "compare takes rtol, atol, rms; got [0.1]"),
        ({"rtol": -0.1}, "rtol must be a number >= 0, got -0.1"),
        ({"rtol": "1e-3"}, "rtol must be a number >= 0, got '1e-3' (YAML reads 0.001, not 1e-3)"),
        ({"atol": float("inf")}, "atol must be a number >= 0, got inf"),
        ({"atol": True}, "atol must be a number >= 0, got True"),
        ({"rtol": 0.5}, "rtol 0.5 is above 0.2, which needs a reason in the metadata"),
        ({"rms": 100}, "rms 100 is above 30.0"),
    ],
)
def test_a_tolerance_that_makes_no_sense_is_refused(stated, message):
    with pytest.raises(ValueError, match="compare") as caught:
        tolerance({"compare": stated})
    assert message in str(caught.value)


TABLE = pd.DataFrame({"model": ["vae", "cvae"], "bound": [97.312, 108.41], "epochs": [5, 10]})


@pytest.mark.parametrize("form", ["to_html", "to_string", "to_latex"])
def test_the_numbers_of_a_table_are_compared(form):
    def text(table):
        return getattr(table, form)()

    def table(**columns):
        return text(TABLE.assign(**columns))

    html = form == "to_html"
    assert compare_text(text(TABLE), table(bound=[97.3125, 108.4105]), TRAINED, html=html) == []
    assert compare_text(text(TABLE), table(bound=[97.312, 113.83]), TRAINED, html=html)
    assert compare_text(text(TABLE), table(epochs=[5, 11]), TRAINED, html=html)
    assert compare_text(text(TABLE), table(model=["vae", "cave"]), TRAINED, html=html)
    assert compare_text(text(TABLE), text(TABLE[::-1]), TRAINED, html=html)


def test_a_styled_table_is_compared_though_its_identifiers_are_random():
    def styled(bounds):
        return TABLE.assign(bound=bounds).style.format(precision=2).highlight_max("bound").to_html()

    assert styled([97.3, 108.4]) != styled([97.3, 108.4])
    assert compare_text(styled([97.3, 108.4]), styled([97.31, 108.4]), DEFAULT, html=True) == []
    assert compare_text(styled([97.3, 108.4]), styled([97.3, 113.8]), DEFAULT, html=True)
    assert compare_text(styled([97.3, 108.4]), styled([197.3, 108.4]), DEFAULT, html=True)


def test_markup_is_text():
    stored = '<div style="width: 50.01%">1.00</div>'
    assert compare_text(stored, stored.replace("1.00", "0.999"), TRAINED, html=True) == []
    assert compare_text(stored, stored.replace("50.01", "50.02"), TRAINED, html=True)


def test_identifiers_of_a_page_get_numbers_in_order():
    seen = {}
    assert stable_ids('#T_0a1b2 {} id="T_0a1b2_row0"', seen) == '#T_00000 {} id="T_00000_row0"'
    assert stable_ids("T_fffff T_0a1b2 T_wide", seen) == "T_00001 T_00000 T_wide"


def png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def plot(draw) -> str:
    """A transparent figure, as the book's are."""
    figure = Figure(figsize=(4, 3), dpi=100)
    FigureCanvasAgg(figure)
    draw(figure.subplots())
    file = io.BytesIO()
    figure.savefig(file, transparent=True)
    return base64.b64encode(file.getvalue()).decode()


def loss_curve(nats, **style) -> str:
    def draw(axes):
        axes.plot(range(1, 6), nats, marker="o", **style)
        axes.set_ylim(100, 170)

    return plot(draw)


NATS = np.array([160.0, 125.0, 114.0, 110.0, 108.4])
DIGITS = 255 - 15 * load_digits().images[:101].repeat(4, axis=1).repeat(
    4, axis=2
)  # 101 images, 32 x 32 pixels


def grid(images) -> str:
    return png(np.concatenate([np.concatenate(images[row : row + 10], axis=1) for row in range(0, 100, 10)]))


def test_equal_figures_agree():
    assert compare_image(loss_curve(NATS), loss_curve(NATS * (1 + 1e-7)), DEFAULT.rms) == []


def test_a_trained_curve_may_drift_a_little():
    drifted = NATS + np.array([0.4, -0.3, 0.3, -0.2, 0.2])
    assert compare_image(loss_curve(NATS), loss_curve(drifted), TRAINED.rms) == []
    assert compare_image(loss_curve(NATS), loss_curve(drifted), DEFAULT.rms)


@pytest.mark.parametrize(
    "wrong",
    [
        loss_curve(NATS * [1, 1, 1, 1, 1.05]),
        loss_curve(NATS[::-1]),
        loss_curve(NATS, color="C1"),
        loss_curve(NATS + np.nan),
    ],
    ids=["last point 5 % up", "reversed", "another colour", "no curve"],
)
def test_a_wrong_curve_is_found_even_with_the_tolerance_of_training(wrong):
    assert compare_image(loss_curve(NATS), wrong, TRAINED.rms)


def test_one_wrong_image_of_a_hundred_is_found():
    swapped = DIGITS[:100].copy()
    swapped[37] = DIGITS[100]
    (problem,) = compare_image(grid(DIGITS), grid(swapped), TRAINED.rms)
    assert "the figure differs by" in problem
    assert "near x = 2" in problem  # the eighth image of the fourth row: x from 224, y from 96
    assert compare_image(grid(DIGITS), grid(DIGITS[:100] - 2.0), TRAINED.rms) == []


def test_transparency_counts():
    clear = np.zeros((40, 40, 4))
    white, black = clear.copy(), clear.copy()
    white[8:24, 8:24] = 255
    black[8:24, 8:24, 3] = 255
    for other in (white, black):
        assert compare_image(png(clear), png(other), DEFAULT.rms)


def test_figures_of_another_size_or_none_at_all_are_found():
    small, large = png(np.zeros((20, 30, 3))), png(np.zeros((20, 31, 3)))
    assert compare_image(small, large, 30) == [
        "a figure of 30 x 20 pixels was stored, 31 x 20 pixels came out"
    ]
    assert "cannot be decoded" in compare_image(small, "bm8gZmlndXJl", 30)[0]


def stream(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def shown(data, kind="display_data", **metadata):
    return {"output_type": kind, "data": data, "metadata": metadata}


GLUED = shown({"application/papermill.record/text/plain": "108.43"}, scrapbook={"name": "bound"})


@pytest.mark.parametrize(
    ("stored", "fresh", "problem"),
    [
        ([stream("1\n")], [], "outputs ['stream stdout'] were stored, [] came out"),
        ([], [stream("1\n")], "outputs [] were stored, ['stream stdout'] came out"),
        (
            [stream("1\n"), shown({"text/plain": "2"})],
            [shown({"text/plain": "2"}), stream("1\n")],
            "outputs ['stream stdout', 'display_data text/plain'] were stored",
        ),
        (
            [shown({"text/plain": "2"})],
            [shown({"text/plain": "2", "text/html": "2"})],
            "text/html text/plain",
        ),
        ([shown({"text/plain": "2"})], [shown({"text/plain": "2"}, kind="execute_result")], "execute_result"),
        ([stream("a\n")], [stream("b\n")], "output 1, stdout: 'a\\n' was stored, 'b\\n' came out"),
        (
            [shown({"text/html": "<b>1.00</b>"})],
            [shown({"text/html": "<b>1.10</b>"})],
            "output 1, text/html: 1.00",
        ),
        ([shown({"text/latex": "$2.00$"})], [shown({"text/latex": "$3.00$"})], "text/latex: 2.00 was stored"),
        (
            [shown({"application/json": {"a": 1.5}})],
            [shown({"application/json": {"a": 2.5}})],
            "1.5 was stored",
        ),
        ([shown({"image/svg+xml": "<g>1</g>"})], [shown({"image/svg+xml": "<g>2</g>"})], "image/svg+xml: 1"),
        (
            [GLUED],
            [shown({"application/papermill.record/text/plain": "113.85"}, scrapbook={"name": "bound"})],
            "record/text/plain: 108.43 was stored, 113.85 came out",
        ),
        ([GLUED], [GLUED | {"metadata": {"scrapbook": {"name": "other"}}}], "metadata {'scrapbook'"),
        ([stream("x", "stderr")], [stream("x", "stderr")], "wrote to stderr: 'x'"),
        (
            [shown({"image/png": png(np.zeros((20, 20)))})],
            [shown({"image/png": png(np.ones((20, 20)) * 99)})],
            "output 1, image/png: the figure differs",
        ),
    ],
)
def test_every_output_is_compared(stored, fresh, problem):
    assert compare_outputs(stored, stored, DEFAULT) == [] or "stderr" in problem
    (found,) = compare_outputs(stored, fresh, DEFAULT)
    assert problem in found


def test_a_distance_is_measured_in_parts_of_the_number_and_of_the_tolerance():
    stored = [stream("bound 100.0 nats after 5 epochs\n"), shown({"image/png": png(np.zeros((20, 20)))})]
    fresh = [stream("bound 102.1 nats after 5 epochs\n"), shown({"image/png": png(np.ones((20, 20)) * 8)})]
    found = distance(stored, fresh, Tolerance(rtol=0.01, rms=3))
    assert found == Distance(relative=pytest.approx(0.02), used=pytest.approx(2.0), rms=pytest.approx(8.0))
    assert compare_outputs(stored, fresh, Tolerance(rtol=0.0201, rms=8.01)) == []
    assert len(compare_outputs(stored, fresh, Tolerance(rtol=0.0199, rms=7.99))) == 2


def test_a_local_difference_counts_half():
    wrong = np.zeros((160, 160))
    wrong[16:32, 48:64] = 100
    outputs = [[shown({"image/png": png(pixels)})] for pixels in (np.zeros((160, 160)), wrong)]
    assert distance(*outputs, DEFAULT).rms == pytest.approx(50)


def test_equal_outputs_have_no_distance_and_counts_no_tolerance():
    outputs = [GLUED, stream("7 of 9\n")]
    assert distance(outputs, outputs, DEFAULT) == Distance(0.0, 0.0, None)
    assert distance([stream("7\n")], [stream("8\n")], DEFAULT).used == math.inf
    assert distance([stream("0.00\n")], [stream("0.01\n")], DEFAULT).relative == math.inf


def test_other_words_are_no_distance():
    with pytest.raises(ValueError, match="'# nats' was stored, '# bits' came out"):
        distance([stream("7.5 nats")], [stream("7.5 bits")], DEFAULT)


def test_how_a_stream_is_cut_does_not_matter():
    assert compare_outputs([stream("1\n2\n")], [stream("1\n"), stream("2\n")], DEFAULT) == []


def test_where_the_plain_text_of_a_table_is_broken_does_not_matter():
    def table(numbers):
        frame = pd.DataFrame(
            [[f"{number:.3g} ({number:.3g})" for number in numbers]], columns=["a" * 32, "b" * 32, "c"]
        )
        return shown({"text/html": frame.to_html(), "text/plain": repr(frame)})

    broken, whole = table([11.25, 22.5, 33.75]), table([11.25, 22.5, 33])
    assert "..." in broken["data"]["text/plain"]
    assert "..." not in whole["data"]["text/plain"]
    assert compare_outputs([broken], [whole], Tolerance(rtol=0.05, integers=True)) == []
    assert "33.8 was stored, 33 came out" in compare_outputs([broken], [whole], DEFAULT)[0]


def test_what_the_reader_sees_is_counted_once():
    table = shown({"text/html": "<table><tr><td>1.5</td><td>2</td></tr></table>", "text/plain": "1.5 2"})
    figure = shown({"image/png": "iVBO", "text/plain": "<Figure size 1 with 1 Axes>"})
    outputs = [stream("7 of "), stream("9\n"), table, figure, GLUED]
    assert count(outputs) == {"numbers": 5, "tables": 1, "figures": 1}
    assert largest_number(outputs) == 108.43
    assert largest_number([figure]) == 0


def test_a_table_in_markdown_is_counted():
    table = "| model | bound |\n|---|--:|\n| vae | 97.3 |\n| a-b | 98.1 |"
    outputs = [shown({"text/markdown": f"{table}\n\n{table}", "text/plain": "<Markdown object>"})]
    assert count(outputs) == {"numbers": 4, "tables": 2}


@pytest.mark.parametrize("tag", ["nbval-skip", "nbval-ignore-output", "provenance"])
def test_a_cell_can_be_left_out_of_the_comparison(tag):
    assert not is_compared({"tags": ["hide-input", tag]})
    assert is_compared({"tags": ["hide-input"]})
    assert is_compared({})
