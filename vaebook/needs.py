"""Chapters whose data cannot always be had: named in the header, ``needs: [frey_faces]``.

Where such a set is out of reach the chapter is skipped, and the reason is said; any other error is an error.
"""

import subprocess
import sys

from nbformat import NotebookNode

OUT_OF_REACH = 3
"""Exit code of ``vaebook data NAME`` where no way to the data set is left."""

ALWAYS = ("digits", "fashion_mnist", "mnist")
"""Data sets that must be had: no chapter is skipped for want of one."""


class NeedsError(RuntimeError):
    """The data sets that a chapter needs could be neither fetched nor given up."""


def problem(text: NotebookNode) -> str:
    """What is wrong with what the header of a chapter says that it needs; empty if nothing is."""
    names = text.metadata.get("needs", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return f"the header's needs must be a list of data sets, such as [cifar10], got {names!r}"
    if never := sorted(set(names) & set(ALWAYS)):
        return f"the header needs {', '.join(never)}, without which no chapter may be skipped: leave it out"
    return ""


def unavailable(text: NotebookNode) -> str:
    """Why a chapter cannot be run here, for want of data; empty where it can. Fetches what is not there yet.

    In a process of its own, for what is asked here is asked where PyTorch is not loaded.

    Args:
        text: the chapter, with its header.

    Raises:
        NeedsError: fetching failed otherwise than by a set being out of reach, such as by an unknown name.
    """
    names = text.metadata.get("needs", [])
    if not names:
        return ""
    command = [sys.executable, "-m", "vaebook", "data", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    reason = done.stderr.strip().removeprefix("vaebook: ")
    if done.returncode not in (0, OUT_OF_REACH):
        raise NeedsError(f"`vaebook data {' '.join(names)}` failed: {reason}")
    return reason if done.returncode else ""
