"""Comparing a recorded output with a fresh one: text exactly, numbers within a tolerance, figures by pixels.

A number agrees if it differs by no more than

    min(one unit of the last printed digit, 2 % of the number) + rtol * |number| + atol

The first term forgives a rounding edge, 0.12499 printed as 0.125; its cap makes sure that a number which
is wrong by 5 % is found however few digits are printed. Where the two have different numbers of decimals,
as ``%g`` and ``repr`` print them, the finer unit counts. Integers are counts: they must be equal, unless the
cell states a tolerance.

Digits inside words (names, digests, versions, markup) are text, and so are ``nan`` and ``inf``. Each group of
thousands behind a comma is a number of its own, which is the strict reading: ``5,108.4`` may be two columns.
"""

import base64
import io
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import takewhile

import numpy as np
from PIL import Image

ROUNDING = Decimal("0.02")  # a rounding edge forgives at most this part of a number
BLOCK = 16  # pixels
LOCAL = 2  # the mean colour of a block may be off by this multiple of the figure's rms tolerance

NUMBER = r"(?<![\w.])(?P<number>[-+−]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?)(?!\w|\.[0-9])"
MARKUP = r"(?s:<style.*?</style>|<script.*?</script>|<!--.*?-->|<[^>]*>)"
IN_TEXT = re.compile(NUMBER)
IN_HTML = re.compile(f"{MARKUP}|{NUMBER}")
TABLE_RULE = re.compile(r"^\|(?: *:?-+:? *\|)+$", re.MULTILINE)  # below the head of a table in Markdown
STYLER_ID = re.compile(r"\bT_([0-9a-f]{5,})(?![0-9a-f])")
GLUE = "application/papermill.record/"
FIGURES = {"image/png", "image/jpeg"}
UNCOMPARED = {"nbval-skip", "nbval-ignore-output", "provenance"}  # tags of cells
RICHEST = ["image/svg+xml", "image/png", "image/jpeg", "text/html", "text/latex", "text/markdown"]


@dataclass(frozen=True)
class Tolerance:
    """How far a fresh output may be from the recorded one.

    Attributes:
        rtol: relative tolerance of a number; the default is the noise of single precision.
        atol: absolute tolerance of a number.
        rms: root mean square distance of two figures, on the scale 0..255 of their pixels; the default
            forgives a marker that snaps to the next pixel.
        integers: whether rtol and atol hold for integers, too.
    """

    rtol: float = 1e-6
    atol: float = 0.0
    rms: float = 2.0
    integers: bool = False


@dataclass(frozen=True)
class Distance:
    """How far the outputs of a cell are from the recorded ones.

    Attributes:
        relative: the largest difference of a number, beyond what rounding explains, as a part of the number.
        used: the largest share of its tolerance that a number takes up; above 1 it does not agree.
        rms: the smallest tolerance ``rms`` with which the figures agree; None if there is none.
    """

    relative: float = 0.0
    used: float = 0.0
    rms: float | None = None


DEFAULT = Tolerance()
ANY_NUMBER = Tolerance(atol=1e100, rms=1e3, integers=True)
TRAINED = Tolerance(rtol=1e-2, rms=16.0)
WIDEST = {"rtol": 0.2, "atol": math.inf, "rms": 30.0}  # above these a cell must state its reason


def is_compared(metadata: Mapping) -> bool:
    """Whether a cell with this metadata is run again and compared."""
    return UNCOMPARED.isdisjoint(metadata.get("tags", []))


def tolerance(metadata: Mapping) -> Tolerance:
    """The tolerance that a cell asks for.

    Args:
        metadata: the cell's metadata, with the tag ``trained`` or ``compare: {rtol: …, atol: …, rms: …}``.

    Raises:
        ValueError: ``compare`` has an unknown key, no number >= 0, or a wide tolerance without a reason.
    """
    base = TRAINED if "trained" in metadata.get("tags", []) else DEFAULT
    stated = metadata.get("compare", {})
    if not isinstance(stated, Mapping) or not stated.keys() <= WIDEST.keys():
        raise ValueError(f"compare takes {', '.join(WIDEST)}; got {stated!r}")
    for key, value in stated.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(
                f"compare: {key} must be a number >= 0, got {value!r} (YAML reads 0.001, not 1e-3)"
            )
        if value > WIDEST[key] and not metadata.get("reason"):
            raise ValueError(
                f"compare: {key} {value} is above {WIDEST[key]}, which needs a reason in the metadata"
            )
    return replace(base, **stated, integers="rtol" in stated or "atol" in stated)


def compare_outputs(stored: Sequence[Mapping], fresh: Sequence[Mapping], tolerance: Tolerance) -> list[str]:
    """Compare a cell's outputs with the recorded ones, in order, in every mime type but a table's plain text.

    Args:
        stored: the outputs in the record, as in the notebook format.
        fresh: the outputs of the new run.
        tolerance: what the cell asks for.

    Returns:
        One problem an entry, in words; empty if the outputs agree.
    """
    stored, fresh = _join_streams(stored), _join_streams(fresh)
    problems = [
        f"wrote to stderr: {_shorten(output['text'])}" for output in fresh if _kind(output) == "stream stderr"
    ]
    stored_kinds, fresh_kinds = list(map(_kind, stored)), list(map(_kind, fresh))
    if stored_kinds != fresh_kinds:
        return [*problems, f"outputs {stored_kinds} were stored, {fresh_kinds} came out"]
    for number, (old, new) in enumerate(zip(stored, fresh, strict=True), start=1):
        for mime, content in _contents(old).items():
            found = _compare_contents(mime, content, _contents(new)[mime], tolerance)
            problems += [f"output {number}, {mime}: {problem}" for problem in found]
        labels = [output.get("metadata", {}) for output in (old, new)]
        if labels[0] != labels[1]:
            problems.append(f"output {number}: metadata {labels[0]} was stored, {labels[1]} came out")
    return problems


def distance(stored: Sequence[Mapping], fresh: Sequence[Mapping], tolerance: Tolerance) -> Distance:
    """How far the outputs of a cell are from the recorded ones, where text and kinds are the same.

    Args:
        stored: the outputs in the record, as in the notebook format.
        fresh: the outputs of the new run.
        tolerance: what the cell asks for.

    Raises:
        ValueError: the outputs differ in more than numbers and pixels.
    """
    if problems := compare_outputs(stored, fresh, ANY_NUMBER):
        raise ValueError(problems[0])
    relative, used, rms = [0.0], [0.0], []
    for old, new in zip(_join_streams(stored), _join_streams(fresh), strict=True):
        for mime, content in _contents(old).items():
            if mime in FIGURES:
                rms.append(_image_distance(_on_paper(content), _on_paper(_contents(new)[mime])).needed)
                continue
            texts = (_as_text(content), _as_text(_contents(new)[mime]))
            for pair in zip(*(_split(text, mime == "text/html")[1] for text in texts), strict=True):
                excess, allowed = _excess(*pair), _allowed(pair[0], pair[1], tolerance)
                relative.append(_ratio(excess, abs(_value(pair[0]))))
                used.append(_ratio(excess, allowed))
    return Distance(max(relative), max(used), max(rms, default=None))


def _ratio(part: Decimal, whole: Decimal) -> float:
    return 0.0 if part <= 0 else float(part / whole) if whole else math.inf


def _join_streams(outputs: Sequence[Mapping]) -> list[dict]:
    """One output for all that went to stdout, one for stderr: how a stream is cut into pieces is chance."""
    joined, streams = [], {}
    for output in outputs:
        name = output.get("name")
        if name in streams:
            streams[name]["text"] += output["text"]
        else:
            joined.append(dict(output))
            if name:
                streams[name] = joined[-1]
    return joined


def _contents(output: Mapping) -> dict[str, object]:
    """What an output holds, by mime type; a stream by its name.

    Of a table in HTML the plain text is left out: pandas breaks a wide one at columns that depend on how wide
    its numbers are printed.
    """
    match output["output_type"]:
        case "stream":
            return {output["name"]: output["text"]}
        case "error":
            return {"error": f"{output['ename']}: {output['evalue']}"}
        case _:
            data = output["data"]
            is_table = "<table" in _as_text(data.get("text/html", ""))
            return {
                mime: content for mime, content in data.items() if not (is_table and mime == "text/plain")
            }


def _kind(output: Mapping) -> str:
    return " ".join([output["output_type"], *sorted(_contents(output))])


def _compare_contents(mime: str, stored: object, fresh: object, tolerance: Tolerance) -> list[str]:
    if mime in FIGURES:
        return compare_image(stored, fresh, tolerance.rms)
    return compare_text(_as_text(stored), _as_text(fresh), tolerance, html=mime == "text/html")


def _as_text(content: object) -> str:
    return content if isinstance(content, str) else json.dumps(content, indent=1, sort_keys=True)


def compare_text(stored: str, fresh: str, tolerance: Tolerance, *, html: bool = False) -> list[str]:
    """Compare two texts: numbers within the tolerance, everything else exactly.

    Spaces that align columns may differ only if a number is printed wider or narrower than before.

    Args:
        stored: the recorded text.
        fresh: the text of the new run.
        tolerance: what the cell asks for.
        html: whether tags, styles and scripts are markup, which must be equal.

    Returns:
        One problem an entry, in words; empty if the texts agree.
    """
    if html:
        stored, fresh = stable_ids(stored), stable_ids(fresh)
    if stored == fresh:
        return []
    (old_words, old_numbers), (new_words, new_numbers) = _split(stored, html), _split(fresh, html)
    if list(map(len, old_numbers)) != list(map(len, new_numbers)):
        old_words, new_words = list(map(_unalign, old_words)), list(map(_unalign, new_words))
    if old_words != new_words:
        return [_text_difference("#".join(old_words), "#".join(new_words))]
    pairs = zip(old_numbers, new_numbers, strict=True)
    return [problem for old, new in pairs if (problem := _number_difference(old, new, tolerance))]


def _split(text: str, html: bool) -> tuple[list[str], list[str]]:
    """The stretches of text around the numbers, and the numbers, which are one fewer."""
    words, numbers, start = [], [], 0
    for match in (IN_HTML if html else IN_TEXT).finditer(text):
        if match["number"]:
            words.append(text[start : match.start()])
            numbers.append(match["number"])
            start = match.end()
    return [*words, text[start:]], numbers


def _unalign(text: str) -> str:
    return re.sub(r"[ \t]+", " ", text).strip(" ")


def _text_difference(stored: str, fresh: str) -> str:
    """Show the first place where two texts differ, in which ``#`` stands for a number."""
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(stored, fresh, strict=False)))
    start = max(shared - 30, 0)
    return f"{_shorten(stored[start:])} was stored, {_shorten(fresh[start:])} came out (# is a number)"


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:79]}…")


def _number_difference(stored: str, fresh: str, tolerance: Tolerance) -> str | None:
    if _excess(stored, fresh) <= _allowed(stored, fresh, tolerance):
        return None
    difference = abs(_value(fresh) - _value(stored))
    allowed = difference - _excess(stored, fresh) + _allowed(stored, fresh, tolerance)
    return f"{stored} was stored, {fresh} came out (difference {difference:.3g}, allowed {allowed:.3g})"


def _are_counts(*tokens: str) -> bool:
    return all(token.lstrip("-+−").isdigit() for token in tokens)


def _excess(stored: str, fresh: str) -> Decimal:
    """By how much two numbers differ beyond what rounding explains; negative if it explains all."""
    old, new = _value(stored), _value(fresh)
    if _are_counts(stored, fresh):
        return abs(new - old)
    unit = min(Decimal(1).scaleb(value.as_tuple().exponent) for value in (old, new))
    return abs(new - old) - min(unit, ROUNDING * abs(old))


def _allowed(stored: str, fresh: str, tolerance: Tolerance) -> Decimal:
    """What the tolerance of the cell adds to rounding."""
    if _are_counts(stored, fresh) and not tolerance.integers:
        return Decimal(0)
    return Decimal(str(tolerance.rtol)) * abs(_value(stored)) + Decimal(str(tolerance.atol))


def _value(token: str) -> Decimal:
    return Decimal(token.replace("−", "-"))


def stable_ids(html: str, seen: dict[str, str] | None = None) -> str:
    """Number the random identifiers of styled pandas tables in the order in which they appear.

    Args:
        html: a page or a part of it.
        seen: the new name of each identifier so far; hand in one dict for all parts of a page.
    """
    seen = {} if seen is None else seen
    return STYLER_ID.sub(lambda match: f"T_{seen.setdefault(match[1], f'{len(seen):05d}')}", html)


def compare_image(stored: str, fresh: str, rms: float) -> list[str]:
    """Compare two figures as they look on white and on black paper, so that transparency counts.

    Args:
        stored: the recorded figure, PNG or JPEG in base64.
        fresh: the figure of the new run.
        rms: largest root mean square distance of the pixels, on the scale 0..255. The mean colour of a block
            of 16 x 16 pixels may be off by twice as much: that finds a small wrong part, one image of a
            hundred, and forgives a line that moved by a pixel.

    Returns:
        One problem, in words; empty if the figures agree.
    """
    if stored == fresh:
        return []
    try:
        old, new = _on_paper(stored), _on_paper(fresh)
    except (OSError, ValueError) as error:
        return [f"the figure cannot be decoded: {error}"]
    if old.shape != new.shape:
        sizes = [f"{width} x {height} pixels" for _, height, width, _ in (old.shape, new.shape)]
        return [f"a figure of {sizes[0]} was stored, {sizes[1]} came out"]
    found = _image_distance(old, new)
    if found.needed <= rms:
        return []
    return [
        f"the figure differs by {found.whole:.1f} rms (allowed {rms:g}) and, worst near x = {found.x}, "
        f"y = {found.y}, by {found.block:.1f} (allowed {LOCAL * rms:g})"
    ]


@dataclass(frozen=True)
class _ImageDistance:
    """The rms distance of two images, and that of the mean colours of their worst block, at pixel x, y."""

    whole: float
    block: float
    x: int
    y: int

    @property
    def needed(self) -> float:
        return max(self.whole, self.block / LOCAL)


def _image_distance(old: np.ndarray, new: np.ndarray) -> _ImageDistance:
    difference = new - old
    whole = np.sqrt(np.square(difference).mean(axis=(1, 2, 3))).max()
    blocks = np.sqrt(np.square(_block_means(difference)).mean(axis=3)).max(axis=0)
    row, column = np.unravel_index(blocks.argmax(), blocks.shape)
    return _ImageDistance(float(whole), float(blocks.max()), int(BLOCK * column), int(BLOCK * row))


def _on_paper(encoded: str) -> np.ndarray:
    """The image in front of white and of black, shape ``(2, height, width, 3)``."""
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        pixels = np.asarray(image.convert("RGBA"), dtype=np.float32)
    alpha = pixels[..., 3:] / 255
    on_black = pixels[..., :3] * alpha
    return np.stack([on_black + 255 * (1 - alpha), on_black])


def _block_means(images: np.ndarray) -> np.ndarray:
    """Means over blocks of pixels: ``(n, height, width, 3)`` to ``(n, rows, columns, 3)``."""
    for axis, size in enumerate(images.shape[1:3], start=1):
        starts = np.arange(0, size, BLOCK)
        widths = np.diff(starts, append=size)  # the last block may be narrower
        images = np.add.reduceat(images, starts, axis) / (
            widths[:, None, None] if axis == 1 else widths[:, None]
        )
    return images


def count(outputs: Sequence[Mapping]) -> Counter:
    """How many ``numbers``, ``tables`` and ``figures`` the outputs of a cell show to the reader."""
    total = Counter()
    for mime, content in map(_shown, _join_streams(outputs)):
        if mime.startswith("image/"):
            total["figures"] += 1
        else:
            total["tables"] += content.count("<table") + len(TABLE_RULE.findall(content))
            total["numbers"] += len(_split(content, mime == "text/html")[1])
    return total


def largest_number(outputs: Sequence[Mapping]) -> float:
    """The largest absolute value of the numbers that the outputs of a cell show to the reader, or 0."""
    shown = [(mime, content) for mime, content in map(_shown, outputs) if not mime.startswith("image/")]
    tokens = [token for mime, content in shown for token in _split(content, mime == "text/html")[1]]
    return max((abs(float(_value(token))) for token in tokens), default=0.0)


def _shown(output: Mapping) -> tuple[str, str]:
    """The mime type and the content of that form of an output which a page shows."""
    forms = {mime.removeprefix(GLUE): content for mime, content in _contents(output).items()}
    mime = min(forms, key=lambda mime: RICHEST.index(mime) if mime in RICHEST else len(RICHEST), default="")
    return mime, str(forms.get(mime, ""))
