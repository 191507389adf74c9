import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from copdvae.errors import CopdvaeError
from copdvae.prepare.grid import MARGIN_MM, axis_weights, to_grid

SPACING = (2.5, 1.0, 0.8)


def two_lungs(spacing=SPACING, shape=(60, 120, 200)):
    """Ellipsoids of -860 HU in tissue of 40 HU: volume, labels; the right one (1) is at low x."""
    z, y, x = (np.arange(n) * h - (n - 1) * h / 2 for n, h in zip(shape, spacing, strict=True))
    labels = np.zeros(shape, np.uint8)
    for label, centre in ((1, -38), (2, 38)):
        labels[(z[:, None, None] / 60) ** 2 + (y[:, None] / 45) ** 2 + ((x - centre) / 32) ** 2 < 1] = label
    return np.where(labels > 0, -860, 40).astype(np.float32), labels


def everywhere(shape):
    return np.ones(shape, np.uint8)


def litres(labels, *sides):
    return np.isin(labels, (1, 2)).sum() * np.prod(sides) / 1e6


def test_a_checkerboard_finer_than_the_grid_averages_out():
    shape = (40, 80, 80)
    board = np.indices(shape).sum(axis=0) % 2
    scan = to_grid(np.where(board, -1000, -600).astype(np.float32), everywhere(shape), (2.0, 1.0, 1.0), 16)
    inside = scan.image[2:-2, 2:-2, 2:-2]
    assert np.abs(inside + 800).max() <= 8  # nearest or linear sampling would give -1000 or -600 in places


def test_the_mean_density_of_the_box_and_of_the_lungs_is_kept():
    """The oracle for the box is the mean of the CT's own voxels in it, each counted by the part of it that lies inside."""
    rng = np.random.default_rng(0)
    hu, labels = two_lungs()
    hu += rng.normal(0, 60, hu.shape).astype(np.float32)
    scan = to_grid(hu, labels, SPACING, 32)

    parts = []
    for n, h, start in zip(hu.shape, SPACING, scan.box["origin_mm"], strict=True):
        low, high = np.arange(n) * h, np.arange(1, n + 1) * h
        parts.append((np.minimum(high, start + scan.box["side_mm"]) - np.maximum(low, start)).clip(0))
    covered = np.einsum("z,y,x->", *parts)
    inside = np.einsum("zyx,z,y,x->", hu.astype(float), *parts)
    expected = (inside - 1024 * (scan.box["side_mm"] ** 3 - covered)) / scan.box["side_mm"] ** 3
    assert scan.image.mean() == pytest.approx(expected, abs=1)

    core = ndimage.binary_erosion(scan.lung > 0, iterations=2)  # off the border, where tissue is mixed in by right
    assert scan.image[core].mean() == pytest.approx(-860, abs=1)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_lung_volume_and_sides_are_kept(size):
    hu, labels = two_lungs()
    scan = to_grid(hu, labels, SPACING, size)
    for label in (1, 2):
        before, after = litres(labels == label, *SPACING), litres(scan.lung == label, *[scan.box["voxel_mm"]] * 3)
        assert after == pytest.approx(before, rel=0.02)
    x = np.indices(scan.lung.shape)[2]
    assert x[scan.lung == 1].mean() < size / 2 - 0.5 < x[scan.lung == 2].mean()


def test_the_box_is_a_cube_around_the_lungs_and_says_where():
    hu, labels = two_lungs()
    scan = to_grid(hu, labels, SPACING, 48)
    bounds = [(np.flatnonzero(line)[[0, -1]] + [0, 1]) for line in (labels.any((1, 2)), labels.any((0, 2)), labels.any((0, 1)))]
    assert scan.box["lung_voxels"] == [int(end) for pair in bounds for end in pair]
    longest = max((last - first) * h for (first, last), h in zip(bounds, SPACING, strict=True))
    assert scan.box["side_mm"] == pytest.approx(longest + 2 * MARGIN_MM)
    assert scan.box["voxel_mm"] * 48 == pytest.approx(scan.box["side_mm"])
    for corner, (first, last), h in zip(scan.box["origin_mm"], bounds, SPACING, strict=True):
        assert corner + scan.box["side_mm"] / 2 == pytest.approx((first + last) * h / 2, abs=1e-3)


def test_a_point_lands_where_the_box_says():
    hu, labels = two_lungs()
    hu[:] = 0
    hu[20:23, 40:44, 60:65] = 3000
    scan = to_grid(hu, labels, SPACING, 64)
    found = np.array([np.average(axis, weights=scan.image.clip(0)) for axis in np.indices(scan.image.shape)])
    truth = np.array([21.5, 42, 62.5]) * SPACING  # mm from the first voxel's corner
    np.testing.assert_allclose((found + 0.5) * scan.box["voxel_mm"] + scan.box["origin_mm"], truth, atol=0.5)


def test_labels_land_where_the_image_shows_them():
    """At 16 voxels a side the labels are read from every second to sixth voxel: half a step off would be 2 mm."""
    hu, labels = two_lungs()
    scan = to_grid(hu, labels, SPACING, 16)
    for label in (1, 2):
        truth = [(axis[labels == label].mean() + 0.5) * gap for axis, gap in zip(np.indices(labels.shape), SPACING, strict=True)]
        found = np.array([axis[scan.lung == label].mean() + 0.5 for axis in np.indices(scan.lung.shape)])
        np.testing.assert_allclose(found * scan.box["voxel_mm"] + scan.box["origin_mm"], truth, atol=0.8)


@pytest.mark.parametrize("size", [16, 48])
def test_image_and_labels_are_those_of_all_weights_multiplied_out(size):
    """The oracle multiplies whole matrices in double precision; it takes every voxel where the labels are not read in steps."""
    rng = np.random.default_rng(1)
    hu, labels = two_lungs((3.0, 3.0, 3.0), (50, 50, 70))
    hu += rng.normal(0, 200, hu.shape).astype(np.float32)
    labels[20:40, 22:28, 30:40] = 3
    scan = to_grid(hu, labels, (3.0, 3.0, 3.0), size)
    steps = max(1, round(scan.box["voxel_mm"] / 3 / 2))

    def multiplied(values, step):
        mean = values.astype(float)
        for axis, start in enumerate(scan.box["origin_mm"]):
            first, weights = axis_weights(values.shape[axis], 3.0 * step, start + (step - 1) / 2 * 3.0, scan.box["side_mm"], size)
            whole = np.zeros((size, values.shape[axis]))
            whole[:, first : first + weights.shape[1]] = weights
            mean = np.moveaxis(np.tensordot(whole, mean, (1, axis)), 0, axis)
        return mean

    expected = multiplied(hu, 1) - 1024 * (1 - multiplied(np.ones_like(hu), 1))
    assert np.abs(scan.image - expected.clip(-1024, 3071)).max() <= 0.501
    samples = labels[::steps, ::steps, ::steps]
    shares = np.stack([multiplied(samples == label, steps) for label in (1, 2, 3)])
    shares = np.stack([1 - shares.sum(axis=0), *shares])
    second, first = np.sort(shares, axis=0)[-2:]
    clear = first - second > 1e-5  # ties may go either way
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(scan.lung[clear], np.argmax(shares, axis=0)[clear])
    assert set(np.unique(scan.lung)) == {0, 1, 2, 3}


def test_size_is_hidden_in_the_image_and_kept_in_the_box():
    hu, labels = two_lungs()
    small, large = to_grid(hu, labels, SPACING, 32), to_grid(hu, labels, tuple(1.3 * h for h in SPACING), 32)
    # The margin is the same 5 mm for both, so the images differ by a hair only; the side does not.
    assert np.abs(small.image.astype(int) - large.image).mean() < 40
    assert large.box["side_mm"] - 2 * MARGIN_MM == pytest.approx(1.3 * (small.box["side_mm"] - 2 * MARGIN_MM))


def test_beyond_the_scan_there_is_air_and_inside_what_it_shows():
    hu = np.full((20, 60, 60), 100, np.float32)
    labels = np.zeros(hu.shape, np.uint8)
    labels[:, 20:40, 5:55] = 1
    scan = to_grid(hu, labels, (1.0, 1.0, 1.0), 60)
    assert scan.image.shape == (60, 60, 60)
    assert set(np.unique(scan.image[:19])) == set(np.unique(scan.image[-19:])) == {-1024}
    assert (scan.image[25:35] == 100).all()
    assert (scan.lung[:19] == 0).all()


def test_only_the_lungs_set_the_box_and_airways_keep_their_label():
    hu, labels = two_lungs()
    with_trachea = labels.copy()
    with_trachea[55:, 55:65, 95:105] = 3
    with_trachea[20:40, 50:70, 92:108] = 3
    scan = to_grid(hu, with_trachea, SPACING, 32)
    assert scan.box["lung_voxels"][:2] == to_grid(hu, labels, SPACING, 32).box["lung_voxels"][:2]
    assert set(np.unique(scan.lung)) == {0, 1, 2, 3}


def test_hu_are_rounded_and_clipped_to_12_bits():
    hu = np.full((40, 40, 40), 20000, np.float32)
    hu[:20] = -500.6
    image = to_grid(hu, everywhere(hu.shape), (1.0, 1.0, 1.0), 40).image
    assert image.dtype == np.int16
    assert image.max() == 3071
    assert -501 in image


@pytest.mark.parametrize("value", [0, 3])
def test_without_lungs_there_is_nothing_to_cut(value):
    with pytest.raises(CopdvaeError, match="no voxel is labelled as lung"):
        to_grid(np.zeros((8, 8, 8), np.float32), np.full((8, 8, 8), value, np.uint8), (1.0, 1.0, 1.0), 8)


@given(n=st.integers(1, 12), gap=st.floats(0.5, 5), start=st.floats(-20, 20), side=st.floats(5, 60), size=st.integers(1, 9))
@settings(max_examples=80, deadline=None)
def test_weights_are_the_mean_of_the_line_through_the_voxel_centres(n, gap, start, side, size):
    """The oracle draws the line with numpy.interp (flat beyond the outermost centres) and sums it finely."""
    first, weights = axis_weights(n, gap, start, side, size)
    values = np.random.default_rng(n).normal(size=n)
    fine = 4000
    places = start + side / size / fine * (np.arange(size * fine) + 0.5)
    line = np.interp(places / gap - 0.5, np.arange(n), values) * ((places >= 0) & (places <= n * gap))
    expected = line.reshape(size, fine).mean(axis=1)
    np.testing.assert_allclose(weights @ values[first : first + weights.shape[1]], expected, atol=2e-3)
