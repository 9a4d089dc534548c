import os

import nbformat
import pytest

from vaebook import needs, notebooks, verify

TEXT = "---\nneeds: [cifar10]\n---\n\n# Needing\n\n```{code-cell} python\nprint(12.5)\n```\n"


def text(names):
    return nbformat.v4.new_notebook(metadata={"needs": names})


@pytest.fixture
def out_of_reach(monkeypatch):
    """No data set is there, and none can be: the folder for them is not a folder."""
    monkeypatch.setenv("VAEBOOK_DATA", os.devnull)


def test_a_chapter_without_needs_can_always_run(out_of_reach):
    assert needs.unavailable(nbformat.v4.new_notebook()) == ""


def test_what_is_there_is_available():
    assert needs.unavailable(text(["digits"])) == ""


def test_a_set_out_of_reach_is_a_reason(out_of_reach):
    reason = needs.unavailable(text(["digits", "cifar10"]))
    assert reason.startswith("data set 'cifar10' is not available; tried")


def test_any_other_failure_is_no_reason():
    with pytest.raises(needs.NeedsError, match="unknown data set 'cifar11'; did you mean 'cifar10'"):
        needs.unavailable(text(["cifar11"]))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("cifar10", "must be a list of data sets, such as [cifar10], got 'cifar10'"),
        ([1], "must be a list of data sets"),
        (["cifar10", "mnist"], "needs mnist, without which no chapter may be skipped"),
    ],
)
def test_a_header_is_refused(names, message):
    assert message in needs.problem(text(names))
    assert needs.problem(text(["cifar10"])) == ""


def test_a_chapter_is_skipped_with_its_reason_and_not_taken_for_verified(empty_book, out_of_reach):
    empty_book.write("needing", TEXT)
    notebooks.record(empty_book.folder, "needing")
    *_, verdict = verify.verify(empty_book.folder)
    assert verdict.state == "skipped"
    assert verdict.detail.startswith("SKIPPED, data set 'cifar10' is not available; tried; the folder")
    assert verify.read_stamp(empty_book.folder, "needing") is None
