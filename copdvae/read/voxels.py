"""Stored voxels of a NIfTI, NRRD or MetaImage file, slice by slice: no more than its header claims, and nothing before sizes are checked.

A file whose voxels would take much memory has to have something to show for it on the disk. Noise keeps a CT from shrinking below
a twentieth or so, even where all but the lungs was set to one value; what becomes two hundred times larger is made of repetitions.
"""

import bz2
import errno
import gzip
import io
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from copdvae.errors import ReadError
from copdvae.read.geometry import DEFLATE_LIMIT, Placement, clamp
from copdvae.read.limits import CHUNK, SWELLING_LIMIT, of_the_disk

UNPROVEN_VOXELS = 1 << 26  # 256 MiB as float32: up to here a small file may claim what it likes
FURTHEST_MM = 1e6
SKIP_LIMIT = 1 << 26  # bytes between header and voxels; NIfTI extensions have some thousand


@dataclass(frozen=True)
class Stored:
    """Where the voxels are and what they are."""

    file: Path
    start: int  # bytes of the file before them, or before their compressed stream
    skip: int  # bytes of that stream before them
    encoding: Literal["raw", "gzip", "zlib", "bzip2"]
    shape: tuple[int, int, int]  # stored (k, j, i)
    dtype: np.dtype
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def scaled(self) -> bool:
        return (self.slope, self.intercept) != (1.0, 0.0)


def check_origin(path: Path, affine: np.ndarray) -> None:
    """Refuse a volume that would lie a kilometre away: a number as large swallows the steps from voxel to voxel."""
    if np.abs(affine[:3, 3]).max() > FURTHEST_MM:
        raise ReadError(f"{path}: its first voxel lies over {FURTHEST_MM:g} mm from the origin; is the header damaged?", "damaged_file")


def check_sizes(path: Path, stored: Stored, is_ct: bool = True) -> None:
    """Refuse a file that cannot hold what its header claims, and a CT that is too small to be one. Asks for no memory.

    `path` is the file to name: of a header, where voxels are beside it.
    """
    needed = stored.skip + math.prod(stored.shape) * stored.dtype.itemsize
    found = max(0, stored.file.stat().st_size - stored.start)
    if stored.skip > SKIP_LIMIT:
        raise ReadError(f"{path}: {stored.skip} bytes before its voxels, expected some thousand; is the header damaged?", "damaged_file")
    if stored.encoding == "raw" and found < needed:
        raise ReadError(f"{path}: {found} bytes, expected {needed} from its header; the file is cut short", "truncated")
    if stored.encoding in ("gzip", "zlib") and found * DEFLATE_LIMIT < needed:
        raise ReadError(f"{path}: {found} compressed bytes cannot hold the expected {needed}; the file is cut short", "truncated")
    large = is_ct and math.prod(stored.shape) > UNPROVEN_VOXELS
    if large and (there := bytes_there(stored.file, found, enough=-(-needed // SWELLING_LIMIT))) * SWELLING_LIMIT < needed:
        raise ReadError(
            f"{path}: {there} bytes on the disk would become {needed}, over {SWELLING_LIMIT} times as many, which no CT does; "
            "it is made of repetitions, not of an image",
            "decompression_bomb",
        )


def bytes_there(file: Path, size: int, enough: int) -> int:
    """How many of `size` bytes are not in a hole of the file; counts no further than `enough`."""
    found = place = 0
    with file.open("rb") as stream:
        while place < size and found < enough:
            try:
                start = os.lseek(stream.fileno(), place, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    return size  # the file system does not tell
                break  # nothing but a hole is left
            place = os.lseek(stream.fileno(), start, os.SEEK_HOLE)
            found += place - start
    return min(found, size)


def read_hu(path: Path, stored: Stored, placement: Placement) -> np.ndarray:
    """Canonical HU (z, y, x) float32, never below air."""
    hu, turned = room(path, placement, np.dtype(np.float32))
    for k, values in enumerate(slices(path, stored)):
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite, and refused as such
            turned[k] = values
        clamp(turned[k], path)
    return hu


def read_map(path: Path, stored: Stored, placement: Placement, shape: tuple[int, ...]) -> np.ndarray:
    """Canonical labels (z, y, x), in the type they are stored in where that is a whole number's.

    A map shrinks to nothing in a compressed file, so its size proves little: it is read only if it has the `shape` that is expected.
    """
    if placement.shape != shape:
        found, expected = (" x ".join(map(str, sizes)) for sizes in (placement.shape, shape))
        raise ReadError(f"{path}: {found} voxels (z, y, x) on a CT of {expected}; make it on the CT's grid", "mask_grid")
    check_sizes(path, stored, is_ct=False)
    whole = stored.dtype.kind in "iu" and not stored.scaled
    labels, turned = room(path, placement, stored.dtype.newbyteorder("=") if whole else np.dtype(np.int32))
    for k, values in enumerate(slices(path, stored)):
        if not whole and not (np.array_equal(values, np.rint(values)) and np.abs(values).max() < 2**31):
            raise ReadError(f"{path}: labels that are not whole numbers; expected a label map, not probabilities or an image", "not_labels")
        turned[k] = values
    return labels


def room(path: Path, placement: Placement, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Memory for a volume, canonical and seen as stored."""
    try:
        return placement.empty(dtype)
    except MemoryError:
        size = math.prod(placement.shape) * dtype.itemsize / 2**30
        raise ReadError(
            f"{path}: its voxels take {size:.1f} GiB, more memory than there is; use a larger machine", "out_of_memory"
        ) from None


def slices(path: Path, stored: Stored) -> Iterator[np.ndarray]:
    """Stored slices (j, i) in order, scaled."""
    size = math.prod(stored.shape[1:]) * stored.dtype.itemsize
    try:
        with opened(stored) as stream:
            if len(whole(stream, stored.skip)) < stored.skip:
                raise EOFError
            for _ in range(stored.shape[0]):
                data = whole(stream, size)
                if len(data) < size:
                    raise EOFError
                values = np.frombuffer(data, stored.dtype).reshape(stored.shape[1:])
                with np.errstate(over="ignore", invalid="ignore"):
                    yield values * stored.slope + stored.intercept if stored.scaled else values
            stream.read(1)  # the end of a compressed stream is where its checksum is compared
    except (OSError, EOFError, zlib.error) as error:
        if of_the_disk(error):
            raise
        raise ReadError(f"{path}: its voxels break off, or are not what was compressed; copy it again", "truncated") from None


def whole(stream: IO[bytes], size: int) -> bytes:
    """`size` bytes, or what there is: a stream may give fewer at a time."""
    data = stream.read(size)
    while len(data) < size and (more := stream.read(size - len(data))):
        data += more
    return data


@contextmanager
def opened(stored: Stored) -> Iterator[IO[bytes]]:
    """The stream of voxels, inflated."""
    with stored.file.open("rb") as file:
        file.seek(stored.start)
        if stored.encoding == "raw":
            yield file
        elif stored.encoding == "zlib":
            yield io.BufferedReader(Inflated(file), CHUNK)
        else:
            with gzip.GzipFile(fileobj=file) if stored.encoding == "gzip" else bz2.BZ2File(file) as inflated:
                yield inflated  # pyright: ignore[reportReturnType]


class Inflated(io.RawIOBase):
    """A zlib or gzip stream, as MetaImage files have either; inflated no further than it is read."""

    def __init__(self, stream: IO[bytes]):
        super().__init__()
        self.stream, self.inflater = stream, zlib.decompressobj(wbits=47)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = b""
        while not data and not self.inflater.eof:
            packed = self.inflater.unconsumed_tail or self.stream.read(CHUNK)
            if not packed:
                raise EOFError
            data = self.inflater.decompress(packed, len(buffer))
        buffer[: len(data)] = data
        return len(data)
