import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from copdvae.supervision.pairs import draw_pairs, label_pairs
from copdvae.supervision.similarity import SimilarityConfig, fit_similarity


def labelled(subjects=40, proportion=0.4, seed=0, missing=()):
    rng = np.random.default_rng(seed)
    measures = rng.normal(size=(subjects, 2))
    measures[list(missing), 0] = np.nan
    similarity = fit_similarity(measures, SimilarityConfig())
    return measures, similarity, label_pairs(measures, similarity, proportion, rng)


@settings(deadline=None)
@given(st.integers(2, 60), st.floats(0.001, 1), st.integers(0, 100))
def test_pairs_are_unordered_not_of_one_subject_and_never_twice(subjects, proportion, seed):
    first, second = draw_pairs(subjects, proportion, np.random.default_rng(seed))
    assert (first >= 0).all()
    assert (first < second).all()
    assert (second < subjects).all()
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == len(first)
    possible = subjects * (subjects - 1) / 2
    assert len(first) == max(1, round(proportion * possible))


def test_one_in_ten_thousand_of_the_pairs_of_mnist_is_179997():
    first, second = draw_pairs(60_000, 0.0001, np.random.default_rng(0))
    assert len(first) == 179_997
    assert (first < second).all()
    assert second.max() < 60_000
    assert len(np.unique(first * 60_000 + second)) == 179_997
    # Of uniform pairs the larger member has a density that grows in proportion to it, the smaller one falls alike.
    assert stats.kstest(second / 60_000, lambda x: x**2).pvalue > 0.001
    assert stats.kstest(first / 60_000, lambda x: 1 - (1 - x) ** 2).pvalue > 0.001


def test_all_pairs_are_all_pairs():
    first, second = draw_pairs(30, 1.0, np.random.default_rng(0))
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == {(i, j) for j in range(30) for i in range(j)}


def test_every_pair_is_as_likely_as_every_other():
    counts, draws = np.zeros((12, 12)), 3000
    for seed in range(draws):
        first, second = draw_pairs(12, 0.1, np.random.default_rng(seed))
        counts[first, second] += 1
    found = counts[np.triu_indices(12, 1)]
    assert stats.chisquare(found).pvalue > 0.001
    assert found.sum() == 7 * draws


def test_pairs_are_the_same_for_the_same_seed_and_others_for_another():
    one, other, third = (draw_pairs(50, 0.2, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one[0], third[0])


def test_a_labelled_pair_has_the_similarity_of_its_two_subjects():
    measures, similarity, pairs = labelled()
    assert len(pairs) == round(0.4 * 780)
    np.testing.assert_allclose(pairs.similarity, similarity.between(measures[pairs.first], measures[pairs.second]))


def test_a_subject_without_its_measures_is_in_no_pair():
    measures, similarity, pairs = labelled(missing=(0, 7, 39), proportion=1.0)
    assert len(pairs) == 37 * 36 / 2
    assert not np.isin([0, 7, 39], np.concatenate([pairs.first, pairs.second])).any()
    assert not np.isnan(pairs.similarity).any()
    np.testing.assert_allclose(pairs.similarity, similarity.between(measures[pairs.first], measures[pairs.second]))


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(25)), st.integers(0, 25), st.integers(0, 9))
def test_pairs_among_some_subjects_are_those_of_a_double_loop(order, count, seed):
    _, _, pairs = labelled(25, 0.3, seed)
    rows = np.array(order[:count], dtype=np.int64)
    known = {
        frozenset(pair): label for *pair, label in zip(pairs.first.tolist(), pairs.second.tolist(), pairs.similarity.tolist(), strict=True)
    }
    naive = {
        (frozenset((a, b)), known[frozenset((int(rows[a]), int(rows[b])))])
        for a in range(count)
        for b in range(a)
        if frozenset((int(rows[a]), int(rows[b]))) in known
    }
    first, second, labels = pairs.among(rows)
    found = [(frozenset(pair), label) for *pair, label in zip(first.tolist(), second.tolist(), labels.tolist(), strict=True)]
    assert set(found) == naive
    assert len(found) == len(naive)


@pytest.mark.parametrize("known", [0, 1])
def test_without_two_subjects_there_is_no_pair(known):
    measures, similarity, _ = labelled(5)
    measures[known:] = np.nan
    pairs = label_pairs(measures, similarity, 1.0, np.random.default_rng(0))
    assert len(pairs) == 0
    assert all(len(part) == 0 for part in pairs.among(np.arange(5)))
