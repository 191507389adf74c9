"""A coarse copy of a scan, up to 4 mm a voxel: what decides about lungs is larger.  Arrays are (z, y, x), HU; spacing in mm."""

import math

import numpy as np

from copdvae.read.volume import Volume

COARSE_MM = 4.0


def coarse_grid(volume: Volume) -> tuple[tuple[int, ...], np.ndarray]:
    """Voxels that make one coarse voxel, and its size in mm, along (z, y, x)."""
    steps = tuple(min(size, max(1, int(COARSE_MM // gap))) for size, gap in zip(volume.hu.shape, volume.spacing, strict=True))
    return steps, np.array(volume.spacing) * steps


def block_means(hu: np.ndarray, steps: tuple[int, ...]) -> np.ndarray:
    """Means over blocks of `steps` voxels; a last incomplete block is left out."""
    depth, height, width = (size // step for size, step in zip(hu.shape, steps, strict=True))
    coarse = np.empty((depth, height, width), dtype=np.float32)
    for z in range(depth):
        slab = hu[z * steps[0] : (z + 1) * steps[0], : height * steps[1]]  # whole rows: a view, however they are grouped
        rows = slab.reshape(steps[0], height, steps[1], -1).sum(axis=(0, 2), dtype=np.float32)
        coarse[z] = sum(rows[:, column : width * steps[2] : steps[2]] for column in range(steps[2]))
    coarse /= math.prod(steps)
    return coarse
