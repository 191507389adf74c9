"""A chest of ellipsoids and cylinders whose every voxel is known.  In mm, LPS: x to the patient's left, y to the back, z to the head."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from copdvae.read.volume import Volume

TISSUE, AIR, FOAM, SHELL, BRONCHUS = 40.0, -1000.0, -930.0, -150.0, -995.0


@dataclass(frozen=True)
class Chest:
    volume: Volume
    truth: np.ndarray  # (z, y, x) uint8: 1 right lung with its vessels, 2 left lung, 3 trachea and main bronchi
    vessels: np.ndarray
    table: np.ndarray
    stomach: np.ndarray


@lru_cache(maxsize=4)
def chest(
    spacing=(5.0, 5.0, 5.0),
    lung_hu=-850.0,
    touching=False,
    noise=0.0,
    lungs=("right", "left"),
    bottom=-190.0,
    half_width=205.0,
    stomach_mm=36.0,
) -> Chest:
    z, y, x = np.meshgrid(
        np.arange(bottom, 150, spacing[0]),
        np.arange(-150, 185, spacing[1]),
        np.arange(-half_width, half_width, spacing[2]),
        indexing="ij",
        sparse=True,
    )
    hu = np.full(np.broadcast_shapes(z.shape, y.shape, x.shape), AIR, dtype=np.float32)
    hu[np.broadcast_to((x / 170) ** 2 + (y / 115) ** 2 < 1, hu.shape)] = TISSUE

    truth = np.zeros(hu.shape, dtype=np.uint8)
    for label, name, side in ((1, "right", -1), (2, "left", 1)):
        if name in lungs:
            truth[((x - side * 72) / 55) ** 2 + (y / 85) ** 2 + (z / 110) ** 2 < 1] = label
    if touching:  # the lungs meet in front of the heart
        bridge = np.broadcast_to((np.abs(x) < 45) & (y > -66) & (y < -50) & (np.abs(z) < 40), hu.shape)
        truth[bridge & (x < 0)], truth[bridge & (x >= 0)] = 1, 2
    lung = truth > 0
    hu[lung] = lung_hu

    vessels = np.zeros(hu.shape, dtype=bool)
    for side in (-1, 1):
        for slope in (-0.6, 0.0, 0.5):
            centre = slope * (side * x - 15)
            vessels |= ((y - 15) ** 2 + (z + 30 - centre) ** 2 < 4.0**2) & (side * x > 10) & (side * x < 100)
    vessels &= lung
    hu[vessels] = TISSUE

    def tubes(extra):
        found = (x**2 + (y - 20) ** 2 < (9 + extra) ** 2) & (z > 28)
        for side in (-1, 1):
            along = side * x  # the main bronchi run down and outwards into the lungs, where they open
            found = found | (((y - 20) ** 2 + ((z - 30 + 0.9 * along) * 0.74) ** 2 < (7 + extra) ** 2) & (along >= 0) & (along < 38))
        return found

    hu[tubes(2.5)] = TISSUE
    truth[tubes(2.5)] = 0
    hu[tubes(0)] = BRONCHUS
    truth[tubes(0)] = 3

    table = np.broadcast_to((y > 117) & (y < 162) & (np.abs(x) < 180), hu.shape)  # a shell around foam that is nearly air
    hu[table] = SHELL
    hu[np.broadcast_to((y > 122) & (y < 157) & (np.abs(x) < 175), hu.shape)] = FOAM
    stomach = (x - 70) ** 2 + (y + 10) ** 2 + (z + 119 + stomach_mm) ** 2 < stomach_mm**2  # 9 mm below the left lung
    hu[stomach] = AIR

    if noise:
        hu += np.random.default_rng(0).normal(0, noise, hu.shape).astype(np.float32)
    affine = np.diag([*spacing[::-1], 1.0])
    return Chest(Volume(hu.clip(-1024, 3071), spacing, affine, "synthetic"), truth, vessels, table, np.asarray(stomach))


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))
