"""Units judged a column, numbers as people write them, missing codes, codes for words."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copdvae.errors import ConfigError, ReadError
from copdvae.spirometry.codes import read_codes
from copdvae.spirometry.columns import TableConfig, find_columns, guess_preset
from copdvae.spirometry.quantities import read_numbers, read_quantity


def texts(*values, name="column") -> pd.Series:
    return pd.Series([str(value) for value in values], index=range(2, len(values) + 2), name=name, dtype=object)


@pytest.mark.parametrize(
    ("name", "written", "unit", "read"),
    [
        ("fev1_l", (2.5, 3.1, 0.6), "L", (2.5, 3.1, 0.6)),
        ("fev1_l", (2500, 3100, 999), "mL", (2.5, 3.1, 0.999)),
        ("fev1_fvc", (0.6, 0.82), "ratio", (0.6, 0.82)),
        ("fev1_fvc", (60, 82), "percent", (0.6, 0.82)),
        ("height_cm", (175, 160), "cm", (175, 160)),
        ("height_cm", (1.75, 1.6), "m", (175, 160)),
        ("height_cm", (70, 60), "inch", (177.8, 152.4)),
        ("fev1_pp", (37, 104), "percent", (37, 104)),
        ("fev1_pp", (0.37, 1.04), "fraction", (37, 104)),
        ("emphysema_pct", (0.2, 0.9), "percent", (0.2, 0.9)),  # never judged: a healthy cohort has such percents
    ],
)
def test_a_columns_median_tells_its_unit_and_the_unit_is_announced(name, written, unit, read):
    column = read_quantity(name, texts(*written))
    np.testing.assert_allclose(column.values, read)
    assert f"from column 'column' in {unit}" in column.note
    assert column.findings == []


def test_the_users_unit_goes_before_the_median():
    np.testing.assert_allclose(read_quantity("emphysema_pct", texts(0.2, 0.9), "fraction").values, [20, 90])
    np.testing.assert_allclose(read_quantity("weight_kg", texts(154), "lb").values, [69.85], atol=0.01)
    with pytest.raises(ReadError, match="no unit 'gallon'; it comes in L, mL"):
        read_quantity("fev1_l", texts(1), "gallon")


def test_a_median_that_fits_no_unit_is_refused_with_the_column_and_a_way_out():
    with pytest.raises(ReadError, match=r"column 'FEV1': its median 50 fits no unit of fev1_l \(L, mL\); .*units: \{fev1_l: UNIT\}"):
        read_quantity("fev1_l", texts(40, 50, 60, name="FEV1"))


def test_one_value_in_another_unit_is_a_finding_and_many_refuse_the_column():
    column = read_quantity("fev1_l", texts(*[2.5] * 10, 2600))
    assert [(f.row, f.reason, f.bad) for f in column.findings] == [(12, "mixed_units", True)]
    assert np.isnan(column.values[12])
    with pytest.raises(ReadError, match="2 of 12 values are not in L like the others") as caught:
        read_quantity("fev1_l", texts(*[2.5] * 10, 2600, 2700))
    assert caught.value.reason == "mixed_units"
    with pytest.raises(ReadError, match="not in"):
        read_quantity("height_cm", texts(175, 160, 1.75, 1.6))


def test_impossible_values_are_findings_with_row_value_and_limits_and_unusual_ones_stay():
    column = read_quantity("height_cm", texts(175, 300, 110, "tall"))
    assert [(f.row, f.reason, f.bad) for f in column.findings] == [
        (5, "not_a_number", True),
        (3, "height_out_of_range", True),
        (4, "height_unusual", False),
    ]
    assert "300 found, possible is 50 to 250 cm" in column.findings[1].detail
    np.testing.assert_array_equal(column.values, [175, np.nan, 110, np.nan])


def test_missing_codes_are_missing_only_where_the_value_is_impossible():
    heights = read_quantity("height_cm", texts(175, -9, 999, ""))
    assert heights.findings == []
    np.testing.assert_array_equal(heights.values, [175, np.nan, np.nan, np.nan])
    assert "-9, 999 read as missing in 2 rows" in heights.note
    assert read_quantity("fev1_l", texts(2000, 999)).values[3] == 0.999
    assert read_quantity("perc15_hu", texts(-940, -999)).values[3] == -999
    assert np.isnan(read_quantity("pack_years", texts(40, 77), missing=["77"]).values[3])


@pytest.mark.parametrize(
    ("written", "read", "word"),
    [
        (("2,5", "3"), (2.5, 3), "decimal commas"),
        (("1.234,5", "0,5"), (1234.5, 0.5), "decimal commas"),
        (("1,250", "950"), (1250, 950), "thousands"),
        (("1,234.5", "2,000.25"), (1234.5, 2000.25), "thousands"),
        (("3,250", "2,100"), (3.25, 2.1), "decimal commas"),
        (("2.5", "3"), (2.5, 3), ""),
        (("2,5,1", "inf"), (np.nan, np.nan), "decimal commas"),
    ],
)
def test_commas_are_read_a_column_at_a_time(written, read, word):
    numbers, note = read_numbers(texts(*written))
    np.testing.assert_allclose(numbers, read)
    assert (word in note) if word else note == ""


@settings(deadline=None)
@given(st.lists(st.floats(0.2, 8).map(lambda x: round(x, 3)), min_size=3, max_size=30))
def test_litres_and_millilitres_with_point_or_comma_are_one_measurement(litres):
    for written in ([f"{x:.3f}" for x in litres], [f"{x:.3f}".replace(".", ",") for x in litres], [f"{1000 * x:.0f}" for x in litres]):
        np.testing.assert_allclose(read_quantity("fev1_l", texts(*written)).values, litres, rtol=1e-9)


def test_words_and_codes_are_understood_and_what_is_not_is_a_finding():
    sex, findings, note = read_codes("sex", texts("M", "female", "2", "1.0", "", "x", name="gender"), None, copdgene=False)
    assert sex.tolist() == ["M", "F", "F", "M", "", ""]
    assert [(f.row, f.reason, f.bad) for f in findings] == [(7, "unknown_sex", True)]
    assert "1 is M, 2 is F" in note
    race, findings, _ = read_codes("race", texts("Non-Hispanic White", "African American", "Martian", "-9"), None, copdgene=False)
    assert race.tolist() == ["white", "black", "", ""]
    assert [(f.row, f.reason, f.bad) for f in findings] == [(4, "unknown_race", False)]


def test_sex_as_0_and_1_is_never_guessed():
    with pytest.raises(ReadError, match="male in some tables and female in others") as caught:
        read_codes("sex", texts(0, 1, 1), None, copdgene=True)
    assert caught.value.reason == "ambiguous_sex"
    assert read_codes("sex", texts(0, 1), {"0": "F", "1": "M"}, copdgene=True)[0].tolist() == ["F", "M"]
    assert read_codes("sex", texts(0, 1, name="Male"), None, copdgene=False)[0].tolist() == ["F", "M"]
    assert read_codes("sex", texts(0, 1, name="female"), None, copdgene=False)[0].tolist() == ["M", "F"]


def test_numbers_for_race_mean_something_only_where_the_dictionary_is_known():
    numbers = texts(1, 2, 3, name="race")
    assert read_codes("race", numbers, None, copdgene=True)[0].tolist() == ["white", "black", ""]
    assert read_codes("race", numbers, None, copdgene=False)[0].tolist() == ["", "", ""]
    assert read_codes("race", numbers.rename("RIDRETH1"), None, copdgene=False)[0].tolist() == ["hispanic", "hispanic", "white"]


def table(*columns: str) -> pd.DataFrame:
    return pd.DataFrame([["1"] * len(columns)], columns=list(columns), dtype=object)


def test_columns_are_found_by_name_and_the_users_mapping_goes_first():
    plain = TableConfig(preset="plain", columns={"fev1_l": "best"})
    found = find_columns(table("ID", "FEV-1", "best", "Height (cm)"), plain)
    assert found == {"fev1_l": "best", "subject_id": "ID", "height_cm": "Height (cm)"}
    with pytest.raises(ReadError, match="no column 'best' for fev1_l; did you mean 'Best'"):
        find_columns(table("ID", "Best"), plain)
    with pytest.raises(ReadError, match="'FEV1' and 'fev1' could both be fev1_l"):
        find_columns(table("FEV1", "fev1"), TableConfig(preset="plain"))
    assert find_columns(table("sid", "fev1"), TableConfig(preset="none")) == {}


def test_a_wide_table_needs_a_visit_and_never_lends_a_value_from_another():
    wide = table("sid", "gender", "Height_CM_P1", "FEV1_utah_P1", "FEV1_utah_P2", "Age_P2", "ATS_PackYears")
    with pytest.raises(ReadError, match="visits 1, 2; say which") as caught:
        find_columns(wide, TableConfig())
    assert caught.value.reason == "several_visits"
    second = find_columns(wide, TableConfig(), visit="2")
    assert second == {"subject_id": "sid", "sex": "gender", "fev1_l": "FEV1_utah_P2", "age": "Age_P2"}


def test_copdgenes_tables_are_recognised():
    assert guess_preset(table("sid", "FEV1_utah")) == guess_preset(table("finalGold")) == "copdgene"
    assert guess_preset(table("sid", "fev1")) == "plain"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"columns": {"fev1": "x"}}, "did you mean 'fev1_"),
        ({"units": {"fev1_l": "cc"}}, "fev1_l comes in L, mL, not 'cc'"),
        ({"codes": {"sex": {0: "woman"}}}, "sex is one of M, F, not 'woman'"),
        ({"default_race": "martian"}, "one of white"),
        ({"preset": "copd-gene"}, "preset"),
        ({"colums": {}}, "did you mean 'columns'"),
    ],
)
def test_a_mistake_in_the_settings_is_named(settings, words):
    with pytest.raises(ConfigError, match=words):
        TableConfig.parse(settings)


def test_yaml_numbers_are_fine_as_codes():
    assert TableConfig.parse({"codes": {"sex": {0: "F", 1: "M"}, "gold": {9: -1}}}).codes == {
        "sex": {"0": "F", "1": "M"},
        "gold": {"9": "-1"},
    }
