"""Extended Yale B, cropped (Georghiades, Belhumeur & Kriegman 2001; Lee, Ho & Kriegman 2005): 38 faces under 64 lights each.

`CroppedYale/yaleB01/yaleB01_P00A+035E-20.pgm`, 8-bit PGM, 192 x 168: subject 01, pose 00, the light at 35 degrees azimuth (positive: to
the right of the subject) and -20 degrees elevation. 18 of the 2,432 images are marked `.pgm.bad` and left out, as are the images in ambient
light (`..._P00_Ambient.pgm`): 2,414 remain. Subject 14 does not exist. Also read: one npz with `images` (N, H, W), `subject` uint8,
`azimuth`, `elevation` int16 and `bad`. Paper A: 64 x 64; its counts (each one too many) are those of 30 subjects and of 8 with no bad
image. The last 8 of 38 have none: 1,902 and 512 images.
"""

import re
from pathlib import Path

import numpy as np

from copdvae.errors import ReadError
from copdvae.read.files import regular_files
from copdvae.read.images import npz
from copdvae.read.images.image_set import ImageSet, last_objects
from copdvae.read.images.pictures import read_pictures, shrink

NAME = re.compile(r"yaleB(\d\d)_P\d\dA([+-]\d{3})E([+-]\d\d)\.pgm")
SUBJECTS, HELD_OUT = 38, 8
NATIVE = (192, 168)
SIZES = (SUBJECTS, 29, 12)  # values of each factor; the 64 lights are no full grid of azimuth and elevation


def read_yale(path: Path, size: tuple[int, int] | None = (64, 64)) -> ImageSet:
    """The good images under the folder, or in the npz file, `path`; `size` None keeps their own size."""
    path = Path(path)
    if path.is_dir():
        image, factors = read_folder(path, size)
    elif path.suffix.lower() == ".npz":
        image, factors = read_npz(path, size)
    else:
        raise ReadError(f"{path}: expected the folder CroppedYale or an npz file", "no_file")
    group = factors[:, 0].astype(np.int64)
    held_out = last_objects(group, HELD_OUT, SUBJECTS)
    return ImageSet("yale", image, factors, ("subject", "azimuth", "elevation"), SIZES, {"azimuth": 360.0}, group, held_out)


def read_folder(folder: Path, size: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray]:
    found = [(path, NAME.fullmatch(path.name)) for path in regular_files(folder) if path.suffix == ".pgm"]
    named = [(path, match) for path, match in found if match]
    strange = [path for path, match in found if not match and not path.name.endswith("Ambient.pgm")]
    if strange or not named:
        what = f"{strange[0].name}, for one" if strange else "no PGM file"
        raise ReadError(f"{folder}: {what}; expected names such as yaleB01_P00A+035E-20.pgm", "wrong_layout")
    factors = np.array([[float(text) for text in match.groups()] for _, match in named])
    return read_pictures([path for path, _ in named], "PPM", [NATIVE], 1, size), factors


def read_npz(path: Path, size: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray]:
    subject = npz.read_member(path, "subject", "|u1", (None,))
    count = len(subject)
    azimuth, elevation = (npz.read_member(path, name, "<i2", (count,)) for name in ("azimuth", "elevation"))
    good = ~npz.read_member(path, "bad", "|b1", (count,))
    images = npz.read_member(path, "images", "|u1", (count, None, None))[good]
    return shrink(images, size), np.stack([subject, azimuth, elevation], axis=1)[good].astype(float)
