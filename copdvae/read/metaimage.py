"""Read NRRD (`.nrrd`, `.nhdr`) and MetaImage (`.mha`, `.mhd`).

SimpleITK reads geometry and voxels; our own look at the header comes first, because SimpleITK follows a data file's name
anywhere on the machine, takes a missing spacing for 1 mm, and may accept truncated data.
"""

import bz2
import gzip
import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import SimpleITK as sitk

from copdvae.errors import ReadError
from copdvae.read.geometry import DEFLATE_LIMIT, Placement, clamp, place, summary
from copdvae.read.volume import Volume

IMAGE_IO = {"nrrd": "NrrdImageIO", "metaimage": "MetaImageIO"}  # named, so that no other one has a try
CHUNK = 1 << 20
HEADER_LIMIT = 1 << 16  # bytes; real ones have under 10,000
NRRD_BYTES = {  # of every name that the format allows for a whole number, "unsigned " and "signed " left out
    "char": 1, "uchar": 1, "int8": 1, "uint8": 1, "int8_t": 1, "uint8_t": 1,
    "short": 2, "ushort": 2, "short int": 2, "int16": 2, "uint16": 2,
    "int16_t": 2, "uint16_t": 2, "int": 4, "uint": 4, "int32": 4, "uint32": 4, "int32_t": 4, "uint32_t": 4, "longlong": 8, "long long": 8,
    "long long int": 8, "int64": 8, "uint64": 8, "int64_t": 8, "uint64_t": 8, "float": 4, "double": 8,
}  # fmt: skip
MET_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
NRRD_SPACES = ("left-posterior-superior", "lps", "right-anterior-superior", "ras", "left-anterior-superior", "las")


@dataclass(frozen=True)
class Header:
    """What must hold before SimpleITK may open the file."""

    reader: str
    data: Path  # the file with the voxels, the header's own or its neighbour
    offset: int  # bytes before them
    encoding: str  # raw, gzip, zlib or bzip2
    needed: int  # bytes of voxels, once inflated
    sizes: tuple[int, ...]  # fastest axis first


def read_volume(path: Path) -> Volume:
    """Read a CT: HU as float32, canonical."""
    header, placement = checked(path)
    hu, stored = placement.empty()
    image = read_image(path, header)
    stored[...] = sitk.GetArrayViewFromImage(image)  # a view lives no longer than its image
    clamp(hu, path)
    return Volume(hu, placement.spacing, placement.affine, header.reader, {}, placement.warnings)


def check_headers(path: Path) -> dict:
    header, placement = checked(path)
    return summary(header.reader, placement, {}, placement.warnings)


def read_label_map(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Integer labels (z, y, x) and their affine, canonical."""
    header, placement = checked(path)
    values = sitk.GetArrayFromImage(read_image(path, header))
    whole = values.dtype.kind in "iu"
    if not whole and not np.array_equal(values, np.rint(values)):
        raise ReadError(f"{path}: labels that are not whole numbers; expected a label map, not probabilities or an image", "not_labels")
    labels, stored = placement.empty(values.dtype if whole else np.int32)
    stored[...] = values
    return labels, placement.affine


def files(path: Path) -> list[Path]:
    """The header's file and, where voxels are apart, theirs."""
    return sorted({path, read_header(path).data})


def checked(path: Path) -> tuple[Header, Placement]:
    """Header and geometry, once the header is known to be safe and its data complete as far as sizes tell."""
    header = read_header(path)
    found = header.data.stat().st_size - header.offset
    if header.encoding == "raw" and found < header.needed:
        raise ReadError(f"{path}: {found} bytes of voxels, expected {header.needed} from its header; the file is cut short", "truncated")
    if header.encoding != "raw" and header.needed > DEFLATE_LIMIT * found:
        raise ReadError(f"{path}: {found} compressed bytes cannot hold the {header.needed} that its header claims", "truncated")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(IMAGE_IO[header.reader])
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise ReadError(f"{path}: its header cannot be read as {header.reader}; write it again", "damaged_file") from None
    if reader.GetSize() != header.sizes or reader.GetNumberOfComponents() != 1:
        raise ReadError(f"{path}: sizes {reader.GetSize()}, expected {header.sizes} with one number a voxel", "not_scalar")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) * reader.GetSpacing()
    affine[:3, 3] = reader.GetOrigin()
    return header, place(header.sizes[::-1], affine, path)


def read_image(path: Path, header: Header) -> sitk.Image:
    """The image as SimpleITK reads it, once its voxels are known to be all there."""
    if header.encoding != "raw":
        check_inflated(path, header)
    try:
        return sitk.ReadImage(str(path), imageIO=IMAGE_IO[header.reader])
    except RuntimeError:
        raise ReadError(f"{path}: its voxels cannot be read; copy it again", "damaged_file") from None


def check_inflated(path: Path, header: Header) -> None:
    """Inflate and count, keeping nothing: SimpleITK may fill a truncated image with zeros and say nothing."""
    found = 0
    try:
        with header.data.open("rb") as stream:
            stream.seek(header.offset)
            if header.encoding == "zlib":
                inflater = zlib.decompressobj(wbits=47)  # zlib or gzip, as MetaIO takes either
                while found < header.needed and not inflater.eof:
                    found += len(inflater.decompress(inflater.unconsumed_tail or _some(stream), CHUNK))
            else:
                with (gzip if header.encoding == "gzip" else bz2).open(stream, "rb") as inflated:
                    while found < header.needed:
                        found += len(_some(inflated))
    except (OSError, EOFError, zlib.error):
        found = -1
    if found < header.needed:
        raise ReadError(f"{path}: its compressed voxels break off; expected {header.needed} bytes; copy it again", "truncated")


def _some(stream: IO[bytes] | gzip.GzipFile | bz2.BZ2File) -> bytes:
    """The next bytes; running out of them is an error."""
    data = stream.read(CHUNK)
    if not data:
        raise EOFError
    return data


def read_header(path: Path) -> Header:
    """The fields of the header, whichever of the two formats it is in."""
    with path.open("rb") as stream:
        text = stream.read(HEADER_LIMIT)
    return nrrd_header(path, text) if text.startswith(b"NRRD000") else meta_header(path, text)


def nrrd_header(path: Path, text: bytes) -> Header:
    """Fields of a NRRD header: https://teem.sourceforge.net/nrrd/format.html"""
    blank = re.search(rb"\r?\n\r?\n|\Z", text)
    offset = blank.end() if blank else len(text)
    fields = {}
    for line in text[:offset].decode("utf-8", "replace").splitlines()[1:]:
        name, colon, value = line.partition(":")
        if colon and not value.startswith("=") and not line.startswith("#"):  # := is a note
            fields[name.strip().lower().replace(" ", "")] = value.strip()
    sizes = _whole_numbers(fields.get("sizes", ""))
    if len(sizes) != 3 or min(sizes) < 1:
        raise ReadError(f"{path}: sizes {list(sizes)}, expected one volume with 3 axes", "not_3d")
    if fields.get("space", "").lower() not in NRRD_SPACES:
        raise ReadError(
            f"{path}: no patient orientation (space: left-posterior-superior or its like); convert it from DICOM again", "no_orientation"
        )
    directions = fields.get("spacedirections", "")
    if directions.count("(") != 3 or "none" in directions or "nan" in directions.lower():
        raise ReadError(
            f"{path}: no space directions for each of 3 axes, so voxel sizes are unknown; convert it from DICOM again", "no_orientation"
        )
    size = NRRD_BYTES.get(fields.get("type", "").lower().removeprefix("unsigned ").removeprefix("signed "), 0)
    encoding = {"raw": "raw", "gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2"}.get(fields.get("encoding", "").lower())
    if not size or encoding is None or {fields.get(skip, "0") for skip in ("lineskip", "byteskip")} != {"0"}:
        raise ReadError(
            f"{path}: type, encoding or skip that is not read; expected numbers, raw or gzip, from the start", "unknown_encoding"
        )
    name = fields.get("datafile")
    data, offset = (path, offset) if name is None else (_data_file(path, name), 0)
    return Header("nrrd", data, offset, encoding, math.prod(sizes) * size, sizes)


def meta_header(path: Path, text: bytes) -> Header:
    """Fields of a MetaImage header; ElementDataFile ends it."""
    fields, offset = {}, 0
    for line in text.splitlines(keepends=True):
        offset += len(line)
        name, equals, value = line.decode("latin-1").partition("=")
        if not equals or ":" in name:  # MetaIO takes a colon for an equals sign
            break
        fields[name.strip().lower()] = value.strip()
        if name.strip().lower() == "elementdatafile":
            break
    if "elementdatafile" not in fields:
        raise ReadError(f"{path}: not a MetaImage or NRRD header; is the file whole?", "damaged_file")
    sizes = _whole_numbers(fields.get("dimsize", ""))
    if fields.get("ndims") != "3" or len(sizes) != 3 or min(sizes) < 1:
        raise ReadError(f"{path}: sizes {list(sizes)}, expected one volume with 3 axes", "not_3d")
    if not {"elementspacing", "elementsize"} & set(fields):
        raise ReadError(f"{path}: no ElementSpacing, so voxel sizes are unknown; convert it from DICOM again", "no_orientation")
    size = MET_BYTES.get(fields.get("elementtype", "").upper().removeprefix("MET_").removeprefix("U"), 0)
    if (
        not size
        or fields.get("elementnumberofchannels", "1") != "1"
        or "headersize" in fields
        or fields.get("binarydata", "").lower() != "true"
    ):
        raise ReadError(f"{path}: element type, channels or header size that is not read; expected one number a voxel", "not_scalar")
    encoding = "zlib" if fields.get("compresseddata", "").lower() == "true" else "raw"
    name = fields["elementdatafile"]
    data, offset = (path, offset) if name.upper() == "LOCAL" else (_data_file(path, name), 0)
    return Header("metaimage", data, offset, encoding, math.prod(sizes) * size, sizes)


def _data_file(path: Path, name: str) -> Path:
    """The neighbour of `path` that its header names: a plain name, a regular file, in the same folder and nowhere else."""
    data = path.parent / name
    plain = name and not {"%", "\\", ":", "*"} & set(name) and name.split()[0].upper() != "LIST"
    if not plain or not data.is_file() or data.resolve().parent != path.parent.resolve():
        raise ReadError(f"{path}: its voxels are not in one file beside it; expected a plain file name in the same folder", "outside_file")
    return data


def _whole_numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split()) if all(word.isdecimal() for word in text.split()) else ()
