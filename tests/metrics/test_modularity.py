import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from copdvae.metrics.modularity import modularity, modularity_interval


@pytest.fixture
def rng():
    return np.random.default_rng(71)


def test_constant_perfect_duplicated_and_mixed_codes(rng):
    factors = rng.integers(0, 4, (4_000, 2))
    perfect = factors.astype(float)
    assert modularity(np.zeros((4_000, 3)), factors) == 0
    assert modularity(perfect, factors) == pytest.approx(1, abs=1e-4)
    assert modularity(np.hstack([perfect, perfect]), factors) == pytest.approx(1, abs=1e-4)
    mixed = perfect @ [[1.0], [4.0]]  # one latent that tells both factors alike
    assert modularity(mixed, factors) == pytest.approx(0, abs=0.02)
    assert modularity(np.hstack([perfect, np.ones((4_000, 1))]), factors) == pytest.approx(2 / 3, abs=1e-4), "a dead latent counts as 0"


def test_modularity_is_the_papers_sum_by_hand(rng):
    factors = rng.integers(0, 3, (500, 3))
    z = factors @ rng.normal(size=(3, 4)) + 0.3 * rng.normal(size=(500, 4))
    codes = [np.digitize(column, np.histogram(column, 20)[1][:-1]) for column in z.T]
    by_hand = []
    for code in codes:
        told = np.array([mutual_info_score(code, factor) for factor in factors.T])
        template = np.where(told == told.max(), told, 0)
        by_hand.append(1 - np.sum((told - template) ** 2) / (told.max() ** 2 * 2))
    assert modularity(z, factors) == pytest.approx(np.mean(by_hand))


def test_order_scale_and_shift_do_not_matter_and_one_factor_has_none(rng):
    factors = rng.integers(0, 3, (500, 2))
    z = factors @ rng.normal(size=(2, 3)) + rng.normal(size=(500, 3))
    assert modularity(z[:, ::-1] * 4 + 8, factors) == pytest.approx(modularity(z, factors))
    assert np.isnan(modularity(z, factors[:, 0]))
    assert modularity(z, np.column_stack([factors, np.ones(500)])) == modularity(z, factors)


def test_interval_is_a_jackknife_that_holds_the_score(rng):
    factors = rng.integers(0, 3, (600, 2))
    z = factors @ [[1, 0.4], [0.2, 1]] + 0.3 * rng.normal(size=(600, 2))
    value, low, high = modularity_interval(z, factors)
    assert value == modularity(z, factors)
    assert low < value < high
