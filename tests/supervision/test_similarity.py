import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from copdvae.errors import ConfigError
from copdvae.supervision.similarity import Scaler, SimilarityConfig, add_noise, fit_similarity, measures_of


def test_rbf_is_what_pencil_and_paper_say():
    """Three training subjects at 0, 1 and 3 standard units apart in both measures."""
    training = np.array([[0.0, 0.0], [10.0, 1.0], [30.0, 3.0]])
    similarity = fit_similarity(training, SimilarityConfig())
    mean, std = 40 / 3, np.sqrt(1000 / 3 - (40 / 3) ** 2)
    z = (np.array([0, 10, 30]) - mean) / std
    squared = 2 * (z[[0, 0, 1]] - z[[1, 2, 2]]) ** 2  # both measures have the same z-scores
    assert similarity.sigma2 == pytest.approx(np.median(squared))
    between = similarity.between(training[[0, 0, 1]], training[[1, 2, 2]])
    np.testing.assert_allclose(between, np.exp(-squared / np.median(squared)), rtol=1e-6)
    assert between[2] == pytest.approx(np.exp(-1))  # the median pair
    assert between.dtype == np.float32


def test_a_subject_is_wholly_similar_to_itself_and_order_does_not_matter():
    rng = np.random.default_rng(0)
    measures = rng.normal(size=(50, 2))
    similarity = fit_similarity(measures, SimilarityConfig())
    first, second = rng.permutation(measures), rng.permutation(measures)
    np.testing.assert_array_equal(similarity.between(first, first), 1)
    np.testing.assert_array_equal(similarity.between(first, second), similarity.between(second, first))


@pytest.mark.parametrize("unit", [0.001, 100])
def test_units_of_a_measure_do_not_matter(unit):
    rng = np.random.default_rng(0)
    measures, scale = rng.normal(5, 1, size=(50, 2)), np.array([unit, 1.0])
    ours = fit_similarity(measures, SimilarityConfig()).between(measures[:25], measures[25:])
    theirs = fit_similarity(measures * scale, SimilarityConfig()).between(measures[:25] * scale, measures[25:] * scale)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_log10_compares_ratios():
    table = pd.DataFrame({"a": [1.0, 10.0, 100.0]})
    config = SimilarityConfig(measures=("a",), log10=True)
    measures = measures_of(table, config)
    near, far = fit_similarity(measures, config).between(measures[[0, 0]], measures[[1, 2]])
    assert np.log(near) * 4 == pytest.approx(np.log(far))
    with pytest.raises(ConfigError, match="zero or negative"):
        measures_of(table - 1, config)


def test_rows_with_a_missing_measure_take_no_part_in_the_fit():
    measures = np.random.default_rng(0).normal(size=(30, 2))
    holed = np.vstack([measures, [[np.nan, 1e6], [1e6, np.nan]]])
    ours, theirs = fit_similarity(holed, SimilarityConfig()), fit_similarity(measures, SimilarityConfig())
    assert ours.sigma2 == theirs.sigma2
    np.testing.assert_array_equal(ours.scaler.mean, theirs.scaler.mean)


def test_classes_are_alike_or_not():
    stages = np.array([[0.0], [1.0], [1.0], [-1.0]])
    config = SimilarityConfig(kind="indicator", measures=("gold",))
    np.testing.assert_array_equal(fit_similarity(stages, config).between(stages[[0, 1, 2]], stages[[1, 2, 3]]), [0, 1, 0])


def test_noise_on_real_similarities_has_the_variance_that_was_asked_for():
    config = SimilarityConfig(noise=0.01)
    noisy = add_noise(np.full(100_000, 0.5, np.float32), config, np.random.default_rng(0))
    assert noisy.var() == pytest.approx(0.01, rel=0.02)  # a standard deviation of .1, five of them from the ends
    assert noisy.mean() == pytest.approx(0.5, abs=0.002)
    ends = add_noise(np.array([0.0, 1.0] * 1000, np.float32), config, np.random.default_rng(0))
    assert ends.min() == 0
    assert ends.max() == 1
    assert ends.dtype == np.float32


def test_noise_on_classes_flips_the_share_that_was_asked_for():
    config = SimilarityConfig(kind="indicator", measures=("gold",), noise=0.1)
    clean = (np.arange(100_000) % 3 == 0).astype(np.float32)
    noisy = add_noise(clean, config, np.random.default_rng(0))
    assert set(np.unique(noisy)) == {0, 1}
    assert (noisy != clean)[clean == 1].mean() == pytest.approx(0.1, abs=0.005)
    assert (noisy != clean)[clean == 0].mean() == pytest.approx(0.1, abs=0.005)


def test_noise_is_the_same_for_the_same_generator_and_absent_by_default():
    clean = np.linspace(0, 1, 50, dtype=np.float32)
    one, other = (add_noise(clean, SimilarityConfig(noise=0.1), np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert add_noise(clean, SimilarityConfig(), np.random.default_rng(5)) is clean


def test_z_scores_of_training_subjects_have_mean_0_and_deviation_1():
    training = np.random.default_rng(0).normal(3, 7, (40, 2))
    scaled = Scaler.fit(training)(training)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.std(axis=0), 1)


def test_a_measure_that_the_table_lacks_is_named_with_those_it_has():
    with pytest.raises(ConfigError, match=r"fev1_pq not in the phenotype table; it has age, fev1_pp"):
        measures_of(pd.DataFrame({"age": [1.0], "fev1_pp": [2.0]}), SimilarityConfig(measures=("fev1_pq",)))


def test_a_measure_that_is_no_number_is_named():
    with pytest.raises(ConfigError, match=r"sex.*number"):
        measures_of(pd.DataFrame({"sex": ["M", "F"]}), SimilarityConfig(measures=("sex",)))


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ([[1.0, 2.0], [np.nan, 3.0]], "only 1 training subjects"),
        ([[1.0, 2.0], [1.0, 3.0]], "fev1_pp is the same in every training subject"),
        ([[1.0, 2.0]] * 9 + [[3.0, 4.0]], "more than half of the pairs"),  # the median distance is 0: nothing can be divided by it
    ],
)
def test_measures_that_make_no_similarity_are_refused(training, words):
    with pytest.raises(ConfigError, match=words):
        fit_similarity(np.array(training), SimilarityConfig())


def test_classes_take_one_column_and_a_flip_is_a_probability():
    with pytest.raises(ValidationError, match="one class column"):
        SimilarityConfig(kind="indicator")
    with pytest.raises(ValidationError, match="at most 1"):
        SimilarityConfig(kind="indicator", measures=("gold",), noise=2)
    with pytest.raises(ValidationError, match="at least one"):
        SimilarityConfig(measures=())
