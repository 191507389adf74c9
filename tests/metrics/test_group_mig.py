import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from copdvae.metrics.group_mig import group_mig, group_mig_interval
from copdvae.metrics.information import entropy

LATENT_GROUPS, FACTOR_GROUPS = ["c", "c", "s", "s"], ["c", "c", "s"]


@pytest.fixture
def rng():
    return np.random.default_rng(12)


def made(rng, n=6_000):
    """Factors (n, 3) and a code whose first two latents tell the first two and whose third tells the third."""
    factors = rng.integers(0, 5, (n, 3))
    return factors, np.c_[factors, rng.normal(size=n)].astype(float)


def test_constant_perfect_and_swapped_codes_score_zero_one_and_minus_one(rng):
    factors, z = made(rng)
    assert group_mig(np.zeros_like(z), factors, LATENT_GROUPS, FACTOR_GROUPS) == 0
    assert group_mig(z, factors, LATENT_GROUPS, FACTOR_GROUPS) == pytest.approx(1, abs=0.02)
    assert group_mig(z[:, [2, 3, 0, 1]], factors, LATENT_GROUPS, FACTOR_GROUPS) == pytest.approx(-1, abs=0.02)


def test_a_copy_in_the_own_group_costs_nothing_and_one_across_all(rng):
    factors, z = made(rng)
    within = np.c_[z[:, 0], z[:, 0], z[:, 2], z[:, 2]]
    across = np.c_[z[:, 0], z[:, 2], z[:, 2], z[:, 0]]
    one, two = factors[:, [0, 2]], ["c", "s"]
    assert group_mig(within, one, LATENT_GROUPS, two) == pytest.approx(1, abs=0.02)
    assert group_mig(across, one, LATENT_GROUPS, two) == pytest.approx(0, abs=1e-12)


def test_group_mig_is_the_papers_sum_by_hand(rng):
    factors, z = made(rng, 400)
    z = z + rng.normal(size=z.shape)
    codes = [np.digitize(column, np.histogram(column, 20)[1][:-1]) for column in z.T]
    told = np.array([[mutual_info_score(code, factor) / entropy(factor) for factor in factors.T] for code in codes])
    by_hand = np.mean([max(told[:2, 0]) - max(told[2:, 0]), max(told[:2, 1]) - max(told[2:, 1]), max(told[2:, 2]) - max(told[:2, 2])])
    assert group_mig(z, factors, LATENT_GROUPS, FACTOR_GROUPS) == pytest.approx(by_hand)


def test_order_within_a_group_and_scale_do_not_matter(rng):
    factors, z = made(rng, 400)
    z = z + rng.normal(size=z.shape)
    once = group_mig(z, factors, LATENT_GROUPS, FACTOR_GROUPS)
    assert group_mig(8 * z[:, [1, 0, 3, 2]] + 2, factors, LATENT_GROUPS, FACTOR_GROUPS) == pytest.approx(once)
    assert group_mig(z[:, [1, 2, 0, 3]], factors, ["c", "s", "c", "s"], FACTOR_GROUPS) == pytest.approx(once)


def test_interval_is_a_jackknife_that_holds_the_score(rng):
    factors, z = made(rng, 800)
    z = z + rng.normal(size=z.shape)
    value, low, high = group_mig_interval(z, factors, LATENT_GROUPS, FACTOR_GROUPS)
    assert value == group_mig(z, factors, LATENT_GROUPS, FACTOR_GROUPS)
    assert low < value < high
    missing = np.r_[factors.astype(float), [[np.nan, 1, 2]]]
    assert group_mig_interval(np.r_[z, z[:1]], missing, LATENT_GROUPS, FACTOR_GROUPS).value == value


def test_what_does_not_vary_is_left_out_and_an_empty_side_tells_nothing(rng):
    factors, z = made(rng, 3_000)
    fixed = np.c_[factors, np.ones(3_000)]
    assert group_mig(z, fixed, LATENT_GROUPS, [*FACTOR_GROUPS, "s"]) == group_mig(z, factors, LATENT_GROUPS, FACTOR_GROUPS)
    assert np.isnan(group_mig(z, np.ones(3_000), LATENT_GROUPS, ["c"]))
    assert group_mig(z, factors[:, :1], ["c"] * 4, ["c"]) == pytest.approx(1)
