"""Sweeps: a chapter, run with every combination of some values on Dask, into one table and one page.

A sweep has a folder. Every run that has ended is there as two files, its notebook and its row, whose name
ends in a digest of what it was made from. So the same sweep, started again, runs only what is
missing, whatever ended it before; a run that failed counts as missing. A file is complete or not there, and
only one sweep at a time writes into a folder.
"""

import logging
import math
import sys
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dask
from dask.system import CPU_COUNT
from distributed import Client, Future, KilledWorker, LocalCluster, wait
from distributed.utils import CancelledError, silence_logging_cmgr
from filelock import FileLock, Timeout
from tqdm import tqdm

from vaebook import chapters, provenance, sweep_page, sweep_table
from vaebook.files import remove_leftovers, replacing
from vaebook.sweep_plan import Plan, Run
from vaebook.sweep_run import Job, Outcome, execute, worker_died
from vaebook.sweep_table import Row

ANSWER_SECONDS = 10  # how long a scheduler may take to answer
REFRESH_SECONDS = 1  # how often the progress bar tells the time
# Dask watches its workers many times a second and takes a tenth of a core from the runs; nothing reads it.
UNWATCHED = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
}


# What a worker executes first: an interrupt from the keyboard is for the sweep, which ends its workers.
DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"


class SweepError(RuntimeError):
    """A sweep that cannot start or go on."""


class FolderError(ValueError):
    """A folder that a sweep may not write into."""


class Results:
    """The runs of a sweep that have ended, as the files of its folder.

    Args:
        plan: what is to run.
        folder: where the files are, or will be.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self._folder = plan, folder
        self._rows: dict[str, Row] = {}
        for run in plan.runs:
            row = Row.read(folder / f"runs/{run.name}.json")
            if row and (not row.notebook or (folder / row.notebook).is_file()):
                self._rows[run.name] = row

    @property
    def rows(self) -> list[Row]:
        """The rows in the order of the plan."""
        return [self._rows[run.name] for run in self.plan.runs if run.name in self._rows]

    def state(self, run: Run) -> str:
        """``done``, ``failed`` or ``missing``."""
        return self._rows[run.name].status if run.name in self._rows else "missing"

    def waiting(self) -> list[Run]:
        """The runs that are to be made: the missing ones, and those that failed."""
        return [run for run in self.plan.runs if self.state(run) != "done"]

    def keep(self, run: Run, outcome: Outcome) -> None:
        """Store a run that has ended, its row last, and bring the table up to date."""
        notebook = f"runs/{run.name}.ipynb" if outcome.notebook else ""
        if notebook:
            self._write(notebook, outcome.notebook.encode())
        row = Row(
            name=run.name,
            chapter=self.plan.chapter,
            values=run.values,
            status="failed" if outcome.error else "done",
            error=outcome.error,
            notebook=notebook,
            seconds=outcome.seconds,
            results=outcome.results,
            provenance=outcome.provenance,
        )
        self._write(f"runs/{run.name}.json", row.to_json())
        self._rows[run.name] = row
        self._write_table()

    def publish(self) -> None:
        """Write the table and the page."""
        self._write_table()
        self._write("index.html", sweep_page.page(self.plan, self.rows, self._folder).encode())

    def _write_table(self) -> None:
        for name, content in sweep_table.files(self.rows).items():
            self._write(name, content)

    def _write(self, name: str, content: bytes) -> None:
        try:
            with replacing(self._folder / name) as file:
                file.write(content)
        except OSError as error:
            raise _unwritable(self._folder, error) from error


def folder_of(book: Path, chapter: str, folder: Path | None = None) -> Path:
    """Where a sweep of a chapter goes: ``runs/sweep-CHAPTER`` beside the book, if no folder is given.

    Raises:
        FolderError: the folder is in the book, with its records.
    """
    folder = (folder or book.parent / "runs" / f"sweep-{chapter}").resolve()
    if folder.is_relative_to(book.resolve()):
        raise FolderError(f"the folder must be outside {book} and its records, got {folder}")
    return folder


def listing(plan: Plan, folder: Path) -> list[dict[str, str]]:
    """The runs of a sweep in words: values, and whether each is done, failed or missing."""
    results = Results(plan, folder)
    return [
        {name: str(value) for name, value in run.asked.items()} | {"status": results.state(run)}
        for run in plan.runs
    ]


def estimate(
    plan: Plan,
    folder: Path,
    book: Path,
    *,
    workers: int | None = None,
    threads: int | None = None,
    scheduler: str | None = None,
) -> str:
    """How long the missing runs of a sweep take, in words, judging by the record of the chapter."""
    waiting = len(Results(plan, folder).waiting())
    words = f"{len(plan.runs)} runs, {waiting} of them to be made"
    record = book / f"{plan.chapter}.ipynb"
    facts = provenance.stored(chapters.read_record(record)) if record.is_file() else None
    if not facts:
        return f"{words}; {plan.chapter} has no record that would tell how long one takes"
    seconds, taken = facts["seconds"], _duration(facts["seconds"])
    if scheduler:
        total, where = seconds * waiting, "of one worker's time"
    else:
        workers = min(workers or _workers(threads), max(1, waiting))
        total = seconds * math.ceil(waiting / workers)
        where = f"on {workers} worker{'s' if workers > 1 else ''}"
    return f"{words}: about {_duration(total)} {where}, if each takes the {taken} of the record"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def sweep(
    plan: Plan,
    folder: Path,
    *,
    workers: int | None = None,
    threads: int | None = None,
    scheduler: str | None = None,
    progress: bool | None = None,
) -> list[Row]:
    """Run what is missing of a sweep, and write its table and its page.

    Args:
        plan: what is to run.
        folder: where everything goes; made if it is not there.
        workers: runs at a time on this machine; if not given, as many as keep all cores at work.
        threads: of each run; if not given, the runs that are made at a time share the cores.
        scheduler: the address of a Dask scheduler, whose workers take the runs instead, with the threads
            that their environment says if none are given here.
        progress: whether to show a bar; ``None`` shows it on a terminal only.

    Returns:
        The rows of all runs, in the order of the plan.

    Raises:
        SweepError: another sweep writes into the folder, the folder cannot be written, or the scheduler
            cannot be reached; what has ended is stored all the same.
    """
    with _alone_in(folder):
        results = Results(plan, folder)
        try:
            if waiting := results.waiting():
                workers = min(workers or _workers(threads), len(waiting))
                if not scheduler:
                    threads = threads or max(1, CPU_COUNT // workers)
                with _engine(workers, scheduler) as client:
                    _run(waiting, threads, results, client, progress)
        except (CancelledError, OSError) as error:
            raise SweepError(f"Dask answers no more; the same command goes on: {error}") from error
        finally:
            if results.rows:
                results.publish()
    return results.rows


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; the system releases it even if this process is killed."""
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise SweepError(
            f"another sweep is writing into {folder}: wait for its end, or name another folder with -o"
        ) from None
    except OSError as error:
        raise _unwritable(folder, error) from error
    with held:
        for place in (folder, folder / "runs"):
            remove_leftovers(place)
        yield


def _unwritable(folder: Path, error: OSError) -> SweepError:
    return SweepError(f"{folder} cannot be written: {error}")


def _workers(threads: int | None) -> int:
    """How many runs of so many threads keep all cores at work."""
    return max(1, CPU_COUNT // (threads or 1))


@contextmanager
def _engine(workers: int, scheduler: str | None) -> Iterator[Client]:
    """A client of the scheduler.

    Without an address, a scheduler and its workers are made here. They listen on the loopback address only.
    """
    if scheduler:
        try:
            client = Client(scheduler, timeout=ANSWER_SECONDS)
        except (OSError, ValueError) as error:
            raise SweepError(f"no Dask scheduler answers at {scheduler}: {error}") from error
        with silence_logging_cmgr(logging.CRITICAL), client:
            yield client
        return
    with (
        dask.config.set(UNWATCHED),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=0,  # the memory is in the processes of the runs, which Dask does not see
            preload=[DEAF],
            host="127.0.0.1",
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _run(
    runs: Sequence[Run], threads: int | None, results: Results, client: Client, progress: bool | None
) -> None:
    """Make the runs, show how far they are, and keep each as soon as it has ended.

    A worker is given one run at a time: when it dies, Dask counts that against every run it was given.
    """
    plan, waiting, futures, failed = results.plan, deque(runs), {}, []
    ended: deque[tuple[Run, Outcome]] = deque()
    total, root, token = len(plan.runs), str(plan.book.parent.resolve()), uuid.uuid4().hex[:8]
    counts = {"total": total, "initial": total - len(runs), "unit": "run", "smoothing": 0}
    with tqdm(desc=plan.chapter, **counts, disable=None if progress is None else not progress) as bar:

        def keep_ended() -> None:
            while ended:
                run, outcome = ended[0]
                results.keep(run, outcome)
                ended.popleft()
                if outcome.error:
                    failed.append(run)
                    bar.write(f"failed: {run}: {outcome.error}", file=sys.stderr)
                bar.update()

        try:
            while waiting or futures:
                slots = sum(client.nthreads().values())
                while waiting and len(futures) < slots:
                    run = waiting.popleft()
                    job = Job(plan.chapter, plan.text, run.values, plan.package, threads, root)
                    futures[client.submit(execute, job, key=f"{plan.chapter}-{run.name}-{token}")] = run
                running = f"{len(futures)} running" if slots else "no worker has come yet"
                bar.set_postfix_str(f"{running}, {len(failed)} failed", refresh=sys.stderr.isatty())
                for future in _ended(list(futures)):
                    ended.append((futures[future], _outcome(future)))
                    del futures[future]
                    future.release()  # or Dask makes it again, should the worker that has it die
                keep_ended()
        finally:  # what has ended while an interrupt was on its way is not lost
            ended.extend((run, _outcome(f)) for f, run in futures.items() if f.status == "finished")
            keep_ended()
        bar.set_postfix_str(f"0 running, {len(failed)} failed")


def _ended(futures: Sequence[Future]) -> set[Future]:
    """Those that have ended, after a while at most: there may be none."""
    if not futures:
        time.sleep(REFRESH_SECONDS)
        return set()
    try:
        return wait(futures, timeout=REFRESH_SECONDS, return_when="FIRST_COMPLETED").done
    except TimeoutError:
        return set()


def _outcome(future: Future) -> Outcome:
    """What became of a run, if its worker could not tell, too."""
    try:
        return future.result()
    except CancelledError:
        raise
    except KilledWorker as error:
        return worker_died(error.allowed_failures + 1)  # a scheduler that allows fewer failures than a sweep
    except Exception as error:  # whatever happened on another machine
        return Outcome(error=f"{type(error).__name__}: {error}".strip().splitlines()[-1])
