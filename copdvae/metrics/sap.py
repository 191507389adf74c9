"""SAP, separated attribute predictability.  Kumar et al. 2018, arXiv:1711.00848, sec. 3; classifiers as disentanglement_lib.

    SAP = mean over factors k of S_1st,k - S_2nd,k,   S_dk: how well latent d alone predicts factor k

Discrete factors (`sap`): S is the share of test images that a linear classifier of the one latent gets right (support vectors, C = .01,
classes weighted alike, one against the rest). Paper: fitted thresholds and balanced error; here: disentanglement_lib's classifier, so
that figures compare. Real ones (`continuous_sap`): S is the squared correlation, on whichever images are given [memory: the paper].

0 to 1, higher is better: 0 for a constant code and for one whose best latent has a copy. A perfect code stays well below 1 in `sap`: the
second latent is right by chance, and lines cannot single out a middle class; `continuous_sap` gives it 1. Permuting latents changes
nothing; shifting or rescaling them changes nothing in `continuous_sap` alone (the classifier's penalty has a scale). Interval: a
percentile bootstrap of test images, with the classifiers that training images gave.
"""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.svm import LinearSVC

from copdvae.metrics.bootstrap import Interval, Seed, percentile_interval
from copdvae.metrics.neighbours import as_columns


def sap(train_z: ArrayLike, train_factors: ArrayLike, test_z: ArrayLike, test_factors: ArrayLike) -> float:
    """SAP of codes (n, D), D >= 2, for discrete factors (n, F): classifiers of training images, scored on test images."""
    return float(first_less_second(right(train_z, train_factors, test_z, test_factors).mean(axis=-1)))


def sap_interval(
    train_z: ArrayLike, train_factors: ArrayLike, test_z: ArrayLike, test_factors: ArrayLike, draws: int = 2000, seed: Seed = 0
) -> Interval:
    """`sap` with the percentile interval of its test images."""
    found = right(train_z, train_factors, test_z, test_factors)

    def score(*columns: np.ndarray) -> np.ndarray:
        return first_less_second(np.reshape([column.mean(axis=-1) for column in columns], (*found.shape[:2], *columns[0].shape[:-1])))

    return percentile_interval(score, *found.reshape(-1, found.shape[-1]), draws=draws, seed=seed)


def right(train_z: ArrayLike, train_factors: ArrayLike, test_z: ArrayLike, test_factors: ArrayLike) -> np.ndarray:
    """Whether latent d alone gives factor k of each test image: (D, F, n_test). A factor of one class is left out."""
    train_z, test_z = as_columns(train_z), as_columns(test_z)
    known = [(a, b) for a, b in zip(as_columns(train_factors).T, as_columns(test_factors).T, strict=True) if np.ptp(a) > 0]
    found = np.empty((train_z.shape[1], len(known), len(test_z)), dtype=bool)
    for d in range(len(found)):
        for k, (train, test) in enumerate(known):
            model = LinearSVC(C=0.01, class_weight="balanced", random_state=0).fit(train_z[:, [d]], train)
            found[d, k] = model.predict(test_z[:, [d]]) == test
    return found


def continuous_sap(z: ArrayLike, factors: ArrayLike) -> float:
    """SAP of codes (n, D), D >= 2, for real factors (n, F) by squared correlation. A factor that does not vary scores 0."""
    return float(first_less_second(squared_correlation(as_columns(z).T[:, None], as_columns(factors).T[None])))


def continuous_sap_interval(z: ArrayLike, factors: ArrayLike, draws: int = 2000, seed: Seed = 0) -> Interval:
    """`continuous_sap` with the percentile interval of its images."""
    z, factors = as_columns(z), as_columns(factors)

    def score(*columns: np.ndarray) -> np.ndarray:
        latents, targets = np.stack(columns[: z.shape[1]]), np.stack(columns[z.shape[1] :])
        return first_less_second(squared_correlation(latents[:, None], targets[None]))

    return percentile_interval(score, *z.T, *factors.T, draws=draws, seed=seed)


def squared_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Over the last axis; 0 where either does not vary."""
    a, b = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    scale = (a**2).sum(axis=-1) * (b**2).sum(axis=-1)
    return np.where(scale > 0, (a * b).sum(axis=-1) ** 2 / np.where(scale > 0, scale, 1), 0)


def first_less_second(told: np.ndarray) -> np.ndarray:
    """Mean over factors of the best latent's score less the second's: (D, F, ...) to (...)."""
    second, first = np.sort(told, axis=0)[-2:]
    return (first - second).mean(axis=0)
