"""Scenes: rays against marching along signed distances, colours against the hues, and the room's symmetry."""

import colorsys

import numpy as np
import pytest

from copdvae.generated.room import CAMERA, HEIGHT, TARGET, WALL, camera, cast, room
from copdvae.generated.scenes import scenes
from copdvae.generated.solids import BALL, BOX, CAPSULE, CUBE, CYLINDER, SPHERE, hit, object_normal, profile

SHAPES = pytest.mark.parametrize("shape", [CUBE, CYLINDER, SPHERE, CAPSULE])
RED, GREEN, BLUE = 0, 3, 6  # places among the hues that are nearest to them


def signed_distance(shape, scale, point):
    """A second description of the solids: how far a point is outside, negative inside (textbook formulas)."""
    if shape == SPHERE:
        return np.linalg.norm(point - [0, 0, BALL * scale], axis=-1) - BALL * scale
    if shape == CUBE:
        beyond = abs(point - [0, 0, BOX * scale]) - BOX * scale
        return np.linalg.norm(np.maximum(beyond, 0), axis=-1) + np.minimum(beyond.max(axis=-1), 0)
    radius, bottom, top = profile(shape, scale)
    around = np.linalg.norm(point[..., :2], axis=-1)
    if shape == CAPSULE:
        nearest = np.clip(point[..., 2], bottom, top)
        return np.hypot(around, point[..., 2] - nearest) - radius
    beyond = np.stack([around - radius, abs(point[..., 2] - (bottom + top) / 2) - (top - bottom) / 2], axis=-1)
    return np.linalg.norm(np.maximum(beyond, 0), axis=-1) + np.minimum(beyond.max(axis=-1), 0)


def march(shape, scale, eye, ray):
    distance = np.zeros(ray.shape[:-1])
    for _ in range(400):
        distance += signed_distance(shape, scale, eye + distance[..., None] * ray)
    near = signed_distance(shape, scale, eye + distance[..., None] * ray) < 1e-4
    return np.where(near & (distance < 50), distance, np.inf)


@SHAPES
@pytest.mark.parametrize(("scale", "angle"), [(0.75, -0.5), (1.0, 0.0), (1.25, 0.3)])
def test_rays_meet_the_object_where_marching_does(shape, scale, angle):
    eye, ray = camera(angle, 48)
    found, expected = hit(shape, scale, eye, ray), march(shape, scale, eye.astype(float), ray.astype(float))
    assert (np.isinf(found) != np.isinf(expected)).mean() < 0.004  # rays that graze the outline
    both = np.isfinite(found) & np.isfinite(expected)
    assert both.mean() > 0.02
    # Float32 near the outline, where a small slip moves the point far along.
    assert np.quantile(abs(found[both] - expected[both]), 0.97) < 2e-3


@SHAPES
def test_normals_point_up_the_slope_of_the_distance(shape):
    eye, ray = camera(0.3, 48)
    distance = hit(shape, 1.1, eye, ray)
    point = (eye + np.where(np.isfinite(distance), distance, 0)[..., None] * ray)[np.isfinite(distance)]
    steps = 1e-4 * np.eye(3)
    slope = np.stack([(signed_distance(shape, 1.1, point + s) - signed_distance(shape, 1.1, point - s)) / 2e-4 for s in steps], axis=-1)
    agree = (object_normal(shape, 1.1, point) * slope).sum(-1)
    assert np.quantile(agree, 0.03) > 0.99  # edges of cube and cylinder apart


def test_the_camera_stands_where_its_angle_says_and_its_picture_is_upright():
    for angle in (-0.5, 0.0, 0.5):
        eye, ray = camera(angle, 31)
        np.testing.assert_allclose(eye, [CAMERA * np.sin(angle), -CAMERA * np.cos(angle), HEIGHT], rtol=1e-6)
        to_target = np.array([0, 0, TARGET]) - eye
        np.testing.assert_allclose(ray[15, 15], to_target / np.linalg.norm(to_target), atol=1e-6)
        right = np.array([np.cos(angle), np.sin(angle), 0])
        assert (np.diff(ray[15] @ right) > 0).all()
        assert (np.diff(ray[:, 15, 2]) < 0).all()
    assert cast(SPHERE, 1.0, 0.5, 32)[1, :8, :16].std() > cast(SPHERE, 1.0, 0.0, 32)[1, :8, :16].std()


def test_every_ray_ends_on_the_nearest_of_floor_and_walls():
    for angle in (-0.5, 0.0, 0.5):
        eye, ray = camera(angle, 32)
        distance, normal = room(eye, ray)
        x, y, z = np.moveaxis(eye + distance[..., None] * ray, -1, 0)
        assert max(abs(x).max(), y.max()) < WALL + 1e-3
        assert z.min() > -1e-3
        on = np.select([normal[..., 2] == 1, normal[..., 1] == -1, normal[..., 0] == 1], [z, y - WALL, x + WALL], x - WALL)
        assert abs(on).max() < 1e-3


def row(floor, wall, thing, scale, shape, orientation):
    return int(np.ravel_multi_index((floor, wall, thing, scale, shape, orientation), (10, 10, 10, 8, 4, 15)))


@pytest.mark.parametrize("shape", range(4))
def test_floor_wall_and_object_have_the_hues_that_their_factors_say(shape):
    places = [(RED, GREEN, BLUE), (BLUE, RED, GREEN), (2, 5, 9)]
    found = scenes(np.array([row(*hues, 7, shape, 7) for hues in places]))
    for image, factors in zip(found.image, found.factors, strict=True):
        for (down, across), hue in (((60, 5), factors[0]), ((3, 20), factors[1]), ((35, 32), factors[2])):
            red, green, blue = image[:, down, across] / 255
            assert colorsys.rgb_to_hsv(red, green, blue)[0] == pytest.approx(hue, abs=0.04)


@pytest.mark.parametrize("shape", range(4))
def test_a_hue_changes_its_own_part_alone_and_the_parts_cover_the_picture(shape):
    base = scenes(np.array([row(1, 4, 8, 5, shape, 3)])).image[0].astype(int)
    others = scenes(np.array([row(2, 4, 8, 5, shape, 3), row(1, 7, 8, 5, shape, 3), row(1, 4, 3, 5, shape, 3)])).image
    changed = (abs(others - base) > 2).any(axis=1)  # (3, 64, 64)
    assert changed.any(axis=0).mean() > 0.99
    assert (changed.sum(axis=0) > 1).mean() < 0.09  # only pixels that two parts share
    assert (changed.mean(axis=(1, 2)) > 0.05).all()


@pytest.mark.parametrize("shape", range(4))
def test_the_room_is_the_mirror_image_from_the_other_side_and_the_lamp_is_not(shape):
    left, right = (cast(shape, 1.0, angle, 32) for angle in (-0.4, 0.4))
    for part in range(3):
        np.testing.assert_allclose(left[part] > 0, (right[part] > 0)[:, ::-1])
    assert abs(left[:3] - right[:3, :, ::-1]).max() > 0.2


def test_a_larger_object_covers_more():
    seen = [(cast(shape, scale, 0.2, 32)[2] > 0).sum() for shape in range(4) for scale in np.linspace(0.75, 1.25, 8)]
    assert (np.diff(np.reshape(seen, (4, 8)), axis=1) > 0).all()


def test_a_ball_throws_a_shadow_away_from_the_lamp():
    """The lamp hangs on the left: on the floor the right half has what the left has, and the shadow."""
    floor = cast(SPHERE, 1.0, 0.0, 64)[0]
    left, right = floor[32:, 31::-1], floor[32:, 32:]
    share = right[left > 0.8] / left[left > 0.8]
    assert share.min() < 0.55
    assert share.max() < 1.05
    assert 0.02 < (share < 0.7).mean() < 0.3


@pytest.mark.slow
def test_all_views_are_unlike():
    image = scenes(np.arange(480) + 480 * 137).image.reshape(480, -1)
    assert len(np.unique(image, axis=0)) == 480
