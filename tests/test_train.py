import math
import shutil
import sysconfig
from pathlib import Path

import pytest
import torch
from torch import nn

from vaebook import data, objectives, train, vae


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
        monkeypatch.setattr(train.machine, "has_fast_bfloat16", lambda device, fast=fast: fast)
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

    with pytest.raises(FloatingPointError, match=r"epoch 2, batch 1: loss nan, kl 2; try a smaller"):
        train.fit(step, [torch.ones(1)], epochs=5)


def test_a_validation_that_is_not_finite_ends_the_training():
    found = iter([1.0, math.nan])
    message = r"validation after epoch 2 found validation loss nan; look for images"
    with pytest.raises(FloatingPointError, match=message):
        train.fit(
            lambda x: {"loss": x.mean()},
            [torch.ones(1)],
            epochs=5,
            validate=lambda: {"loss": next(found)},
        )


def test_divergence_names_the_first_batch_that_is_not_finite():
    values = torch.tensor([1.0, 2.0, math.inf, math.nan])
    with pytest.raises(FloatingPointError, match=r"epoch 1, batch 3: loss inf; .* max_norm"):
        train.fit(lambda x: {"loss": x.sum()}, values.split(1), epochs=1)


def test_the_gradient_is_clipped_to_the_norm_that_was_asked_for(regression):
    model, batches, losses = regression
    before = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    step = train.gradient_step(losses, optimizer, precision="float32", max_norm=0.01)
    norm = step(batches[0])["gradient norm"]
    moved = torch.nn.utils.parameters_to_vector(model.parameters()).detach() - before
    assert norm > 1
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-3)


def test_losses_are_compiled_when_asked_for(regression, monkeypatch):
    model, batches, losses = regression
    compiled = []

    def compile(function, *, dynamic):
        compiled.append(function)
        return lambda batch: {"loss": function(batch)["loss"], "compiled": torch.ones(())}

    monkeypatch.setattr(torch, "compile", compile)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    assert "compiled" not in train.gradient_step(losses, optimizer)(batches[0])
    assert "compiled" in train.gradient_step(losses, optimizer, compile=True)(batches[0])
    assert compiled == [losses]


HAS_COMPILER = shutil.which("g++") and Path(sysconfig.get_path("include"), "Python.h").is_file()


@pytest.mark.skipif(not HAS_COMPILER, reason="torch.compile needs g++ and Python.h")
def test_compiled_losses_learn_the_same(regression):
    model, batches, losses = regression
    start = {name: weights.clone() for name, weights in model.state_dict().items()}
    ends = []
    for compiled in (False, True):
        model.load_state_dict(start)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        step = train.gradient_step(losses, optimizer, precision="float32", compile=compiled)
        train.fit(step, batches, epochs=5)  # the last batch is a short one
        ends.append(torch.nn.utils.parameters_to_vector(model.parameters()).detach())
    assert not torch.equal(ends[0], torch.cat([weights.flatten() for weights in start.values()]))
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("max_norm", [0, -1.0, math.nan])
def test_a_norm_must_be_positive(max_norm):
    with pytest.raises(ValueError, match=f"max_norm must be positive, got {max_norm}"):
        train.gradient_step(lambda x: {}, None, max_norm=max_norm)


class FallingAndRising:
    """A step that sets a weight to the number of its call, with a loss that is least at the third."""

    def __init__(self):
        self.model, self.calls = nn.Linear(1, 1, bias=False), 0

    def __call__(self, x):
        self.calls += 1
        with torch.no_grad():
            self.model.weight.fill_(self.calls)
        return {"loss": torch.tensor(float(abs(self.calls - 3)))}


def test_early_stopping_ends_the_run_and_puts_the_best_weights_back():
    step = FallingAndRising()
    stop = train.EarlyStopping(step.model, "loss", patience=2)
    history = train.fit(step, [torch.ones(1)], epochs=10, stop=stop)
    assert history["loss"].tolist() == [2.0, 1.0, 0.0, 1.0, 2.0]
    assert step.model.weight.item() == 3.0


def test_the_best_weights_are_put_back_at_the_last_epoch_too():
    step = FallingAndRising()
    train.fit(step, [torch.ones(1)], epochs=4, stop=train.EarlyStopping(step.model, "loss", patience=9))
    assert step.model.weight.item() == 3.0


def test_early_stopping_says_what_it_could_watch():
    step = FallingAndRising()
    with pytest.raises(ValueError, match="the history has no 'validation loss' to watch; it has: loss"):
        train.fit(step, [torch.ones(1)], epochs=2, stop=train.EarlyStopping(step.model))
    with pytest.raises(ValueError, match="patience must be a positive integer, got 0"):
        train.EarlyStopping(step.model, patience=0)


def test_a_schedule_takes_a_step_after_each_epoch(regression):
    model, batches, losses = regression
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    rates = []

    def step(batch):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        return losses(batch)

    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    train.fit(step, batches[:2], epochs=3, schedule=schedule)
    assert rates == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize(("validate", "rate"), [(None, 1.0), (lambda: {"loss": 1.0}, 0.1)])
def test_a_plateau_is_one_of_the_validation_loss_if_there_is_one(regression, validate, rate):
    model, *_ = regression
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    falling = iter([3.0, 2.0])

    def step(x):
        optimizer.step()
        return {"loss": torch.tensor(next(falling))}

    train.fit(step, [torch.ones(1)], epochs=2, schedule=schedule, validate=validate)
    assert optimizer.param_groups[0]["lr"] == rate


def test_float32_and_bfloat16_train_to_the_same_bound():
    digits = data.load("digits")
    bounds = {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        model = vae.mlp_vae(8, (64,), image_shape=(1, 8, 8))
        generator = torch.Generator().manual_seed(0)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, fused=True)
        step = train.gradient_step(
            lambda x, model=model, generator=generator: {
                "loss": -objectives.elbo(model, x, generator=generator).mean()
            },
            optimizer,
            precision=precision,
        )
        history = train.fit(step, data.Batches(digits.train, 64, generator=generator), epochs=30)
        assert history["loss"].iloc[0] > 1.3 * history["loss"].iloc[-1]
        x = digits.test.x()
        with torch.no_grad():
            draws = [objectives.elbo(model, x, generator=generator).mean() for _ in range(20)]
        bounds[precision] = float(torch.stack(draws).mean())
    assert bounds["bfloat16"] == pytest.approx(bounds["float32"], rel=0.01)


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
