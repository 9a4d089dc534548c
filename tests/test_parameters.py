import pytest

from vaebook.parameters import Parameter, ParameterError, check_values, declared, parse, validate

CELL = """\
latent_dim: int = 20  # dimensions of the code z, in [1, 784]
learning_rate: float = 1e-3  # Adam's step size, in (0, 1]
patience: int | None = None  # epochs without progress before stopping, >= 1
dataset: str = "mnist"  # data set, one of mnist, fashion_mnist
binary: bool = True  # draw binary images
note: str = "a=b"  # shown in the title
"""
VAE = parse(CELL)
DEFAULTS = {parameter.name: parameter.default for parameter in VAE}


def test_a_line_is_read_with_its_type_default_help_and_range():
    assert VAE[0] == Parameter(
        "latent_dim", "int", 20, "dimensions of the code z, in [1, 784]", bounds=((">=", 1.0), ("<=", 784.0))
    )
    assert [parameter.type for parameter in VAE] == ["int", "float", "int | None", "str", "bool", "str"]
    assert VAE[1].bounds == ((">", 0.0), ("<=", 1.0))
    assert VAE[2].bounds == ((">=", 1.0),)
    assert VAE[3].choices == ("mnist", "fashion_mnist")
    assert str(VAE[1]) == "learning_rate: float = 0.001  # Adam's step size, in (0, 1]"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("latent_dim = 20  # no type", "'latent_dim = 20' is not of the form 'name: type = value  # help'"),
        ("latent_dim: int = 20", "latent_dim needs a comment that says what it is"),
        ("latent_dim: int  # no value", "is not of the form"),
        ("import torch  # no parameter", "'import torch' is not of the form"),
        ("sizes: list = [1]  # sizes", "sizes has type 'list'; known: bool, int, float, str"),
        ("steps: int = 2 * 3  # steps", "steps needs a plain value, got 2 * 3"),
        ("steps: int = 2.0  # steps", "steps must be int, got 2.0"),
        ("steps: int = 0  # steps, in [1, 9]", "steps must be >= 1 and <= 9, got 0"),
        ("steps: int = 1  # steps, in [1; 9]", "cannot read the range in 'steps, in [1; 9]'"),
        ("steps: int = 1  # steps, in [1, 9] or so", "end it with ', in [1, 784]'"),
        ("steps: int = 1  # steps, >= one", "cannot read the range"),
        ("steps: int = ", "parameters cell, line 1: invalid syntax"),
    ],
)
def test_a_line_that_says_too_little_is_refused(line, message):
    with pytest.raises(ParameterError, match=r"parameters cell|must be") as caught:
        parse(line)
    assert message in str(caught.value)


def test_a_comment_with_an_arrow_or_a_bracket_has_no_range():
    assert parse("beta: float = 1.0  # weight of the KL (beta -> 0 is the AE), in nats")[0].bounds == ()


def test_words_of_the_command_line_are_read_by_the_declared_type():
    words = {
        "latent_dim": "2",
        "learning_rate": "1e-2",
        "patience": "None",
        "dataset": "fashion_mnist",
        "binary": "false",
        "note": "7",
    }
    assert check_values(VAE, words) == {
        "latent_dim": 2,
        "learning_rate": 0.01,
        "patience": None,
        "dataset": "fashion_mnist",
        "binary": False,
        "note": "7",
    }


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("latent_dim", "two", "latent_dim must be int, got 'two'"),
        ("latent_dim", "2.0", "latent_dim must be int, got '2.0'"),
        ("latent_dim", 2.0, "latent_dim must be int, got 2.0"),
        ("latent_dim", True, "latent_dim must be int, got True"),
        ("latent_dim", "785", "latent_dim must be >= 1 and <= 784, got 785"),
        ("learning_rate", "0", "learning_rate must be > 0 and <= 1, got 0.0"),
        ("learning_rate", "nan", "learning_rate must be finite, got nan"),
        ("patience", "0", "patience must be >= 1, got 0"),
        ("binary", "maybe", "binary must be bool, got 'maybe'"),
        ("dataset", "mnits", "one of mnist, fashion_mnist, got 'mnits'; did you mean 'mnist'?"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(name, value, message):
    with pytest.raises(ParameterError) as caught:
        check_values(VAE, {name: value})
    assert message in str(caught.value)


def test_an_unknown_name_is_refused_with_a_guess_and_the_list():
    with pytest.raises(ParameterError) as caught:
        check_values(VAE, {"latnt_dim": "2"}, chapter="vae")
    first, second, *rest = str(caught.value).splitlines()
    assert first == "unknown parameter 'latnt_dim'; did you mean 'latent_dim'?"
    assert second == "vae has:"
    assert rest == [f"  {parameter}" for parameter in VAE]


def test_a_chapter_without_parameters_says_so():
    with pytest.raises(ParameterError, match=r"unknown parameter 'x'\nindex has:\n  no parameters"):
        check_values([], {"x": "1"}, chapter="index")


def test_validate_accepts_the_defaults_and_what_papermill_injects():
    check = "validate(In, globals())"
    validate(["", CELL, check], DEFAULTS)
    validate(["", CELL, "# Parameters\nlatent_dim = 2\n", check], DEFAULTS | {"latent_dim": 2})


def test_validate_refuses_a_name_that_papermill_only_warns_of():
    with pytest.raises(ParameterError, match="unknown parameter 'latnt_dim'; did you mean 'latent_dim'"):
        validate(["", CELL, "# Parameters\nlatnt_dim = 2\n", "validate"], DEFAULTS | {"latnt_dim": 2})


def test_validate_reads_no_value_from_a_string():
    with pytest.raises(ParameterError, match="latent_dim must be int, got '2'"):
        validate(["", CELL], DEFAULTS | {"latent_dim": "2"})


def test_validate_holds_on_to_the_latest_parameters_cell():
    edited = CELL.replace("in [1, 784]", "in [1, 1000]").replace("20", "900")
    validate(["", CELL, "x = 1", edited, "validate"], DEFAULTS | {"latent_dim": 900})


def test_the_latest_parameters_cell_is_the_one_that_counts():
    later = "note: str = 'b'  # shown in the title"
    assert declared(["", CELL, "x = 1", later, "1 + 1"]) == parse(later)
    assert declared(["", "x = 1"]) == []


def test_validate_asks_for_the_parameters_cell():
    with pytest.raises(ParameterError, match="no parameters cell has run: run the chapter's first code cell"):
        validate(["", "x = 1"], {})
