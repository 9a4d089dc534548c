"""Chapters that show what lies in files of this project: named in the header, ``reads: [book/sources.yml]``.

Such a chapter is verified again, and run again by a sweep, when one of these files has changed.
"""

import hashlib
from pathlib import Path, PurePosixPath

from nbformat import NotebookNode

from vaebook import chapters


def files(book: Path, text: NotebookNode) -> list[Path]:
    """The files that a chapter reads, in order.

    Args:
        book: the book's folder.
        text: the chapter, with its header, whose paths start in the folder above the book and may have
            wildcards. What is no such path, :func:`problem` tells, and here it finds nothing.
    """
    asked = text.metadata.get("reads", [])
    patterns = filter(_is_inside, asked if isinstance(asked, list) else [])
    found = {path for pattern in patterns for path in book.parent.glob(pattern)}
    return sorted(path for path in found if path.is_file())


def digest(book: Path, text: NotebookNode) -> str:
    """A digest of the names and contents of the :func:`files` that a chapter reads."""
    whole = hashlib.sha256()
    for path in files(book, text):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        whole.update(f"{path.relative_to(book.parent)} {content}\n".encode())
    return whole.hexdigest()


def problem(book: Path, text: NotebookNode) -> str:
    """What is wrong with what the header of a chapter says that it reads; empty if nothing is."""
    patterns = text.metadata.get("reads", [])
    if not isinstance(patterns, list) or not all(map(_is_inside, patterns)):
        return f"the header's reads must be a list of paths, such as [book/sources.yml], got {patterns!r}"
    if missing := [pattern for pattern in patterns if not any(book.parent.glob(pattern))]:
        return f"the header says that the chapter reads {', '.join(missing)}, which is not there"
    if not patterns and "find_book()" in chapters.sources(text, "code"):
        return "the header must name the files that find_book() finds, for example reads: [book/sources.yml]"
    return ""


def _is_inside(pattern: object) -> bool:
    """Whether it is a path that starts in the folder above the book, and stays there."""
    path = PurePosixPath(pattern) if isinstance(pattern, str) and pattern else PurePosixPath("/")
    return not path.is_absolute() and ".." not in path.parts
