import math

import pytest
import torch

from vaebook import quality
from vaebook.data import Split


def test_the_classifier_learns_which_corner_is_bright():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (640,), generator=generator)
    images = torch.randint(60, (640, 1, 8, 8), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, 4 * (label // 2) :, 4 * (label % 2) :][:, :4, :4] += 150
    split = Split(images, labels, 255)
    classifier = quality.digit_classifier(split, generator=generator)
    assert (classifier(split.x()).argmax(-1) == labels).float().mean() > 0.99
    assert torch.equal(classifier(split.x()), classifier(split.x()))  # nothing is dropped out any more
    assert not any(weights.requires_grad for weights in classifier.parameters())


def test_sharpness_is_the_squared_step_between_neighbours():
    stripes = torch.zeros(1, 1, 4, 4)
    stripes[..., ::2] = 0.5
    images = torch.cat([stripes, stripes.mT, torch.full((1, 1, 4, 4), 0.5)])
    assert quality.sharpness(images).tolist() == [0.25, 0.25, 0]


def test_nearest_distance_is_to_the_nearest():
    data = torch.zeros(2, 1, 2, 2)
    data[1] = 1
    images = torch.stack([data[0] + 0.25, data[1] - 0.25, data[1]])
    torch.testing.assert_close(quality.nearest_distance(images, data), torch.tensor([0.5, 0.5, 0]))


def test_frechet_distance_of_normals_with_diagonal_covariances_is_the_distance_of_their_parameters():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(500, 3, generator=generator, dtype=torch.float64)
    whitened = torch.linalg.solve_triangular(
        torch.linalg.cholesky(torch.cov(vectors.T)), (vectors - vectors.mean(0)).T, upper=False
    ).T
    first = whitened * torch.tensor([1.0, 2.0, 3.0])
    second = whitened * torch.tensor([1.0, 1.0, 5.0]) + torch.tensor([0.0, 3.0, 0.0])
    assert quality.frechet_distance(first, second) == pytest.approx(9 + 1 + 4, rel=1e-9)
    assert math.isclose(quality.frechet_distance(first, first), 0, abs_tol=1e-6)
