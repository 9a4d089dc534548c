"""One run of a sweep, in a process of its own, on whatever machine a Dask worker is.

What travels is the text of the chapter and its parameters one way, and the executed notebook the other. The
process ends when the worker does, and takes its kernel and its files with it.
"""

import ast
import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from distributed import Worker, get_client, get_worker

import vaebook
from vaebook import chapters, compare, notebooks, provenance
from vaebook.chapters import NotebookError

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
ATTEMPTS = 2  # a run whose worker died is tried on another one once
LOOK_SECONDS = 1  # how often a run asks whether the sweep still waits for it


@dataclass(frozen=True)
class Job:
    """What a run needs.

    Attributes:
        chapter: its name.
        text: what is written in it.
        values: of all its parameters.
        package: the :func:`package_digest` that the sweep was started with.
        threads: how many the run may use; None for as many as the worker's environment says, else one.
        root: the folder of the book's project where the sweep was started. A chapter that reads what lies
            there, such as recorded results, needs a machine that has it at the same place.
    """

    chapter: str
    text: str
    values: Mapping[str, object]
    package: str
    threads: int | None
    root: str


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        notebook: the executed notebook, as far as it went, as JSON; empty if there is none.
        error: what stopped it, in one line; empty if nothing did.
        seconds: wall time.
        results: what the chapter reported, value by name.
        provenance: the facts of :func:`vaebook.provenance.collect`, and the ``host``.
    """

    notebook: str = ""
    error: str = ""
    seconds: float | None = None
    results: Mapping[str, object] = field(default_factory=dict)
    provenance: Mapping[str, object] = field(default_factory=dict)


def package_digest() -> str:
    """Short digest of this package and of the versions of Python and of what results follow from.

    The package's sources hold the checksums of the data sets, too.
    """
    versions = [*map(str, sys.version_info[:2]), *map(importlib.metadata.version, provenance.PACKAGES)]
    digest = hashlib.sha256(" ".join(versions).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def execute(job: Job) -> Outcome:
    """Run a chapter in a new process; a Dask worker calls this.

    The run ends early if the sweep is gone, or has stopped waiting for it. It is not begun if the workers of
    all its attempts have died.

    Returns:
        The outcome, of a run that failed, too.
    """
    if _attempt() > ATTEMPTS:
        return worker_died(ATTEMPTS)
    threads = job.threads or int(os.environ.get(THREADS[0], 1))
    with tempfile.TemporaryDirectory(prefix="vaebook-run-") as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(asdict(job)), "utf-8")
        command = [sys.executable, "-m", "vaebook.sweep_run", name]
        environment = os.environ | dict.fromkeys(THREADS, str(threads)) | {"TMPDIR": name}
        with (
            (folder / "log").open("wb") as log,
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # never written to: its end is the sign that this worker has died
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # an interrupt from the keyboard is for the sweep
            ) as process,
        ):
            while (code := process.poll()) is None:
                if not _awaited():
                    process.stdin.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK_SECONDS)
        if code == 0:
            return Outcome(**json.loads((folder / "outcome.json").read_text("utf-8")))
        last_words = (folder / "log").read_text("utf-8", errors="replace").strip().splitlines()[-1:]
        return Outcome(error=": ".join([f"the run's process ended with exit code {code}", *last_words]))


def worker_died(times: int) -> Outcome:
    """The outcome of a run whose worker died each time."""
    often = "once" if times == 1 else f"{times} times"
    return Outcome(error=f"its worker died, {often}; is the memory enough?")


def _attempt() -> int:
    """How often a worker has begun the task of this thread, whose scheduler keeps the count."""
    if not (worker := _worker()):
        return 1
    client, topic = get_client(), f"vaebook begins {worker.get_current_task()}"
    client.log_event(topic, worker.address)
    return len(client.get_events(topic))


def _awaited() -> bool:
    """Whether a sweep waits for the task of this thread; Dask itself stops no task that has begun."""
    if not (worker := _worker()):
        return True
    task = worker.state.tasks.get(worker.get_current_task())
    return task is None or task.state != "cancelled"  # a worker that closes has no tasks, and ends its runs


def _worker() -> Worker | None:
    """The Dask worker that this thread belongs to, if it does."""
    try:
        return get_worker()
    except ValueError:
        return None


def main(folder: Path) -> None:
    """Do the job that lies in ``folder`` and leave its outcome there; this is the run's own process."""
    threading.Thread(target=_end_with_worker, args=[folder], daemon=True).start()
    job = Job(**json.loads((folder / "job.json").read_text("utf-8")))
    (folder / "outcome.json").write_text(json.dumps(asdict(_outcome(job, folder))), "utf-8")


def _end_with_worker(folder: Path) -> None:
    os.read(sys.stdin.fileno(), 1)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _outcome(job: Job, folder: Path) -> Outcome:
    machine = {"host": platform.node(), "threads": int(os.environ[THREADS[0]])}
    facts = provenance.collect([], {}) | machine
    if job.package != package_digest():
        error = (
            f"vaebook {vaebook.__version__} on {machine['host']}, or what it uses, is not what the sweep was "
            "started with: install the same versions on every machine, and leave them alone while it runs"
        )
        return Outcome(error=error, provenance=facts)
    book, path = _laid_out(job, folder), folder / "run.ipynb"
    started, error = time.monotonic(), ""
    try:
        notebooks.run(book, job.chapter, job.values, path)
    except NotebookError as failure:
        path, error = path.with_suffix(".failed.ipynb"), str(failure).splitlines()[-1].strip()
    seconds = round(time.monotonic() - started, 1)
    if not path.is_file():
        return Outcome(error=error, seconds=seconds, provenance=facts)
    notebook = chapters.read_record(path)
    return Outcome(
        notebook=path.read_text("utf-8"),
        error=error,
        seconds=seconds,
        results=reported(notebook),
        provenance=facts | (provenance.stored(notebook) or {}) | machine,
    )


def _laid_out(job: Job, folder: Path) -> Path:
    """A book with the text of the chapter, among links to what lies around it, if this machine has that."""
    book, root = folder / "book", Path(job.root)
    (book / "text").mkdir(parents=True)
    (book / "text" / f"{job.chapter}.md").write_text(job.text, "utf-8")
    around = [root / "_toc.yml", root / "benchmarks", *root.glob("book/*"), *root.glob("book/text/*")]
    for path in filter(Path.exists, around):
        if not (link := folder / path.relative_to(root)).exists():
            link.symlink_to(path)
    if not (toc := folder / "_toc.yml").exists():
        toc.write_text(f"root: book/{job.chapter}\n", "utf-8")
    return book


def reported(notebook: Mapping) -> dict[str, object]:
    """What a chapter has published with :func:`vaebook.checks.report`, value by name."""
    values = {}
    for output in chapters.outputs(notebook):
        name = output.get("metadata", {}).get("scrapbook", {}).get("name")
        text = output.get("data", {}).get(compare.GLUE + "text/plain")
        if name is not None and text is not None:
            values[name] = _value(text)
    return values


def _value(text: str) -> object:
    """The value that ``repr`` wrote; Python has no literal for a number that is not finite, but JSON has."""
    try:
        return ast.literal_eval(text)
    except ValueError:
        return json.loads(text.replace("nan", "NaN").replace("inf", "Infinity"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
