"""FactorVAE score: is one latent still where one factor is fixed?  Kim & Mnih 2018, arXiv:1802.05983, sec. 4; thresholds as
disentanglement_lib (Locatello et al. 2019).

A vote fixes one factor's value, draws images that share it, and names the latent whose variance, divided by that over all images, is
least. A latent then predicts the factor that most of its training votes fixed; the score is the share of test votes predicted rightly.
Published: variances from 10,000 images, 10,000 training and 5,000 test votes of 64 images; latents whose standard deviation is below
.05 have no part. `parted_score` is the variant of paper D's code: 100 images a vote, the training votes scored themselves, .1.

0 to 1, higher is better: 0 where no latent is left (a constant code), 1 where every factor has a latent of its own; a copy of a latent
costs nothing, and a code that knows nothing gets about 1 / F. Permuting latents changes nothing; scaling one does where it crosses
the threshold. Interval: a percentile bootstrap of the test votes, which is about votes and not about training another network.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from copdvae.metrics.bootstrap import Interval, Seed, percentile_interval
from copdvae.metrics.information import label_numbers
from copdvae.metrics.neighbours import as_columns

THRESHOLD, PARTED_THRESHOLD = 0.05, 0.1  # of a latent's standard deviation
CHUNK = 2048  # votes at a time: larger arrays leave the cache and are new pages each time
NO_VARIANCE = 1e-12  # of a latent of variance 1: rounding


class Votes(NamedTuple):
    """Which images a vote looks at, and the factor that they share."""

    factor: np.ndarray  # (votes,)
    row: np.ndarray  # (votes, images)


def draw_votes(factors: ArrayLike, votes: int, images: int = 64, seed: Seed = 0) -> Votes:
    """Votes of images drawn with replacement among those that share one factor's value with a random image; factors (n, F) discrete."""
    factors = as_columns(factors)
    n, count = factors.shape
    generator = np.random.default_rng(seed)
    return votes_of(factors, generator.integers(count, size=votes), generator.integers(n, size=votes), generator.random((votes, images)))


def votes_of(factors: np.ndarray, factor: np.ndarray, like: np.ndarray, place: np.ndarray) -> Votes:
    """Votes from factor (V,), the row whose value is fixed (V,), and each image's place in 0..1 among those of that value (V, images)."""
    f, n = factors.T.shape
    order, start, size = np.empty((f, n), np.int32), np.empty((f, n), np.int32), np.empty((f, n))
    for k, column in enumerate(factors.T):  # rows sorted by their value; where each row's value starts there, and how many share it
        labels = label_numbers(column)
        count = np.bincount(labels)
        small = labels.astype(np.min_scalar_type(len(count)))  # sorted by counting
        order[k], start[k], size[k] = np.argsort(small, kind="stable"), k * n + (np.cumsum(count) - count)[labels], count[labels]
    first, among, row = start[factor, like][:, None], size[factor, like][:, None], np.empty(place.shape, np.int32)
    for some in (slice(k, k + CHUNK) for k in range(0, len(row), CHUNK)):
        np.take(order, (place[some] * among[some]).astype(np.int32) + first[some], out=row[some], mode="clip")
    return Votes(factor, row)


def factor_score(z: ArrayLike, train: Votes, test: Votes, threshold: float = THRESHOLD) -> float:
    """Share of test votes whose factor is predicted by training votes, from codes (n, D) and their index tables."""
    return float(rightly(z, train, test, threshold).mean())


def factor_score_interval(z: ArrayLike, train: Votes, test: Votes, threshold: float = THRESHOLD, seed: Seed = 0) -> Interval:
    """`factor_score` with the percentile interval of its test votes."""
    return percentile_interval(lambda right: right.mean(axis=-1), rightly(z, train, test, threshold), seed=seed)


def parted_score(z: ArrayLike, votes: Votes) -> float:
    """Paper D's variant: the votes (of 100 images) are scored by the rule that they made themselves, latents below .1 have no part."""
    return factor_score(z, votes, votes, PARTED_THRESHOLD)


def rightly(z: ArrayLike, train: Votes, test: Votes, threshold: float) -> np.ndarray:
    """Whether each test vote is predicted rightly: (votes,). A tie of factors goes to the first."""
    z = as_columns(z)
    variance = z.var(axis=0, ddof=1)
    active = np.sqrt(variance) >= threshold
    if not active.any():
        return np.zeros(len(test.factor), dtype=bool)
    scaled = ((z - z.mean(axis=0)) / np.sqrt(np.where(active, variance, 1)))[:, active]
    d, count = scaled.shape[1], int(max(train.factor.max(), test.factor.max())) + 1
    told = np.bincount(stillest(scaled, train.row) * count + train.factor, minlength=d * count).reshape(d, count)
    return told.argmax(axis=1)[stillest(scaled, test.row)] == test.factor


def stillest(z: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Latent of least variance over each vote's images: codes (n, D) of mean 0 and variance 1, rows (V, images), result (V,).

    Sums over images are products with sparse matrices of votes x rows. Variances below 1e-12 are 0; ties go to the first latent.
    """
    images, both, found = row.shape[1], np.hstack([z, z**2]), np.empty(len(row), dtype=int)
    ones, start = np.ones(CHUNK * images), np.arange(0, CHUNK * images + 1, images, dtype=row.dtype)
    for some in (slice(k, k + CHUNK) for k in range(0, len(row), CHUNK)):
        part = row[some]
        once = csr_array((ones[: part.size], part.ravel(), start[: len(part) + 1]), shape=(len(part), len(z)))
        sums = once @ both
        spread = images * sums[:, z.shape[1] :] - sums[:, : z.shape[1]] ** 2  # images^2 times the variance
        spread[spread < images**2 * NO_VARIANCE] = 0
        found[some] = spread.argmin(axis=1)
    return found
