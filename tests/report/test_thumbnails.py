import base64
import io

import numpy as np
import pytest
from matplotlib.image import imread

from copdvae.prepare.describe import OUTLINES
from copdvae.prepare.lungs import AIRWAYS, LEFT, RIGHT
from copdvae.report import thumbnails as module
from copdvae.report.thumbnails import outline, png, shrunk, thumbnails


def pixels(uri):
    """(height, width, 4), 0 to 1."""
    assert uri.startswith("data:image/png;base64,")
    return imread(io.BytesIO(base64.b64decode(uri.split(",")[1])), format="png")


def chest(size=32, channels=1):
    """Water with two lungs, the right one at low x, and a bright spot near the head at the back."""
    image, lung = np.zeros((channels, size, size, size), np.int16), np.zeros((channels, size, size, size), np.uint8)
    a, b = size // 4, size - size // 4
    lung[:, a:b, a:b, 2 : size // 2 - 2], lung[:, a:b, a:b, size // 2 + 2 : -2] = RIGHT, LEFT
    image[lung > 0] = -850
    return image, lung


def test_right_is_left_and_the_head_is_up():
    image, lung = chest()
    image[0, -4:, :, :8] = 3000  # near the head, at the patient's right
    grey, lines = map(pixels, thumbnails(image, lung))
    assert grey.shape[:2] == (32, 64)
    assert lines.shape[:2] == (64, 128)
    coronal, axial = grey[:, :32, 0], grey[:, 32:, 0]
    assert coronal[:4, :8].min() == 1
    assert coronal[-4:, :8].max() < 1
    assert axial[16, 6] < 0.2 < axial[2, 6]
    orange = [round(int(OUTLINES[RIGHT][1][k : k + 2], 16) / 255, 3) for k in (1, 3, 5)]
    blue = [round(int(OUTLINES[LEFT][1][k : k + 2], 16) / 255, 3) for k in (1, 3, 5)]
    drawn = lines[..., 3] > 0
    columns = np.flatnonzero(drawn.any(axis=0))
    assert lines[drawn[:, columns[0]].argmax(), columns[0], :3] == pytest.approx(orange, abs=0.005)
    last = columns[columns < 64][-1]
    assert lines[drawn[:, last].argmax(), last, :3] == pytest.approx(blue, abs=0.005)


def test_the_outline_runs_around_the_mask_and_leaves_its_inside_clear():
    labels = np.zeros((9, 9), np.uint8)
    labels[2:7, 2:7] = RIGHT
    labels[4, 4] = AIRWAYS
    found = outline(labels)
    assert (found[2, 2:7] == RIGHT).all()
    assert found[3, 3] == 0
    assert found[4, 4] == AIRWAYS
    assert found[:2].max() == 0
    full = np.full((4, 4), LEFT, np.uint8)
    assert outline(full)[1:3, 1:3].max() == 0
    assert (outline(full)[0] == LEFT).all()  # a mask that leaves the picture is closed at its edge


def test_each_scan_has_its_two_slices():
    image, lung = chest(channels=2)
    image[1][image[1] < 0] = -500
    grey, lines = map(pixels, thumbnails(image, lung))
    assert grey.shape[:2] == (32, 128)
    assert lines.shape[:2] == (64, 256)
    assert grey[16, 8, 0] < grey[16, 64 + 8, 0]


@pytest.mark.parametrize("size", [65, 96, 128])
def test_a_finer_grid_is_drawn_as_small(size):
    image, lung = chest(size)
    grey, lines = map(pixels, thumbnails(image, lung))
    assert grey.shape[:2] == (module.SIDE, 2 * module.SIDE)
    assert lines.shape[:2] == (2 * module.SIDE, 4 * module.SIDE)
    plane = np.random.default_rng(0).normal(size=(size, size))
    assert shrunk(plane).shape == (module.SIDE, module.SIDE)
    assert shrunk(np.full((size, size), 7.0)) == pytest.approx(7)
    if size == 128:
        assert shrunk(plane)[0, 0] == pytest.approx(plane[:2, :2].mean(), abs=1e-5)


def test_without_lungs_the_middle_is_shown():
    image = np.zeros((1, 8, 8, 8), np.int16)
    image[0, 4, :, :] = 200
    grey, lines = map(pixels, thumbnails(image, np.zeros(image.shape, np.uint8)))
    assert grey[:, 8:, 0].min() == 1
    assert lines[..., 3].max() == 0


@pytest.mark.parametrize(("colours", "width"), [(4, 5), (4, 8), (32, 7)])
def test_a_png_says_what_it_was_given(colours, width):
    given = np.random.default_rng(0).integers(0, colours, (6, width)).astype(np.uint8)
    palette = [(k, 2 * k, 255 - k) for k in range(colours)]
    shown = imread(io.BytesIO(png(given, palette)), format="png")
    np.testing.assert_array_equal((shown[..., :3] * 255).round().astype(int), np.array(palette)[given])
    clear = imread(io.BytesIO(png(given, palette, clear=0)), format="png")
    np.testing.assert_array_equal(clear[..., 3] == 0, given == 0)
