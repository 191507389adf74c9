"""l2 label score: how far inferred labels lie from the true ones.  Paper C, "Evaluation metrics".

    l2 = mean over images of | y_inferred - y |_2

C calls it "the Euclidean distance between the inferred and the ground-truth labels" and leaves the average over images to be guessed.
Labels are (n, K) in the unit that the network was told, so scores of two studies compare only where their units do. Inferred labels
are posterior means of the label dimensions, or their sigmoid where labels were trained by cross-entropy (`mu` is then a logit).

0 to infinity, 0 is best: 0 for a perfect code, and for a constant one never below the distance from the labels' spatial median.
Invariant to nothing but a common order of the labels. Interval: a percentile bootstrap of images. Rows with a missing value are left out.
"""

import numpy as np
from numpy.typing import ArrayLike

from copdvae.metrics.bootstrap import Interval, Seed, percentile_interval
from copdvae.metrics.neighbours import as_columns, complete


def label_error(inferred: ArrayLike, labels: ArrayLike) -> float:
    """Mean Euclidean distance of inferred and true labels, each (n, K) or (n,)."""
    return float(np.mean(distances(inferred, labels)))


def label_error_interval(inferred: ArrayLike, labels: ArrayLike, draws: int = 2000, seed: Seed = 0) -> Interval:
    return percentile_interval(lambda distance: distance.mean(axis=-1), distances(inferred, labels), draws=draws, seed=seed)


def distances(inferred: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Distance of each complete row: (n,)."""
    inferred, labels = complete(as_columns(inferred), as_columns(labels))
    return np.linalg.norm(inferred - labels, axis=1)
