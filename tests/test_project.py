"""The project itself: the floors of its package, its dependencies, and what it promises of its files."""

import ast
import functools
import graphlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import vaebook

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = sorted(path.stem for path in (ROOT / "vaebook").glob("*.py") if path.stem != "__init__")

# A module imports from lower floors only, and any may import what lies in the ground. The door leads in from
# the command line and the chapters: its modules may import any other, but loading them must not load PyTorch,
# which takes seconds.
GROUND = {"arguments", "machine"}
FLOORS = {
    0: {"checks", "clustering", "distributions", "files", "formats", "nets", "numpy_vae", "plots", "train"},
    1: {"autoencoders", "catalogue", "checkpoints", "corruption", "linear_gaussian", "objectives", "vae"},
    2: {"applications", "data", "evidence"},
    3: {"quality", "semisupervised"},
}
DOOR = {
    "__main__",
    "chapters",
    "compare",
    "equations",
    "gates",
    "ledger",
    "markdown",
    "needs",
    "notebooks",
    "pages",
    "parameters",
    "prose",
    "provenance",
    "reads",
    "summary",
    "sweep",
    "sweep_page",
    "sweep_plan",
    "sweep_run",
    "sweep_table",
    "verify",
}


def imports(path: Path) -> set[str]:
    """Dotted names of everything that a file imports, also inside its functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(part for part in ("vaebook" if node.level else "", node.module) if part)
            names |= {f"{package}.{alias.name}" for alias in node.names}
    return names


def siblings(module: str) -> set[str]:
    """The vaebook modules that a vaebook module imports."""
    names = imports(ROOT / "vaebook" / f"{module}.py")
    return {other for other in MODULES for name in names if f"{name}.".startswith(f"vaebook.{other}.")}


def floor(module: str) -> int | None:
    return next((number for number, names in FLOORS.items() if module in names), None)


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_from_lower_floors_only(module: str) -> None:
    if module in DOOR:
        return
    if module in GROUND:
        assert not siblings(module), f"{module} lies in the ground: it may import no other"
        return
    assert floor(module) is not None, f"assign {module} a floor in FLOORS, or to DOOR"
    allowed = {name for number, names in FLOORS.items() if number < floor(module) for name in names}
    forbidden = siblings(module) - allowed - GROUND
    assert not forbidden, f"{module} is on floor {floor(module)}: it may not import {sorted(forbidden)}"


def test_modules_form_no_cycle() -> None:
    graphlib.TopologicalSorter({module: siblings(module) for module in MODULES}).prepare()


def test_importing_the_package_loads_no_module() -> None:
    assert not imports(ROOT / "vaebook" / "__init__.py")


def test_door_modules_load_no_torch() -> None:
    code = """
import importlib, sys
for module in sys.argv[1:]:
    importlib.import_module(f"vaebook.{module}")
    if "torch" in sys.modules:
        sys.exit(f"{module} loads torch; import what needs it inside the function that uses it")
"""
    command = [sys.executable, "-c", code, *sorted(DOOR.intersection(MODULES))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", MODULES)
def test_module_has_a_test_file(module: str) -> None:
    name = "cli" if module == "__main__" else module
    assert (ROOT / "tests" / f"test_{name}.py").exists(), f"add tests/test_{name}.py for vaebook/{module}.py"


def declared(*groups: str) -> dict[str, SpecifierSet]:
    """Name and version range of the package's dependencies and of those of its extras ``groups``."""
    lines = PROJECT["dependencies"] + [
        line for group in groups for line in PROJECT["optional-dependencies"][group]
    ]
    return {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines)}


EVERYTHING = declared("book", "test", "dev", "bench")


@functools.cache
def pins() -> dict[str, SpecifierSet]:
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    return {canonicalize_name(r.name): r.specifier for r in map(Requirement, filter(None, lines))}


def pinned_version(name: str) -> str:
    (specifier,) = pins()[name]
    assert specifier.operator == "==", f"constraints.txt must name one exact version of {name}"
    return specifier.version


@pytest.mark.parametrize("folder", ["vaebook", "tests", "benchmarks", "book"])
def test_third_party_imports_are_declared(folder: str) -> None:
    distributions = importlib.metadata.packages_distributions()
    allowed = declared("book") if folder == "vaebook" else EVERYTHING
    own = {"vaebook", *(path.stem for path in (ROOT / folder).glob("*.py"))}
    for path in (ROOT / folder).glob("*.py"):
        packages = {name.split(".")[0] for name in imports(path)} - sys.stdlib_module_names - own
        for package in packages:
            names = {canonicalize_name(name) for name in distributions.get(package, [package])}
            assert names & set(allowed), (
                f"{path.name} imports {package}: declare {min(names)} in pyproject.toml"
            )


@pytest.mark.parametrize("name", EVERYTHING)
def test_dependency_is_pinned_within_its_range(name: str) -> None:
    assert name in pins(), f"add {name} to constraints.txt"
    assert pinned_version(name) in EVERYTHING[name]


def test_pinned_versions_run_on_the_oldest_python() -> None:
    oldest = PROJECT["requires-python"].removeprefix(">=") + ".0"
    for installed in importlib.metadata.distributions():
        if installed.version in pins().get(canonicalize_name(installed.name), SpecifierSet("==0")):
            supported = SpecifierSet(installed.metadata.get("Requires-Python") or "")
            assert oldest in supported, (
                f"{installed.name} {installed.version} needs Python {supported}: pin an older one"
            )


def test_environment_yml_equals_pyproject() -> None:
    conda_names = {"torch": "pytorch"}  # what conda-forge calls differently
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    *from_conda, from_pip = environment
    assert from_pip["pip"][-1] == "--editable ."
    lines = from_conda + from_pip["pip"][:-1]
    ours = {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines)}
    theirs = {conda_names.get(name, name): specifier for name, specifier in EVERYTHING.items()}
    assert ours == theirs | {"python": SpecifierSet(PROJECT["requires-python"]), "pip": SpecifierSet()}


def test_versions_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["version"] == vaebook.__version__ == citation["version"]
    assert f"## [{vaebook.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_make_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.+)$", makefile, flags=re.M)[1].split())
    listed = set(re.findall(r"^([a-z]+):.*?## \w", makefile, flags=re.M))
    assert phony == listed == set(re.findall(r"^([a-z]+):", makefile, flags=re.M))


def test_no_file_names_a_path_of_one_machine() -> None:
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip(f"not a git checkout: {listing.stderr.strip()}")
    machine_path = re.compile(rb"(?<![\w.~-])/(?:home|root|Users|work)/[\w.-]+|\b[A-Z]:\\Users\\")
    found = []
    for path in map(ROOT.joinpath, listing.stdout.splitlines()):
        content = path.read_bytes() if path.is_file() else b""
        if b"\0" not in content and (match := machine_path.search(content)):
            found.append(f"{path.relative_to(ROOT)}: {match[0].decode()}")
    assert not found, "absolute paths: " + ", ".join(found)
