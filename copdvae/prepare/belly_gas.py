"""Gas that is not the lungs', of stomach and bowel under them, and gas that is: bullae.  Arrays are (z, y, x), HU; spacing in mm.

Both are air alone. What lies in the belly has no lung below it, and a wall, which in thick slices is only a little brighter than lung, so
that a threshold between air and tissue joins the two; a lower one parts them. What has lung below it is a bulla, with a wall or without.
"""

import math

import numpy as np
from scipy import ndimage

from copdvae.prepare.masks import CROSS, box_around, find_parts, grown, worn

GAS_HU = (-975.0, -940.0)  # most of a part below: no parenchyma in it. Between them half way from this chest's own lungs to air
WALLS_HU = (-400.0, -550.0, -650.0, -725.0, -775.0, -825.0, -865.0)  # the first is the air's own threshold
LUNG_ML = 100.0
GAS_ML = 5.0
BULLA_ML = 10.0
TOLD_ML = 100.0  # a piece that decides figures
AIR_HU = (-990.0, -975.0)  # at most, the median of a part's core: what the trachea reads and a little more
WALL_HU = 50.0  # brighter than these lungs: what parts gas from them is a wall, and not their own noise
LUNG_BELOW_MM = 15.0  # under a voxel: more than the half-dark ring below a bubble
BESIDE_MM = 15.0
POCKET_MM = 6.0  # noise is averaged over twice as much


def belly_gas(air: np.ndarray, hu: np.ndarray, spacing: np.ndarray, trachea_hu: float | None) -> np.ndarray:
    """Which part of the air is gas below the lungs, with its wall's half-dark ring: bool.

    Parted at lower and lower thresholds, and then, where noise has holes in a wall, after the air was worn by a voxel. Emphysema at the
    bases has no lung below it either: a part must be as thin as the air in the trachea, and what parts it from the lungs be a wall.
    """
    gas = np.zeros_like(air)
    if not air.any():
        return gas
    limit, lung_hu = gas_limit(hu[air]), float(np.median(hu[air]))
    noisy = lung_hu + 40  # lower, noise alone would tear these lungs apart
    searched = -1  # voxels of gas when it was last asked whether there can be more
    for wear in (False, True):
        for wall in WALLS_HU:
            if searched != (searched := np.count_nonzero(gas)) and not near_belly(air & ~gas, hu <= limit, spacing):
                return gas
            dark = air & (hu < wall) & ~gas
            if wall < noisy or not dark.any():
                break
            parts, sizes = find_parts(worn(dark, CROSS) if wear else dark)
            gassy = gas_parts(parts, sizes, hu, spacing, limit)
            lung = (sizes * spacing.prod() > LUNG_ML * 1000) & ~gassy
            for number in np.flatnonzero(gassy).tolist():
                part, ring = parts == number, int(wear) + int(wear or wall != WALLS_HU[0])
                if not is_air(part, hu, trachea_hu) or lung_below(parts, number, lung) >= 0.2:
                    continue
                if ring and not is_walled(part, dark, hu, ring, lung_hu):
                    continue
                gas |= grown(part, CROSS, ring) & air
    return gas


def is_air(part: np.ndarray, hu: np.ndarray, trachea_hu: float | None) -> bool:
    """Whether a part reads like the scan's own air: emphysema is 20 HU and more above that."""
    core = worn(part, CROSS)
    most = AIR_HU[0] if trachea_hu is None else float(np.clip(trachea_hu + 10, *AIR_HU))
    return float(np.median(hu[core if core.any() else part])) <= most


def is_walled(part: np.ndarray, dark: np.ndarray, hu: np.ndarray, ring: int, lung_hu: float) -> bool:
    """Whether most of what lies between a part and the rest of the dark, `ring` voxels away, is brighter than these lungs."""
    outer = grown(part, CROSS, ring)
    between = outer & ~grown(part, CROSS, ring - 1) & grown(dark & ~outer, CROSS)
    return not between.any() or float(np.median(hu[between])) > lung_hu + WALL_HU


def near_belly(air: np.ndarray, thin: np.ndarray, spacing: np.ndarray) -> bool:
    """Whether some dense cluster of thin voxels has little lung below it. If none has, the search, which takes long, would find nothing."""
    shares = (air & thin).astype(np.float32)
    for axis in range(3):
        shares = ndimage.uniform_filter1d(shares, 3, axis)
    clusters, sizes = find_parts(shares >= 0.5)
    lung = air & ~thin
    below = np.cumsum(lung, axis=0, dtype=np.int16) >= max(2, math.ceil(LUNG_BELOW_MM / spacing[0]))
    large = sizes * spacing.prod() > 0.5 * GAS_ML * 1000
    return bool((large & (np.bincount(clusters[below], minlength=len(sizes)) < 0.9 * sizes)).any())


def gas_limit(hu: np.ndarray) -> float:
    return float(np.clip((np.median(hu) - 1000) / 2, *GAS_HU))


def gas_parts(parts: np.ndarray, sizes: np.ndarray, hu: np.ndarray, spacing: np.ndarray, limit: float) -> np.ndarray:
    """Whether each part is of some size and air alone."""
    gas = np.bincount(parts[hu <= limit], minlength=len(sizes))
    return (sizes * spacing.prod() > GAS_ML * 1000) & (gas >= 0.6 * sizes)


def lung_below(parts: np.ndarray, number: int, lung: np.ndarray) -> float:
    """The share of a part's columns that have lung below it; `lung` says which parts are."""
    part = parts == number
    box = box_around(part)
    footprint = part[box].any(axis=0)
    lowest = box[0].start + part[box].argmax(axis=0)
    columns = lung.take(parts[:, box[1], box[2]])
    below = columns & (np.arange(len(parts))[:, None, None] < lowest)
    return float(np.count_nonzero(below.any(axis=0) & footprint) / np.count_nonzero(footprint))


def pocket_ml(lungs: np.ndarray, hu: np.ndarray, spacing: np.ndarray) -> float:
    """How large the largest piece of the lungs is (bool) that is air alone, in ml and without its rim."""
    widths = [max(3, 2 * int(POCKET_MM / gap) + 1) for gap in spacing]
    box = tuple(slice(max(0, side.start - width), side.stop + width) for side, width in zip(box_around(lungs), widths, strict=True))
    means = hu[box]
    for axis, width in enumerate(widths):
        means = np.asarray(ndimage.uniform_filter1d(means, width, axis))
    _, sizes = find_parts(lungs[box] & (means < GAS_HU[0]))
    return float(sizes.max() * spacing.prod() / 1000)


def left_out_ml(left: np.ndarray, lungs: np.ndarray, spacing: np.ndarray) -> float:
    """How much of the air that was left out (bool) lies in large pieces beside the lungs, in ml: stomach and bowel, or a bulla."""
    parts, sizes = find_parts(left)
    near = np.zeros(len(sizes), bool)
    near[np.unique(parts[grown(lungs, CROSS, max(1, round(BESIDE_MM / spacing.min())))])] = True
    return float(sizes[near & (sizes * spacing.prod() > TOLD_ML * 1000)].sum() * spacing.prod() / 1000)
