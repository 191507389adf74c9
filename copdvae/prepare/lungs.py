"""A lung mask from a threshold, or from a map that the user gives.  Arrays are (z, y, x), frame LPS: the right lung is at low x.

The threshold mask takes the air inside the body, tracks trachea and main bronchi down from the top and takes them out, tells right and
left apart, and closes what the lungs enclose (vessels, nodules). All that runs on a coarse copy (up to 4 mm): structures that decide it are
larger, and a 512 x 512 x 600 scan needs no more memory for it than a small one. Only the border is then drawn on the scan's own grid, where
the parenchyma's own density and the tissue's meet half way.
"""

from dataclasses import dataclass

import numpy as np

from copdvae.errors import CopdvaeError, coded
from copdvae.prepare.airways import FIRST_THRESHOLD_HU, core_hu, track_airways, wall
from copdvae.prepare.belly_gas import BULLA_ML, belly_gas, gas_limit, gas_parts, is_air, left_out_ml, lung_below, pocket_ml
from copdvae.prepare.coarse import block_means, coarse_grid
from copdvae.prepare.lung_border import close_lungs, draw_border, half_way, widen
from copdvae.prepare.masks import AIRWAYS, LEFT, RIGHT, box_around, find_parts, opened, parenchyma, uncrop
from copdvae.prepare.sides import SMALL_LUNG, both_lungs, coarse_voxels, place_sides, sides_unsure
from copdvae.read.volume import Volume

LITRES = (1.0, 12.0)  # both lungs: less is a part of a chest, more is not a person's
MEAN_HU = (-970.0, -500.0)
CRUMB_ML = 5.0
POCKET_ML = 30.0  # of air alone in one piece of the lungs: told
LEFT_OUT_SHARE = 0.3  # of the lungs: with more air left out beside them, they may be what is left of emphysematous ones
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
    maker: str  # "threshold", "lungmask" or "given"
    warnings: tuple[str, ...] = ()
    trachea_hu: float | None = None  # median of the lumen's core; None where no trachea was found


def find_lungs(volume: Volume) -> Lungs:
    """Threshold mask of both lungs and the large airways; raise `LungError` where there are no credible lungs."""
    steps, spacing = coarse_grid(volume)
    hu = block_means(volume.hu, steps)
    inside = inner_air(hu < FIRST_THRESHOLD_HU, spacing)
    if not inside.any():
        raise no_lungs(hu, spacing, hu[inside])

    box = box_around(inside)
    inner, inner_hu = inside[box], hu[box]
    airways = track_airways(inner_hu, inner, spacing)
    walled = wall(airways, spacing)
    trachea_hu = core_hu(inner_hu, airways)
    gas = belly_gas(inner & ~walled, inner_hu, spacing, trachea_hu)
    others = walled | gas
    lungs, warnings = both_lungs(*lung_parts(inner & ~others, inner_hu, spacing, trachea_hu), spacing)
    if not lungs.any():
        raise no_lungs(hu, spacing, inner_hu[inner])
    if sides_unsure(warnings):
        raise LungError("one lung across the middle, or two that nothing tells apart: both are needed; give a mask", "one_lung")
    threshold = half_way(inner_hu[lungs > 0])
    lungs = close_lungs(widen(lungs, inner_hu < threshold, others), others, spacing)

    if (left := left_out_ml(inner & ~walled & (lungs == 0), lungs > 0, spacing)) > 0:
        found = f"{left:.0f} ml of air beside the lungs were left out, as stomach or bowel; if they are emphysema or a bulla, give a mask"
        if left > LEFT_OUT_SHARE * np.count_nonzero(lungs) * spacing.prod() / 1000:
            raise LungError(found, "gas_left_out")
        warnings.append(coded(found, "gas_left_out"))
    if trachea_hu is None:
        warnings.append(coded("no trachea was found: the large airways count as lung", "no_trachea"))
    lumen_threshold = ((trachea_hu or 0) + float(np.median(inner_hu[lungs > 0]))) / 2
    lungs, airways, gas = (uncrop(mask, box, hu.shape) for mask in (lungs, airways, gas))
    warnings += credible(lungs, hu, spacing)
    if (pocket := pocket_ml(parenchyma(lungs), hu, spacing)) > POCKET_ML:
        found = f"{pocket:.0f} ml of the lungs, in one piece, are air alone: a bulla, a pneumothorax, or gas of stomach or bowel?"
        warnings.append(coded(found, "gas_in_lungs"))
    labels = draw_border(volume.hu, lungs, airways, steps, (threshold, lumen_threshold), gas)
    return Lungs(labels, "threshold", tuple(warnings), trachea_hu)


def given_lungs(labels: np.ndarray, volume: Volume, maker: str = "given") -> Lungs:
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
    except LungError as error:
        if maker != "given":
            raise
        # the user's own map is believed, and the doubt is told
        warnings.append(coded(str(error), error.reason))
    return Lungs(found, maker, tuple(warnings), core_hu(hu, track_airways(hu, inner_air(hu < FIRST_THRESHOLD_HU, spacing), spacing)))


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


def lung_parts(air: np.ndarray, hu: np.ndarray, spacing: np.ndarray, trachea_hu: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Connected parts of the inner air and their sizes, 0 for crumbs and for what is air alone and no bulla.

    A small part has to be parenchyma throughout: in thick slices a bubble's rim looks like lung.
    """
    parts, sizes = find_parts(air)
    volumes = sizes * spacing.prod() / 1000
    if not air.any():
        return parts, sizes
    gas = gas_parts(parts, sizes, hu, spacing, gas_limit(hu[air]))
    lung = ~gas & (volumes > 100)
    for number in np.nonzero(volumes)[0].tolist():
        if volumes[number] <= CRUMB_ML:
            sizes[number] = 0
        elif gas[number] and is_air(parts == number, hu, trachea_hu):
            if volumes[number] < BULLA_ML or lung_below(parts, number, lung) < 0.5:
                sizes[number] = 0
        elif volumes[number] < 50 and np.percentile(hu[parts == number], 10) <= -930:
            sizes[number] = 0
    return parts, sizes


def no_lungs(hu: np.ndarray, spacing: np.ndarray, inner: np.ndarray) -> LungError:
    """Why there is no lung: is there one that leaves the field of view, or are the values `inner` in the body all of air alone?"""
    voxel = spacing.prod() / 1e6
    if len(inner) * voxel > LITRES[0] and np.median(inner) < MEAN_HU[0]:
        return LungError(f"what could be lungs is air alone, {np.median(inner):.0f} HU: no parenchyma in it", "lung_density")
    dark = opened((hu < FIRST_THRESHOLD_HU) & (hu > -970), [min(2, size) for size in hu.shape])  # noise makes room air look like lung
    parts, sizes = find_parts(dark)
    if sizes[side_faces(parts)].max() * voxel > 0.3:
        return LungError("the lungs touch the sides of the image: a chest must lie in it whole; no figures are given", "lung_at_border")
    return LungError("no lungs in this image (no air inside a body); is it a chest CT in HU?", "no_lungs")


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
        warnings.append(coded(found, "uneven_lungs"))
    for name, area in (("lowest", areas[0]), ("highest", areas[-1])):
        if area > FACE_SHARE * areas.max():
            raise LungError(f"the scan's {name} slice cuts through the lungs: a part of them is missing", "lung_at_border")
        if area > 0.02 * areas.max():
            warnings.append(coded(f"the lungs reach the scan's {name} slice: a little of them may be missing", "lung_at_edge"))
    return tuple(warnings)
