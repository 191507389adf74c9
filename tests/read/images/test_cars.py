"""3D cars: MATLAB files in the official layout."""

import numpy as np
import pytest
from scipy.io import savemat

from copdvae.errors import ReadError
from copdvae.read.images import cars
from copdvae.read.images.cars import read_cars


def model(number: int) -> np.ndarray:
    """(128, 128, 3, azimuth, elevation): red says which azimuth, green which elevation, blue which model; the right half is dark."""
    im = np.zeros((128, 128, 3, 24, 4), np.uint8)
    im[:, :64, 0] = np.arange(24)[None, None, :, None]
    im[:, :64, 1] = np.arange(4)[None, None, None, :]
    im[:, :64, 2] = number
    im[:64] += 100  # brighter at the top
    return im


def write(folder, numbers=(7, 3, 9), listed=True):
    folder.mkdir(exist_ok=True)
    for number in numbers:
        savemat(
            folder / f"car_{number:03d}_mesh.mat", {"im": model(number), "mask": np.zeros((128, 128, 24, 4), np.uint8)}, do_compression=True
        )
    if listed:
        (folder / "list.txt").write_text("".join(f"car_{number:03d}_mesh\n" for number in numbers))
    return folder


@pytest.mark.parametrize(("listed", "order"), [(True, (7, 3, 9)), (False, (3, 7, 9))])
def test_each_image_has_its_elevation_azimuth_and_model(tmp_path, monkeypatch, listed, order):
    monkeypatch.setattr(cars, "MODELS", 3)
    monkeypatch.setattr(cars, "HELD_OUT", 1)
    found = read_cars(write(tmp_path / "cars", listed=listed))
    assert found.image.shape == (288, 3, 64, 64)
    elevation, azimuth, number = found.factors.T
    assert found.image[:, 0, 50, 10].tolist() == (azimuth / 15).tolist()
    assert found.image[:, 1, 50, 10].tolist() == elevation.tolist()
    assert found.image[:, 2, 50, 10].tolist() == [order[int(place)] for place in number]
    assert (found.image[:, 0, 10, 50] == 100).all()
    assert (found.image[:, :, 50, 50] == 0).all()
    assert found.group.tolist() == number.tolist()
    assert found.held_out.tolist() == (number == 2).tolist()
    assert (found.names, found.sizes, found.cyclic) == (("elevation", "azimuth", "object"), (4, 24, 3), {"azimuth": 360.0})


def test_the_published_split_is_the_papers_and_needs_all_models(tmp_path):
    assert read_cars(write(tmp_path / "cars", (1,))).held_out is None
    assert (cars.MODELS - cars.HELD_OUT, cars.HELD_OUT) == (146, 37)
    assert (cars.MODELS - cars.HELD_OUT) * 96 == 14_016  # paper A, Table 1
    assert cars.HELD_OUT * 96 == 3_552


def test_the_own_size_is_kept_where_none_is_asked_for(tmp_path):
    found = read_cars(write(tmp_path / "cars", (5,)), None)
    np.testing.assert_array_equal(found.image.reshape(4, 24, 3, 128, 128), model(5).transpose(4, 3, 2, 0, 1))


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused_by_name(tmp_path, share):
    path = write(tmp_path / "P0042", (1,)) / "car_001_mesh.mat"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ReadError, match=r"P0042.*car_001"):
        read_cars(path.parent)


@pytest.mark.parametrize(
    "arrays",
    [
        {"im": np.zeros((128, 128, 3, 24, 3), np.uint8)},
        {"im": np.zeros((64, 64, 3, 24, 4), np.uint8)},
        {"im": np.zeros((128, 128, 3, 24, 4), np.int16)},
        {"images": np.zeros((2, 2), np.uint8)},
    ],
)
def test_another_layout_is_refused_by_name(tmp_path, arrays):
    folder = write(tmp_path / "P0042", (1,))
    savemat(folder / "car_001_mesh.mat", arrays)
    with pytest.raises(ReadError, match=r"car_001_mesh.mat: has .*expected im uint8 \(128, 128, 3, 24, 4\)") as caught:
        read_cars(folder)
    assert caught.value.reason == "wrong_shape"


def test_missing_models_and_names_that_lead_away_are_refused(tmp_path):
    folder = write(tmp_path / "P0042", (1,))
    (folder / "list.txt").write_text("car_001_mesh\ncar_002_mesh\n../car_001_mesh\n")
    with pytest.raises(ReadError, match=r"P0042: 2 of 3 models in list.txt have no file here .car_002_mesh, ../car_001_mesh"):
        read_cars(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReadError, match=r"empty: no list.txt and no car_"):
        read_cars(tmp_path / "empty")
