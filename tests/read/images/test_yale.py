"""Extended Yale B: PGM folders written here in the official layout, the npz, and the real files."""

import tarfile

import numpy as np
import pytest

from copdvae.errors import ReadError
from copdvae.read.images.yale import read_yale

LIGHTS = ["A+000E+00", "A-130E+20", "A+035E-20"]


def pgm(value: int, height: int = 192, width: int = 168) -> bytes:
    return f"P5\n# a comment\n{width} {height}\n255\n".encode() + bytes([value]) * (height * width)


def write(folder, subjects=(1, 15)):
    for subject in subjects:
        own = folder / f"yaleB{subject:02d}"
        own.mkdir(parents=True)
        for number, light in enumerate(LIGHTS):
            (own / f"yaleB{subject:02d}_P00{light}.pgm").write_bytes(pgm(10 * subject + number))
        (own / f"yaleB{subject:02d}_P00A+095E+00.pgm.bad").write_bytes(pgm(255))
        (own / f"yaleB{subject:02d}_P00_Ambient.pgm").write_bytes(pgm(255, 480, 640))
        (own / f"yaleB{subject:02d}_P00.info").write_text("names")
    return folder


def test_names_give_subject_azimuth_and_elevation_and_bad_and_ambient_images_stay_out(tmp_path):
    found = read_yale(write(tmp_path / "CroppedYale"))
    rows = {tuple(row): int(image.mean()) for row, image in zip(found.factors.tolist(), found.image, strict=True)}
    assert rows == {(s, a, e): 10 * s + n for s in (1, 15) for n, (a, e) in enumerate([(0, 0), (-130, 20), (35, -20)])}
    assert found.image.shape == (6, 1, 64, 64)
    assert found.group.tolist() == found.factors[:, 0].tolist()
    assert (found.names, found.sizes, found.cyclic) == (("subject", "azimuth", "elevation"), (38, 29, 12), {"azimuth": 360.0})
    assert found.held_out is None  # two subjects are not the published set


def test_a_picture_keeps_its_rows_and_columns(tmp_path):
    folder = write(tmp_path / "CroppedYale", (1,))
    image = np.zeros((192, 168), np.uint8)
    image[:96, 84:] = 200  # bright at the top right
    for path in folder.rglob("*.pgm"):
        path.write_bytes(b"P5 168 192 255\n" + image.tobytes())
    own, small = read_yale(folder, None).image[0, 0], read_yale(folder).image[0, 0]
    np.testing.assert_array_equal(own, image)
    assert small[:31, 33:].min() == 200
    assert small[33:].max() == small[:, :31].max() == 0
    wide = read_yale(folder, (20, 40)).image[0, 0]
    assert wide.shape == (20, 40)
    assert wide[:9, 21:].min() == 200
    assert wide[11:].max() == wide[:, :19].max() == 0


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("yaleB01_P00A+000E+00.pgm", pgm(1)[:-1], "not a whole PPM picture"),
        ("yaleB01_P00A+000E+00.pgm", pgm(1, 168, 192), "168 x 192 pixels .height x width., expected 192 x 168"),
        ("yaleB01_P00A+000E+00.pgm", b"", "not a whole PPM picture"),
        ("yaleB01_P00A+000E+00.pgm", b"\x89PNG\r\n\x1a\n" + bytes(100), "not a whole PPM picture"),
        ("yaleB01_P00A+0E+00.pgm", pgm(1), "expected names such as yaleB01_P00A"),
    ],
)
def test_a_broken_or_strange_file_is_refused_by_name(tmp_path, name, content, words):
    folder = write(tmp_path / "P0042")
    (folder / "yaleB01" / name).write_bytes(content)
    with pytest.raises(ReadError, match=words) as caught:
        read_yale(folder)
    assert "P0042" in str(caught.value)


def test_an_empty_folder_and_a_missing_file_are_refused(tmp_path):
    (tmp_path / "P0042").mkdir()
    with pytest.raises(ReadError, match="P0042: no PGM file"):
        read_yale(tmp_path / "P0042")
    with pytest.raises(ReadError, match=r"P0042.npz: no such file"):
        read_yale(tmp_path / "P0042.npz")
    with pytest.raises(ReadError, match="expected the folder CroppedYale or an npz"):
        read_yale(tmp_path / "P0042.txt")


def npz(path, **changes):
    arrays = {
        "images": np.arange(3 * 8 * 6, dtype=np.uint8).reshape(3, 8, 6),
        "subject": np.array([1, 1, 2], np.uint8),
        "azimuth": np.array([0, -35, 20], np.int16),
        "elevation": np.array([0, 20, -40], np.int16),
        "bad": np.array([False, True, False]),
    }
    np.savez_compressed(path, allow_pickle=True, **(arrays | changes))
    return path


def test_the_npz_gives_its_good_rows(tmp_path):
    found = read_yale(npz(tmp_path / "yale.npz"), None)
    assert found.factors.tolist() == [[1, 0, 0], [2, 20, -40]]
    np.testing.assert_array_equal(found.image[:, 0], np.arange(144, dtype=np.uint8).reshape(3, 8, 6)[[0, 2]])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"azimuth": np.zeros(2, np.int16)}, "azimuth is int16 .2,., expected int16 3"),
        ({"images": np.zeros((3, 8, 6), np.float32)}, "images is float32"),
        ({"bad": np.array([object(), None, None])}, "bad is object"),
        ({"elevation": np.zeros((3, 2), np.int16)}, "elevation is int16 .3, 2."),
        ({"images": np.asfortranarray(np.zeros((3, 8, 6), np.uint8))}, "images is uint8 .3, 8, 6., expected uint8 3 x any x any by rows"),
    ],
)
def test_an_npz_of_another_layout_is_refused_and_no_pickle_is_opened(tmp_path, changes, words):
    with pytest.raises(ReadError, match=words) as caught:
        read_yale(npz(tmp_path / "P0042.npz", **changes))
    assert "P0042" in str(caught.value)
    assert caught.value.reason == "wrong_shape"


@pytest.mark.data
def test_the_real_set_has_2_414_good_images_and_the_papers_counts_by_subject(real_data):
    found = read_yale(real_data / "images" / "yaleb_cropped_RESEARCH_ONLY" / "yaleb_cropped_96x84.npz")
    assert found.image.shape == (2_414, 1, 64, 64)
    assert len(np.unique(found.group)) == 38
    assert [len(np.unique(column)) for column in found.factors.T] == list(found.sizes)
    assert (~found.held_out).sum() == 1_902  # paper A, Table 1, less the one image that it has too many
    assert found.held_out.sum() == 512
    assert not set(found.group[found.held_out]) & set(found.group[~found.held_out])


@pytest.mark.data
def test_a_real_folder_of_pgm_files_agrees_with_the_npz(real_data, tmp_path):
    source = real_data / "images" / "yaleb_cropped_RESEARCH_ONLY"
    with tarfile.open(source / "yaleB01_original_pgm.tar.xz") as archive:
        for item in archive:
            if item.isfile() and (stream := archive.extractfile(item)):
                (tmp_path / item.name.rsplit("/", 1)[1]).write_bytes(stream.read())
    found, other = read_yale(tmp_path), read_yale(source / "yaleb_cropped_96x84.npz")
    first = other.take(other.group == 1)
    assert len(found.image) == 64
    order, other_order = (np.lexsort(each.factors.T) for each in (found, first))
    np.testing.assert_array_equal(found.factors[order], first.factors[other_order])
    apart = np.abs(found.image[order].astype(float) - first.image[other_order])
    assert apart.mean() < 2  # grey levels: one was shrunk in one step, the other in two
    left, right = (found.image[(found.factors == (1, azimuth, 0)).all(axis=1)][0, 0] for azimuth in (-70, 70))
    assert right[:, :32].mean() > 2 * right[:, 32:].mean()  # the subject's right is the picture's left
    assert left[:, 32:].mean() > 2 * left[:, :32].mean()
