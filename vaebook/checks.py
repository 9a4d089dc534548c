"""The verification cells of the book: each states a claim, tests it, and shows one line, or fails.

:func:`check` compares a value with the truth; :func:`report` hands numbers to the prose. Neither draws
a number or knows a model.
"""

import html
import sys

import numpy as np

__all__ = ["CheckFailedError", "check", "report"]

LARGEST_REPORT = 1000  # values of an array that a notebook is to hold


class CheckFailedError(AssertionError):
    """A claim of the book does not hold."""


def check(
    statement: str,
    value,
    *,
    equals=None,
    mean=None,
    at_most=None,
    at_least=None,
    equation: str | None = None,
    rtol: float = 1e-9,
    atol: float = 1e-9,
    standard_errors: float = 5,
) -> None:
    """Verify a statement and show the line that says so; raise where it does not hold.

    Exactly one of ``equals``, ``mean``, ``at_most`` and ``at_least`` says what ``value`` is held
    against.

    Args:
        statement: what is claimed, in words.
        value: a number, an array or tensor, or a sympy expression; with ``mean``, independent draws
            along the first dimension.
        equals: the same within ``atol + rtol * |equals|``, entry by entry; for sympy expressions, after
            simplification.
        mean: the exact expectation of the draws; their average must lie within ``standard_errors`` of
            it.
        at_most: an upper bound, entry by entry, up to ``atol``.
        at_least: a lower bound, entry by entry, up to ``atol``.
        equation: label of the equation that this verifies; the line links to it.
        rtol, atol: relative and absolute tolerance.
        standard_errors: half-width of the acceptance region of ``mean``.

    Raises:
        CheckFailedError: the statement is false; says what was found and what was expected.
    """
    comparisons = {"equals": equals, "mean": mean, "at_most": at_most, "at_least": at_least}
    given = [name for name, expected in comparisons.items() if expected is not None]
    if len(given) != 1:
        raise TypeError(f"check needs exactly one of equals, mean, at_most, at_least; got {given or 'none'}")
    if equals is not None and _is_symbolic(value):
        how = _check_symbolic(statement, value, equals)
    elif mean is not None:
        how = _check_mean(statement, _array(value), _array(mean), standard_errors)
    elif equals is not None:
        how = _check_equal(statement, _array(value), _array(equals), rtol, atol)
    elif at_most is not None:
        how = _check_bound(statement, _array(value), _array(at_most), "≤", atol)
    else:
        how = _check_bound(statement, _array(value), _array(at_least), "≥", atol)
    _show(statement, how, equation)


def report(**values) -> None:
    """Publish results of the run under names, for the prose (``glue`` roles) and for sweeps; shows nothing.

    Numbers are kept to five significant digits: that many survive another processor's rounding.

    Args:
        values: by name, each a number, a word, or a small array or tensor of any shape.

    Raises:
        ValueError: an array has more than ``LARGEST_REPORT`` values.
    """
    from IPython.display import display

    prefix = "application/papermill.record/"
    for name, value in values.items():
        display(
            {prefix + "text/plain": repr(_kept(name, value))},
            metadata={"scrapbook": {"name": name, "mime_prefix": prefix}},
            raw=True,
        )


def _kept(name: str, value) -> object:
    """What is stored of a result: a word or an integer as it is, others rounded, several as a list."""
    if isinstance(value, str | int):
        return value
    array = _array(value)
    if array.size > LARGEST_REPORT:
        raise ValueError(f"{name} has {array.size:,} values; report at most {LARGEST_REPORT}, or a summary")
    rounded = np.vectorize(lambda number: float(f"{number:.5g}"), otypes=[float])(array)
    return rounded.item() if rounded.size == 1 else rounded.tolist()


def _check_symbolic(statement: str, value, equals) -> str:
    import sympy

    difference = sympy.simplify(value - equals)
    if difference != 0:
        raise CheckFailedError(f"{statement}: the difference of the two sides is {difference}, not 0")
    return "symbolically: the difference of the two sides simplifies to 0"


def _check_mean(statement: str, draws: np.ndarray, expected: np.ndarray, standard_errors: float) -> str:
    if len(draws) < 2:
        raise ValueError("mean needs two draws or more along the first dimension")
    average = draws.mean(0)
    slack = standard_errors * draws.std(0, ddof=1) / np.sqrt(len(draws))
    _require(statement, np.abs(average - expected) <= slack, average, expected, slack)
    if average.size > 1:
        return f"{average.size:,} means of {len(draws):,} draws, within {standard_errors:g} standard errors"
    return (
        f"mean of {len(draws):,} draws {average.item():.4g}, exact {expected.item():.4g}, "
        f"within {standard_errors:g} standard errors (±{slack.item():.2g})"
    )


def _check_equal(statement: str, value: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> str:
    slack = atol + rtol * np.abs(expected)
    with np.errstate(invalid="ignore"):  # two infinities of one sign are equal
        difference = np.abs(value - expected)
    _require(statement, (difference <= slack) | (value == expected), value, expected, slack)
    count = np.broadcast(value, expected).size
    values = "both sides" if count == 1 else f"{count:,} values"
    return f"{values} agree to within {atol:g}" + (f" + {rtol:g} of their size" if rtol > atol else "")


def _check_bound(statement: str, value: np.ndarray, bound: np.ndarray, sign: str, atol: float) -> str:
    excess = value - bound if sign == "≤" else bound - value
    _require(statement, excess <= atol, value, bound, np.float64(atol))
    count = np.broadcast(value, bound).size
    if count == 1:
        return f"{value.item():.4g} {sign} {bound.item():.4g}"
    return f"all {count:,} values {sign} " + (f"{bound.item():g}" if bound.size == 1 else "their bounds")


def _require(
    statement: str, holds: np.ndarray, value: np.ndarray, expected: np.ndarray, slack: np.ndarray
) -> None:
    if holds.size and holds.all():
        return
    if not holds.size:
        raise CheckFailedError(f"{statement}: there is nothing to compare")
    value, expected, slack, holds = np.broadcast_arrays(value, expected, slack, holds)
    first = np.unravel_index(np.argmin(holds), holds.shape)
    where = f" at index {tuple(map(int, first))}" if holds.ndim else ""
    raise CheckFailedError(
        f"{statement}: found {value[first]:.6g}, expected {expected[first]:.6g} within {slack[first]:.2g}"
        f"{where}; {int((~holds).sum()):,} of {holds.size:,} values are off"
    )


def _show(statement: str, how: str, equation: str | None) -> None:
    plain = f"✓ {statement}: {how}" + (f" [{equation}]" if equation else "")
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print(plain)
        return
    link = f' <a class="equation" href="#equation-{html.escape(equation)}">equation</a>' if equation else ""
    ipython.display.display(
        {
            "text/plain": plain,
            "text/html": f'<div class="verified"><span class="mark">✓</span> '
            f'<span class="statement">{html.escape(statement)}</span> '
            f'<span class="how">{html.escape(how)}</span>{link}</div>',
        },
        raw=True,
    )


def _is_symbolic(value) -> bool:
    return type(value).__module__.split(".")[0] == "sympy"


def _array(value) -> np.ndarray:
    detach = getattr(value, "detach", None)
    return np.asarray(detach().cpu() if detach else value, dtype=np.float64)
