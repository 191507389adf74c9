"""MNIST (LeCun, Cortes & Burges) and Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747): four IDX files each, gzipped or not.

IDX, as on the page of MNIST: two zero bytes, the type (8: unsigned byte), the number of axes, each axis as a big-endian int32, the data.
Images (N, 28, 28), 0 is background; labels 0 to 9. 60,000 for training, 10,000 held out.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from copdvae.errors import ReadError
from copdvae.read.geometry import DEFLATE_LIMIT
from copdvae.read.images.image_set import ImageSet, empty_images
from copdvae.read.images.streams import fill

UNSIGNED_BYTE = 8
SIDE, CLASSES = 28, 10
PARTS = ("train", "t10k")  # in this order; the second is held out


def read_mnist(folder: Path) -> ImageSet:
    """All images of the MNIST files in `folder`: those for training first, then those held out."""
    return read_parts("mnist", folder)


def read_fashion_mnist(folder: Path) -> ImageSet:
    """The same for Fashion-MNIST, whose files have the same names: keep the two sets in folders of their own."""
    return read_parts("fashion_mnist", folder)


def read_parts(name: str, folder: Path) -> ImageSet:
    paths = [[idx_path(Path(folder), f"{part}-{kind}-ubyte") for part in PARTS] for kind in ("images-idx3", "labels-idx1")]
    images, labels = ([read_idx(path) for path in own] for own in paths)
    for part, image_path, image, label in zip(PARTS, paths[0], images, labels, strict=True):
        if image.ndim != 3 or image.shape[1:] != (SIDE, SIDE):
            raise ReadError(f"{image_path}: shape {image.shape}, expected images of {SIDE} x {SIDE}; is it another set?", "wrong_shape")
        if label.shape != (len(image),):
            raise ReadError(f"{image_path}: {len(image)} images, labels of shape {label.shape}; take both from one source", "wrong_shape")
        if len(label) and label.max() >= CLASSES:
            raise ReadError(f"{folder}: a label {label.max()} in {part}, expected 0 to {CLASSES - 1}; is it another set?", "wrong_values")
    factors = np.concatenate(labels).astype(float)[:, None]
    held_out = np.repeat([False, True], [len(label) for label in labels])
    return ImageSet(name, np.concatenate(images)[:, None], factors, ("label",), (CLASSES,), held_out=held_out)


def idx_path(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise ReadError(f"{folder}: neither {name}.gz nor {name} in it; see `copdvae data fetch --help`", "no_file")


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file of unsigned bytes."""
    stored = path.stat().st_size
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            start = stream.read(4)
            if len(start) < 4 or start[:2] != b"\0\0" or start[2] != UNSIGNED_BYTE or not 1 <= start[3] <= 3:
                raise ReadError(f"{path}: starts with {start.hex(' ')}, expected 00 00 08 01 or 00 00 08 03; not IDX of bytes", "not_idx")
            axes = stream.read(4 * start[3])
            shape = tuple(int(size) for size in np.frombuffer(axes[: len(axes) // 4 * 4], ">i4"))
            needed = math.prod(shape)
            if len(shape) != start[3] or min(shape) < 0 or needed > DEFLATE_LIMIT * stored:
                raise ReadError(f"{path}: {stored:,} bytes cannot hold the shape {shape} in its header; fetch it again", "truncated")
            array = empty_images(path, 1, 1, 1, needed).reshape(-1)
            found = fill(stream, array)
            found += len(stream.read(1))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ReadError(f"{path}: not a whole gzip file ({error}); fetch it again", "truncated") from None
    if found != needed:
        bytes_found = f"more than {needed:,}" if found > needed else f"{found:,}"
        raise ReadError(f"{path}: {bytes_found} bytes of data, expected {needed:,}; fetch it again", "truncated")
    return array.reshape(shape)
