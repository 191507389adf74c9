import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from copdvae.metrics.information import (
    bins_for,
    cut_at_deciles,
    entropy,
    equal_width,
    mutual_information,
    rank_latents,
    shares,
)


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


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=60), st.integers(2, 25), st.sampled_from([0.1, 1.0, 3.7e-6, 1e12]))
def test_bins_are_those_of_numpy_also_on_their_edges(values, bins, scale):
    z = np.array(values) * scale
    counts, edges = np.histogram(z, bins)
    found = equal_width(z, bins).ravel()
    if np.ptp(z):
        assert np.bincount(found, minlength=bins).tolist() == counts.tolist()
        assert found.tolist() == np.digitize(z, edges[1:-1]).tolist()
    else:
        assert not found.any()


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 25))
def test_a_code_a_rounding_below_an_edge_is_below_it(low, width, bins):
    inner = np.linspace(low, low + width, bins + 1)[1:-1]
    z = np.r_[low, low + width, np.nextafter(inner, -np.inf), inner]
    edges = np.linspace(z.min(), z.min() + np.ptp(z), bins + 1)  # as they come from the codes
    assert equal_width(z, bins).ravel().tolist() == np.digitize(z, edges[1:-1]).tolist()


def test_shares_are_information_over_entropy_for_every_latent_and_factor(rng):
    z, factors = rng.normal(size=(300, 3)), np.c_[rng.integers(0, 4, (300, 2)), np.ones(300)]
    found = shares(z, factors, 20)
    assert found.shape == (3, 3)
    assert np.isnan(found[:, 2]).all(), "a factor that does not vary has no entropy"
    for d in range(3):
        for k in range(2):
            by_hand = mutual_info_score(np.digitize(z[:, d], np.histogram(z[:, d], 20)[1][:-1]), factors[:, k]) / entropy(factors[:, k])
            assert found[d, k] == pytest.approx(by_hand, abs=1e-12)


def test_a_joint_histogram_has_at_most_a_cell_for_five_subjects():
    assert bins_for(10_000, 1) == 20
    assert bins_for(50, 1) == 10
    assert bins_for(125, 2) == 5
    assert bins_for(540, 2) ** 2 <= 540 / 5
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


def test_latents_are_ranked_by_what_they_tell_of_the_target(rng):
    target = rng.integers(0, 6, 600).astype(float)
    z = np.c_[rng.normal(size=600), np.full(600, 2.0), target + rng.normal(size=600), target, -target + 3 * rng.normal(size=600)]
    target[:10] = np.nan
    assert rank_latents(z, target).tolist()[:3] == [3, 2, 4]
    assert rank_latents(z, target).tolist()[-1] == 1
