import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from vaebook import train
from vaebook.checkpoints import Checkpoint, CheckpointError

SCRIPT = Path(__file__).with_name("resumable_run.py")


def run(folder: Path, patience: int, moment: str) -> int:
    command = [sys.executable, SCRIPT, folder / "run.pt", folder / "result.pt", str(patience), moment]
    return subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=120).returncode


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What runs end with that nobody kills, by their patience."""
    results = {}
    for patience in (3, 5):
        folder = tmp_path_factory.mktemp("uninterrupted")
        assert run(folder, patience, "never") == 0
        results[patience] = torch.load(folder / "result.pt")
    return results


def test_the_impatient_run_stops_early_and_the_patient_one_does_not(uninterrupted):
    assert {patience: len(result["history"]["loss"]) for patience, result in uninterrupted.items()} == {
        3: 4,
        5: 5,
    }


def equal(first: dict, second: dict) -> bool:
    weights = [result["weights"] for result in (first, second)]
    same = all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    return same and first["history"] == second["history"]


# An epoch has six batches, a save one fsync and one replace.
@pytest.mark.parametrize(
    ("patience", "moments"),
    [
        (3, ["batch 9"]),
        (3, ["fsync 3"]),
        (3, ["replace 4"]),
        (3, ["replace 2", "batch 8", "fsync 1"]),
        (5, ["batch 9"]),
    ],
)
def test_a_run_that_was_killed_ends_with_the_same_weights_bit_by_bit(
    tmp_path, uninterrupted, patience, moments
):
    for moment in moments:
        assert run(tmp_path, patience, moment) == -signal.SIGKILL
        assert not (tmp_path / "result.pt").exists()
    assert run(tmp_path, patience, "never") == 0
    assert equal(torch.load(tmp_path / "result.pt"), uninterrupted[patience])


def test_a_finished_run_trains_no_further(tmp_path, uninterrupted):
    for moment in ("never", "batch 1"):  # the second time there is no batch at which to die
        assert run(tmp_path, 3, moment) == 0
    assert equal(torch.load(tmp_path / "result.pt"), uninterrupted[3])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Linear(2, 2)


def saved(path, model, settings=None, **parts):
    checkpoint = Checkpoint(path, settings or {"latent_dim": 2}, model=model, **parts)
    checkpoint.save([{"loss": 1.5}])
    return checkpoint


def test_weights_generator_random_state_and_history_come_back(tmp_path, model):
    generator = torch.Generator().manual_seed(5)
    checkpoint = saved(tmp_path / "new folder" / "run.pt", model, generator=generator)
    before = model.weight.detach().clone()
    expected = torch.randn(3), torch.randn(3, generator=generator)
    nn.init.zeros_(model.weight)
    assert checkpoint.restore() == [{"loss": 1.5}]
    assert torch.equal(model.weight, before)
    assert torch.equal(torch.randn(3), expected[0])
    assert torch.equal(torch.randn(3, generator=generator), expected[1])


def test_no_file_is_a_fresh_start(tmp_path, model):
    assert Checkpoint(tmp_path / "run.pt", {}, model=model).restore() == []


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"\x80\x02garbage", pickle.dumps({"weights": 1}, protocol=2)]
)
def test_a_damaged_file_is_refused(tmp_path, model, content):
    path = tmp_path / "run.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="no checkpoint, or damaged: delete it to start over"):
        Checkpoint(path, {}, model=model).restore()


def test_every_truncation_is_refused(tmp_path, model):
    path = tmp_path / "run.pt"
    checkpoint = saved(path, model)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint.restore()


class Payload:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


def test_nothing_in_the_file_is_executed(tmp_path, model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "settings": Payload()}, "run.pt")
    with pytest.raises(CheckpointError, match="damaged"):
        Checkpoint("run.pt", {}, model=model).restore()
    assert not Path("executed").exists()


def test_a_run_with_other_settings_is_refused_and_nothing_is_changed(tmp_path, model):
    path = tmp_path / "run.pt"
    saved(path, model, {"latent_dim": 2, "seed": 0})
    before = nn.init.ones_(model.weight).clone()
    with pytest.raises(
        CheckpointError, match=r"other settings: latent_dim 2 there, 20 here, seed only there"
    ):
        Checkpoint(path, {"latent_dim": 20}, model=model).restore()
    assert torch.equal(model.weight, before)


def test_other_parts_are_refused(tmp_path, model):
    path = tmp_path / "run.pt"
    saved(path, model)
    with pytest.raises(CheckpointError, match="other parts: generator only here"):
        Checkpoint(path, {"latent_dim": 2}, model=model, generator=torch.Generator()).restore()


def test_a_model_of_another_shape_is_refused(tmp_path, model):
    path = tmp_path / "run.pt"
    saved(path, model)
    with pytest.raises(CheckpointError, match=r"run\.pt does not fit model: .*Linear"):
        Checkpoint(path, {"latent_dim": 2}, model=nn.Linear(3, 2)).restore()


def test_a_file_of_another_version_is_refused(tmp_path, model):
    torch.save({"format": 2}, tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match="has format 2, this version reads 1"):
        Checkpoint(tmp_path / "run.pt", {}, model=model).restore()


def test_a_full_disk_leaves_the_last_checkpoint_untouched(tmp_path, model, monkeypatch):
    path = tmp_path / "run.pt"
    checkpoint = saved(path, model)
    whole = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save([{"loss": 1.5}, {"loss": 1.0}])
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


def test_a_part_without_a_state_is_refused_at_the_door(tmp_path, model):
    with pytest.raises(TypeError, match="step has no state that could be kept: function"):
        Checkpoint(tmp_path / "run.pt", {}, model=model, step=lambda x: x)


@pytest.mark.parametrize("forgotten", ["schedule", "stop", "generator of the batches"])
def test_fit_refuses_a_checkpoint_that_forgets_what_it_uses(tmp_path, model, forgotten):
    optimizer = torch.optim.Adam(model.parameters())

    class Batches(list):
        generator = torch.Generator()

    batches = Batches([torch.ones(4, 2)])
    used = {
        "schedule": torch.optim.lr_scheduler.ConstantLR(optimizer),
        "stop": train.EarlyStopping(model, "loss"),
    }
    parts = used | {"generator of the batches": batches.generator}
    del parts[forgotten]
    step = train.gradient_step(lambda x: {"loss": model(x).square().mean()}, optimizer)
    with pytest.raises(ValueError, match=f"the checkpoint must keep the {forgotten}, too"):
        train.fit(step, batches, 2, checkpoint=Checkpoint(tmp_path / "run.pt", {}, **parts), **used)
