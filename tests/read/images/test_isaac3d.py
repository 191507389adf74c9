"""Isaac3D: numbered PNG files in the official layout, on a smaller grid."""

import numpy as np
import pytest
from PIL import Image

from copdvae.errors import ReadError
from copdvae.read.images import isaac3d
from copdvae.read.images.isaac3d import read_isaac3d

SIZES = (2, 3, 1, 1, 2, 1, 1, 2, 1)


def write(folder, side=128, numbers=range(24)):
    own = folder / "images"
    own.mkdir(parents=True)
    for number in numbers:
        Image.new("RGB", (side, side), (number, 0, 200)).save(own / f"{number:06d}.png")
    return folder


def test_the_multipliers_of_the_published_index_are_those_of_the_sizes():
    """https://github.com/NVlabs/High-res-disentanglement-datasets prints them beside the factors' names."""
    printed = np.array([245760, 30720, 6144, 1536, 384, 96, 16, 4, 1])
    assert np.prod(isaac3d.SIZES) == 737_280
    corner = np.array([[size - 1 if place == own else 0 for own, size in enumerate(isaac3d.SIZES)] for place in range(9)])
    assert np.ravel_multi_index(corner.T, isaac3d.SIZES).tolist() == (printed * np.subtract(isaac3d.SIZES, 1)).tolist()


@pytest.mark.parametrize("side", [128, 512])
@pytest.mark.parametrize("below", ["", "images"])
def test_the_number_in_a_name_gives_the_factors(tmp_path, monkeypatch, side, below):
    monkeypatch.setattr(isaac3d, "SIZES", SIZES)
    monkeypatch.setattr(isaac3d, "NAMES", isaac3d.NAMES)
    folder = write(tmp_path, side, range(24) if side == 128 else [5, 17])
    with np.errstate(invalid="ignore"):
        found = read_isaac3d(folder / below, None if side == 128 else np.array([17, 5]))
    rows = found.image[:, 0, 0, 0].astype(int)
    assert rows.tolist() == (list(range(24)) if side == 128 else [17, 5])
    assert (found.image[:, 2] == 200).all()
    assert found.image.shape[1:] == (3, 64, 64)
    classes = np.stack(np.unravel_index(rows, SIZES), axis=1)
    np.testing.assert_allclose(found.factors[:, [0, 1, 4, 7]], classes[:, [0, 1, 4, 7]] / np.array([1, 2, 1, 1]))
    assert found.names[:5] == ("object_shape", "robot_x-move", "robot_y-move", "camera_height", "object_scale")


def test_missing_pictures_are_counted_and_named(tmp_path):
    write(tmp_path / "P0042", numbers=[0, 2])
    with pytest.raises(ReadError, match=r"P0042.*: 2 of 3 pictures missing, 000001.png first"):
        read_isaac3d(tmp_path / "P0042", np.array([0, 1, 3]))
    with pytest.raises(ReadError, match="737,278 of 737,280 pictures missing"):
        read_isaac3d(tmp_path / "P0042")
    with pytest.raises(ReadError, match="nowhere: 1 of 1 pictures missing"):
        read_isaac3d(tmp_path / "nowhere", np.array([0]))


def test_pictures_of_another_size_or_cut_short_are_refused_by_name(tmp_path):
    folder = write(tmp_path / "P0042", 256, [0])
    with pytest.raises(ReadError, match=r"256 x 256 pixels .height x width., expected 512 x 512 or 128 x 128"):
        read_isaac3d(folder, np.array([0]))
    with pytest.raises(ReadError, match="256 x 256"):
        read_isaac3d(folder, np.array([0]), None)
    path = folder / "images" / "000000.png"
    Image.new("RGB", (128, 128), (1, 2, 3)).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ReadError, match=r"000000.png: not a whole PNG picture"):
        read_isaac3d(folder, np.array([0]))
