"""The runner of the mutation tests, and what it must not take for a success. ``make mutants`` runs them."""

import re

import mutants
import pytest

CATALOGUE = """
[mutants.wrong]
file = "vaebook/parameters.py"
old = 'if base == "bool":'
new = 'if base == "int":'
killers = ["tests/test_parameters.py"]

[mutants.wrong-formula]
file = "book/text/kl_divergence.md"
old = "words_for_fair, words_for_loaded = -fair.log(), -loaded.log()"
new = "words_for_fair, words_for_loaded = -fair.log(), loaded.log()"
killers = ["book/text/kl_divergence.md::the excess of the mean code length"]

[mutants.another-comment]
file = "vaebook/parameters.py"
old = "  # papermill's mark"
new = "  # the mark of papermill"
killers = ["tests/test_parameters.py"]

[mutants.another-word]
file = "book/text/kl_divergence.md"
old = "the divergence is the excess"
new = "the divergence is exactly the excess"
killers = ["book/text/kl_divergence.md::the excess of the mean code length"]

[mutants.half-noticed]
file = "vaebook/parameters.py"
old = 'if base == "str":'
new = 'if base == "int":'
killers = ["tests/test_parameters.py", "tests/test_nets.py"]

[mutants.text-gone]
file = "vaebook/parameters.py"
old = "a text that was there before"
new = ""
killers = ["tests/test_parameters.py"]

[mutants.text-twice]
file = "vaebook/parameters.py"
old = "ParameterError"
new = "ValueError"
killers = ["tests/test_parameters.py"]

[mutants.file-gone]
file = "vaebook/parameter.py"
old = "import ast"
new = ""
killers = ["tests/test_parameters.py"]

[mutants.syntax-error]
file = "vaebook/parameters.py"
old = "import ast"
new = "import"
killers = ["tests/test_parameters.py"]

[mutants.crash-before-the-check]
file = "book/text/kl_divergence.md"
old = "words_for_fair, words_for_loaded = -fair.log(), -loaded.log()"
new = "words_for_fair, words_for_loaded = 1 / 0"
killers = ["book/text/kl_divergence.md::the excess of the mean code length"]

[mutants.sudden-end]
file = "vaebook/parameters.py"
old = "import ast"
new = "import ast, os; os._exit(0)"
killers = ["tests/test_parameters.py"]
"""
MUTANT = """
[mutants.any]
file = "vaebook/parameters.py"
old = "import ast"
new = "import"
killers = ["{killer}"]
"""


@pytest.fixture
def catalogue(tmp_path, monkeypatch):
    """Puts another catalogue in the place of the real one."""

    def write(text: str) -> None:
        (tmp_path / "mutants.toml").write_text(text, "utf-8")
        monkeypatch.setattr(mutants, "CATALOGUE", tmp_path / "mutants.toml")

    return write


def test_only_a_red_test_or_check_kills_a_mutant(catalogue, capsys):
    catalogue(CATALOGUE)
    files = {path: path.read_bytes() for path in mutants.ROOT.joinpath("vaebook").glob("*.py")}
    assert mutants.main([]) == 1
    output = capsys.readouterr().out
    found = re.findall(r"^(killed|survived|stale|broken) +([\w-]+) +(.*)$", output, re.MULTILINE)
    assert [(name, state) for state, name, _ in found] == [
        ("wrong", "killed"),
        ("wrong-formula", "killed"),
        ("another-comment", "survived"),
        ("another-word", "survived"),
        ("half-noticed", "killed"),
        ("half-noticed", "survived"),
        ("text-gone", "stale"),
        ("text-twice", "stale"),
        ("file-gone", "stale"),
        ("syntax-error", "broken"),
        ("crash-before-the-check", "broken"),
        ("sudden-end", "broken"),
    ]
    details = [detail for _, _, detail in found]
    assert details[0].startswith("by tests/test_parameters.py::test_")
    check = "'the divergence is the excess of the mean code length'"
    assert details[1] == f"by book/text/kl_divergence.md, check {check}"
    assert details[2] == "despite tests/test_parameters.py"
    assert details[5] == "despite tests/test_nets.py"
    assert details[6] == "its text occurs 0 times in vaebook/parameters.py, not once"
    assert details[7].startswith("its text occurs ")
    assert "pytest tests/test_parameters.py ended with" in details[9]
    assert "ZeroDivisionError: division by zero" in details[10]
    assert details[11] == "tests/test_parameters.py took its process down"
    assert output.endswith("\n3 of 12 killed\n")
    assert files == {path: path.read_bytes() for path in files}


def test_when_all_are_killed_the_exit_status_is_0(catalogue, capsys):
    catalogue(CATALOGUE)
    assert mutants.main(["wrong"]) == 0
    assert capsys.readouterr().out.endswith("\n1 of 1 killed\n")


@pytest.mark.parametrize(
    ("killer", "problem"),
    [
        ("tests/test_nothing.py", "pytest tests/test_nothing.py ended with USAGE_ERROR"),
        ("tests/test_parameters.py::test_gone", "ended with USAGE_ERROR"),
        ("book/text/kl_divergence.md::gone", "no code cell of book/text/kl_divergence.md contains 'gone'"),
    ],
)
def test_a_killer_that_is_red_already_counts_for_nothing(catalogue, capsys, killer, problem):
    catalogue(MUTANT.format(killer=killer))
    assert mutants.main([]) == 1
    heading, first, *_ = capsys.readouterr().out.splitlines()
    assert heading == "red without any mutant:"
    assert problem in first


def test_a_killer_that_is_red_already_says_why(catalogue, capsys, tmp_path):
    red = tmp_path / "test_red.py"
    red.write_text("def test_red():\n    assert 1 == 2\n", "utf-8")
    catalogue(MUTANT.format(killer=red))
    assert mutants.main([]) == 1
    assert "assert 1 == 2" in capsys.readouterr().out


def test_an_unknown_name_is_refused_with_a_guess(capsys):
    with pytest.raises(SystemExit) as caught:
        mutants.main(["kl-normal-without-halve"])
    assert caught.value.code == 2
    message = "unknown mutant 'kl-normal-without-halve'; did you mean 'kl-normal-without-half'?"
    assert message in capsys.readouterr().err


def test_the_list_has_a_line_for_each_mutant(capsys):
    assert mutants.main(["--list"]) == 0
    known, _ = mutants.read_catalogue()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [mutant.name for mutant in known]


KNOWN, _ = mutants.read_catalogue()


@pytest.mark.parametrize("mutant", KNOWN, ids=[mutant.name for mutant in KNOWN])
def test_a_mutant_changes_one_place_and_has_a_killer(mutant):
    assert (mutants.ROOT / mutant.file).read_text("utf-8").count(mutant.old) == 1
    assert mutant.old != mutant.new
    assert mutant.killers
    for killer in mutant.killers:
        path, _, words = killer.partition("::")
        text = (mutants.ROOT / path).read_text("utf-8")
        assert words in text or path.endswith(".py"), f"{path} has no check with these words"
