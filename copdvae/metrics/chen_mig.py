"""Grouped mutual information gap from q(z|x).  Paper A, Eq. 8 with I as Chen et al. 2018, arXiv:1802.04942, App. C, estimate it.

    I(z; t) = E over (x, t), z ~ q(z|x) of log q(z|t) / q(z),   q(z) = mean of q(z|x') over all x', q(z|t) over those with target t

with q(z|x) the encoder's diagonal Gaussian: a group of dimensions is their joint density, no bins. -1 to 1, higher is better: 0 for a
constant code, near 1 where u alone tells the target, 0 where one latent of v is as good. Permuting latents or shifting and rescaling
one with its standard deviation changes nothing. n: subjects, u: (n, d(u)), v: (n, d(v)), t: (n,) labels.

A draw's own x lies in its q(z|t), so the narrower q(z|x), the more information appears in noise (500 subjects, ten classes, posterior
standard deviation .1: .4 of H). `adjusted` takes that off as in `grouped_mig.py`, by permuted targets; where chance alone reaches .95 H
nothing is left to measure, and it is NaN. Always print the posterior's standard deviation with this score. Interval: a 20-block
jackknife, in which permutations and draws stay those of all subjects; a percentile bootstrap would miss the score itself.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from copdvae.metrics.bootstrap import Interval, Seed, jackknife_limits, random_blocks
from copdvae.metrics.grouped_mig import permuted
from copdvae.metrics.information import label_numbers, plogp
from copdvae.metrics.neighbours import as_columns, complete

BLOCKS = 20
MOST_DRAWS = 1000
CEILING = 0.95  # of H: beyond it chance leaves nothing to measure


class ChenGap(NamedTuple):
    plain: Interval
    adjusted: Interval
    posterior_std: float  # of u: median over subjects and dimensions, in standard deviations of q(u)


class Draws(NamedTuple):
    """Whose posterior is sampled, and where: z = mean[row] + std[row] * noise."""

    row: np.ndarray  # (draws,)
    noise: np.ndarray  # (draws, d(u) + d(v))


def chen_draws(n: int, dimensions: int, seed: Seed = 0) -> Draws:
    """One draw a subject, of 1,000 subjects at most, in a random order."""
    generator = np.random.default_rng(seed)
    row = generator.permutation(n)[:MOST_DRAWS]
    return Draws(row, generator.normal(size=(len(row), dimensions)))


def chen_mig(
    u: ArrayLike, u_std: ArrayLike, v: ArrayLike, v_std: ArrayLike, target: ArrayLike, permutations: int = 20, seed: int = 0
) -> ChenGap:
    """Plain and adjusted gap from posterior means and standard deviations, on the subjects with a target. NaN where it does not vary."""
    u, u_std, v, v_std, target = complete(*map(as_columns, (u, u_std, v, v_std)), target)
    n, du, label = len(target), u.shape[1], label_numbers(target)
    if not label.any():
        return ChenGap(Interval(np.nan, np.nan, np.nan), Interval(np.nan, np.nan, np.nan), posterior_std(u, u_std))
    targets = np.column_stack([label, permuted(label, permutations, seed)])  # (n, 1 + P)
    row, noise = chen_draws(n, du + v.shape[1], seed)
    block = random_blocks(n, BLOCKS, seed)
    of_u = information_without(u, u_std, targets, Draws(row, noise[:, :du]), block)
    of_v = np.zeros_like(of_u)
    for d in range(v.shape[1]):
        of_v = np.maximum(of_v, information_without(v[:, [d]], v_std[:, [d]], targets, Draws(row, noise[:, [du + d]]), block))

    h = entropies_without(label, block)
    plain = (of_u[:, 0] - of_v[:, 0]) / h  # without each block, then without none
    adjusted = less_chance(of_u, h) - less_chance(of_v, h)
    return ChenGap(interval_of(plain, n), interval_of(adjusted, n), posterior_std(u, u_std))


def information_without(mean: np.ndarray, std: np.ndarray, targets: np.ndarray, draws: Draws, block: np.ndarray) -> np.ndarray:
    """I of a group of latents (n, d) and each column of targets (n, T), without each block and without none: (BLOCKS + 1, T), nats."""
    order = np.argsort(block, kind="stable")  # a block is then a slice
    parts = [slice(*np.searchsorted(block[order], (b, b + 1))) for b in range(BLOCKS)]
    density = densities(mean[draws.row] + std[draws.row] * draws.noise, mean[order], std[order])  # (draws, n)
    n, columns, classes = len(block), targets.shape[1], int(targets.max()) + 1
    member = np.ones((n, 1 + columns * classes))  # everyone, then each class of each column
    member[:, 1:] = (targets[order, :, None] == np.arange(classes)).reshape(n, -1)
    own = 1 + np.arange(columns) * classes + targets[draws.row]  # (draws, columns): each draw's own class
    count = np.array([member[part].sum(axis=0) for part in parts])
    sums = [density[:, part] @ member[part] for part in parts]  # BLOCKS of (draws, 1 + columns * classes)
    of_class, of_all = np.array([np.take_along_axis(total, own, axis=1) for total in sums]), np.array([total[:, 0] for total in sums])

    found = np.empty((BLOCKS + 1, columns))
    for b in range(BLOCKS + 1):
        kept, rest = np.arange(BLOCKS) != b, block[draws.row] != b
        in_class = of_class[kept].sum(axis=0)[rest] / count[kept].sum(axis=0)[own[rest]]
        found[b] = np.log(in_class / (of_all[kept].sum(axis=0)[rest, None] / np.sum(block != b))).mean(axis=0)
    return found


def densities(z: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """N(z; mean, std^2) of every draw under every subject's posterior, up to one constant: (draws, d), (n, d) to (draws, n)."""
    exponent = sum((((z[:, [d]] - mean[:, d]) / std[:, d]) ** 2 for d in range(z.shape[1])), np.zeros((len(z), len(mean))))
    return np.exp(-0.5 * exponent - np.log(std).sum(axis=1))


def entropies_without(label: np.ndarray, block: np.ndarray) -> np.ndarray:
    """H of the target without each block and without none, in nats: (BLOCKS + 1,)."""
    counts = np.stack([np.bincount(label[block != b], minlength=label.max() + 1) for b in range(BLOCKS + 1)])
    return -plogp(counts / counts.sum(axis=1, keepdims=True)).sum(axis=1)


def less_chance(information: np.ndarray, h: np.ndarray) -> np.ndarray:
    """(I - E) / (H - E) from I of the target and of its permutations, (rows, 1 + P): (rows,)."""
    chance = information[:, 1:].mean(axis=1)
    return np.where(chance < CEILING * h, (information[:, 0] - chance) / np.where(chance < CEILING * h, h - chance, 1), np.nan)


def interval_of(score: np.ndarray, n: int) -> Interval:
    value = float(score[-1])
    return jackknife_limits(value, score[:-1]) if n >= 2 * BLOCKS else Interval(value, np.nan, np.nan)


def posterior_std(mean: np.ndarray, std: np.ndarray) -> float:
    """Median standard deviation of q(z|x) over subjects and dimensions, each dimension in standard deviations of q(z)."""
    return float(np.median(std / np.sqrt(mean.var(axis=0) + (std**2).mean(axis=0)))) if std.size else float("nan")
