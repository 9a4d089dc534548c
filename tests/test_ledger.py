import re
from pathlib import Path

import pytest
import yaml

from vaebook import ledger

ROOT = Path(__file__).parent.parent
LEDGER = ROOT / "book" / "sources.yml"
DOCUMENTS = ROOT.parent / "shared" / "sources"
ROW = {"at": "eq. 1", "kind": "equation", "says": "a", "here": "b", "found": "c", "verdict": "reproduced"}


def write(path: Path, *rows: dict, equations=("1",)) -> Path:
    inventory = {"equations": list(equations), "figures": [], "tables": []}
    path.write_text(yaml.safe_dump({"author": {"inventory": inventory, "rows": list(rows)}}))
    return path


def test_every_equation_figure_and_table_of_the_five_sources_has_a_row():
    sources = ledger.read(LEDGER)
    assert [source.key for source in sources] == [
        "nguyenchinh2019",
        "long2022",
        "bhatt2018",
        "shan2020",
        "ryu",
    ]
    assert sum(len(items) for source in sources for items in source.inventory.values()) > 100


@pytest.mark.skipif(not DOCUMENTS.is_dir(), reason="the source documents are not beside this checkout")
@pytest.mark.parametrize(
    ("number", "key", "kind", "pattern"),
    [
        ("000", "nguyenchinh2019", "figures", r"^Figure (\d\.\d\.\d):"),
        ("000", "nguyenchinh2019", "equations", r"\((1\.\d+)\)\s*$"),
        ("001", "long2022", "figures", r"^Figure 0\.(\d+) "),
        ("002", "bhatt2018", "figures", r"^Fig\. (\d)\."),
        ("002", "bhatt2018", "equations", r"\((\d)\)\$*\s*$"),
    ],
)
def test_the_inventory_is_that_of_the_document(number, key, kind, pattern):
    text = next(DOCUMENTS.glob(f"{number}_*.txt")).read_text("utf-8")
    found = {match.strip() for match in re.findall(pattern, text, re.MULTILINE)}
    if key == "long2022":
        found = {f"12.{figure}" for figure in found}
    inventory = {source.key: source.inventory for source in ledger.read(LEDGER)}[key][kind]
    assert found
    assert found <= set(inventory)


def test_an_item_without_a_row_is_refused(tmp_path):
    path = write(tmp_path / "a.yml", ROW | {"covers": ["1"]}, equations=["1", "2"])
    with pytest.raises(ValueError, match="author: 2 of its equations has no row in the ledger"):
        ledger.read(path)


def test_a_row_for_an_unknown_item_is_refused(tmp_path):
    path = write(tmp_path / "a.yml", ROW | {"covers": ["1", "9"]})
    with pytest.raises(ValueError, match="a row covers 9, which is not among its equations"):
        ledger.read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "true"}, "unknown verdict 'true'; known: reproduced, corrected"),
        ({"kind": "poem"}, "unknown kind 'poem'; known: equation"),
        ({"here": ""}, "must not be empty"),
        ({"verdict": "corrected", "found": ""}, "does not say what was found"),
        ({"found": ""}, "reproduced, but it does not say what was found"),
    ],
)
def test_a_row_that_is_not_whole_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        ledger.read(write(tmp_path / "a.yml", ROW | {"covers": ["1"]} | change))


def test_the_table_has_a_line_for_each_row(tmp_path):
    [source] = ledger.read(write(tmp_path / "a.yml", ROW | {"covers": ["1"]}))
    assert ledger.table(source).splitlines()[2:] == ["| eq. 1 | a | b | c | reproduced |"]
    assert source.counts() == {"reproduced": 1}
