"""Labels that a method is told, as numbers: z-scores, values in [0, 1], or class numbers.  NaN where a subject's label is not known.

zscore   (t - mean) / sd of the training subjects
unit     (t - least) / (largest - least) of the training subjects, held to [0, 1]
class    the place of t among `categories`, or the number of its quantile bin among the training subjects
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from copdvae.config import Config
from copdvae.errors import ConfigError
from copdvae.supervision.similarity import Scaler

GOLD_CLASSES = (-1.0, 0.0, 1.0, 2.0, 3.0, 4.0)  # PRISm and GOLD 0 to 4; never-smoked normals (-2) are not on the scale


class LabelsConfig(Config):
    """Which columns a method is told, in what form, and of how many subjects."""

    columns: tuple[str, ...] = ("fev1_pp", "fev1_fvc")
    kind: Literal["zscore", "unit", "class"] = "zscore"
    categories: tuple[tuple[float, ...], ...] = ()  # class: the values of each column, in the order of their numbers; others are unknown
    bins: int = Field(default=0, ge=0)  # class: cut a real-valued column into so many equally frequent parts instead
    fraction: float = Field(default=1.0, gt=0, le=1)  # of the training subjects, drawn once

    @model_validator(mode="after")
    def _sensible(self) -> "LabelsConfig":
        if not self.columns:
            raise ValueError("columns: name at least one")
        if self.kind != "class" and (self.categories or self.bins):
            raise ValueError(f"categories and bins belong to kind: class, found kind: {self.kind}")
        if self.kind == "class" and bool(self.bins) == bool(self.categories):
            raise ValueError("kind: class needs either `categories`, a list for each column, or `bins`")
        if self.categories and len(self.categories) != len(self.columns):
            raise ValueError(f"categories: one list a column, found {len(self.categories)} for {len(self.columns)} columns")
        if self.bins == 1 or any(len(set(values)) < 2 for values in self.categories):
            raise ValueError("a label with fewer than two classes says nothing")
        for name, values in zip(self.columns, self.categories, strict=False):
            if len(set(values)) < len(values):
                raise ValueError(f"categories: {name} names a value twice, {', '.join(f'{value:g}' for value in values)}")
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of classes of each column; 0 for a real-valued one."""
        if self.bins:
            return (self.bins,) * len(self.columns)
        return tuple(len(values) for values in self.categories) or (0,) * len(self.columns)


@dataclass(frozen=True)
class Labels:
    """Labels fitted on training subjects; any subjects' labels can then be asked for."""

    config: LabelsConfig
    shift: np.ndarray  # (T,)
    scale: np.ndarray  # (T,)
    edges: np.ndarray  # (T, bins - 1), of quantile bins

    def of(self, table: pd.DataFrame) -> np.ndarray:
        """Labels of subjects: (N, T) float32, NaN where unknown."""
        config = self.config
        values = columns_of(table, config)
        if config.kind == "class":
            known = [numbered(column, number, self) for number, column in enumerate(values.T)]
            return np.column_stack(known).astype(np.float32)
        scaled = (values - self.shift) / self.scale
        return (np.clip(scaled, 0, 1) if config.kind == "unit" else scaled).astype(np.float32)

    def plain(self) -> dict[str, Any]:
        """What JSON can hold, to the last digit; `labels_from` reads it back."""
        return {"settings": self.config.plain(), **{name: getattr(self, name).tolist() for name in ("shift", "scale", "edges")}}


def labels_from(plain: dict[str, Any]) -> Labels:
    """Fitted labels from what `plain` wrote."""
    shift, scale, edges = (np.array(plain[name], dtype=float) for name in ("shift", "scale", "edges"))
    return Labels(LabelsConfig.parse(plain["settings"]), shift, scale, edges)


def fit_labels(training: pd.DataFrame, config: LabelsConfig) -> Labels:
    """Fit on the table of training subjects. Raises `ConfigError` where a column is missing, holds words, or says nothing."""
    values = columns_of(training, config)
    for name, column in zip(config.columns, values.T, strict=True):
        found = np.unique(column[~np.isnan(column)])
        if len(found) < 2:
            raise ConfigError(f"labels.columns: {name} has {len(found)} different values in the {len(column)} training subjects; needs two")
    for name, column, allowed in zip(config.columns, values.T, config.categories, strict=False):
        strange = ~np.isnan(column) & ~np.isin(column, allowed)
        if strange.all() or len(np.intersect1d(column, allowed)) < 2:
            found, asked = (", ".join(f"{value:g}" for value in values) for values in (np.unique(column[strange])[:6], allowed))
            raise ConfigError(f"labels.categories: {name} is {found} ... in training subjects, which has fewer than two of {asked}")
    count = len(config.columns)
    shift, scale, edges = np.zeros(count), np.ones(count), np.zeros((count, 0))
    if config.kind == "zscore":
        scaler = Scaler.fit(values)
        shift, scale = scaler.mean, scaler.std
    if config.kind == "unit":
        shift, scale = np.nanmin(values, axis=0), np.nanmax(values, axis=0) - np.nanmin(values, axis=0)
    if config.bins:
        edges = np.nanquantile(values, np.arange(1, config.bins) / config.bins, axis=0).T
        for name, own in zip(config.columns, edges, strict=True):
            if len(np.unique(own)) < len(own):
                raise ConfigError(f"labels.bins: {name} has too few different values for {config.bins} bins; use categories")
    return Labels(config, shift, scale, edges)


def keep_fraction(labels: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """The labels (N, T) of a fraction of the subjects that have all of them, drawn once; the others' are NaN. At least two are kept."""
    known = np.flatnonzero(~np.isnan(labels).any(axis=1))
    kept = rng.permutation(known)[: max(2, round(fraction * len(known)))]
    told = np.full_like(labels, np.nan)
    told[kept] = labels[kept]
    return told


def numbered(column: np.ndarray, number: int, labels: Labels) -> np.ndarray:
    """Class numbers of one column (N,), NaN where unknown."""
    if labels.config.bins:
        return np.where(np.isnan(column), np.nan, np.digitize(column, labels.edges[number]))
    return class_numbers(column, labels.config.categories[number])


def class_numbers(column: np.ndarray, categories: tuple[float, ...]) -> np.ndarray:
    """The place of each value (N,) among the categories, as float64; NaN where it is none of them."""
    place = {value: float(k) for k, value in enumerate(categories)}
    return np.array([place.get(float(value), np.nan) for value in column])


def class_columns(variable: str, classes: int) -> list[str]:
    """Names of the columns that hold a variable's class probabilities: `c_gold_0 ..`."""
    return [f"c_{variable}_{number}" for number in range(classes)]


def columns_of(table: pd.DataFrame, config: LabelsConfig) -> np.ndarray:
    """The told columns as (N, T) float64, NaN where missing."""
    unknown = [name for name in config.columns if name not in table]
    if unknown:
        raise ConfigError(f"labels.columns: {', '.join(unknown)} not in the table; it has {', '.join(map(str, table.columns))}")
    words = [name for name in config.columns if not pd.api.types.is_numeric_dtype(table[name])]
    if words:
        raise ConfigError(f"labels.columns: {', '.join(words)} holds words, numbers are needed; code classes as numbers")
    return table[list(config.columns)].to_numpy(dtype=float)
