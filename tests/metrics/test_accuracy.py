import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from copdvae.metrics.accuracy import accuracy, matched, matched_accuracy
from copdvae.metrics.bootstrap import percentile_interval


@pytest.fixture
def rng():
    return np.random.default_rng(61)


def test_accuracy_is_the_share_that_agrees():
    assert accuracy([0, 1, 2, 2], [0, 1, 2, 0]) == 0.75
    assert accuracy([0, 1, np.nan, 2], [0, 0, 1, np.nan]) == 0.5
    assert accuracy([[0, 1], [1, 1]], [[0, 1], [0, 1]]).tolist() == [1, 0.5]


def test_perfect_constant_and_unrelated_classes(rng):
    truth = rng.integers(0, 10, 20_000)
    assert accuracy(truth, truth) == 1
    assert accuracy(truth, np.zeros(20_000)) == np.mean(truth == 0)
    unrelated = rng.integers(0, 10, 20_000)
    assert accuracy(truth, unrelated) == pytest.approx(0.1, abs=0.01)
    assert 0.1 <= matched_accuracy(truth, unrelated) < 0.12


@given(st.permutations(range(5)))
def test_matching_undoes_any_renaming(order):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 300)
    predicted = np.where(rng.random(300) < 0.8, truth, rng.integers(0, 5, 300))
    assert matched_accuracy(truth, np.array(order)[predicted]) == matched_accuracy(truth, predicted) == accuracy(truth, predicted)


def test_matching_is_one_to_one_and_spare_classes_are_wrong():
    truth = np.array([0, 0, 0, 0, 1, 1])
    assert matched_accuracy(truth, [5, 5, 5, 6, 7, 7]) == 5 / 6
    assert matched_accuracy(truth, [5, 5, 5, 5, 5, 5]) == 4 / 6
    named = matched([0, 0, 0, 0, 1, np.nan], [5, 5, 5, 6, 7, np.nan])
    assert named[[0, 4]].tolist() == [0, 1]
    assert named[3] < 0
    assert np.isnan(named[5])


def test_percentile_interval_is_the_binomial_one(rng):
    truth = rng.integers(0, 4, 1_000)
    predicted = np.where(rng.random(1_000) < 0.7, truth, truth + 1)
    value, low, high = percentile_interval(accuracy, truth, predicted)
    half = 1.96 * np.sqrt(value * (1 - value) / 1_000)
    assert (low, high) == pytest.approx((value - half, value + half), abs=0.005)
