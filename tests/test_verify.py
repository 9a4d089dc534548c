import re
import shutil
from pathlib import Path

import nbformat
import pytest

from vaebook import notebooks, provenance, verify
from vaebook.chapters import UnknownChapterError

FACTS = {
    "recorded": "2026-01-31T12:00:00+00:00",
    "commit": "0123456789ab",
    "clean": False,
    "processor": "a processor, 2 cores",
    "seconds": 12.3,
}


@pytest.fixture
def verified(book, monkeypatch):
    """A book whose only chapter was verified just now, and the states in which verdicts then come."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "--collect-only")  # would be green without running anything
    states = [verdict.state for verdict in verify.verify(book.folder)]
    assert states == ["running", "verified"]
    return book


def states(book, *names, **options):
    return {verdict.name: verdict.state for verdict in verify.verify(book.folder, names, **options)}


def test_a_verified_chapter_is_not_run_again_before_something_changes(verified, monkeypatch):
    (verdict,) = verify.verify(verified.folder)
    assert verdict.state == "unchanged"
    assert re.fullmatch(r"up to date since \d{4}-\d\d-\d\d \d\d:\d\d", verdict.detail)

    monkeypatch.setattr(
        verify, "_run_pytest", lambda book, name, **_: verify.Verdict(name, "failed", "again")
    )
    assert states(verified, everything=True) == {"sample": "failed"}
    assert states(verified) == {"sample": "failed"}  # a failure takes the stamp away


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("book/sample.ipynb", "verified"),
        ("book/text/sample.md", "verified"),
        ("book/conftest.py", "verified"),
        ("library/a.py", "verified"),
        ("results/seeds/a.csv", "verified"),
        ("results/b.csv", "unchanged"),
    ],
)
def test_what_was_verified_is_run_again_after_a_change(book, tmp_path, monkeypatch, name, state):
    """Jupyter Book's own cache would keep old numbers after a change in an imported package."""
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "a.py").write_text("1\n")
    (book.root / "results" / "seeds").mkdir(parents=True)
    for path in (book.root / "results" / "b.csv", book.root / "results" / "seeds" / "a.csv"):
        path.write_text("a,b\n")
    text = (book.folder / "text" / "sample.md").read_text("utf-8")
    book.write("sample", text.replace("---\n", "---\nreads: [results/seeds/*]\n", 1))
    notebooks.record_prose(book.folder, "sample")
    monkeypatch.setattr(verify, "__file__", str(tmp_path / "library" / "verify.py"))
    monkeypatch.setattr(
        verify, "_run_pytest", lambda book, name, **_: verify.Verdict(name, "verified", "all")
    )
    assert states(book) == {"sample": "verified"}
    assert states(book) == {"sample": "unchanged"}
    path = book.root / name
    path.write_text(path.read_text("utf-8") + "\n", "utf-8")
    assert states(book) == {"sample": state}


def test_what_breaks_a_rule_is_run_again(book, monkeypatch):
    monkeypatch.setattr(
        verify, "_run_pytest", lambda book, name, **_: verify.Verdict(name, "verified", "all")
    )
    assert states(book) == {"sample": "verified"}
    (book.folder / "sample.md").touch()  # not part of what the stamp holds for
    assert states(book) == {"sample": "verified"}


def test_an_orphaned_record_is_verified_and_an_unknown_chapter_refused(book, monkeypatch):
    monkeypatch.setattr(verify, "_run_pytest", lambda book, name, **_: verify.Verdict(name, "failed", ""))
    shutil.copy(book.folder / "sample.ipynb", book.folder / "orphan.ipynb")
    assert set(states(book)) == {"sample", "orphan"}
    assert set(states(book, "orphan")) == {"orphan"}
    with pytest.raises(UnknownChapterError, match="unknown chapter 'smaple'; did you mean 'sample'"):
        states(book, "smaple")


def test_the_report_knows_records_and_verifications(verified):
    verified.write("second", "# Not recorded")
    sample, second = verify.report(verified.folder)
    assert list(sample) == list(second) == list(verify.COLUMNS)
    assert (sample["chapter"], sample["recorded"]) == ("sample", "without provenance")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", sample["verified"])
    assert (sample["numbers"], sample["tables"], sample["figures"]) == ("8", "1", "3")
    assert (second["recorded"], second["verified"], second["figures"]) == ("not recorded", "not verified", "")

    record = verified.read("sample")
    metadata = {provenance.KEY: FACTS}
    record.cells[-1].outputs = [nbformat.v4.new_output("display_data", metadata=metadata)]
    verified.store("sample", record)
    (sample,) = verify.report(verified.folder, ["sample"])
    assert sample["recorded"].startswith("2026-01-3")
    assert sample["commit"] == "0123456789ab with changes"
    assert (sample["processor"], sample["seconds"]) == ("a processor, 2 cores", "12")
    assert sample["verified"].endswith(", changed since")


def test_a_stamp_of_an_older_kind_is_none(book):
    path = Path(book.root, ".cache", "verified", "sample")
    path.parent.mkdir(parents=True)
    path.write_text("0123 2025-01-01 12:00")
    assert verify.read_stamp(book.folder, "sample") is None
    assert verify.report(book.folder)[0]["verified"] == "not verified"
