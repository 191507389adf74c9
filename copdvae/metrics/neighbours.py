"""Prediction by the 5 nearest neighbours, and how good predictions are.  Paper A, "Prediction Task".

Codes are (n, d), targets (n,), NaN where a subject has no value. Neighbours come from training subjects alone. Every score
takes truth and predicted as (..., n), so that a bootstrap can score thousands of resamples in one call, and leaves out the
pairs in which either is missing: `complete` says how many are left.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.neighbors import KDTree

Score = Any  # a float of (n,), an array of (...,) of (..., n)
GOLD_SIX = (-1, 0, 1, 2, 3, 4)  # PRISm and GOLD 0 to 4; never-smoked normals (-2) are left out
GOLD_STAGES = (0, 1, 2, 3, 4)  # the ordered ones: PRISm has no place between them


def knn_regression(train_z: ArrayLike, train_t: ArrayLike, test_z: ArrayLike, k: int = 5) -> np.ndarray:
    """Mean target of the `k` nearest training subjects: (n_test,), NaN where `test_z` is missing."""
    return votes(train_z, train_t, test_z, k).mean(axis=1)


def knn_classification(
    train_z: ArrayLike, train_t: ArrayLike, test_z: ArrayLike, k: int = 5, categories: Sequence[float] | None = None
) -> np.ndarray:
    """Most frequent target of the `k` nearest training subjects: (n_test,) float, NaN where `test_z` is missing.

    A tie goes to the smallest label. With `categories`, only training subjects of one of them have a vote.
    """
    train_t = np.asarray(train_t, dtype=float)
    if categories is not None:
        train_t = np.where(np.isin(train_t, categories), train_t, np.nan)
    found = votes(train_z, train_t, test_z, k)  # (n_test, k)
    labels = np.unique(found[~np.isnan(found)])
    if not len(labels):
        return np.full(len(found), np.nan)
    winner = labels[(found[:, :, None] == labels).sum(axis=1).argmax(axis=1)]
    return np.where(np.isnan(found[:, 0]), np.nan, winner)


def votes(train_z: ArrayLike, train_t: ArrayLike, test_z: ArrayLike, k: int) -> np.ndarray:
    """Targets of the `k` nearest training subjects (all, where there are fewer than `k`): (n_test, k).

    Euclidean distance. Equal distances are settled by the tree's own order, the same for every subject, so a constant code
    predicts a constant. A tree and not scikit-learn's brute force, whose expanded squares lose digits for codes far from 0.
    """
    train_z, test_z, train_t = as_columns(train_z), as_columns(test_z), np.asarray(train_t, dtype=float)
    usable = ~np.isnan(train_t) & ~np.isnan(train_z).any(axis=1)
    train_z, train_t = train_z[usable], train_t[usable]
    found = np.full((len(test_z), max(1, min(k, len(train_z)))), np.nan)
    known = ~np.isnan(test_z).any(axis=1)
    if len(train_z) and known.any():
        _, index = KDTree(train_z).query(test_z[known], k=found.shape[1])
        found[known] = train_t[index]
    return found


def as_columns(z: ArrayLike) -> np.ndarray:
    """(n, d) float64; a single column may come as (n,)."""
    z = np.asarray(z, dtype=float)
    return z[:, None] if z.ndim == 1 else z


def complete(*arrays: ArrayLike) -> tuple[np.ndarray, ...]:
    """The rows (first axis) in which no array has a missing value, as float64."""
    floats = [np.asarray(array, dtype=float) for array in arrays]
    keep = np.logical_and.reduce([~np.isnan(a).any(axis=tuple(range(1, a.ndim))) for a in floats])
    return tuple(a[keep] for a in floats)


def r2(truth: ArrayLike, predicted: ArrayLike) -> Score:
    """`1 - SSE / SST` about the mean of the truth that is scored; NaN where that truth does not vary."""
    truth, predicted, weight = pairs(truth, predicted)
    n = weight.sum(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (truth * weight).sum(axis=-1, keepdims=True) / n
        total = (weight * (truth - mean) ** 2).sum(axis=-1)
        return np.where(total > 0, 1 - (weight * (truth - predicted) ** 2).sum(axis=-1) / total, np.nan)[()]


def mae(truth: ArrayLike, predicted: ArrayLike) -> Score:
    """Mean absolute error, in the target's unit."""
    truth, predicted, weight = pairs(truth, predicted)
    with np.errstate(invalid="ignore"):
        return ((weight * np.abs(truth - predicted)).sum(axis=-1) / weight.sum(axis=-1))[()]


def kappa(truth: ArrayLike, predicted: ArrayLike, categories: Sequence[float] = GOLD_SIX) -> Score:
    """Cohen's kappa, unweighted, over `categories`; subjects whose truth is none of them are left out.

    A prediction outside them is a wrong one. NaN where chance alone would always agree (one category on both sides).
    """
    truth, predicted, weight = pairs(truth, predicted)
    weight = weight & np.isin(truth, categories)
    n = weight.sum(axis=-1)
    agreed = (weight & (truth == predicted)).sum(axis=-1)
    by_chance = sum((weight & (truth == c)).sum(axis=-1) * (weight & (predicted == c)).sum(axis=-1) for c in categories)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed, expected = agreed / n, by_chance / n**2
        return np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)[()]


def quadratic_kappa(truth: ArrayLike, predicted: ArrayLike, categories: Sequence[float] = GOLD_STAGES) -> Score:
    """Cohen's kappa with squared-distance weights over ordered stages; subjects whose truth is none of them are left out.

    Predictions must be stages too: vote with `knn_classification(..., categories=GOLD_STAGES)`.
    """
    truth, predicted, weight = pairs(truth, predicted)
    weight = weight & np.isin(truth, categories)
    if not np.isin(predicted[weight], categories).all():
        raise ValueError(f"predictions outside the ordered stages {tuple(categories)}: let only these vote")
    n = weight.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        # E(t - p)^2 of independent t and p: var t + var p + (mean t - mean p)^2
        mean_t, mean_p = (truth * weight).sum(axis=-1) / n, (predicted * weight).sum(axis=-1) / n
        second = (weight * (truth**2 + predicted**2)).sum(axis=-1) / n
        by_chance = second - 2 * mean_t * mean_p
        observed = (weight * (truth - predicted) ** 2).sum(axis=-1) / n
        return np.where(by_chance > 1e-12, 1 - observed / by_chance, np.nan)[()]


def within_one(truth: ArrayLike, predicted: ArrayLike, categories: Sequence[float] = GOLD_STAGES) -> Score:
    """Share of subjects of an ordered stage predicted at most one stage off (a prediction outside the stages is off)."""
    truth, predicted, weight = pairs(truth, predicted)
    weight = weight & np.isin(truth, categories)
    near = weight & np.isin(predicted, categories) & (np.abs(truth - predicted) <= 1)
    with np.errstate(invalid="ignore"):
        return (near.sum(axis=-1) / weight.sum(axis=-1))[()]


def pairs(truth: ArrayLike, predicted: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and prediction with 0 for a pair that lacks either, and where the pair is whole: each (..., n)."""
    truth, predicted = np.asarray(truth, dtype=float), np.asarray(predicted, dtype=float)
    whole = ~(np.isnan(truth) | np.isnan(predicted))
    if whole.all():
        return truth, predicted, whole
    return np.where(whole, truth, 0), np.where(whole, predicted, 0), whole
