"""Arguments that make no sense, refused before work starts, in the same words everywhere."""

import difflib
from collections.abc import Iterable


def require_positive(**values: int) -> None:
    """Refuse what is not a positive integer, by the name of its argument.

    Raises:
        ValueError: a value is not an integer, or less than 1.
    """
    for name, value in values.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")


def require_known(kind: str, value: str, known: Iterable[str]) -> None:
    """Refuse a name that is none of those known.

    Args:
        kind: what it names, such as "data set".
        value: the name.
        known: those that there are.

    Raises:
        ValueError: says which name is nearest, and which there are.
    """
    known = list(known)
    if value not in known:
        raise ValueError(unknown(kind, value, known))


def unknown(kind: str, value: object, known: Iterable[str]) -> str:
    """What to say of a name that is none of those known."""
    known = list(known)
    hint = suggestion(str(value), known)
    return f"unknown {kind} {value!r}{hint or ';'} known: {', '.join(known)}"


def suggestion(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the known word nearest to ``word``, or nothing where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
