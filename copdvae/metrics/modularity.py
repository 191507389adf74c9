"""Modularity: does each latent tell of one factor only?  Ridgeway & Mozer 2018, arXiv:1802.05312, sec. 3; bins as disentanglement_lib.

    delta_d = sum over k other than the best of I(z_d; t_k)^2  /  (max_k I(z_d; t_k)^2  (F - 1)),   modularity = mean over d of 1 - delta_d

[memory: the formula is checked against what it must do, not against the paper's print.] Information of posterior means in 20 equal-width
bins, in nats; a latent that tells nothing counts as 0. 0 to 1, higher is better: 0 for a constant code, near 1 where each latent tells
of one factor; copies of a latent cost nothing. Latents of pure noise tell a little of every factor by chance, and score by that chance.
Permuting, shifting or rescaling latents changes nothing. A score of mutual information, so its interval is a 20-block jackknife.
"""

import numpy as np
from numpy.typing import ArrayLike

from copdvae.metrics.bootstrap import Interval, Seed, jackknife_interval
from copdvae.metrics.information import BINS, entropy, shares
from copdvae.metrics.neighbours import as_columns, complete

NOTHING = 1e-10  # nats: rounding


def modularity(z: ArrayLike, factors: ArrayLike, bins: int = BINS) -> float:
    """Modularity of codes (n, D) for discrete factors (n, F). Factors that do not vary are left out; NaN where fewer than two do."""
    told = shares(z, factors, bins) * [entropy(factor) for factor in as_columns(factors).T]
    told = told[:, ~np.isnan(told).any(axis=0)]
    if told.shape[1] < 2:
        return float("nan")
    square = np.where(told > NOTHING, told, 0) ** 2
    best = square.max(axis=1)
    others = (square.sum(axis=1) - best) / (np.where(best > 0, best, 1) * (told.shape[1] - 1))
    return float(np.mean(np.where(best > 0, 1 - others, 0)))


def modularity_interval(z: ArrayLike, factors: ArrayLike, bins: int = BINS, seed: Seed = 0) -> Interval:
    """`modularity` with its interval by a 20-block jackknife, on the rows in which nothing is missing."""
    z, factors = complete(as_columns(z), as_columns(factors))
    return jackknife_interval(lambda z, factors: modularity(z, factors, bins), z, factors, seed=seed)
