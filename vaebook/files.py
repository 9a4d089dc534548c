"""Files that are replaced as a whole: a reader finds the old content or the new one, and never a part."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of another when all of it is safely on the disk.

    If anything fails on the way, also the end of the process, the other file is as it was.

    Args:
        path: what is replaced; its folder is made if it is not there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left of files that they were :func:`replacing`.

    Args:
        folder: where no process writes now.
    """
    for path in folder.glob(".*"):
        if path.suffix[1:].isdigit():
            path.unlink()
