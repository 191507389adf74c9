"""Sprites against the areas, moments and symmetries of their shapes."""

import numpy as np

from copdvae.generated.sprites import CENTRE, sprites

POSES = 3 * 6 * 40


def centred():
    """Every pose once, at the seventeenth of 32 positions each way: pixel 32."""
    return sprites(np.arange(POSES) * 1024 + 16 * 32 + 16)


def test_images_are_black_and_white_with_the_area_of_their_shape():
    found = centred()
    assert set(np.unique(found.image)) == {0, 255}
    shape, scale = found.factors.T[:2]
    area = (found.image == 255).sum(axis=(1, 2, 3))
    # The heart curve (x^2 + y^2 - 1)^3 = x^2 y^3 encloses 3.6620.
    expected = np.select([shape == 1, shape == 2], [(2 * 9.6) ** 2, np.pi * 13.7 * 7], 3.6620 * 10.9**2) * scale**2
    np.testing.assert_allclose(area, expected, rtol=0.1)
    for kind in (1, 2, 3):
        assert abs(area[shape == kind].sum() / expected[shape == kind].sum() - 1) < 0.015


def test_a_step_of_position_is_a_step_of_one_pixel():
    rows = np.arange(0, POSES, 7)
    first = sprites(rows * 1024).image
    for x, y in ((1, 0), (0, 1), (31, 31), (5, 20)):
        moved = sprites(rows * 1024 + 32 * x + y)
        np.testing.assert_array_equal(moved.image, np.roll(first, (y, x), axis=(2, 3)))
        np.testing.assert_allclose(moved.factors[:, 3:], np.broadcast_to([x / 31, y / 31], (len(rows), 2)))
    corners = sprites(np.concatenate([rows * 1024, rows * 1024 + 1023])).image
    assert not corners[:, :, [0, -1]].any()  # nothing is ever cut
    assert not corners[:, :, :, [0, -1]].any()


def test_an_ellipse_points_where_its_orientation_says():
    found = centred()
    own = found.take(found.factors[:, 0] == 2)
    down, across = np.mgrid[-32:32, -32:32]
    white = own.image[:, 0] == 255
    mass = white / white.sum(axis=(1, 2), keepdims=True)
    x, y = ((mass * part).sum(axis=(1, 2))[:, None, None] for part in (across, down))
    np.testing.assert_allclose(np.mean([x, y], axis=(1, 2, 3)), CENTRE, atol=0.05)
    xx, yy, xy = ((mass * part).sum(axis=(1, 2)) for part in ((across - x) ** 2, (down - y) ** 2, (across - x) * (down - y)))
    axis = 0.5 * np.arctan2(2 * xy, xx - yy)  # of the longest spread, to half a turn
    apart = np.abs(np.angle(np.exp(2j * (axis - own.factors[:, 2])))) / 2
    assert np.degrees(apart).max() < 5
    assert np.degrees(apart[own.factors[:, 1] == 1]).max() < 2


def test_every_image_is_unlike_the_others_but_for_the_two_ends_of_a_turn():
    found = centred()
    turned = found.factors[:, 2] < 2 * np.pi - 1e-9
    assert len(np.unique(found.image.reshape(POSES, -1), axis=0)) == turned.sum() == POSES - 18
    np.testing.assert_array_equal(found.image[~turned], found.image[found.factors[:, 2] == 0])


def test_a_heart_stands_upright_with_its_notch_at_the_top():
    found = centred()
    heart = found.image[(found.factors[:, :3] == (3, 1, 0)).all(axis=1)][0, 0] == 255
    assert (heart[:, 1:] != heart[:, :0:-1]).sum() < 0.05 * heart.sum()  # nearly the same mirrored about column 32
    top, bottom = np.flatnonzero(heart.any(axis=1))[[0, -1]]
    assert not heart[top + 1, 32]
    assert heart[top + 1, :32].any()
    assert heart[top + 1, 33:].any()
    assert heart[bottom].sum() <= 2
