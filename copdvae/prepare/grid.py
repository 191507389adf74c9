"""Resample a chest CT to a cube around its lungs.  Arrays are (z, y, x) in HU; spacing is (z, y, x) in mm.

One box a scan: the lungs' bounding box and a margin, made a cube of the longest side around the same centre, so that voxels are isotropic
and `side_mm` keeps the size that the cube hides. What the CT shows around the lungs stays; beyond the CT there is air (-1024 HU).

Each output voxel is the mean over its own extent of the line drawn through the CT's voxel centres, one axis after the other:

    out(i) = 1/w int_{i w}^{(i+1) w} sum_j x_j hat((t - c_j) / h) dt,    hat(s) = max(0, 1 - |s|)

With w much larger than the spacing h this is the mean of all voxels inside (nothing finer than the grid aliases, and densities keep their
mean); with w smaller it is linear interpolation. Half a voxel beyond the outermost centres the CT goes on unchanged, then it ends.
"""

from dataclasses import dataclass

import numpy as np

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
    axes = [axis_weights(n, h, start, box["side_mm"], size) for n, h, start in zip(hu.shape, spacing, box["origin_mm"], strict=True)]
    (deep, z), (high, y), (wide, x) = axes  # (first, last) voxel used along each axis, and the (size, used) weights

    image = np.empty((size, size, size), np.int16)
    lung = np.zeros((size, size, size), np.uint8)
    seen = z.sum(axis=1)[:, None, None] * y.sum(axis=1)[:, None] * x.sum(axis=1)  # share of each voxel that lies inside the CT
    for i in range(size):
        used = np.flatnonzero(z[i])
        if not len(used):
            image[i] = AIR_HU
            continue
        weights = z[i, used[0] : used[-1] + 1]
        slab = (slice(deep + used[0], deep + used[-1] + 1), slice(high, high + y.shape[1]), slice(wide, wide + x.shape[1]))
        mean = y @ np.tensordot(weights, hu[slab], 1) @ x.T + AIR_HU * (1 - seen[i])
        image[i] = np.rint(mean).clip(LOWEST_HU, HIGHEST_HU)

        here = labels[slab]
        if here.any():
            shares = [y @ np.tensordot(weights, (here == label).astype(np.float32), 1) @ x.T for label in (*LUNG_LABELS, AIRWAY_LABEL)]
            lung[i] = np.argmax(np.stack([1 - np.sum(shares, axis=0), *shares]), axis=0)
    return GridScan(image, lung, box)


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
