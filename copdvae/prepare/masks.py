"""Masks (z, y, x) bool and maps of lungs, uint8: the shapes in them, and how they grow and wear."""

import numpy as np
from scipy import ndimage

RIGHT, LEFT, AIRWAYS = 1, 2, 3  # labels; 0 is none
CROSS = ndimage.generate_binary_structure(3, 1)
ACROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)


def find_parts(mask: np.ndarray, structure: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Connected parts numbered from 1: int32 like `mask`, and how many voxels each has (0 for the background)."""
    parts = np.empty(mask.shape, dtype=np.int32)
    ndimage.label(mask, structure, output=parts)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts, sizes


def grown(mask: np.ndarray, structure: np.ndarray, steps: int = 1) -> np.ndarray:
    """Dilation by a structure with its origin in the middle. Shifted copies take a fifth of scipy's time on a million voxels."""
    for _ in range(steps):
        mask = shifted(mask, structure, np.logical_or)
    return mask


def worn(mask: np.ndarray, structure: np.ndarray) -> np.ndarray:
    """Erosion by a structure with its origin in the middle; nothing is worn from outside the array."""
    return shifted(mask, structure, np.logical_and)


def shifted(mask: np.ndarray, structure: np.ndarray, combine: np.ufunc) -> np.ndarray:
    result = mask.copy()
    for offset in np.argwhere(structure) - np.array(structure.shape) // 2:
        here = tuple(slice(max(0, step), size + min(0, step)) for step, size in zip(offset, mask.shape, strict=True))
        there = tuple(slice(max(0, -step), size + min(0, -step)) for step, size in zip(offset, mask.shape, strict=True))
        combine(result[here], mask[there], out=result[here])
    return result


def opened(mask: np.ndarray, sides: list[int]) -> np.ndarray:
    """Opening by a box: what holds a box of `sides` voxels keeps it, all else goes."""
    for combine, pad in ((np.logical_and, 0), (np.logical_or, 1)):
        for axis, side in enumerate(sides):
            rows = np.moveaxis(np.pad(mask, [(pad * (side - 1) * (a == axis),) * 2 for a in range(3)]), axis, 0)
            mask = np.moveaxis(combine.reduce([rows[k : len(rows) - side + 1 + k] for k in range(side)]), 0, axis)
    return mask


def filled(part: np.ndarray) -> np.ndarray:
    """With the holes that do not reach the outside, of which the first voxel is one."""
    around, _ = find_parts(~part)
    return around != around[0, 0, 0]


def box_around(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds all of `mask`: an index."""
    used = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    return tuple(slice(line[0], line[-1] + 1) for line in used)


def uncrop(part: np.ndarray, box: tuple[slice, ...], shape: tuple[int, ...]) -> np.ndarray:
    whole = np.zeros(shape, dtype=part.dtype)
    whole[box] = part
    return whole


def parenchyma(labels: np.ndarray) -> np.ndarray:
    """Both lungs without airways: bool, like `labels`."""
    return np.subtract(labels, RIGHT, dtype=np.uint8) <= LEFT - RIGHT  # 0 wraps round to 255
