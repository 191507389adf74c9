"""group-MIG: does each factor live in its own group of latents?  Paper E, sec. 4.

    group-MIG = mean over factors k of (max over i in the group of k I(z_i; t_k) - max over i outside it I(z_i; t_k)) / H(t_k)

E says which group each factor and each latent belongs to; estimators of I and H are MIG's (20 equal-width bins of posterior means).
-1 to 1, higher is better: 0 for a constant code, near 1 where every factor is told by a latent of its own group alone, 0 where a copy
of that latent lies in the other group, below 0 where the groups are swapped. A copy within the group costs nothing, unlike in MIG.
Permuting latents within a group, or shifting and rescaling them, changes nothing. Interval: a 20-block jackknife.
"""

import numpy as np
from numpy.typing import ArrayLike

from copdvae.metrics.bootstrap import Interval, Seed, jackknife_interval
from copdvae.metrics.information import BINS, shares
from copdvae.metrics.neighbours import as_columns, complete


def group_mig(z: ArrayLike, factors: ArrayLike, latent_groups: ArrayLike, factor_groups: ArrayLike, bins: int = BINS) -> float:
    """group-MIG of codes (n, D) for discrete factors (n, F); `latent_groups` (D,) and `factor_groups` (F,) name each one's group.

    A factor that does not vary is left out; a side without latents tells nothing.
    """
    told = shares(z, factors, bins)
    inside = np.asarray(latent_groups)[:, None] == np.asarray(factor_groups)  # (D, F)
    varies = ~np.isnan(told).any(axis=0)
    if not varies.any():
        return float("nan")
    best = [np.where(side, told, 0)[:, varies].max(axis=0) for side in (inside, ~inside)]
    return float(np.mean(best[0] - best[1]))


def group_mig_interval(
    z: ArrayLike, factors: ArrayLike, latent_groups: ArrayLike, factor_groups: ArrayLike, bins: int = BINS, seed: Seed = 0
) -> Interval:
    """`group_mig` with its interval by a 20-block jackknife, on the rows in which nothing is missing."""
    z, factors = complete(as_columns(z), as_columns(factors))

    def score(z: np.ndarray, factors: np.ndarray) -> float:
        return group_mig(z, factors, latent_groups, factor_groups, bins)

    return jackknife_interval(score, z, factors, seed=seed)
