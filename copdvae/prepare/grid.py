"""Resample a chest CT to a cube around its lungs.  Arrays are (z, y, x) in HU; spacing is (z, y, x) in mm.

One box a scan: the lungs' bounding box and a margin, made a cube of the longest side around the same centre, so that voxels are isotropic
and `side_mm` keeps the size that the cube hides. What the CT shows around the lungs stays; beyond the CT there is air (-1024 HU).

Each output voxel is the mean over its own extent of the line drawn through the CT's voxel centres, one axis after the other:

    out(i) = 1/w int_{i w}^{(i+1) w} sum_j x_j hat((t - c_j) / h) dt,    hat(s) = max(0, 1 - |s|)

With w much larger than the spacing h this is the mean of all voxels inside (nothing finer than the grid aliases, and densities keep their
mean); with w smaller it is linear interpolation. Half a voxel beyond the outermost centres the CT goes on unchanged, then it ends.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from copdvae.errors import CopdvaeError
from copdvae.read.volume import AIR_HU

LOWEST_HU, HIGHEST_HU = -1024, 3071  # what a cached image holds: 12 bits
MARGIN_MM = 5.0  # around the lungs: room for the chest wall's inner border
LUNG_LABELS, AIRWAY_LABEL = (1, 2), 3


@dataclass(frozen=True)
class GridScan:
    """A scan on the cube. `box` is plain data: see `cube_around`."""

    image: np.ndarray  # (size, size, size) int16 HU
    lung: np.ndarray  # (size, size, size) uint8: 0 none, 1 right lung, 2 left lung, 3 airways
    box: dict[str, float | list[float] | list[int]]


def to_grid(hu: np.ndarray, labels: np.ndarray, spacing: tuple[float, float, float], size: int) -> GridScan:
    """Cut the cube around the lungs (labels 1 and 2) and resample both arrays to `size` voxels a side.

    A voxel of `lung` has the label that fills most of it. Beside the result this needs memory for a few slices only.
    """
    box = cube_around(labels, spacing, size)
    return GridScan(average_hu(hu, spacing, box, size), most_frequent(labels, spacing, box, size), box)


def average_hu(hu: np.ndarray, spacing: tuple[float, float, float], box: dict, size: int) -> np.ndarray:
    axes = [axis_weights(n, gap, start, box["side_mm"], size) for n, gap, start in zip(hu.shape, spacing, box["origin_mm"], strict=True)]
    z, y, x = (weights.sum(axis=1) for _, weights in axes)  # share of each output voxel that lies inside the CT; the rest is air
    image = np.empty((size, size, size), np.int16)
    for i, mean in enumerate(average(cut(hu, axes), axes)):
        mean += AIR_HU * (1 - z[i] * y[:, None] * x)
        image[i] = np.rint(mean).clip(LOWEST_HU, HIGHEST_HU)
    return image


def most_frequent(labels: np.ndarray, spacing: tuple[float, float, float], box: dict, size: int) -> np.ndarray:
    """Which label fills most of a voxel: two samples a side, each spread to its neighbours, show it nearly as well as all, and sooner."""
    steps = [max(1, round(box["voxel_mm"] / gap / 2)) for gap in spacing]
    samples = labels[tuple(slice(None, None, step) for step in steps)]
    axes = [  # each sample stands for a cell of `step` voxels around its own
        axis_weights(n, step * gap, start + (step - 1) / 2 * gap, box["side_mm"], size)
        for n, step, gap, start in zip(samples.shape, steps, spacing, box["origin_mm"], strict=True)
    ]
    samples = np.ascontiguousarray(cut(samples, axes))
    kinds = (*LUNG_LABELS, AIRWAY_LABEL)
    lung = np.zeros((size, size, size), np.uint8)
    for i, shares in enumerate(zip(*(average(samples == label, axes) for label in kinds), strict=True)):
        most, rest = np.zeros((size, size), np.float32), np.ones((size, size), np.float32)
        for label, share in zip(kinds, shares, strict=True):
            lung[i][share > most] = label
            most, rest = np.maximum(most, share), rest - share
        lung[i][rest >= most] = 0
    return lung


def cut(volume: np.ndarray, axes: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """The part of the volume that has weights: a view."""
    return volume[tuple(slice(first, first + weights.shape[1]) for first, weights in axes)]


def average(part: np.ndarray, axes: list[tuple[int, np.ndarray]]) -> Iterator[np.ndarray]:
    """The means that the weights make of `part` (z, y, x), an output slice (size, size) at a time: in its slices first, then across them.

    An output voxel is made of a few voxels, so in a slice the weights are sparse matrices: nothing is multiplied by 0, no threads begin.
    """
    z, (y, x) = axes[0][1], (csr_array(weights) for _, weights in axes[1:])
    planes: dict[int, np.ndarray] = {}
    for weights in z:
        used = np.flatnonzero(weights).tolist()
        planes = {k: planes[k] if k in planes else x @ (y @ part[k]).T for k in used}  # (x, y); the next output slice needs some again
        mean = np.zeros((len(z), len(z)), np.float32)
        for k, plane in planes.items():
            mean += weights[k] * plane
        yield mean.T


def cube_around(labels: np.ndarray, spacing: tuple[float, float, float], size: int) -> dict:
    """The box as plain data, all (z, y, x).

    `origin_mm`: the cube's first corner, measured from the first corner of the CT's first voxel (below 0: it begins outside the CT);
    `side_mm`, `voxel_mm`: the cube's side and its voxels'; `lung_voxels`: first and one past the last CT voxel of the lungs, an axis.
    """
    deep, flat = np.zeros(len(labels), bool), np.zeros(labels.shape[1:], bool)
    for z, here in enumerate(labels):  # a slice at a time: three masks of a 512 x 512 scan would weigh as much as the scan
        lungs = (here == LUNG_LABELS[0]) | (here == LUNG_LABELS[1])
        deep[z] = lungs.any()
        flat |= lungs
    if not deep.any():
        raise CopdvaeError("no voxel is labelled as lung (1 right, 2 left), so there is nothing to cut the grid around")
    used = [np.flatnonzero(line) for line in (deep, np.any(flat, axis=1), np.any(flat, axis=0))]
    bounds = [(int(line[0]), int(line[-1]) + 1) for line in used]
    first, last = (np.array([bound[end] for bound in bounds]) * spacing for end in (0, 1))
    side = float((last - first).max() + 2 * MARGIN_MM)
    return {
        "origin_mm": [round(float(corner), 4) for corner in (first + last) / 2 - side / 2],
        "side_mm": side,
        "voxel_mm": side / size,
        "lung_voxels": [end for bound in bounds for end in bound],
    }


def axis_weights(n: int, gap: float, start: float, side: float, size: int) -> tuple[int, np.ndarray]:
    """Weights (size, used) of the voxels `first .. first + used - 1` of one axis, and `first`; a row adds up to its part inside the CT."""
    edges = (start + side / size * np.arange(size + 1)) / gap  # in voxels of the CT; its voxel j is j .. j + 1, its centre j + .5
    inside = edges.clip(0, n)
    # The integral of voxel j's hat up to t: 0 below j - .5, 1 above j + 1.5. The outermost hats are flat to the CT's border.
    t = (inside[:, None] - np.arange(n) - 0.5).clip(-1, 1)  # (size + 1, n)
    area = np.where(t < 0, (1 + t) ** 2 / 2, 1 - (1 - t) ** 2 / 2)
    area[:, 0] += ramp(inside)
    area[:, -1] += ramp(np.full(1, n)) - ramp(n - inside)
    weights = np.diff(area, axis=0) / np.diff(edges)[:, None]
    used = np.flatnonzero(weights.any(axis=0))
    if not len(used):
        return 0, np.zeros((size, 1), np.float32)
    return int(used[0]), weights[:, used[0] : used[-1] + 1].astype(np.float32)


def ramp(t: np.ndarray) -> np.ndarray:
    """What the hat of a neighbour beyond the border would have taken: its integral from the border to `t` voxels inside."""
    t = t.clip(0, 0.5)
    return t / 2 - t**2 / 2
