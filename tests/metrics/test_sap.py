import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from copdvae.metrics.sap import continuous_sap, continuous_sap_interval, sap, sap_interval


@pytest.fixture
def rng():
    return np.random.default_rng(81)


def halves(*arrays):
    return [part for half in (slice(None, None, 2), slice(1, None, 2)) for part in (array[half] for array in arrays)]


def test_constant_perfect_and_duplicated_codes_of_two_classes(rng):
    """The second latent is right by chance, half of the time: a perfect code of two classes scores .5."""
    factors = rng.integers(0, 2, (2_000, 2))
    perfect = 2.0 * factors - 1
    assert sap(*halves(np.ones((2_000, 3)), factors)) == 0
    assert sap(*halves(perfect, factors)) == pytest.approx(0.5, abs=0.04)
    assert sap(*halves(np.hstack([perfect, perfect]), factors)) == 0


def test_permuting_latents_changes_nothing_and_a_factor_of_one_class_is_left_out(rng):
    factors = rng.integers(0, 3, (400, 2))
    z = factors @ rng.normal(size=(2, 3)) + rng.normal(size=(400, 3))
    once = sap(*halves(z, factors))
    assert sap(*halves(z[:, ::-1], factors)) == once
    assert sap(*halves(z, np.column_stack([factors, np.ones(400)]))) == once
    assert 0 < once < 1


def test_classifiers_see_training_images_alone(rng):
    factors = rng.integers(0, 2, (400, 1))
    z = np.hstack([2.0 * factors - 1, rng.normal(size=(400, 1))])
    train_z, train_factors, test_z, test_factors = halves(z, factors)
    assert sap(train_z, train_factors, test_z, test_factors) > 0.4
    told_wrong = sap(train_z, 1 - train_factors, test_z, test_factors)
    assert told_wrong == pytest.approx(np.mean((test_z[:, 1] > 0) != test_factors[:, 0]), abs=0.1), "the perfect latent is now always wrong"


def test_interval_of_test_images_holds_the_score(rng):
    factors = rng.integers(0, 2, (800, 2))
    z = 2.0 * factors - 1 + rng.normal(size=factors.shape)
    parts = halves(z, factors)
    value, low, high = sap_interval(*parts, draws=300)
    assert value == sap(*parts)
    assert low < value < high
    assert high - low < 0.15


def test_continuous_score_is_that_of_least_squares(rng):
    factors = rng.normal(size=(300, 2))
    z = factors @ rng.normal(size=(2, 4)) + rng.normal(size=(300, 4))
    told = [[LinearRegression().fit(z[:, [d]], f).score(z[:, [d]], f) for f in factors.T] for d in range(4)]
    best = np.sort(told, axis=0)
    assert continuous_sap(z, factors) == pytest.approx(np.mean(best[-1] - best[-2]))


def test_continuous_score_of_constant_perfect_and_duplicated_codes(rng):
    factors = rng.normal(size=(4_000, 2))
    assert continuous_sap(np.ones((4_000, 2)), factors) == 0
    assert continuous_sap(factors, factors) == pytest.approx(1, abs=0.01)
    assert continuous_sap(np.hstack([factors, factors]), factors) == pytest.approx(0, abs=1e-12)
    z = factors + rng.normal(size=factors.shape)
    assert continuous_sap(5 - 3 * z[:, ::-1], factors) == pytest.approx(continuous_sap(z, factors))


def test_continuous_interval_holds_the_score(rng):
    factors = rng.normal(size=(300, 2))
    z = factors + rng.normal(size=factors.shape)
    value, low, high = continuous_sap_interval(z, factors, draws=300)
    assert value == pytest.approx(continuous_sap(z, factors))
    assert low < value < high
