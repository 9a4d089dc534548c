"""Where the results of a chapter come from: parameters, data, versions, commit, machine, time."""

import html
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from vaebook.parameters import parse

PACKAGES = ("vaebook", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas", "matplotlib")

_started = time.monotonic()


def provenance(inputs: list[str], namespace: Mapping[str, object], datasets: Iterable = ()) -> None:
    """Show a folded table of everything that is needed to repeat this run.

    A chapter calls this in its last cell, tagged ``provenance``: its output is shown and not compared.

    Args:
        inputs: IPython's ``In``; its first cell declares the parameters.
        namespace: the chapter's ``globals()``, which holds their values.
        datasets: what ``data.load`` returned, for names and checksums.
    """
    from IPython.display import HTML, display

    rows = collect(inputs, namespace, datasets)
    body = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows.items()
    )
    display(HTML(f'<details class="provenance"><summary>Provenance</summary><table>{body}</table></details>'))


def collect(inputs: list[str], namespace: Mapping[str, object], datasets: Iterable = ()) -> dict[str, str]:
    """The rows of the table, name to text."""
    parameters = [parameter.name for parameter in parse(next(source for source in inputs if source.strip()))]
    return {
        "parameters": ", ".join(f"{name} = {namespace[name]!r}" for name in parameters),
        "data": ", ".join(f"{data.name} (checksum {data.checksum})" for data in datasets) or "none",
        "packages": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES),
        "Python": platform.python_version(),
        "commit": _commit(),
        "processor": _processor(),
        "threads": _threads(),
        "wall time": f"{time.monotonic() - _started:.0f} s",
    }


def _commit() -> str:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "*.py", "*.md", "*.toml")
        return git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "not in a git checkout"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def _threads() -> str:
    torch = sys.modules.get("torch")
    return str(torch.get_num_threads()) if torch else "torch is not in use"
