import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from copdvae.metrics.label_error import label_error, label_error_interval


@pytest.fixture
def rng():
    return np.random.default_rng(41)


def test_error_is_the_mean_distance_counted_by_hand():
    assert label_error([[0, 0], [1, 1]], [[3, 4], [1, 1]]) == 2.5
    assert label_error([0.0, 2, 5], [1.0, 0, 5]) == 1


def test_a_perfect_code_has_none_and_a_constant_one_the_distance_to_a_point(rng):
    labels = rng.normal(size=(300, 3))
    assert label_error(labels, labels) == 0
    assert label_error(np.zeros((300, 3)), labels) == pytest.approx(np.sqrt((labels**2).sum(axis=1)).mean())


@given(st.floats(0.1, 10), st.permutations([0, 1, 2]))
def test_only_a_common_order_of_labels_changes_nothing_and_a_common_unit_multiplies(unit, order):
    rng = np.random.default_rng(0)
    inferred, labels = rng.normal(size=(2, 20, 3))
    once = label_error(inferred, labels)
    assert label_error(inferred[:, order], labels[:, order]) == pytest.approx(once)
    assert label_error(unit * inferred, unit * labels) == pytest.approx(unit * once)
    assert label_error(inferred + 3, labels) > once


def test_labels_unrelated_to_the_image_score_as_a_permutation_does(rng):
    labels = rng.normal(size=(5_000, 2))
    told = label_error(labels + 0.1 * rng.normal(size=labels.shape), labels)
    unrelated = label_error(rng.permutation(labels), labels)
    assert unrelated == pytest.approx(np.sqrt(np.pi), rel=0.03)  # E|a - b| of two-dimensional normals: sqrt(2) sqrt(pi / 2)
    assert told == pytest.approx(0.1 * np.sqrt(np.pi / 2), rel=0.03)


def test_interval_is_a_percentile_bootstrap_of_images_and_leaves_out_missing_labels(rng):
    inferred, labels = rng.normal(size=(2, 400, 2))
    value, low, high = label_error_interval(inferred, labels)
    distance = np.linalg.norm(inferred - labels, axis=1)
    assert value == pytest.approx(distance.mean())
    assert (low, high) == pytest.approx((value - 1.96 * distance.std() / 20, value + 1.96 * distance.std() / 20), abs=0.02)
    labels = np.append(labels, [[np.nan, 0]], axis=0)
    assert label_error_interval(np.append(inferred, [[9, 9]], axis=0), labels) == (value, low, high)
