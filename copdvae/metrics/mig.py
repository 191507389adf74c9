"""Mutual information gap.  Chen et al. 2018, arXiv:1802.04942, Eq. 6; bins as disentanglement_lib (Locatello et al. 2019).

    MIG = mean over factors k of (I(z_1st; t_k) - I(z_2nd; t_k)) / H(t_k)

where z_1st and z_2nd are the two latents that tell most about t_k. Information is that of posterior means in 20 equal-width bins, on
10,000 images in published figures. 0 to 1, higher is better: 0 for a constant code and for one whose best latent has a copy, near 1
where each factor has one latent of its own. Permuting, shifting or rescaling latents changes nothing. Fewer images make it larger for
codes that know nothing (docs/ESTIMATORS.md). Interval: a 20-block jackknife; a percentile bootstrap would miss the score itself.
"""

import numpy as np
from numpy.typing import ArrayLike

from copdvae.metrics.bootstrap import Interval, Seed, jackknife_interval
from copdvae.metrics.information import BINS, shares
from copdvae.metrics.neighbours import as_columns, complete


def mig(z: ArrayLike, factors: ArrayLike, bins: int = BINS) -> float:
    """Plain MIG of codes (n, D), D >= 2, for discrete factors (n, F). A factor that does not vary is left out."""
    known = shares(z, factors, bins)
    known = known[:, ~np.isnan(known).any(axis=0)]
    if not known.size:
        return float("nan")
    second, first = np.sort(known, axis=0)[-2:]
    return float(np.mean(first - second))


def mig_interval(z: ArrayLike, factors: ArrayLike, bins: int = BINS, seed: Seed = 0) -> Interval:
    """`mig` with its interval by a 20-block jackknife, on the rows in which nothing is missing."""
    z, factors = complete(as_columns(z), as_columns(factors))
    return jackknife_interval(lambda z, factors: mig(z, factors, bins), z, factors, seed=seed)
