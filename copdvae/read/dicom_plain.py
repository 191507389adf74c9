"""The header of a DICOM file that is plainly written, without pydicom, which takes ten times as long: a cohort has millions of files.

Plain is: Part 10, little endian, tags in order, all that is wanted within the first bytes, and each wanted value of the type that DICOM's
dictionary gives it and of the letters that it should have. Whatever else there is in a file, `plain_header` says None, and pydicom reads
it: nothing is judged here. The tests hold both against each other, also on files with bytes changed at random.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from struct import Struct
from typing import Any

from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

FIRST_BYTES = 16 * 1024
KEYWORDS = (
    "MediaStorageSOPClassUID", "TransferSyntaxUID", "SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "Modality",
    "Manufacturer",
    "SeriesDescription", "ManufacturerModelName", "PatientID", "ContrastBolusAgent", "ContrastBolusAgentSequence", "SliceThickness", "KVP",
    "ProtocolName", "Exposure", "ConvolutionKernel", "StudyInstanceUID", "SeriesInstanceUID", "AcquisitionNumber", "ImagePositionPatient",
    "ImageOrientationPatient", "SamplesPerPixel", "NumberOfFrames", "Rows", "Columns", "PixelSpacing", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "BurnedInAnnotation", "RescaleIntercept",
    "RescaleSlope", "RescaleType", "LossyImageCompression",
)  # fmt: skip
Types = Mapping[int, frozenset[bytes]]  # of the wanted values, by tag


@lru_cache(maxsize=256)
def tag_of(keyword: str) -> int:
    return int(Tag(keyword))


def types_of(keywords: tuple[str, ...]) -> Types:
    """What the dictionary allows: "US or SS" for padding, which is as the file says."""
    return {tag_of(keyword): frozenset(dictionary_VR(tag_of(keyword)).encode().split(b" or ")) for keyword in keywords}


TYPES = types_of(KEYWORDS)
SINGLE = frozenset((tag_of("PatientID"), tag_of("IssuerOfPatientID")))
SYNTAX, LETTERS, SIGNED = tag_of("TransferSyntaxUID"), tag_of("SpecificCharacterSet"), tag_of("PixelRepresentation")
META, PIXELS, FLOAT_PIXELS = 0x00020000, 0x7FE00010, 0x7FE00008
ENCAPSULATED = ("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5")
SHORT_TYPES = frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI",
     b"UL", b"US")
)  # fmt: skip
LONG_TYPES = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))  # 4 bytes of length
PIXEL_TYPES = (b"OW", b"OB", b"UN")
ACCENTED, WHOLE_PARTS = (b"LO", b"SH"), (b"CS", b"DA")  # of the second pydicom strips only the last part
ITEM, SEQUENCE_END, NO_LENGTH, DEEPEST, DELIMITERS = 0xFFFEE000, 0xFFFEE0DD, 0xFFFFFFFF, 8, 0xFFFE
ITEM_END, META_LENGTH = b"\xfe\xff\x0d\xe0\0\0\0\0", b"\2\0\0\0UL\4\0"
U2, S2, U4, U2_U2, ELEMENT = Struct("<H"), Struct("<h"), Struct("<L"), Struct("<HH"), Struct("<HH2sH")
UID_LETTERS = re.compile(rb"[0-9.]+")
WHOLE = re.compile(rb"(?=.{1,12}$)[+-]?0*[1-9][0-9]*")  # not zero, which counts as none as a number and not as text; no longer than allowed
DECIMAL = re.compile(rb" *[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)? *")
WORDS = re.compile(rb"[!-~][ -~]*")  # nothing that does not print, and no accents, which need the file's character set
ACCENTS = {"ISO_IR 100": "latin-1", "ISO_IR 192": "utf-8"}
# Those of DICOM, in which the letters of WORDS are themselves. pydicom takes Python's names, too, as utf_16, where they are others.
LETTER_SETS = re.compile(r"(ISO_IR|ISO 2022 IR) [0-9]{1,3}|GB18030|GBK")


class NotPlain(Exception):
    """pydicom has to look."""


class PlainHeader:
    """What a pydicom Dataset says of the wanted keywords: text, numbers, tuples where there are several; None for no value."""

    def __init__(self, values: dict[int, Any], pixels: tuple[int, int]):
        self.values, self.pixels = values, pixels  # where the pixels begin and how long they are, by the header's word

    def get(self, keyword: str, default: Any = None) -> Any:
        return self.values.get(tag_of(keyword), default)

    @property
    def file_meta(self) -> "PlainHeader":
        return self


def plain_header(data: bytes, types: Types = TYPES, limit: int = FLOAT_PIXELS) -> PlainHeader | None:
    """The header in a file's first bytes up to tag `limit`; None for one that is not plain, or does not end in them."""
    if data[128:132] != b"DICM" or not data.startswith(META_LENGTH, 132):
        return None
    values: dict[int, Any] = {}
    try:
        place = read_elements(data, 132, META, META + 0x10000, False, types, values)
        implicit = is_implicit(values.get(SYNTAX))
        place = read_elements(data, place, META + 0x10000, limit, implicit, types, values)
        return PlainHeader(values, pixels_at(data, place, implicit) if limit == FLOAT_PIXELS else (0, 0))
    except NotPlain:
        return None


def read_elements(data: bytes, place: int, first: int, limit: int, implicit: bool, types: Types, values: dict[int, Any]) -> int:
    """Put the wanted values of tags from `first` up to `limit` into `values`; where the element begins that ends them.

    `element` once more, since a call takes as long as what it does.
    """
    last, end = first - 1, len(data) - 12
    while place < end:
        group, number, kind, length = ELEMENT.unpack_from(data, place)
        tag, start = group << 16 | number, place + 8
        if tag >= limit:
            if group == DELIMITERS:
                break
            return place
        if tag <= last:
            break
        last = tag
        if implicit:
            (length,) = U4.unpack_from(data, place + 4)
            kind = b""
        elif kind in LONG_TYPES:
            (length,) = U4.unpack_from(data, start)
            start += 4
        elif kind not in SHORT_TYPES:
            break
        if length == NO_LENGTH:
            if tag in types or not (is_sequence(tag) if implicit else kind == b"SQ"):
                break
            place = after_items(data, start, implicit, DEEPEST)
            continue
        place = start + length
        if tag in types:  # one that the bytes do not hold ends this, too
            kind = kind or implicit_type(types[tag], values)
            if kind not in types[tag]:
                break
            values[tag] = value_of(tag, kind, data[start:place], values.get(LETTERS))
    raise NotPlain


def element(data: bytes, place: int, implicit: bool) -> tuple[bool, int, int]:
    """Whether the element at `place` of an item may be a sequence, where its value begins, its length."""
    group, number, kind, length = ELEMENT.unpack_from(data, place)
    if group == DELIMITERS or group << 16 | number == LETTERS:
        raise NotPlain
    if implicit:
        return is_sequence(group << 16 | number), place + 8, U4.unpack_from(data, place + 4)[0]
    if kind in SHORT_TYPES:
        return False, place + 8, length
    if kind in LONG_TYPES:
        return kind == b"SQ", place + 12, U4.unpack_from(data, place + 8)[0]
    raise NotPlain


def after_items(data: bytes, place: int, implicit: bool, depth: int) -> int:
    """Where a sequence without a length ends that begins at `place`."""
    while depth and place <= len(data) - 12:
        group, number = U2_U2.unpack_from(data, place)
        (length,) = U4.unpack_from(data, place + 4)
        tag, place = group << 16 | number, place + 8
        if tag == SEQUENCE_END and length == 0:
            return place
        if tag != ITEM:
            break
        place = after_elements(data, place, implicit, depth, None if length == NO_LENGTH else place + length)
    raise NotPlain


def after_elements(data: bytes, place: int, implicit: bool, depth: int, end: int | None) -> int:
    """Where an item ends whose elements begin at `place`: exactly at `end`, or without a length after its delimiter."""
    while place != end:
        if place > len(data) - 12:
            raise NotPlain
        if end is None and data.startswith(ITEM_END, place):
            return place + 8
        sequence, start, length = element(data, place, implicit)
        if length == NO_LENGTH:
            if not sequence:
                raise NotPlain
            place = after_items(data, start, implicit, depth - 1)
        else:
            place = start + length
    return place


def pixels_at(data: bytes, place: int, implicit: bool) -> tuple[int, int]:
    """Where the value of the pixels begins whose element is at `place`, and how long it is."""
    group, number, kind, _ = ELEMENT.unpack_from(data, place)
    if group << 16 | number != PIXELS:
        raise NotPlain
    if implicit:
        return place + 8, U4.unpack_from(data, place + 4)[0]
    if kind not in PIXEL_TYPES:
        raise NotPlain
    return place + 12, U4.unpack_from(data, place + 8)[0]


def is_implicit(syntax: Any) -> bool:
    """Whether elements are written without their types, by the file's word.

    pydicom sees through a file that has types all the same: two capital letters, read as a length, lead past `FIRST_BYTES`.
    """
    if syntax == ImplicitVRLittleEndian:
        return True
    if syntax == ExplicitVRLittleEndian or str(syntax or "").startswith(ENCAPSULATED):
        return False
    raise NotPlain


@lru_cache(maxsize=4096)
def is_sequence(tag: int) -> bool:
    """Whether an element without type and length may be one; a private one is, or its items will not be found."""
    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return True


def implicit_type(allowed: frozenset[bytes], values: dict[int, Any]) -> bytes:
    """The type of a value that is written without one."""
    if len(allowed) == 1:
        return next(iter(allowed))
    if SIGNED not in values:
        raise NotPlain
    return b"US" if values[SIGNED] == 0 else b"SS"


@lru_cache(maxsize=32)
def syntax_uid(text: bytes) -> UID:
    """The same few in every file, and slow to make."""
    return UID(text.decode(), validation_mode=IGNORE)  # or it warns


@lru_cache(maxsize=1024)  # slices of a series say the same
def value_of(tag: int, kind: bytes, raw: bytes, letters: Any) -> Any:
    """A value as pydicom would give it; raises where it is not as plain as it should be. `letters` is the file's character set.

    The type is judged before the value: what is nothing as text, as two zero bytes, is a number as a number.
    """
    if kind in (b"US", b"SS"):
        if len(raw) != 2:
            raise NotPlain
        return (U2 if kind == b"US" else S2).unpack(raw)[0]
    if kind == b"SQ":
        if raw:
            raise NotPlain
        return None
    text = raw.rstrip(b"\0 ")
    if not text:
        return None
    if kind == b"UI":
        if not UID_LETTERS.fullmatch(text):
            raise NotPlain
        return syntax_uid(text) if tag == SYNTAX else text.decode()
    if kind == b"DS":
        parts = text.split(b"\\")
        if not all(map(DECIMAL.fullmatch, parts)):
            raise NotPlain
        numbers = tuple(float(part) for part in parts)
        return numbers[0] if len(numbers) == 1 else numbers
    if kind == b"IS":
        if not WHOLE.fullmatch(text):
            raise NotPlain
        return text.decode()  # as written: one number is compared as text
    parts = text.split(b"\\")
    if len(parts) > 1 and tag in SINGLE:
        raise NotPlain
    whole = all(map(WORDS.fullmatch, parts))
    if not whole and kind not in ACCENTED:
        raise NotPlain
    words = tuple(part if kind in WHOLE_PARTS else part.rstrip(b" ") for part in parts)
    shown = tuple(word.decode() if whole else accented(word, letters) for word in words)
    if tag == LETTERS and not all(map(LETTER_SETS.fullmatch, shown)):
        raise NotPlain
    return shown[0] if len(shown) == 1 else shown


def accented(word: bytes, letters: Any) -> str:
    """Words in the file's character set."""
    if not isinstance(letters, str) or letters not in ACCENTS or word[:1] <= b" ":
        raise NotPlain
    try:
        text = word.decode(ACCENTS[letters])
    except UnicodeDecodeError:
        raise NotPlain from None
    if not text.isprintable():
        raise NotPlain
    return text
