"""How sure a score is: percentile bootstrap by subject, paired differences, and a block jackknife.

Arrays hold one subject a row; rows with a missing value in any array are left out first, so that two methods are always
compared on the same subjects. The percentile bootstrap suits scores that are averages over subjects (R2, kappa, MAE). It is
wrong for mutual information, where a duplicated row adds information and no resample looks like the sample: use the jackknife.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from copdvae.metrics.neighbours import complete

Seed = int | np.random.Generator
CACHE_ROWS = 60_000  # resampled rows scored at a time: what fits the processor's cache


class Interval(NamedTuple):
    value: float
    low: float
    high: float


def percentile_interval(statistic: Callable, *arrays: ArrayLike, draws: int = 2000, seed: Seed = 0, level: float = 0.95) -> Interval:
    """`statistic(*arrays)` and its percentile interval over resamples of the subjects.

    `statistic` takes arrays of (..., n) and returns (...). The same seed, draws and number of subjects give the same resamples.
    """
    rows = complete(*arrays)
    drawn = [statistic(*[array[index] for array in rows]) for index in resamples(len(rows[0]), draws, seed)]
    return Interval(float(statistic(*rows)), *limits(drawn, level))


def paired_difference(
    statistic: Callable,
    truth: ArrayLike,
    predicted: ArrayLike,
    other: ArrayLike,
    draws: int = 2000,
    seed: Seed = 0,
    level: float = 0.95,
) -> Interval:
    """`statistic(truth, predicted) - statistic(truth, other)`, both on the same subjects and the same resamples.

    `predicted` and `other` may be (n,), or (n, seeds): then each side is the mean over its seeds.
    """

    def difference(truth: np.ndarray, *columns: np.ndarray) -> np.ndarray:
        ours = [statistic(truth, column) for column in columns[:split]]
        theirs = [statistic(truth, column) for column in columns[split:]]
        return np.mean(ours, axis=0) - np.mean(theirs, axis=0)

    ours, theirs = columns_of(predicted), columns_of(other)
    split = len(ours)
    return percentile_interval(difference, truth, *ours, *theirs, draws=draws, seed=seed, level=level)


def mean_over_seeds(
    statistic: Callable, truth: ArrayLike, predicted: ArrayLike, draws: int = 2000, seed: Seed = 0, level: float = 0.95
) -> Interval:
    """The mean over seeds of `statistic(truth, predicted[:, s])`, every seed on the same resamples. `predicted` is (n, seeds)."""

    def mean(truth: np.ndarray, *columns: np.ndarray) -> np.ndarray:
        return np.mean([statistic(truth, column) for column in columns], axis=0)

    return percentile_interval(mean, truth, *columns_of(predicted), draws=draws, seed=seed, level=level)


def jackknife_interval(statistic: Callable, *arrays: ArrayLike, blocks: int = 20, seed: Seed = 0, level: float = 0.95) -> Interval:
    """`statistic(*arrays)` and its interval by leaving out one of `blocks` random blocks of subjects at a time.

    `statistic` takes the arrays with fewer rows and returns one number. Half width: Student's t with `blocks` - 1 degrees of freedom.
    """
    rows = complete(*arrays)
    n = len(rows[0])
    value = float(statistic(*rows))
    if n < 2 * blocks:
        return Interval(value, np.nan, np.nan)
    block = random_blocks(n, blocks, seed)
    return jackknife_limits(value, [statistic(*[array[block != b] for array in rows]) for b in range(blocks)], level)


def random_blocks(n: int, blocks: int, seed: Seed) -> np.ndarray:
    """Block of each of n subjects, of sizes that differ by at most one: (n,) in 0..blocks-1."""
    return np.random.default_rng(seed).permutation(n) % blocks


def jackknife_limits(value: float, left_out: ArrayLike, level: float = 0.95) -> Interval:
    """`value` and its interval from what the statistic was without each block: (blocks,)."""
    left_out = np.asarray(left_out, dtype=float)
    blocks = len(left_out)
    error = np.sqrt((blocks - 1) * np.mean((left_out - left_out.mean()) ** 2))
    half = student.ppf((1 + level) / 2, blocks - 1) * error
    return Interval(value, float(value - half), float(value + half))


def resamples(n: int, draws: int, seed: Seed) -> Iterator[np.ndarray]:
    """Row numbers drawn with replacement, in parts of (some draws, n) that together are (draws, n)."""
    generator = np.random.default_rng(seed)
    for part in np.array_split(np.arange(draws), max(1, -(-draws * n // CACHE_ROWS))):
        yield generator.integers(0, max(n, 1), size=(len(part), n), dtype=np.int32)


def limits(drawn: list, level: float) -> tuple[float, float]:
    """The percentile limits of what was drawn; NaN if the statistic was undefined in more than one resample in ten."""
    values = np.concatenate([np.atleast_1d(part) for part in drawn])
    known = values[~np.isnan(values)]
    if len(known) < 0.9 * len(values) or not len(known):
        return np.nan, np.nan
    low, high = np.percentile(known, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def columns_of(array: ArrayLike) -> list[np.ndarray]:
    array = np.asarray(array, dtype=float)
    return [array] if array.ndim == 1 else list(array.T)
