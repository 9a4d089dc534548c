"""Where the results of a chapter come from: parameters, data, versions, commit, machine, time.

The last cell of a chapter shows them as a folded table. The same facts are kept in the metadata of that
output, for programs: :func:`stored` reads them back from a record.
"""

import html
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from vaebook.parameters import declared

PACKAGES = ("vaebook", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas", "matplotlib")
# What the results follow from. Records are not among it: to record a chapter changes its record.
SOURCES = ("vaebook", "book/text", "benchmarks/*.py", "pyproject.toml", "constraints.txt")
KEY = "vaebook"

_started = time.monotonic()


def provenance(inputs: Sequence[str], namespace: Mapping[str, object], datasets: Iterable = ()) -> None:
    """Show a folded table of everything that is needed to repeat this run, and keep it for programs.

    A chapter calls this in its last cell, tagged ``provenance``: its output is shown and not compared.

    Args:
        inputs: IPython's ``In``; one of its cells declares the parameters.
        namespace: the chapter's ``globals()``, which holds their values.
        datasets: what ``data.load`` returned, for names and checksums.
    """
    from IPython.display import HTML, display

    facts = collect(inputs, namespace, datasets)
    body = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in in_words(facts).items()
    )
    table = f'<details class="provenance"><summary>Provenance</summary><table>{body}</table></details>'
    display(HTML(table), metadata={KEY: facts})


def collect(inputs: Sequence[str], namespace: Mapping[str, object], datasets: Iterable = ()) -> dict:
    """The facts, in values that JSON has.

    Returns:
        ``parameters`` by name, and ``seed`` if that is one of them; ``data``, the checksum of each set;
        ``packages``, the version of each; ``python``; ``commit`` and whether the sources were ``clean``,
        ``None`` outside a git checkout; ``processor``; ``threads``, ``None`` without torch; ``seconds``, the
        wall time so far; ``recorded``, the time now in ISO format.
    """
    parameters = {parameter.name: namespace[parameter.name] for parameter in declared(inputs)}
    commit, clean = _commit()
    torch = sys.modules.get("torch")
    return {
        "parameters": parameters,
        "seed": parameters.get("seed"),
        "data": {data.name: data.checksum for data in datasets},
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "commit": commit,
        "clean": clean,
        "processor": _processor(),
        "threads": torch.get_num_threads() if torch else None,
        "seconds": round(time.monotonic() - _started, 1),
        "recorded": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def in_words(facts: Mapping) -> dict[str, str]:
    """The rows of the table, name to text."""
    return {
        "parameters": ", ".join(f"{name} = {value!r}" for name, value in facts["parameters"].items())
        or "none",
        "data": ", ".join(f"{name} (checksum {digest})" for name, digest in facts["data"].items()) or "none",
        "packages": ", ".join(f"{name} {version}" for name, version in facts["packages"].items()),
        "Python": facts["python"],
        "commit": commit_in_words(facts),
        "processor": facts["processor"],
        "threads": "torch is not in use" if facts["threads"] is None else str(facts["threads"]),
        "wall time": f"{facts['seconds']:.0f} s",
        "recorded": facts["recorded"],
    }


def commit_in_words(facts: Mapping) -> str:
    """The commit, and whether the sources had changes that it does not have."""
    if facts["commit"] is None:
        return "not in a git checkout"
    return facts["commit"] + ("" if facts["clean"] else " with changes")


def stored(notebook: Mapping) -> dict | None:
    """The facts that a record keeps, as :func:`collect` returned them; None if it has none."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    kept = [output["metadata"][KEY] for output in outputs if KEY in output.get("metadata", {})]
    return dict(kept[-1]) if kept else None


def _commit() -> tuple[str | None, bool | None]:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", *(f":(top){path}" for path in SOURCES))
        return git("rev-parse", "--short=12", "HEAD"), not changed
    except (OSError, subprocess.SubprocessError):
        return None, None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
