"""Training throughput, side by side in one run, and what it costs to make the work larger.

Loops that train the same network take turns, epoch by epoch, so that whatever else the machine does hits all
of them: what counts is the ratio. Each loop lives in a process of its own, which sleeps while another one
works, so that neither threads nor memory are shared. The first epoch of each warms up, or compiles, and is
not counted.
"""

import argparse
import dataclasses
import importlib
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

RESULTS = Path(__file__).parent / "results" / "throughput.json"


@dataclass(frozen=True)
class Contestant:
    """A loop and what it trains; ``hidden`` are the widths between image and code of an MLP."""

    group: str
    loop: str
    model: str = "vae"
    hidden: tuple[int, ...] = (400,)
    latent_dim: int = 20
    batch_size: int = 128
    images: int = 60_000


def contestants() -> list[Contestant]:
    """All that is measured; those of a group take turns."""
    deep = {"hidden": (512, 256, 128), "latent_dim": 100}
    conv = {"model": "conv_vae", "hidden": (), "latent_dim": 2, "images": 6_000}
    three = ("classic", "vaebook float32", "vaebook bfloat16")
    four = (*three, "vaebook bfloat16 compiled")
    seven = (*four, "JAX float32", "products float32", "products bfloat16")
    ours = {"loop": "vaebook bfloat16", "images": 15_000}
    return [
        *(Contestant("VAE 784-400-20", loop) for loop in seven),
        *(Contestant("AE 784-512-256-128-100", loop, "autoencoder", **deep) for loop in three),
        *(Contestant("VAE 784-512-256-128-100", loop, **deep) for loop in three),
        *(Contestant("convolutional VAE", loop, **conv) for loop in (*four, "products bfloat16")),
        *(Contestant("batch size", **ours, batch_size=size) for size in (16, 32, 64, 128, 256, 512, 1024)),
        *(Contestant("width", **ours, hidden=(width,)) for width in (100, 200, 400, 800, 1600)),
        *(Contestant("code size", **ours, latent_dim=size) for size in (2, 10, 20, 50, 100, 400)),
        *(
            Contestant("data-set size", "vaebook bfloat16", images=count)
            for count in (7_500, 15_000, 30_000, 60_000)
        ),
    ]


class Worker:
    """A contestant in a process of its own."""

    def __init__(self, contestant: Contestant, seed: int, folder: Path) -> None:
        # The fork server has loaded PyTorch already; the peer must not have it in its memory.
        method = "spawn" if contestant.loop.startswith("JAX") else "forkserver"
        self.pool = ProcessPoolExecutor(1, multiprocessing.get_context(method))
        self.contestant = contestant
        self.seconds: list[float] = []
        self.pool.submit(_start, contestant, seed, folder).result()
        self.first = self.pool.submit(_epoch).result()

    def epoch(self) -> None:
        self.seconds.append(self.pool.submit(_epoch).result())

    def result(self) -> dict:
        """The row of this contestant in the file of results."""
        measured = self.pool.submit(_finish).result()
        return dataclasses.asdict(self.contestant) | {
            "seconds": self.seconds,
            "first_seconds": self.first,
            **measured,
        }


def _start(contestant: Contestant, seed: int, folder: Path) -> None:
    global loop  # what this process works on
    module = importlib.import_module("loops_jax" if contestant.loop.startswith("JAX") else "loops")
    loop = module.make(contestant, seed, folder)


def _epoch() -> float:
    start = time.perf_counter()
    loop.epoch()
    return time.perf_counter() - start


def _finish() -> dict:
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit  # before the test set needs memory, too
    return {"peak_bytes": peak, "test_loss": loop.test_loss()}


def race(group: list[Contestant], rounds: int, seed: int, folder: Path, bar: tqdm) -> Iterator[dict]:
    """Let the contestants take turns; yield a row for each, or why it could not take part."""
    with ExitStack() as stack:
        workers, left_out = [], []
        for contestant in group:
            bar.set_description(f"{contestant.group}, {contestant.loop}")
            try:
                worker = Worker(contestant, seed, folder)
            except Exception as error:  # no compiler, no JAX: the others are worth measuring all the same
                reason = str(error).strip().splitlines()[0]
                left_out.append(dataclasses.asdict(contestant) | {"left_out": reason})
                bar.update(1 + rounds)
                continue
            stack.enter_context(worker.pool)
            workers.append(worker)
            bar.update()
        for _ in range(rounds):
            for worker in workers:
                bar.set_description(f"{group[0].group}, {worker.contestant.loop}")
                worker.epoch()
                bar.update()
        yield from [worker.result() for worker in workers]
        yield from left_out


def write(content: dict, path: Path) -> None:
    """Replace a file at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def in_words(rows: list[dict]) -> Iterator[str]:
    """A line for each contestant of a group."""
    measured = [row for row in rows if "seconds" in row]
    varying = [
        name
        for name in ("batch_size", "hidden", "latent_dim", "images")
        if len({row[name] for row in measured}) > 1
    ]
    rates = [row["images"] / statistics.median(row["seconds"]) for row in measured]
    for row, rate in zip(measured, rates, strict=True):
        slowest, fastest = (row["images"] / choose(row["seconds"]) for choose in (max, min))
        label = " ".join([row["loop"], *(f"{name}={row[name]}" for name in varying)])
        loss = "" if row["test_loss"] is None else f"   test loss {row['test_loss']:7.2f}"
        yield (
            f"  {label:45} {rate:9,.0f} images/s ({slowest:,.0f} to {fastest:,.0f})"
            f"  {rate / rates[0]:5.2f} x   {row['peak_bytes'] / 2**20:6,.0f} MiB{loss}"
        )
    for row in rows:
        if "left_out" in row:
            yield f"  {row['loop']:45} left out: {row['left_out']}"


def main() -> None:
    """Run the benchmark, print its results and keep them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each loop that count (default 5)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and orders (default 0)")
    parser.add_argument(
        "--quick", action="store_true", help="a trial with a twentieth of the images; not kept"
    )
    parser.add_argument("--output", type=Path, help="where to keep the results, also those of a trial")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds must be 1 or more, got {arguments.rounds}")

    from vaebook import data, provenance  # here, because the peer's process imports this module, too

    multiprocessing.set_forkserver_preload(
        ["vaebook.data", "vaebook.autoencoders", "vaebook.vae", "torchvision"]
    )
    mnist, folder = data.load("mnist"), data.fetch("mnist")
    groups: dict[str, list[Contestant]] = {}
    for contestant in contestants():
        images = contestant.images // 20 if arguments.quick else contestant.images
        groups.setdefault(contestant.group, []).append(dataclasses.replace(contestant, images=images))

    rows = []
    with tqdm(total=sum(map(len, groups.values())) * (1 + arguments.rounds), unit="epoch") as bar:
        for name, group in groups.items():
            rows += (found := list(race(group, arguments.rounds, arguments.seed, folder, bar)))
            bar.write("\n".join([name, *in_words(found)]), file=sys.stdout)
    facts = provenance.collect([], {}, [mnist])
    facts["packages"] |= {name: version(name) for name in ("jax", "jaxlib") if find_spec(name)}
    output = arguments.output or (None if arguments.quick else RESULTS)
    if output:
        write({"provenance": facts, "rounds": arguments.rounds, "rows": rows}, output)
        print(f"kept in {output}")


if __name__ == "__main__":
    main()
