"""Polar and Cartesian error: can two latents be read as a blob's position, once their ranges are mapped?  Paper B, Eq. 5 to 7.

    Cartesian   c~_1, c~_2 = mu_i, mu_j mapped from [min, max] to [0, 64]                                       (5)
    polar       phi, d     = mu_i, mu_j mapped to [0, pi/2] and [0, 90.5],  c~_1 = d cos phi, c~_2 = d sin phi    (6, 7)
    error       = min over ordered pairs i != j and over inversions of mean over images |c - c~|^2

An inversion reads a range from its other end. In squared pixels, 0 is best: 0 for a code that is the position itself, of images that
reach both ends of each range, and in B .4 to 8 hundred for what training gives. A constant latent is mapped to its lower end
(B divides by its width, 0). Invariant to permuting latents, and to shifting, rescaling or mirroring one: a nonlinear map of a latent
is not forgiven. Interval: a percentile bootstrap of images with the ranges and the pair chosen on all of them.
"""

from itertools import permutations, product

import numpy as np
from numpy.typing import ArrayLike

from copdvae.metrics.bootstrap import Interval, Seed, percentile_interval
from copdvae.metrics.neighbours import as_columns


def polar_error(z: ArrayLike, centres: ArrayLike, size: float = 64) -> float:
    """Least mean squared error in pixels^2 of positions read as angle and distance; codes (n, D), D >= 2, centres (n, 2) in 0..size."""
    return float(polar_errors(z, centres, size).mean())


def polar_error_interval(z: ArrayLike, centres: ArrayLike, size: float = 64, draws: int = 2000, seed: Seed = 0) -> Interval:
    return percentile_interval(lambda error: error.mean(axis=-1), polar_errors(z, centres, size), draws=draws, seed=seed)


def cartesian_error(z: ArrayLike, centres: ArrayLike, size: float = 64) -> float:
    """Least mean squared error in pixels^2 of positions read as two coordinates."""
    return float(cartesian_errors(z, centres, size).mean())


def cartesian_error_interval(z: ArrayLike, centres: ArrayLike, size: float = 64, draws: int = 2000, seed: Seed = 0) -> Interval:
    return percentile_interval(lambda error: error.mean(axis=-1), cartesian_errors(z, centres, size), draws=draws, seed=seed)


def polar_errors(z: ArrayLike, centres: ArrayLike, size: float) -> np.ndarray:
    """Squared error of each image for the best pair and inversions: (n,)."""
    diagonal = round(size * 2**0.5, 1)  # B prints 90.5 for 64

    def read(angle: np.ndarray, distance: np.ndarray) -> np.ndarray:
        angle, distance = angle * (np.pi / 2), distance * diagonal
        return np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1)

    return least(read, z, centres)


def cartesian_errors(z: ArrayLike, centres: ArrayLike, size: float) -> np.ndarray:
    return least(lambda first, second: size * np.stack([first, second], axis=1), z, centres)


def least(read, z: ArrayLike, centres: ArrayLike) -> np.ndarray:
    """Squared errors of `read(first, second)` under the assignment and inversions whose mean is least."""
    z, centres = as_columns(z), np.asarray(centres, dtype=float)
    width = np.ptp(z, axis=0)
    unit = (z - z.min(axis=0)) / np.where(width > 0, width, 1)
    candidates = product(permutations(unit.T, 2), product((False, True), repeat=2))
    errors = (
        ((read(*[1 - column if turn else column for column, turn in zip(pair, turns, strict=True)]) - centres) ** 2).sum(axis=1)
        for pair, turns in candidates
    )
    return min(errors, key=np.mean)
