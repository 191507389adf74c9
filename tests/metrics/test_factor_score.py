import numpy as np
import pytest

from copdvae.metrics.factor_score import Votes, draw_votes, factor_score, factor_score_interval, parted_score, rightly, stillest, votes_of


@pytest.fixture
def rng():
    return np.random.default_rng(31)


@pytest.fixture
def factors(rng):
    return rng.integers(0, 4, (2_000, 3))


def tables(factors, seed=0, images=64):
    return draw_votes(factors, 600, images, seed), draw_votes(factors, 300, images, seed + 1)


def by_hand(z, train, test, threshold=0.05):
    """A loop over votes, as the metric is described."""
    spread = z.var(axis=0, ddof=1)
    active = [d for d in range(z.shape[1]) if np.sqrt(spread[d]) >= threshold]
    if not active:
        return 0
    votes = np.zeros((len(active), 10))

    def winner(rows):
        return np.argmin([z[rows, d].var(ddof=1) / spread[d] for d in active])

    for factor, rows in zip(*train, strict=True):
        votes[winner(rows), factor] += 1
    return np.mean([votes[winner(rows)].argmax() == factor for factor, rows in zip(*test, strict=True)])


def test_images_of_a_vote_share_the_factor_that_it_names(factors):
    votes, _ = tables(factors)
    assert votes.row.shape == (600, 64)
    for factor, rows in zip(*votes, strict=True):
        assert len(set(factors[rows, factor])) == 1
    assert len(set(factors[votes.row[0], (votes.factor[0] + 1) % 3])) > 1
    assert np.bincount(votes.factor).min() > 150
    assert len(np.unique(votes.row)) / 2_000 > 0.9


def test_a_place_in_zero_to_one_is_a_place_among_the_images_that_share_the_value(rng):
    factors = np.array([[5.0, 0], [7, 0], [5, 1], [5, 1], [7, 0]])
    votes = votes_of(factors, np.array([0, 0, 1]), np.array([3, 1, 0]), np.array([[0, 0.34, 0.99], [0, 0.49, 0.5], [0.4, 0.5, 0.99]]))
    assert votes.row.tolist() == [[0, 2, 3], [1, 1, 4], [1, 1, 4]]


def test_score_is_that_of_a_loop_over_votes(factors, rng):
    z = np.hstack([factors + 0.7 * rng.normal(size=factors.shape), rng.normal(size=(2_000, 3)), 0.04 * rng.normal(size=(2_000, 1))])
    z[:, 0] = 5 * z[:, 0] + 100
    train, test = tables(factors, images=10)
    expected = by_hand(z, train, test)
    assert 0.4 < expected < 0.999
    assert factor_score(z, train, test) == pytest.approx(expected, abs=1e-12)
    assert parted_score(z, train) == pytest.approx(by_hand(z, train, train, 0.1), abs=1e-12)


def test_stillest_latent_is_that_of_the_least_variance(rng):
    z = rng.normal(size=(500, 6))
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    row = rng.integers(0, 500, (200, 8)).astype(np.int32)
    assert stillest(z, row).tolist() == [z[r].var(axis=0).argmin() for r in row]


def test_constant_perfect_and_duplicated_codes(factors, rng):
    train, test = tables(factors)
    perfect = factors / 3.0
    assert factor_score(np.full((2_000, 4), 2.5), train, test) == 0
    assert factor_score(perfect, train, test) == 1
    assert factor_score(np.hstack([perfect, perfect, rng.normal(size=(2_000, 2))]), train, test) == 1
    assert factor_score(np.hstack([perfect[:, :1]] * 3), train, test) == pytest.approx(1 / 3, abs=0.08)


def test_a_code_that_knows_nothing_scores_chance(factors, rng):
    assert factor_score(rng.normal(size=(2_000, 5)), *tables(factors)) == pytest.approx(1 / 3, abs=0.12)


def test_permuting_latents_changes_nothing_and_a_threshold_drops_small_ones(factors, rng):
    train, test = tables(factors, images=10)
    z = factors + rng.normal(size=factors.shape)
    once = factor_score(z, train, test)
    assert factor_score(z[:, ::-1], train, test) == once
    small = z * [1, 1, 0.09 / z[:, 2].std()]
    assert factor_score(small, train, test) == once
    assert parted_score(z, train) > parted_score(small, train), "below .1"
    assert factor_score(z * [1, 1, 0.04 / z[:, 2].std()], train, test) < once, "below .05"


def test_factors_without_votes_and_unknown_winners_count_as_wrong(factors):
    z = factors / 3.0
    only = Votes(np.zeros(5, dtype=int), np.array([np.flatnonzero(factors[:, 0] == 1)[:8]] * 5, dtype=np.int32))
    other = Votes(np.ones(5, dtype=int), np.array([np.flatnonzero(factors[:, 1] == 1)[:8]] * 5, dtype=np.int32))
    assert factor_score(z, only, only) == 1
    assert factor_score(z, only, other) == 0


def test_interval_is_a_percentile_bootstrap_of_test_votes(factors, rng):
    train, test = tables(factors, images=10)
    z = factors + rng.normal(size=factors.shape)
    value, low, high = factor_score_interval(z, train, test)
    share = rightly(z, train, test, 0.05)
    assert value == factor_score(z, train, test) == share.mean()
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(value * (1 - value) / 300), rel=0.15)
    assert low < value < high


def test_same_seed_same_table(factors):
    one, same, other = draw_votes(factors, 50, seed=1), draw_votes(factors, 50, seed=1), draw_votes(factors, 50, seed=2)
    assert (one.row == same.row).all()
    assert (one.row != other.row).any()
