"""Chests of simple shapes: enough for the lung finder, small enough for hundreds of tests."""

from pathlib import Path

import nibabel
import numpy as np

SPACING = 6.0  # mm, every axis
SHAPE = (50, 46, 64)  # (z, y, x)


def axes():
    z, y, x = ((np.arange(n) - (n - 1) / 2) * SPACING for n in SHAPE)  # mm from the middle
    return z[:, None, None], y[:, None], x


def lungs(size=1.0):
    """Labels (z, y, x) of the lungs of `chest(size)`: 1 right, 2 left."""
    z, y, x = axes()
    labels = np.zeros(SHAPE, np.uint8)
    for label, side in ((1, -80), (2, 80)):
        labels[(z / (115 * size)) ** 2 + (y / (72 * size)) ** 2 + ((x - side) / (58 * size)) ** 2 < 1] = label
    return labels


def chest(size=1.0, density=-860, seed=0):
    """HU (z, y, x): a body of 40 HU with two lungs and a trachea; `size` 1 is 4 litres of lung."""
    z, y, x = axes()
    hu = np.full(SHAPE, -1000.0)
    hu[np.broadcast_to((y / 125) ** 2 + (x / 175) ** 2 < 1, SHAPE)] = 40
    hu[lungs(size) > 0] = density
    hu[np.broadcast_to((y - 10) ** 2 + x**2 < 81, SHAPE) & (z > 40)] = -980
    return (hu + np.random.default_rng(seed).normal(0, 25, SHAPE)).clip(-1024, 3071)


def save_nifti(path: Path, voxels, description=""):
    """Write (z, y, x) in LPS as NIfTI, whose frame is RAS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(np.asarray(voxels).transpose(2, 1, 0).astype(np.int16), np.diag([-SPACING, -SPACING, SPACING, 1]))
    image.header["descrip"] = description
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path
