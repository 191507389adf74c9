"""Blobs against the formula, pixel by pixel, and by their moments."""

import math

import numpy as np

from copdvae.generated.blobs import blobs


def test_a_pixel_is_the_gaussian_at_its_centre():
    found = blobs(np.random.default_rng(0).integers(0, 102_400, 50))
    for image, (x, y, width, peak) in zip(found.image[:, 0], found.factors, strict=True):
        by_hand = [
            [255 * peak * math.exp(-((c + 0.5 - x) ** 2 + (r + 0.5 - y) ** 2) / (2 * width**2)) for c in range(64)] for r in range(64)
        ]
        np.testing.assert_allclose(image, by_hand, atol=0.51)


def test_the_centre_of_mass_is_the_position_and_the_spread_the_width():
    rows = np.arange(102_400)
    factors = blobs(rows[::97]).factors
    inside = (factors[:, :2] > 18).all(axis=1) & (factors[:, :2] < 46).all(axis=1)
    found = blobs(rows[::97][inside])
    mass = found.image[:, 0] / found.image.sum(axis=(1, 2, 3), dtype=float)[:, None, None]
    centre = np.arange(64) + 0.5
    x, y = mass.sum(axis=1) @ centre, mass.sum(axis=2) @ centre
    np.testing.assert_allclose(np.stack([x, y], axis=1), found.factors[:, :2], atol=0.05)
    spread = np.sqrt((mass.sum(axis=1) * (centre - x[:, None]) ** 2).sum(axis=1))
    np.testing.assert_allclose(spread, found.factors[:, 2], rtol=0.06)  # the faint tail is rounded away
    assert len(found.image) > 100


def test_there_are_25_unlike_images_at_each_of_64_by_64_positions():
    found = blobs(np.arange(25) + 25 * (64 * 30 + 40))
    assert (found.factors[:, :2] == (30.5, 40.5)).all()
    assert len(np.unique(found.image.reshape(25, -1), axis=0)) == 25
    assert found.image.reshape(25, -1).argmax(axis=1).tolist() == [40 * 64 + 30] * 25
