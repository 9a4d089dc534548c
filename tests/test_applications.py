import pytest
import torch

from vaebook import vae
from vaebook.applications import write_in_style


@pytest.fixture
def cvae() -> vae.CVAE:
    torch.manual_seed(0)
    return vae.mlp_cvae(latent_dim=3, hidden=(8,), image_shape=(1, 4, 4), conditioner=(5,))


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(1))


def test_a_line_of_digits_has_the_shape_of_its_source(cvae, image):
    line = write_in_style(cvae, image, 7, "2026")
    assert line.shape == (4, 1, 4, 4)
    assert ((line > 0) & (line < 1)).all()


def test_each_digit_is_the_style_decoded_with_its_own_label(cvae, image):
    z = cvae.given(torch.tensor([7])).encode(image.unsqueeze(0)).mean
    line = write_in_style(cvae, image, 7, "203")
    for label, written in zip((2, 0, 3), line, strict=True):
        torch.testing.assert_close(written, cvae.given(torch.tensor([label])).decode(z).mean[0])


def test_the_style_is_read_with_the_label_of_its_digit(cvae, image):
    assert not torch.allclose(write_in_style(cvae, image, 7, "1"), write_in_style(cvae, image, 8, "1"))


def test_a_string_and_labels_say_the_same(cvae, image):
    line = write_in_style(cvae, image, 0, "907")
    assert torch.equal(line, write_in_style(cvae, image, 0, [9, 0, 7]))
    assert torch.equal(line, write_in_style(cvae, image, torch.tensor(0), torch.tensor([9, 0, 7])))


def test_without_a_generator_equal_digits_are_equal(cvae, image):
    first, second = write_in_style(cvae, image, 7, "11")
    assert torch.equal(first, second)


def test_with_a_generator_digits_vary_and_the_line_repeats(cvae, image):
    line = write_in_style(cvae, image, 7, "11", generator=torch.Generator().manual_seed(2))
    again = write_in_style(cvae, image, 7, "11", generator=torch.Generator().manual_seed(2))
    assert not torch.allclose(line[0], line[1])
    assert torch.equal(line, again)


def test_drawn_styles_have_the_distribution_of_the_code(cvae, image):
    q_z = cvae.given(torch.tensor([7])).encode(image.unsqueeze(0))
    one = cvae.given(torch.tensor([1]))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        drawn = write_in_style(cvae, image, 7, [1] * 20_000, generator=generator)
        expected = one.decode(q_z.sample((20_000,), generator=generator)).mean.squeeze(1)
    slack = 5 * (drawn.var(0) / 20_000 + expected.var(0) / 20_000).sqrt()
    assert ((drawn.mean(0) - expected.mean(0)).abs() <= slack).all()


def test_no_gradient_is_kept(cvae, image):
    assert not write_in_style(cvae, image, 7, "1").requires_grad


@pytest.mark.parametrize("digits", ["", "20 26", "3.14", "-1", "²", "٣"])
def test_only_digits_can_be_written(cvae, image, digits):
    with pytest.raises(ValueError, match=r"digits must be one or more of 0 to 9, such as '2026', got"):
        write_in_style(cvae, image, 7, digits)


def test_nothing_cannot_be_written(cvae, image):
    with pytest.raises(ValueError, match="digits must be one or more, got none"):
        write_in_style(cvae, image, 7, [])


@pytest.mark.parametrize("digits", [[10], [-1]])
def test_labels_that_the_model_does_not_have(cvae, image, digits):
    with pytest.raises(ValueError, match="labels must be from 0 to 9"):
        write_in_style(cvae, image, 7, digits)
    with pytest.raises(ValueError, match="labels must be from 0 to 9"):
        write_in_style(cvae, image, digits[0], "1")


@pytest.mark.parametrize(("label", "digits"), [(1.0, "1"), ("7", "1"), (7, [1.5]), (7, ["1"])])
def test_labels_are_integers(cvae, image, label, digits):
    with pytest.raises(TypeError, match="integer"):
        write_in_style(cvae, image, label, digits)


@pytest.mark.parametrize("shape", [(4, 4), (1, 1, 4, 4), (1, 28, 28)])
def test_an_image_of_another_shape(cvae, shape):
    with pytest.raises(ValueError, match=r"the image must have the shape \(1, 4, 4\), got \("):
        write_in_style(cvae, torch.zeros(shape), 7, "1")


@pytest.mark.parametrize("value", [-0.1, 255.0, torch.nan])
def test_an_image_that_is_not_from_0_to_1(cvae, value):
    with pytest.raises(ValueError, match="the values of the image must be from 0 to 1"):
        write_in_style(cvae, torch.full((1, 4, 4), value), 7, "1")


def test_an_encoder_without_the_label_writes_too(image):
    cvae = vae.mlp_cvae(latent_dim=2, hidden=(8,), image_shape=(1, 4, 4), encoder_conditioned=False)
    assert torch.equal(write_in_style(cvae, image, 7, "2026"), write_in_style(cvae, image, 8, "2026"))


def test_with_a_learned_prior_the_place_in_it_is_the_style(image):
    cvae = vae.mlp_cvae(latent_dim=2, hidden=(8,), image_shape=(1, 4, 4), learned_prior=True)
    seven, one = cvae.given(torch.tensor([7])), cvae.given(torch.tensor([1]))
    place = (seven.encode(image.unsqueeze(0)).mean - seven.prior.mean) / seven.prior.variance.sqrt()
    expected = one.decode(one.prior.mean + one.prior.variance.sqrt() * place).mean
    torch.testing.assert_close(write_in_style(cvae, image, 7, "1"), expected)
