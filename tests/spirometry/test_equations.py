"""Predicted spirometry against published tables, against the paper's own equations, and against the meaning of z and LLN."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copdvae.errors import ConfigError
from copdvae.spirometry import REFERENCES, predict

PAIRED = ("fev1", "fvc", "ratio")


def people(**columns) -> pd.DataFrame:
    return pd.DataFrame(
        {"sex": ["M"], "age": [40.0], "height_cm": [175.0], "race": ["white"]} | {k: np.atleast_1d(v) for k, v in columns.items()}
    )


# sex, age, height, measure, observed; GLI-2012 Caucasian and GLI Global, each: predicted, % predicted, z, LLN
KNOWN = [
    ("M", 40, 175, "fev1", 3.5, (4.0780, 85.83, -1.131, 3.2313), (3.8355, 91.25, -0.627, 2.9388)),
    ("M", 40, 175, "fvc", 4.5, (5.0547, 89.03, -0.882, 4.0235), (4.6986, 95.77, -0.300, 3.6177)),
    ("M", 40, 175, "ratio", 0.7778, (0.8097, None, -0.535, 0.7048), (0.8150, None, -0.626, 0.7102)),
    ("F", 65.3, 160, "fev1", 1.2, (2.2684, 52.90, -2.936, 1.6826), (2.1679, 55.35, -2.453, 1.5329)),
    ("F", 65.3, 160, "ratio", 0.5, (0.7885, None, -3.315, 0.6617), (0.7955, None, -3.236, 0.6700)),  # sign of the female ratio's q1
    ("M", 70.1, 172, "fev1", 1.0, (2.9842, 33.51, -3.671, 2.1555), (2.8214, 35.44, -3.709, 2.0622)),
]


@pytest.mark.parametrize(("reference", "place"), [("gli2012", 5), ("gli-global", 6)])
@pytest.mark.parametrize("case", KNOWN, ids=lambda case: f"{case[0]}{case[1]}-{case[3]}")
def test_predictions_are_the_known_answers_to_the_digits_given(case, reference, place):
    sex, age, height, measure, observed = case[:5]
    column = {"fev1": "fev1_l", "fvc": "fvc_l", "ratio": "fev1_fvc"}[measure]
    found = predict(people(sex=sex, age=age, height_cm=height, **{column: observed}), reference).iloc[0]
    median, percent, z, limit = case[place]
    # 0.7778 is 3.5 / 4.5 rounded, so its z is good to two units of the third digit
    assert found[f"{measure}_pred"] == pytest.approx(median, abs=5.1e-5)
    assert found[f"{measure}_lln"] == pytest.approx(limit, abs=5.1e-5)
    assert found[f"{measure}_z"] == pytest.approx(z, abs=1.1e-3 if observed == 0.7778 else 5.1e-4)
    if percent is not None:
        assert found[f"{measure}_pp"] == pytest.approx(percent, abs=5.1e-3)


# Hankinson 1999, tables 4 and 5: b0 + b1 age + b2 age^2 + b3 height^2, by group, sex and age (men under 20, women under 18 are young);
# (FEV1 b0, b1, b2), (FVC b0, b1, b2), young then adult; then b3 of FEV1 and FVC for the median and for the LLN.
HANKINSON = {
    ("white", "M"): (
        ((-0.7453, -0.04106, 0.004477), (-0.2584, -0.20415, 0.010133)),
        ((0.5536, -0.01303, -0.000172), (-0.1933, 0.00064, -0.000269)),
        ((0.00014098, 0.00011607), (0.00018642, 0.00015695)),
        (88.066, 78.388, -0.2066),
    ),
    ("white", "F"): (
        ((-0.8710, 0.06537, 0), (-1.2082, 0.05916, 0)),
        ((0.4333, -0.00361, -0.000194), (-0.3560, 0.01870, -0.000382)),
        ((0.00011496, 0.00009283), (0.00014815, 0.00012198)),
        (90.809, 81.015, -0.2125),
    ),
    ("black", "M"): (
        ((-0.7048, -0.05711, 0.004316), (-0.4971, -0.15497, 0.007701)),
        ((0.3411, -0.02309, 0), (-0.1517, -0.01821, 0)),
        ((0.00013194, 0.00010561), (0.00016643, 0.00013670)),
        (89.239, 78.822, -0.1828),
    ),
    ("black", "F"): (
        ((-0.9630, 0.05799, 0), (-0.6166, -0.04687, 0.003602)),
        ((0.3433, -0.01283, -0.000097), (-0.3039, 0.00536, -0.000265)),
        ((0.00010846, 0.00008546), (0.00013606, 0.00010916)),
        (91.655, 80.978, -0.2039),
    ),
    ("hispanic", "M"): (
        ((-0.8218, -0.04248, 0.004291), (-0.7571, -0.09520, 0.006619)),
        ((0.6306, -0.02928, 0), (0.2376, -0.00891, -0.000182)),
        ((0.00015104, 0.00012670), (0.00017823, 0.00014947)),
        (90.024, 80.925, -0.2186),
    ),
    ("hispanic", "F"): (
        ((-0.9641, 0.06490, 0), (-1.2507, 0.07501, 0)),
        ((0.4529, -0.01178, -0.000113), (0.1210, 0.00307, -0.000237)),
        ((0.00012154, 0.00009890), (0.00014246, 0.00011570)),
        (92.360, 83.044, -0.2248),
    ),
}


@pytest.mark.parametrize(("race", "sex"), HANKINSON)
@pytest.mark.parametrize("age", [8, 13.4, 17, 17.9, 18, 19, 19.9, 20, 44.4, 80])
def test_nhanes3_is_the_published_polynomial_with_young_men_under_20_and_women_under_18(race, sex, age):
    young, adult, squares, (ratio, ratio_limit, slope) = HANKINSON[race, sex]
    height, terms = 165.0, young if age < (20 if sex == "M" else 18) else adult
    found = predict(people(sex=sex, age=age, height_cm=height, race=race, fev1_l=2.0, fvc_l=3.0), "nhanes3").iloc[0]
    for name, (b0, b1, b2), (median, limit) in zip(("fev1", "fvc"), terms, squares, strict=True):
        base = b0 + b1 * age + b2 * age**2
        predicted, lower = base + median * height**2, base + limit * height**2
        observed = {"fev1": 2.0, "fvc": 3.0}[name]
        assert found[f"{name}_pred"] == pytest.approx(predicted, rel=1e-9)
        assert found[f"{name}_lln"] == pytest.approx(lower, rel=1e-9)
        assert found[f"{name}_pp"] == pytest.approx(100 * observed / predicted, rel=1e-9)
        assert found[f"{name}_z"] == pytest.approx(1.645 * (observed - predicted) / (predicted - lower), rel=1e-6)
    assert found["ratio_pred"] == pytest.approx((ratio + slope * age) / 100, rel=1e-9)
    assert found["ratio_lln"] == pytest.approx((ratio_limit + slope * age) / 100, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    reference=st.sampled_from(sorted(REFERENCES)),
    sex=st.sampled_from("MF"),
    race=st.sampled_from(["white", "black", "hispanic", "asian", ""]),
    age=st.floats(8, 80),
    height=st.floats(158, 170),
)
def test_z_is_0_at_the_median_and_minus_1645_at_the_limit(reference, sex, race, age, height):
    row = people(sex=sex, race=race, age=age, height_cm=height)
    found = predict(row, reference).iloc[0]
    for kind, z in (("pred", 0.0), ("lln", -1.645)):
        values = {"fev1_l": found[f"fev1_{kind}"], "fvc_l": found[f"fvc_{kind}"], "fev1_fvc": found[f"ratio_{kind}"]}
        again = predict(row.assign(**values), reference).iloc[0]
        for name in PAIRED:
            assert again[f"{name}_z"] == pytest.approx(z, abs=2e-6)


def test_a_bad_row_gets_its_reason_and_leaves_the_others_alone():
    """pyspiro itself raises for the whole table on one unknown sex, and gives a metre for a centimetre a million per cent."""
    rows = pd.DataFrame(
        [
            ("M", 40, 175, ""),
            ("X", 40, 175, "no_sex"),
            (None, 40, 175, "no_sex"),
            ("F", np.nan, 160, "no_age"),
            ("F", 2.9, 90, "age_out_of_range"),
            ("F", 95.1, 160, "age_out_of_range"),
            ("M", 40, np.nan, "no_height"),
            ("M", 40, 1.75, "height_not_credible"),
            ("F", 6, 112, ""),
            ("M", 95, 175, ""),
        ],
        columns=["sex", "age", "height_cm", "expected"],
        index=list("aabcdefghi"),  # a table's index may repeat
    )
    for reference in ("gli2012", "gli-global"):
        found = predict(rows, reference)
        assert found["reason"].tolist() == rows["expected"].tolist()
        assert found.index.equals(rows.index)
        assert (found["fev1_pred"].notna() == (found["reason"] == "")).all()
        alone = predict(rows.iloc[:1], reference)
        pd.testing.assert_frame_equal(found.iloc[:1], alone)


@pytest.mark.parametrize(
    ("sex", "race", "age", "height", "reason"),
    [
        ("M", "white", 40, 157.9, "height_out_of_range"),
        ("M", "white", 40, 158, ""),
        ("M", "hispanic", 40, 157.9, ""),
        ("M", "white", 40, 194.1, "height_out_of_range"),
        ("F", "black", 40, 145.9, "height_out_of_range"),
        ("M", "white", 7.9, 130, "age_out_of_range"),
        ("M", "white", 80.1, 170, "age_out_of_range"),
    ],
)
def test_nhanes3_ends_where_its_people_did(sex, race, age, height, reason):
    found = predict(people(sex=sex, race=race, age=age, height_cm=height, fev1_l=2.0, fvc_l=3.0), "nhanes3").iloc[0]
    assert found["reason"] == reason
    numbers = [f"{name}_{kind}" for name in PAIRED for kind in ("pred", "lln", "z")] + ["fev1_pp", "fvc_pp"]
    assert found[numbers].isna().all() == (reason != "")


def test_the_group_taken_is_recorded_and_says_when_it_was_the_default():
    rows = pd.DataFrame({"sex": "F", "age": 50.0, "height_cm": 160.0, "race": ["white", "black", "hispanic", "asian", "other", "", None]})
    gli, nhanes, world = (predict(rows, reference) for reference in ("gli2012", "nhanes3", "gli-global"))
    assert gli["reference_group"].tolist() == ["caucasian", "african_american", "caucasian", "other", "other", "other", "other"]
    assert gli["group_from"].tolist() == ["race"] * 5 + ["default"] * 2
    assert nhanes["reference_group"].tolist() == ["caucasian", "african_american", "mexican_american"] + ["caucasian"] * 4
    assert nhanes["group_from"].tolist() == ["race"] * 3 + ["default"] * 4
    assert world["fev1_pred"].nunique() == 1
    assert set(world["reference_group"]) == {""}
    assert gli["fev1_pred"][1] < gli["fev1_pred"][5] < gli["fev1_pred"][0]
    assert predict(rows.drop(columns="race"), "gli2012")["group_from"].eq("default").all()


def test_percent_of_predicted_is_not_rounded():
    """79.996 % is under 80 %; pyspiro's own `percent` says 80.0."""
    median = predict(people(), "gli-global")["fev1_pred"].iloc[0]
    percent = predict(people(fev1_l=0.79996 * median), "gli-global")["fev1_pp"].iloc[0]
    assert percent == pytest.approx(79.996, abs=1e-9)


def test_values_that_were_not_measured_have_no_z_and_an_empty_table_no_rows():
    found = predict(people(fev1_l=np.nan, fvc_l=3.0), "gli-global").iloc[0]
    assert found["fev1_pred"] > 0
    assert np.isnan(found[["fev1_pp", "fev1_z", "ratio_z"]].astype(float)).all()
    assert found["fvc_z"] < 0
    assert len(predict(people().iloc[:0], "nhanes3")) == 0


def test_an_unknown_reference_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"'ecsc' is unknown; .*gli2012, gli-global, nhanes3"):
        predict(people(), "ecsc")
