"""3D chairs: folders of PNG files in the official layout."""

import io

import numpy as np
import pytest
from PIL import Image

from copdvae.errors import ReadError
from copdvae.read.images import chairs, pictures
from copdvae.read.images.chairs import read_chairs

AZIMUTHS = "000 011 023 034 046 058 069 081 092 104 116 127 139 150 162 174 185 197 209 220 232 243 255 267 278 290 301 313 325 336 348"
MODELS = ["1a6f615e", "b663f1e4", "ffd616"]


def png(red: int, green: int, side: tuple[int, int] = (600, 600)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", side, (red, green, 0)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def write(folder, models=MODELS):
    """Names as in rendered_chairs: image_NUMBER_pELEVATION_tAZIMUTH_rDISTANCE.png; colours say which is which."""
    for model, name in enumerate(models):
        own = folder / name / "renders"
        own.mkdir(parents=True)
        for number, (elevation, azimuth) in enumerate((e, a) for e in ("020", "030") for a in AZIMUTHS.split()):
            (own / f"image_{number:03d}_p{elevation}_t{azimuth}_r096.png").write_bytes(png(int(azimuth) // 2, 100 * model + int(elevation)))
    (folder / "all_chair_names.mat").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("rendered_chairs"))


def test_names_give_model_azimuth_and_elevation(folder, monkeypatch):
    monkeypatch.setattr(chairs, "MODELS", 3)
    monkeypatch.setattr(chairs, "HELD_OUT", 1)
    monkeypatch.setattr(pictures, "BLOCK", 50)
    found = read_chairs(folder)
    assert found.image.shape == (186, 3, 64, 64)
    model, azimuth, elevation = found.factors.T
    np.testing.assert_array_equal(found.image[:, 0], np.broadcast_to((azimuth // 2)[:, None, None], (186, 64, 64)))
    np.testing.assert_array_equal(found.image[:, 1], np.broadcast_to((100 * model + elevation)[:, None, None], (186, 64, 64)))
    assert sorted(set(azimuth)) == [float(text) for text in AZIMUTHS.split()]
    assert found.group.tolist() == model.tolist()
    assert found.held_out.tolist() == (model == 2).tolist()
    assert (found.names, found.sizes, found.cyclic) == (("model", "azimuth", "elevation"), (3, 31, 2), {"azimuth": 360.0})


def test_some_models_are_read_without_a_split_and_the_published_one_is_the_papers(folder):
    assert read_chairs(folder).held_out is None
    assert (chairs.MODELS - chairs.HELD_OUT, chairs.HELD_OUT) == (1115, 278)


def test_a_picture_keeps_its_rows_columns_and_colours(tmp_path):
    write(tmp_path, MODELS[:1])
    pixels = np.full((600, 600, 3), 255, np.uint8)
    pixels[:300, 300:] = (200, 100, 50)  # at the top right
    for path in (tmp_path / MODELS[0] / "renders").iterdir():
        Image.fromarray(pixels).save(path, compress_level=1)
        break
    rows = read_chairs(tmp_path).image
    one = rows[(rows == 255).any(axis=(1, 2, 3))][0]
    assert one[:, 10, 50].tolist() == [200, 100, 50]
    assert one[:, 10, 10].tolist() == one[:, 50, 50].tolist() == [255, 255, 255]


def broken(tmp_path, change):
    folder = write(tmp_path / "P0042", MODELS[:1])
    change(folder / MODELS[0] / "renders" / "image_004_p020_t046_r096.png")
    return folder


@pytest.mark.parametrize(
    ("change", "words", "reason"),
    [
        (lambda path: path.unlink(), "1a6f615e: 61 pictures, 1 of 62 views missing", "wrong_layout"),
        (lambda path: path.rename(path.with_name("image_004_p020_t047_r096.png")), "62 pictures, 1 of 62 views missing", "wrong_layout"),
        (lambda path: path.with_name("extra.png").write_bytes(png(0, 0)), "63 pictures, 0 of 62", "wrong_layout"),
        (lambda path: path.write_bytes(png(0, 0)[:-60]), "t046_r096.png: not a whole PNG picture", "truncated"),
        (lambda path: path.write_bytes(png(0, 0)[:20]), "t046_r096.png: not a whole PNG picture", "truncated"),
        (lambda path: path.write_bytes(png(0, 0, (600, 400))), "400 x 600 pixels .height x width., expected 600 x 600", "wrong_shape"),
        (lambda path: path.write_bytes(b"P5 600 600 255\n" + bytes(360_000)), "not a whole PNG picture", "truncated"),
    ],
)
def test_a_model_that_is_not_whole_is_refused_by_name(tmp_path, change, words, reason):
    with pytest.raises(ReadError, match=words) as caught:
        read_chairs(broken(tmp_path, change))
    assert "P0042" in str(caught.value)
    assert caught.value.reason == reason


def test_a_folder_without_models_is_refused(tmp_path):
    with pytest.raises(ReadError, match="no MODEL/renders folder"):
        read_chairs(tmp_path)
