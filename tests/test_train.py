import math

import pytest
import torch
from torch import nn

from vaebook import train


@pytest.fixture
def regression():
    """A linear network, its data in batches, and its losses."""
    torch.manual_seed(0)
    x = torch.randn(100, 3)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.3
    model = nn.Linear(3, 1)

    def losses(batch):
        inputs, targets = batch
        return {"loss": (model(inputs) - targets).square().mean()}

    return model, list(zip(x.split(32), y.split(32), strict=True)), losses


def test_fit_learns_and_returns_one_row_an_epoch(regression):
    model, batches, losses = regression
    step = train.gradient_step(losses, torch.optim.Adam(model.parameters(), lr=0.1), precision="float32")
    history = train.fit(step, batches, epochs=60)
    assert list(history.index) == list(range(1, 61))
    assert history.index.name == "epoch"
    assert history["loss"].iloc[-1] < 1e-3 < history["loss"].iloc[0]
    torch.testing.assert_close(model.bias.detach(), torch.tensor([0.3]), atol=0.05, rtol=0)


def test_bfloat16_reaches_the_same_solution_with_float32_weights(regression):
    model, batches, losses = regression
    step = train.gradient_step(losses, torch.optim.Adam(model.parameters(), lr=0.1), precision="bfloat16")
    history = train.fit(step, batches, epochs=60)
    assert history["loss"].iloc[-1] < 1e-2
    assert model.weight.dtype == torch.float32


def test_auto_is_one_of_the_two(regression, monkeypatch):
    model, batches, losses = regression
    seen = []

    def watched(batch):
        seen.append(torch.is_autocast_enabled("cpu"))
        return losses(batch)

    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for fast in (True, False):
        monkeypatch.setattr(train, "has_fast_bfloat16", lambda device, fast=fast: fast)
        train.gradient_step(watched, optimizer)(batches[0])
    assert seen == [True, False]


def test_same_seed_gives_the_same_weights():
    def weights():
        torch.manual_seed(3)
        model = nn.Linear(4, 4)
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        step = train.gradient_step(lambda x: {"loss": model(x).square().mean()}, optimizer)
        train.fit(step, torch.randn(64, 4).split(16), epochs=3)
        return model.weight.detach()

    assert torch.equal(weights(), weights())


def test_every_example_weighs_the_same_in_the_history():
    batches = [torch.zeros(3, 1), torch.ones(1, 1)]
    assert train.mean_over(batches, lambda batch: {"value": batch.mean()}) == {"value": pytest.approx(0.25)}
    assert train.evaluate(lambda batch: {"value": batch[:, 0]}, batches) == {"value": pytest.approx(0.25)}


def test_evaluate_keeps_no_gradient(regression):
    model, batches, losses = regression
    seen = []
    train.evaluate(lambda batch: seen.append(losses(batch)["loss"]) or {"loss": seen[-1]}, batches)
    assert not any(loss.requires_grad for loss in seen)
    assert model.weight.grad is None


def test_validation_joins_the_history():
    history = train.fit(
        lambda x: {"loss": x.mean()}, [torch.ones(2)], epochs=2, validate=lambda: {"loss": 7, "error": 0.5}
    )
    assert list(history.columns) == ["loss", "validation loss", "validation error"]
    assert history["validation loss"].tolist() == [7.0, 7.0]


def test_any_step_will_do_two_optimisers_for_instance():
    calls = []

    def step(batch):
        calls.append(len(batch))
        return {"first": batch.sum(), "second": -batch.sum()}

    history = train.fit(step, [torch.ones(2), torch.ones(3)], epochs=2)
    assert calls == [2, 3, 2, 3]
    assert list(history.columns) == ["first", "second"]


def test_divergence_is_reported_with_its_epoch_and_advice():
    losses = iter([1.0, math.nan])

    def step(x):
        return {"loss": torch.tensor(next(losses)), "kl": torch.tensor(2.0)}

    with pytest.raises(FloatingPointError, match=r"diverged in epoch 2: loss nan, kl 2; try a smaller"):
        train.fit(step, [torch.ones(1)], epochs=5)


@pytest.mark.parametrize("epochs", [0, -1, 1.5])
def test_epochs_must_be_a_positive_integer(epochs):
    with pytest.raises(ValueError, match=f"epochs must be a positive integer, got {epochs}"):
        train.fit(lambda x: {"loss": x.mean()}, [torch.ones(1)], epochs)


def test_no_batches_is_an_error():
    with pytest.raises(ValueError, match="no batch to go over"):
        train.fit(lambda x: {"loss": x.mean()}, [], epochs=1)


def test_unknown_precision():
    with pytest.raises(ValueError, match="unknown precision 'float8'; known: auto, bfloat16, float32"):
        train.gradient_step(lambda x: {}, None, precision="float8")


def test_progress_is_shown_when_asked_for_and_not_when_recorded(capsys):
    def step(x):
        return {"loss": x.mean()}

    train.fit(step, [torch.ones(4)], epochs=1)
    assert capsys.readouterr().err == ""
    train.fit(step, [torch.ones(4)], epochs=1, progress=True)
    shown = capsys.readouterr().err
    assert "epoch 1/1" in shown
    assert "loss 1" in shown
