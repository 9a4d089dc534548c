"""Mutation tests: small errors are made on purpose, and each must turn a test or a check of the book red.

``mutants.toml`` lists the errors. A mutant replaces a text that occurs once in a file of the library or in
a chapter, and names its killers, who must all notice: tests, or ``CHAPTER.md::TEXT``. Of a chapter, the code
cells up to the first one that contains TEXT are executed, and a ``check`` must fail on the way.

    python tests/mutants.py                             all of them; exit status 1 unless each is killed
    python tests/mutants.py kl-normal-without-half      only some
    python tests/mutants.py --list                      what there is

Nothing is carried over from one run to the next: each has its own copy of the project, and its own process,
into which PyTorch and the like are loaded already, but nothing of this project.
"""

import argparse
import contextlib
import difflib
import io
import multiprocessing
import os
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
CATALOGUE = Path(__file__).with_suffix(".toml")
COPIED = ("pyproject.toml", "vaebook", "tests", "book/conftest.py", "book/text")
CONTEXT = multiprocessing.get_context("forkserver")
PRELOADED = [  # what takes long to load
    *("IPython", "jupytext", "papermill", "pytest", "hypothesis.strategies", "sympy", "pandas"),
    *("torch", "torch._dynamo", "torch.distributed.tensor", "torchvision.datasets", "matplotlib.pyplot"),
    *("scipy.integrate", "scipy.optimize", "scipy.stats", "sklearn.linear_model", "sklearn.model_selection"),
]
ENVIRONMENT = {
    "MPLBACKEND": "Agg",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "TQDM_DISABLE": "1",
}
SECONDS = 300  # the longest that one run may take, and end in

Parameters = Mapping[str, Mapping[str, object]]
"""The parameters with which a chapter is executed where not with its own, by the chapter's path."""


@dataclass(frozen=True)
class Mutant:
    """An error: ``new`` takes the place of ``old`` in ``file``, and each of ``killers`` must notice."""

    name: str
    file: str
    old: str
    new: str
    killers: tuple[str, ...]

    def apply(self, project: Path) -> str | None:
        """Make the error in a copy of the project; returns what makes the mutant stale, if anything."""
        path = project / self.file
        text = path.read_text("utf-8") if path.is_file() else ""
        if text.count(self.old) != 1:
            return f"its text occurs {text.count(self.old)} times in {self.file}, not once"
        path.write_text(text.replace(self.old, self.new), "utf-8")
        return None


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: ``killed``, ``survived``, ``stale``, or ``broken`` if nobody can say."""

    state: str
    detail: str
    output: str = ""  # the end of what was said on the way

    @property
    def explained(self) -> str:
        """The detail, and the output where people need it: the outcome is none that was asked for."""
        return f"{self.detail}\n{self.output}".rstrip()


def read_catalogue() -> tuple[list[Mutant], Parameters]:
    """Read ``mutants.toml``."""
    content = tomllib.loads(CATALOGUE.read_text("utf-8"))
    mutants = [
        Mutant(name, entry["file"], entry["old"], entry["new"], tuple(entry["killers"]))
        for name, entry in content["mutants"].items()
    ]
    return mutants, content.get("parameters", {})


def run(mutants: Sequence[Mutant], parameters: Parameters) -> bool:
    """Try mutants, two at a time, and print a line for each of their killers.

    Returns:
        Whether all were killed, and their killers have nothing to say without them.
    """
    pairs = [(mutant, killer) for mutant in mutants for killer in mutant.killers]
    by_file: dict[str, list[str]] = {}
    for killer in dict.fromkeys(killer for _, killer in pairs):
        by_file.setdefault(_file(killer), []).append(killer)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    CONTEXT.set_forkserver_preload(PRELOADED)
    with patch.dict(os.environ, environment | ENVIRONMENT, clear=True), ThreadPoolExecutor(2) as pool:
        unmutated = pool.map(lambda killers: _try(None, killers, parameters), by_file.values())
        if red := [outcome for outcome in unmutated if outcome.state != "survived"]:
            print("red without any mutant:", *(outcome.explained for outcome in red), sep="\n")
            return False
        outcomes = pool.map(lambda pair: _try(pair[0], [pair[1]], parameters), pairs)
        width = max(len(mutant.name) for mutant in mutants)
        killed = 0
        for (mutant, _), outcome in zip(pairs, outcomes, strict=True):
            killed += outcome.state == "killed"
            verb = {"killed": "by ", "survived": "despite "}.get(outcome.state, "")
            detail = outcome.explained if outcome.state == "broken" else outcome.detail
            print(f"{outcome.state:8}  {mutant.name:{width}}  {verb}{detail}", flush=True)
    print(f"{killed} of {len(pairs)} killed")
    return killed == len(pairs)


def _file(killer: str) -> str:
    return killer.partition("::")[0]


def _try(mutant: Mutant | None, killers: Sequence[str], parameters: Parameters) -> Outcome:
    """Let killers that share a file loose on a copy of the project, with a mutant in it or without."""
    with _copy_of_project() as project:
        if mutant and (problem := mutant.apply(project)):
            return Outcome("stale", problem)
        receiver, sender = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=_work, args=(sender, project, killers, parameters))
        process.start()
        sender.close()
        try:
            if not receiver.poll(SECONDS):
                return Outcome("broken", f"{killers[0]} did not end within {SECONDS} s")
            outcome = receiver.recv()
            process.join(SECONDS)
            return outcome
        except EOFError:
            return Outcome("broken", f"{killers[0]} took its process down")
        finally:
            process.kill()
            process.join()


@contextlib.contextmanager
def _copy_of_project() -> Iterator[Path]:
    with TemporaryDirectory(prefix="mutant-") as folder:
        for name in COPIED:
            source, target = ROOT / name, Path(folder, name)
            target.parent.mkdir(exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        yield Path(folder)


def _work(sender: Connection, project: Path, killers: Sequence[str], parameters: Parameters) -> None:
    """What happens in the process of its own."""
    os.chdir(project)
    sys.path.insert(0, str(project))
    os.environ["PYTHONPATH"] = str(project)
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        import vaebook

        assert Path(vaebook.__file__).is_relative_to(project), f"imported {vaebook.__file__}, not the copy"
        path = _file(killers[0])
        if path.endswith(".md"):
            texts = [killer.partition("::")[2] for killer in killers]
            outcome = _run_chapter(path, texts, parameters.get(path, {}))
        else:
            outcome = _run_tests(killers)
    sender.send(replace(outcome, output=output.getvalue()[-3000:]))


class _Listener:
    """A pytest plugin that remembers which tests failed."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


def _run_tests(killers: Sequence[str]) -> Outcome:
    import hypothesis
    import pytest

    # the same examples each time, and none that fails because the machine is busy
    hypothesis.settings.register_profile("mutants", derandomize=True, deadline=None, database=None)
    hypothesis.settings.load_profile("mutants")
    listener = _Listener()
    code = pytest.ExitCode(
        pytest.main(["-x", "-p", "no:cacheprovider", "-p", "no:xdist", *killers], plugins=[listener])
    )
    match code:
        case pytest.ExitCode.OK:
            return Outcome("survived", " ".join(killers))
        case pytest.ExitCode.TESTS_FAILED:
            return Outcome("killed", listener.failed[0])
    return Outcome("broken", f"pytest {' '.join(killers)} ended with {code.name}")


def _run_chapter(path: str, texts: Sequence[str], parameters: Mapping[str, object]) -> Outcome:
    import jupytext

    from vaebook.checks import CheckFailedError

    cells = [cell for cell in jupytext.read(path, fmt="md:myst").cells if cell.cell_type == "code"]
    places = [next((i for i, cell in enumerate(cells) if text in cell.source), None) for text in texts]
    if None in places:
        return Outcome("stale", f"no code cell of {path} contains {texts[places.index(None)]!r}")
    namespace = {"__name__": "__main__", "In": [""]}  # In is IPython's, for validate()
    for number, cell in enumerate(cells[: max(places) + 1], start=1):
        namespace["In"].append(cell.source)
        try:
            exec(compile(cell.source, f"{path}, code cell {number}", "exec"), namespace)
        except CheckFailedError as error:
            statement, _, _ = str(error).rpartition(": ")
            return Outcome("killed", f"{path}, check {statement!r}")
        except Exception as error:
            return Outcome("broken", f"{path}, code cell {number}: {type(error).__name__}: {error}")
        if "parameters" in cell.metadata.get("tags", []):
            namespace |= parameters
    return Outcome("survived", f"{path}, up to {' and '.join(map(repr, texts))}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Make small errors in copies of the project; each must turn a test or a check red."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these mutants; all if none is named")
    parser.add_argument("--list", action="store_true", help="list the mutants and run nothing")
    options = parser.parse_args(arguments)
    mutants, parameters = read_catalogue()
    known = {mutant.name: mutant for mutant in mutants}
    for name in options.names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            parser.error(f"unknown mutant {name!r}; {hint}--list names all")
    chosen = [known[name] for name in options.names] or mutants
    if options.list:
        for mutant in chosen:
            print(f"{mutant.name}  in {mutant.file}, for {', '.join(mutant.killers)}")
        return 0
    return 0 if run(chosen, parameters) else 1


if __name__ == "__main__":
    sys.exit(main())
