import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import entropy

from copdvae.metrics.dci import completeness, dci, disentanglement, informativeness_interval


@pytest.fixture
def rng():
    return np.random.default_rng(91)


def split(z, factors):
    return z[::2], factors[::2], z[1::2], factors[1::2]


def test_importances_with_known_scores():
    assert disentanglement(np.eye(3)) == completeness(np.eye(3)) == 1
    assert disentanglement(np.ones((3, 4))) == pytest.approx(0)
    assert completeness(np.ones((3, 4))) == pytest.approx(0)
    twice = np.vstack([np.eye(2), np.eye(2)])  # every latent has a copy
    assert disentanglement(twice) == 1
    assert completeness(twice) == pytest.approx(0.5)
    both = np.hstack([np.eye(2), np.eye(2)])  # every latent tells two factors
    assert disentanglement(both) == pytest.approx(0.5)
    assert completeness(both) == 1
    assert disentanglement(np.zeros((2, 3))) == completeness(np.zeros((2, 3))) == 0


@given(arrays(float, (4, 3), elements=st.floats(0.01, 1)))
def test_scores_are_weighted_entropies_by_scipy(importance):
    latent, factor = importance.sum(axis=1), importance.sum(axis=0)
    by_hand = np.average(1 - entropy(importance.T, base=3), weights=latent)
    assert disentanglement(importance) == pytest.approx(by_hand)
    assert completeness(importance) == pytest.approx(np.average(1 - entropy(importance, base=4), weights=factor))
    assert disentanglement(importance[::-1, ::-1]) == pytest.approx(by_hand)


def test_constant_perfect_and_duplicated_codes(rng):
    factors = rng.integers(0, 3, (600, 2))
    perfect = factors + 0.01 * rng.normal(size=factors.shape)
    found = dci(*split(perfect, factors))
    assert found[:4] == pytest.approx((1, 1, 1, 1), abs=0.02)
    constant = dci(*split(np.ones((600, 2)), factors))
    assert constant[:2] == (0, 0)
    assert constant.informativeness == pytest.approx(1 / 3, abs=0.08)
    doubled = dci(*split(np.hstack([perfect, perfect]), factors))
    assert doubled.disentanglement == pytest.approx(1, abs=0.02)
    assert doubled.informativeness == 1
    assert doubled.completeness < 0.95


def test_an_increasing_map_or_another_order_of_latents_changes_little(rng):
    factors = rng.integers(0, 3, (400, 2))
    z = factors @ [[1, 0.3, 0], [0, 1, 0.5]] + 0.3 * rng.normal(size=(400, 3))
    once = dci(*split(z, factors))
    assert 0.1 < once.disentanglement < 0.95
    assert dci(*split(np.exp(z), factors))[:4] == pytest.approx(once[:4], abs=0.03)
    assert dci(*split(z[:, ::-1], factors))[:4] == pytest.approx(once[:4], abs=0.03)


def test_labels_unrelated_to_the_image_are_told_on_training_images_alone(rng):
    factors = rng.integers(0, 3, (400, 2))
    found = dci(*split(rng.normal(size=(400, 3)), factors))
    assert found.informativeness == pytest.approx(1 / 3, abs=0.1)
    assert found.informativeness_train > 0.8


def test_interval_is_about_test_images_with_the_same_trees(rng):
    factors = rng.integers(0, 3, (600, 2))
    found = dci(*split(factors + 0.6 * rng.normal(size=factors.shape), factors))
    value, low, high = informativeness_interval(found)
    assert value == pytest.approx(found.informativeness)
    each = found.right.mean(axis=1)
    assert (low, high) == pytest.approx((value - 1.96 * each.std() / np.sqrt(300), value + 1.96 * each.std() / np.sqrt(300)), abs=0.01)


def test_same_seed_same_trees(rng):
    factors = rng.integers(0, 3, (200, 1))
    parts = split(factors + rng.normal(size=(200, 3)), factors)
    assert (dci(*parts, seed=3).importance == dci(*parts, seed=3).importance).all()
