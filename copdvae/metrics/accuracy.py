"""Share of images whose class is inferred rightly.  Paper D, sec. 5.1.2 (95 % on MNIST with 256 labels).

The inferred class is the most probable one of q(c|x). With labels in training the classes have names (`accuracy`); without any they come
in no order, and `matched_accuracy` gives each inferred class the true one that makes most of all right, one to one.

0 to 1, higher is better: 1 for a perfect code, the share of one class for a constant one, about 1 / classes for one that knows nothing (a
little more once matched). `accuracy` is invariant to nothing, `matched_accuracy` to any renaming of inferred classes.
Interval: `percentile_interval(accuracy, truth, predicted)`; where classes are matched, rename them first (`matched`).
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from copdvae.metrics.neighbours import Score, complete, pairs


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> Score:
    """Share of rows in which both agree, of those that have both; arrays of (..., n), result (...,)."""
    truth, predicted, weight = pairs(truth, predicted)
    with np.errstate(invalid="ignore"):
        return ((weight & (truth == predicted)).sum(axis=-1) / weight.sum(axis=-1))[()]


def matched_accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """`accuracy` after the best renaming of inferred classes; each (n,)."""
    return float(accuracy(truth, matched(truth, predicted)))


def matched(truth: ArrayLike, predicted: ArrayLike) -> np.ndarray:
    """Inferred classes under the true ones' names, one to one, with the most rows right: (n,).

    Inferred classes left over are numbered below every true one, so that they count as wrong. NaN stays NaN.
    """
    predicted = np.asarray(predicted, dtype=float)
    true, found = complete(truth, predicted)
    names, classes = np.unique(true), np.unique(found)
    both = np.array([[np.sum((true == name) & (found == c)) for name in names] for c in classes])
    name_of = {c: names.min() - 1 - i for i, c in enumerate(classes)}
    name_of |= {classes[i]: names[j] for i, j in zip(*linear_sum_assignment(-both), strict=True)}
    return np.array([name_of.get(c, np.nan) for c in predicted])
