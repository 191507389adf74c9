"""DCI: disentanglement, completeness, informativeness.  Eastwood & Williams 2018 (ICLR), sec. 2; trees as disentanglement_lib.

Boosted trees predict each factor from all latents; R_dk >= 0 is the importance of latent d for factor k.

    D = sum_d rho_d (1 - H_F(P_d.)),  P_dk = R_dk / sum_k R_dk,  rho_d = sum_k R_dk / sum_dk R_dk    each latent is for one factor
    C = sum_k w_k (1 - H_D(P~_.k)),   P~_dk = R_dk / sum_d R_dk, w_k = sum_d R_dk / sum_dk R_dk      each factor is in one latent
    I = mean over factors of the share of test images whose factor is predicted rightly

with entropies to base F (of factors) and D (of latents). Factors are discrete; classifiers have scikit-learn's defaults (100 stages of
depth 3), 10,000 training and 5,000 test images in published figures. All are 0 to 1, higher is better. A constant code: D and C are 0, I is
the most frequent class. A perfect one: near 1. With a copy of every latent D and I stay, C falls where trees use both. Permuting
latents changes ties alone, an increasing map of a latent only what the trees see between neighbouring values.

One fit takes 7 to 15 s a factor, so intervals are about test images alone, with the trees that training images gave: a percentile
bootstrap of I. D and C are functions of the trees and have none: train with other seeds to see how they vary.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.ensemble import GradientBoostingClassifier

from copdvae.metrics.bootstrap import Interval, Seed, percentile_interval
from copdvae.metrics.neighbours import as_columns


class DCI(NamedTuple):
    disentanglement: float
    completeness: float
    informativeness: float  # on test images
    informativeness_train: float
    importance: np.ndarray  # (D, F)
    right: np.ndarray  # (n_test, F): whether each test image's factor is predicted


def dci(train_z: ArrayLike, train_factors: ArrayLike, test_z: ArrayLike, test_factors: ArrayLike, seed: int = 0) -> DCI:
    """DCI of codes (n, D) for discrete factors (n, F), each of two or more classes in training."""
    z, codes, factors = as_columns(train_z), as_columns(test_z), as_columns(train_factors)
    models = [GradientBoostingClassifier(random_state=seed).fit(z, factor) for factor in factors.T]
    importance = np.column_stack([model.feature_importances_ for model in models])
    right = np.column_stack([np.asarray(model.predict(codes)) for model in models]) == as_columns(test_factors)
    trained = np.mean([model.score(z, factor) for model, factor in zip(models, factors.T, strict=True)])
    return DCI(disentanglement(importance), completeness(importance), float(right.mean()), float(trained), importance, right)


def informativeness_interval(found: DCI, draws: int = 2000, seed: Seed = 0) -> Interval:
    """Informativeness on test images with its percentile interval."""
    return percentile_interval(lambda share: share.mean(axis=-1), found.right.mean(axis=1), draws=draws, seed=seed)


def disentanglement(importance: np.ndarray) -> float:
    """Mean over latents, by their share of all importance, of how far each is for one factor alone: (D, F) to 0..1."""
    total = importance.sum(axis=1)
    return float(concentration(importance) @ total / total.sum()) if total.sum() > 0 else 0.0


def completeness(importance: np.ndarray) -> float:
    """The same of factors: how far each is told by one latent alone."""
    return disentanglement(importance.T)


def concentration(importance: np.ndarray) -> np.ndarray:
    """1 - entropy of each row's shares to the base of its length: (rows,); 1 where there is one column, 0 in a row of zeros."""
    rows, columns = importance.shape
    if columns == 1:
        return np.ones(rows)
    total = importance.sum(axis=1, keepdims=True)
    share = np.where(total > 0, importance / np.where(total > 0, total, 1), 1 / columns)
    return 1 + (share * np.log(np.where(share > 0, share, 1))).sum(axis=1) / np.log(columns)
