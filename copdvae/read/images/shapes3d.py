"""3D Shapes (Burgess & Kim 2018): 480,000 RGB images 64 x 64 of one object in a room, every combination of its factors once.

https://github.com/google-deepmind/3d-shapes, `3dshapes.h5`: `images` uint8 (480000, 64, 64, 3), `labels` float64 (480000, 6). Factors, the
last changes fastest: floor, wall and object hue (10 values each, 0 to .9), scale (8), shape (0 to 3: cube, cylinder, sphere, capsule,
[memory]), orientation (15, -30 to 30 degrees). The page says that scale runs from 0 to 1, the file is said to have .75 to 1.25 [memory]:
values are taken as they are in the file. A hue goes round: period 1.
"""

import math
from pathlib import Path

import numpy as np

from copdvae.errors import ReadError
from copdvae.read.images import hdf5
from copdvae.read.images.image_set import ImageSet, empty_images, factor_classes, gather, rows_to_keep

NAMES = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
SIZES = (10, 10, 10, 8, 4, 15)
SIDE = 64


def read_shapes3d(path: Path, keep: np.ndarray | None = None) -> ImageSet:
    """3D Shapes from its HDF5 file; `keep` chooses rows, in its order (all of them take 6 GB)."""
    path = Path(path)
    count = math.prod(SIZES)
    rows = rows_to_keep(path, keep, count)
    labels = hdf5.read_array(path, "labels", "<f8", (count, len(SIZES)))
    if not np.array_equal(factor_classes(labels), np.stack(np.unravel_index(np.arange(count), SIZES), axis=1)):
        raise ReadError(f"{path}: labels are not every combination of {SIZES} values in order; is it another set?", "wrong_values")
    image = empty_images(path, len(rows), 3, SIDE, SIDE)
    gather(hdf5.array_blocks(path, "images", "|u1", (count, SIDE, SIDE, 3)), rows, np.moveaxis(image, 1, 3))
    return ImageSet("shapes3d", image, labels[rows], NAMES, SIZES, cyclic=dict.fromkeys(NAMES[:3], 1.0))
