"""The full grid of a set's factors, and the drawing of any of its rows."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from copdvae.errors import ConfigError
from copdvae.read.images.image_set import ImageSet, empty_images

BLOCK = 256  # images drawn at a time: what they need in between stays in the processor's cache


@dataclass(frozen=True)
class Grid:
    """Every combination of the factors' values once; the last factor changes fastest."""

    name: str
    values: Mapping[str, np.ndarray]  # factor -> its values, float64
    cyclic: Mapping[str, float] = field(default_factory=dict)  # factor -> period

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(len(values) for values in self.values.values())

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Where each row's factors are among their values: (n, F) int64."""
        return np.stack(np.unravel_index(rows, self.sizes), axis=1)

    def factors(self, rows: np.ndarray) -> np.ndarray:
        """The rows' factors: (n, F) float64."""
        places = self.places(rows)
        return np.stack([values[place] for values, place in zip(self.values.values(), places.T, strict=True)], axis=1)


def draw(grid: Grid, render: Callable[[np.ndarray], np.ndarray], channels: int, side: int, rows: np.ndarray | None) -> ImageSet:
    """The images of `rows` (all where it is None), in its order; `render` makes (n, C, H, W) uint8 of row numbers (n,)."""
    count = math.prod(grid.sizes)
    asked = np.arange(count) if rows is None else np.asarray(rows)
    if asked.ndim != 1 or asked.dtype.kind not in "iu" or (len(asked) and (asked.min() < 0 or asked.max() >= count)):
        raise ConfigError(f"{grid.name}: rows must be a list of whole numbers from 0 to {count - 1:,}")
    image = empty_images(grid.name, len(asked), channels, side, side)
    for first in range(0, len(asked), BLOCK):
        image[first : first + BLOCK] = render(asked[first : first + BLOCK])
    return ImageSet(grid.name, image, grid.factors(asked), tuple(grid.values), grid.sizes, grid.cyclic)
