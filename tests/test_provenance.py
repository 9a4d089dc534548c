import json
import re
import subprocess
import time
from importlib.metadata import version
from types import SimpleNamespace

import nbformat
import pytest
import torch

from vaebook import provenance

INPUTS = [
    "",
    "latent_dim: int = 20  # dimensions of the code, in [1, 784]\nseed: int = 0  # seed\n",
    "1 + 1",
]
VALUES = {"latent_dim": 2, "seed": 7}
DATA = SimpleNamespace(name="mnist", checksum="0123abcd")
CHAPTER = """\
---
quick: {seed: 7}
---

# Seeded

```{code-cell} python
:tags: [parameters]
seed: int = 0  # seed
```

```{code-cell} python
from vaebook.parameters import validate
from vaebook.provenance import provenance
validate(In, globals())
```

```{code-cell} python
:tags: [provenance]
provenance(In, globals())
```
"""


def test_facts_say_what_a_rerun_needs(monkeypatch):
    monkeypatch.setattr(provenance, "_started", time.monotonic() - 60)
    facts = provenance.collect(INPUTS, VALUES, [DATA])
    assert json.loads(json.dumps(facts)) == facts
    assert facts["parameters"] == VALUES
    assert facts["seed"] == 7
    assert facts["data"] == {"mnist": "0123abcd"}
    assert facts["packages"]["torch"] == version("torch")
    assert facts["threads"] == torch.get_num_threads()
    assert facts["seconds"] == pytest.approx(60, abs=5)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", facts["recorded"])


def test_the_table_says_the_same_in_words():
    facts = provenance.collect(INPUTS, VALUES, [DATA])
    rows = provenance.in_words(facts | {"seconds": 12.34, "threads": None})
    assert rows["parameters"] == "latent_dim = 2, seed = 7"
    assert rows["data"] == "mnist (checksum 0123abcd)"
    assert f"torch {version('torch')}" in rows["packages"]
    assert rows["threads"] == "torch is not in use"
    assert rows["wall time"] == "12 s"


def test_a_chapter_without_parameters_and_data_says_so():
    rows = provenance.in_words(provenance.collect(["", "1 + 1"], {}))
    assert rows["parameters"] == rows["data"] == "none"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout that the module believes to be part of; returns what the commit is called in words."""
    for name in ("vaebook/a.py", "benchmarks/a.csv", "book/sample.ipynb", "book/text/sample.md", "README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "vaebook" / "provenance.py"))
    return tmp_path, lambda: provenance.commit_in_words(provenance.collect(INPUTS, VALUES))


def test_a_commit_is_named(checkout):
    _, commit = checkout
    assert re.fullmatch("[0-9a-f]{12}", commit())


@pytest.mark.parametrize(
    "name", ["vaebook/a.py", "vaebook/new.py", "book/text/sample.md", "benchmarks/a.py", "constraints.txt"]
)
def test_a_commit_is_named_with_changes_of_what_results_follow_from(checkout, name):
    root, commit = checkout
    (root / name).write_text("after")
    assert re.fullmatch("[0-9a-f]{12} with changes", commit())


@pytest.mark.parametrize(
    "name", ["book/sample.ipynb", "book/second.ipynb", "benchmarks/a.csv", "README.md", "runs.txt"]
)
def test_records_and_what_has_no_part_in_results_are_no_changes(checkout, name):
    root, commit = checkout
    (root / name).write_text("after")
    assert re.fullmatch("[0-9a-f]{12}", commit())


def test_outside_a_git_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    facts = provenance.collect(INPUTS, VALUES)
    assert facts["commit"] is facts["clean"] is None
    assert provenance.commit_in_words(facts) == "not in a git checkout"


def test_a_record_keeps_the_facts_behind_a_folded_table(empty_book):
    empty_book.write("sample", CHAPTER)
    record = nbformat.read(empty_book.record("sample"), as_version=4)
    (output,) = record.cells[-1].outputs
    assert output.data["text/html"].startswith(
        '<details class="provenance"><summary>Provenance</summary><table>'
    )
    facts = provenance.stored(record)
    assert facts["parameters"] == {"seed": 0}
    assert facts["threads"] is None
    assert provenance.in_words(facts)["commit"] in output.data["text/html"]


def test_a_record_without_facts_has_none(book):
    assert provenance.stored(book.read("sample")) is None


def test_the_table_is_escaped(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda table, metadata: shown.append(table.data))
    provenance.provenance(INPUTS, {"latent_dim": "<b>", "seed": 7})
    assert "&lt;b&gt;" in shown[0]
