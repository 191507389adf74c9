"""Members of a NumPy archive (.npz), one at a time and never a pickled one.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, a zip of .npy files. The header of a member is read
and compared with what is expected before memory is taken; a member of objects (dSprites' `metadata`) cannot be read by these functions.
"""

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from copdvae.errors import ReadError
from copdvae.read.geometry import DEFLATE_LIMIT
from copdvae.read.images.streams import fill

ROWS = 4096  # of a block
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_member(path: Path, name: str, dtype: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """The whole array `name`; None in `shape` is any length."""
    with member(path, name, dtype, shape) as (stream, found):
        array = np.empty(found, dtype)
        complete(path, name, fill(stream, array), array.nbytes)
    return array


def member_blocks(path: Path, name: str, dtype: str, shape: tuple[int | None, ...]) -> Iterator[tuple[int, np.ndarray]]:
    """The array `name` in blocks of rows, each with the number of its first row."""
    with member(path, name, dtype, shape) as (stream, found):
        for first in range(0, found[0], ROWS):
            block = np.empty((min(ROWS, found[0] - first), *found[1:]), dtype)
            complete(path, name, fill(stream, block), block.nbytes)
            yield first, block


@contextmanager
def member(path: Path, name: str, dtype: str, shape: tuple[int | None, ...]) -> Iterator[tuple[IO[bytes], tuple[int, ...]]]:
    """The bytes of the array `name` after its header, and its shape, once both are known to be what is expected."""
    if not path.is_file():
        raise ReadError(f"{path}: no such file", "no_file")
    try:
        with zipfile.ZipFile(path) as archive:
            if f"{name}.npy" not in archive.namelist():
                raise ReadError(f"{path}: no array {name}; it has {', '.join(archive.namelist())}", "wrong_layout")
            info = archive.getinfo(f"{name}.npy")
            with archive.open(info) as stream:
                yield stream, checked_shape(path, name, stream, info, np.dtype(dtype), shape)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ReadError(f"{path}: not a whole npz file ({error}); fetch it again", "truncated") from None


def checked_shape(path: Path, name: str, stream: IO[bytes], info: zipfile.ZipInfo, dtype: np.dtype, shape) -> tuple[int, ...]:
    try:
        version = np.lib.format.read_magic(stream)
        found, by_columns, kind = HEADERS[version](stream)
    except (ValueError, KeyError):
        raise ReadError(f"{path}: the array {name} has no header that NumPy knows; fetch the file again", "wrong_layout") from None
    fits = len(found) == len(shape) and all(asked in (None, size) for size, asked in zip(found, shape, strict=True))
    if kind != dtype or by_columns or not fits:
        wanted = " x ".join("any" if size is None else str(size) for size in shape)
        raise ReadError(f"{path}: {name} is {kind} {found}, expected {dtype} {wanted} by rows; is it another set?", "wrong_shape")
    needed, stored = math.prod(found) * dtype.itemsize, info.file_size - stream.tell()
    if needed != stored or stored > DEFLATE_LIMIT * max(info.compress_size, 1):
        raise ReadError(f"{path}: {name} has {stored:,} bytes, its shape {found} needs {needed:,}; fetch the file again", "truncated")
    return found


def complete(path: Path, name: str, found: int, needed: int) -> None:
    if found != needed:
        raise ReadError(f"{path}: {name} breaks off after {found:,} bytes of {needed:,}; fetch the file again", "truncated")
