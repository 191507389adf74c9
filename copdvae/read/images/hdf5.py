"""Arrays of an HDF5 file, in blocks. Only what lies in the file itself is read: no link, external or virtual array is followed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from copdvae.errors import ReadError

ROWS = 4096  # of a block, at least


def read_array(path: Path, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """The whole array `name`."""
    with array(path, name, dtype, shape) as data:
        return data[()]


def array_blocks(path: Path, name: str, dtype: str, shape: tuple[int, ...]) -> Iterator[tuple[int, np.ndarray]]:
    """The array `name` in blocks of rows, each with the number of its first row."""
    with array(path, name, dtype, shape) as data:
        chunk = data.chunks[0] if data.chunks else 1
        step = -(-ROWS // chunk) * chunk  # whole chunks (dSprites' hold 23,040 rows), or each would be inflated many times
        for first in range(0, shape[0], step):
            yield first, data[first : first + step]


@contextmanager
def array(path: Path, name: str, dtype: str, shape: tuple[int, ...]) -> Iterator[Any]:
    """The array `name`, once its type and shape are known to be what is expected."""
    try:
        import h5py
    except ImportError:
        raise ReadError(f"{path}: reading HDF5 needs h5py; pip install 'copdvae[images]'", "no_library") from None
    if not path.is_file():
        raise ReadError(f"{path}: no such file", "no_file")
    try:
        with h5py.File(path, "r") as file:
            link = file.get(name, getlink=True) if name in file else None
            data = file[name] if isinstance(link, h5py.HardLink) else None
            if not isinstance(data, h5py.Dataset) or data.external or data.is_virtual:
                raise ReadError(f"{path}: no array {name}; it has {', '.join(file)}", "wrong_layout")
            if data.shape != shape or data.dtype != np.dtype(dtype):
                raise ReadError(f"{path}: {name} is {data.dtype} {data.shape}, expected {dtype} {shape}; is it another set?", "wrong_shape")
            yield data
    except OSError as error:
        raise ReadError(f"{path}: not a whole HDF5 file ({error}); fetch it again", "truncated") from None
