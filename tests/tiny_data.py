"""A data set that is made here, in the format of MNIST, and a way to it that needs no network."""

import hashlib
import struct
from pathlib import Path

import torch

from vaebook import catalogue


def idx(values: torch.Tensor) -> bytes:
    """An IDX file of unsigned bytes, written from its definition."""
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.numpy().tobytes()


def idx_files() -> dict[str, bytes]:
    generator = torch.Generator().manual_seed(0)
    files = {}
    for part, n in (("train", 50), ("t10k", 20)):
        pixels = torch.randint(256, (n, 3, 4), generator=generator, dtype=torch.uint8)
        labels = torch.randint(10, (n,), generator=generator, dtype=torch.uint8)
        files[f"{part}-images-idx3-ubyte"] = idx(pixels)
        files[f"{part}-labels-idx1-ubyte"] = idx(labels)
    return files


FILES = idx_files()


def fill(folder: Path) -> None:
    """Make a folder that has the files."""
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)


def contents(folder: Path) -> dict[str, bytes]:
    """What is in a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Way:
    """A way that needs no network: it writes the files, or fails with what it is told to."""

    def __init__(self, files=FILES, *, error=None):
        self.files = files
        self.error = error
        self.calls = 0

    def __call__(self, folder: Path) -> Path:
        self.calls += 1
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        if self.error:
            raise self.error
        return folder


def tiny_source(**ways) -> catalogue.Source:
    """50 and 20 images of 3 x 4 pixels, with the ways there are to them."""
    mnist = catalogue.SOURCES["mnist"]
    return catalogue.Source(
        description="50 and 20 images of 3 x 4 pixels",
        classes=mnist.classes,
        maximum=255,
        read=mnist.read,
        folder="Tiny/raw",
        files={name: hashlib.md5(content).hexdigest() for name, content in FILES.items()},
        ways=ways,
    )
