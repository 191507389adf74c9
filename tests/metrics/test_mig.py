import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from copdvae.metrics.mig import (
    bins_for,
    cut_at_deciles,
    entropy,
    equal_width,
    grouped_mig,
    grouped_mig_interval,
    mig,
    mutual_information,
    rank_latents,
)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def labelled(rng, n=540, classes=6, nuisance=8):
    """Labels, a perfect code of them, and `nuisance` codes that know nothing."""
    target = rng.integers(0, classes, n)
    return target, target[:, None].astype(float), rng.normal(size=(n, nuisance))


def test_entropy_and_information_of_known_tables():
    assert entropy([0, 0, 1, 1]) == pytest.approx(np.log(2))
    assert entropy([7, 7, 7]) == 0
    assert mutual_information([0, 0, 1, 1], [5, 5, 9, 9]) == pytest.approx(np.log(2))
    assert mutual_information([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(0)
    assert mutual_information([0, 0, 0, 1], [0, 0, 1, 1]) == pytest.approx(
        np.log(4) - 0.75 * np.log(3) + 0.5 * np.log(2) - 0.5 * np.log(2) - np.log(2) / 2
    )


def test_information_agrees_with_scikit_learn(rng):
    a = rng.integers(0, 7, 400)
    b = np.where(rng.random(400) < 0.5, a, rng.integers(0, 7, 400))
    assert mutual_information(a, b) == pytest.approx(mutual_info_score(a, b))


def test_bins_are_of_equal_width_from_lowest_to_highest():
    assert equal_width([0.0, 0.24, 0.26, 0.5, 0.99, 1.0], 4).ravel().tolist() == [0, 0, 1, 2, 3, 3]
    assert equal_width([3.0, 3.0], 20).ravel().tolist() == [0, 0]


def test_bins_are_at_most_a_fifteenth_of_the_subjects():
    assert bins_for(10_000, 1) == 20
    assert bins_for(150, 1) == 10
    assert bins_for(375, 2) == 5
    assert bins_for(540, 2) ** 2 <= 540 / 15
    assert bins_for(10, 3) == 2


def test_a_continuous_target_is_cut_at_the_deciles_of_training(rng):
    training = np.arange(1000.0)
    assert np.bincount(cut_at_deciles(training, training).astype(int)).tolist() == [100] * 10
    assert cut_at_deciles([-5, 99, 100, 5000, np.nan], training)[:4].tolist() == [0, 0, 1, 9]
    assert np.isnan(cut_at_deciles([np.nan], training)[0])
    many_zeros = np.r_[np.zeros(500), np.arange(1, 501)]
    assert len(np.unique(cut_at_deciles(many_zeros, many_zeros))) < 10


@pytest.mark.parametrize(("n", "both", "one"), [(10_000, 0.049, 0.004), (2_500, 0.169, 0.015), (500, 0.538, 0.077)])
def test_plain_information_of_independent_codes_is_biased_as_measured(n, both, one, rng):
    found = []
    for _ in range(10):
        z, target = rng.normal(size=(n, 2)), np.arange(n) % 10
        codes = equal_width(z, 20)
        found.append([mutual_information(codes[:, 0] * 20 + codes[:, 1], target), mutual_information(codes[:, 0], target)])
    assert np.mean(found, axis=0) / np.log(10) == pytest.approx([both, one], rel=0.15)


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


@pytest.mark.parametrize("adjusted", [False, True])
def test_grouped_mig_of_constant_perfect_and_duplicated_codes(adjusted, rng):
    target, perfect, noise = labelled(rng, n=3_000)
    u = perfect
    assert grouped_mig(np.zeros_like(u), np.zeros_like(noise), target, adjusted=adjusted) == pytest.approx(0, abs=1e-12)
    assert grouped_mig(u, noise, target, adjusted=adjusted) == pytest.approx(1, abs=0.03)
    assert grouped_mig(u, np.hstack([noise, perfect]), target, adjusted=adjusted) == pytest.approx(0, abs=1e-12)
    assert grouped_mig(noise[:, :1], perfect, target, adjusted=adjusted) < -0.95


@pytest.mark.parametrize("adjusted", [False, True])
def test_grouped_mig_ignores_order_scale_and_shift_of_latents(adjusted, rng):
    target, perfect, noise = labelled(rng)
    u = perfect + rng.normal(size=perfect.shape)
    once = grouped_mig(u, noise, target, adjusted=adjusted)
    assert grouped_mig(4 * u + 64, noise[:, ::-1] * 0.5, target, adjusted=adjusted) == pytest.approx(once)
    assert 0.1 < once < 0.8
    order = rng.permutation(len(u))
    assert grouped_mig(u[order], noise[order], target[order], adjusted=False) == pytest.approx(
        grouped_mig(u, noise, target, adjusted=False)
    )


def test_plain_grouped_mig_is_equation_8_by_hand(rng):
    target, perfect, noise = labelled(rng, n=900)
    u = perfect + rng.normal(size=(900, 2))
    codes = equal_width(u, bins_for(900, 2))
    of_v = max(mutual_info_score(column, target) for column in equal_width(noise, 20).T)
    expected = (mutual_info_score(codes[:, 0] * 100 + codes[:, 1], target) - of_v) / entropy(target)
    assert grouped_mig(u, noise, target, adjusted=False) == pytest.approx(expected)


@pytest.mark.parametrize(("d_u", "d_v", "plain_is"), [(1, 0, "positive"), (2, 0, "positive"), (0, 8, "negative"), (2, 8, "either")])
def test_adjusted_grouped_mig_of_independent_codes_is_zero_on_average(d_u, d_v, plain_is, rng):
    """A spread of .02 over 40 studies: the mean's standard error is about .003. No dimension: a constant code."""
    found, plain = [], []
    for trial in range(40):
        u, v, target = rng.normal(size=(500, d_u)), rng.normal(size=(500, d_v)), np.arange(500) % 10
        u, v = u if d_u else np.zeros((500, 1)), v if d_v else np.zeros((500, 1))
        found.append(grouped_mig(u, v, target, seed=trial))
        plain.append(grouped_mig(u, v, target, adjusted=False))
    assert np.mean(found) == pytest.approx(0, abs=0.012)
    assert plain_is == "either" or {"positive": 1, "negative": -1}[plain_is] * np.mean(plain) > 0.05


def test_adjusting_by_permutation_leaves_a_good_code_good(rng):
    """Subtracting chance without dividing by what is left would turn a good code on few subjects into a poor one."""
    target, perfect, noise = labelled(rng, n=300, classes=10)
    assert grouped_mig(perfect, noise, target) == pytest.approx(1, abs=0.08)


def test_grouped_mig_leaves_out_subjects_without_a_target_and_an_empty_v(rng):
    target, perfect, noise = labelled(rng, n=400)
    missing = np.r_[target.astype(float), [np.nan] * 50]
    more = rng.normal(size=(50, 1))
    assert grouped_mig(np.r_[perfect, more], np.r_[noise, rng.normal(size=(50, 8))], missing) == grouped_mig(perfect, noise, target)
    assert grouped_mig(perfect, np.empty((400, 0)), target) == pytest.approx(1)
    assert np.isnan(grouped_mig(perfect, noise, np.zeros(400)))


def test_interval_holds_the_estimate_and_its_width_is_the_spread_over_studies(rng):
    found = []
    for trial in range(30):
        target, perfect, noise = labelled(rng)
        found.append(grouped_mig_interval(perfect + rng.normal(size=perfect.shape), noise, target, permutations=20, seed=trial))
    values, low, high = np.array(found).T
    assert ((low < values) & (values < high)).all()
    assert np.mean(high - low) / 2 / 2.09 == pytest.approx(values.std(), rel=0.6)
    assert found[0].value == pytest.approx(np.mean(values), abs=0.15)


def test_same_seed_same_score(rng):
    target, perfect, noise = labelled(rng)
    u = perfect + rng.normal(size=perfect.shape)
    assert grouped_mig_interval(u, noise, target, seed=4) == grouped_mig_interval(u, noise, target, seed=4)
    assert grouped_mig_interval(u, noise, target, seed=4).value == grouped_mig(u, noise, target, seed=4)


def test_latents_are_ranked_by_what_they_tell_of_the_target(rng):
    target = rng.integers(0, 6, 600).astype(float)
    z = np.c_[rng.normal(size=600), np.full(600, 2.0), target + rng.normal(size=600), target, -target + 3 * rng.normal(size=600)]
    target[:10] = np.nan
    assert rank_latents(z, target).tolist()[:3] == [3, 2, 4]
    assert rank_latents(z, target).tolist()[-1] == 1
