"""Noise taken out of a scan before densities are measured: off unless asked for, for scans of sharp kernels.  Arrays are (z, y, x), HU."""

import numpy as np
from scipy import ndimage

from copdvae.errors import coded
from copdvae.prepare.masks import box_around

WORDS = {"median": "a median over 3 x 3 x 3 voxels", "gaussian": "a Gaussian with a sigma of 1 voxel"}
MARGIN = 4  # voxels: as far as the Gaussian reaches


def denoised(hu: np.ndarray, labels: np.ndarray, kind: str) -> np.ndarray:
    """`hu` with noise taken out wherever `labels` mark something; all else, and all where `kind` is none, as it was.

    Borders of the image repeat their last voxel. Voxels are counted, not mm: in thick slices more is averaged along z.
    """
    if kind == "none" or not labels.any():
        return hu
    box = tuple(slice(max(0, side.start - MARGIN), side.stop + MARGIN) for side in box_around(labels > 0))
    part = hu[box].astype(np.float32)
    quiet = hu.astype(np.float32)
    if kind == "median":
        quiet[box] = ndimage.median_filter(part, size=3, mode="nearest")
    else:
        quiet[box] = ndimage.gaussian_filter(part, sigma=1.0, mode="nearest", truncate=MARGIN)
    return quiet


def told(kind: str) -> list[str]:
    """The warning that a scan was denoised."""
    return [] if kind == "none" else [coded(f"densities were measured after {WORDS[kind]}, as denoise asked", "denoised")]
