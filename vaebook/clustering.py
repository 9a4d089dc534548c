"""What belongs together: clusters of codes, and how well they match labels that the codes never saw."""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics.cluster import contingency_matrix
from sklearn.mixture import GaussianMixture
from torch import Tensor

from vaebook.arguments import require_known, require_positive

METHODS = {"mixture": GaussianMixture, "kmeans": KMeans}


def cluster(
    codes: Tensor, clusters: int = 10, *, method: str = "mixture", seed: int = 0, restarts: int = 5
) -> Tensor:
    """Sort codes into clusters.

    Args:
        codes: shape ``(n, k)``, such as ``model.encode(x).mean``.
        clusters: how many there are, from 1 to the number of different codes.
        method: "mixture" of normals, each with a covariance matrix of its own, or "kmeans".
        seed: of the starting points.
        restarts: how many of them, at least 1; the best result is kept.

    Returns:
        The cluster of each code, from 0, int64 ``(n,)``.

    Raises:
        ValueError: the codes do not fit or are not finite, there are more clusters than different codes, an
            unknown method, or numbers that are not positive.
    """
    require_known("method", method, METHODS)
    require_positive(clusters=clusters, restarts=restarts)
    if codes.dim() != 2 or not codes.isfinite().all():
        raise ValueError(f"codes must be finite numbers of shape (n, k), got shape {tuple(codes.shape)}")
    points = codes.detach().cpu().double().numpy()
    different = len(np.unique(points, axis=0))
    if clusters > different:
        raise ValueError(
            f"clusters must be at most {different}, the number of different codes, got {clusters}"
        )
    found = METHODS[method](clusters, n_init=restarts, random_state=seed, max_iter=1000).fit_predict(points)
    return torch.from_numpy(found).long()


def clustering_accuracy(labels: Tensor, clusters: Tensor) -> float:
    """Share of images whose label is that of their cluster, for the best matching of clusters with labels.

    No two clusters have the same label; one that is left over has none.

    Args:
        labels: integers ``(n,)``.
        clusters: integers ``(n,)``, such as those of :func:`cluster`; their names do not matter.

    Raises:
        ValueError: not as many labels as clusters, or none.
    """
    if labels.dim() != 1 or labels.shape != clusters.shape or not len(labels):
        raise ValueError(
            "labels and clusters must have the same shape (n,), one entry for each image; "
            f"got {tuple(labels.shape)} and {tuple(clusters.shape)}"
        )
    counts = contingency_matrix(labels.cpu(), clusters.cpu())
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(labels))
