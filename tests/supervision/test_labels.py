import json

import numpy as np
import pandas as pd
import pytest

from copdvae.errors import ConfigError
from copdvae.supervision.labels import LabelsConfig, class_columns, fit_labels, keep_fraction, labels_from


def table(count=50, seed=0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"fev1_pp": rng.normal(70, 20, count), "fev1_fvc": rng.normal(0.6, 0.1, count), "gold": rng.integers(-2, 5, count)})


def test_z_scores_come_from_training_subjects_alone():
    training, others = table(), table(20, seed=1)
    found = fit_labels(training, LabelsConfig()).of(others)
    assert found.shape == (20, 2)
    assert found.dtype == np.float32
    expected = (others["fev1_pp"] - training["fev1_pp"].mean()) / training["fev1_pp"].std(ddof=0)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)


def test_unit_labels_fill_0_to_1_in_training_and_never_leave_it():
    training = table()
    labels = fit_labels(training, LabelsConfig(kind="unit"))
    own = labels.of(training)
    np.testing.assert_allclose([own.min(axis=0), own.max(axis=0)], [[0, 0], [1, 1]])
    far = labels.of(pd.DataFrame({"fev1_pp": [-1e3, 1e3, np.nan], "fev1_fvc": [0.6, np.nan, 0.6]}))
    np.testing.assert_array_equal(far[:, 0], [0, 1, np.nan])


def test_classes_are_numbered_in_the_order_given_and_others_are_unknown():
    config = LabelsConfig(columns=("gold",), kind="class", categories=((-1, 0, 1, 2, 3, 4),))
    assert config.sizes == (6,)
    found = fit_labels(table(), config).of(pd.DataFrame({"gold": [4.0, -2, -1, np.nan, 0]}))
    np.testing.assert_array_equal(found[:, 0], [5, np.nan, 0, np.nan, 1])


def test_bins_are_equally_frequent_in_training():
    config = LabelsConfig(kind="class", bins=5)
    assert config.sizes == (5, 5)
    found = fit_labels(table(100), config).of(table(100))
    for column in found.T:
        np.testing.assert_array_equal(np.bincount(column.astype(int)), [20] * 5)


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"kind": "unit"}, {"kind": "class", "bins": 5},
        {"kind": "class", "columns": ["gold", "fev1_pp"], "categories": [[-2, 4, 0, 1, 2, 3], [1, 2]]},
    ],
    ids=str,
)  # fmt: skip
def test_fitted_labels_come_back_from_json_to_the_last_digit(settings):
    training, others = table().assign(fev1_pp=np.resize([1, 2], 50) if "categories" in settings else table()["fev1_pp"]), table(20, seed=1)
    fitted = fit_labels(training, LabelsConfig.parse(settings))
    again = labels_from(json.loads(json.dumps(fitted.plain())))
    assert again.config == fitted.config
    np.testing.assert_array_equal(again.of(others), fitted.of(others))
    np.testing.assert_array_equal(again.edges, fitted.edges)


def test_columns_of_class_probabilities_are_numbered_like_the_classes():
    assert class_columns("gold", 3) == ["c_gold_0", "c_gold_1", "c_gold_2"]


def test_a_fraction_is_drawn_once_from_the_subjects_with_all_labels():
    labels = fit_labels(table(200), LabelsConfig()).of(table(200))
    labels[::4, 1] = np.nan
    kept = keep_fraction(labels, 0.2, np.random.default_rng(3))
    known = ~np.isnan(kept).any(axis=1)
    assert known.sum() == 30
    np.testing.assert_array_equal(np.isnan(kept).all(axis=1), ~known)
    np.testing.assert_array_equal(kept[known], labels[known])
    np.testing.assert_array_equal(kept, keep_fraction(labels, 0.2, np.random.default_rng(3)))
    assert not np.array_equal(kept, keep_fraction(labels, 0.2, np.random.default_rng(4)), equal_nan=True)
    assert (~np.isnan(keep_fraction(labels, 1e-9, np.random.default_rng(3))).any(axis=1)).sum() == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"columns": ()}, "name at least one"),
        ({"kind": "class"}, "either `categories`, a list for each column, or `bins`"),
        ({"kind": "class", "bins": 3, "categories": [[0, 1], [0, 1]]}, "either"),
        ({"bins": 3}, "belong to kind: class, found kind: zscore"),
        ({"kind": "class", "categories": [[0, 1]]}, "found 1 for 2 columns"),
        ({"kind": "class", "bins": 1}, "fewer than two classes"),
        ({"kind": "class", "columns": ["gold"], "categories": [[1, 1]]}, "fewer than two classes"),
        ({"kind": "class", "columns": ["gold"], "categories": [[0, 1, 1]]}, "names a value twice"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        LabelsConfig.parse(settings)


@pytest.mark.parametrize(
    ("change", "settings", "words"),
    [
        ({}, {"columns": ["fev1"]}, "fev1 not in the table; it has fev1_pp, fev1_fvc, gold"),
        ({"gold": "two"}, {"columns": ["gold"]}, "gold holds words"),
        ({"fev1_fvc": 0.7}, {}, "fev1_fvc has 1 different values in the 50 training subjects"),
        ({}, {"columns": ["fev1_pp"], "kind": "class", "categories": [[0, 1, 2]]}, "fewer than two of 0, 1, 2"),
        ({}, {"columns": ["gold"], "kind": "class", "bins": 12}, "gold has too few different values for 12 bins"),
    ],
)
def test_columns_that_cannot_be_labels_are_refused_by_name(change, settings, words):
    with pytest.raises(ConfigError, match=words):
        fit_labels(table().assign(**change), LabelsConfig.parse(settings))
