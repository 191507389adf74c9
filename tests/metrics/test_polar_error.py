import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copdvae.metrics.polar_error import cartesian_error, cartesian_error_interval, polar_error, polar_error_interval


@pytest.fixture
def rng():
    return np.random.default_rng(51)


def grid(size=64):
    """Every position, corners included, and its angle and distance."""
    c = np.stack(np.meshgrid(np.arange(size + 1.0), np.arange(size + 1.0), indexing="ij"), axis=-1).reshape(-1, 2)
    return c, np.column_stack([np.arctan2(c[:, 1], c[:, 0]), np.hypot(*c.T)])


def test_the_position_itself_has_no_error_in_its_own_coordinates():
    c, polar = grid()
    assert polar_error(polar, c) == pytest.approx(0, abs=1e-3)  # B's 90.5 for 64 sqrt(2)
    assert cartesian_error(c, c) == 0
    small, small_polar = grid(16)
    assert cartesian_error(small, small, size=16) == 0
    assert polar_error(small_polar, small, size=16) == pytest.approx(0, abs=1e-3)
    assert polar_error(c, c) > 100
    assert cartesian_error(polar, c) > 100


@settings(deadline=None, max_examples=25)
@given(st.tuples(st.sampled_from([-1, 1]), st.floats(0.01, 50), st.floats(-9, 9)), st.booleans(), st.integers(0, 3))
def test_scale_shift_sign_and_place_of_latents_do_not_matter(linear, swap, spare):
    sign, scale, shift = linear
    c, polar = grid(8)
    z = polar * [sign * scale, 1] + [shift, -shift]
    z = np.column_stack([*(np.cos(c @ [k + 1, 3]) for k in range(spare)), *(z.T[::-1] if swap else z.T)])
    assert polar_error(z, c, size=8) == pytest.approx(polar_error(polar, c, size=8), abs=1e-9)


def test_a_nonlinear_map_of_the_distance_is_not_forgiven():
    c, polar = grid()
    assert polar_error(polar**2, c) > 20


def test_error_is_the_least_over_pairs_and_inversions_by_hand(rng):
    z, c = rng.normal(size=(40, 3)), rng.uniform(0, 64, (40, 2))
    unit = (z - z.min(axis=0)) / np.ptp(z, axis=0)
    polar, cartesian = [], []
    for i in range(3):
        for j in range(3):
            for a in (unit[:, i], 1 - unit[:, i]):
                for b in (unit[:, j], 1 - unit[:, j]):
                    if i != j:
                        angle, distance = a * np.pi / 2, b * 90.5
                        polar.append(np.mean((distance * np.cos(angle) - c[:, 0]) ** 2 + (distance * np.sin(angle) - c[:, 1]) ** 2))
                        cartesian.append(np.mean((64 * a - c[:, 0]) ** 2 + (64 * b - c[:, 1]) ** 2))
    assert polar_error(z, c) == pytest.approx(min(polar))
    assert cartesian_error(z, c) == pytest.approx(min(cartesian))


def test_a_constant_code_is_one_corner_of_the_canvas():
    c, _ = grid()
    corners = [np.mean(((c - corner) ** 2).sum(axis=1)) for corner in ([0, 0], [90.5, 0], [0, 90.5])]
    assert polar_error(np.ones((len(c), 2)), c) == pytest.approx(min(corners))


def test_interval_is_a_percentile_bootstrap_of_images(rng):
    c, polar = grid(16)
    z = polar + 0.1 * rng.normal(size=polar.shape) * polar.std(axis=0)
    for error, interval, code in ((polar_error, polar_error_interval, z), (cartesian_error, cartesian_error_interval, c + z)):
        value, low, high = interval(code, c, size=16)
        assert value == error(code, c, size=16)
        assert low < value < high
        assert high - low < value
