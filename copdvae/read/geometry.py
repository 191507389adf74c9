"""What every reader does once it knows an image's affine: the canonical frame, and the check that values are HU.

Stored voxels are (k, j, i), slowest first; canonical ones (z, y, x) with z towards the head, y towards the back and x
towards the patient's left (LPS). Affines take (i, j, k, 1) or (x, y, z, 1) to LPS millimetres.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from copdvae.errors import ReadError, coded
from copdvae.read.volume import AIR_HU

SHEAR_TOLERANCE_DEG = 0.1  # how far two axes may be from square
OBLIQUE_LIMIT_DEG = 30.0  # beyond this no axis of the image is plainly left-right, front-back or feet-head
OBLIQUE_NOTE_DEG = 5.0  # kept as it is, with a warning
SPACING_LIMITS_MM = (0.05, 25.0)  # outside: metres, micrometres, or a broken header
VOXEL_LIMIT = 2**31  # 8 GiB as float32; the largest chest CT is about 1024 x 1024 x 1200
DEFLATE_LIMIT = 1032  # bytes that one compressed byte can become, at most
HU_SAMPLE = 2_000_000  # voxels looked at to tell HU from anything else
AIR_BAND, TISSUE_BAND, BAND_SHARE = (-1024.0, -500.0), (-300.0, 300.0), 0.01


@dataclass(frozen=True)
class Placement:
    """Where stored voxels go. `order` and `flip` are of the stored axes (k, j, i)."""

    shape: tuple[int, int, int]  # canonical (z, y, x)
    spacing: tuple[float, float, float]  # canonical (z, y, x), mm
    affine: np.ndarray  # (4, 4) canonical (x, y, z, 1) -> LPS mm
    order: tuple[int, int, int]  # canonical axis that each stored axis becomes
    flip: tuple[bool, bool, bool]  # whether each stored axis runs the other way
    warnings: tuple[str, ...] = ()

    def empty(self, dtype: type | np.dtype = np.float32) -> tuple[np.ndarray, np.ndarray]:
        """An unfilled canonical array (z, y, x), and the same memory seen as stored: `stored[k]` is the k-th slice."""
        array = np.empty(self.shape, dtype)
        turned = array.transpose(self.order)
        return array, turned[tuple(slice(None, None, -1 if flip else 1) for flip in self.flip)]


def place(shape: tuple[int, ...], affine: np.ndarray, path: Path) -> Placement:
    """Find the canonical frame of stored voxels of `shape` (k, j, i) by permuting and flipping axes alone."""
    if len(shape) != 3:
        raise ReadError(f"{path}: {len(shape)} dimensions {shape}, expected one volume with 3", "not_3d")
    if min(shape) < 2:
        raise ReadError(f"{path}: only one slice: shape {shape}, expected at least 2 voxels along every axis", "single_slice")
    if np.prod(shape, dtype=float) > VOXEL_LIMIT:
        raise ReadError(f"{path}: header claims {shape} voxels, more than {VOXEL_LIMIT}; is the header damaged?", "too_large")

    edges = np.asarray(affine, dtype=float)[:3, :3]  # columns: the step along i, j, k in mm
    spacing = np.linalg.norm(edges, axis=0)
    low, high = SPACING_LIMITS_MM
    if not (np.isfinite(affine).all() and (spacing >= low).all() and (spacing <= high).all()):
        raise ReadError(f"{path}: voxels of {_mm(spacing)} mm, expected {low} to {high}; are the units millimetres?", "bad_spacing")

    direction = edges / spacing
    angles = np.degrees(np.arccos(np.clip(np.abs((direction.T @ direction)[np.triu_indices(3, 1)]), 0, 1)))
    if (shear := 90 - angles.min()) > SHEAR_TOLERANCE_DEG:
        raise ReadError(f"{path}: axes lean {shear:.1f} degrees from square (sheared affine); resample it to an orthogonal grid", "sheared")

    world = np.abs(direction).argmax(axis=0)  # which of x, y, z each of i, j, k is nearest to
    turn = float(np.degrees(np.arccos(np.clip(np.abs(direction).max(axis=0).min(), 0, 1))))
    if turn > OBLIQUE_LIMIT_DEG or len(set(world)) < 3:
        raise ReadError(f"{path}: axes are turned {turn:.0f} degrees from the patient's; resample it to axial slices", "oblique")

    canonical = np.eye(4)
    canonical[:3, 3] = np.asarray(affine, dtype=float)[:3, 3]
    sizes = shape[::-1]  # of i, j, k
    backwards = [bool(direction[world[axis], axis] < 0) for axis in range(3)]
    for axis in range(3):
        canonical[:3, world[axis]] = -edges[:, axis] if backwards[axis] else edges[:, axis]
        if backwards[axis]:
            canonical[:3, 3] += edges[:, axis] * (sizes[axis] - 1)

    note = f"axes turned {turn:.1f} degrees from the patient's, kept as they are"
    stored = (2, 1, 0)  # i is the last numpy axis
    by_world = np.argsort(world)
    return Placement(
        shape=tuple(int(sizes[by_world[axis]]) for axis in stored),  # pyright: ignore[reportArgumentType]
        spacing=tuple(float(spacing[by_world[axis]]) for axis in stored),  # pyright: ignore[reportArgumentType]
        affine=canonical,
        order=tuple(int(2 - world[axis]) for axis in stored),  # pyright: ignore[reportArgumentType]
        flip=tuple(backwards[axis] for axis in stored),  # pyright: ignore[reportArgumentType]
        warnings=(coded(note, "turned"),) if turn > OBLIQUE_NOTE_DEG else (),
    )


def summary(reader: str, placement: Placement, header: dict, warnings: tuple[str, ...]) -> dict:
    """What `check_ct` says of a CT; plain lists, so that it can be written as JSON."""
    shape, spacing = list(placement.shape), list(placement.spacing)
    return {"reader": reader, "shape": shape, "spacing_mm": spacing, "header": header, "warnings": list(warnings)}


def clamp(hu: np.ndarray, path: Path) -> None:
    """Raise everything below air to air, in place; refuse what is not a number."""
    if not np.isfinite(hu).all():
        raise ReadError(
            f"{path}: voxels that are not numbers (NaN or infinite); expected HU everywhere, -1024 outside the scan", "nan_voxels"
        )
    np.maximum(hu, AIR_HU, out=hu)


def check_hu(hu: np.ndarray, path: Path) -> None:
    """Refuse a volume without air and soft tissue where HU has them: a mask, raw scanner units, [0, 1], 8-bit grey."""
    stride = max(1, round((hu.size / HU_SAMPLE) ** (1 / 3)))
    sample = hu[::stride, ::stride, ::stride].ravel()
    sample = sample[sample > AIR_HU]  # padding says nothing
    air, tissue = (np.mean((sample > low) & (sample < high)) if len(sample) else 0.0 for low, high in (AIR_BAND, TISSUE_BAND))
    if air < BAND_SHARE or tissue < BAND_SHARE:
        raise ReadError(
            f"{path}: values {hu.min():g} to {hu.max():g} are not HU: {100 * air:.1f} % look like air or lung (-1024 to -500) and "
            f"{100 * tissue:.1f} % like soft tissue (-300 to 300), expected at least {100 * BAND_SHARE:g} % of each; a mask, or unscaled?",
            "not_hu",
        )


def _mm(spacing: np.ndarray) -> str:
    return " x ".join(f"{step:g}" for step in spacing)
