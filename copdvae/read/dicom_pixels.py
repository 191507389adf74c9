"""The pixels of one CT slice as HU.  Compressed ones are decoded by GDCM, all others read here."""

import itertools
import mmap
import struct
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import UID, JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes, RLELossless

from copdvae.errors import ReadError
from copdvae.read.dicom_header import CT, PARSE_ERRORS, Slice, quiet
from copdvae.read.dicom_plain import NO_LENGTH
from copdvae.read.volume import AIR_HU

FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # of JPEG's kinds and JPEG-LS; the rest are tables
TWELVE_BITS_HU = 3071.0  # the top of 12 bits from -1024
NEAR_TOP_HU = 2700.0  # a slice that does not reach this holds no metal
DENSE_HU, STEP_HU = 2000.0, 3000.0  # from one voxel to the next, no edge in a body has such a step


def read_pixels(slice_: Slice, out: np.ndarray) -> float:
    """Write one slice as HU to `out`, (rows, columns) float32, or int16 where the slice is `whole`; padding and everything thinner than air
    becomes air. Returns the highest."""
    slope, intercept = slice_.slope or 1.0, slice_.intercept or 0.0
    low, high = slice_.padding_hu()
    if slice_.native:
        words = _words(slice_)
        values = slice_.bits.value(words)
        top = float(values.max()) * slope + intercept  # of 16-bit words: a quarter of the time that floats take
        if out.dtype == np.int16:
            # No value is below air now, nor, being `whole`, above what fits: whatever wraps around here comes back with the intercept.
            np.maximum(values, max(np.iinfo(values.dtype).min, round(AIR_HU - intercept)), out=out, casting="unsafe")
            out += np.int16(intercept)
        else:
            out[...] = values
            if slope != 1:
                out *= slope
            out += intercept
        if slice_.padding is not None and slice_.bits.stored < 16:  # a padding value may need more bits than are stored
            out[(words >= slice_.padding[0]) & (words <= slice_.padding[1])] = AIR_HU
    else:
        if slice_.frame is None:
            check_stream(slice_, 0)
            out[...] = _decoded(slice_, slice_.path)  # HU already
        else:
            out[...] = _decoded_frame(slice_, slice_.frame)
            out *= slope
            out += intercept
        top = float(out.max())
    if high > AIR_HU:
        out[(out >= low - slope / 4) & (out <= high + slope / 4)] = AIR_HU
    np.maximum(out, out.dtype.type(AIR_HU), out=out)
    return top


def whole(slice_: Slice) -> bool:
    """Whether every HU from air on that the slice can hold is a whole number of 16 bits, which take half of the memory that floats do."""
    intercept = slice_.intercept or 0.0
    fits = slice_.bits.most + intercept <= 32767 and -30000 <= intercept <= 30000
    return slice_.native and slice_.slope == 1 and intercept.is_integer() and fits


def saturated(slice_: Slice, hu: np.ndarray) -> tuple[int, int]:
    """Signs that 12 bits were too few for metal: voxels (rows, columns) of the highest value that fits, and steps from dense ones to thin
    ones that no edge makes, where values that were too high began again at the lowest."""
    rows, columns = np.divmod(np.flatnonzero(hu >= DENSE_HU), hu.shape[1])
    dense = hu[rows, columns].astype(np.float32)  # the steps between whole numbers of 16 bits need more bits
    top = float(dense.max()) if len(dense) else 0.0
    ceiling = slice_.bits.most * (slice_.slope or 1.0) + (slice_.intercept or 0.0)
    full = int(np.count_nonzero(dense == top)) if top in (ceiling, TWELVE_BITS_HU) else 0
    if top > TWELVE_BITS_HU + 1:  # wider than 12 bits: nothing began again
        return full, 0
    last = hu.shape[0] - 1, hu.shape[1] - 1
    near = ((rows, np.minimum(columns + 1, last[1])), (rows, np.maximum(columns - 1, 0)), (np.minimum(rows + 1, last[0]), columns),
            (np.maximum(rows - 1, 0), columns))  # fmt: skip
    return full, sum(int(np.count_nonzero(dense - hu[place] > STEP_HU)) for place in near)


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


def _decoded(slice_: Slice, path: Path) -> np.ndarray:
    """What GDCM makes of the compressed file at `path`, rescaled, (rows, columns)."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # it may quote the header
    try:
        pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))
    except RuntimeError:
        raise _undecoded(slice_) from None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    if pixels.shape != (1, slice_.rows, slice_.columns):
        raise ReadError(
            f"{slice_.path}: compressed pixels of shape {pixels.shape}, expected {slice_.rows}x{slice_.columns}", "bad_compression"
        )
    return pixels[0]


def _decoded_frame(slice_: Slice, frame: int) -> np.ndarray:
    """One compressed frame as stored, (rows, columns): put into a file of its own, which says nothing but how to decode it."""
    single = pydicom.Dataset()
    single.file_meta = FileMetaDataset()
    single.file_meta.TransferSyntaxUID = UID(slice_.syntax)
    single.file_meta.MediaStorageSOPClassUID = single.SOPClassUID = UID(CT)
    single.file_meta.MediaStorageSOPInstanceUID = single.SOPInstanceUID = UID("1.2.3")
    single.Modality, single.SamplesPerPixel, single.PhotometricInterpretation = "CT", 1, "MONOCHROME2"
    single.Rows, single.Columns, single.RescaleIntercept, single.RescaleSlope = slice_.rows, slice_.columns, 0, 1
    single.BitsAllocated, single.BitsStored, single.HighBit = slice_.bits.allocated, slice_.bits.stored, slice_.bits.high
    single.PixelRepresentation = int(slice_.bits.signed)
    check_stream(slice_, frame)
    single.PixelData = encapsulate([_compressed(slice_, frame)])
    single["PixelData"].VR = "OB"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.dcm"
        single.save_as(path, enforce_file_format=True)
        return _decoded(slice_, path)


def _compressed(slice_: Slice, frame: int) -> bytes:
    """The bytes of one compressed frame."""
    try:
        with quiet, slice_.path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            mapped.seek(slice_.pixels.start)  # mapped: a fragment that claims gigabytes gets what is there, and memory for no more
            return get_frame(cast(BinaryIO, mapped), frame, number_of_frames=slice_.frames)
    except PARSE_ERRORS:
        raise _undecoded(slice_) from None


def check_stream(slice_: Slice, frame: int) -> None:
    """Refuse a frame that GDCM would fill up, or break into rows of another length, and say nothing."""
    if slice_.syntax == RLELossless and not rle_is_whole(_compressed(slice_, frame), slice_.rows, slice_.columns):
        raise _undecoded(slice_)
    if slice_.syntax not in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
        return
    size = stream_size(_compressed(slice_, frame))
    if size is not None and size != (slice_.rows, slice_.columns):
        raise ReadError(
            f"{slice_.path}: compressed pixels of {size[0]}x{size[1]}, expected {slice_.rows}x{slice_.columns}; export it again",
            "bad_compression",
        )


def stream_size(packed: bytes) -> tuple[int, int] | None:
    """Rows and columns by a JPEG or JPEG-LS stream's own word (its frame header); None where it has none, or leaves rows open."""
    place = 2 if packed[:2] == b"\xff\xd8" else len(packed)
    while place + 9 <= len(packed) and packed[place] == 0xFF:
        marker, length = packed[place + 1], int.from_bytes(packed[place + 2 : place + 4], "big")
        if marker in FRAME_HEADERS:
            rows, columns = struct.unpack(">2H", packed[place + 5 : place + 9])
            return (rows, columns) if rows else None
        place += 1 if marker == 0xFF else 2 + length
    return None


def rle_is_whole(packed: bytes, rows: int, columns: int) -> bool:
    """Whether an RLE frame (DICOM PS3.5 G) has the two segments of 16 bits, high bytes and low bytes, and each holds one for each pixel.

    Some writers pad a segment; by a row or more, it is one of another size.
    """
    count = rows * columns
    segments, *starts = struct.unpack("<3L", packed[:12]) if len(packed) >= 64 else (0,)
    if segments != 2:
        return False
    for start, end in itertools.pairwise([*starts, len(packed)]):
        found, place, end = 0, start, min(end, len(packed))
        while place < end:
            control = packed[place]
            if control < 128:  # bytes as they are
                found += min(control + 1, end - place - 1)
                place += control + 2
            else:  # one byte again and again; 128 is nothing
                found += 257 - control if control > 128 and place + 1 < end else 0
                place += 2 if control > 128 else 1
        if not count <= found < count + columns:
            return False
    return True


def _undecoded(slice_: Slice) -> ReadError:
    return ReadError(
        f"{slice_.path}: its compressed pixels ({UID(slice_.syntax).name}) cannot be decoded: damaged, or of a kind that GDCM does not "
        "read; decompress it first, e.g. with gdcmconv --raw or dcmdjpeg",
        "bad_compression",
    )


def stream_bits(slice_: Slice) -> tuple[bool, int] | None:
    """Whether JPEG 2000 pixels are signed, and how many bits they have, by their own word; None where it is not to be had."""
    if slice_.syntax not in JPEG2000TransferSyntaxes:
        return None
    with slice_.path.open("rb") as stream:
        stream.seek(slice_.pixels.start)
        for _ in range(2):  # the table of offsets, and the first fragment
            head = stream.read(8)
            if len(head) < 8 or head[:4] != b"\xfe\xff\x00\xe0":
                return None
            (length,) = struct.unpack("<L", head[4:])
            start = stream.tell()
            code = stream.read(min(length, 48))
            stream.seek(start + length)
    if len(code) < 43 or code[:4] != b"\xff\x4f\xff\x51":  # start of codestream, and its sizes
        return None
    return bool(code[42] & 0x80), (code[42] & 0x7F) + 1
