"""3D Shapes: an HDF5 file in the official layout, on a smaller grid."""

import sys

import h5py
import numpy as np
import pytest

from copdvae.errors import ReadError
from copdvae.read.images import hdf5, shapes3d
from copdvae.read.images.shapes3d import read_shapes3d

SIZES = (2, 1, 3, 2, 2, 3)
COUNT = 72
GRIDS = [np.arange(2) / 10, np.arange(1) / 10, np.arange(3) / 10, np.linspace(0.75, 1.25, 2), np.arange(2.0), np.linspace(-30, 30, 3)]
LABELS = np.stack([grid[place] for grid, place in zip(GRIDS, np.unravel_index(np.arange(COUNT), SIZES), strict=True)], axis=1)
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def small_grid(monkeypatch):
    monkeypatch.setattr(shapes3d, "SIZES", SIZES)
    monkeypatch.setattr(hdf5, "ROWS", 10)


def write(path, **changes):
    with h5py.File(path, "w") as file:
        for name, array in ({"images": IMAGES, "labels": LABELS} | changes).items():
            file.create_dataset(name, data=array, chunks=True, compression="gzip")
    return path


def test_images_come_channels_first_with_the_labels_of_the_file(tmp_path):
    found = read_shapes3d(write(tmp_path / "3dshapes.h5"))
    np.testing.assert_array_equal(found.image, IMAGES.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(found.factors, LABELS)
    assert found.names == ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
    assert found.sizes == SIZES
    assert found.cyclic == {"floor_hue": 1.0, "wall_hue": 1.0, "object_hue": 1.0}


def test_rows_can_be_chosen_in_any_order(tmp_path):
    rows = np.array([60, 2, 31])
    found = read_shapes3d(write(tmp_path / "3dshapes.h5"), rows)
    np.testing.assert_array_equal(found.image, IMAGES[rows].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(found.factors, LABELS[rows])


def test_the_published_grid_has_480_000_images(monkeypatch):
    monkeypatch.undo()
    assert np.prod(shapes3d.SIZES) == 480_000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": IMAGES[:, :32]}, r"images is uint8 \(72, 32, 64, 3\), expected \|u1 \(72, 64, 64, 3\)"),
        ({"images": IMAGES / 255}, "images is float64"),
        ({"labels": LABELS[:, :5]}, r"labels is float64 \(72, 5\)"),
        ({"labels": LABELS[::-1]}, "not every combination"),
    ],
)
def test_another_layout_is_refused_by_name(tmp_path, changes, words):
    with pytest.raises(ReadError, match=words) as caught:
        read_shapes3d(write(tmp_path / "P0042.h5", **changes))
    assert "P0042" in str(caught.value)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_file_cut_short_is_refused(tmp_path, share):
    path = write(tmp_path / "P0042.h5")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ReadError, match=r"P0042.*not a whole HDF5 file"):
        read_shapes3d(path)


def test_a_machine_without_h5py_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ReadError, match=r"needs h5py; pip install 'copdvae\[images\]'"):
        read_shapes3d(tmp_path / "P0042.h5")
