"""Makes ``pytest --nbval book/`` verify the chapters: tolerant of rounding, strict about everything else.

nbval runs the cells. Added here are the check of a record before it is run (``vaebook.gates``),
the comparison of its outputs (``vaebook.compare``), and that no cell passes which was not run and compared.
"""

from collections import Counter
from functools import cached_property

import pytest
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, RunningKernel
from nbval.plugin import IPyNbCell, IPyNbFile

from vaebook import chapters, compare, gates, needs, notebooks


def pytest_configure(config):
    """Refuse to spread the cells of a chapter over several kernels."""
    if config.getoption("dist", "no") not in ("no", "loadfile", "loadscope"):
        raise pytest.UsageError("the cells of a chapter share a kernel: add --dist loadfile")


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    """Collect our chapters in place of nbval's notebooks, and texts that have no record."""
    collectors = yield
    if any(isinstance(collector, IPyNbFile) for collector in collectors):
        return [Chapter.from_parent(parent, path=file_path)]
    if parent.config.option.nbval and file_path.match("text/*.md"):
        record = file_path.parents[1] / f"{file_path.stem}.ipynb"
        return [] if record.is_file() else [Unrecorded.from_parent(parent, path=file_path)]
    return collectors


class Unrecorded(pytest.File):
    """A text without a record, for which the gate fails."""

    def collect(self):
        yield Gate.from_parent(self, name="Record")


class Chapter(IPyNbFile):
    """A record: the gate, then the code cells in one kernel of the environment that pytest runs in."""

    unfinished = None  # the cell whose end was not seen: what comes after it cannot be trusted

    @cached_property
    def unavailable(self):
        """Why the chapter cannot be run here, for want of data; empty where it can."""
        return needs.unavailable(chapters.read_record(self.path))

    def setup(self):
        with notebooks.kernel_environment():
            start = notebooks.starting_again(Kernel)
            self.kernel = start(CURRENT_ENV_KERNEL_NAME, cwd=str(self.path.parent))

    def collect(self):
        yield Gate.from_parent(self, name="Record")
        try:
            chapters.read_record(self.path)
        except chapters.NotebookError:
            return  # the gate says so
        for number, cell in enumerate(super().collect(), start=1):
            yield Cell.from_parent(
                self, name=f"Cell {number}", cell_num=number, cell=cell.cell, options=OPTIONS
            )


class Kernel(RunningKernel):
    """A kernel with a history, like the one that made the record: chapters find their parameters there."""

    def execute_cell_input(self, cell_input, allow_stdin=None):
        return self.kc.execute(cell_input, allow_stdin=allow_stdin, stop_on_error=False)


class Gate(pytest.Item):
    """What can be said about a record without running it."""

    def runtest(self):
        book = self.path.parents[1] if isinstance(self.parent, Unrecorded) else self.path.parent
        found = gates.problems(book, self.path.stem)
        if found:
            pytest.fail("\n".join(found), pytrace=False)

    def reportinfo(self):
        return self.path, 0, f"the record of {self.path.stem}"


OPTIONS = {"skip": False, "check": True, "check_exception": False}  # nbval's own marks have no say


class Cell(IPyNbCell):
    """A code cell: run, and compared with its record."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.output_timeout = 60
        self.unrun = self.cell.execution_count is None
        self.cell.execution_count = self.cell.execution_count or 0  # nbval compares no cell without a count

    def setup(self):
        """Nothing: nbval would mark the cells after a timeout as expected failures, which count as none."""

    def runtest(self):
        if self.parent.unfinished:
            pytest.fail(f"not run, because {self.parent.unfinished} did not finish", pytrace=False)
        if self.parent.unavailable:
            self.user_properties.append(("unavailable", self.parent.unavailable))
            pytest.skip(self.parent.unavailable)
        if "nbval-skip" in self.cell.metadata.get("tags", []):
            pytest.skip(self.cell.metadata.get("reason", "no reason given"))
        self.parent.unfinished = self.name
        super().runtest()

    def compare_outputs(self, test, ref, skip_compare=None):
        self.parent.unfinished = None
        compared = compare.is_compared(self.cell.metadata)
        found = compare.compare_outputs(
            ref if compared else test, test, compare.tolerance(self.cell.metadata)
        )
        if self.unrun:
            found.append("was never executed when it was recorded")
        if found:
            pytest.fail("\n".join([*found, "", self.cell.source]), pytrace=False)
        if compared:
            self.user_properties.append(("verified", dict(compare.count(ref))))
        return True

    def repr_failure(self, excinfo):
        failed_by_us = isinstance(excinfo.value, pytest.fail.Exception)
        return str(excinfo.value) if failed_by_us else super().repr_failure(excinfo)


def pytest_terminal_summary(terminalreporter):
    """Say how much was verified, in chapters in which nothing failed, and which lacked their data."""
    stats = terminalreporter.stats
    unavailable = {
        report.nodeid.split("::")[0]: reason
        for report in stats.get("skipped", [])
        for kind, reason in report.user_properties
        if kind == "unavailable"
    }
    for chapter, reason in unavailable.items():
        lines = [line.strip() for line in reason.splitlines()]
        terminalreporter.write_line(f"skipped {chapter}: {'; '.join(lines)}")
    failed = {report.nodeid.split("::")[0] for key in ("failed", "error") for report in stats.get(key, [])}
    left_out = failed | set(unavailable)
    passed = [report for report in stats.get("passed", []) if report.nodeid.split("::")[0] not in left_out]
    chapters = {report.nodeid.split("::")[0] for report in passed if report.nodeid.endswith("::Record")}
    total = Counter()
    for report in passed:
        total.update(dict(report.user_properties).get("verified", {}))
    skipped = sum(report.nodeid.split("::")[0] in chapters for report in stats.get("skipped", []))
    counts = ", ".join(quantity(total[f"{noun}s"], noun) for noun in ("number", "table", "figure"))
    note = f" ({quantity(skipped, 'cell')} skipped)" if skipped else ""
    terminalreporter.write_line(f"verified {counts} in {quantity(len(chapters), 'chapter')}{note}")


def quantity(number, noun):
    """``2, "table"`` as ``2 tables``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
