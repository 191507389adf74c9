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
from typing import BinaryIO

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from copdvae.errors import ReadError
from copdvae.read.volume import AIR_HU

CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
SCOUTS = ("LOCALIZER", "SCOUT", "SURVIEW", "TOPOGRAM")
NO_CONTRAST = ("", "NO", "NONE", "N", "WITHOUT", "NATIVE", "0")
PIXEL_TAGS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")  # (7FE0,0010), little and big endian
PIXEL_TYPES, NO_LENGTH = (b"OW", b"OB", b"UN"), 0xFFFFFFFF
DATASET_STARTS = (b"\x02\x00", b"\x08\x00")  # the first group of a file without the 128 byte preamble
PARSE_ERRORS = (
    InvalidDicomError, BytesLengthException, OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
    OverflowError, NotImplementedError, RecursionError, struct.error,
)  # fmt: skip
SLICE_TAGS = [Tag(keyword) for keyword in (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "PatientID", "Modality", "ImageType", "ImagePositionPatient",
    "ImageOrientationPatient", "Rows", "Columns", "PixelSpacing", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "LossyImageCompression", "AcquisitionNumber",
)]  # fmt: skip
SCANNER_TAGS = [Tag(keyword) for keyword in (
    "Manufacturer", "ManufacturerModelName", "ConvolutionKernel", "KVP", "SliceThickness", "Exposure", "ContrastBolusAgent",
)]  # fmt: skip


@dataclass(frozen=True)
class Bits:
    """How a pixel's value lies in its word."""

    allocated: int
    stored: int
    high: int  # number of the highest stored bit
    signed: bool

    def value(self, words: np.ndarray) -> np.ndarray:
        """The stored bits of 16-bit words, with their sign; what lies outside them (an overlay) is dropped."""
        return words if self.stored == 16 else (words << (15 - self.high)) >> (16 - self.stored)


@dataclass(frozen=True)
class PixelPlace:
    """Where a file has its pixels: `length` bytes from `start`, `NO_LENGTH` where the header says none, as of compressed pixels."""

    start: int
    length: int
    little_endian: bool


@dataclass(frozen=True)
class Slice:
    """The header of one CT image; None where a value is absent or not a number."""

    path: Path
    series: str  # 8 hexadecimal digits made from the SeriesInstanceUID, for print
    series_uid: str  # for comparison only, as the next two: identifiers are never printed
    instance: str
    patient: str
    frames: int
    position: np.ndarray | None  # (3,) mm LPS, centre of the first pixel
    orientation: np.ndarray | None  # (6,) direction along a row, then down a column
    rows: int
    columns: int
    pixel_spacing: np.ndarray | None  # (2,) mm between rows, between columns
    bits: Bits
    padding: tuple[float, float] | None  # raw values from, to
    slope: float | None
    intercept: float | None
    rescale_type: str
    lossy: bool
    acquisition: str
    native: bool  # uncompressed
    pixels: PixelPlace

    def padding_hu(self) -> tuple[float, float]:
        """HU that padding would have, from and to; NaN where there is none."""
        if self.padding is None or self.slope is None or self.intercept is None:
            return np.nan, np.nan
        return self.padding[0] * self.slope + self.intercept, self.padding[1] * self.slope + self.intercept


def read_slice(path: Path) -> Slice | None:
    """The header of `path`, or None if it is not a CT image; `ReadError` if it begins as DICOM and cannot be read."""
    try:
        with path.open("rb") as stream:
            start = stream.read(132)
    except OSError:
        raise ReadError(f"{path}: cannot be opened; may this user read it?", "unreadable") from None
    part10 = start[128:] == b"DICM"
    if not part10 and start[:2] not in DATASET_STARTS:
        return None
    try:
        with quiet():
            if part10 and read_file_meta_info(path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
                raise ReadError(
                    f"{path}: deflated DICOM, which can unpack to any size; convert it first, e.g. with dcmconv +te", "deflated"
                )
            with path.open("rb") as stream:
                dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=SLICE_TAGS, force=not part10)
                if part10 and not _kind(dataset):
                    raise EOFError
                if not _is_ct(dataset):
                    return None
                if stream.read(4) not in PIXEL_TAGS:
                    raise ReadError(f"{path}: ends before its pixels; copy it again or take it out", "truncated")
                implicit, little_endian = dataset.original_encoding
                pixels = _pixel_place(stream, implicit is True, little_endian is not False)
            return _slice(path, dataset, part10, pixels)
    except PARSE_ERRORS:
        if not part10:
            return None
        raise ReadError(f"{path}: begins as DICOM and is damaged or breaks off; copy it again or take it out", "damaged_file") from None


def _is_ct(dataset: pydicom.Dataset) -> bool:
    """A CT image with grey values: not a scout, a report, a screen capture or another modality."""
    image_type = [str(word).upper() for word in _several(dataset.get("ImageType"))]
    return (
        _kind(dataset) in (CT, *ENHANCED_CT)
        and str(dataset.get("Modality") or "CT") == "CT"
        and not any(scout in word for word in image_type for scout in SCOUTS)
        and int(dataset.get("SamplesPerPixel") or 1) == 1
        and int(dataset.get("BitsAllocated") or 16) > 8
    )


def _kind(dataset: pydicom.Dataset) -> str:
    return str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID", ""))


def _pixel_place(stream: BinaryIO, implicit: bool, little_endian: bool) -> PixelPlace:
    """Read what lies between the tag of PixelData and its value: in explicit files its type, too."""
    if not implicit and stream.read(4)[:2] not in PIXEL_TYPES:
        raise ValueError("pixels of a type that pixels cannot have")
    (length,) = struct.unpack("<L" if little_endian else ">L", stream.read(4))
    return PixelPlace(stream.tell(), length, little_endian)


def _slice(path: Path, dataset: pydicom.Dataset, part10: bool, pixels: PixelPlace) -> Slice:
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if part10 and (syntax is None or not syntax.is_transfer_syntax):  # private ones count as none
        raise ReadError(
            f"{path}: no standard TransferSyntaxUID, so how its pixels are written is unknown; export it again", "bad_compression"
        )
    uid = str(dataset.get("SeriesInstanceUID") or "")
    allocated = int(dataset.get("BitsAllocated") or 16)
    stored = int(dataset.get("BitsStored") or allocated)
    bits = Bits(allocated, stored, int(dataset.get("HighBit") or stored - 1), bool(dataset.get("PixelRepresentation")))
    return Slice(
        path=path,
        series=hashlib.sha256(uid.encode()).hexdigest()[:8],
        series_uid=uid,
        instance=str(dataset.get("SOPInstanceUID") or ""),
        patient=str(dataset.get("PatientID") or ""),
        frames=2 if _kind(dataset) in ENHANCED_CT else int(dataset.get("NumberOfFrames") or 1),
        position=_numbers(dataset, "ImagePositionPatient", 3),
        orientation=_numbers(dataset, "ImageOrientationPatient", 6),
        rows=int(dataset.get("Rows") or 0),
        columns=int(dataset.get("Columns") or 0),
        pixel_spacing=_numbers(dataset, "PixelSpacing", 2),
        bits=bits,
        padding=_padding(dataset, bits),
        slope=_number(dataset, "RescaleSlope"),
        intercept=_number(dataset, "RescaleIntercept"),
        rescale_type=plain(dataset.get("RescaleType")),
        lossy=str(dataset.get("LossyImageCompression") or "") == "01",
        acquisition=str(dataset.get("AcquisitionNumber") or ""),
        native=syntax is None or syntax in NATIVE,
        pixels=pixels,
    )


def read_scanner(path: Path) -> dict[str, str | float]:
    """Scanner and protocol as far as the header of `path` knows them; of the contrast agent only whether there was one."""
    try:
        with quiet():
            return _scanner(pydicom.dcmread(path, stop_before_pixels=True, specific_tags=SCANNER_TAGS, force=True))
    except PARSE_ERRORS:
        raise ReadError(f"{path}: begins as DICOM and is damaged or breaks off; copy it again or take it out", "damaged_file") from None


def _scanner(dataset: pydicom.Dataset) -> dict[str, str | float]:
    contrast = plain(dataset.get("ContrastBolusAgent")).upper()
    words = {"manufacturer": "Manufacturer", "model": "ManufacturerModelName", "kernel": "ConvolutionKernel"}
    numbers = {"kvp": "KVP", "slice_thickness_mm": "SliceThickness", "exposure_mas": "Exposure"}
    found: dict[str, str | float] = {"contrast": "" if contrast in NO_CONTRAST else "yes"}
    found |= {name: word for name, keyword in words.items() if (word := plain(dataset.get(keyword)))}
    return found | {name: number for name, keyword in numbers.items() if (number := _number(dataset, keyword)) is not None}


def read_pixels(slice_: Slice, out: np.ndarray) -> None:
    """Write one slice as HU to `out`, (rows, columns) float32; padding and everything thinner than air becomes air."""
    slope, intercept = slice_.slope or 1.0, slice_.intercept or 0.0
    low, high = slice_.padding_hu()
    if slice_.native:
        words = _words(slice_)
        out[...] = slice_.bits.value(words)
        if slope != 1:
            out *= slope
        out += intercept
        if slice_.padding is not None and slice_.bits.stored < 16:  # a padding value may need more bits than are stored
            out[(words >= slice_.padding[0]) & (words <= slice_.padding[1])] = AIR_HU
    else:
        out[...] = _decompressed(slice_)  # HU already
    if high > AIR_HU:
        out[(out >= low - slope / 4) & (out <= high + slope / 4)] = AIR_HU
    np.maximum(out, AIR_HU, out=out)


def _words(slice_: Slice) -> np.ndarray:
    """The 16-bit words of uncompressed pixels, (rows, columns), signed as the header says."""
    count, place = slice_.rows * slice_.columns, slice_.pixels
    there = 0 if place.length == NO_LENGTH else place.length // 2
    kind = ("<" if place.little_endian else ">") + ("i2" if slice_.bits.signed else "u2")
    words = np.fromfile(slice_.path, kind, count=min(count, there), offset=place.start)
    if len(words) < count:
        raise ReadError(
            f"{slice_.path}: {2 * len(words)} bytes of pixels, expected {2 * count}; the file is cut short, copy it again", "truncated"
        )
    return words.reshape(slice_.rows, slice_.columns)


def _decompressed(slice_: Slice) -> np.ndarray:
    """HU of compressed pixels, (rows, columns): GDCM decodes and rescales."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # it may quote the header
    try:
        pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(slice_.path), imageIO="GDCMImageIO"))
    except RuntimeError:
        raise ReadError(
            f"{slice_.path}: its compressed pixels cannot be decoded; decompress it first, e.g. gdcmconv --raw", "bad_compression"
        ) from None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    if pixels.shape != (1, slice_.rows, slice_.columns):
        raise ReadError(
            f"{slice_.path}: compressed pixels of shape {pixels.shape}, expected {slice_.rows}x{slice_.columns}", "bad_compression"
        )
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
    """A header's words as they may be shown: printable, one line, at most 64 characters."""
    words = " ".join(str(part) for part in _several(value))
    return " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())[:64]


def _several(value: object) -> list:
    return [] if value is None else list(value) if isinstance(value, MultiValue) else [value]


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


def _padding(dataset: pydicom.Dataset, bits: Bits) -> tuple[float, float] | None:
    """Raw padding values, from and to; the tag is often written unsigned beside signed pixels."""
    ends = [_number(dataset, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    values = [end for end in ends if end is not None]
    if ends[0] is None:
        return None
    if bits.signed:
        values = [end - (1 << bits.allocated) if end >= 1 << (bits.allocated - 1) else end for end in values]
    return min(values), max(values)
