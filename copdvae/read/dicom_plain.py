"""The header of a DICOM file that is plainly written, without pydicom, which takes ten times as long: a cohort has millions of files.

Plain is: Part 10, explicit little endian, tags in order, pixels at the end, all within the first bytes, and each wanted value of the type
that DICOM's dictionary gives it and of the letters that it should have. Whatever else there is in a file, `plain_header` says None, and
pydicom reads it: nothing is judged here. The tests hold both against each other, also on files with bytes changed at random.
"""

import re
from functools import lru_cache
from struct import Struct
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian

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
TAGS = {keyword: int(Tag(keyword)) for keyword in KEYWORDS}
TYPES = {tag: frozenset(dictionary_VR(tag).encode().split(b" or ")) for tag in TAGS.values()}  # padding is "US or SS": as the file says
SINGLE = frozenset((TAGS["PatientID"],))
SYNTAX, LETTERS, PIXELS, FLOAT_PIXELS = TAGS["TransferSyntaxUID"], TAGS["SpecificCharacterSet"], 0x7FE00010, (0x7FE00008, 0x7FE00009)
ENCAPSULATED = ("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5")
SHORT_TYPES = frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI",
     b"UL", b"US")
)  # fmt: skip
LONG_TYPES = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))  # 4 bytes of length
PIXEL_TYPES = (b"OW", b"OB", b"UN")
ITEM, ITEM_END, SEQUENCE_END, NO_LENGTH, DEEPEST = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0xFFFFFFFF, 8
U2, S2, U4, U2_U2 = Struct("<H"), Struct("<h"), Struct("<L"), Struct("<HH")
UID_LETTERS = re.compile(rb"[0-9.]+")
WHOLE = re.compile(rb"(?=.{1,12}$)[+-]?0*[1-9][0-9]*")  # not zero, which counts as none as a number and not as text; no longer than allowed
DECIMAL = re.compile(rb" *[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)? *")
WORDS = re.compile(rb"[!-~][ -~]*")  # no accents, which need the file's character set, and nothing that does not print
# Those of DICOM, in which the letters of WORDS are themselves. pydicom takes Python's names, too, as utf_16, where they are others.
LETTER_SETS = re.compile(r"(ISO_IR|ISO 2022 IR) [0-9]{1,3}|GB18030|GBK")


class NotPlain(Exception):
    """pydicom has to look."""


class PlainHeader:
    """What a pydicom Dataset says of `KEYWORDS`, in plain types: text, numbers, lists where there are several; None for no value."""

    original_encoding = (False, True)  # not implicit, little endian

    def __init__(self, values: dict[int, Any], pixels: tuple[int, int]):
        self.values, self.pixels = values, pixels  # where the pixels begin and how long they are, by the header's word

    def get(self, keyword: str, default: Any = None) -> Any:
        return self.values.get(TAGS[keyword], default)

    @property
    def file_meta(self) -> "PlainHeader":
        return self


def plain_header(data: bytes) -> PlainHeader | None:
    """The header in a file's first bytes; None for one that is not plain, or does not end in them."""
    if data[128:132] != b"DICM":
        return None
    values: dict[int, Any] = {}
    place, last, end = 132, 0, len(data) - 12
    try:
        while place < end:  # `element` once more, since a call takes as long as what it does
            group, number = U2_U2.unpack_from(data, place)
            tag, kind = group << 16 | number, data[place + 4 : place + 6]
            if kind in SHORT_TYPES:
                start, length = place + 8, U2.unpack_from(data, place + 6)[0]
            elif kind in LONG_TYPES:
                start, length = place + 12, U4.unpack_from(data, place + 8)[0]
            else:
                return None
            if tag <= last or tag in FLOAT_PIXELS:
                return None
            if last >> 16 == 2 != tag >> 16 and not is_plain_syntax(values.get(SYNTAX)):
                return None
            if last == 0 and tag >> 16 != 2:
                return None
            if tag == PIXELS:
                return PlainHeader(values, (start, length)) if kind in PIXEL_TYPES else None
            if length == NO_LENGTH:
                if kind != b"SQ" or tag in TYPES:
                    return None
                place = after_items(data, start, DEEPEST)
            else:
                if tag in TYPES:
                    if start + length > len(data):
                        return None
                    values[tag] = value_of(tag, kind, data[start : start + length])
                place = start + length
            last = tag
    except NotPlain:
        return None
    return None


def element(data: bytes, place: int) -> tuple[int, bytes, int, int]:
    """Tag and type of the element at `place`, where its value begins, its length."""
    group, number = U2_U2.unpack_from(data, place)
    kind = data[place + 4 : place + 6]
    if kind in SHORT_TYPES:
        return group << 16 | number, kind, place + 8, U2.unpack_from(data, place + 6)[0]
    if kind in LONG_TYPES:
        return group << 16 | number, kind, place + 12, U4.unpack_from(data, place + 8)[0]
    raise NotPlain


def after_items(data: bytes, place: int, depth: int) -> int:
    """Where a sequence without a length ends that begins at `place`."""
    while depth and place <= len(data) - 12:
        group, number = U2_U2.unpack_from(data, place)
        (length,) = U4.unpack_from(data, place + 4)
        tag, place = group << 16 | number, place + 8
        if tag == SEQUENCE_END and length == 0:
            return place
        if tag != ITEM:
            break
        place = place + length if length != NO_LENGTH else after_elements(data, place, depth)
    raise NotPlain


def after_elements(data: bytes, place: int, depth: int) -> int:
    """Where an item without a length ends."""
    while place <= len(data) - 12:
        if data[place : place + 8] == b"\xfe\xff\x0d\xe0\0\0\0\0":
            return place + 8
        _, kind, start, length = element(data, place)
        if length == NO_LENGTH:
            if kind != b"SQ":
                break
            place = after_items(data, start, depth - 1)
        else:
            place = start + length
    raise NotPlain


def is_plain_syntax(syntax: Any) -> bool:
    return syntax == ExplicitVRLittleEndian or str(syntax or "").startswith(ENCAPSULATED)


@lru_cache(maxsize=32)
def syntax_uid(text: bytes) -> UID:
    """The same few in every file, and slow to make."""
    return UID(text.decode())


def value_of(tag: int, kind: bytes, raw: bytes) -> Any:
    """A value as pydicom would give it; raises where it is not as plain as it should be.

    The type is judged before the value: what is nothing as text, as two zero bytes, is a number as a number.
    """
    if kind not in TYPES[tag]:
        raise NotPlain
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
        numbers = [float(part) for part in parts]
        return numbers[0] if len(numbers) == 1 else numbers
    if kind == b"IS":
        if not WHOLE.fullmatch(text):
            raise NotPlain
        return text.decode()  # as written: one number is compared as text
    parts = text.split(b"\\")
    if not all(map(WORDS.fullmatch, parts)) or (len(parts) > 1 and tag in SINGLE):
        raise NotPlain
    words = [(part if kind == b"CS" else part.rstrip(b" ")).decode() for part in parts]  # of a CS pydicom strips only the last
    if tag == LETTERS and not all(map(LETTER_SETS.fullmatch, words)):
        raise NotPlain
    return words[0] if len(words) == 1 else words
