"""Named image data sets as tensors: fetched once, verified on every load, split, binarised, drawn in batches.

What there is and where it comes from stands in `vaebook.catalogue`. `fetch` walks the same chain for all: the
folder, then each way in turn. Files lie in ``$VAEBOOK_DATA`` or else the user's cache folder, as their
authors publish them; those of MNIST and of Fashion-MNIST as torchvision lays them.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

from vaebook import formats
from vaebook.arguments import require_known, require_positive
from vaebook.catalogue import SOURCES, Source, WayFailed, md5


class DataUnavailable(RuntimeError):
    """No way to a data set is left; the message names each one that was tried, and why it failed."""


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
        found = md5(b"".join(tensor.numpy().tobytes() for tensor in (images, labels, *test)))
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
        require_positive(batch_size=batch_size)
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
    require_known("data set", name, names())
    return SOURCES[name]


def _data_folder() -> Path:
    chosen = os.environ.get("VAEBOOK_DATA")
    return Path(chosen).expanduser().absolute() if chosen else platformdirs.user_cache_path("vaebook")


def _fault(folder: Path, source: Source) -> str | None:
    """What is wrong with the files in a folder; None if nothing is."""
    for file, expected in source.files.items():
        try:
            found = source.digest((folder / file).read_bytes())
        except FileNotFoundError:
            return f"{file} is missing"
        except OSError as error:
            return f"{file} cannot be read ({error.strerror})"
        except formats.FormatError as error:
            return f"{file} is damaged ({error})"
        if found != expected:
            return f"{file} is damaged (its md5 is {found}, not {expected})"
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
