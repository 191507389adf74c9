"""Groups of subjects that are alike in what u stands for: their class is known to be equal, and nothing else."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from pydantic import Field

from copdvae.config import Config
from copdvae.errors import ConfigError

MOST_CLASSES = 20  # stages are a few; whole numbers that measure something, as age in years does, are dozens also in a large study
MOST_SHARE = 0.5  # of the subjects: a column with more different values than this share of them is no class either


class GroupsConfig(Config):
    """What the members of a group have in common, and how many they are."""

    column: str = "gold"
    size: int = Field(default=2, ge=2)
    unknown: tuple[float, ...] = (-2.0,)  # values that are no class: never-smoked normals have no GOLD stage


@dataclass(frozen=True)
class GroupTable:
    """Subjects by class, for drawing groups."""

    members: tuple[np.ndarray, ...]  # of each class that can fill a group: places, (n_k,) int64
    size: int

    def draw(self, groups: int, rng: np.random.Generator) -> np.ndarray:
        """`groups` groups of distinct members: (groups, size) int64. A class is drawn as often as it has members."""
        counts = np.array([len(own) for own in self.members])
        chosen = rng.choice(len(counts), size=groups, p=counts / counts.sum())
        return np.stack([rng.choice(self.members[k], size=self.size, replace=False) for k in chosen])

    def all(self) -> np.ndarray:
        """Every member once, in groups of its class and a fixed order, but for a class's remainder: (groups, size) int64."""
        whole = [own[: len(own) // self.size * self.size].reshape(-1, self.size) for own in self.members]
        return np.concatenate([np.zeros((0, self.size), np.int64), *whole])


def group_table(table: pd.DataFrame, config: GroupsConfig, training: bool = True) -> GroupTable:
    """Groups of equal class among the subjects of `table` (N rows).

    Raises `ConfigError` where the column cannot hold classes, and in training where it does not, or where no class has enough subjects.
    """
    if config.column not in table:
        raise ConfigError(f"groups.column: {config.column} not in the table; it has {', '.join(map(str, table.columns))}")
    values = table[config.column]
    if not pd.api.types.is_numeric_dtype(values):
        raise ConfigError(f"groups.column: {config.column} holds words, numbers are needed; code classes as numbers")
    values = values.where(~values.isin(config.unknown)).to_numpy(float)
    known = values[~np.isnan(values)]
    classes, counts = np.unique(known, return_counts=True)
    most = min(MOST_CLASSES, max(2, MOST_SHARE * len(known)))
    if training and len(known) and len(classes) > most:  # a few validation subjects may all differ
        raise ConfigError(
            f"groups.column: {config.column} has {len(classes)} different values in {len(known)} subjects; groups need classes, "
            f"{MOST_CLASSES} at most, not measurements: name a class column such as gold, or add one with the measure cut into classes"
        )
    filled = [np.flatnonzero(values == value) for value, count in zip(classes, counts, strict=True) if count >= config.size]
    if not filled and training:
        raise ConfigError(f"groups: no class of {config.column} has {config.size} subjects among {len(values)}")
    return GroupTable(tuple(filled), config.size)
