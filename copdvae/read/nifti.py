"""Read NIfTI-1 and NIfTI-2 (`.nii`, `.nii.gz`).  nibabel reads the header; voxels are streamed slice by slice, no more than it claims."""

import gzip
import logging
import math
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from copdvae.errors import ReadError
from copdvae.read.geometry import DEFLATE_LIMIT, Placement, clamp, place, summary
from copdvae.read.volume import Volume

READER = "nifti"
HEADER_ERRORS = (ImageFileError, HeaderDataError, WrapStructError, OSError, EOFError, ValueError, KeyError, zlib.error)
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
UNITS_MM = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 0.001}


@dataclass(frozen=True)
class Header:
    placement: Placement
    shape: tuple[int, int, int]  # stored (k, j, i)
    dtype: np.dtype
    offset: int  # bytes before the first voxel
    slope: float
    intercept: float
    warnings: tuple[str, ...]


def read_volume(path: Path) -> Volume:
    """Read a CT: HU as float32, canonical."""
    header = read_header(path)
    hu, stored = header.placement.empty()
    for k, values in enumerate(slices(path, header)):
        stored[k] = values
        clamp(stored[k], path)
    return Volume(hu, header.placement.spacing, header.placement.affine, READER, {}, header.warnings)


def check_headers(path: Path) -> dict:
    """The header alone, and for an uncompressed file its size."""
    header = read_header(path)
    return summary(READER, header.placement, {}, header.warnings)


def read_label_map(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Integer labels (z, y, x) and their affine, canonical."""
    header = read_header(path)
    whole = header.dtype.kind in "iu" and (header.slope, header.intercept) == (1.0, 0.0)
    labels, stored = header.placement.empty(header.dtype.newbyteorder("=") if whole else np.int32)
    for k, values in enumerate(slices(path, header)):
        if not whole and not np.array_equal(values, np.rint(values)):
            raise ReadError(f"{path}: labels that are not whole numbers; expected a label map, not probabilities or an image", "not_labels")
        stored[k] = values
    return labels, header.placement.affine


def files(path: Path) -> list[Path]:
    return [path]


def read_header(path: Path) -> Header:
    """Everything but the voxels, checked against the file's size before any memory is asked for."""
    try:
        with quiet():
            image: Any = nibabel.load(path)
            header, voxels = image.header, image.dataobj
            dims, dtype, unit = [int(size) for size in header.get_data_shape()], header.get_data_dtype(), header.get_xyzt_units()[0]
            sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
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
    scale = np.diag([UNITS_MM[unit]] * 3 + [1.0])
    affine = RAS_TO_LPS @ scale @ (qform if sform is None else sform)
    shape = (dims[2], dims[1], dims[0])
    placement = place(shape, affine, path)

    warnings = list(placement.warnings)
    if sform is not None and qform is not None and not np.allclose(sform, qform, atol=0.1):
        warnings.append("qform and sform disagree; sform is used")
    offset, slope, intercept = voxels.offset, voxels.slope, voxels.inter
    needed, found = offset + math.prod(dims) * dtype.itemsize, path.stat().st_size
    if found * (DEFLATE_LIMIT if _zipped(path) else 1) < needed:
        raise ReadError(f"{path}: {found} bytes, expected {needed} from its header; the file is cut short", "truncated")
    return Header(placement, shape, dtype, offset, float(slope), float(intercept), tuple(warnings))


def slices(path: Path, header: Header):
    """Yield stored slices (j, i) in order, scaled."""
    count = header.shape[1] * header.shape[2]
    try:
        with open_stream(path) as stream:
            stream.seek(header.offset)
            for _ in range(header.shape[0]):
                data = stream.read(count * header.dtype.itemsize)
                if len(data) < count * header.dtype.itemsize:
                    raise EOFError
                values = np.frombuffer(data, header.dtype).reshape(header.shape[1:])
                yield values if (header.slope, header.intercept) == (1.0, 0.0) else values * header.slope + header.intercept
            stream.read(1)  # the end of a gzip stream is where its checksum is compared
    except (OSError, EOFError, zlib.error):
        raise ReadError(
            f"{path}: the file ends, or its compressed data breaks, before the last voxel; copy it again", "truncated"
        ) from None


def open_stream(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if _zipped(path) else path.open("rb")  # type: ignore[return-value]


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
