import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from copdvae.metrics.bootstrap import jackknife_interval, mean_over_seeds, paired_difference, percentile_interval, resamples
from copdvae.metrics.information import entropy
from copdvae.metrics.neighbours import mae, r2


def mean(x):
    return x.mean(axis=-1)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_interval_of_a_mean_is_the_textbook_one(rng):
    x = rng.normal(size=400)
    value, low, high = percentile_interval(mean, x, draws=20_000)
    half = norm.ppf(0.975) * x.std() / 20
    assert value == x.mean()
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.05 * half)


def test_ninety_five_intervals_in_a_hundred_hold_the_truth(rng):
    """R2 of truth plus equal noise is 1 - var(noise) / var(truth) = .75; the share of 400 has a standard error of .011."""
    held = 0
    for trial in range(400):
        truth = rng.normal(size=150)
        _, low, high = percentile_interval(r2, truth, truth + 0.5 * rng.normal(size=150), draws=300, seed=trial)
        held += low <= 0.75 <= high
    assert 0.91 <= held / 400 <= 0.98


def test_same_seed_same_interval_other_seed_another(rng):
    truth = rng.normal(size=80)
    predicted = truth + rng.normal(size=80)
    assert percentile_interval(r2, truth, predicted, seed=1) == percentile_interval(r2, truth, predicted, seed=1)
    assert percentile_interval(r2, truth, predicted, seed=1) != percentile_interval(r2, truth, predicted, seed=2)


def test_resamples_cover_every_subject_evenly_and_add_up_to_the_draws():
    parts = list(resamples(500, 2000, seed=0))
    index = np.concatenate(parts)
    assert index.shape == (2000, 500)
    assert len(parts) > 1
    assert len({row.tobytes() for row in index}) == 2000
    counts = np.bincount(index.ravel(), minlength=500)
    assert counts.shape == (500,)
    assert abs(counts - 2000).max() < 6 * np.sqrt(2000)


def test_rows_are_resampled_together(rng):
    truth = rng.normal(size=60)
    value, low, high = percentile_interval(r2, truth, truth)
    assert value == low == high == 1


def test_a_subject_without_a_truth_takes_no_part(rng):
    truth, predicted = rng.normal(size=50), rng.normal(size=50)
    alone = percentile_interval(mae, truth, predicted)
    assert percentile_interval(mae, np.append(truth, np.nan), np.append(predicted, 1e6)) == alone


def test_paired_difference_is_narrower_than_unpaired_and_zero_against_itself(rng):
    truth = rng.normal(size=200)
    noise = rng.normal(size=200)
    ours, theirs = truth + noise, truth + noise + 0.3 * rng.normal(size=200)
    assert paired_difference(r2, truth, ours, ours) == (0, 0, 0)
    value, low, high = paired_difference(r2, truth, ours, theirs)
    assert value == pytest.approx(r2(truth, ours) - r2(truth, theirs))
    assert low < value < high
    _, one_low, one_high = percentile_interval(r2, truth, ours)
    assert high - low < 0.5 * (one_high - one_low)


def test_paired_difference_changes_sign_with_the_order(rng):
    truth = rng.normal(size=100)
    a, b = truth + rng.normal(size=100), truth + 2 * rng.normal(size=100)
    value, low, high = paired_difference(r2, truth, a, b)
    assert paired_difference(r2, truth, b, a) == pytest.approx((-value, -high, -low))


def test_seeds_are_averaged_on_the_same_resamples(rng):
    truth = rng.normal(size=100)
    predicted = truth[:, None] + rng.normal(size=(100, 3))
    value, low, high = mean_over_seeds(mae, truth, predicted)
    assert value == pytest.approx(np.abs(predicted - truth[:, None]).mean())
    by_subject = np.abs(predicted - truth[:, None]).mean(axis=1)
    assert (low, high) == pytest.approx(percentile_interval(mean, by_subject)[1:])
    constant = np.zeros(100)
    difference = paired_difference(mae, truth, predicted, constant)
    assert difference.value == pytest.approx(value - mae(truth, constant))


def test_an_undefined_score_has_no_interval():
    value, low, high = percentile_interval(r2, np.ones(20), np.zeros(20))
    assert np.isnan([value, low, high]).all()
    assert np.isnan(percentile_interval(mae, [], [])).all()


def test_jackknife_of_a_mean_is_the_textbook_one(rng):
    """With one subject a block the jackknife error of a mean is exactly s / sqrt(n)."""
    x = rng.normal(size=40)
    value, low, high = jackknife_interval(mean, x, blocks=20)
    alone = jackknife_interval(mean, np.repeat(x[:20], 2), blocks=20)
    assert value == x.mean()
    assert low < value < high
    assert alone.high - alone.low > 0
    halves = []
    for trial in range(200):
        x = rng.normal(size=400)
        _, low, high = jackknife_interval(mean, x, seed=trial)
        halves.append((high - low) / 2)
    assert np.mean(halves) == pytest.approx(student.ppf(0.975, 19) / 20, rel=0.05)


def test_jackknife_needs_two_subjects_a_block():
    value, low, high = jackknife_interval(mean, np.arange(39.0))
    assert value == 19
    assert np.isnan([low, high]).all()


def test_percentile_bootstrap_of_information_misses_its_own_estimate_and_the_jackknife_does_not(rng):
    labels = rng.permutation(300)  # every subject its own class: a resample repeats some, and entropy can only fall

    def entropies(x):
        return np.array([entropy(row) for row in np.atleast_2d(x)]).squeeze()

    value, _, high = percentile_interval(entropies, labels, draws=100)
    assert high < value
    value, low, high = jackknife_interval(entropy, labels)
    assert low <= value <= high


def test_two_thousand_draws_of_a_cohort_are_scored_in_few_calls(rng):
    """A call a draw is what makes a bootstrap slow."""
    calls = []

    def counted(truth, predicted):
        calls.append(np.size(truth))
        return r2(truth, predicted)

    percentile_interval(counted, rng.integers(0, 5, 1000), rng.integers(0, 5, 1000))
    assert len(calls) < 50
    assert sum(calls) == 2_001 * 1000
    assert max(calls) < 100_000, "what fits the processor's cache"
