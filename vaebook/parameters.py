"""The parameters of a chapter: read from its ``parameters`` cell and checked before anything runs.

The cell is the only place where they are described: one annotated assignment a line, with a comment that says
what the parameter is and ends with the values that it may take, where that applies::

    latent_dim: int = 20  # dimensions of the code z, in [1, 784]
    learning_rate: float = 1e-3  # Adam's step size, in (0, 1]
    patience: int | None = None  # epochs without progress before stopping, >= 1
    dataset: str = "mnist"  # data set, one of mnist, fashion_mnist
"""

import ast
import io
import math
import operator
import re
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vaebook.arguments import suggestion

TYPES = {"bool": bool, "int": int, "float": float, "str": str}
COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
INTERVAL = re.compile(r"\bin ([\[(])([-+.\w]+), ([-+.\w]+)([\])])$")
BOUND = re.compile(r"(?:^|, )(>=|<=|>|<) ([-+.\w]+)$")
CHOICES = re.compile(r"\bone of (.+)$")
RANGE_LIKE = re.compile(r"\bin\s*[\[(]\s*[-+.\d]|[<>]=|,\s*[<>]")


class ParameterError(ValueError):
    """A parameter that the chapter does not have, or a value that it does not take."""


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell.

    Attributes:
        name: the variable's name.
        type: ``bool``, ``int``, ``float`` or ``str``, with ``| None`` behind it where ``None`` is accepted.
        default: the value that the record was made with.
        help: the whole comment.
        bounds: what a number must satisfy, as pairs such as ``(">=", 1.0)``.
        choices: the accepted strings; empty where every string is.
    """

    name: str
    type: str
    default: object
    help: str
    bounds: tuple[tuple[str, float], ...] = ()
    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.type} = {self.default!r}  # {self.help}"

    def read(self, text: str) -> object:
        """The value that a word of the command line stands for; a word that does not fit is left as it is."""
        base, _, nullable = self.type.partition(" | ")
        word = text.strip().lower()
        if nullable and word == "none":
            return None
        if base == "bool":
            return {"true": True, "false": False}.get(word, text)
        if base == "str":
            return text
        try:
            return TYPES[base](text)
        except ValueError:
            return text

    def check(self, value: object) -> None:
        """Raise ParameterError unless ``value`` has the type and is in the range; an int is a float, too."""
        base, _, nullable = self.type.partition(" | ")
        if value is None and nullable:
            return
        wanted = (int, float) if base == "float" else TYPES[base]
        if not isinstance(value, wanted) or (isinstance(value, bool) and base != "bool"):
            raise ParameterError(f"{self.name} must be {self.type}, got {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ParameterError(f"{self.name} must be finite, got {value!r}")
        if not all(COMPARISONS[sign](value, limit) for sign, limit in self.bounds):
            limits = " and ".join(f"{sign} {limit:g}" for sign, limit in self.bounds)
            raise ParameterError(f"{self.name} must be {limits}, got {value!r}")
        if self.choices and value not in self.choices:
            guess = suggestion(str(value), self.choices)
            raise ParameterError(
                f"{self.name} must be one of {', '.join(self.choices)}, got {value!r}{guess}"
            )


def parse(source: str) -> list[Parameter]:
    """Read a parameters cell.

    Args:
        source: the cell's code.

    Returns:
        One Parameter a line, in order.

    Raises:
        ParameterError: a line is not ``name: type = value  # what it is``, with a literal value of that type.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise ParameterError(f"parameters cell, line {error.lineno}: {error.msg}") from None
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string.lstrip("# ").strip() for t in tokens if t.type == tokenize.COMMENT}
    return [_parameter(statement, comments.get(statement.end_lineno, "")) for statement in tree.body]


def _parameter(statement: ast.stmt, comment: str) -> Parameter:
    line = f"parameters cell, line {statement.lineno}"
    match statement:
        case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=ast.expr() as value):
            kind = ast.unparse(annotation)
        case _:
            raise ParameterError(
                f"{line}: {ast.unparse(statement)!r} is not of the form 'name: type = value  # help'"
            )
    if kind.removesuffix(" | None") not in TYPES:
        raise ParameterError(
            f"{line}: {name} has type {kind!r}; known: {', '.join(TYPES)}, each also with '| None'"
        )
    if not comment:
        raise ParameterError(f"{line}: {name} needs a comment that says what it is")
    try:
        default = ast.literal_eval(value)
    except ValueError:
        raise ParameterError(f"{line}: {name} needs a plain value, got {ast.unparse(value)}") from None
    parameter = Parameter(name, kind, default, comment, _bounds(comment, line), _choices(comment))
    parameter.check(default)
    return parameter


def _bounds(comment: str, line: str) -> tuple[tuple[str, float], ...]:
    pairs = []
    if interval := INTERVAL.search(comment):
        left, low, high, right = interval.groups()
        pairs = [(">=" if left == "[" else ">", low), ("<=" if right == "]" else "<", high)]
    elif bound := BOUND.search(comment):
        pairs = [bound.groups()]
    try:
        if RANGE_LIKE.search(comment) and not pairs:
            raise ValueError
        return tuple((sign, float(limit)) for sign, limit in pairs)
    except ValueError:
        example = "end it with ', in [1, 784]', ', in (0, 1]' or ', >= 0'"
        raise ParameterError(f"{line}: cannot read the range in {comment!r}: {example}") from None


def _choices(comment: str) -> tuple[str, ...]:
    found = CHOICES.search(comment)
    return tuple(word.strip() for word in found[1].split(",")) if found else ()


def _refuse_unknown(parameters: Sequence[Parameter], names: Sequence[str], chapter: str) -> None:
    known = [parameter.name for parameter in parameters]
    for name in names:
        if name not in known:
            table = "\n  ".join(map(str, parameters)) or "no parameters"
            raise ParameterError(
                f"unknown parameter {name!r}{suggestion(name, known)}\n{chapter} has:\n  {table}"
            )


def check_values(
    parameters: Sequence[Parameter], values: Mapping[str, object], *, chapter: str = "this chapter"
) -> dict[str, object]:
    """Read and check the values that a run is asked for.

    Args:
        parameters: what the chapter has, from :func:`parse`.
        values: value by name; a string is read by the parameter's type, as words of the command line are.
        chapter: the chapter's name, for the error message.

    Returns:
        The values with their declared types.

    Raises:
        ParameterError: an unknown name, a wrong type or a value out of range.
    """
    _refuse_unknown(parameters, list(values), chapter)
    by_name = {parameter.name: parameter for parameter in parameters}
    checked = {
        name: by_name[name].read(value) if isinstance(value, str) else value for name, value in values.items()
    }
    for name, value in checked.items():
        by_name[name].check(value)
    return checked


def declared(sources: Sequence[str]) -> list[Parameter]:
    """The parameters that the code run so far declares: those of the latest parameters cell, or none.

    Args:
        sources: IPython's ``In``.
    """
    return next(filter(None, map(_parse_or_nothing, reversed(sources))), [])


def validate(sources: Sequence[str], namespace: Mapping[str, object]) -> None:
    """Check the parameters of the running chapter, whoever set them; the second code cell calls it.

    Args:
        sources: IPython's ``In``, the code run so far: the parameters cell and, under papermill, the cell
            that papermill put behind it.
        namespace: ``globals()``, where the values are.

    Raises:
        ParameterError: no parameters cell has run, papermill set an unknown name, or a value does not fit.
    """
    parsed = [_parse_or_nothing(source) for source in sources]
    latest = max((i for i, parameters in enumerate(parsed) if parameters), default=None)
    if latest is None:
        raise ParameterError("no parameters cell has run: run the chapter's first code cell, then this one")
    for source in sources[latest + 1 :]:
        if source.startswith("# Parameters\n"):  # papermill's mark
            injected = [s.targets[0].id for s in ast.parse(source).body if isinstance(s, ast.Assign)]
            _refuse_unknown(parsed[latest], injected, "this chapter")
    for parameter in parsed[latest]:
        parameter.check(namespace[parameter.name])


def _parse_or_nothing(source: str) -> list[Parameter]:
    try:
        return parse(source)
    except ParameterError:
        return []
