"""The benchmark compares what it says: the same networks, losses and optimiser, and it survives a failure."""

import dataclasses
import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from vaebook import data, sweep_plan

FOLDER = Path(__file__).parents[1] / "benchmarks"
BOOK = FOLDER.with_name("book")


@pytest.fixture
def module(monkeypatch):
    """Imports a module of the benchmark by name."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


@pytest.fixture
def contestants(module):
    """One contestant of each network."""
    throughput = module("throughput")
    return {c.group: c for c in throughput.contestants() if c.loop == "classic"}


def sizes(network: torch.nn.Module) -> int:
    return sum(weights.numel() for weights in network.parameters())


def test_loops_of_a_group_train_networks_of_the_same_size(module, contestants):
    loops = module("loops")
    assert len(contestants) == 4
    for contestant in contestants.values():
        ours, _ = loops.Vaebook.model_and_losses(contestant)
        assert sizes(loops.classic_model(contestant)) == sizes(ours), contestant.group


def test_contestants_of_a_group_differ_in_the_loop_or_in_one_size(module):
    everyone = module("throughput").contestants()
    assert len(set(everyone)) == len(everyone)
    for contestant in everyone:
        group = [c for c in everyone if c.group == contestant.group]
        fields = ("loop", "model", "hidden", "latent_dim", "batch_size", "images")
        assert sum(len({getattr(c, field) for c in group}) > 1 for field in fields) == 1


def test_classic_loss_is_ours(module, contestants):
    loops = module("loops")
    contestant = contestants["AE 784-512-256-128-100"]
    ours, losses = loops.Vaebook.model_and_losses(contestant)
    classic = loops.classic_model(contestant)
    classic.load_state_dict(dict(zip(classic.state_dict(), ours.state_dict().values(), strict=True)))
    x = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(classic.loss(x), losses(x).sum())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("group", "encoder", "decoder", "first"),
    [
        ("VAE 784-400-20", 784 * 400 + 400 * 40, 20 * 400 + 400 * 784, 784 * 400),
        (
            "convolutional VAE",
            9 * (784 * 32 + 196 * (32 * 64 + 2 * 64 * 64)) + 12544 * 4,
            2 * 12544 + 9 * (196 * 64 * 32 + 784 * 32),
            9 * 784 * 32,
        ),
    ],
)
def test_products_are_those_of_a_training_step(
    module, contestants, precision, group, encoder, decoder, first
):
    """Nobody needs the gradient by the image, which the first layer would give."""
    batch = contestants[group].batch_size
    products = module("loops").Products(dataclasses.replace(contestants[group], images=batch), precision)
    with FlopCounterMode(display=False) as counter:
        products.epoch()
    assert counter.get_total_flops() == 2 * batch * (3 * (encoder + decoder) - first)


def test_the_peer_updates_its_weights_as_torch_does(module):
    jax = pytest.importorskip("jax")
    adam = module("loops_jax").adam
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(7, generator=generator)
    state = {name: jax.numpy.zeros(7) for name in ("m", "v")} | {
        "networks": jax.numpy.asarray(weights.numpy())
    }
    state["count"] = jax.numpy.zeros(())
    weights.requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=1e-3)
    for _ in range(5):
        weights.grad = torch.randn(7, generator=generator)
        state = adam(state, jax.numpy.asarray(weights.grad.numpy()))
        optimizer.step()
    found = torch.tensor(state["networks"].tolist())
    torch.testing.assert_close(found, weights.detach(), rtol=1e-5, atol=1e-6)


def test_the_peer_has_our_loss(module):
    """With a code that does not reach the decoder, the bound has no noise."""
    jax = pytest.importorskip("jax")
    loops, loops_jax = module("loops"), module("loops_jax")
    contestant = SimpleNamespace(model="vae", latent_dim=3, hidden=(5,))
    model, losses = loops.Vaebook.model_and_losses(contestant)
    with torch.no_grad():
        model.decoder[0][0].weight.zero_()
    networks = {}
    for name, layers in {"encoder": model.encoder[1], "decoder": model.decoder[0]}.items():
        linear = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
        networks[name] = [
            tuple(jax.numpy.asarray(tensor.detach().numpy()) for tensor in (layer.weight.T, layer.bias))
            for layer in linear
        ]
    x = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    found = loops_jax.negative_bound(networks, jax.numpy.asarray(x.flatten(1).numpy()), jax.random.key(0))
    assert float(found) == pytest.approx(losses(x).mean().item(), rel=1e-5)


def test_a_loop_that_cannot_run_is_left_out_with_its_reason(module):
    throughput = module("throughput")
    group = [
        throughput.Contestant("small", loop, hidden=(8,), batch_size=64, images=150)
        for loop in ("vaebook float16", "vaebook float32")
    ]
    with tqdm(total=6, disable=True) as bar:
        measured, left_out = throughput.race(group, 2, 0, data.fetch("mnist"), bar)
    assert left_out["loop"] == "vaebook float16"
    assert left_out["left_out"].startswith("unknown precision 'float16'")
    assert measured["loop"] == "vaebook float32"
    assert len(measured["seconds"]) == 2
    assert all(
        value > 0 for value in (*measured["seconds"], measured["first_seconds"], measured["peak_bytes"])
    )
    assert 0 < measured["test_loss"] < 600  # nats; 543 is a coin for each pixel
    ours, theirs = throughput.in_words([measured, left_out])
    assert "vaebook float32" in ours
    assert "1.00 x" in ours
    assert "left out: unknown precision" in theirs


def test_results_are_replaced_at_once_or_not_at_all(module, tmp_path):
    write = module("throughput").write
    path = tmp_path / "results" / "throughput.json"
    write({"rows": [1]}, path)
    with pytest.raises(TypeError, match="not JSON serializable"):
        write({"rows": {2}}, path)
    assert json.loads(path.read_text()) == {"rows": [1]}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_sweeps_are_compared_on_the_same_runs_from_nothing(module, monkeypatch, tmp_path, capsys):
    speed, made = module("sweep_speed"), []

    def sweep(plan, folder, **way):
        made.append((plan.asked, way, list(folder.iterdir())))
        return [SimpleNamespace(status="done")]

    monkeypatch.setattr(speed.sweep, "sweep", sweep)
    monkeypatch.setattr(speed.sweep, "CPU_COUNT", 3)
    monkeypatch.chdir(FOLDER)
    monkeypatch.setattr(speed, "RESULTS", tmp_path)
    speed.main(["--also", "seeds=1"])
    asked = {"latent_dim": [2, 10, 20], "seed": [0, 1, 2], "epochs": [1], "seeds": [1]}
    alone = [{"workers": 1, "threads": 1}, {"workers": 1, "threads": 3}]
    assert made == [(asked, way, []) for way in (*alone, {})]
    kept = json.loads((tmp_path / "sweep-speed.json").read_text())
    assert kept["runs"] == 9
    assert list(kept["seconds"]) == list(speed.ways())
    assert all(taken > 0 for taken in kept["seconds"].values())
    assert kept["provenance"]["parameters"]["seeds"] == ["1"]
    assert "the sweep is 1.00 times as fast as sweep" not in (said := capsys.readouterr().out)
    assert said.count("times as fast as one after another") == 2

    speed.main(["--without-all-cores"])
    kept = json.loads((tmp_path / "sweep-speed-long.json").read_text())
    assert list(kept["seconds"]) == ["one after another, one thread each", "sweep"]
    assert "seeds" not in kept["provenance"]["parameters"]


def test_a_failed_run_is_no_measurement(module, monkeypatch):
    speed = module("sweep_speed")
    failed = [SimpleNamespace(status="failed", error="no memory")]
    monkeypatch.setattr(speed.sweep, "sweep", lambda *_, **__: failed)
    with pytest.raises(RuntimeError, match="1 of 1 runs failed, the first with: no memory"):
        speed.seconds(None)


def test_blocks_of_seeds_have_no_seed_in_common(module):
    over_seeds = module("over_seeds")
    found = over_seeds.over_seeds(BOOK)
    assert {"vae", "vae_numpy"} <= set(found)
    for name, seeds in found.items():
        runs = sweep_plan.plan(BOOK, name, over_seeds.grid(seeds)).runs
        used = [run.values["seed"] + number for run in runs for number in range(run.values["seeds"])]
        assert len(used) == len(set(used)) == over_seeds.BLOCKS * dict(seeds.bounds)[">="]


def test_the_table_of_a_chapter_is_kept_only_if_all_its_runs_are_done(module, monkeypatch, tmp_path):
    over_seeds = module("over_seeds")
    ends = iter([["done", "failed"], ["done", "done"], ["done", "done"]])

    def sweep(plan, folder, *, progress):
        folder.mkdir(exist_ok=True)
        (folder / "results.csv").write_text(plan.chapter)
        return [SimpleNamespace(status=status, error="no memory") for status in next(ends)]

    monkeypatch.setattr(over_seeds.sweep, "sweep", sweep)
    monkeypatch.setattr(over_seeds.sweep, "folder_of", lambda book, name: tmp_path / name)
    monkeypatch.setattr(over_seeds, "RESULTS", tmp_path / "results")
    monkeypatch.chdir(FOLDER)
    with pytest.raises(SystemExit, match="1 of 2 runs of vae failed, the first with: no memory"):
        over_seeds.main(["vae", "cvae"])
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["cvae.csv"]
    over_seeds.main(["vae"])
    assert (tmp_path / "results" / "vae.csv").read_text() == "vae"


def test_a_chapter_without_seeds_is_refused(module, capsys, monkeypatch):
    monkeypatch.chdir(FOLDER)
    with pytest.raises(SystemExit):
        module("over_seeds").main(["elbo"])
    assert "no chapter with seeds: elbo; there are autoencoder_variants," in capsys.readouterr().err
