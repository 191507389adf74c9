"""One DICOM file: its CT images as slices, from whatever way its header is written."""

import struct
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.filereader import read_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import UID

from copdvae.errors import ReadError
from copdvae.read.dicom_frames import frames_of
from copdvae.read.dicom_header import (
    CT,
    DATASET_STARTS,
    ENHANCED_CT,
    FOREIGN,
    OBJECT,
    PARSE_ERRORS,
    Bits,
    Deflated,
    Header,
    HeaderStream,
    PixelPlace,
    Slice,
    identity,
    is_derived,
    kind_of,
    number,
    numbers,
    plain,
    quiet,
    series_name,
    why_not,
)
from copdvae.read.dicom_plain import FIRST_BYTES, PIXEL_TYPES, PlainHeader, plain_header

PIXEL_TAGS = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")  # (7FE0,0010), little and big endian
SLICE_TAGS = [Tag(keyword) for keyword in (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "PatientID", "Modality", "ImageType", "ImagePositionPatient",
    "ImageOrientationPatient", "Rows", "Columns", "PixelSpacing", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "LossyImageCompression", "AcquisitionNumber", "BurnedInAnnotation",
)]  # fmt: skip


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
    return frames_of(slice_)


def _may_be_ct(path: Path) -> bool:
    """Whether a deflated file's meta group, which is not deflated, leaves open that it is a CT."""
    try:
        return read_file_meta_info(path).get("MediaStorageSOPClassUID", CT) in (CT, *ENHANCED_CT)
    except PARSE_ERRORS:
        return True


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


def _padding(dataset: Header, bits: Bits) -> tuple[float, float] | None:
    """Raw padding values, from and to; the tag is often written unsigned beside signed pixels."""
    ends = [number(dataset, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    values = [end for end in ends if end is not None]
    if ends[0] is None:
        return None
    if bits.signed:
        values = [end - (1 << bits.allocated) if end >= 1 << (bits.allocated - 1) else end for end in values]
    return min(values), max(values)
