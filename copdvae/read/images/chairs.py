"""3D chairs (Aubry, Maturana, Efros, Russell & Sivic 2014): 1,393 models from 31 azimuths and 2 elevations, 86,366 images.

`rendered_chairs/MODEL/renders/image_014_p020_t162_r096.png`, RGB 600 x 600 on white: elevation 20 degrees (p020, p030), azimuth 162
(t000 to t348: whole degrees of k 360 / 31, cut off), distance 96. https://www.di.ens.fr/willow/research/seeing3Dchairs. Paper A:
64 x 64 x 3, 1,115 models for training and 278 held out; here: the last 278 in the order of their names.
"""

import re
from pathlib import Path

import numpy as np

from copdvae.errors import ReadError
from copdvae.read.images.image_set import ImageSet, last_objects
from copdvae.read.images.pictures import read_pictures

NAME = re.compile(r"image_\d{3}_p(\d{3})_t(\d{3})_r\d{3}\.png")
MODELS, HELD_OUT = 1393, 278
AZIMUTHS, ELEVATIONS = 31, (20, 30)
NATIVE = (600, 600)


def read_chairs(folder: Path, size: tuple[int, int] | None = (64, 64)) -> ImageSet:
    """Every model in `folder` (rendered_chairs, or some of its models); the held-out ones are marked where all 1,393 are there."""
    folder = Path(folder)
    models = sorted(path.parent for path in folder.glob("*/renders") if path.is_dir())
    if not models:
        raise ReadError(f"{folder}: no MODEL/renders folder in it; expected the folder rendered_chairs", "wrong_layout")
    views = {(elevation, 360 * step // AZIMUTHS) for elevation in ELEVATIONS for step in range(AZIMUTHS)}
    paths, factors = [], []
    for number, model in enumerate(models):
        pictures = sorted((model / "renders").glob("*.png"))
        found = [(int(match[1]), int(match[2])) if (match := NAME.fullmatch(path.name)) else (-1, -1) for path in pictures]
        if len(found) != len(views) or set(found) != views:
            lost = len(views - set(found))
            raise ReadError(f"{model}: {len(found)} pictures, {lost} of {len(views)} views missing; unpack it again", "wrong_layout")
        paths += pictures
        factors += [(number, azimuth, elevation) for elevation, azimuth in found]
    table = np.array(factors, dtype=float)
    group = table[:, 0].astype(np.int64)
    return ImageSet(
        "chairs", read_pictures(paths, "PNG", [NATIVE], 3, size), table, ("model", "azimuth", "elevation"), (MODELS, AZIMUTHS, 2),
        {"azimuth": 360.0}, group, last_objects(group, HELD_OUT, MODELS),
    )  # fmt: skip
