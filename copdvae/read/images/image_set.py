"""A set of images with the factors behind them, whole and in memory: what every reader of `copdvae.read.images` returns.

A batch is then gathered by rows and converted at once; nothing per image happens in training.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from copdvae.errors import ReadError


@dataclass(frozen=True)
class ImageSet:
    """N images and F factors, row by row."""

    name: str
    image: np.ndarray  # (N, C, H, W) uint8
    factors: np.ndarray  # (N, F) float64: values as published (degrees, scales, class numbers), not places in a list
    names: tuple[str, ...]  # of the factors
    sizes: tuple[int, ...]  # how many values each factor takes in the whole set; 0 where it is real-valued
    cyclic: Mapping[str, float] = field(default_factory=dict)  # factor -> period, in the factor's unit
    group: np.ndarray | None = None  # (N,) int64: the object (person, chair, car), for splits by object
    held_out: np.ndarray | None = None  # (N,) bool: the published test images; None where none are published, or not all are there

    def take(self, rows: np.ndarray) -> "ImageSet":
        """The same set with these rows alone: places or a mask, (n,)."""
        cut = {name: None if (whole := getattr(self, name)) is None else whole[rows] for name in ("image", "factors", "group", "held_out")}
        return replace(self, **cut)


def cyclic_difference(first: np.ndarray, second: np.ndarray, period: float) -> np.ndarray:
    """The shorter way round: in [0, period / 2]. Paper A, "Datasets": delta(350, 20) = 30 degrees."""
    apart = np.abs(np.asarray(first, dtype=float) - second) % period
    return np.minimum(apart, period - apart)


def factor_classes(factors: np.ndarray) -> np.ndarray:
    """Each value's place among the sorted values of its factor: (N, F) int64. For metrics and methods that want classes."""
    places = [np.unique(column, return_inverse=True)[1].reshape(-1) for column in factors.T]
    return np.stack(places, axis=1) if places else np.zeros((len(factors), 0), np.int64)


def last_objects(group: np.ndarray, count: int, objects: int) -> np.ndarray | None:
    """Images of the last `count` of `objects` objects, (N,) bool; None unless all of the objects are there.

    Paper A splits by object and does not say which; here: the last ones in the order of their names, so that a split needs no seed.
    """
    found = np.unique(group)
    return np.isin(group, found[-count:]) if len(found) == objects else None


def empty_images(path: Path | str, count: int, channels: int, height: int, width: int) -> np.ndarray:
    """Room for the images, (N, C, H, W) uint8; refused where the machine has not that much memory at all."""
    needed = count * channels * height * width
    if hasattr(os, "sysconf") and needed > (memory := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
        raise ReadError(
            f"{path}: {count:,} images of {channels} x {height} x {width} take {needed / 1e9:.1f} GB, this machine has "
            f"{memory / 1e9:.1f} GB; ask for a smaller size or for some rows",
            "too_large",
        )
    return np.empty((count, channels, height, width), np.uint8)


def rows_to_keep(path: Path, keep: np.ndarray | None, count: int) -> np.ndarray:
    """The rows asked for, all of them where `keep` is None: (n,) int64."""
    if keep is None:
        return np.arange(count)
    rows = np.asarray(keep)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or (len(rows) and (rows.min() < 0 or rows.max() >= count)):
        raise ReadError(f"{path}: rows to keep must be a list of whole numbers from 0 to {count - 1:,}", "bad_rows")
    return rows.astype(np.int64)


def gather(blocks: Iterable[tuple[int, np.ndarray]], rows: np.ndarray, out: np.ndarray) -> None:
    """Fill `out` (n, ...) with `rows` of a table that comes in blocks, each with the number of its first row."""
    for first, block in blocks:
        inside = np.flatnonzero((rows >= first) & (rows < first + len(block)))
        out[inside] = block[rows[inside] - first]
