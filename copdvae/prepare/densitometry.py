"""Densitometry of the lungs, by the definitions of the Chest Imaging Platform (`parenchyma_phenotypes.py`).

LAA-x is the percentage of lung voxels strictly below -x HU, Perc15 is numpy's linearly interpolated 15th percentile, volumes count voxels.
Beside it stands the density at Perc15 that the same tissue would have in a lung of a reference volume (docs/DENSITOMETRY.md).
Every figure is given over the lungs without airways, and over lungs and airways together (`..._with_airways`): air in the airways is
low attenuation too, so tools that count it report more.
"""

import math

import numpy as np

from copdvae.prepare.lungs import AIRWAYS, LEFT, Lungs, parenchyma

REFERENCE_L = 6.0  # a round number, in adults' range: it sets the scale and no more
LAA_HU = {"laa950_pct": -950, "laa910_pct": -910, "laa856_pct": -856}


def densitometry(
    hu: np.ndarray, lungs: Lungs, spacing: tuple[float, float, float], reference_l: float = REFERENCE_L
) -> dict[str, float | None]:
    """Volumes in litres, LAA in percent (0 to 100), adjusted density in g/L, the rest in HU.  `hu` is (z, y, x), `spacing` (z, y, x) in mm.

    The thirds divide the lungs' height, not their volume. An empty mask gives None, never 0.
    """
    litres = float(np.prod(spacing)) / 1e6
    slices = [plane[parenchyma(labels)] for plane, labels in zip(hu, lungs.labels, strict=True)]  # bottom first: z grows to the head
    airways = [plane[labels == AIRWAYS] for plane, labels in zip(hu, lungs.labels, strict=True)]
    lower, upper = (percent_below(third, -950) for third in thirds(slices))
    left_voxels = int(sum(np.count_nonzero(labels == LEFT) for labels in lungs.labels))

    both = np.concatenate([*slices, *airways], dtype=np.float32)  # floats sort ten times as fast as whole numbers of 16 bits
    lung = both[: sum(map(len, slices))]
    slices.clear()
    lung.sort()  # in place, and four times as fast as numpy's percentile, which partitions
    figures: dict[str, float | None] = {**density(lung, litres, reference_l)}
    both.sort()
    figures |= {f"{name}_with_airways": value for name, value in density(both, litres, reference_l).items()}
    figures |= {"left_volume_l": left_voxels * litres, "right_volume_l": (len(lung) - left_voxels) * litres}
    return figures | {"upper_third_laa950_pct": upper, "lower_third_laa950_pct": lower, "trachea_hu": lungs.trachea_hu}


def density(lung: np.ndarray, litres: float, reference_l: float) -> dict[str, float | None]:
    """Figures of the HU values of one region, in ascending order; `litres` is one voxel's."""
    volume, perc15 = len(lung) * litres, percentile(lung, 0.15) if len(lung) else None
    return {
        "lung_volume_l": volume,
        **{name: 100 * count_below(lung, threshold) / len(lung) if len(lung) else None for name, threshold in LAA_HU.items()},
        "perc15_hu": perc15,
        "perc15_adjusted_g_l": None if perc15 is None else (perc15 + 1000) * volume / reference_l,
        "mean_lung_hu": float(lung.mean(dtype=float)) if len(lung) else None,
    }


def percentile(ascending: np.ndarray, share: float) -> float:
    """Linear interpolation between the two values around the place `share` of the way through, as numpy's default does."""
    place = share * (len(ascending) - 1)
    low, high = (float(ascending[k]) for k in (math.floor(place), math.ceil(place)))
    return low + (place - math.floor(place)) * (high - low)


def count_below(ascending: np.ndarray, threshold: float) -> int:
    return int(np.searchsorted(ascending, ascending.dtype.type(threshold)))  # of another type, all would be copied to it


def percent_below(slices: list[np.ndarray], threshold: float) -> float | None:
    voxels = sum(map(len, slices))
    return 100 * sum(np.count_nonzero(plane < threshold) for plane in slices) / voxels if voxels else None


def thirds(slices: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The slices in the lowest and in the highest third of the lungs' height, by their middles."""
    filled = [z for z, plane in enumerate(slices) if len(plane)] or [0]
    first, height = filled[0], filled[-1] + 1 - filled[0]
    third = [3 * (z + 0.5 - first) / height for z in range(len(slices))]
    lower = [plane for plane, place in zip(slices, third, strict=True) if place < 1]
    upper = [plane for plane, place in zip(slices, third, strict=True) if place >= 2]
    return lower, upper
