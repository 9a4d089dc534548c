"""The file formats of the data sets: bytes in, tensors out, or an error that says what is wrong.

Nothing here knows where files lie or which of them belong together: that is the business of `vaebook.data`.
"""

import io
import math
import struct

import numpy as np
import torch
from torch import Tensor

CIFAR_SHAPE = (3, 32, 32)
FREY_SHAPE = (1, 28, 20)
NORB_TYPES = {0x1E3D4C55: np.dtype("u1"), 0x1E3D4C54: np.dtype("<i4")}


class FormatError(ValueError):
    """Bytes are not what their format says; the message names the first fault."""


def idx(content: bytes) -> Tensor:
    """The array of an IDX file, the format of MNIST: a type, the number of axes, their sizes, and the values.

    Returns:
        uint8, of the shape that the file states.
    """
    if content[:3] != b"\0\0\x08":
        raise FormatError(f"no IDX file of bytes: it begins with {content[:4].hex(' ') or 'nothing'}")
    (axes,) = _numbers(">B", content, 3)
    return _array(content, 4 + 4 * axes, np.dtype("u1"), _numbers(f">{axes}I", content, 4))


def norb(content: bytes) -> Tensor:
    """The array of a NORB file: as IDX, but little-endian, and with three sizes at least.

    Returns:
        uint8 or int32, of the shape that the file states: ``(pairs, camera, height, width)`` for images,
        ``(pairs,)`` for categories.
    """
    magic, axes = _numbers("<2I", content, 0)
    if magic not in NORB_TYPES:
        known = ", ".join(f"{number:08x}" for number in NORB_TYPES)
        raise FormatError(f"no NORB file of bytes or integers: its magic number is {magic:08x}, not {known}")
    sizes = _numbers(f"<{max(3, axes)}I", content, 8)
    return _array(content, 8 + 4 * len(sizes), NORB_TYPES[magic], sizes[:axes])


def cifar10(content: bytes) -> tuple[Tensor, Tensor]:
    """A batch of CIFAR-10's binary version: for each image a byte that is its label, then its pixels.

    Returns:
        Images, uint8 of shape ``(n, 3, 32, 32)``, and labels, int64 of shape ``(n,)``.
    """
    record = 1 + math.prod(CIFAR_SHAPE)
    if not content or len(content) % record:
        raise FormatError(
            f"a batch of CIFAR-10 has {record} bytes for each image, this one {len(content)} in all"
        )
    records = _array(content, 0, np.dtype("u1"), (len(content) // record, record))
    labels = records[:, 0].long()
    _require_labels(labels, range(10))
    return records[:, 1:].unflatten(1, CIFAR_SHAPE).contiguous(), labels


def cifar10_bytes(images: Tensor, labels: Tensor) -> bytes:
    """The binary batch that `cifar10` reads.

    Args:
        images: uint8, shape ``(n, 3, 32, 32)``.
        labels: integers from 0 to 9, shape ``(n,)``.
    """
    return torch.cat([labels.to(torch.uint8).unsqueeze(1), images.flatten(1)], dim=1).numpy().tobytes()


def picture_rows(content: bytes, image_shape: tuple[int, int, int]) -> Tensor:
    """Many images in one lossless picture, such as a PNG: each row of it is an image, pixel after pixel.

    Args:
        image_shape: ``(channel, height, width)``.

    Returns:
        uint8, shape ``(rows, channel, height, width)``.
    """
    from PIL import Image, UnidentifiedImageError

    channel, height, width = image_shape
    try:
        pixels = np.array(Image.open(io.BytesIO(content)))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise FormatError(f"no picture that can be read: {error}") from error
    if pixels.shape[1:] != (height * width, channel):
        raise FormatError(
            f"the picture should be {_named((None, height * width, channel))} "
            f"(images, pixels, channels); it is {_named(pixels.shape)}"
        )
    return torch.from_numpy(pixels).unflatten(1, (height, width)).permute(0, 3, 1, 2).contiguous()


def svhn(content: bytes) -> tuple[Tensor, Tensor]:
    """A file of cropped house numbers: MATLAB's ``X``, shape ``(32, 32, 3, n)``, and ``y``, where 10 means 0.

    Returns:
        Images, uint8 of shape ``(n, 3, 32, 32)``, and labels, int64 of shape ``(n,)``.
    """
    images, labels = _matlab(content, X=("uint8", (32, 32, 3, None)), y=(None, (None, 1)))
    if images.shape[-1] != len(labels):
        raise FormatError(f"{images.shape[-1]} images have {len(labels)} labels")
    labels = labels[:, 0].long()
    _require_labels(labels, range(1, 11))
    return images.permute(3, 2, 0, 1).contiguous(), labels % 10


def frey_faces(content: bytes) -> Tensor:
    """The film of Frey's face: MATLAB's ``ff``, shape ``(560, n)``, a column for each frame.

    Returns:
        uint8, shape ``(n, 1, 28, 20)``, in the order of the film.
    """
    (frames,) = _matlab(content, ff=("uint8", (math.prod(FREY_SHAPE), None)))
    return frames.T.contiguous().unflatten(1, FREY_SHAPE)


def _numbers(layout: str, content: bytes, offset: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(layout, content, offset)
    except struct.error:
        raise FormatError(f"cut off within its header, after {len(content)} bytes") from None


def _array(content: bytes, offset: int, kind: np.dtype, shape: tuple[int, ...]) -> Tensor:
    """What follows a header, which must be exactly as long as the shape says."""
    needed, there = math.prod(shape) * kind.itemsize, len(content) - offset
    if needed != there:
        sizes = "x".join(map(str, shape))
        raise FormatError(f"an array of {sizes} needs {needed} bytes after the header; {there} are there")
    return torch.from_numpy(np.frombuffer(content, kind, offset=offset).reshape(shape).copy())


def _matlab(content: bytes, **expected: tuple[str | None, tuple[int | None, ...]]) -> list[Tensor]:
    """Variables of a MAT-file, each with the type and the sizes that it should have (None: any)."""
    from scipy.io import loadmat

    try:
        found = loadmat(io.BytesIO(content), variable_names=list(expected))
    except Exception as error:  # of many kinds: the reader trusts every count and offset in the file
        raise FormatError(f"no MAT-file that can be read: {error}") from error
    for name, (kind, sizes) in expected.items():
        if name not in found:
            raise FormatError(f"the MAT-file has no variable {name}")
        array = found[name]
        fits = len(array.shape) == len(sizes) and all(
            size in (None, given) for size, given in zip(sizes, array.shape, strict=True)
        )
        if not fits or kind not in (None, str(array.dtype)):
            raise FormatError(
                f"{name} should be {kind or 'numbers'} of {_named(sizes)}; "
                f"it is {array.dtype} of {_named(array.shape)}"
            )
    return [torch.from_numpy(found[name]) for name in expected]


def _named(sizes: tuple[int | None, ...]) -> str:
    return "x".join("n" if size is None else str(size) for size in sizes)


def _require_labels(labels: Tensor, known: range) -> None:
    if labels.min() not in known or labels.max() not in known:
        raise FormatError(
            f"labels should be from {known[0]} to {known[-1]}; they are from {labels.min()} to {labels.max()}"
        )
