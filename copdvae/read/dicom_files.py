"""One DICOM file: its header as numbers.  What a header says of a person stays in this file.

pydicom's warnings and exceptions quote raw header values, names and birth dates among them: none gets out of here.
"""

import hashlib
import io
import logging
import struct
import threading
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from copdvae.errors import ReadError
from copdvae.read.dicom_plain import FIRST_BYTES, PIXEL_TYPES, PlainHeader, plain_header, tag_of

Header = pydicom.Dataset | PlainHeader
CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
CAPTURES = "1.2.840.10008.5.1.4.1.1.7"  # secondary captures, of one frame or several
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
SCOUTS = ("LOCALIZER", "SCOUT", "SURVIEW", "TOPOGRAM")
PIXEL_TAGS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")  # (7FE0,0010), little and big endian
NO_LENGTH = 0xFFFFFFFF
HEADER_LIMIT, READS_LIMIT = 128 * 2**20, 250_000  # bytes and pieces; an Enhanced CT of a thousand frames has some five million and 80,000
DATASET_STARTS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")  # the first group of a file without the 128 byte preamble
PARSE_ERRORS = (
    InvalidDicomError, BytesLengthException, OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
    OverflowError, NotImplementedError, RecursionError, struct.error,
)  # fmt: skip
SLICE_TAGS = [Tag(keyword) for keyword in (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "PatientID", "Modality", "ImageType", "ImagePositionPatient",
    "ImageOrientationPatient", "Rows", "Columns", "PixelSpacing", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "LossyImageCompression", "AcquisitionNumber", "BurnedInAnnotation",
)]  # fmt: skip

# Why a file is no slice. The words are shown with a count.
FOREIGN, SCOUT, CAPTURE, BURNT_IN, OBJECT = "not DICOM", "scout views", "screen captures", "with burnt-in text", "other DICOM objects"


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

    @property
    def most(self) -> int:
        """The largest value that fits."""
        return (1 << (self.stored - self.signed)) - 1


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
    series: str  # a name made from the SeriesInstanceUID, for print and manifests
    series_uid: str  # for comparison only, as the next two: identifiers are never printed
    instance: str
    patient: str
    frames: int  # of its file
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
    derived: bool  # made from other images, by its own word
    syntax: str  # transfer syntax, "" where the file says none
    pixels: PixelPlace
    frame: int | None = None  # of an Enhanced CT, from 0; None: the file is one slice
    traits: tuple[tuple[str, str], ...] | None = None  # what may tell two images at one place apart; None: not read yet
    header: PlainHeader | None = field(default=None, repr=False, compare=False)  # where it was read without pydicom

    @property
    def native(self) -> bool:
        """Whether pixels are uncompressed."""
        return not self.syntax or self.syntax in NATIVE

    def padding_hu(self) -> tuple[float, float]:
        """HU that padding would have, from and to; NaN where there is none."""
        if self.padding is None or self.slope is None or self.intercept is None:
            return np.nan, np.nan
        return self.padding[0] * self.slope + self.intercept, self.padding[1] * self.slope + self.intercept


class Deflated(Exception):
    """The file wants to be inflated."""


class HeaderStream(io.BufferedReader):
    """A file that gives its header by pieces, up to `HEADER_LIMIT` bytes in `READS_LIMIT` pieces.

    pydicom asks for the whole rest of a deflated file and inflates it, whatever that makes; nothing else asks so. And the length of an
    element, or an element without one, may ask for more than any header holds.
    """

    def __init__(self, path: Path):
        super().__init__(io.FileIO(path))
        self.bytes_left, self.reads_left = HEADER_LIMIT, READS_LIMIT

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            raise Deflated
        self.bytes_left -= size
        self.reads_left -= 1
        if self.bytes_left < 0 or self.reads_left < 0:
            raise ValueError("more than a header holds")
        return super().read(size)


def read_file(path: Path) -> list[Slice] | str:
    """The CT slices of `path`, one or one a frame, or in a word why it has none; `ReadError` if it begins as DICOM and cannot be read."""
    try:
        stream = HeaderStream(path)
    except OSError:
        raise ReadError(f"{path}: cannot be opened; may this user read it?", "unreadable") from None
    part10 = False
    with stream, quiet:
        try:
            start = stream.read(132)
            part10 = start[128:] == b"DICM"
            return _read(path, stream, part10) if part10 or start[:2] in DATASET_STARTS else FOREIGN
        except Deflated:
            if not _may_be_ct(path):
                return OBJECT
            raise ReadError(
                f"{path}: deflated DICOM, which can unpack to any size; convert it first, e.g. with dcmconv +te", "deflated"
            ) from None
        except PARSE_ERRORS:
            if not part10:
                return FOREIGN
            raise ReadError(f"{path}: begins as DICOM and is damaged or breaks off; copy it again or take it out", "damaged_file") from None


def _read(path: Path, stream: BinaryIO, part10: bool) -> list[Slice] | str:
    stream.seek(0)
    dataset = plain_header(stream.read(FIRST_BYTES)) if part10 else None
    if dataset is None:
        stream.seek(0)
        dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=SLICE_TAGS, force=not part10)
    if not kind_of(dataset):
        if part10:
            raise EOFError
        return FOREIGN
    if why := why_not(dataset):
        return why
    if isinstance(dataset, PlainHeader):
        pixels = PixelPlace(*dataset.pixels, little_endian=True)
    else:
        if stream.read(4) not in PIXEL_TAGS:
            raise ReadError(f"{path}: ends before its pixels; copy it again or take it out", "truncated")
        implicit, little_endian = dataset.original_encoding
        pixels = _pixel_place(stream, implicit is True, little_endian is not False)
    slice_ = _slice(path, dataset, part10, pixels)
    if kind_of(dataset) not in ENHANCED_CT:
        return [slice_]
    from copdvae.read.dicom_frames import frames_of  # few files need it

    return frames_of(slice_)


def _may_be_ct(path: Path) -> bool:
    """Whether a deflated file's meta group, which is not deflated, leaves open that it is a CT."""
    try:
        return read_file_meta_info(path).get("MediaStorageSOPClassUID", CT) in (CT, *ENHANCED_CT)
    except PARSE_ERRORS:
        return True


def why_not(dataset: Header) -> str:
    """Why this is no CT image with grey values, or ""."""
    kind, image_type = kind_of(dataset), [str(word).upper() for word in several(dataset.get("ImageType"))]
    if kind not in (CT, *ENHANCED_CT) or (identity(dataset, "Modality") or "CT") != "CT":
        return CAPTURE if kind.startswith(CAPTURES) else OBJECT
    if any(scout in word for word in image_type for scout in SCOUTS):
        return SCOUT
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or int(dataset.get("BitsAllocated") or 16) <= 8:
        return CAPTURE
    return BURNT_IN if str(dataset.get("BurnedInAnnotation") or "").upper() == "YES" else ""


def kind_of(dataset: Header) -> str:
    return str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or "")


def _pixel_place(stream: BinaryIO, implicit: bool, little_endian: bool) -> PixelPlace:
    """Read what lies between the tag of PixelData and its value: in explicit files its type, too."""
    if not implicit and stream.read(4)[:2] not in PIXEL_TYPES:
        raise ValueError("pixels of a type that pixels cannot have")
    (length,) = struct.unpack("<L" if little_endian else ">L", stream.read(4))
    return PixelPlace(stream.tell(), length, little_endian)


def _slice(path: Path, dataset: Header, part10: bool, pixels: PixelPlace) -> Slice:
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if part10 and not (isinstance(syntax, UID) and syntax.is_transfer_syntax):  # private ones count as none
        raise ReadError(
            f"{path}: no standard TransferSyntaxUID, so how its pixels are written is unknown; export it again", "bad_compression"
        )
    uid = str(dataset.get("SeriesInstanceUID") or "")
    allocated = int(dataset.get("BitsAllocated") or 16)
    stored = int(dataset.get("BitsStored") or allocated)
    bits = Bits(allocated, stored, int(dataset.get("HighBit") or stored - 1), bool(dataset.get("PixelRepresentation")))
    return Slice(
        path=path,
        series=series_name(uid),
        series_uid=uid,
        instance=str(dataset.get("SOPInstanceUID") or ""),
        patient=identity(dataset, "PatientID"),
        frames=int(dataset.get("NumberOfFrames") or 1),
        position=numbers(dataset, "ImagePositionPatient", 3),
        orientation=numbers(dataset, "ImageOrientationPatient", 6),
        rows=int(dataset.get("Rows") or 0),
        columns=int(dataset.get("Columns") or 0),
        pixel_spacing=numbers(dataset, "PixelSpacing", 2),
        bits=bits,
        padding=_padding(dataset, bits),
        slope=number(dataset, "RescaleSlope"),
        intercept=number(dataset, "RescaleIntercept"),
        rescale_type=plain(dataset.get("RescaleType")),
        lossy=str(dataset.get("LossyImageCompression") or "") == "01",
        acquisition=plain(dataset.get("AcquisitionNumber") or ""),
        derived=is_derived(dataset.get("ImageType")),
        syntax=str(syntax or ""),
        pixels=pixels,
        header=dataset if isinstance(dataset, PlainHeader) else None,
    )


def series_name(uid: str) -> str:
    """What a series is called in messages and manifests: a digest, because a UID leads back to a person; no number to a spreadsheet."""
    return "s" + hashlib.sha256(uid.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def is_derived(image_type: object) -> bool:
    words = several(image_type)
    return bool(words) and str(words[0]).strip().upper() == "DERIVED"


class Quiet:
    """`with quiet:` pydicom, which complains by quoting values to `warnings` and to a log, says nothing: neither may reach a terminal.

    Both are the process's and not a thread's: the first of several threads silences them, and the last gives them back.
    """

    def __init__(self):
        self.lock, self.users = threading.Lock(), 0
        self.filters, self.disabled = warnings.catch_warnings(), False

    def __enter__(self) -> None:
        with self.lock:
            self.users += 1
            if self.users == 1:
                self.filters, self.disabled = warnings.catch_warnings(), LOGGER.disabled
                self.filters.__enter__()
                warnings.simplefilter("ignore")
                LOGGER.disabled = True

    def __exit__(self, *error: object) -> None:
        with self.lock:
            self.users -= 1
            if self.users == 0:
                LOGGER.disabled = self.disabled
                self.filters.__exit__(None, None, None)


LOGGER, quiet = logging.getLogger("pydicom"), Quiet()


def plain(value: object) -> str:
    """A header's words as they may be shown: printable, one line, at most 64 characters."""
    words = " ".join(texts(value))
    return " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())[:64]


def identity(dataset: Header, keyword: str) -> str:
    """What names a person, a place or a day, for comparison: to be asked for before any other use of the value.

    Letters that the file's character set does not have are all one sign to pydicom, and two people one: then it is the bytes that count.
    """
    raw = dataset.get_item(tag_of(keyword)) if isinstance(dataset, pydicom.Dataset) else None
    value = dataset.get(keyword)
    words = "\\".join(texts(value))
    if ("\ufffd" in words or isinstance(value, bytes)) and isinstance(raw, RawDataElement) and raw.value:
        words = raw.value.decode("latin-1")
    return words.strip("\0 ")


def texts(value: object) -> list[str]:
    """The words and numbers of a value; a sequence, which may say anything, has none."""
    return [str(part) for part in several(value) if isinstance(part, str | int | float)]


def several(value: object) -> list:
    return [] if value is None else list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def number(dataset: Header, keyword: str) -> float | None:
    found = numbers(dataset, keyword, 1)
    return None if found is None else float(found[0])


def numbers(dataset: Header, keyword: str, count: int) -> np.ndarray | None:
    """The `count` finite numbers under `keyword`, or None."""
    try:
        values = np.array([float(value) for value in several(dataset.get(keyword))])
    except (ValueError, TypeError, OverflowError):
        return None
    return values if len(values) == count and np.isfinite(values).all() else None


def _padding(dataset: Header, bits: Bits) -> tuple[float, float] | None:
    """Raw padding values, from and to; the tag is often written unsigned beside signed pixels."""
    ends = [number(dataset, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    values = [end for end in ends if end is not None]
    if ends[0] is None:
        return None
    if bits.signed:
        values = [end - (1 << bits.allocated) if end >= 1 << (bits.allocated - 1) else end for end in values]
    return min(values), max(values)
