"""Trachea and main bronchi in a coarse CT: tracked from the top down.  Arrays are (z, y, x), HU; spacing is (z, y, x) in mm."""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from copdvae.prepare.masks import ACROSS, CROSS, find_parts, grown, worn

FIRST_THRESHOLD_HU = -400.0  # air from tissue, before the lung's own density is known
TRACHEA_MM2 = (40.0, 800.0)
TRACHEA_MM = 35.0  # a shorter tube is swallowed air
LUMENS_HU = (-700.0, -775.0, -825.0, -875.0, -910.0, -940.0, -960.0)  # the first that does not leak
BELOW_CARINA_MM = 35.0


def track_airways(hu: np.ndarray, inside: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Lumen of trachea and main bronchi, followed down slice by slice: (z, y, x) bool, empty where no trachea is seen."""
    columns = np.nonzero(inside.any(axis=(0, 1)))[0]
    best = np.zeros_like(inside)
    tissue = np.count_nonzero(hu > FIRST_THRESHOLD_HU, axis=(0, 1))
    middles = (float(columns.mean()), float(np.average(np.arange(len(tissue)), weights=tissue + 1e-9)))  # one lung may be missing
    longest, begun = TRACHEA_MM, 0
    for z in range(len(hu) - 1, len(hu) // 3, -1):
        for seed in tubes(hu[z], inside[z], spacing, middles):
            if (seed & best[z]).any() or begun > 12:
                continue
            begun += 1
            path, length = follow(hu, inside, seed, z, spacing)
            if length > longest:
                best, longest = path, length
        if longest > 2 * TRACHEA_MM:
            break
    return best


def tubes(hu: np.ndarray, inside: np.ndarray, spacing: np.ndarray, middles: tuple[float, float]) -> Iterator[np.ndarray]:
    """Cross-sections in one slice that could be a trachea: right area, round, near the middle of the chest."""
    pixel = spacing[1] * spacing[2]
    parts, _ = find_parts(inside & (hu < LUMENS_HU[0]))
    for number, box in enumerate(ndimage.find_objects(parts), start=1):
        shape = parts[box] == number
        sides = np.array(shape.shape) * spacing[1:]
        centre = (box[1].start + box[1].stop - 1) / 2
        central = min(abs(centre - middle) for middle in middles) * spacing[2] < 45
        round_enough = sides.max() < 3 * sides.min() and shape.mean() > 0.4
        if TRACHEA_MM2[0] <= shape.sum() * pixel <= TRACHEA_MM2[1] and round_enough and central:
            yield parts == number


def follow(hu: np.ndarray, inside: np.ndarray, seed: np.ndarray, top: int, spacing: np.ndarray) -> tuple[np.ndarray, float]:
    """Follow a tube down from `seed`: its lumen, and the length in mm over which it stays one tube or a pair.

    In each slice the lumen is what is connected to the lumen above. A part that grows too large has leaked into a lung through a thin
    wall: lower thresholds are tried on it, and where none holds that branch ends. Past the carina all ends after `BELOW_CARINA_MM`.
    """
    lumen = np.zeros_like(inside)
    lumen[top] = seed
    pixel = spacing[1] * spacing[2]
    usual, forked = float(seed.sum()), 0
    for z in range(top - 1, -1, -1):
        for growth in (1.7, 2.4):  # the second is a carina's
            limit = min(max(growth * usual, usual + 80 / pixel), TRACHEA_MM2[1] / pixel)
            section, branches = cross_section(hu[z], inside[z], grown(lumen[z + 1], ACROSS), limit)
            if section.any() or forked:
                break
        if section.sum() * pixel < TRACHEA_MM2[0] / 2 or section.sum() > 2.5 * usual:
            break
        lumen[z] = section
        forked += forked > 0 or branches > 1
        if forked * spacing[0] > BELOW_CARINA_MM:
            break
        if not forked:
            usual = 0.8 * usual + 0.2 * float(section.sum())
    return lumen, float(lumen.any(axis=(1, 2)).sum() * spacing[0])


def cross_section(hu: np.ndarray, inside: np.ndarray, above: np.ndarray, limit: float) -> tuple[np.ndarray, int]:
    """The parts of one slice that touch the lumen `above` and are no larger than `limit` pixels: bool (y, x), and how many."""
    section, branches = np.zeros_like(inside), 0
    for threshold in LUMENS_HU:
        dark, sought = inside & (hu < threshold), above & ~section
        if not (dark & sought).any():
            break
        parts, sizes = find_parts(dark)
        touching = np.bincount(parts[sought], minlength=len(sizes)) > 0
        touching &= (sizes > 0) & (sizes <= limit)
        touching[parts[section]] = False  # known from a higher threshold
        if touching.any():
            section |= touching[parts]
            branches += int(touching.sum())
    return section, branches


def wall(airways: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """The airways with the half-dark ring that their wall makes on the grid."""
    return grown(airways, CROSS, max(1, round(2.5 / spacing[1])))


def core_hu(hu: np.ndarray, airways: np.ndarray) -> float | None:
    """Median HU in the core of the airways: scanner calibration at air. Without a core, on a coarse grid, the darkest part."""
    core = worn(airways, np.ones((1, 3, 3)))
    if core.sum() >= 3:
        return float(np.median(hu[core]))
    return float(np.percentile(hu[airways], 15)) if airways.any() else None
