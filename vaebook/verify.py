"""Running the chapters again, and what is known of when that was done.

A chapter that passes ``pytest --nbval``, where ``book/conftest.py`` compares every output, is stamped in
``.cache/verified``. The stamp holds until the record, the text, a file that the chapter reads, the library,
the comparison or an installed package changes, or something can be said against the record without a run.
"""

import hashlib
import importlib.metadata
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from pathlib import Path

from vaebook import chapters, gates, provenance, reads

COLUMNS = dict.fromkeys(
    ("chapter", "recorded", "commit", "processor", "seconds", "verified", "numbers", "tables", "figures"), ""
)
MINUTES = "%Y-%m-%d %H:%M"


@dataclass(frozen=True)
class Verdict:
    """What :func:`verify` says of a chapter: it is ``unchanged``, ``running``, ``verified``,
    ``skipped`` for want of data, or ``failed``."""

    name: str
    state: str
    detail: str


@dataclass(frozen=True)
class Stamp:
    """When a chapter was verified, and what was compared, in words; ``key`` says what it holds for."""

    key: str
    time: str
    what: str


def verify(book: Path, names: Sequence[str] = (), *, everything: bool = False) -> Iterator[Verdict]:
    """Run chapters again with ``pytest --nbval``, two at a time, one thread each, if there are two cores.

    Args:
        book: the book's folder.
        names: the chapters; all of them if empty, without those whose stamp holds.
        everything: whether to run those, too.

    Yields:
        What becomes of each chapter, as soon as it is known.

    Raises:
        UnknownChapterError: the book has no such chapter.
    """
    orphans = {path.stem for path in book.glob("*.ipynb")} - set(chapters.names(book))
    for name in set(names) - orphans:
        chapters.text_path(book, name)
    waiting = {}
    for name in names or [*chapters.names(book), *sorted(orphans)]:
        key, stamp = _fingerprint(book, name), read_stamp(book, name)
        if not (names or everything) and stamp and stamp.key == key and not gates.problems(book, name):
            yield Verdict(name, "unchanged", f"up to date since {stamp.time}")
        else:
            waiting[name] = key
    for name in waiting:
        yield Verdict(name, "running", "running")
    workers = min(2, os.cpu_count() or 1, len(waiting))
    longest_first = sorted(waiting, key=partial(_seconds, book), reverse=True)
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        futures = {
            pool.submit(_run_pytest, book, name, one_thread=workers > 1): name for name in longest_first
        }
        for future in as_completed(futures):
            name, verdict = futures[future], future.result()
            path = _stamp_path(book, name)
            path.unlink(missing_ok=True)
            if verdict.state == "verified":
                path.parent.mkdir(parents=True, exist_ok=True)
                time = datetime.now().strftime(MINUTES)
                path.write_text("\n".join([waiting[name], time, verdict.detail]), encoding="utf-8")
            yield verdict


def _seconds(book: Path, name: str) -> float:
    """How long a chapter took when it was recorded; not known without a record."""
    try:
        facts = provenance.stored(chapters.read_record(book / f"{name}.ipynb"))
    except (OSError, chapters.NotebookError):
        return math.inf
    return facts["seconds"] if facts else math.inf


def report(book: Path, names: Sequence[str] = ()) -> list[dict[str, str]]:
    """Where each record comes from, and when it was last verified.

    Args:
        book: the book's folder.
        names: the chapters; all of them if empty.

    Returns:
        A row a chapter: column to text, which is empty where nothing is known.

    Raises:
        UnknownChapterError: the book has no such chapter.
    """
    for name in names:
        chapters.text_path(book, name)
    return [
        COLUMNS | {"chapter": name} | _origin(book, name) | _verification(book, name)
        for name in names or chapters.names(book)
    ]


def _origin(book: Path, name: str) -> dict[str, str]:
    path = book / f"{name}.ipynb"
    if not path.is_file():
        return {"recorded": "not recorded"}
    facts = provenance.stored(chapters.read_record(path))
    if facts is None:
        return {"recorded": "without provenance"}
    return {
        "recorded": datetime.fromisoformat(facts["recorded"]).astimezone().strftime(MINUTES),
        "commit": provenance.commit_in_words(facts),
        "processor": facts["processor"],
        "seconds": f"{facts['seconds']:.0f}",
    }


def _verification(book: Path, name: str) -> dict[str, str]:
    stamp = read_stamp(book, name)
    if stamp is None:
        return {"verified": "not verified"}
    changed = "" if stamp.key == _fingerprint(book, name) else ", changed since"
    counts = re.findall(r"(\d+) (number|table|figure)", stamp.what)
    return {"verified": stamp.time + changed} | {f"{noun}s": number for number, noun in counts}


def _stamp_path(book: Path, name: str) -> Path:
    return book.parent / ".cache" / "verified" / name


def read_stamp(book: Path, name: str) -> Stamp | None:
    """The stamp of a chapter's last verification, if it has one."""
    path = _stamp_path(book, name)
    lines = path.read_text("utf-8").split("\n") if path.is_file() else []
    return Stamp(*lines) if len(lines) == 3 else None


def _run_pytest(book: Path, name: str, *, one_thread: bool) -> Verdict:
    record, text = book / f"{name}.ipynb", book / "text" / f"{name}.md"
    environment = os.environ | ({"OMP_NUM_THREADS": "1"} if one_thread else {})
    environment.pop("PYTEST_ADDOPTS", None)  # it could leave cells out
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider"]
    command.append(str(record if record.is_file() else text))
    done = subprocess.run(
        command, cwd=book.parent, env=environment, text=True, capture_output=True, check=False
    )
    summary = re.search(r"^verified .*$", done.stdout, re.MULTILINE)
    skipped = re.search(r"^skipped \S+: (.*)$", done.stdout, re.MULTILINE)
    if done.returncode == 0 and skipped:
        return Verdict(name, "skipped", f"SKIPPED, {skipped[1]}")
    if done.returncode == 0 and summary:
        return Verdict(name, "verified", summary[0])
    return Verdict(name, "failed", (done.stdout + done.stderr).strip())


def _fingerprint(book: Path, name: str) -> str:
    """A digest of all that the outcome of a verification depends on."""
    text = book / "text" / f"{name}.md"
    files = [book / f"{name}.ipynb", text, book / "conftest.py"]
    files += [book.parent / "constraints.txt", *sorted(Path(__file__).parent.glob("*.py"))]
    digest = hashlib.sha256("\n".join([sys.version, *_packages(), _read(book, text)]).encode())
    for file in files:
        digest.update(f"\n{file.name}\n".encode())
        digest.update(file.read_bytes() if file.is_file() else b"missing")
    return digest.hexdigest()


def _read(book: Path, text: Path) -> str:
    """A digest of what a chapter reads, as far as its header can be read."""
    try:
        return reads.digest(book, chapters.read_text(text)) if text.is_file() else ""
    except chapters.NotebookError:
        return ""


@cache
def _packages() -> list[str]:
    return sorted(f"{package.name} {package.version}" for package in importlib.metadata.distributions())
