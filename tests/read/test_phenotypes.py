"""Phenotypes of a cohort: COPDGene's columns out of the box, every bad row at once, nothing overwritten."""

import numpy as np
import openpyxl
import pytest

from copdvae.errors import ReadError
from copdvae.read.phenotypes import Phenotypes, PhenotypesConfig, read_phenotypes

SOUND = {  # one row as COPDGene writes it
    "sid": "S",
    "visitnum": "1",
    "gender": "2",
    "race": "1",
    "age_visit": "65.3",
    "Height_CM": "160",
    "Weight_KG": "61",
    "BMI": "23.8",
    "ATS_PackYears": "42",
    "SmokCigNow": "0",
    "smoking_status": "1",
    "FEV1_utah": "1.2",
    "FVC_utah": "2.4",
    "FEV1pp_utah": "54",
    "FVCpp_utah": "83",
    "FEV1_FVC_utah": "0.5",
    "finalGold": "2",
    "pctEmph_Thirona": "12.5",
    "pctGasTrap_Thirona": "40.1",
    "Perc15_Insp_Thirona": "-951",
}


def copdgene(path, *changes: dict[str, str], sound: int = 12, without: tuple[str, ...] = (), delimiter: str = "\t"):
    """A table of `sound` good subjects S00, S01 ... and below them one row S, S, ... for each of `changes`."""
    rows = [SOUND | {"sid": f"S{i:02d}"} for i in range(sound)] + [SOUND | change for change in changes]
    names = [name for name in SOUND if name not in without]
    path.write_text("\n".join(delimiter.join(row) for row in [names, *([row[name] for name in names] for row in rows)]), encoding="utf-8")
    return path


def read(path, **settings) -> Phenotypes:
    return read_phenotypes(path, PhenotypesConfig.parse(settings))


def test_copdgenes_columns_are_read_out_of_the_box(tmp_path):
    found = read(copdgene(tmp_path / "p.txt", {"sid": " 007 "}))
    assert found.problems == []
    assert found.table.index.name == "subject_id"
    person = found.table.loc["007"].to_dict()
    assert person == {
        "age": 65.3,
        "height_cm": 160,
        "weight_kg": 61,
        "bmi": 23.8,
        "pack_years": 42,
        "fev1_l": 1.2,
        "fvc_l": 2.4,
        "fev1_pp": 54,
        "fvc_pp": 83,
        "fev1_fvc": 0.5,
        "emphysema_pct": 12.5,
        "gas_trapping_pct": 40.1,
        "perc15_hu": -951,
        "sex": "F",
        "race": "white",
        "smoking_status": "former",
        "gold": 2,
        "visit": "1",
    }
    assert "fev1_l from column 'FEV1_utah' in L" in found.notes


@pytest.mark.parametrize(
    ("change", "reason", "words", "fatal"),
    [
        ({"FEV1_utah": "2.5", "FEV1_FVC_utah": ""}, "fev1_above_fvc", "FEV1 2.5 L is more than FVC 2.4 L", True),
        ({"FEV1_FVC_utah": "0.53"}, "ratio_disagrees", "ratio is 0.530, its FEV1/FVC 0.500", True),
        ({"FEV1_utah": "1200"}, "mixed_units", "FEV1_utah: 1200 found, the column is in L", True),
        ({"Height_CM": "1.6"}, "mixed_units", "1.6 found", True),
        ({"FVC_utah": "24"}, "fvc_out_of_range", "FVC_utah: 24 found, possible is 0.4 to 10 L", True),
        ({"FEV1pp_utah": "540"}, "fev1_pp_out_of_range", "540", True),
        ({"pctEmph_Thirona": "112"}, "emphysema_out_of_range", "112", True),
        ({"age_visit": "653"}, "age_out_of_range", "653", True),
        ({"age_visit": "sixty"}, "not_a_number", "'sixty' is not a number", True),
        ({"gender": "3"}, "unknown_sex", "'3' is not understood", True),
        ({"finalGold": "5"}, "unknown_gold", "'5' is not understood", True),
        ({"sid": ""}, "no_subject_id", "names no subject", True),
        ({"sid": "S03"}, "duplicate_subject", "subject S03 is in rows 5, 14", True),
        ({"finalGold": "3"}, "gold_disagrees", "the table says 3; FEV1/FVC 0.500 and FEV1 54.0 % of predicted make it 2", False),
        ({"age_visit": "17"}, "age_unusual", "usual is 18 to 100 years", False),
        ({"smoking_status": "0"}, "smoking_disagrees", "never smoked, with 42 pack-years", False),
        ({"Weight_KG": "a lot"}, "not_a_number", "Weight_KG", False),
    ],
)
def test_a_bad_row_is_listed_with_row_subject_and_finding(tmp_path, change, reason, words, fatal):
    found = read(copdgene(tmp_path / "p.txt", change))
    subject = change.get("sid", "S")
    problem = next(problem for problem in found.problems if problem.where == "p.txt row 14" and problem.reason == reason)
    assert problem.subject_id == subject
    assert words in problem.detail
    assert problem.fatal == fatal
    assert (subject in found.table.index) == (not fatal)
    assert len(found.table) == 12 + (not fatal) - (reason == "duplicate_subject")


def test_all_bad_rows_are_listed_at_once_in_the_tables_order(tmp_path):
    found = read(
        copdgene(
            tmp_path / "p.txt",
            {"sid": "A", "gender": "x"},
            {"sid": "B", "FEV1_utah": "3", "FEV1_FVC_utah": ""},
            {"sid": "C", "age_visit": "-3"},
        )
    )
    assert [(p.subject_id, p.reason) for p in found.problems if p.fatal] == [
        ("A", "unknown_sex"),
        ("B", "fev1_above_fvc"),
        ("C", "age_out_of_range"),
    ]


def test_missing_values_are_no_problem(tmp_path):
    gone = dict.fromkeys(["FEV1_utah", "FVC_utah", "FEV1pp_utah", "FVCpp_utah", "FEV1_FVC_utah", "finalGold", "race", "Height_CM"], "")
    coded = {"sid": "T", "FEV1pp_utah": "NA", "finalGold": "-9", "Height_CM": "999", "pctEmph_Thirona": "-9", "gender": "-9"}
    found = read(copdgene(tmp_path / "p.txt", gone, coded))
    assert found.problems == []
    assert found.table.loc["S", ["fev1_l", "fev1_pp", "fev1_fvc", "gold", "height_cm"]].isna().all()
    assert found.table.loc["T", ["fev1_pp", "gold", "height_cm", "emphysema_pct"]].isna().all()
    assert found.table.loc["T", "sex"] == ""
    assert np.isnan(found.table.loc["S", "gold"])


def test_missing_percent_predicted_is_computed_by_the_reference_and_noted(tmp_path):
    path = copdgene(tmp_path / "p.txt", without=("FEV1pp_utah", "FVCpp_utah", "finalGold"))
    for reference, percent in (("gli-global", 55.35), ("gli2012", 52.90)):
        found = read(path, reference=reference)
        np.testing.assert_allclose(found.table["fev1_pp"], percent, atol=5e-3)
        np.testing.assert_array_equal(found.table["gold"], 2)
        notes = "\n".join(found.notes)
        assert f"reference {reference}" in notes
        assert "fev1_pp not in the table: computed from FEV1, age, sex and height for 12 rows" in notes
        assert "gold not in the table: by the rule for 12 rows" in notes


def test_a_few_missing_percents_are_not_filled_from_another_reference(tmp_path):
    assert np.isnan(read(copdgene(tmp_path / "p.txt", {"FEV1pp_utah": ""})).table.loc["S", "fev1_pp"])


def test_the_six_grades_and_never_smokers_are_kept_as_the_table_has_them(tmp_path):
    normal = {"FEV1_utah": "2.0", "FEV1pp_utah": "92", "FEV1_FVC_utah": "", "finalGold": "-2", "smoking_status": "0", "ATS_PackYears": "0"}
    prism = {"sid": "P", "FEV1_utah": "1.7", "FEV1pp_utah": "75", "FEV1_FVC_utah": "0.71", "finalGold": "-1"}
    found = read(copdgene(tmp_path / "p.txt", normal, prism))
    assert found.problems == []
    assert found.table.loc[["S", "P", "S00"], "gold"].tolist() == [-2, -1, 2]
    by_rule = read(copdgene(tmp_path / "r.txt", normal, prism, without=("finalGold",)))
    assert by_rule.table.loc[["S", "P", "S00"], "gold"].tolist() == [-2, -1, 2]


def test_visits_are_never_mixed(tmp_path):
    path = copdgene(tmp_path / "p.txt", {"sid": "S00", "visitnum": "2", "FEV1pp_utah": "51"})
    with pytest.raises(ReadError, match=r"p\.txt: 1 subjects have several visits \(1, 2\); choose one") as caught:
        read(path)
    assert caught.value.reason == "several_visits"
    assert read(path, visit=1).table.loc["S00", "fev1_pp"] == 54
    second = read(path, visit=2).table
    assert second["fev1_pp"].to_dict() == {"S00": 51}
    with pytest.raises(ReadError, match="no row of visit '3'; the visits are 1, 2"):
        read(path, visit=3)


def test_a_wide_table_gives_the_chosen_visit(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text("sid,gender,FEV1pp_utah_P1,FEV1pp_utah_P2,Age_P1,Age_P2\nA,1,80,70,60,65\n", encoding="utf-8")
    table = read(path, visit=2).table
    assert table.loc["A", ["fev1_pp", "age", "sex", "visit"]].tolist() == [70, 65, "M", "2"]


def test_a_plain_table_and_a_table_with_a_mapping_read_alike(tmp_path):
    plain, mapped = tmp_path / "plain.csv", tmp_path / "mapped.csv"
    plain.write_text("subject_id,sex,age,height,fev1,fvc\nA,F,65.3,160,1200,2400\n", encoding="utf-8")
    mapped.write_text("nr;geschlecht;alter;groesse;ek1;fvk\nA;0;65,3;160;1,2;2,4\n", encoding="utf-8")
    columns = {"subject_id": "nr", "sex": "geschlecht", "age": "alter", "height_cm": "groesse", "fev1_l": "ek1", "fvc_l": "fvk"}
    one = read(plain, preset="plain").table
    other = read(mapped, preset="none", columns=columns, codes={"sex": {0: "F", 1: "M"}}).table
    assert one.equals(other)
    assert one.loc["A", "fev1_pp"] == pytest.approx(55.35, abs=5e-3)


def test_what_concerns_the_whole_table_names_the_file(tmp_path):
    path = copdgene(tmp_path / "p.txt", without=("sid",))
    with pytest.raises(ReadError, match=r"p\.txt: no column names the subjects"):
        read(path)
    with pytest.raises(ReadError, match=r"p\.txt: .*2 of 3 values are not in L|p\.txt: column 'FEV1_utah'"):
        read(copdgene(tmp_path / "p.txt", {"FEV1_utah": "1300"}, {"FEV1_utah": "1500"}, sound=3))


def test_a_workbook_is_read_by_sheet(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(list(SOUND))
    book.active.append([float(value) if value.replace(".", "").isdigit() else value for value in SOUND.values()])
    book.create_sheet("dictionary").append(["sid", "the subject"])
    book.save(tmp_path / "p.xlsx")
    with pytest.raises(ReadError, match="2 sheets"):
        read(tmp_path / "p.xlsx")
    found = read(tmp_path / "p.xlsx", sheet="Sheet")
    assert found.table.loc["S", "sex"] == "F"
    assert found.problems == []
