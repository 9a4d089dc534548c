import re
from importlib.metadata import version
from types import SimpleNamespace

import torch

from vaebook import provenance

INPUTS = [
    "",
    "latent_dim: int = 20  # dimensions of the code, in [1, 784]\nname: str = 'x'  # a name\n",
    "1 + 1",
]


def test_rows_say_what_a_rerun_needs():
    data = SimpleNamespace(name="mnist", checksum="0123abcd")
    rows = provenance.collect(INPUTS, {"latent_dim": 2, "name": "digits"}, [data])
    assert rows["parameters"] == "latent_dim = 2, name = 'digits'"
    assert rows["data"] == "mnist (checksum 0123abcd)"
    assert f"torch {version('torch')}" in rows["packages"]
    assert re.fullmatch(r"[0-9a-f]{12}( with changes)?|not in a git checkout", rows["commit"])
    assert rows["threads"] == str(torch.get_num_threads())
    assert re.fullmatch(r"\d+ s", rows["wall time"])


def test_a_chapter_without_data_says_so():
    assert provenance.collect(INPUTS, {"latent_dim": 2, "name": "digits"})["data"] == "none"


def test_outside_a_git_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    rows = provenance.collect(INPUTS, {"latent_dim": 2, "name": "digits"})
    assert rows["commit"] == "not in a git checkout"


def test_the_table_is_folded_and_escaped(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    provenance.provenance(INPUTS, {"latent_dim": 2, "name": "<b>"})
    assert shown[0].data.startswith('<details class="provenance"><summary>Provenance</summary><table>')
    assert "&lt;b&gt;" in shown[0].data
