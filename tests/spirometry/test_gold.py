"""GOLD by the rule: known rows, its edges, and what cannot be graded."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copdvae.spirometry import gold_reason, gold_stage

GSE42057 = [
    (0.46, 37, 3),
    (0.65, 54, 2),
    (0.49, 53, 2),
    (0.43, 32, 3),
    (0.78, 94, 0),
    (0.76, 96, 0),
    (0.71, 101, 0),
    (0.69, 60, 2),
    (0.66, 84, 1),
]


def test_the_nine_public_copdgene_rows_are_graded_as_published():
    ratio, percent, published = np.transpose(GSE42057)
    assert gold_stage(ratio, percent).tolist() == published.tolist()


@pytest.mark.parametrize(
    ("ratio", "percent", "stage"),
    [
        (0.70, 80, 0),
        (0.70, 79.999, -1),
        (0.6999, 80, 1),
        (0.6999, 79.999, 2),
        (0.5, 50, 2),
        (0.5, 49.999, 3),
        (0.5, 30, 3),
        (0.5, 29.999, 4),
        (2.268 / 3.24, 90, 0),  # 0.7, and in floating point a hair less
    ],
)
def test_a_value_on_a_cut_is_in_the_milder_stage_and_nothing_is_rounded(ratio, percent, stage):
    assert gold_stage(ratio, percent) == stage


@settings(deadline=None)
@given(st.floats(0.15, 1.0), st.floats(5, 200), st.floats(0, 100))
def test_more_fev1_never_makes_an_obstructed_person_worse_and_never_makes_prism_of_the_normal(ratio, percent, more):
    low, high = gold_stage([ratio, ratio], [percent, percent + more])
    assert (1 <= high <= low <= 4) if ratio < 0.7 - 1e-8 else (-1 <= low <= high <= 0)


def test_only_a_smoking_history_makes_a_never_smoked_normal():
    ratio, percent, never = [0.8, 0.8, 0.8, 0.6], [95, 95, 70, 70], [True, False, True, True]
    assert gold_stage(ratio, percent, never).tolist() == [-2, 0, -1, 2]
    assert -2 not in gold_stage(ratio, percent)


def test_children_and_missing_values_have_no_stage_and_a_reason():
    ratio, percent, age = [0.6, 0.6, np.nan, 0.6, 0.6], [60, 60, 60, np.nan, 60], [17.99, 18, 50, 50, np.nan]
    np.testing.assert_array_equal(gold_stage(ratio, percent, age=age), [np.nan, 2, np.nan, np.nan, 2])
    assert gold_reason(ratio, percent, age).tolist() == ["under_18", "", "no_ratio", "no_fev1_pp", ""]
