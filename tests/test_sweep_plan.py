import pytest

from vaebook import sweep_plan
from vaebook.chapters import UnknownChapterError
from vaebook.parameters import ParameterError

TEXT = """\
# Counting

```{code-cell} python
:tags: [parameters]
dim: int = 20  # dimensions, in [1, 784]
rate: float = 1e-3  # step size, in (0, 1]
patience: int | None = None  # epochs, >= 1
set: str = "mnist"  # data, one of mnist, digits
note: str = ""  # anything
```
"""


@pytest.fixture
def plan(empty_book):
    empty_book.write("sample", TEXT)

    def plan(**words):
        return sweep_plan.plan(
            empty_book.folder, "sample", {name: text.split() for name, text in words.items()}
        )

    return plan


def test_a_sweep_is_every_combination_and_the_last_parameter_changes_fastest(plan):
    made = plan(set="digits", dim="2 10", rate="0.5 1")
    assert [dict(run.asked) for run in made.runs] == [
        {"set": "digits", "dim": dim, "rate": rate} for dim in (2, 10) for rate in (0.5, 1.0)
    ]
    assert made.runs[0].values == {"dim": 2, "rate": 0.5, "patience": None, "set": "digits", "note": ""}
    assert str(made.runs[0]) == "set = 'digits', dim = 2, rate = 0.5"
    assert (made.chapter, made.title, made.text) == ("sample", "Counting", TEXT)
    assert (made.book / "text" / "sample.md").is_file()


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("1:4", [1, 2, 3]),
        ("7 1:6:2 50", [7, 1, 3, 5, 50]),
        ("3:0:-1", [3, 2, 1]),
    ],
)
def test_a_range_counts_as_python_does(plan, words, values):
    assert plan(dim=words).asked == {"dim": values}
    assert plan(patience=words).asked == {"patience": values}


def test_a_range_is_text_where_text_is_meant(plan):
    assert plan(note="0:3").asked == {"note": ["0:3"]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({}, "nothing to sweep over: name a parameter of sample, as in -p seed 0:5"),
        ({"dmi": "2 3"}, "unknown parameter 'dmi'; did you mean 'dim'?\nsample has:\n"),
        ({"dim": "2 x"}, "dim must be int, got 'x'"),
        ({"dim": "2 900"}, "dim must be >= 1 and <= 784, got 900"),
        ({"dim": "0:3"}, "dim must be >= 1 and <= 784, got 0"),
        ({"rate": "0:3"}, "rate must be float, got '0:3'"),
        ({"set": "mnist mnits"}, "set must be one of mnist, digits, got 'mnits'; did you mean 'mnist'?"),
        ({"dim": "2 10 2"}, "dim is given the value 2 twice"),
        ({"dim": "2 1:4"}, "dim is given the value 2 twice"),
        ({"rate": "0.1 1e-1"}, "rate is given the value 0.1 twice"),
        (
            {"dim": "5:5"},
            "dim: the range 5:5 is empty: FIRST:END counts up to END - 1, FIRST:END:STEP in steps",
        ),
        ({"dim": "1:5:0"}, "dim: the range 1:5:0 is empty: "),
        ({"patience": "1:20000"}, "patience: the range 1:20000 is too long: a sweep has at most 10,000 runs"),
        ({"dim": f"1:{10**30}"}, f"dim: the range 1:{10**30} is too long: a sweep has at most 10,000 runs"),
        ({"dim": "1:102", "patience": "1:101"}, "these are 10,100 runs; a sweep has at most 10,000"),
    ],
)
def test_a_mistake_anywhere_refuses_the_whole(plan, words, message):
    with pytest.raises(ParameterError) as caught:
        plan(**words)
    assert str(caught.value).startswith(message)


def test_an_unknown_chapter_is_refused_with_a_guess(empty_book):
    empty_book.write("sample", TEXT)
    with pytest.raises(UnknownChapterError, match="unknown chapter 'smaple'; did you mean 'sample'"):
        sweep_plan.plan(empty_book.folder, "smaple", {"dim": ["2"]})


def names(plan):
    return [run.name for run in plan.runs]


def test_a_run_has_one_name_however_it_was_asked_for(plan):
    assert names(plan(dim="2", rate="0.5")) == names(plan(rate="5e-1", dim="2", set="mnist"))
    assert names(plan(dim="2"))[0].startswith("dim=2-")
    assert names(plan(dim="20"))[0].isalnum()
    assert len(set(names(plan(dim="1:50", set="mnist digits")))) == 98


def test_a_name_is_one_of_a_file(plan):
    (name,) = names(plan(note="../a/b" + "c" * 300))
    assert "/" not in name
    assert len(name) < 150


def test_another_text_or_package_is_another_run(empty_book, plan, monkeypatch):
    before = names(plan(dim="2"))
    assert names(plan(dim="2")) == before
    with monkeypatch.context() as patch:
        patch.setattr(sweep_plan, "package_digest", lambda: "another")
        assert names(plan(dim="2")) != before
    empty_book.write("sample", TEXT + "\nMore.\n")
    assert names(plan(dim="2")) != before


def test_a_change_in_a_file_that_the_chapter_reads_is_another_run(empty_book, plan):
    table = empty_book.root / "table.csv"
    table.write_text("a\n")
    empty_book.write("sample", "---\nreads: [table.csv]\n---\n" + TEXT)
    before = names(plan(dim="2"))
    assert names(plan(dim="2")) == before
    table.write_text("b\n")
    assert names(plan(dim="2")) != before
