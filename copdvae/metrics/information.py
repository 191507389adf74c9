"""Mutual information of codes and labels from histograms, in nats.  Paper A, Eq. 8 and Chen et al. 2018, arXiv:1802.04942, sec. 4.1.

    I(z; t) = sum p(z, t) log p(z, t) / (p(z) p(t)),   H(t) = - sum p(t) log p(t)

Codes are posterior means in equal-width bins. n: subjects, D: latents, F: factors, t: (n,) labels. A continuous target is cut at the
deciles of the training subjects (`cut_at_deciles`).

Bins find information in pure noise, about (bins - 1) (classes - 1) / 2n nats of it while that is small: see `grouped_mig.py` for the
adjustment, and docs/ESTIMATORS.md for what was measured.
"""

import numpy as np
from numpy.typing import ArrayLike

from copdvae.metrics.neighbours import as_columns, complete

BINS = 20  # a latent, as disentanglement_lib
SUBJECTS_A_CELL = 5


def entropy(labels: ArrayLike) -> float:
    """H of a discrete variable, in nats."""
    counts = np.bincount(label_numbers(labels))
    return float(-plogp(counts / counts.sum()).sum())


def mutual_information(a: ArrayLike, b: ArrayLike) -> float:
    """I of two discrete variables given as labels, in nats."""
    a, b = label_numbers(a), label_numbers(b)
    return float(information(a[None], b, a.max() + 1)[0])


def information(codes: np.ndarray, target: np.ndarray, bins: int) -> np.ndarray:
    """I(code; target) of D codings at once: codes (D, n) in 0..bins-1, target (n,) in 0.., result (D,)."""
    n, classes = len(target), int(target.max()) + 1
    counts = [np.bincount(code * classes + target, minlength=bins * classes) for code in codes]
    joint = np.reshape(counts, (len(codes), bins, classes)) / n
    return plogp(joint).sum(axis=(1, 2)) - plogp(joint.sum(axis=2)).sum(axis=1) - plogp(joint.sum(axis=1)).sum(axis=1)


def shares(z: ArrayLike, factors: ArrayLike, bins: int = BINS) -> np.ndarray:
    """I(z_d; t_k) / H(t_k) of codes (n, D) and discrete factors (n, F): (D, F) in 0..1; NaN for a factor that does not vary."""
    codes = equal_width(z, bins).T
    found = np.full((len(codes), as_columns(factors).shape[1]), np.nan)
    for k, factor in enumerate(as_columns(factors).T):
        labels = label_numbers(factor)
        if labels.any():
            found[:, k] = information(codes, labels, bins) / -plogp(np.bincount(labels) / len(labels)).sum()
    return found


def plogp(p: np.ndarray) -> np.ndarray:
    return p * np.log(np.where(p > 0, p, 1))


def equal_width(z: ArrayLike, bins: int) -> np.ndarray:
    """Bin of every code between its column's lowest and highest value: (n, d) in 0..bins-1; a constant column is all 0.

    A bin holds its lower edge, the last one its upper edge too, as in `numpy.histogram`: edges are compared, not divided.
    """
    columns = np.ascontiguousarray(as_columns(z).T)
    place = np.empty(columns.shape, dtype=np.intp)
    for column, found in zip(columns, place, strict=True):  # one at a time stays in the processor's cache
        low = column.min()
        width = column.max() - low or 1.0
        edges = np.linspace(low, low + width, bins + 1)
        edges[-1] = np.inf
        found[:] = np.minimum((column - low) / width * bins, bins - 1)
        found -= column < edges.take(found)
        found += column >= edges[1:].take(found)
    return place.T


def bins_for(n: int, dimensions: int, bins: int = BINS) -> int:
    """Bins a dimension, at most `bins`, that keep a joint histogram of the dimensions at n / 5 cells or fewer."""
    cells = max(n / SUBJECTS_A_CELL, 2)
    return max(2, min(bins, int(cells ** (1 / max(dimensions, 1)) + 1e-9)))


def cut_at_deciles(values: ArrayLike, training: ArrayLike) -> np.ndarray:
    """Tenth (0 to 9) of the training values in which each value lies: (n,) float, NaN stays NaN; tied deciles count once."""
    values, training = np.asarray(values, dtype=float), np.asarray(training, dtype=float)
    edges = np.unique(np.quantile(training[~np.isnan(training)], np.arange(0.1, 0.95, 0.1)))
    return np.where(np.isnan(values), np.nan, np.searchsorted(edges, values, side="right"))


def rank_latents(z: ArrayLike, target: ArrayLike, bins: int = BINS) -> np.ndarray:
    """Columns of z from the most to the least informative about the target's labels: the first d(u) are a method's "ranked u".

    Give training subjects alone.
    """
    z, target = complete(as_columns(z), target)
    bins = bins_for(len(z), 1, bins)
    return np.argsort(-information(equal_width(z, bins).T, label_numbers(target), bins), kind="stable")


def label_numbers(labels: ArrayLike) -> np.ndarray:
    """Labels as 0.. in their order: (n,) integers."""
    return np.unique(np.asarray(labels), return_inverse=True)[1].ravel()
