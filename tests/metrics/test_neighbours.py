import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, r2_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from copdvae.metrics.neighbours import (
    GOLD_SIX,
    GOLD_STAGES,
    complete,
    kappa,
    knn_classification,
    knn_regression,
    mae,
    quadratic_kappa,
    r2,
    within_one,
)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_five_neighbours_are_those_counted_by_hand():
    train_z, train_t = [0.0, 1, 2, 3, 4, 100], [10.0, 20, 30, 40, 50, 1000]
    assert knn_regression(train_z, train_t, [2.0, 99.0]) == pytest.approx([30, (20 + 30 + 40 + 50 + 1000) / 5])


def test_neighbours_agree_with_scikit_learn(rng):
    train_z, test_z = rng.normal(size=(200, 3)), rng.normal(size=(50, 3))
    train_t, labels = rng.normal(size=200), rng.integers(-1, 5, 200)
    theirs = KNeighborsRegressor(5).fit(train_z, train_t).predict(test_z)
    np.testing.assert_allclose(knn_regression(train_z, train_t, test_z), theirs)
    theirs = KNeighborsClassifier(5).fit(train_z, labels).predict(test_z)
    np.testing.assert_array_equal(knn_classification(train_z, labels, test_z), theirs)


def test_neighbours_ignore_a_common_scale_and_the_order_of_latents(rng):
    train_z, test_z, t = rng.normal(size=(100, 4)), rng.normal(size=(30, 4)), rng.normal(size=100)
    once = knn_regression(train_z, t, test_z)
    np.testing.assert_array_equal(once, knn_regression(8 * train_z[:, ::-1], t, 8 * test_z[:, ::-1]))
    np.testing.assert_array_equal(once, knn_regression(train_z + 2.0**20, t, test_z + 2.0**20))  # far from 0


def test_a_tie_goes_to_the_smallest_label():
    assert knn_classification([0.0, 0.1, 0.2, 0.3, 0.4], [3, 3, 1, 1, 0], [0.2]) == [1]


def test_subjects_without_a_target_or_a_code_have_no_vote_and_get_none():
    train_z, train_t = [0.0, 0.1, 0.2, np.nan, 9], [1.0, np.nan, 3, 100, 5]
    predicted = knn_regression(train_z, train_t, [0.0, np.nan], k=2)
    assert predicted[0] == 2
    assert np.isnan(predicted[1])
    assert np.isnan(knn_classification(train_z, train_t, [np.nan])[0])
    assert np.isnan(knn_regression([0.0], [np.nan], [1.0])[0])


def test_only_the_asked_categories_vote():
    train_z, stage = [0.0, 0.1, 0.2, 5, 6], [-2, -2, -1, 0, 0]
    assert knn_classification(train_z, stage, [0.0], k=3) == [-2]
    assert knn_classification(train_z, stage, [0.0], k=3, categories=GOLD_SIX) == [0]
    assert knn_classification(train_z, stage, [0.0], k=1, categories=GOLD_STAGES) == [0]


def test_a_constant_code_predicts_nothing_and_a_perfect_one_everything(rng):
    truth, stage = rng.normal(size=300), rng.integers(-1, 5, 300)
    same = np.full(300, 3.7)
    assert r2(truth, knn_regression(same, truth, same)) <= 0
    assert kappa(stage, knn_classification(same, stage, same)) == pytest.approx(0, abs=1e-12)
    assert r2(truth, truth) == 1
    assert kappa(stage, knn_classification(stage, stage, stage)) == 1


def test_scores_agree_with_scikit_learn(rng):
    truth = rng.normal(size=200)
    predicted = truth + rng.normal(size=200)
    assert r2(truth, predicted) == pytest.approx(r2_score(truth, predicted))
    assert mae(truth, predicted) == pytest.approx(np.abs(truth - predicted).mean())
    stage = rng.integers(-1, 5, 200)
    guess = np.where(rng.random(200) < 0.4, stage, rng.integers(-1, 5, 200))
    assert kappa(stage, guess) == pytest.approx(cohen_kappa_score(stage, guess))
    ordered = (stage >= 0) & (guess >= 0)
    theirs = cohen_kappa_score(stage[ordered], guess[ordered], weights="quadratic", labels=list(GOLD_STAGES))
    assert quadratic_kappa(stage[ordered], guess[ordered]) == pytest.approx(theirs)


def test_kappa_of_a_textbook_table():
    """Two raters, 50 cases: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: kappa = (.7 - .5) / (1 - .5) = .4."""
    truth = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    predicted = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    assert kappa(truth, predicted) == pytest.approx(0.4)


def test_never_smokers_are_left_out_of_kappa_and_a_guess_of_one_is_wrong():
    assert kappa([-2, 0, 1, 2], [0, 0, 1, 2]) == 1
    assert kappa([0, 0, 1, 1], [0, -2, 1, 1]) == pytest.approx((0.75 - 0.375) / (1 - 0.375))


def test_stages_off_the_severity_order_are_refused_by_the_weighted_kappa_only_as_predictions():
    assert quadratic_kappa([-1, 0, 1, 2], [4, 0, 1, 2]) == 1
    with pytest.raises(ValueError, match="ordered stages"):
        quadratic_kappa([0, 1, 2], [0, -1, 2])


def test_within_one_counts_stages_at_most_one_off():
    assert within_one([0, 1, 2, 3, -1], [1, 3, 2, -1, 0]) == 0.5


def test_a_missing_truth_is_left_out_of_every_score():
    truth, predicted = np.array([1.0, 2, 4, np.nan]), np.array([1.0, 3, 4, 100])
    assert len(complete(truth, predicted)[0]) == 3
    for score in (r2, mae, kappa, quadratic_kappa, within_one):
        assert score(truth, predicted) == score(truth[:3], predicted[:3])


def test_a_score_that_does_not_exist_is_missing():
    assert np.isnan(r2([2.0, 2.0], [1.0, 3.0]))
    assert np.isnan(kappa([1, 1], [1, 1]))
    assert np.isnan(quadratic_kappa([1, 1], [1, 1]))
    for score in (r2, mae, kappa, quadratic_kappa, within_one):
        assert np.isnan(score([np.nan], [1.0]))


@pytest.mark.parametrize("score", [r2, mae, kappa, quadratic_kappa, within_one])
def test_many_resamples_score_as_one_by_one(score, rng):
    truth, predicted = rng.integers(0, 5, (7, 40)).astype(float), rng.integers(0, 5, (7, 40)).astype(float)
    truth[2, 5] = np.nan
    np.testing.assert_allclose(score(truth, predicted), [score(t, p) for t, p in zip(truth, predicted, strict=True)])
