"""Read NIfTI-1 and NIfTI-2 (`.nii`, `.nii.gz`).  nibabel understands the header; nothing else of the file but its voxels is read.

A header may be followed by extensions, of any length and with anyone's name in them: they are skipped, never read.
"""

import gzip
import logging
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from copdvae.errors import ReadError, coded
from copdvae.read.geometry import Placement, place, summary
from copdvae.read.volume import Volume
from copdvae.read.voxels import Stored, check_origin, check_sizes, read_hu, read_map

READER = "nifti"
HEADERS = {348: (nibabel.Nifti1Header, b"n+1"), 540: (nibabel.Nifti2Header, b"n+2")}  # by the header's own size
HEADER_ERRORS = (HeaderDataError, WrapStructError, ValueError, KeyError, OverflowError)
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
UNITS_MM = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}
DISAGREEMENT_MM = 0.1  # between two ways in which a header says the same


@dataclass(frozen=True)
class Header:
    placement: Placement
    stored: Stored
    warnings: tuple[str, ...]


def read_volume(path: Path) -> Volume:
    """Read a CT: HU as float32, canonical."""
    header = checked(path)
    hu = read_hu(path, header.stored, header.placement)
    return Volume(hu, header.placement.spacing, header.placement.affine, READER, {}, header.warnings)


def check_headers(path: Path) -> dict:
    """The header alone, and the file's size."""
    header = checked(path)
    return summary(READER, header.placement, {}, header.warnings)


def read_label_map(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Integer labels (z, y, x) and their affine, canonical; no voxel is read unless the header gives the `shape` that is expected."""
    header = read_header(path)
    return read_map(path, header.stored, header.placement, shape), header.placement.affine


def files(path: Path) -> list[Path]:
    return [path]


def checked(path: Path) -> Header:
    """Everything but the voxels, checked against the file's size before any memory is asked for."""
    header = read_header(path)
    check_sizes(path, header.stored)
    return header


def read_header(path: Path) -> Header:
    """What the first 540 bytes say."""
    try:
        with quiet():
            written, header = parse(path)
            dims, dtype, unit = [int(size) for size in header.get_data_shape()], header.get_data_dtype(), header.get_xyzt_units()[0]
            sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
            offset, (slope, intercept) = header.get_data_offset(), header.get_slope_inter()
    except HEADER_ERRORS:
        raise ReadError(f"{path}: not a readable NIfTI header; is the file whole?", "damaged_file") from None
    if len(dims) < 3 or any(size != 1 for size in dims[3:]):
        raise ReadError(f"{path}: dimensions {dims}, expected one volume with 3; cut the time point or channel out first", "not_3d")
    if dtype.fields is not None or dtype.kind not in "iuf":
        raise ReadError(f"{path}: voxels of type {header['datatype']} (colour or complex), expected one number a voxel", "not_scalar")
    if sform is None and qform is None:
        raise ReadError(
            f"{path}: no orientation (qform and sform codes are 0), so left and right are unknown; convert it from DICOM again",
            "no_orientation",
        )
    steps = np.array(written["pixdim"][1:4], dtype=float)
    if sform is None and not (steps > 0).all():  # nibabel would take a 0 for 1 mm and drop a minus
        raise ReadError(
            f"{path}: voxels of {' x '.join(f'{step:g}' for step in steps)} mm (pixdim), expected millimetres above 0; "
            "convert it from DICOM again",
            "bad_spacing",
        )
    with np.errstate(invalid="ignore", over="ignore"):  # what is no number is refused below, without a word on stderr
        affine = RAS_TO_LPS @ np.diag([UNITS_MM[unit]] * 3 + [1.0]) @ (qform if sform is None else sform)
    shape = (dims[2], dims[1], dims[0])
    placement = place(shape, affine, path)
    check_origin(path, affine)

    warnings = list(placement.warnings)
    if sform is not None and qform is not None and not np.allclose(sform, qform, atol=DISAGREEMENT_MM):
        warnings.append(coded("qform and sform disagree; sform is used", "qform_disagrees"))
    elif sform is not None and not np.allclose(np.linalg.norm(sform[:3, :3], axis=0), steps, atol=DISAGREEMENT_MM):
        warnings.append(coded("pixdim and sform give different voxel sizes; sform is used", "voxel_sizes_disagree"))
    scale = (1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept))
    stored = Stored(path, 0, offset, "gzip" if _zipped(path) else "raw", shape, dtype, *scale)
    return Header(placement, stored, tuple(warnings))


def parse(path: Path) -> tuple[Any, Any]:
    """The header as it is written, and as nibabel repairs it; raises one of `HEADER_ERRORS` where there is none."""
    try:
        with gzip.open(path, "rb") if _zipped(path) else path.open("rb") as stream:
            block = stream.read(max(HEADERS))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError from error
    size = next((size for size in HEADERS if size.to_bytes(4, "little") in (block[:4], block[3::-1])), 0)
    if not size or len(block) < size:
        raise ValueError
    kind, magic = HEADERS[size]
    written, header = kind(block[:size], check=False), kind(block[:size])
    if not bytes(written["magic"]).startswith(magic):  # voxels in another file
        raise ValueError
    return written, header


@contextmanager
def quiet():
    """nibabel logs header repairs on stderr; they are checked here instead."""
    logger = logging.getLogger("nibabel.global")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _zipped(path: Path) -> bool:
    return path.name.lower().endswith(".gz")
