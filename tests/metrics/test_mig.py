import numpy as np
import pytest
from codes import labelled
from sklearn.metrics import mutual_info_score

from copdvae.metrics.information import entropy
from copdvae.metrics.mig import mig, mig_interval


def test_mig_of_constant_perfect_and_duplicated_codes(rng):
    target, perfect, noise = labelled(rng, n=10_000)
    assert mig(np.zeros((10_000, 3)), target) == 0
    assert mig(np.hstack([perfect, noise]), target) > 0.97
    assert mig(np.hstack([perfect, perfect, noise]), target) == pytest.approx(0, abs=1e-12)


def test_mig_is_the_mean_of_each_factors_gap(rng):
    factors = rng.integers(0, 4, (2_000, 2))
    z = np.c_[factors[:, 0], factors[:, 0], factors[:, 1]]  # first factor twice, second once
    expected = (1 - mutual_info_score(factors[:, 0], factors[:, 1]) / entropy(factors[:, 1])) / 2
    assert mig(z, factors) == pytest.approx(expected)
    assert mig(z, np.c_[factors[:, 1], np.zeros(2_000)]) == pytest.approx(2 * expected)  # a fixed factor has no gap


def test_mig_ignores_order_scale_and_shift_of_latents(rng):
    target, perfect, noise = labelled(rng)
    z = np.hstack([perfect + rng.normal(size=perfect.shape), noise])
    once = mig(z, target)
    assert 0.05 < once < 0.9
    assert mig(64 - 4 * z[:, ::-1], target) == pytest.approx(once, abs=0.02)  # mirrored bins hold their other edge
    assert mig(64 + 4 * z[:, ::-1], target) == pytest.approx(once)


def test_interval_of_mig_holds_it_and_narrows_with_more_images(rng):
    found = []
    for n in (500, 8_000):
        target, perfect, noise = labelled(rng, n=n)
        z = np.hstack([perfect + rng.normal(size=perfect.shape), noise])
        found.append(mig_interval(z, target))
        assert found[-1].value == mig(z, target)
        assert found[-1].low < found[-1].value < found[-1].high
    assert found[1].high - found[1].low < 0.5 * (found[0].high - found[0].low)
    assert np.isnan(mig_interval(np.zeros((50, 2)), np.zeros(50)).value)
