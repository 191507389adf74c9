"""A lung mask from a threshold, or from a map that the user gives.  Arrays are (z, y, x), frame LPS: the right lung is at low x.

The threshold mask takes the air inside the body, tracks trachea and main bronchi down from the top and takes them out, tells right and
left apart, and closes what the lungs enclose (vessels, nodules). All that runs on a coarse copy (up to 4 mm): structures that decide it are
larger, and a 512 x 512 x 600 scan needs no more memory for it than a small one. Only the border is then drawn on the scan's own grid, where
the parenchyma's own density and the tissue's meet half way.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from copdvae.errors import CopdvaeError, coded
from copdvae.prepare.airways import FIRST_THRESHOLD_HU, core_hu, track_airways, wall
from copdvae.prepare.lung_border import close_lungs, draw_border, half_way, stretch, widen
from copdvae.prepare.masks import AIRWAYS, CROSS, LEFT, RIGHT, box_around, find_parts, grown, opened, uncrop, worn
from copdvae.read.volume import Volume

COARSE_MM = 4.0

LITRES = (1.0, 12.0)  # both lungs: less is a part of a chest, more is not a person's
MEAN_HU = (-970.0, -500.0)
GAS_HU = -975.0  # stomach and bowel
CRUMB_ML = 5.0
APART_MM = 60.0  # between the middles of two lungs
SMALL_LUNG = 0.1  # of the larger one: below this it is gas or an effusion's rest
FACE_SHARE = 0.3  # of the largest cross-section: more of it on the first or last slice means that the scan cuts the lung

# Chest Imaging Platform: the low byte is the region, the high byte the type. These types are airways and vessels.
CIP_NOT_PARENCHYMA = (2, 3, *range(38, 49), 50, 51, *range(56, 67))


class LungError(CopdvaeError):
    """No lungs that can be believed. `reason` is a stable code, as in `ReadError`."""

    def __init__(self, message: str, reason: str = "no_lungs"):
        super().__init__(message, reason)  # both, or it would not survive its way back from a worker process
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Lungs:
    """Which voxel is lung.  A given map's airways and vessels, and a threshold mask's trachea and main bronchi, are label 3."""

    labels: np.ndarray  # (z, y, x) uint8: 0 none, 1 right lung, 2 left lung, 3 airways
    maker: str  # "threshold" or "given"
    warnings: tuple[str, ...] = ()
    trachea_hu: float | None = None  # median of the lumen's core; None where no trachea was found


def find_lungs(volume: Volume) -> Lungs:
    """Threshold mask of both lungs and the large airways; raise `LungError` where there are no credible lungs."""
    steps, spacing = coarse_grid(volume)
    hu = block_means(volume.hu, steps)
    inside = inner_air(hu < FIRST_THRESHOLD_HU, spacing)
    if not inside.any():
        raise no_lungs(hu, spacing)

    box = box_around(inside)
    inner, inner_hu = inside[box], hu[box]
    airways = track_airways(inner_hu, inner, spacing)
    walled = wall(airways, spacing)
    lungs, warnings = both_lungs(*lung_parts(inner & ~walled, inner_hu, spacing), spacing)
    if not lungs.any():
        raise no_lungs(hu, spacing)
    threshold = half_way(inner_hu[lungs > 0])
    lungs = close_lungs(widen(lungs, inner_hu < threshold, walled), walled, spacing)

    trachea_hu = core_hu(inner_hu, airways)
    if trachea_hu is None:
        warnings.append(coded("no trachea was found: the large airways count as lung", "no_trachea"))
    lumen_threshold = ((trachea_hu or 0) + float(np.median(inner_hu[lungs > 0]))) / 2
    lungs, airways = uncrop(lungs, box, hu.shape), uncrop(airways, box, hu.shape)
    warnings += credible(lungs, hu, spacing)
    labels = draw_border(volume.hu, lungs, airways, steps, (threshold, lumen_threshold))
    return Lungs(labels, "threshold", tuple(warnings), trachea_hu)


def given_lungs(labels: np.ndarray, volume: Volume) -> Lungs:
    """Lungs from any label map on the volume's grid; what it says of sides counts less than where in the body it says it.

    Two-byte codes are read as the Chest Imaging Platform's: the lungs are where the low byte (region) is not 0, and of these the airways
    and vessels (high byte) get label 3. So figures "with airways" are of the low byte, figures without are of the parenchyma alone, and
    a trachea that is in no region is in neither. In other maps every code is lung, but for a small 3 beside 1 and 2: our airways.
    """
    codes = np.unique(np.concatenate([np.unique(plane[plane > 0]) for plane in labels]))
    if codes.size and codes.max() > 255:
        region = np.bitwise_and(labels, 255).astype(np.uint8)
        airways = np.isin(labels >> 8, CIP_NOT_PARENCHYMA) & (region > 0)
    else:
        region = (labels > 0).astype(np.uint8) if codes.size > 8 else np.where(labels > 0, labels, 0).astype(np.uint8)
        airways = np.zeros(labels.shape, dtype=bool)
        if list(codes) == [RIGHT, LEFT, AIRWAYS]:
            airways = labels == AIRWAYS
            if np.count_nonzero(airways) > 0.1 * np.count_nonzero(labels):
                airways[...] = False
    if not region.any():
        raise LungError("the label map marks no lung", "empty_mask")

    steps, spacing = coarse_grid(volume)
    found, warnings = place_sides(np.where(airways, 0, region), steps, spacing)
    found[airways] = AIRWAYS
    hu = block_means(volume.hu, steps)
    rough = found[coarse_voxels(steps)][tuple(slice(size) for size in hu.shape)]
    try:
        warnings += credible(rough, hu, spacing)
    except LungError as error:  # the user's own map is believed, and the doubt is told
        warnings.append(coded(str(error), error.reason))
    return Lungs(found, "given", tuple(warnings), core_hu(hu, track_airways(hu, inner_air(hu < FIRST_THRESHOLD_HU, spacing), spacing)))


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
                found_so = f"label {code} of the mask lies on the other side than its code says; sides are taken from the position"
                warnings.append(coded(found_so, "mask_sides"))
    return found, warnings


def coarse_voxels(steps: tuple[int, ...]) -> tuple[slice, ...]:
    """The middle voxel of each block: an index."""
    return tuple(slice(step // 2, None, step) for step in steps)


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


def inner_air(air: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """The air that the body encloses: (z, y, x) bool.  A table's hollow inside and its foam are not in the body."""
    parts, sizes = find_parts(air)
    inner = np.ones(len(sizes), dtype=bool)
    inner[0] = False
    inner[side_faces(parts)] = False

    # A table's shell is thin: taken away by an opening, what it held joins the room's air. The chest wall of a thin person may
    # open too, so this only counts where something the size of a lung stays.
    thick = opened(~air, [min(size, 3 if gap <= 3.5 else 2) for size, gap in zip(air.shape, spacing, strict=True)])
    rooms, room_sizes = find_parts(~thick)
    outer = np.zeros(len(room_sizes), dtype=bool)
    outer[side_faces(rooms)] = True
    exposed = np.bincount(parts[outer.take(rooms)], minlength=len(sizes)) > 0.5 * sizes
    if sizes[inner & ~exposed].sum() * spacing.prod() < 0.5e6 * LITRES[0]:
        rows = np.arange(air.shape[1])[:, None]
        back = np.percentile(np.nonzero(thick)[1], 95) if thick.any() else 0
        middles = np.bincount(parts.ravel(), weights=np.broadcast_to(rows, air.shape).ravel()) / np.maximum(1, sizes)
        exposed &= middles > back
    return (inner & ~exposed).take(parts)


def side_faces(parts: np.ndarray) -> np.ndarray:
    """Numbers of the parts that touch the front, back, right or left face: what leaves there is not in the body."""
    faces = [parts[:, 0], parts[:, -1], parts[:, :, 0], parts[:, :, -1]]
    return np.unique(np.concatenate([face.ravel() for face in faces]))


def lung_parts(air: np.ndarray, hu: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected parts of the inner air and their sizes, 0 for crumbs and for stomach and bowel, where all is air.

    (A bulla of a lung's size would look the same.) A small part has to be parenchyma throughout: in thick slices a bubble's rim looks
    like lung.
    """
    parts, sizes = find_parts(air)
    volumes = sizes * spacing.prod()
    for number in np.nonzero(volumes)[0]:
        part = hu[parts == number] if volumes[number] > CRUMB_ML * 1000 else None
        if part is None or np.percentile(part, 60) <= GAS_HU or (volumes[number] < 50_000 and np.percentile(part, 10) <= -930):
            sizes[number] = 0
    return parts, sizes


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
        reach = 12 if sizes[number] * spacing.prod() > 0.3e6 else 6  # mm: a lobe may lie behind a thick fissure, a crumb may be bowel
        near = labels[grown(part, CROSS, max(1, round(reach / spacing.min())))]
        if near.any() and not labels[part].any():
            labels[part] = np.bincount(near[near > 0]).argmax()
    return labels, warnings


def middle_column(mask: np.ndarray) -> float:
    """Mean x index."""
    columns = np.count_nonzero(mask, axis=(0, 1))
    return float(columns @ np.arange(len(columns)) / columns.sum())


def no_lungs(hu: np.ndarray, spacing: np.ndarray) -> LungError:
    """Why there is no lung: is there one that leaves the field of view?"""
    parts, sizes = find_parts((hu < FIRST_THRESHOLD_HU) & (hu > -970))
    if sizes[side_faces(parts)].max() * spacing.prod() > 0.3e6:
        return LungError("the lungs touch the sides of the image: a chest must lie in it whole; no figures are given", "lung_at_border")
    return LungError("no lungs in this image (no air inside a body); is it a chest CT in HU?", "no_lungs")


def split_sides(lung: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Two lungs that touch: worn down until they part, then every voxel goes to the nearer rest. Labels uint8, and warnings."""
    box = box_around(lung)
    inner = np.pad(lung[box], 1)
    labels = np.zeros(inner.shape, dtype=np.uint8)
    if inner.shape[2] * spacing[2] < inner.shape[1] * spacing[1]:  # deeper than wide: this is one lung
        return np.where(lung, RIGHT, 0).astype(np.uint8), [coded("only one lung was found; its side is not known", "side_unknown")]
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
    split = coded("right and left lung could not be told apart; they are split at the middle", "split_at_middle")
    return uncrop(labels[1:-1, 1:-1, 1:-1], box, lung.shape), [split]


def nearer(labels: np.ndarray, within: np.ndarray) -> np.ndarray:
    """Every voxel of `within` gets the label that is nearer to it, counted in steps."""
    to_right, to_left = (np.asarray(ndimage.distance_transform_cdt(labels != side, "taxicab")) for side in (RIGHT, LEFT))
    return np.where(within, np.where(to_right <= to_left, RIGHT, LEFT), 0).astype(np.uint8)


def parenchyma(labels: np.ndarray) -> np.ndarray:
    """Both lungs without airways: bool, like `labels`."""
    return np.subtract(labels, RIGHT, dtype=np.uint8) <= LEFT - RIGHT  # 0 wraps round to 255


def credible(lungs: np.ndarray, hu: np.ndarray, spacing: np.ndarray) -> tuple[str, ...]:
    """Warnings about a coarse mask; raise `LungError` where it cannot be that of a whole chest."""
    areas = np.count_nonzero(parenchyma(lungs), axis=(1, 2))
    right, left = (np.count_nonzero(lungs == side) * spacing.prod() / 1e6 for side in (RIGHT, LEFT))
    smaller, larger = sorted((right, left))
    both = right + left
    mean = float(hu[parenchyma(lungs)].mean()) if areas.any() else 0.0
    if not LITRES[0] <= both <= LITRES[1]:
        raise LungError(f"lungs of {both:.2f} L, expected {LITRES[0]:.0f} to {LITRES[1]:.0f} L: not a whole chest", "lung_volume")
    if smaller < SMALL_LUNG * larger:
        raise LungError(f"one lung of {larger:.2f} L and one of {smaller:.2f} L: both are needed", "one_lung")
    if not MEAN_HU[0] <= mean <= MEAN_HU[1]:
        raise LungError(
            f"mean lung density is {mean:.0f} HU, expected {MEAN_HU[0]:.0f} to {MEAN_HU[1]:.0f}: not lung, or not HU", "lung_density"
        )

    warnings = []
    if smaller < 0.35 * larger:
        found = f"one lung is {larger / smaller:.1f} times as large as the other ({larger:.2f} and {smaller:.2f} L)"
        warnings.append(coded(found, "unequal_lungs"))
    for name, area in (("lowest", areas[0]), ("highest", areas[-1])):
        if area > FACE_SHARE * areas.max():
            raise LungError(f"the scan's {name} slice cuts through the lungs: a part of them is missing", "lung_at_border")
        if area > 0.02 * areas.max():
            warnings.append(coded(f"the lungs reach the scan's {name} slice: a little of them may be missing", "lung_at_end"))
    return tuple(warnings)
