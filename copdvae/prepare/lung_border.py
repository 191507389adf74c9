"""The border of both lungs: what they enclose on the coarse grid, and where it runs on the scan's own.

Arrays are (z, y, x); lungs are uint8 maps with 1 right lung, 2 left lung, 3 airways; spacing is (z, y, x) in mm.
"""

import numpy as np

from copdvae.prepare.masks import ACROSS, AIRWAYS, CROSS, LEFT, RIGHT, box_around, filled, find_parts, grown, worn

TISSUE_HU = 40.0  # chest wall and mediastinum
THRESHOLDS_HU = (-450.0, -320.0)  # of the border: emphysema and full expiration reach these ends
CLOSING_MM = 7.0  # radius: a lower-lobe vessel is some 14 mm wide, the hilum more
HOLE_CM2 = 4.0  # a hole in a slice that is larger is a dome of the diaphragm or the hilum, not a vessel


def half_way(hu: np.ndarray) -> float:
    """Where the border between this parenchyma and tissue lies: half the step between them, as for any blurred edge."""
    return float(np.clip((np.median(hu) + TISSUE_HU) / 2, *THRESHOLDS_HU))


def widen(lungs: np.ndarray, air: np.ndarray, airways: np.ndarray) -> np.ndarray:
    """Move both lungs' border to another threshold: one coarse voxel out at most, or in as far as it goes."""
    wider = lungs.copy()
    for side in (RIGHT, LEFT):
        wider[grown(lungs == side, CROSS) & (wider == 0) & ~airways] = side
    wider[~air] = 0
    return wider


def close_lungs(lungs: np.ndarray, airways: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Add what each lung encloses: vessels and nodules, never the other lung and never the airways."""
    closed = np.zeros_like(lungs)
    for side in (RIGHT, LEFT):
        lung = lungs == side
        if not lung.any():
            continue
        margin = [int(CLOSING_MM // gap) + 2 for gap in spacing]
        box = box_around(lung)
        part = np.pad(lung[box], [(pad, pad) for pad in margin])
        part = closing(part, spacing)
        part = filled(part)
        for axis in range(3):
            part |= small_holes(part, axis, spacing)
        part = part[tuple(slice(pad, -pad) for pad in margin)]
        free = (lungs[box] == 0) | (lungs[box] == side)
        closed[box][part & free & ~airways[box]] = side
    return closed


def closing(part: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Closing with an ellipsoid of `CLOSING_MM` mm, made of crosses and of planes where slices are thick."""
    reach = np.maximum(1, np.round(CLOSING_MM / spacing).astype(int))
    offsets = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), axis=-1) * spacing
    ball = (offsets**2).sum(axis=-1) <= max(CLOSING_MM, spacing.max() * 1.01) ** 2
    return worn(grown(part, ball), ball)


def small_holes(part: np.ndarray, axis: int, spacing: np.ndarray) -> np.ndarray:
    """Holes of at most `HOLE_CM2` in the slices across `axis`: bool, like `part`."""
    plane = np.delete(spacing, axis)
    structure = CROSS.copy()
    structure[tuple(slice(None) if a != axis else [0, 2] for a in range(3))] = False
    holes, sizes = find_parts(~part, structure)
    small = sizes * plane.prod() <= HOLE_CM2 * 100
    small[0] = False
    return small.take(holes)


def draw_border(
    hu: np.ndarray, lungs: np.ndarray, airways: np.ndarray, steps: tuple[int, ...], thresholds: tuple[float, float], gas: np.ndarray
) -> np.ndarray:
    """Labels on the scan's own grid.  Deep inside the coarse lungs all is lung; near their border, what is below the first threshold.

    Around the coarse lumen airway is what is below the second one: wall and parenchyma lie there too. No border runs into `gas`.
    """
    if max(steps) == 1:
        return np.where(airways, AIRWAYS, lungs).astype(np.uint8)
    finer = CROSS.copy()  # a border is only redrawn along the axes that were made coarse
    for axis, step in enumerate(steps):
        if step == 1:
            finer[tuple([0, 2] if a == axis else slice(None) for a in range(3))] = False
    deep, wide = np.zeros(lungs.shape, dtype=bool), np.zeros_like(lungs)
    for side in (RIGHT, LEFT):
        lung = lungs == side
        deep |= worn(lung, finer)
        wide[grown(lung, finer) & ((lungs == 0) | lung) & ~airways & ~gas] = side
    rim = grown(airways, finer) & (lungs == 0)
    codes = wide + 4 * deep.astype(np.uint8) + 8 * airways.astype(np.uint8) + 16 * rim.astype(np.uint8)  # one plane to enlarge, not four

    labels = np.zeros(hu.shape, dtype=np.uint8)
    for z in np.nonzero(codes.any(axis=(1, 2)))[0]:
        rows, columns = (np.nonzero(codes[z].any(axis=axis))[0] for axis in (1, 0))
        near = stretch(codes[z, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], steps[1:])
        side, sure = near & 3, near & 4 > 0
        place = np.s_[rows[0] * steps[1] : (rows[-1] + 1) * steps[1], columns[0] * steps[2] : (columns[-1] + 1) * steps[2]]
        for k in range(z * steps[0], (z + 1) * steps[0]):
            low = smooth(hu[k][place] < thresholds[0])
            drawn = side * (sure | low)
            if rim[z].any():
                drawn[((near & 8 > 0) & low) | ((near & 16 > 0) & (hu[k][place] < thresholds[1]))] = AIRWAYS
            labels[k][place] = drawn
    return labels


def stretch(plane: np.ndarray, steps: tuple[int, ...]) -> np.ndarray:
    return plane.repeat(steps[0], axis=0).repeat(steps[1], axis=1)


def smooth(low: np.ndarray) -> np.ndarray:
    """Close gaps of one or two pixels that noise tears into a border."""
    return worn(grown(low, ACROSS), ACROSS) | low
