"""What a sweep is to run: every combination of some values of a chapter's parameters, checked as a whole."""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vaebook import chapters, reads
from vaebook.parameters import Parameter, ParameterError, check_values
from vaebook.sweep_run import package_digest

RANGE = re.compile(r"(-?\d+):(-?\d+)(?::(-?\d+))?")
LARGEST = 10_000  # runs of one sweep


@dataclass(frozen=True)
class Run:
    """One combination.

    Attributes:
        asked: the values of the parameters that were named.
        values: those of all parameters.
        name: of its files; tells the values that are not the defaults, and ends in a digest of the chapter's
            text, all values, the files that the chapter reads, this package and the versions of what results
            follow from.
    """

    asked: Mapping[str, object]
    values: Mapping[str, object]
    name: str

    def __str__(self) -> str:
        return ", ".join(f"{name} = {value!r}" for name, value in self.asked.items())


@dataclass(frozen=True)
class Plan:
    """A sweep that can start.

    Attributes:
        book: the book's folder.
        chapter: its name.
        text: what is written in it.
        title: its first heading.
        asked: the values of each parameter that was named, in the order of the request.
        runs: every combination of them; the values of the last parameter change fastest.
        package: the :func:`vaebook.sweep_run.package_digest`.
    """

    book: Path
    chapter: str
    text: str
    title: str
    asked: Mapping[str, Sequence[object]]
    runs: Sequence[Run]
    package: str


def plan(book: Path, chapter: str, words: Mapping[str, Sequence[str]]) -> Plan:
    """Read and check a sweep as a whole; nothing runs.

    Args:
        book: the book's folder.
        chapter: the name of the chapter.
        words: for each parameter, its values as on the command line. ``0:5`` are the integers from 0 to 4,
            ``0:10:2`` every second one below 10.

    Raises:
        UnknownChapterError: the book has no such chapter.
        ParameterError: a parameter that the chapter does not have, a value that it does not take or that is
            given twice, an empty range, or too many runs.
    """
    path = chapters.text_path(book, chapter)
    notebook, text = chapters.read_text(path), path.read_text("utf-8")
    parameters = chapters.schema(notebook)
    asked = {name: _values(parameters, name, given, chapter) for name, given in words.items()}
    if not asked:
        raise ParameterError(f"nothing to sweep over: name a parameter of {chapter}, as in -p seed 0:5")
    count = math.prod(map(len, asked.values()))
    if count > LARGEST:
        raise ParameterError(f"these are {count:,} runs; a sweep has at most {LARGEST:,}")
    package, read = package_digest(), reads.digest(book, notebook)
    defaults = {parameter.name: parameter.default for parameter in parameters}
    runs = []
    for values in itertools.product(*asked.values()):
        combination = dict(zip(asked, values, strict=True))
        complete = defaults | combination
        changed = [f"{name}={value}" for name, value in complete.items() if value != defaults[name]]
        runs.append(Run(combination, complete, _name(changed, _key(text, complete, read, package))))
    return Plan(book, chapter, text, chapters.title(notebook), asked, runs, package)


def _values(parameters: Sequence[Parameter], name: str, words: Sequence[str], chapter: str) -> list[object]:
    """The values of one parameter, all of them checked and different."""
    kinds = {parameter.name: parameter.type for parameter in parameters}
    values = {}
    for word in words:
        bounds = RANGE.fullmatch(word) if kinds.get(name, "").startswith("int") else None
        for number in _range(name, word, bounds) if bounds else [word]:
            value = check_values(parameters, {name: number}, chapter=chapter)[name]
            if value in values:
                raise ParameterError(f"{name} is given the value {value!r} twice")
            values[value] = None
    return list(values)


def _range(name: str, word: str, bounds: re.Match) -> range:
    first, end, step = (int(number or 1) for number in bounds.groups())
    numbers = range(first, end, step) if step else ()
    if not numbers:
        raise ParameterError(
            f"{name}: the range {word} is empty: FIRST:END counts up to END - 1, FIRST:END:STEP in steps"
        )
    if numbers[LARGEST:]:  # its length may be too large a number for len
        raise ParameterError(f"{name}: the range {word} is too long: a sweep has at most {LARGEST:,} runs")
    return numbers


def _key(text: str, values: Mapping[str, object], read: str, package: str) -> str:
    """The digest of what a run is made from, whatever processor makes it."""
    content = json.dumps([text, values, read, package], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _name(words: Sequence[str], key: str) -> str:
    slug = re.sub(r"[^\w.=-]+", "_", "-".join(words))[:100]
    return f"{slug}-{key}" if slug else key
