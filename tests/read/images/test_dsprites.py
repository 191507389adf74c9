"""dSprites: npz and hdf5 files in the official layout, on a smaller grid."""

import pickle
import zipfile

import h5py
import numpy as np
import pytest

from copdvae.errors import ReadError
from copdvae.read.images import dsprites, npz
from copdvae.read.images.dsprites import read_dsprites

SIZES = (3, 2, 4, 2, 3)
COUNT = 144
GRIDS = [np.arange(1.0, 4), np.linspace(0.5, 1, 2), np.linspace(0, 2 * np.pi, 4), np.linspace(0, 1, 2), np.linspace(0, 1, 3)]
CLASSES = np.stack([np.zeros(COUNT, int), *np.unravel_index(np.arange(COUNT), SIZES)], axis=1).astype(np.int64)
VALUES = np.stack([np.ones(COUNT), *(grid[place] for grid, place in zip(GRIDS, CLASSES[:, 1:].T, strict=True))], axis=1)
IMAGES = (np.arange(COUNT)[:, None] >> np.arange(4096) % 8 & 1).astype(np.uint8).reshape(COUNT, 64, 64)  # each one unlike the others


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


@pytest.fixture(autouse=True)
def small_grid(monkeypatch):
    monkeypatch.setattr(dsprites, "SIZES", SIZES)
    monkeypatch.setattr(npz, "ROWS", 10)


def write(path, **changes):
    """The members and types of the official files; a pickle of our own stands for their metadata."""
    arrays = {"imgs": IMAGES, "latents_values": VALUES, "latents_classes": CLASSES} | changes
    arrays = {name: array for name, array in arrays.items() if array is not None}
    if path.suffix == ".npz":
        metadata = np.array(None, dtype=object)
        metadata[()] = Bomb()
        np.savez_compressed(path, allow_pickle=True, metadata=metadata, **arrays)
        with pytest.raises(pytest.fail.Exception), np.load(path, allow_pickle=True) as archive:
            archive["metadata"]  # the bomb is live
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name.replace("latents_", "latents/"), data=array, chunks=True, compression="gzip")
    return path


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
def test_images_become_0_and_255_with_the_published_factors_less_colour(tmp_path, suffix):
    found = read_dsprites(write(tmp_path / f"dsprites{suffix}"))
    np.testing.assert_array_equal(found.image[:, 0], IMAGES * 255)
    np.testing.assert_array_equal(found.factors, VALUES[:, 1:])
    assert found.names == ("shape", "scale", "orientation", "position_x", "position_y")
    assert found.sizes == SIZES
    assert found.cyclic == {"orientation": 2 * np.pi}
    assert found.group is found.held_out is None


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
def test_rows_can_be_chosen_in_any_order(tmp_path, suffix):
    rows = np.array([71, 3, 40, 3])
    found = read_dsprites(write(tmp_path / f"dsprites{suffix}"), rows)
    np.testing.assert_array_equal(found.image[:, 0], IMAGES[rows] * 255)
    np.testing.assert_array_equal(found.factors, VALUES[rows, 1:])


def test_the_published_grid_has_737_280_images(monkeypatch):
    monkeypatch.undo()
    assert np.prod(dsprites.SIZES) == 737_280


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
@pytest.mark.parametrize(
    ("changes", "words", "reason"),
    [
        ({"imgs": IMAGES[:-1]}, "imgs is uint8 .143, 64, 64.", "wrong_shape"),
        ({"imgs": IMAGES[:, :, :32]}, "imgs is uint8 .144, 64, 32.", "wrong_shape"),
        ({"imgs": IMAGES.astype(np.int32)}, "imgs is int32", "wrong_shape"),
        ({"imgs": IMAGES * 255}, "imgs goes up to 255, expected 0 and 1", "wrong_values"),
        ({"imgs": None}, "no array imgs", "wrong_layout"),
        ({"latents_values": VALUES[:, 1:]}, r"latents.values is float64 .144, 5.", "wrong_shape"),
        ({"latents_classes": CLASSES[::-1]}, "not every combination", "wrong_values"),
    ],
)
def test_another_layout_is_refused_by_name(tmp_path, suffix, changes, words, reason):
    path = write(tmp_path / f"P0042{suffix}", **changes)
    with pytest.raises(ReadError, match=words) as caught:
        read_dsprites(path)
    assert "P0042" in str(caught.value)
    assert caught.value.reason == reason


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
@pytest.mark.parametrize("share", [0, 0.3, 0.6, 0.99])
def test_a_file_cut_short_is_refused(tmp_path, suffix, share):
    path = write(tmp_path / f"P0042{suffix}")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ReadError, match=r"P0042.*not a whole (npz|HDF5) file"):
        read_dsprites(path)


def test_a_damaged_member_is_refused(tmp_path):
    path = write(tmp_path / "P0042.npz")
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("imgs.npy").header_offset + 300
    raw = bytearray(path.read_bytes())
    raw[place] ^= 255
    path.write_bytes(raw)
    with pytest.raises(ReadError, match="P0042"):
        read_dsprites(path)


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
def test_a_missing_file_is_refused(tmp_path, suffix):
    with pytest.raises(ReadError, match=r"P0042.*: no such file"):
        read_dsprites(tmp_path / f"P0042{suffix}")


def test_a_header_that_claims_more_than_the_member_has_takes_no_memory(tmp_path, monkeypatch):
    """The member says 737,280 images and holds one."""
    monkeypatch.setattr(dsprites, "SIZES", (3, 6, 40, 32, 32))
    path = tmp_path / "P0042.npz"
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (737280, 6), }".ljust(117) + "\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("latents_values.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(48))
    with pytest.raises(ReadError, match=r"48 bytes, its shape .737280, 6. needs 35,389,440"):
        read_dsprites(path, np.array([0]))


def test_links_out_of_an_hdf5_file_are_not_followed(tmp_path):
    other = write(tmp_path / "other.hdf5")
    path = write(tmp_path / "P0042.hdf5", imgs=None)
    for link in (h5py.ExternalLink(str(other), "imgs"), h5py.SoftLink("/latents/values")):
        with h5py.File(path, "a") as file:
            file.pop("imgs", None)
            file["imgs"] = link
        with pytest.raises(ReadError, match=r"P0042.*no array imgs"):
            read_dsprites(path)


def test_a_pickle_under_the_name_of_an_array_is_refused(tmp_path):
    path = tmp_path / "P0042.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("latents_values.npy", pickle.dumps(Bomb()))
    with pytest.raises(ReadError, match="latents_values has no header"):
        read_dsprites(path)
