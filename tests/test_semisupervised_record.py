"""The recorder of the semi-supervised table: it resumes, keeps provenance, and what is kept is whole."""

import importlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from vaebook import data
from vaebook import semisupervised as semi

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def recorder(monkeypatch):
    """The recorder, with two methods that take no time: one always says 0, the other knows the truth."""
    monkeypatch.syspath_prepend(FOLDER)
    module = importlib.import_module("semi_supervised")
    done = []

    def zeros(run):
        done.append(run)
        return np.zeros(10_000, dtype=int), np.zeros(10_000, dtype=int)

    def truth(run):
        done.append(run)
        return module.mnist().validation.labels.numpy(), module.mnist().test.labels.numpy()

    monkeypatch.setattr(module, "METHODS", {"zeros": zeros, "M1 + truth": truth})
    module.done = done
    return module


def test_every_run_is_one_row_with_its_errors_and_provenance(recorder, tmp_path):
    path = tmp_path / "folder" / "table.csv"
    recorder.main(
        ["--methods", "zeros", "M1 + truth", "--draws", "2", "--m1-seeds", "5", "6", f"--output={path}"]
    )
    table = pd.read_csv(path)
    assert list(table.columns[:4]) == ["method", "labels", "draw", "m1_seed"]
    assert len(table) == 2 * (1 + 2)
    zeros = table[table["method"] == "zeros"]
    assert set(zeros["m1_seed"]) == {recorder.NO_M1}
    assert zeros["test_error"].unique() == [100 - 100 * 980 / 10_000]  # the test set has 980 zeros
    assert (table.loc[table["method"] == "M1 + truth", ["validation_error", "test_error"]] == 0).all(
        axis=None
    )
    facts = json.loads(path.with_suffix(".json").read_text())
    assert set(table["invocation"]) == set(facts)
    assert next(iter(facts.values()))["data"] == {"mnist": data.load("mnist").checksum}


def test_what_is_in_the_table_is_not_run_again(recorder, tmp_path):
    path = tmp_path / "table.csv"
    recorder.main(["--methods", "zeros", "--draws", "2", f"--output={path}"])
    recorder.main(["--methods", "zeros", "--draws", "3", "--labels", "100", "600", f"--output={path}"])
    assert [(run.labels, run.draw) for run in recorder.done] == [
        *((100, draw) for draw in (0, 1)),
        *((100, 2), (600, 0), (600, 1), (600, 2)),
    ]
    table = pd.read_csv(path)
    assert len(table) == 6
    assert not table.duplicated(["method", "labels", "draw", "m1_seed"]).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "105"], "multiples of 10 below 50,000, got 105"),
        (["--labels", "0"], "got 0"),
        (["--draws", "0"], "--draws must be 1 or more, got 0"),
        (["--methods", "zero"], "invalid choice: 'zero'"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(recorder, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit):
        recorder.main([*arguments, f"--output={tmp_path / 'table.csv'}"])
    assert message in capsys.readouterr().err
    assert not recorder.done


def test_a_draw_of_labels_is_the_same_for_all_methods_and_holds_every_class(recorder):
    first, second = (recorder.Run(method, 100, 7, -1).labelled() for method in ("zeros", "M1 + truth"))
    assert first.tolist() == second.tolist()
    assert np.bincount(recorder.mnist().train.labels[first]).tolist() == [10] * 10


def test_the_record_is_whole(recorder):
    table = pd.read_csv(recorder.TABLE)
    facts = json.loads(recorder.TABLE.with_suffix(".json").read_text())
    assert set(table["invocation"]) <= set(facts)
    assert not table.duplicated(["method", "labels", "draw", "m1_seed"]).any()
    assert table[["validation_error", "test_error"]].stack().between(0, 90).all()
    assert set(table["labels"]) <= {100, 600, 1000, 3000}
    assert ((table["m1_seed"] == recorder.NO_M1) == ~table["method"].str.contains("M1")).all()


def test_neighbours_are_neighbours_of_each_other(recorder):
    on_a_line = np.array([[0.0], [1.0], [3.0], [7.0]])
    graph = recorder.near_neighbours(on_a_line, 1).toarray()
    assert graph.tolist() == [[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0]]


@pytest.fixture
def watcher(monkeypatch):
    """The recorder of error against time, on few images and for two epochs."""
    monkeypatch.syspath_prepend(FOLDER)
    module = importlib.import_module("semi_supervised_time")
    torch.manual_seed(0)
    few = data.Split(torch.randint(256, (300, 1, 28, 28), dtype=torch.uint8), torch.arange(300) % 10, 255)
    monkeypatch.setattr(module.table, "mnist", lambda: data.DataSet("mnist", (), "0", few, few, few))
    for name in ("PIXEL_EPOCHS", "STACK_EPOCHS"):
        monkeypatch.setattr(module.table, name, 2)
    features = semi.Features(module.table.untrained_m1(), threshold=0.0).fit(few.x())
    monkeypatch.setattr(module.table, "m1", lambda seed: features)
    monkeypatch.setattr(module, "seconds_of_m1", lambda: 100.0)
    monkeypatch.setattr(module, "CODES", 2)
    return module


def test_courses_have_a_row_an_epoch_and_the_models_are_judged(watcher, tmp_path):
    path = tmp_path / "time.csv"
    methods = ["M2", "M2, paper's objective", "M1+M2"]
    watcher.main(["--methods", *methods, f"--output={path}"])
    table, beside = pd.read_csv(path), json.loads(path.with_suffix(".json").read_text())
    assert table["method"].tolist() == [name for name in methods for _ in range(2)]
    assert (table.groupby("method")["seconds"].diff().dropna() >= 0).all()
    assert ((table["seconds"] >= 100) == (table["method"] == "M1+M2")).all()
    assert table["validation_error"].between(0, 100).all()
    assert set(beside["ends"]) == set(methods)
    for end in beside["ends"].values():
        assert 0 <= end["bayes_error"] <= 100
        assert np.isfinite(end["lead"])
    assert beside["seconds_of_m1"] == 100
    assert beside["provenance"]["commit"]
