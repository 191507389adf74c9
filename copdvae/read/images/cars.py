"""3D cars (Reed, Zhang, Zhang & Lee 2015, from CAD models of Fidler, Dickinson & Urtasun 2012): 183 models, 24 azimuths, 4 elevations.

`data/cars` of nips2015-analogy-data.tar.gz: one `car_001_mesh.mat` (MATLAB 5) a model with `im` uint8 (128, 128, 3, 24, 4), and
`list.txt` with the models' order. 17,568 images. Published factors (disentanglement_lib's Cars3D): elevation (4), azimuth (24), object
(183). Elevation is a number from 0 to 3, as its degrees are not published; azimuth is in degrees, 15 apart (equal steps all the way round:
from memory).
Paper A (which cites Krause et al. 2013 for it): 64 x 64 x 3, 146 models and 37 held out; here: the last 37 in the order of list.txt.
"""

import struct
import zlib
from pathlib import Path

import numpy as np

from copdvae.errors import ReadError
from copdvae.read.images.image_set import ImageSet, empty_images, last_objects
from copdvae.read.images.pictures import shrink

MODELS, HELD_OUT = 183, 37
ELEVATIONS, AZIMUTHS = 4, 24
SHAPE = (128, 128, 3, AZIMUTHS, ELEVATIONS)


def read_cars(folder: Path, size: tuple[int, int] | None = (64, 64)) -> ImageSet:
    """Every model in `folder` (`cars`, or some of its files); the held-out ones are marked where all 183 are there."""
    folder = Path(folder)
    paths = model_paths(folder)
    views = AZIMUTHS * ELEVATIONS
    image = empty_images(folder, len(paths) * views, 3, *(size or SHAPE[:2]))
    for number, path in enumerate(paths):
        pictures = read_model(path).transpose(4, 3, 0, 1, 2).reshape(views, *SHAPE[:3])
        image[number * views : (number + 1) * views] = shrink(pictures, size)
    model, elevation, azimuth = (axis.ravel() for axis in np.indices((len(paths), ELEVATIONS, AZIMUTHS)))
    factors = np.stack([elevation, azimuth * (360 / AZIMUTHS), model], axis=1).astype(float)
    sizes = (ELEVATIONS, AZIMUTHS, MODELS)
    held_out = last_objects(model, HELD_OUT, MODELS)
    return ImageSet("cars", image, factors, ("elevation", "azimuth", "object"), sizes, {"azimuth": 360.0}, model.astype(np.int64), held_out)


def model_paths(folder: Path) -> list[Path]:
    """The models' files, in the order of list.txt where there is one."""
    listed = folder / "list.txt"
    if not listed.is_file():
        paths = sorted(folder.glob("car_*_mesh.mat"))
        if not paths:
            raise ReadError(f"{folder}: no list.txt and no car_..._mesh.mat in it; expected the folder `cars`", "no_file")
        return paths
    names = listed.read_text(encoding="utf-8", errors="replace").split()
    lost = [name for name in names if "/" in name or "\\" in name or not (folder / f"{name}.mat").is_file()]
    if lost or not names:
        raise ReadError(f"{folder}: {len(lost)} of {len(names)} models in list.txt have no file here ({', '.join(lost[:3])})", "no_file")
    return [folder / f"{name}.mat" for name in names]


def read_model(path: Path) -> np.ndarray:
    """The images of one model: (128, 128, 3, 24, 4) uint8."""
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    check_whole(path)
    try:
        arrays = {name: (shape, kind) for name, shape, kind in whosmat(str(path))}
        if arrays.get("im") != (SHAPE, "uint8"):
            raise ReadError(f"{path}: has {arrays or 'no array'}, expected im uint8 {SHAPE}; is it another set?", "wrong_shape")
        return loadmat(str(path), variable_names=["im"])["im"]
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, zlib.error, MatReadError) as error:
        raise ReadError(f"{path}: not a whole MATLAB 5 file ({error}); fetch it again", "truncated") from None


def check_whole(path: Path) -> None:
    """MATLAB 5: a header of 128 bytes that ends in the byte order, then elements with a type and their bytes, which must fill the file."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        order = {b"IM": "<I", b"MI": ">I"}.get(stream.read(128)[126:])
        place = 128
        while order and place < size:
            stream.seek(place + 4)
            length = stream.read(4)
            place = place + 8 + struct.unpack(order, length)[0] if len(length) == 4 else size + 1
    if not order or place != size:
        raise ReadError(f"{path}: {size:,} bytes that are not a whole MATLAB 5 file; fetch it again", "truncated")
