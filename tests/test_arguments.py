import re

import pytest

from vaebook.arguments import require_known, require_positive, suggestion

KNOWN = ("mnist", "fashion_mnist")


def test_positive_integers_and_known_names_pass():
    require_positive(epochs=1, steps=10**9)
    require_known("data set", "mnist", KNOWN)


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", None])
def test_what_is_not_a_positive_integer_is_refused_by_name(value):
    with pytest.raises(ValueError, match=rf"^epochs must be a positive integer, got {value!r}$"):
        require_positive(steps=1, epochs=value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mnits", "unknown data set 'mnits'; did you mean 'mnist'? known: mnist, fashion_mnist"),
        ("zebra", "unknown data set 'zebra'; known: mnist, fashion_mnist"),
        (3, "unknown data set 3; known: mnist, fashion_mnist"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(name, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        require_known("data set", name, KNOWN)


def test_known_names_may_come_from_an_iterator():
    with pytest.raises(ValueError, match=r"did you mean 'mnist'\? known: mnist, fashion_mnist$"):
        require_known("data set", "mnits", iter(KNOWN))


def test_nothing_is_suggested_where_nothing_is_near():
    assert suggestion("zebra", KNOWN) == ""
    assert suggestion("minst", KNOWN) == "; did you mean 'mnist'?"
