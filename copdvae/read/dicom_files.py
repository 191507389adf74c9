"""One DICOM file: its header as numbers, its pixels as HU.  What a header says of a person stays in this file.

pydicom's warnings and exceptions quote raw header values, names and birth dates among them: none gets out of here.
"""

import hashlib
import logging
import struct
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info

from copdvae.errors import ReadError

CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
DEFLATED = "1.2.840.10008.1.2.1.99"
SCOUTS = ("LOCALIZER", "SCOUT", "SURVIEW", "TOPOGRAM")
NO_CONTRAST = ("", "NO", "NONE", "N", "WITHOUT", "NATIVE", "0")
DATASET_STARTS = (b"\x02\x00", b"\x08\x00")  # the first group of a file without the 128 byte preamble
PARSE_ERRORS = (
    InvalidDicomError, BytesLengthException, OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
    OverflowError, NotImplementedError, RecursionError, MemoryError, struct.error, LookupError,
)  # fmt: skip
KEYWORDS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "PatientID", "Modality", "ImageType", "ImagePositionPatient",
    "ImageOrientationPatient", "Rows", "Columns", "PixelSpacing", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "LossyImageCompression", "AcquisitionNumber", "InstanceNumber", "Manufacturer",
    "ManufacturerModelName", "ConvolutionKernel", "KVP", "SliceThickness", "Exposure", "ContrastBolusAgent",
]  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """The header of one CT image; None where a value is absent or not a number."""

    path: Path
    series: str  # 8 hexadecimal digits made from the SeriesInstanceUID: the UID itself never leaves
    series_uid: str  # for comparison with what a user asked for, never for print
    instance: str  # SOPInstanceUID, for comparison only
    patient: str  # PatientID, for comparison only
    frames: int
    position: np.ndarray | None  # (3,) mm LPS, centre of the first pixel
    orientation: np.ndarray | None  # (6,) direction of a row, then of a column
    rows: int
    columns: int
    pixel_spacing: np.ndarray | None  # (2,) mm between rows, between columns
    bits: tuple[int, int, int, bool]  # allocated, stored, high bit, signed
    padding: tuple[float, float] | None  # raw values from, to
    slope: float | None
    intercept: float | None
    rescale_type: str
    lossy: bool
    acquisition: str
    transfer_syntax: pydicom.uid.UID
    scanner: dict[str, str | float]


def read_slice(path: Path) -> Slice | None:
    """The header of `path`, or None if it is not a CT image; `ReadError` if it begins as DICOM and cannot be read."""
    with path.open("rb") as stream:
        start = stream.read(132)
    part10 = start[128:] == b"DICM"
    if not part10 and start[:2] not in DATASET_STARTS:
        return None
    try:
        with quiet():
            if part10 and read_file_meta_info(path).get("TransferSyntaxUID") == DEFLATED:
                raise ReadError(f"{path}: deflated DICOM, which can hide any size; convert it first, e.g. with dcmconv +ti", "deflated")
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=KEYWORDS, force=not part10)
            return _slice(path, dataset) if _is_ct(dataset) else None
    except PARSE_ERRORS:
        if not part10:
            return None
        raise ReadError(f"{path}: begins as DICOM and breaks off or is damaged; copy it again or take it out", "damaged_file") from None


def _is_ct(dataset: pydicom.Dataset) -> bool:
    """A CT image with grey values: not a scout, a report, a screen capture or another modality."""
    kind = str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    image_type = [str(word).upper() for word in _several(dataset.get("ImageType"))]
    return (
        (kind == CT or kind in ENHANCED_CT)
        and str(dataset.get("Modality") or "CT") == "CT"
        and not any(scout in word for word in image_type for scout in SCOUTS)
        and int(dataset.get("SamplesPerPixel") or 1) == 1
        and int(dataset.get("BitsAllocated") or 16) > 8
    )


def _slice(path: Path, dataset: pydicom.Dataset) -> Slice:
    uid = str(dataset.get("SeriesInstanceUID") or "")
    kind = str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    signed = bool(dataset.get("PixelRepresentation"))
    allocated = int(dataset.get("BitsAllocated") or 16)
    stored = int(dataset.get("BitsStored") or allocated)
    contrast = str(dataset.get("ContrastBolusAgent") or "").strip().upper()
    scanner = {
        "manufacturer": plain(dataset.get("Manufacturer")),
        "model": plain(dataset.get("ManufacturerModelName")),
        "kernel": plain(dataset.get("ConvolutionKernel")),
        "kvp": _number(dataset, "KVP"),
        "slice_thickness_mm": _number(dataset, "SliceThickness"),
        "exposure_mas": _number(dataset, "Exposure"),
        "contrast": "" if contrast in NO_CONTRAST else "yes",
    }
    return Slice(
        path=path,
        series=hashlib.sha256(uid.encode()).hexdigest()[:8],
        series_uid=uid,
        instance=str(dataset.get("SOPInstanceUID") or ""),
        patient=str(dataset.get("PatientID") or ""),
        frames=2 if kind in ENHANCED_CT else int(dataset.get("NumberOfFrames") or 1),
        position=_numbers(dataset, "ImagePositionPatient", 3),
        orientation=_numbers(dataset, "ImageOrientationPatient", 6),
        rows=int(dataset.get("Rows") or 0),
        columns=int(dataset.get("Columns") or 0),
        pixel_spacing=_numbers(dataset, "PixelSpacing", 2),
        bits=(allocated, stored, int(dataset.get("HighBit") or stored - 1), signed),
        padding=_padding(dataset, allocated, signed),
        slope=_number(dataset, "RescaleSlope"),
        intercept=_number(dataset, "RescaleIntercept"),
        rescale_type=plain(dataset.get("RescaleType")),
        lossy=str(dataset.get("LossyImageCompression") or "") == "01",
        acquisition=str(dataset.get("AcquisitionNumber") or ""),
        transfer_syntax=pydicom.uid.UID(str(dataset.file_meta.get("TransferSyntaxUID", ""))),
        scanner={key: value for key, value in scanner.items() if (value is not None and value != "") or key == "contrast"},
    )


def read_pixels(slice_: Slice, out: np.ndarray) -> None:
    """Write the pixels of one slice as HU to `out` (rows, columns) float32; padding becomes -inf."""
    path, slope, intercept = slice_.path, slice_.slope or 1.0, slice_.intercept or 0.0
    if slice_.transfer_syntax.is_private or not slice_.transfer_syntax.is_compressed:
        out[...] = _native(slice_)
        if (slope, intercept) != (1.0, 0.0):
            out *= slope
            out += intercept
    else:
        out[...] = _compressed(path, out.shape)  # rescaled by GDCM
    if slice_.padding is not None:
        low, high = (value * slope + intercept for value in slice_.padding)
        out[(out >= low - slope / 4) & (out <= high + slope / 4)] = -np.inf


def _native(slice_: Slice) -> np.ndarray:
    """Raw values of uncompressed pixels, (rows, columns); bits outside the stored ones (overlays) are dropped."""
    path, (_, stored, high, signed) = slice_.path, slice_.bits
    try:
        with quiet():
            dataset = pydicom.dcmread(path, specific_tags=["PixelData"], force=True)
            data = dataset.get("PixelData", b"")
            little = dataset.original_encoding[1] is not False
    except PARSE_ERRORS:
        data, little = b"", True
    needed = slice_.rows * slice_.columns * 2
    if len(data) < needed:
        raise ReadError(f"{path}: {len(data)} bytes of pixels, expected {needed}; the file is cut short, copy it again", "truncated")
    raw = np.frombuffer(data, "<u2" if little else ">u2", slice_.rows * slice_.columns).reshape(slice_.rows, slice_.columns)
    raw = raw.view(raw.dtype.str.replace("u", "i")) if signed else raw
    if stored == 16:
        return raw
    return (raw << (15 - high)) >> (16 - stored)  # keeps the sign where there is one


def _compressed(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # may quote the header
    try:
        pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))
    except RuntimeError:
        raise ReadError(
            f"{path}: its compressed pixels cannot be decoded; decompress it first, e.g. with dcmdjpeg or gdcmconv --raw", "bad_compression"
        ) from None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    if pixels.shape != (1, *shape):
        raise ReadError(f"{path}: compressed pixels of shape {pixels.shape}, expected {(1, *shape)} from its header", "bad_compression")
    return pixels[0]


@contextmanager
def quiet():
    """pydicom complains by quoting values, to `warnings` and to its log: neither may reach a terminal."""
    logger = logging.getLogger("pydicom")
    disabled = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled


def plain(value: object) -> str:
    """A header's word as it may be shown: printable, one line, at most 64 characters."""
    words = " ".join(str(part) for part in _several(value))
    return " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())[:64]


def _several(value: object) -> list:
    if value is None:
        return []
    return [value] if isinstance(value, (str, bytes, int, float)) else list(value) if hasattr(value, "__iter__") else [value]  # type: ignore[call-overload]


def _number(dataset: pydicom.Dataset, keyword: str) -> float | None:
    numbers = _numbers(dataset, keyword, 1)
    return None if numbers is None else float(numbers[0])


def _numbers(dataset: pydicom.Dataset, keyword: str, count: int) -> np.ndarray | None:
    """The `count` finite numbers under `keyword`, or None."""
    try:
        values = np.array([float(value) for value in _several(dataset.get(keyword))])
    except (ValueError, TypeError, OverflowError):
        return None
    return values if len(values) == count and np.isfinite(values).all() else None


def _padding(dataset: pydicom.Dataset, allocated: int, signed: bool) -> tuple[float, float] | None:
    """Raw padding values, from and to; their tag is often written unsigned beside signed pixels."""
    ends = [_number(dataset, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return None
    values = [int(end) for end in ends if end is not None]
    if signed:
        values = [value - (1 << allocated) if value >= 1 << (allocated - 1) else value for value in values]
    return float(min(values)), float(max(values))
