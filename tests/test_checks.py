import numpy as np
import pytest
import sympy
import torch

from vaebook.checks import CheckFailedError, check, report


def line(capsys) -> str:
    return capsys.readouterr().out.strip()


class TestEqual:
    def test_shows_what_was_compared_and_how(self, capsys):
        check("both ways agree", torch.ones(3, 4), equals=1.0, equation="some-label", rtol=1e-6)
        how = "12 values agree to within 1e-09 + 1e-06 of their size"
        assert line(capsys) == f"✓ both ways agree: {how} [some-label]"

    def test_fails_with_the_first_value_that_is_off(self):
        with pytest.raises(
            CheckFailedError, match=r"found 2.1, expected 2 within 3e-09 at index \(1,\); 1 of 2"
        ):
            check("sum", [1.0, 2.1], equals=[1.0, 2.0])

    def test_infinite_values_are_equal_and_nan_is_not(self, capsys):
        check("both diverge", float("inf"), equals=float("inf"))
        assert "both sides agree" in line(capsys)
        with pytest.raises(CheckFailedError):
            check("not a number", float("nan"), equals=float("nan"))

    def test_nothing_to_compare_fails(self):
        with pytest.raises(CheckFailedError, match="nothing to compare"):
            check("empty", [], equals=[])


class TestMean:
    def test_the_exact_mean_is_accepted(self, capsys):
        draws = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
        check("zero mean", draws, mean=0.0)
        assert line(capsys).startswith("✓ zero mean: mean of 10,000 draws")
        assert "exact 0, within 5 standard errors" in check_line(capsys, draws)

    def test_a_biased_mean_is_refused(self):
        draws = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) + 0.1
        with pytest.raises(CheckFailedError, match=r"zero mean: found 0\.0"):
            check("zero mean", draws, mean=0.0)

    def test_each_of_many_means_counts(self, capsys):
        draws = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
        check("zero means", draws, mean=torch.zeros(3))
        assert "3 means of 1,000 draws, within 5 standard errors" in line(capsys)
        with pytest.raises(CheckFailedError, match=r"at index \(2,\); 1 of 3"):
            check("zero means", draws, mean=torch.tensor([0.0, 0.0, 1.0]))

    def test_one_draw_has_no_standard_error(self):
        with pytest.raises(ValueError, match="two draws or more"):
            check("one", [1.0], mean=1.0)


def check_line(capsys, draws) -> str:
    check("again", draws, mean=0.0)
    return line(capsys)


class TestBounds:
    def test_hold_entry_by_entry(self, capsys):
        check("a divergence", [0.0, 3.0], at_least=0.0)
        assert line(capsys) == "✓ a divergence: all 2 values ≥ 0"
        check("a bound", 1.25, at_most=2.0)
        assert line(capsys) == "✓ a bound: 1.25 ≤ 2"

    @pytest.mark.parametrize("options", [{"at_most": 1.0}, {"at_least": 3.0}])
    def test_are_refused(self, options):
        with pytest.raises(CheckFailedError, match="found 2"):
            check("a bound", 2.0, **options)


class TestSymbolic:
    def test_equal_expressions(self, capsys):
        x = sympy.symbols("x")
        check("binomial", (x + 1) ** 2, equals=x**2 + 2 * x + 1)
        assert "symbolically" in line(capsys)

    def test_unequal_expressions(self):
        x = sympy.symbols("x")
        with pytest.raises(CheckFailedError, match="the difference of the two sides is -1"):
            check("binomial", x**2, equals=x**2 + 1)
        with pytest.raises(CheckFailedError, match=r"the difference of the two sides is -?x"):
            check("zero for one value of x only", 2 * x, equals=x)


@pytest.mark.parametrize("options", [{}, {"equals": 1, "mean": 1}])
def test_exactly_one_comparison_is_asked_for(options):
    with pytest.raises(TypeError, match="exactly one of equals, mean, at_most, at_least"):
        check("nothing", 1.0, **options)


@pytest.fixture
def displayed(monkeypatch):
    """What a notebook would show."""
    import IPython

    shown = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: object())
    monkeypatch.setattr(IPython.display, "display", lambda data, **options: shown.append((data, options)))
    return shown


def test_in_a_notebook_the_line_is_html_that_links_to_its_equation(displayed):
    check("a < b", 1.0, at_most=2.0, equation="some-label")
    [(data, _)] = displayed
    assert '<div class="verified"><span class="mark">✓</span>' in data["text/html"]
    assert "a &lt; b" in data["text/html"]
    assert 'href="#equation-some-label"' in data["text/html"]
    assert data["text/plain"] == "✓ a < b: 1 ≤ 2 [some-label]"


def test_report_publishes_five_digits_under_a_name_for_the_prose(displayed):
    report(bound=torch.tensor(108.123456), epochs=5, name="mnist")
    values = {options["metadata"]["scrapbook"]["name"]: data for data, options in displayed}
    assert values == {
        "bound": {"application/papermill.record/text/plain": "108.12"},
        "epochs": {"application/papermill.record/text/plain": "5"},
        "name": {"application/papermill.record/text/plain": "'mnist'"},
    }


def test_report_takes_small_arrays(displayed):
    report(losses=np.array([[0.1234567, 2.0]]), counts=torch.arange(3), alone=torch.tensor([7.5]))
    assert [data["application/papermill.record/text/plain"] for data, _ in displayed] == [
        "[[0.12346, 2.0]]",
        "[0.0, 1.0, 2.0]",
        "7.5",
    ]


def test_report_refuses_large_arrays(displayed):
    with pytest.raises(ValueError, match="pixels has 1,001 values; report at most 1000, or a summary"):
        report(pixels=torch.zeros(1001))
