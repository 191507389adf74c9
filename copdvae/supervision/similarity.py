"""Similarities between subjects.  Paper A, "Datasets" and "COPD dataset": y_ij in [0, 1], larger is more alike.

RBF on spirometric measures t, z-scored on training subjects:  y_ij = exp(-|t_i - t_j|^2 / sigma^2), sigma^2 the median of the squared
distances between training subjects. Classes: y_ij = 1(t_i = t_j).
"""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator
from scipy.spatial.distance import pdist

from copdvae.config import Config
from copdvae.errors import ConfigError


class SimilarityConfig(Config):
    """What the similarity of a pair of subjects is computed from."""

    kind: Literal["rbf", "indicator"] = "rbf"
    measures: tuple[str, ...] = ("fev1_pp", "fev1_fvc")  # columns of the phenotype table; one class column for `indicator`
    log10: bool = False  # of the measures, before z-scoring
    proportion: float = Field(default=0.5, gt=0, le=1)  # of all pairs of training subjects, drawn once
    noise: float = Field(default=0.0, ge=0)  # rbf: variance of Gaussian noise, clipped to [0, 1]; indicator: chance of a flip (A, Fig. 12)

    @model_validator(mode="after")
    def _sensible(self) -> "SimilarityConfig":
        if not self.measures:
            raise ValueError("measures: name at least one column")
        if self.kind == "indicator" and len(self.measures) != 1:
            raise ValueError(f"measures: `indicator` compares one class column, found {len(self.measures)}")
        if self.kind == "indicator" and self.noise > 1:
            raise ValueError("noise: the chance of a flip is at most 1")
        return self


@dataclass(frozen=True)
class Scaler:
    """z-scores from training subjects only."""

    mean: np.ndarray  # (M,)
    std: np.ndarray  # (M,)

    @classmethod
    def fit(cls, measures: np.ndarray) -> "Scaler":
        with warnings.catch_warnings(category=RuntimeWarning, action="ignore"):  # NaN where nobody has a measure: so are its z-scores
            return cls(np.nanmean(measures, axis=0), np.nanstd(measures, axis=0))

    def __call__(self, measures: np.ndarray) -> np.ndarray:
        return (measures - self.mean) / self.std


@dataclass(frozen=True)
class Similarity:
    """A similarity fitted on training subjects; it can then be asked about any subjects."""

    config: SimilarityConfig
    scaler: Scaler | None
    sigma2: float  # nan for `indicator`

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Similarity of measures (P, M) and (P, M), raw units: (P,) float32 in [0, 1], no noise."""
        if self.config.kind == "indicator":
            return (first[:, 0] == second[:, 0]).astype(np.float32)
        assert self.scaler is not None
        squared = ((self.scaler(first) - self.scaler(second)) ** 2).sum(axis=1)
        return np.exp(-squared / self.sigma2).astype(np.float32)


def measures_of(table: pd.DataFrame, config: SimilarityConfig) -> np.ndarray:
    """The measures that a similarity compares, raw units: (N, M) float64, NaN where missing."""
    unknown = [name for name in config.measures if name not in table]
    if unknown:
        raise ConfigError(
            f"similarity.measures: {', '.join(unknown)} not in the phenotype table; it has {', '.join(map(str, table.columns))}"
        )
    words = [name for name in config.measures if not pd.api.types.is_numeric_dtype(table[name])]
    if words:
        raise ConfigError(f"similarity.measures: {', '.join(words)} holds words, a number is needed; code classes as numbers")
    values = table[list(config.measures)].to_numpy(dtype=float)
    if not config.log10:
        return values
    if (values <= 0).any():
        raise ConfigError("similarity.log10: a measure is zero or negative in some subject")
    return np.log10(values)


def fit_similarity(training: np.ndarray, config: SimilarityConfig) -> Similarity:
    """Fit scaler and sigma^2 on the measures of training subjects (N, M); rows with a NaN take no part."""
    known = training[~np.isnan(training).any(axis=1)]
    if len(known) < 2:
        raise ConfigError(f"only {len(known)} training subjects have all of {', '.join(config.measures)}; at least two are needed")
    if config.kind == "indicator":
        return Similarity(config, None, float("nan"))
    scaler = Scaler.fit(known)
    if (scaler.std == 0).any():
        constant = [name for name, std in zip(config.measures, scaler.std, strict=True) if std == 0]
        raise ConfigError(f"similarity.measures: {', '.join(constant)} is the same in every training subject")
    sample = scaler(known)[:4000]  # 8 million pairs are enough for a median
    sigma2 = float(np.median(pdist(sample, "sqeuclidean")))
    if sigma2 == 0:
        raise ConfigError(
            f"similarity.measures: more than half of the pairs of training subjects are equal in {', '.join(config.measures)}; "
            "use kind: indicator for classes"
        )
    return Similarity(config, scaler, sigma2)


def add_noise(similarity: np.ndarray, config: SimilarityConfig, rng: np.random.Generator) -> np.ndarray:
    """Noisy labels (A, "Noisy Similarity Labels"): flips for classes, clipped Gaussian noise for real values."""
    if config.noise == 0:
        return similarity
    if config.kind == "indicator":
        flip = rng.random(similarity.shape) < config.noise
        return np.where(flip, 1 - similarity, similarity).astype(np.float32)
    return np.clip(similarity + rng.normal(0, np.sqrt(config.noise), similarity.shape), 0, 1).astype(np.float32)
