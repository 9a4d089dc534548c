import io
import math

import pandas as pd
import pytest

from vaebook import sweep_table
from vaebook.sweep_table import Row

FACTS = {
    "parameters": {},
    "seed": None,
    "data": {"mnist": "0123abc"},
    "packages": {"vaebook": "0.1.0"},
    "python": "3.11.7",
    "commit": "abcdef",
    "clean": False,
    "processor": "one, 2 cores",
    "threads": 1,
    "seconds": 2.0,
    "recorded": "2026-01-02T03:04:05+00:00",
    "host": "here",
}


def row(number, **more):
    return Row(f"number={number}", "sample", {"number": number, "rate": 1.0}, **{"status": "done"} | more)


def test_parameters_status_results_and_provenance_are_columns():
    rows = [
        row(1, status="failed", error="division by zero", provenance=FACTS),
        row(2, seconds=1.5, notebook="runs/2.ipynb", results={"bound": 108.4}, provenance=FACTS),
        row(3, status="failed", error="its worker died"),
    ]
    columns = sweep_table.columns(rows)
    assert columns["number"] == [1, 2, 3]
    assert columns["status"] == ["failed", "done", "failed"]
    assert columns["error"] == ["division by zero", "", "its worker died"]
    assert columns["bound"] == [None, 108.4, None]
    assert columns["data"] == ["mnist (checksum 0123abc)"] * 2 + [None]
    assert columns["commit"][0] == "abcdef with changes"
    assert columns["host"] == ["here", "here", None]
    assert list(sweep_table.groups(rows)) == ["parameter", "run", "result", "provenance"]


def test_a_name_that_is_taken_gets_its_group_before_it():
    rows = [row(1, results={"number": 7, "status": 8, "threads": 9, "rate": 1.0}, provenance=FACTS)]
    columns = sweep_table.columns(rows)
    assert [columns[f"result_{name}"] for name in ("number", "status")] == [[7], [8]]
    assert columns["number"] == [1]
    assert columns["threads"] == [9]
    assert columns["provenance_threads"] == [1]
    assert columns["rate"] == [1.0]
    assert "result_rate" not in columns  # it says the same


@pytest.fixture
def written():
    results = [
        {"count": 1, "bound": 1.5, "word": "a", "mixed": 1, "curve": [1.5, 2.5]},
        {},
        {"count": 3, "bound": 2, "word": None, "mixed": "x", "curve": [0.5]},
    ]
    return sweep_table.files([row(n, results=some) for n, some in enumerate(results)])


def test_columns_keep_their_types_where_a_value_is_missing(written):
    table = pd.read_parquet(io.BytesIO(written["results.parquet"]), dtype_backend="pyarrow")
    kinds = {name: str(kind) for name, kind in table.dtypes.items()}
    assert kinds["count"] == "int64[pyarrow]"
    assert kinds["number"] == "int64[pyarrow]"
    assert kinds["rate"] == kinds["bound"] == "double[pyarrow]"
    assert table["count"].isna().tolist() == [False, True, False]
    assert table["mixed"].tolist()[::2] == ["1", "x"]
    assert list(table["curve"][0]) == [1.5, 2.5]


def test_an_immense_integer_is_kept_as_text():
    table = sweep_table.frame([row(1, results={"count": 2**70}), row(2, results={"count": 1})])
    assert table["count"].tolist() == [str(2**70), "1"]


def test_csv_is_the_same_as_text(written):
    lines = written["results.csv"].decode().splitlines()
    assert lines[0].startswith("number,rate,status,error,seconds,notebook,count,bound,word,mixed,curve,")
    assert lines[1].startswith('0,1.0,done,,,,1,1.5,a,1,"[1.5, 2.5]",')
    assert lines[2].startswith("1,1.0,done,,,,,,,,,")


def test_a_row_is_read_as_it_was_written(tmp_path):
    path, kept = tmp_path / "row.json", row(1, results={"curve": [1, 2], "bound": math.inf}, provenance=FACTS)
    path.write_bytes(kept.to_json())
    assert Row.read(path) == kept


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"name": "x"}'])
def test_a_row_that_cannot_be_used_is_none(tmp_path, content):
    path = tmp_path / "row.json"
    if content is not None:
        path.write_text(content)
    assert Row.read(path) is None
