"""Which lung is right and which is left.  Arrays are (z, y, x), frame LPS: the right lung is at low x; spacing is (z, y, x) in mm."""

import numpy as np
from scipy import ndimage

from copdvae.errors import coded, reason_of
from copdvae.prepare.lung_border import stretch
from copdvae.prepare.masks import CROSS, LEFT, RIGHT, box_around, find_parts, grown, uncrop, worn

APART_MM = 60.0  # between the middles of two lungs
SMALL_LUNG = 0.1  # of the larger one: below this it is gas or an effusion's rest


def both_lungs(parts: np.ndarray, sizes: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Right and left lung among the parts of the air that have a size: labels uint8 (z, y, x), all 0 where there is none, and warnings."""
    order = [number for number in np.argsort(sizes)[::-1][:6] if sizes[number]]
    if not order or sizes[order[0]] * spacing.prod() < 0.2e6:
        return np.zeros(parts.shape, dtype=np.uint8), []

    first = order[0]
    centre = {number: middle_column(parts == number) for number in order}
    second = next((number for number in order[1:] if abs(centre[number] - centre[first]) * spacing[2] > APART_MM), None)
    warnings: list[str] = []
    if second is not None and sizes[second] >= SMALL_LUNG * sizes[first]:
        labels = np.zeros(parts.shape, dtype=np.uint8)
        right, left = sorted((first, second), key=lambda number: centre[number])
        labels[parts == right], labels[parts == left] = RIGHT, LEFT
    else:
        labels, warnings = split_sides(parts == first, spacing)
    for number in order[1:]:  # what a fissure, a scar or a bulla's wall cuts off
        part = parts == number
        reach = 15 if sizes[number] * spacing.prod() > 0.3e6 else 6  # mm: a lobe may lie behind a thick fissure, a crumb may be bowel
        near = labels[grown(part, CROSS, max(1, round(reach / spacing.min())))]
        if near.any() and not labels[part].any():
            labels[part] = np.bincount(near[near > 0]).argmax()
    return labels, warnings


def split_sides(lung: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Two lungs that touch: worn down until they part, then every voxel goes to the nearer rest. Labels uint8, and warnings."""
    box = box_around(lung)
    inner = np.pad(lung[box], 1)
    labels = np.zeros(inner.shape, dtype=np.uint8)
    if inner.shape[2] * spacing[2] < inner.shape[1] * spacing[1]:  # deeper than wide: this is one lung
        return np.where(lung, RIGHT, 0).astype(np.uint8), [coded("only one lung was found; its side is not known", "sides_unsure")]
    rest = inner
    for _ in range(max(1, round(24 / spacing.min()))):
        rest = worn(rest, CROSS)
        parts, sizes = find_parts(rest)
        if len(sizes) < 3:
            continue
        second, first = np.argsort(sizes)[-2:]
        centres = {number: middle_column(parts == number) for number in (first, second)}
        if sizes[second] > 0.2 * sizes[first] and abs(centres[first] - centres[second]) * spacing[2] > APART_MM:
            right, left = sorted(centres, key=lambda number: centres[number])
            labels[parts == right], labels[parts == left] = RIGHT, LEFT
            return uncrop(nearer(labels, inner)[1:-1, 1:-1, 1:-1], box, lung.shape), []
    columns = np.arange(inner.shape[2])
    share = np.cumsum(inner.sum(axis=(0, 1))) / max(1, inner.sum())
    middle = int(np.searchsorted(share, 0.52))  # the right lung is the larger one
    labels = np.where(inner, np.where(columns < middle, RIGHT, LEFT), 0).astype(np.uint8)
    doubt = coded("right and left lung could not be told apart; they are split at the middle", "sides_unsure")
    return uncrop(labels[1:-1, 1:-1, 1:-1], box, lung.shape), [doubt]


def sides_unsure(warnings: list[str]) -> bool:
    return any(reason_of(warning) == "sides_unsure" for warning in warnings)


def nearer(labels: np.ndarray, within: np.ndarray) -> np.ndarray:
    """Every voxel of `within` gets the label that is nearer to it, counted in steps."""
    to_right, to_left = (np.asarray(ndimage.distance_transform_cdt(labels != side, "taxicab")) for side in (RIGHT, LEFT))
    return np.where(within, np.where(to_right <= to_left, RIGHT, LEFT), 0).astype(np.uint8)


def middle_column(mask: np.ndarray) -> float:
    """Mean x index."""
    columns = np.count_nonzero(mask, axis=(0, 1))
    return float(columns @ np.arange(len(columns)) / columns.sum())


def place_sides(region: np.ndarray, steps: tuple[int, ...], spacing: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Right and left by position, whatever the codes: labels uint8 like `region`, and warnings."""
    codes = region[coarse_voxels(steps)]
    coarse = codes > 0
    rough, warnings = both_lungs(*find_parts(coarse), spacing)
    if not rough.any():
        rough[coarse] = RIGHT
    sides = nearer(rough, np.ones_like(coarse))
    found = np.zeros(region.shape, dtype=np.uint8)
    for z, plane in enumerate(region):
        whole = stretch(sides[min(z // steps[0], len(sides) - 1)], steps[1:])
        missing = [(0, max(0, size - now)) for size, now in zip(plane.shape, whole.shape, strict=True)]
        whole = np.pad(whole, missing, mode="edge")[: plane.shape[0], : plane.shape[1]]
        found[z] = np.where(plane > 0, whole, 0)
    known = set(np.unique(codes[coarse]).tolist())
    for code in known:
        inside = region == code
        share = np.count_nonzero(found[inside] == RIGHT) / np.count_nonzero(inside)
        if share < 0.1 or share > 0.9:  # a lobe or a lung of the map keeps its own border
            found[inside] = RIGHT if share > 0.9 else LEFT
            if known == {RIGHT, LEFT} and (share > 0.9) != (code == RIGHT):
                swapped = f"label {code} of the mask lies on the other side than its code says; sides are taken from the position"
                warnings.append(coded(swapped, "sides_swapped"))
    return found, warnings


def coarse_voxels(steps: tuple[int, ...]) -> tuple[slice, ...]:
    """The middle voxel of each block: an index."""
    return tuple(slice(step // 2, None, step) for step in steps)
