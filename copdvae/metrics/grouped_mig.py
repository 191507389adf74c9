"""Grouped mutual information gap of u against v.  Paper A, Eq. 8; chance is taken off as in adjusted mutual information.

    plain      (I(u; t) - max_d I(v_d; t)) / H(t)
    adjusted   (I_u - E_u) / (H - E_u)  -  (I_v - E_v) / (H - E_v),   I_u = I(u; t), I_v = max_d I(v_d; t), E: mean over permuted t

-1 to 1, higher is better: 0 for constant codes, near 1 where u alone tells the target, 0 where one latent of v is as good, negative
where v knows more. Permuting, shifting or rescaling latents changes nothing (the joint of u has a bin's corners, so it is not
invariant to turning u). n: subjects, u: (n, d(u)), v: (n, d(v)), t: (n,) labels; a continuous target is cut at training deciles.

Bins find information in pure noise, the more the fewer subjects and the more bins (20 x 20 bins, 500 subjects: half of H), which
favours u or v by their sizes. So the joint histogram of u has at most n / 5 cells, and the adjusted gap is 0 on average for an
unrelated code and 1 for a perfect one; in between it is somewhat too low (docs/ESTIMATORS.md: .48 and .52 for a true .56 at 500 and
2,500 subjects). Interval: a 20-block jackknife; a percentile bootstrap would miss the score itself.
"""

from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from copdvae.metrics.bootstrap import Interval, Seed, jackknife_interval
from copdvae.metrics.information import BINS, bins_for, entropy, equal_width, information, label_numbers
from copdvae.metrics.neighbours import as_columns, complete


def grouped_mig(
    u: ArrayLike, v: ArrayLike, target: ArrayLike, bins: int = BINS, adjusted: bool = True, permutations: int = 50, seed: Seed = 0
) -> float:
    """Paper A, Eq. 8, plain or adjusted for chance, on the subjects with a target. NaN where the target does not vary."""
    u, v, target, shuffled = rows(u, v, target, permutations if adjusted else 0, seed)
    return gap(u, v, target, shuffled, bins_for(len(u), u.shape[1], bins), bins_for(len(u), 1, bins))


def grouped_mig_interval(
    u: ArrayLike, v: ArrayLike, target: ArrayLike, bins: int = BINS, adjusted: bool = True, permutations: int = 50, seed: Seed = 0
) -> Interval:
    """`grouped_mig` with its interval by a 20-block jackknife; bins and permutations stay those of all subjects."""
    u, v, target, shuffled = rows(u, v, target, permutations if adjusted else 0, seed)
    score = partial(gap, u_bins=bins_for(len(u), u.shape[1], bins), v_bins=bins_for(len(u), 1, bins))
    return jackknife_interval(score, u, v, target, shuffled, seed=seed)


def rows(u: ArrayLike, v: ArrayLike, target: ArrayLike, permutations: int, seed: Seed) -> tuple[np.ndarray, ...]:
    """Complete subjects' u, v, target as numbers from 0, and `permutations` shuffled copies of it as (n, permutations)."""
    u, v, target = complete(as_columns(u), as_columns(v), target)
    target = label_numbers(target)
    return u, v, target, permuted(target, permutations, seed)


def permuted(target: np.ndarray, permutations: int, seed: Seed) -> np.ndarray:
    """Shuffled copies of the target as columns: (n, permutations)."""
    return np.random.default_rng(seed).permuted(np.tile(target[:, None], permutations), axis=0)


def gap(u: np.ndarray, v: np.ndarray, target: np.ndarray, shuffled: np.ndarray, u_bins: int, v_bins: int) -> float:
    """(I(u; t) - max_d I(v_d; t)) / H(t); with shuffled targets (n, P), each term less its mean over them."""
    if not len(target) or (h := entropy(target)) == 0:
        return float("nan")
    joint = joint_bins(u, u_bins)
    single = equal_width(v, v_bins).T  # (d(v), n)

    def terms(t: np.ndarray) -> tuple[float, float]:
        return information(joint, t, int(joint.max()) + 1)[0], information(single, t, v_bins).max(initial=0)

    found = np.array(terms(target.astype(int)))
    if not shuffled.shape[1]:
        return float((found[0] - found[1]) / h)
    chance = np.mean([terms(column) for column in shuffled.T.astype(int)], axis=0)
    of_u, of_v = (found - chance) / (h - chance)
    return float(of_u - of_v)


def joint_bins(u: np.ndarray, bins: int) -> np.ndarray:
    """Cell of u's joint histogram in which each subject lies, numbered among the occupied ones: (1, n)."""
    cell = np.zeros(len(u), dtype=int)
    for column in equal_width(u, bins).T:
        cell = label_numbers(cell * bins + column)
    return cell[None]
