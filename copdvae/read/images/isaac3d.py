"""Isaac3D (Nie et al. 2020, arXiv:2003.03461; NVIDIA): 737,280 rendered kitchens with a robot, every combination of nine factors once.

https://github.com/NVlabs/High-res-disentanglement-datasets: a folder `images` of 000000.png to 737279.png, RGB, 512 x 512 or (second
download) 128 x 128. The number in the name is the place in the grid. Its README lists the factors in one order and its own demo
(dataset_demo.py) in another; the multipliers that the README prints (245760, 30720, 6144, 1536, 384, 96, 16, 4, 1) are those of the demo's
order, sizes 3, 8, 5, 4, 4, 4, 6, 4, 4, which is used here. Values run evenly from 0 to 1. Paper C: 64 x 64, bilinear.
"""

import math
from pathlib import Path

import numpy as np

from copdvae.errors import ReadError
from copdvae.read.images.image_set import ImageSet, rows_to_keep
from copdvae.read.images.pictures import read_pictures

NAMES = (
    "object_shape", "robot_x-move", "robot_y-move", "camera_height", "object_scale",
    "lighting_intensity", "lighting_y-dir", "object_color", "wall_color",
)  # fmt: skip
SIZES = (3, 8, 5, 4, 4, 4, 6, 4, 4)
NATIVE = ((512, 512), (128, 128))


def read_isaac3d(folder: Path, keep: np.ndarray | None = None, size: tuple[int, int] | None = (64, 64)) -> ImageSet:
    """Isaac3D from the folder of its pictures or the one above; `keep` chooses rows, in its order (all of them take 9 GB)."""
    folder = Path(folder)
    folder = folder / "images" if (folder / "images").is_dir() else folder
    rows = rows_to_keep(folder, keep, math.prod(SIZES))
    there = {path.name for path in folder.glob("*.png")} if folder.is_dir() else set()
    lost = [name for row in rows if (name := f"{row:06d}.png") not in there]
    if lost:
        raise ReadError(f"{folder}: {len(lost):,} of {len(rows):,} pictures missing, {lost[0]} first; unpack them again", "no_file")
    image = read_pictures([folder / f"{row:06d}.png" for row in rows], "PNG", NATIVE, 3, size)
    classes = np.stack(np.unravel_index(rows, SIZES), axis=1)
    return ImageSet("isaac3d", image, classes / np.subtract(SIZES, 1), NAMES, SIZES)
