import itertools

import pytest
import torch

from vaebook.clustering import cluster, clustering_accuracy


@pytest.fixture
def blobs() -> tuple[torch.Tensor, torch.Tensor]:
    """Four round clusters far from one another, and which code is of which."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (200,), generator=generator)
    centres = torch.tensor([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0], [20.0, 20.0]])
    return centres[labels] + torch.randn(200, 2, generator=generator), labels


@pytest.mark.parametrize("method", ["mixture", "kmeans"])
def test_separated_clusters_are_found(blobs, method):
    codes, labels = blobs
    found = cluster(codes, 4, method=method)
    assert found.dtype == torch.int64
    assert found.shape == (200,)
    assert sorted(found.unique().tolist()) == [0, 1, 2, 3]
    assert clustering_accuracy(labels, found) == 1


def test_a_mixture_knows_narrow_clusters_from_wide_ones():
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(400) % 2
    codes = torch.randn(400, 2, generator=generator) * torch.where(labels == 0, 0.1, 5.0)[:, None]
    assert clustering_accuracy(labels, cluster(codes, 2)) > 0.98
    assert clustering_accuracy(labels, cluster(codes, 2, method="kmeans")) < 0.8


@pytest.mark.parametrize("method", ["mixture", "kmeans"])
def test_a_seed_repeats_the_result_and_another_changes_it(method):
    codes = torch.rand(300, 3, generator=torch.Generator().manual_seed(2))
    first = cluster(codes, 5, method=method, seed=3, restarts=1)
    assert torch.equal(first, cluster(codes, 5, method=method, seed=3, restarts=1))
    assert not torch.equal(first, cluster(codes, 5, method=method, seed=4, restarts=1))


def test_codes_may_carry_a_gradient():
    assert cluster(torch.rand(20, 2, requires_grad=True), 2).shape == (20,)


def test_an_unknown_method_is_refused_with_a_suggestion(blobs):
    message = r"unknown method 'k-means'; did you mean 'kmeans'\? known: mixture, kmeans"
    with pytest.raises(ValueError, match=message):
        cluster(blobs[0], 4, method="k-means")


@pytest.mark.parametrize("codes", [torch.zeros(4), torch.zeros(4, 1, 2), torch.full((4, 2), torch.nan)])
def test_what_are_no_codes(codes):
    with pytest.raises(ValueError, match=r"codes must be finite numbers of shape \(n, k\), got shape"):
        cluster(codes, 2)


def test_more_clusters_than_different_codes():
    codes = torch.tensor([[0.0], [1.0], [1.0]])
    message = "clusters must be at most 2, the number of different codes, got 3"
    with pytest.raises(ValueError, match=message):
        cluster(codes, 3)


@pytest.mark.parametrize("name", ["clusters", "restarts"])
@pytest.mark.parametrize("value", [0, -2, 1.5])
def test_numbers_that_are_not_positive_integers(blobs, name, value):
    with pytest.raises(ValueError, match=f"{name} must be a positive integer, got"):
        cluster(blobs[0], **{name: value})


def test_the_best_matching_is_the_best_of_all():
    generator = torch.Generator().manual_seed(5)
    labels, clusters = torch.randint(4, (2, 60), generator=generator)
    shares = [
        (torch.tensor(names)[clusters] == labels).double().mean().item()
        for names in itertools.permutations(range(4))
    ]
    assert clustering_accuracy(labels, clusters) == pytest.approx(max(shares))
    assert max(shares) > min(shares)


def test_clusters_that_are_left_over_are_wrong():
    labels = torch.tensor([0, 0, 0, 0, 7, 7])
    assert clustering_accuracy(labels, torch.tensor([5, 5, 5, 1, 3, 3])) == pytest.approx(5 / 6)
    assert clustering_accuracy(labels, torch.zeros(6, dtype=torch.int64)) == pytest.approx(4 / 6)


@pytest.mark.parametrize(("labels", "clusters"), [((3,), (4,)), ((0,), (0,)), ((2, 2), (2, 2))])
def test_labels_and_clusters_that_do_not_match(labels, clusters):
    with pytest.raises(ValueError, match=r"labels and clusters must have the same shape \(n,\)"):
        clustering_accuracy(*(torch.zeros(shape, dtype=torch.int64) for shape in (labels, clusters)))
