"""Mutual information gaps of latent codes.  Plain MIG as in disentanglement_lib; grouped MIG: paper A, Eq. 8.

    MIG         = mean over factors t of (I(z_1st; t) - I(z_2nd; t)) / H(t)
    grouped MIG = (I(u; t) - max_d I(v_d; t)) / H(t)

Codes are posterior means in equal-width bins; information is in nats. n: subjects, u: (n, d(u)), v: (n, d(v)), t: (n,) labels.
A continuous target is cut at the deciles of the training subjects (`cut_at_deciles`).

Bins find information in pure noise, the more the fewer subjects and the more bins (20 x 20 bins, 500 subjects: half of H). So
at most n / 15 cells are used, and the adjusted gap takes each term as (I - E) / (H - E), E its mean over permuted targets: 0 on
average for an unrelated code, 1 for a perfect one.
"""

from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from copdvae.metrics.bootstrap import Interval, Seed, jackknife_interval
from copdvae.metrics.neighbours import as_columns, complete

SUBJECTS_A_CELL = 15


def entropy(labels: ArrayLike) -> float:
    """H of a discrete variable, in nats."""
    counts = np.unique(np.asarray(labels), return_counts=True)[1]
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum())


def mutual_information(a: ArrayLike, b: ArrayLike) -> float:
    """I of two discrete variables given as labels, in nats."""
    a, b = label_numbers(a), label_numbers(b)
    return float(information(a[None], b, a.max() + 1)[0])


def information(codes: np.ndarray, target: np.ndarray, bins: int) -> np.ndarray:
    """I(code; target) of D codings at once: codes (D, n) in 0..bins-1, target (n,) in 0.., result (D,)."""
    d, n = codes.shape
    classes = int(target.max()) + 1
    cell = (np.arange(d)[:, None] * bins + codes) * classes + target
    joint = np.bincount(cell.ravel(), minlength=d * bins * classes).reshape(d, bins, classes) / n
    return plogp(joint).sum(axis=(1, 2)) - plogp(joint.sum(axis=2)).sum(axis=1) - plogp(joint.sum(axis=1)).sum(axis=1)


def plogp(p: np.ndarray) -> np.ndarray:
    return p * np.log(np.where(p > 0, p, 1))


def equal_width(z: ArrayLike, bins: int) -> np.ndarray:
    """Bin of every code between its column's lowest and highest value: (n, d) in 0..bins-1; a constant column is all 0."""
    z = as_columns(z)
    low, width = z.min(axis=0), np.ptp(z, axis=0)
    place = (z - low) / np.where(width > 0, width, 1)
    return np.minimum((place * bins).astype(int), bins - 1)


def bins_for(n: int, dimensions: int, bins: int = 20) -> int:
    """Bins a dimension, at most `bins`, that keep a joint histogram of the dimensions at n / 15 cells or fewer."""
    cells = max(n / SUBJECTS_A_CELL, 2)
    return max(2, min(bins, int(cells ** (1 / dimensions) + 1e-9)))


def cut_at_deciles(values: ArrayLike, training: ArrayLike) -> np.ndarray:
    """Tenth (0 to 9) of the training values in which each value lies: (n,) float, NaN stays NaN; tied deciles count once."""
    values, training = np.asarray(values, dtype=float), np.asarray(training, dtype=float)
    edges = np.unique(np.quantile(training[~np.isnan(training)], np.arange(0.1, 0.95, 0.1)))
    return np.where(np.isnan(values), np.nan, np.searchsorted(edges, values, side="right"))


def mig(z: ArrayLike, factors: ArrayLike, bins: int = 20) -> float:
    """Plain MIG of codes (n, D), D >= 2, for discrete factors (n, F). A factor that does not vary is left out."""
    z, factors = as_columns(z), as_columns(factors)
    codes = equal_width(z, bins).T
    gaps = []
    for factor in factors.T:
        if (h := entropy(factor)) > 0:
            second, first = np.sort(information(codes, label_numbers(factor), bins))[-2:].tolist()
            gaps.append((first - second) / h)
    return float(np.mean(gaps)) if gaps else float("nan")


def grouped_mig(
    u: ArrayLike, v: ArrayLike, target: ArrayLike, bins: int = 20, adjusted: bool = True, permutations: int = 50, seed: Seed = 0
) -> float:
    """Paper A, Eq. 8, plain or adjusted for chance, on the subjects with a target. NaN where the target does not vary."""
    u, v, target, shuffled = rows(u, v, target, permutations if adjusted else 0, seed)
    return gap(u, v, target, shuffled, bins_for(len(u), u.shape[1], bins), bins_for(len(u), 1, bins))


def grouped_mig_interval(
    u: ArrayLike, v: ArrayLike, target: ArrayLike, bins: int = 20, adjusted: bool = True, permutations: int = 50, seed: Seed = 0
) -> Interval:
    """`grouped_mig` with its interval by a 20-block jackknife; bins and permutations stay those of all subjects."""
    u, v, target, shuffled = rows(u, v, target, permutations if adjusted else 0, seed)
    score = partial(gap, u_bins=bins_for(len(u), u.shape[1], bins), v_bins=bins_for(len(u), 1, bins))
    return jackknife_interval(score, u, v, target, shuffled, seed=seed)


def rows(u: ArrayLike, v: ArrayLike, target: ArrayLike, permutations: int, seed: Seed) -> tuple[np.ndarray, ...]:
    """Complete subjects' u, v, target as numbers from 0, and `permutations` shuffled copies of it as (n, permutations)."""
    u, v, target = complete(as_columns(u), as_columns(v), target)
    target = label_numbers(target)
    generator = np.random.default_rng(seed)
    return u, v, target, generator.permuted(np.tile(target[:, None], permutations), axis=0)


def gap(u: np.ndarray, v: np.ndarray, target: np.ndarray, shuffled: np.ndarray, u_bins: int, v_bins: int) -> float:
    """(I(u; t) - max_d I(v_d; t)) / H(t); with shuffled targets (n, P), each term less its mean over them."""
    if not len(target) or (h := entropy(target)) == 0:
        return float("nan")
    joint = (equal_width(u, u_bins) @ u_bins ** np.arange(u.shape[1]))[None]
    single = equal_width(v, v_bins).T  # (d(v), n)

    def terms(t: np.ndarray) -> tuple[float, float]:
        of_u = information(joint, t, u_bins ** u.shape[1])[0]
        return of_u, information(single, t, v_bins).max(initial=0)

    found = np.array(terms(target.astype(int)))
    if not shuffled.shape[1]:
        return float((found[0] - found[1]) / h)
    chance = np.mean([terms(column) for column in shuffled.T.astype(int)], axis=0)
    of_u, of_v = (found - chance) / (h - chance)
    return float(of_u - of_v)


def rank_latents(z: ArrayLike, target: ArrayLike, bins: int = 20) -> np.ndarray:
    """Columns of z from the most to the least informative about the target's labels: the first d(u) are a method's "ranked u".

    Give training subjects alone.
    """
    z, target = complete(as_columns(z), target)
    bins = bins_for(len(z), 1, bins)
    return np.argsort(-information(equal_width(z, bins).T, label_numbers(target), bins), kind="stable")


def label_numbers(labels: ArrayLike) -> np.ndarray:
    return np.unique(np.asarray(labels), return_inverse=True)[1].ravel()
