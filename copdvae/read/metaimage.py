"""Read NRRD (`.nrrd`, `.nhdr`) and MetaImage (`.mha`, `.mhd`): every field of the header that could change an image, then its voxels.

SimpleITK reads both and is not asked: it follows a data file's name anywhere on the machine, takes a missing or negative spacing for a
good one, passes over scales and units, and may fill truncated voxels with zeros. Where it is right, it is the tests' oracle.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from copdvae.errors import ReadError
from copdvae.read.geometry import Placement, place, summary
from copdvae.read.volume import Volume
from copdvae.read.voxels import Stored, check_origin, check_sizes, read_hu, read_map

HEADER_LIMIT = 1 << 20  # bytes; few have over 10,000
NRRD_TYPES = {
    "i1": ("int8", "int8_t", "signed char", "char"), "u1": ("uint8", "uint8_t", "unsigned char", "uchar"),
    "i2": ("int16", "int16_t", "signed short", "signed short int", "short", "short int"),
    "u2": ("uint16", "uint16_t", "unsigned short", "unsigned short int", "ushort"),
    "i4": ("int32", "int32_t", "signed int", "int"), "u4": ("uint32", "uint32_t", "unsigned int", "uint"),
    "i8": ("int64", "int64_t", "signed long long", "signed long long int", "long long", "long long int", "longlong"),
    "u8": ("uint64", "uint64_t", "unsigned long long", "unsigned long long int", "ulonglong"), "f4": ("float",), "f8": ("double",),
}  # fmt: skip
NRRD_DTYPES = {name: dtype for dtype, names in NRRD_TYPES.items() for name in names}
NRRD_FIELDS = {
    "dimension", "type", "encoding", "endian", "sizes", "space", "spacedimension", "spacedirections", "spaceorigin", "spaceunits", "kinds",
    "datafile", "lineskip", "byteskip", "centers", "centerings", "content", "measurementframe", "labels", "units", "number", "min", "max",
    "blocksize", "sampleunits", "thicknesses", "oldmin", "oldmax",
}  # fmt: skip
NRRD_ENCODINGS = {"raw": "raw", "gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2"}
TO_LPS = {  # of x and y
    "left-posterior-superior": (1, 1), "lps": (1, 1), "right-anterior-superior": (-1, -1), "ras": (-1, -1),
    "left-anterior-superior": (1, -1), "las": (1, -1),
}  # fmt: skip
MET_DTYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4", "MET_LONG": "i4",
    "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
MET_FIELDS = {name.lower(): name for name in (
    "ObjectType", "NDims", "DimSize", "ElementSpacing", "ElementSize", "DistanceUnits", "TransformMatrix", "Rotation", "Orientation",
    "Offset", "Position", "Origin", "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset", "ElementType",
    "ElementNumberOfChannels", "HeaderSize", "HeaderSizePerSlice", "BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB",
    "CompressedData", "ElementDataFile",
)}  # fmt: skip
MET_NAMES = {  # other names of a field
    "position": "offset", "origin": "offset", "rotation": "transformmatrix", "orientation": "transformmatrix",
    "elementbyteordermsb": "binarydatabyteordermsb",
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    reader: Literal["nrrd", "metaimage"]
    stored: Stored
    affine: np.ndarray  # (4, 4): (i, j, k, 1) -> LPS mm


def read_volume(path: Path) -> Volume:
    """Read a CT: HU as float32, canonical."""
    header, placement = checked(path)
    return Volume(read_hu(path, header.stored, placement), placement.spacing, placement.affine, header.reader, warnings=placement.warnings)


def check_headers(path: Path) -> dict:
    header, placement = checked(path)
    return summary(header.reader, placement, {}, placement.warnings)


def read_label_map(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Integer labels (z, y, x) and their affine, canonical; no voxel is read unless the header gives the `shape` that is expected."""
    header = read_header(path)
    placement = place(header.stored.shape, header.affine, path)
    return read_map(path, header.stored, placement, shape), placement.affine


def files(path: Path) -> list[Path]:
    """The header's file and, where voxels are apart, theirs."""
    return sorted({path, read_header(path).stored.file})


def checked(path: Path) -> tuple[Header, Placement]:
    """Header and geometry, once the data are known to be complete as far as sizes tell."""
    header = read_header(path)
    check_sizes(path, header.stored)
    return header, place(header.stored.shape, header.affine, path)


def read_header(path: Path) -> Header:
    """The fields of the header, whichever of the two formats it is in."""
    with path.open("rb") as stream:
        text = stream.read(HEADER_LIMIT)
    header = nrrd_header(path, text) if re.match(rb"NRRD000[1-5]\r?\n", text) else meta_header(path, text)
    check_origin(path, header.affine)
    return header


def nrrd_header(path: Path, text: bytes) -> Header:
    """Fields of a NRRD header: https://teem.sourceforge.net/nrrd/format.html"""
    blank = re.search(rb"\r?\n\r?\n", text)
    fields: dict[str, str] = {}
    for line in text[: blank.start() if blank else len(text)].decode("utf-8", "replace").split("\n")[1:]:
        name, colon, value = line.partition(":")
        if line.startswith("#") or value.startswith("=") or not line.strip():  # a remark, a note
            continue
        name = name.strip().lower().replace(" ", "")
        if not colon or name not in NRRD_FIELDS or name in fields:
            raise damaged(path, "nrrd", "a line that the format does not have, or has once")
        fields[name] = value.strip()
        if name == "datafile" and fields[name].upper().startswith("LIST"):  # the other lines are names of files
            break

    sizes = whole_numbers(fields.get("sizes", ""))
    if not fields.get("dimension", "").isdecimal():
        raise damaged(path, "nrrd", "no dimension")
    kinds = fields.get("kinds", "domain").lower().split()
    if fields["dimension"] != "3" or len(sizes) != 3 or min(sizes) < 1 or not {*kinds} <= {"domain", "space", "???", "none"}:
        raise ReadError(f"{path}: sizes {list(sizes)}, expected one volume with 3 axes, all of them in space", "not_3d")
    signs = TO_LPS.get(fields.get("space", "").lower())
    if signs is None:
        raise ReadError(
            f"{path}: no patient orientation (space: left-posterior-superior or its like); convert it from DICOM again", "no_orientation"
        )
    steps = vectors(fields.get("spacedirections", ""), 3)
    if steps is None:
        raise ReadError(
            f"{path}: no space directions for each of 3 axes, so voxel sizes are unknown; convert it from DICOM again", "no_orientation"
        )
    origin = vectors(fields.get("spaceorigin", "(0,0,0)"), 1)
    if origin is None:
        raise damaged(path, "nrrd", "a space origin that is not a place")
    if {*re.findall(r'"([^"]*)"', fields.get("spaceunits", ""))} - {"mm", "", "???"}:
        raise ReadError(f"{path}: space units that are not millimetres; convert it from DICOM again", "bad_spacing")
    if {"oldmin", "oldmax"} & set(fields):
        raise ReadError(f"{path}: values that were rescaled (old min, old max), expected HU; convert it from DICOM again", "not_hu")

    dtype, encoding = NRRD_DTYPES.get(fields.get("type", "").lower()), NRRD_ENCODINGS.get(fields.get("encoding", "").lower())
    if dtype is None or encoding is None or {fields.get(skip, "0") for skip in ("lineskip", "byteskip")} != {"0"}:
        raise ReadError(
            f"{path}: type, encoding or skip that is not read; expected numbers, raw or gzip, from the start", "unknown_encoding"
        )
    order = {"little": "<", "big": ">"}.get(fields.get("endian", "little" if dtype[1] == "1" else "").lower())
    if order is None:
        raise damaged(path, "nrrd", "no endian, so how its numbers are written is unknown")
    name = fields.get("datafile")
    if name is None and blank is None:
        raise damaged(path, "nrrd", "no end")
    data, start = (path, blank.end()) if name is None and blank else (data_file(path, str(name)), 0)
    affine = np.diag([*signs, 1, 1]) @ affine_of(steps.T, origin[0])
    return Header("nrrd", Stored(data, start, 0, encoding, sizes[::-1], np.dtype(order + dtype)), affine)  # pyright: ignore[reportArgumentType]


def meta_header(path: Path, text: bytes) -> Header:
    """Fields of a MetaImage header; ElementDataFile ends it."""
    fields, start = {}, 0
    for line in text.splitlines(keepends=True):
        start += len(line)
        name, equals, value = line.decode("latin-1").partition("=")
        written = name.strip()
        name = MET_NAMES.get(written.lower(), written.lower())
        if not equals or ":" in name:  # some take a colon for an equals sign
            break
        if MET_FIELDS.get(written.lower(), written) != written:  # others pass over it
            raise damaged(path, "metaimage", "a field's name in other capitals")
        if name in fields and name != "comment":
            raise damaged(path, "metaimage", "a field twice")
        fields[name] = value.strip()
        if name == "elementdatafile":
            break
    if "elementdatafile" not in fields or fields.get("objecttype", "Image").lower() != "image":
        raise ReadError(f"{path}: not a MetaImage or NRRD header; is the file whole?", "damaged_file")
    sizes = whole_numbers(fields.get("dimsize", ""))
    if fields.get("ndims") != "3" or len(sizes) != 3 or min(sizes) < 1:
        raise ReadError(f"{path}: sizes {list(sizes)}, expected one volume with 3 axes", "not_3d")
    spacing = numbers(fields.get("elementspacing", fields.get("elementsize", "")), 3)
    if not {"elementspacing", "elementsize"} & set(fields):
        raise ReadError(f"{path}: no ElementSpacing, so voxel sizes are unknown; convert it from DICOM again", "no_orientation")
    if spacing is None or min(spacing) <= 0 or fields.get("distanceunits", "mm") not in ("mm", "?", ""):
        raise ReadError(f"{path}: ElementSpacing or its unit is not in millimetres above 0; convert it from DICOM again", "bad_spacing")
    matrix, origin = numbers(fields.get("transformmatrix", "1 0 0 0 1 0 0 0 1"), 9), numbers(fields.get("offset", "0 0 0"), 3)
    if matrix is None or origin is None:
        raise damaged(path, "metaimage", "a place or a direction that is not one")
    scale = [numbers(fields.get(f"elementtointensityfunction{name}", plain), 1) for name, plain in (("slope", "1"), ("offset", "0"))]
    if scale != [(1.0,), (0.0,)]:
        raise ReadError(f"{path}: values that are to be scaled (ElementToIntensityFunction), expected HU; convert it again", "not_hu")
    dtype = MET_DTYPES.get(fields.get("elementtype", "").upper())
    if (
        dtype is None
        or fields.get("elementnumberofchannels", "1") != "1"
        or any(name.startswith("headersize") for name in fields)
        or fields.get("binarydata", "").lower() != "true"
    ):
        raise ReadError(f"{path}: element type, channels or header size that is not read; expected one number a voxel", "not_scalar")
    order = ">" if fields.get("binarydatabyteordermsb", "false").lower() == "true" else "<"
    encoding = "zlib" if fields.get("compresseddata", "").lower() == "true" else "raw"
    name = fields["elementdatafile"]
    data, start = (path, start) if name.upper() == "LOCAL" else (data_file(path, name), 0)
    edges = np.reshape(matrix, (3, 3)).T * spacing  # a row of the matrix is an axis
    return Header("metaimage", Stored(data, start, 0, encoding, sizes[::-1], np.dtype(order + dtype)), affine_of(edges, origin))  # pyright: ignore[reportArgumentType]


def damaged(path: Path, reader: str, what: str) -> ReadError:
    return ReadError(f"{path}: its header cannot be read as {reader} ({what}); write it again", "damaged_file")


def data_file(path: Path, name: str) -> Path:
    """The neighbour of `path` that its header names: a plain name, a regular file, in the same folder and nowhere else."""
    data = path.parent / name.replace("\0", "/")
    plain = name and not {"%", "\\", ":", "*", "/"} & set(name) and name.split()[0].upper() != "LIST"
    try:
        beside = plain and data.is_file() and data.resolve().parent == path.parent.resolve()
    except (OSError, RuntimeError):  # a name too long, a loop of links
        beside = False
    if not beside:
        raise ReadError(f"{path}: its voxels are not in one file beside it; expected a plain file name in the same folder", "outside_file")
    return data


def affine_of(edges: np.ndarray, origin: tuple[float, ...] | np.ndarray) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = edges, origin
    return affine


def vectors(text: str, count: int) -> np.ndarray | None:
    """`(a,b,c) ...`, as many as expected: (count, 3), or None."""
    found = [numbers(inside.replace(",", " "), 3) for inside in re.findall(r"\(([^()]*)\)", text)]
    lonely = re.sub(r"\([^()]*\)", "", text).strip()
    return None if lonely or len(found) != count or None in found else np.array(found)


def numbers(text: str, count: int) -> tuple[float, ...] | None:
    """As many finite numbers as expected, or None."""
    try:
        found = tuple(float(word) for word in text.split())
    except ValueError:
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def whole_numbers(text: str) -> tuple[int, ...]:
    words = text.split()
    return tuple(int(word) for word in words) if all(word.isdecimal() and len(word) < 16 for word in words) else ()
