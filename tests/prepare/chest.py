"""A chest of ellipsoids and cylinders whose every voxel is known.  In mm, LPS: x to the patient's left, y to the back, z to the head."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

from copdvae.read.volume import Volume

TISSUE, AIR, FOAM, SHELL, BRONCHUS = 40.0, -1000.0, -930.0, -150.0, -995.0


@dataclass(frozen=True)
class Chest:
    volume: Volume
    truth: np.ndarray  # (z, y, x) uint8: 1 right lung with its vessels, 2 left lung, 3 trachea and main bronchi
    vessels: np.ndarray
    table: np.ndarray
    stomach: np.ndarray


@dataclass
class Scene:
    """A chest in the making: coordinates in mm, what is drawn so far, and gas that must not become lung."""

    z: np.ndarray
    y: np.ndarray
    x: np.ndarray
    hu: np.ndarray
    truth: np.ndarray
    gas: np.ndarray


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
    top=150.0,
    bridge=((-66, -50, 40),),
    hard: tuple[Callable[[Scene], None], ...] = (),
    blur_mm=0.0,
    edge=0.0,
    fine=1,
) -> Chest:
    """`bridge`: where lungs that touch do, (front, back) of y and the height about z = 0; `hard` draws on what is there, before noise.

    `blur_mm` is a scanner's, as a Gaussian's sigma, and `edge` a sharp kernel's: how much of what the blur took is put on top again.
    Drawn `fine` times as fine and averaged, thin walls shine through the voxels that they share, as in a scanner.
    """
    steps = np.array(spacing) / fine
    z, y, x = np.meshgrid(
        np.arange(bottom, top, steps[0]),
        np.arange(-150, 185, steps[1]),
        np.arange(-half_width, half_width, steps[2]),
        indexing="ij",
        sparse=True,
    )
    hu = np.full(np.broadcast_shapes(z.shape, y.shape, x.shape), AIR, dtype=np.float32)
    hu[np.broadcast_to((x / 170) ** 2 + (y / 115) ** 2 < 1, hu.shape)] = TISSUE

    truth = np.zeros(hu.shape, dtype=np.uint8)
    for label, name, side in ((1, "right", -1), (2, "left", 1)):
        if name in lungs:
            truth[((x - side * 72) / 55) ** 2 + (y / 85) ** 2 + (z / 110) ** 2 < 1] = label
    for front, back, height in bridge if touching else ():  # the lungs meet in front of the heart
        joined = np.broadcast_to((np.abs(x) < 45) & (y > front) & (y < back) & (np.abs(z) < height), hu.shape)
        truth[joined & (x < 0)], truth[joined & (x >= 0)] = 1, 2
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

    scene = Scene(z, y, x, hu, truth, np.array(stomach))
    for draw in hard:
        draw(scene)
    hu = averaged(scene.hu, fine)
    truth = np.argmax([averaged(truth == label, fine) for label in range(4)], axis=0).astype(np.uint8) if fine > 1 else truth
    vessels, table, gas = (averaged(part, fine) >= 0.5 for part in (vessels, table, scene.gas))
    if blur_mm:
        hu = gaussian_filter(hu, blur_mm / np.array(spacing))
        hu += edge * (hu - gaussian_filter(hu, blur_mm / np.array(spacing)))
    if noise:
        hu = hu + np.random.default_rng(0).normal(0, noise, hu.shape).astype(np.float32)
    affine = np.diag([*spacing[::-1], 1.0])
    return Chest(Volume(hu.clip(-1024, 3071), spacing, affine, "synthetic"), truth, vessels, table, gas)


def averaged(values: np.ndarray, fine: int) -> np.ndarray:
    """Means over blocks of `fine` voxels along each axis."""
    depth, height, width = (size // fine for size in values.shape)
    blocks = values[: depth * fine, : height * fine, : width * fine].reshape(depth, fine, height, fine, width, fine)
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))
