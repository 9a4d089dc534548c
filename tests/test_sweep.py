import os
import select
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager, nullcontext

import dask
import pandas as pd
import psutil
import pytest
from distributed import Client, LocalCluster
from filelock import FileLock

from vaebook import sweep, sweep_plan
from vaebook.__main__ import NO_SWEEP
from vaebook.sweep import SweepError

COUNTING = """\
---
quick: {number: 2}
---

# Counting

```{code-cell} python
:tags: [parameters]
number: int = 1  # what is inverted, in [0, 99]
place: str = ""  # a folder, for notes of what has run
gated: int = 99  # the number that waits at the gate, in [0, 99]
```

```{code-cell} python
import os
from pathlib import Path
import psutil
from vaebook.checks import report
from vaebook.parameters import validate
validate(In, globals())
with Path(place, "log").open("a") as log:
    print(number, file=log)
if number == gated:
    Path(place, "started").write_text(f"{os.getpid()}\\n")
    os.read(os.open(Path(place, "go"), os.O_RDONLY), 1)
if number == 4:
    os.kill(os.getpid(), 9)
if number == 5:
    psutil.Process().parent().parent().kill()
```

```{code-cell} python
report(inverse=1 / (3 - number), threads=int(os.environ["OMP_NUM_THREADS"]))
```
"""
SHOWING = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
PATIENCE = 120  # seconds until a test gives up what it waits for


class Gate:
    """Where a run tells the process of its kernel, and waits to be let on."""

    def __init__(self, place):
        paths = [place / "started", place / "go"]
        for path in paths:
            os.mkfifo(path)
        self.started, self.go = (os.open(path, os.O_RDWR) for path in paths)

    def kernel(self) -> psutil.Process:
        """The next kernel that has come to the gate."""
        assert select.select([self.started], [], [], PATIENCE)[0], "no run has come to the gate"
        return psutil.Process(int(os.read(self.started, 20).split()[0]))

    def open(self) -> None:
        os.write(self.go, b"!")


class Place:
    """A book with one chapter, a folder for notes, and a folder for the results."""

    def __init__(self, book):
        self.book, self.notes, self.results = book, book.root / "notes", book.root / "results"
        self.notes.mkdir()
        book.write("sample", COUNTING)

    def plan(self, *numbers):
        words = {"number": [str(number) for number in numbers], "place": [str(self.notes)]}
        return sweep_plan.plan(self.book.folder, "sample", words)

    def log(self) -> list[int]:
        path = self.notes / "log"
        return sorted(map(int, path.read_text().split())) if path.exists() else []

    def table(self) -> pd.DataFrame:
        return pd.read_csv(self.results / "results.csv", keep_default_na=False)

    @contextmanager
    def command(self, *numbers, workers=1, gated, scheduler=None):
        """The command line in a process of its own."""
        arguments = ["-p", "number", *numbers, "-p", "place", self.notes, "-p", "gated", gated]
        arguments += ["-o", self.results]
        arguments += ["--scheduler", scheduler] if scheduler else ["--workers", workers]
        command = [sys.executable, "-m", "vaebook", "sweep", "sample", *map(str, arguments)]
        options = {"cwd": self.book.root, "env": SHOWING, "stderr": subprocess.PIPE, "text": True}
        options["preexec_fn"] = hear_interrupts
        with subprocess.Popen(command, start_new_session=True, **options) as process:
            try:
                yield process
            finally:
                process.kill()


def hear_interrupts():
    """A shell has its background jobs ignore SIGINT, and what they start does, too, unless it is told."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def read_until(process, words) -> str:
    """What a process says on stderr, up to some words of it."""
    said = ""
    while words not in said:
        letter = process.stderr.read(1)
        assert letter, f"{words!r} was never said: {said}"
        said += letter
    return said


@pytest.fixture
def place(empty_book):
    return Place(empty_book)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_book):
    """A sweep with runs that succeed, fail, lose their kernel, and lose every worker."""
    place = Place(make_book(tmp_path_factory.mktemp("finished")))
    rows = sweep.sweep(place.plan(1, 2, 3, 4, 5), place.results, workers=2)
    return place, rows


def test_every_run_is_a_row_whatever_became_of_it(finished):
    place, rows = finished
    assert [(row.values["number"], row.status, row.error) for row in rows] == [
        (1, "done", ""),
        (2, "done", ""),
        (3, "failed", "code cell 4 failed: ZeroDivisionError: division by zero"),
        (4, "failed", "the kernel died; it may have run out of memory"),
        (5, "failed", "its worker died, 2 times; is the memory enough?"),
    ]
    assert [row.results.get("inverse") for row in rows] == [0.5, 1.0, None, None, None]
    assert place.table()["inverse"].tolist() == ["0.5", "1.0", "", "", ""]
    assert "3 failed" in (place.results / "index.html").read_text("utf-8")


def test_a_run_whose_worker_died_is_tried_again_once(finished):
    assert finished[0].log().count(5) == 2


def test_each_run_has_its_notebook_and_its_share_of_the_cores(finished):
    place, rows = finished
    assert [bool(row.notebook) for row in rows] == [True, True, True, True, False]
    assert all((place.results / row.notebook).is_file() for row in rows[:4])
    assert "ZeroDivisionError" in (place.results / rows[2].notebook).read_text("utf-8")
    assert rows[0].results["threads"] == max(1, sweep.CPU_COUNT // 2) == rows[0].provenance["threads"]


@pytest.mark.parametrize(
    ("runs", "asked", "made"),
    [
        (6, {}, (6, 1)),
        (20, {}, (8, 1)),
        (6, {"workers": 2}, (2, 4)),
        (3, {"workers": 16}, (3, 2)),
        (1, {}, (1, 8)),
        (6, {"threads": 3}, (2, 3)),
        (6, {"threads": 9}, (1, 9)),
        (6, {"workers": 5, "threads": 3}, (5, 3)),
    ],
)
def test_runs_share_the_cores(place, monkeypatch, runs, asked, made):
    found = []
    monkeypatch.setattr(sweep, "CPU_COUNT", 8)
    monkeypatch.setattr(sweep, "_engine", lambda workers, _: nullcontext(workers))
    monkeypatch.setattr(sweep, "_run", lambda _, threads, __, workers, ___: found.append((workers, threads)))
    sweep.sweep(place.plan(*range(10, 10 + runs)), place.results, **asked)
    assert found == [made]


def test_a_run_that_kills_its_worker_takes_no_other_with_it(place):
    rows = sweep.sweep(place.plan(5, 1, 2), place.results, workers=1)
    assert [row.status for row in rows] == ["failed", "done", "done"]
    assert place.log() == [1, 2, 5, 5]


def test_only_what_is_missing_runs(place):
    first = sweep.sweep(place.plan(1), place.results)
    assert place.log() == [1]
    again = sweep.sweep(place.plan(1, 3), place.results)
    assert place.log() == [1, 3]
    assert again[0] == first[0]
    sweep.sweep(place.plan(1), place.results)
    sweep.sweep(place.plan(1, 3), place.results)  # a failed run is tried again
    assert place.log() == [1, 3, 3]


def test_a_changed_chapter_runs_again(place):
    sweep.sweep(place.plan(1), place.results)
    place.book.write("sample", COUNTING.replace("1 / (3 - number)", "2 / (3 - number)"))
    assert sweep.sweep(place.plan(1), place.results)[0].results["inverse"] == 1.0
    assert place.log() == [1, 1]


def test_a_run_whose_files_are_damaged_is_missing(finished):
    place, _ = finished
    results = sweep.Results(place.plan(1, 2), place.results)
    assert [results.state(run) for run in place.plan(1, 2).runs] == ["done", "done"]
    copies = {path: path.read_bytes() for path in (place.results / "runs").glob("number=2-*")}
    notebook, row = sorted(copies)
    try:
        row.write_text("{")
        assert len(sweep.Results(place.plan(1, 2), place.results).waiting()) == 1
        row.write_bytes(copies[row])
        notebook.unlink()
        assert len(sweep.Results(place.plan(1, 2), place.results).waiting()) == 1
    finally:
        for path, content in copies.items():
            path.write_bytes(content)


def test_a_killed_sweep_loses_no_finished_run_and_leaves_no_process(place):
    gate = Gate(place.notes)
    with place.command(1, 2, gated=2) as process:
        read_until(process, "1/2")
        kernel = gate.kernel()
        family = [kernel, *kernel.parents()[:2], *psutil.Process(process.pid).children(recursive=True)]
        with pytest.raises(SweepError, match=r"another sweep is writing into .*results: wait for its"):
            sweep.sweep(place.plan(1), place.results)
        process.kill()
    assert psutil.wait_procs(family, timeout=PATIENCE)[1] == []
    assert place.table()["number"].tolist() == [1]
    leftover = place.results / "runs" / f".number=1.json.{process.pid}"  # as if it had been killed in a write
    leftover.write_text("{")

    gate.open()
    with place.command(1, 2, gated=2) as process:
        assert process.wait(PATIENCE) == 0
    assert place.log() == [1, 2, 2]
    assert place.table()["number"].tolist() == [1, 2]
    assert not leftover.exists()


def test_a_run_that_ends_while_an_interrupt_comes_is_kept(place, monkeypatch):
    ended = sweep._ended

    def interrupted(futures):
        if ended(futures):
            raise KeyboardInterrupt
        return set()

    monkeypatch.setattr(sweep, "_ended", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep.sweep(place.plan(1), place.results)
    assert place.table()["number"].tolist() == [1]


def test_a_run_that_an_interrupt_finds_half_kept_is_kept(place, monkeypatch):
    keep, interrupts = sweep.Results.keep, [KeyboardInterrupt()]

    def interrupted(*arguments):
        if interrupts:
            raise interrupts.pop()
        keep(*arguments)

    monkeypatch.setattr(sweep.Results, "keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep.sweep(place.plan(1), place.results)
    assert place.table()["number"].tolist() == [1]


def test_an_interrupted_sweep_says_how_to_go_on(place):
    gate = Gate(place.notes)
    with place.command(1, 2, gated=2) as process:
        read_until(process, "1/2")
        kernel = gate.kernel()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        said = process.communicate(timeout=PATIENCE)[1]
        assert process.returncode == 130
    message = f"vaebook: interrupted; the same command goes on from what is in {place.results}\n"
    assert said.endswith(message)
    assert "Traceback" not in said
    assert psutil.wait_procs([kernel], timeout=PATIENCE)[1] == []
    assert place.table()["status"].tolist() == ["done"]
    assert "1 of 2 runs done" in (place.results / "index.html").read_text("utf-8")


def test_a_killed_worker_costs_no_run(place):
    gate = Gate(place.notes)
    with place.command(1, 2, workers=2, gated=2) as process:
        gate.kernel().parent().parent().kill()
        gate.kernel()
        gate.open()
        said = process.communicate(timeout=PATIENCE)[1]
        assert process.returncode == 0, said
    assert place.log() == [1, 2, 2]
    assert place.table()["status"].tolist() == ["done", "done"]
    assert "2/2" in said
    assert "0 running, 0 failed" in said


def test_two_sweeps_into_one_folder_are_refused(place):
    place.results.mkdir()
    with (
        FileLock(place.results / ".lock"),
        pytest.raises(SweepError, match=r"another sweep is writing into .*results: wait for its"),
    ):
        sweep.sweep(place.plan(1), place.results)
    assert place.log() == []


def test_a_folder_that_cannot_be_written_is_one_message(place):
    place.results.write_text("a file")
    with pytest.raises(SweepError, match=r"results cannot be written: .*Not a directory"):
        sweep.sweep(place.plan(1), place.results)


@contextmanager
def cluster(folder):
    """A scheduler and two workers, processes of their own; the scheduler and its address."""
    with ExitStack() as stack:

        def start(tool, *arguments):
            command = [sys.executable, "-m", f"distributed.cli.dask_{tool}", *arguments, "--no-dashboard"]
            process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.terminate)
            return process

        scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0")
        address = (
            read_until(scheduler, "Scheduler at:").join(["", ""]) and scheduler.stderr.readline().strip()
        )
        for name in ("one", "two"):
            start("worker", address, "--name", name, "--nthreads", "1", "--local-directory", str(folder))
        with Client(address) as client:
            client.wait_for_workers(2, timeout=PATIENCE)
        yield scheduler, address


def test_workers_elsewhere_give_the_same_table(finished, tmp_path):
    place, _ = finished
    with cluster(tmp_path) as (_, address):
        rows = sweep.sweep(place.plan(1, 2, 3), tmp_path / "results", scheduler=address)
    assert [row.status for row in rows] == ["done", "done", "failed"]
    moment = ["seconds", "recorded", "threads", "provenance_threads", "commit"]
    here, there = (
        pd.read_parquet(folder / "results.parquet").drop(columns=moment)
        for folder in (place.results, tmp_path / "results")
    )
    pd.testing.assert_frame_equal(here.head(3), there)


def test_workers_elsewhere_try_a_run_whose_worker_died_once_more(place, tmp_path):
    with cluster(tmp_path) as (_, address):
        for _ in range(2):  # each time the sweep is started
            rows = sweep.sweep(place.plan(5, 1), tmp_path / "results", scheduler=address)
            assert [row.error for row in rows] == ["its worker died, 2 times; is the memory enough?", ""]
    assert place.log() == [1, 5, 5, 5, 5]


def test_a_scheduler_may_allow_fewer_failures_than_a_sweep(place):
    strict = {"allowed_failures": 0}
    with LocalCluster(n_workers=1, threads_per_worker=1, scheduler_kwargs=strict) as cluster:
        (row,) = sweep.sweep(place.plan(5), place.results, scheduler=cluster.scheduler_address)
    assert row.error == "its worker died, once; is the memory enough?"
    assert place.log() == [5]


def test_workers_elsewhere_give_up_the_runs_of_a_sweep_that_is_gone(place, tmp_path):
    gate = Gate(place.notes)
    with cluster(tmp_path) as (_, address), place.command(1, 2, gated=2, scheduler=address) as process:
        read_until(process, "1/2")
        kernel = gate.kernel()
        process.kill()
        assert psutil.wait_procs([kernel], timeout=PATIENCE / 4)[1] == []  # it takes a second or two
    assert place.table()["number"].tolist() == [1]


def test_a_scheduler_that_dies_is_one_message_and_costs_no_finished_run(place, tmp_path):
    gate = Gate(place.notes)
    with (
        cluster(tmp_path) as (scheduler, address),
        place.command(1, 2, gated=2, scheduler=address) as process,
    ):
        read_until(process, "1/2")
        gate.kernel()
        scheduler.kill()
        said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == NO_SWEEP
    assert "vaebook: Dask answers no more; the same command goes on" in said
    assert "Traceback" not in said
    assert place.table()["number"].tolist() == [1]


def test_a_scheduler_without_workers_is_told_from_one_that_works(place, monkeypatch):
    said = []

    class Alone:
        def nthreads(self):
            if said:
                raise KeyboardInterrupt
            return {}

    monkeypatch.setattr(sweep, "REFRESH_SECONDS", 0)
    monkeypatch.setattr(sweep, "_engine", lambda *_: nullcontext(Alone()))
    monkeypatch.setattr(sweep.tqdm, "set_postfix_str", lambda _, words, **__: said.append(words))
    with pytest.raises(KeyboardInterrupt):
        sweep.sweep(place.plan(1), place.results, scheduler="tcp://a:1")
    assert said == ["no worker has come yet, 0 failed"]
    assert place.log() == []


def test_a_scheduler_that_does_not_answer_is_one_message(place, monkeypatch):
    monkeypatch.setattr(sweep, "ANSWER_SECONDS", 0.2)
    with pytest.raises(SweepError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9: "):
        sweep.sweep(place.plan(1), place.results, scheduler="tcp://127.0.0.1:9")


def test_the_engine_listens_on_the_loopback_address_only(monkeypatch, place):
    addresses = []

    def look(*_):
        family = [psutil.Process(), *psutil.Process().children(recursive=True)]
        addresses.extend(c.laddr.ip for p in family for c in p.net_connections() if c.status == "LISTEN")

    monkeypatch.setattr(sweep, "_run", look)
    sweep.sweep(place.plan(1), place.results)
    assert addresses
    assert set(addresses) == {"127.0.0.1"}


def test_workers_do_not_watch_themselves():
    before = {key: dask.config.get(key) for key in sweep.UNWATCHED}
    with sweep._engine(1, None) as client:
        for key, value in sweep.UNWATCHED.items():
            assert [*client.run(dask.config.get, key).values()] == [value]
        assert [info["memory_limit"] for info in client.scheduler_info()["workers"].values()] == [0]
    assert {key: dask.config.get(key) for key in sweep.UNWATCHED} == before  # Dask has these settings


def test_a_sweep_is_listed_and_its_time_estimated_without_running(finished):
    place, _ = finished
    plan = place.plan(1, 3, 7)
    assert [(row["number"], row["status"]) for row in sweep.listing(plan, place.results)] == [
        ("1", "done"),
        ("3", "failed"),
        ("7", "missing"),
    ]
    assert sweep.estimate(plan, place.results, place.book.folder).startswith("3 runs, 2 of them to be made; ")
    assert 7 not in place.log()


def test_the_folder_is_beside_the_book_and_never_in_it(empty_book):
    assert sweep.folder_of(empty_book.folder, "sample") == empty_book.root / "runs" / "sweep-sample"
    with pytest.raises(sweep.FolderError, match=r"the folder must be outside .*book and its records, got"):
        sweep.folder_of(empty_book.folder, "sample", empty_book.folder / "sweeps")
