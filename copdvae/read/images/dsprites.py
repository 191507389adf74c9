"""dSprites (Matthey, Higgins, Hassabis & Lerchner 2017): 737,280 binary images 64 x 64 of a sprite, each combination of factors once.

https://github.com/google-deepmind/dsprites-dataset, as `...64x64.npz` (`imgs` uint8 0 or 1, `latents_values` float64, `latents_classes`
int64) or as `.hdf5` (`imgs`, `latents/values`, `latents/classes`). The factors are color (1 value, left out here), shape (square, ellipse,
heart: 1, 2, 3), scale (.5 to 1), orientation (0 to 2 pi, both ends: the first and last pose are the same), position x and y (0 to 1); the
last changes fastest. The npz also has a pickled `metadata`, which is not read.
"""

import math
from pathlib import Path

import numpy as np

from copdvae.errors import ReadError
from copdvae.read.images import hdf5, npz
from copdvae.read.images.image_set import ImageSet, empty_images, gather, rows_to_keep

NAMES = ("shape", "scale", "orientation", "position_x", "position_y")
SIZES = (3, 6, 40, 32, 32)
SIDE = 64
MEMBERS = {"npz": ("imgs", "latents_values", "latents_classes"), "hdf5": ("imgs", "latents/values", "latents/classes")}


def read_dsprites(path: Path, keep: np.ndarray | None = None) -> ImageSet:
    """dSprites from its npz or hdf5 file, white as 255; `keep` chooses rows, in its order (all of them take 3 GB)."""
    path = Path(path)
    count = math.prod(SIZES)
    kind = "npz" if path.suffix.lower() == ".npz" else "hdf5"
    blocks, whole = (npz.member_blocks, npz.read_member) if kind == "npz" else (hdf5.array_blocks, hdf5.read_array)
    images, values, classes = MEMBERS[kind]
    rows = rows_to_keep(path, keep, count)
    table, places = whole(path, values, "<f8", (count, 1 + len(SIZES))), whole(path, classes, "<i8", (count, 1 + len(SIZES)))
    if not np.array_equal(places[:, 1:], np.stack(np.unravel_index(np.arange(count), SIZES), axis=1)):
        raise ReadError(f"{path}: {classes} are not every combination of {SIZES} in order; is it another set?", "wrong_values")
    image = empty_images(path, len(rows), 1, SIDE, SIDE)
    gather(blocks(path, images, "|u1", (count, SIDE, SIDE)), rows, image[:, 0])
    if image.size and image.max() > 1:
        raise ReadError(f"{path}: {images} goes up to {image.max()}, expected 0 and 1; is it another set?", "wrong_values")
    image *= 255
    return ImageSet("dsprites", image, table[rows, 1:], NAMES, SIZES, cyclic={"orientation": 2 * math.pi})
