"""File formats, on small files that the tests write: what is read, and what each error says."""

import io
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from vaebook import formats
from vaebook.formats import FormatError


def matlab(**variables) -> bytes:
    file = io.BytesIO()
    savemat(file, variables, do_compression=True)
    return file.getvalue()


@pytest.fixture
def numbers() -> np.random.Generator:
    return np.random.default_rng(0)


IDX = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 10, 20, 30, 40, 50, 255])
NORB = struct.pack("<6I", 0x1E3D4C55, 4, 2, 2, 1, 3) + bytes(range(12))
KINDS = struct.pack("<5I3i", 0x1E3D4C54, 1, 3, 1, 1, 4, 0, -1)


class TestIdx:
    def test_values_and_shape(self):
        array = formats.idx(IDX)
        assert array.dtype == torch.uint8
        assert array.tolist() == [[10, 20, 30], [40, 50, 255]]

    def test_agrees_with_torchvision(self, numbers, tmp_path):
        from torchvision.datasets.mnist import read_image_file

        content = struct.pack(">BBBB3I", 0, 0, 8, 3, 5, 4, 3) + numbers.bytes(60)
        (tmp_path / "file").write_bytes(content)
        assert torch.equal(formats.idx(content), read_image_file(tmp_path / "file"))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "no IDX file of bytes: it begins with nothing"),
            (b"<html>", "no IDX file of bytes: it begins with 3c 68 74 6d"),
            (b"\0\0\x0d" + IDX[3:], "no IDX file of bytes: it begins with 00 00 0d 02"),
            (IDX[:3], "cut off within its header, after 3 bytes"),
            (IDX[:11], "cut off within its header, after 11 bytes"),
            (IDX[:-1], "an array of 2x3 needs 6 bytes after the header; 5 are there"),
            (IDX + b"x", "an array of 2x3 needs 6 bytes after the header; 7 are there"),
        ],
    )
    def test_faults(self, content, message):
        with pytest.raises(FormatError) as caught:
            formats.idx(content)
        assert str(caught.value) == message


class TestNorb:
    def test_pairs_of_images(self):
        array = formats.norb(NORB)
        assert array.dtype == torch.uint8
        assert array.tolist() == torch.arange(12).reshape(2, 2, 1, 3).tolist()

    def test_categories_have_one_axis_though_the_header_has_three_sizes(self):
        array = formats.norb(KINDS)
        assert array.dtype == torch.int32
        assert array.tolist() == [4, 0, -1]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "cut off within its header, after 0 bytes"),
            (NORB[:20], "cut off within its header, after 20 bytes"),
            (
                struct.pack(">I", 0x1E3D4C55) + NORB[4:],
                "no NORB file of bytes or integers: its magic number is 554c3d1e, not 1e3d4c55, 1e3d4c54",
            ),
            (NORB[:-1], "an array of 2x2x1x3 needs 12 bytes after the header; 11 are there"),
            (KINDS[:-1], "an array of 3 needs 12 bytes after the header; 11 are there"),
        ],
    )
    def test_faults(self, content, message):
        with pytest.raises(FormatError) as caught:
            formats.norb(content)
        assert str(caught.value) == message


class TestCifar10:
    def test_a_record_is_a_label_and_three_planes(self, numbers):
        records = [(3, numbers.bytes(3072)), (9, numbers.bytes(3072))]
        images, labels = formats.cifar10(b"".join(bytes([label]) + planes for label, planes in records))
        assert labels.tolist() == [3, 9]
        assert labels.dtype == torch.int64
        assert images.shape == (2, 3, 32, 32)
        assert images[1, 2, 5, 7] == records[1][1][2 * 1024 + 5 * 32 + 7]

    def test_writing_and_reading_are_inverse(self, numbers):
        content = b"".join(bytes([label]) + numbers.bytes(3072) for label in (0, 4, 7))
        assert formats.cifar10_bytes(*formats.cifar10(content)) == content

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "a batch of CIFAR-10 has 3073 bytes for each image, this one 0 in all"),
            (bytes(3072), "a batch of CIFAR-10 has 3073 bytes for each image, this one 3072 in all"),
            (bytes([10]) + bytes(3072), "labels should be from 0 to 9; they are from 10 to 10"),
        ],
    )
    def test_faults(self, content, message):
        with pytest.raises(FormatError) as caught:
            formats.cifar10(content)
        assert str(caught.value) == message


class TestPictureRows:
    def test_each_row_is_an_image(self, numbers):
        pixels = numbers.integers(256, size=(4, 6, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        images = formats.picture_rows(file.getvalue(), (3, 2, 3))
        assert images.shape == (4, 3, 2, 3)
        assert images.is_contiguous()
        assert np.array_equal(images[2, 1].flatten(), pixels[2, :, 1])

    def test_faults(self):
        file = io.BytesIO()
        Image.new("L", (6, 4)).save(file, "PNG")
        with pytest.raises(FormatError, match=r"^the picture should be nx6x3 .*; it is 4x6$"):
            formats.picture_rows(file.getvalue(), (3, 2, 3))
        for content in (b"", b"<html>", file.getvalue()[:40]):
            with pytest.raises(FormatError, match=r"^no picture that can be read: "):
                formats.picture_rows(content, (3, 2, 3))


class TestSvhn:
    def test_ten_means_zero_and_colours_come_first(self, numbers):
        pixels = numbers.integers(256, size=(32, 32, 3, 4), dtype=np.uint8)
        images, labels = formats.svhn(matlab(X=pixels, y=np.array([[10], [1], [9], [10]])))
        assert labels.tolist() == [0, 1, 9, 0]
        assert labels.dtype == torch.int64
        assert images.shape == (4, 3, 32, 32)
        assert images.is_contiguous()
        assert np.array_equal(images.permute(2, 3, 1, 0), pixels)

    @pytest.mark.parametrize(
        ("variables", "message"),
        [
            ({"y": np.ones((2, 1))}, "the MAT-file has no variable X"),
            ({"X": np.zeros((32, 32, 3, 2), np.uint8)}, "the MAT-file has no variable y"),
            (
                {"X": np.zeros((2, 3, 32, 32), np.uint8), "y": np.ones((2, 1))},
                "X should be uint8 of 32x32x3xn; it is uint8 of 2x3x32x32",
            ),
            (
                {"X": np.zeros((32, 32, 3, 2)), "y": np.ones((2, 1))},
                "X should be uint8 of 32x32x3xn; it is float64 of 32x32x3x2",
            ),
            (
                {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones((1, 2))},
                "y should be numbers of nx1; it is float64 of 1x2",
            ),
            ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones((3, 1))}, "2 images have 3 labels"),
            (
                {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[0], [10]])},
                "labels should be from 1 to 10; they are from 0 to 10",
            ),
        ],
    )
    def test_faults(self, variables, message):
        with pytest.raises(FormatError) as caught:
            formats.svhn(matlab(**variables))
        assert str(caught.value) == message


class TestFreyFaces:
    def test_a_column_is_a_frame_row_after_row(self, numbers):
        pixels = numbers.integers(256, size=(560, 3), dtype=np.uint8)
        frames = formats.frey_faces(matlab(ff=pixels))
        assert frames.shape == (3, 1, 28, 20)
        assert frames[2, 0, 5, 7] == pixels[5 * 20 + 7, 2]
        assert frames.numpy().tobytes() == pixels.T.copy().tobytes()

    def test_no_byte_may_be_missing(self, numbers):
        content = matlab(ff=numbers.integers(256, size=(560, 3), dtype=np.uint8))
        for length in (0, 1, 100, 128, 130, 140, 200, len(content) // 2, len(content) - 1):
            with pytest.raises(FormatError):
                formats.frey_faces(content[:length])
        with pytest.raises(FormatError, match=r"^no MAT-file that can be read: "):
            formats.frey_faces(b"<html>Not Found</html>" * 20)
