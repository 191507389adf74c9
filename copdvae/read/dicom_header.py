"""A DICOM header as numbers and words.  What it says of a person is for comparison, and never to be shown.

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

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from copdvae.read.dicom_plain import PlainHeader, tag_of

Header = pydicom.Dataset | PlainHeader
CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
CAPTURES = "1.2.840.10008.5.1.4.1.1.7"  # secondary captures, of one frame or several
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
SCOUTS = ("LOCALIZER", "SCOUT", "SURVIEW", "TOPOGRAM")
HEADER_LIMIT, READS_LIMIT = 128 * 2**20, 250_000  # bytes and pieces; an Enhanced CT of a thousand frames has some five million and 80,000
DATASET_STARTS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")  # the first group of a file without the 128 byte preamble
PARSE_ERRORS = (
    InvalidDicomError, BytesLengthException, OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
    OverflowError, NotImplementedError, RecursionError, struct.error,
)  # fmt: skip

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
