"""CelebA: a folder with its lists in the official layout."""

import numpy as np
import pytest
from PIL import Image

from copdvae.errors import ReadError
from copdvae.read.images.celeba import read_celeba

NAMES = [f"Attribute_{number}" for number in range(40)]
VALUES = np.random.default_rng(0).integers(0, 2, (5, 40))
FILES = [f"{number:06d}.jpg" for number in range(1, 6)]


def attributes(values=VALUES, count=None, names=NAMES) -> str:
    """As in list_attr_celeba.txt: numbers padded to two places, a space after the last name."""
    rows = [f"{file} " + " ".join(f"{2 * value - 1:2d}" for value in row) for file, row in zip(FILES, values, strict=False)]
    return "\n".join([str(len(rows) if count is None else count), " ".join(names) + " ", *rows]) + "\n"


def write(folder, lists=True):
    own = folder / "img_align_celeba"
    own.mkdir(parents=True)
    for number, file in enumerate(FILES):
        pixels = np.full((218, 178, 3), 40 * number, np.uint8)
        pixels[:109, 89:, 0] += 50  # redder at the top right
        Image.fromarray(pixels).save(own / file, quality=95)
    (folder / "list_attr_celeba.txt").write_text(attributes())
    if lists:
        (folder / "identity_CelebA.txt").write_text("".join(f"{file} {9 - number // 2}\n" for number, file in enumerate(FILES)))
        (folder / "list_eval_partition.txt").write_text("".join(f"{file} {number // 2}\n" for number, file in enumerate(FILES)))
    return folder


def test_attributes_become_0_and_1_with_persons_and_the_published_test_images(tmp_path):
    found = read_celeba(write(tmp_path))
    assert found.image.shape == (5, 3, 218, 178)
    np.testing.assert_array_equal(found.factors, VALUES)
    np.testing.assert_allclose(found.image[:, 1, 150, 20], 40 * np.arange(5), atol=6)
    np.testing.assert_allclose(found.image[:, 0, 20, 150].astype(int) - found.image[:, 0, 150, 20], 50, atol=6)
    assert (found.names, found.sizes) == (tuple(NAMES), (2,) * 40)
    assert found.group.tolist() == [9, 9, 8, 8, 7]
    assert found.held_out.tolist() == [False, False, False, False, True]


def test_rows_and_a_size_can_be_chosen_and_other_lists_may_be_missing(tmp_path):
    found = read_celeba(write(tmp_path, lists=False), np.array([4, 1]), (64, 64))
    assert found.image.shape == (2, 3, 64, 64)
    np.testing.assert_array_equal(found.factors, VALUES[[4, 1]])
    np.testing.assert_allclose(found.image[:, 1, 50, 5], [160, 40], atol=6)
    assert found.group is found.held_out is None


@pytest.mark.parametrize(
    ("text", "words", "reason"),
    [
        (attributes(count=6), "5 rows, its first line says 6", "truncated"),
        (attributes(names=NAMES[:39]), "39 attributes, expected a count, then 40 names", "wrong_layout"),
        (attributes(names=NAMES).split("\n", 1)[1], "attributes, expected a count", "wrong_layout"),
        (attributes()[:-30], "line 7 is not a file's name and 40 times", "wrong_layout"),
        (attributes(VALUES + 1), "line 3 is not", "wrong_layout"),
        ("", "0 attributes", "wrong_layout"),
    ],
)
def test_a_broken_list_is_refused_by_name(tmp_path, text, words, reason):
    folder = write(tmp_path / "P0042")
    (folder / "list_attr_celeba.txt").write_text(text)
    with pytest.raises(ReadError, match=words) as caught:
        read_celeba(folder)
    assert "P0042" in str(caught.value)
    assert caught.value.reason == reason


def test_missing_lists_and_pictures_and_lists_of_other_images_are_refused(tmp_path):
    folder = write(tmp_path / "P0042")
    (folder / "identity_CelebA.txt").write_text("000001.jpg 4\n")
    with pytest.raises(ReadError, match=r"identity_CelebA.txt: not a name and a number for each image"):
        read_celeba(folder)
    (folder / "identity_CelebA.txt").unlink()
    (folder / "img_align_celeba" / FILES[2]).unlink()
    with pytest.raises(ReadError, match=r"1 of 5 pictures of list_attr_celeba.txt missing, 000003.jpg first"):
        read_celeba(folder)
    assert len(read_celeba(folder, np.array([0, 4])).image) == 2
    (folder / "list_attr_celeba.txt").unlink()
    with pytest.raises(ReadError, match=r"P0042.list_attr_celeba.txt: no such file"):
        read_celeba(folder)


def test_a_picture_that_is_not_whole_or_of_another_size_is_refused_by_name(tmp_path):
    folder = write(tmp_path / "P0042")
    path = folder / "img_align_celeba" / FILES[1]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReadError, match=r"000002.jpg: not a whole JPEG picture"):
        read_celeba(folder)
    Image.new("RGB", (64, 64)).save(path)
    with pytest.raises(ReadError, match=r"000002.jpg: 64 x 64 pixels .height x width., expected 218 x 178"):
        read_celeba(folder)
