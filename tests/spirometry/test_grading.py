"""`copdvae spirometry`: every row back, with what could be computed and why not otherwise."""

import time

import numpy as np
import openpyxl
import pandas as pd
import pytest
from typer.testing import CliRunner

from copdvae.cli import app
from copdvae.errors import CopdvaeError, ReadError
from copdvae.spirometry import predict
from copdvae.spirometry.columns import config_from_options
from copdvae.spirometry.table import grade_table, write_table


def people(**columns) -> pd.DataFrame:
    """Four sound people as text, or what `columns` makes of them."""
    usual = {
        "id": ["a", "b", "c", "d"],
        "sex": ["M", "F", "M", "F"],
        "age": ["40", "65.3", "70.1", "50"],
        "height": ["175", "160", "172", "165"],
        "fev1": ["3.5", "1.2", "1.0", "2.0"],
        "fvc": ["4.5", "2.4", "3.0", "2.5"],
    }
    return pd.DataFrame(usual | columns, index=range(2, 6), dtype=object)


def grade(table: pd.DataFrame, reference: str = "gli2012", pre_bronchodilator: bool = False, **options):
    return grade_table(table, config_from_options(table, reference, **options), pre_bronchodilator)


def test_a_graded_table_has_the_known_answers_beside_its_own_columns():
    table = people(race="white")
    graded = grade(table).table
    pd.testing.assert_frame_equal(graded[list(table)], table)
    np.testing.assert_allclose(graded["fev1_pred"].astype(float)[:3], [4.0780, 2.2684, 2.9842], atol=5e-5)
    np.testing.assert_allclose(graded["fev1_pp"].astype(float)[:3], [85.83, 52.90, 33.51], atol=5e-3)
    np.testing.assert_allclose(graded["fev1_z"].astype(float)[:3], [-1.131, -2.936, -3.671], atol=5e-4)
    np.testing.assert_allclose(graded["ratio_lln"].astype(float)[:2], [0.7048, 0.6617], atol=5e-5)
    assert graded["gold"].tolist() == [0, 2, 3, -1]
    assert set(graded["reference"]) == {"gli2012"}
    assert set(graded["gold_basis"]) == {"bronchodilator not stated"}


def test_units_and_codes_of_the_table_do_not_change_what_comes_out():
    plain = grade(people(race="black"))
    other = people(
        race="African-American",
        sex=["1", "2", "1", "2"],
        height=["68.8976378", "62.9921260", "67.7165354", "64.9606299"],
        fev1=["3500", "1200", "1000", "2000"],
        fvc=["4,5", "2,4", "3,0", "2,5"],
    )
    again = grade(other)
    for column in ("fev1_pred", "fev1_pp", "fvc_z", "ratio_z", "gold"):
        np.testing.assert_allclose(again.table[column].astype(float), plain.table[column].astype(float), rtol=1e-6)
    notes = "\n".join(again.notes)
    assert "fev1_l from column 'fev1' in mL" in notes
    assert "height_cm from column 'height' in inch" in notes
    assert "commas read as decimal commas" in notes
    assert "1 is M, 2 is F" in notes
    assert "black as african_american" in notes


@pytest.mark.parametrize(
    ("columns", "reason", "gold_reason", "flag"),
    [
        ({"sex": ["X", "F", "M", "F"]}, "unknown_sex", "no_fev1_pp", "unknown_sex"),
        ({"sex": ["", "F", "M", "F"]}, "no_sex", "no_fev1_pp", ""),
        ({"age": ["", "65.3", "70.1", "50"]}, "no_age", "no_fev1_pp", ""),
        ({"age": ["17", "65.3", "70.1", "50"]}, "", "under_18", "age_unusual"),
        ({"age": ["97", "65.3", "70.1", "50"]}, "age_out_of_range", "no_fev1_pp", ""),
        ({"height": ["1.75", "160", "172", "165"]}, "mixed_units", "no_fev1_pp", "mixed_units"),
        ({"height": ["115", "160", "172", "165"]}, "", "", "height_unusual"),
        ({"fev1": ["", "1.2", "1.0", "2.0"]}, "", "no_ratio", ""),
        ({"fev1": ["4.6", "1.2", "1.0", "2.0"]}, "", "no_ratio", "fev1_above_fvc"),
        ({"fev1": ["0.1", "1.2", "1.0", "2.0"]}, "", "no_ratio", "fev1_out_of_range"),
        ({"fev1": ["1e9", "1.2", "1.0", "2.0"]}, "", "no_ratio", "fev1_out_of_range"),
        ({"fev1": ["n.d.", "1.2", "1.0", "2.0"]}, "", "no_ratio", "not_a_number"),
        ({"ratio": ["0.6", "0.5", "0.333", "0.8"]}, "", "no_ratio", "ratio_disagrees"),
    ],
)
def test_a_bad_row_is_null_with_a_reason_and_the_others_are_as_without_it(columns, reason, gold_reason, flag):
    graded, sound = grade(people(**columns)).table, grade(people()).table
    first = graded.loc[2]
    assert (first["reason"], first["gold_reason"], first["flags"]) == (reason, gold_reason, flag)
    assert pd.isna(first["fev1_pred"]) == (reason != "")
    assert pd.isna(first["gold"]) == (gold_reason != "")
    if flag in ("fev1_above_fvc", "fev1_out_of_range", "not_a_number", "ratio_disagrees"):
        assert np.isnan(first[["fev1_pp", "fev1_z", "ratio_z"]].astype(float)).all()
    rest = ["fev1_pred", "fev1_pp", "fvc_z", "ratio_lln", "gold", "reason", "flags"]
    pd.testing.assert_frame_equal(graded.loc[3:, rest], sound.loc[3:, rest], check_dtype=False)


def test_the_default_race_is_announced_recorded_and_can_be_given():
    graded = grade(people(race=["white", "", "Klingon", "black"]))
    assert graded.table["group_from"].tolist() == ["race", "default", "default", "race"]
    assert any("race missing or without a group as other: 2 rows" in note for note in graded.notes)
    assert graded.table["flags"].tolist() == ["", "", "unknown_race", ""]
    given = grade(people(), default_race="black").table
    np.testing.assert_array_equal(
        given["fev1_pred"],
        predict(
            pd.DataFrame({"sex": list("MFMF"), "age": [40, 65.3, 70.1, 50], "height_cm": [175, 160, 172, 165], "race": "black"}), "gli2012"
        )["fev1_pred"],
    )


def test_before_the_bronchodilator_gold_is_labelled_not_diagnostic():
    label = "pre-bronchodilator, not diagnostic"
    assert set(grade(people(), pre_bronchodilator=True).table["gold_basis"]) == {label}
    assert set(grade(people().rename(columns={"fev1": "FEV1_pre", "fvc": "FVC_pre"})).table["gold_basis"]) == {label}
    mixed = grade(people(bronchodilator=["pre", "Post-BD", "", "post"])).table["gold_basis"]
    assert mixed.tolist() == [label, "post-bronchodilator", "bronchodilator not stated", "post-bronchodilator"]
    assert grade(people(age=["12"] * 4), pre_bronchodilator=True).table["gold_basis"].tolist() == [""] * 4


def test_a_tables_own_grade_stays_and_disagreements_are_listed_by_row():
    graded = grade(people(gold=["0", "1", "GOLD 3", ""], smoking_status=["", "never", "", ""]))
    assert graded.table["gold_given"].tolist() == ["0", "1", "GOLD 3", ""]
    assert graded.table["gold"].tolist() == [0, 2, 3, -1]
    assert graded.table["flags"].tolist() == ["", "gold_disagrees", "", ""]
    assert "flagged gold_disagrees: 1 rows (3)" in graded.summary
    assert any("'gold' is now 'gold_given'" in note for note in graded.notes)
    assert grade(people(gold=["-2", "2", "3", "-1"])).table["flags"].tolist() == [""] * 4  # no history here to tell -2 from 0


def test_never_smoked_comes_from_a_smoking_history_alone():
    assert grade(people(smoking=["never", "never", "", "never"])).table["gold"].tolist() == [-2, 2, 3, -1]
    assert grade(people(pack_years=["0", "0", "30", "0"])).table["gold"].tolist() == [-2, 2, 3, -1]
    assert grade(people(pack_years=["0.5", "0", "30", "0"])).table["gold"].tolist() == [0, 2, 3, -1]


def test_a_table_without_a_needed_column_is_refused_with_the_names_looked_for():
    with pytest.raises(ReadError, match=r"no column for height_cm \(height_cm, height, .*the table has id, sex, age, fev1, fvc.*--column"):
        grade(people().drop(columns="height"))
    moved = people().rename(columns={"height": "lengte"})
    assert grade(moved, columns=["height_cm=lengte"]).table["fev1_pred"].notna().all()
    with pytest.raises(CopdvaeError, match="write NAME=VALUE"):
        grade(moved, columns=["height_cm"])


def test_no_cell_of_a_written_table_can_run_as_a_formula(tmp_path):
    nasty = people(note=["=HYPERLINK(1)", "@SUM(1)", "-1.5", "+cmd|' /C calc'!A0"]).rename(columns={"note": "=note"})
    write_table(grade(nasty).table, tmp_path / "out.csv")
    back = pd.read_csv(tmp_path / "out.csv", dtype=str)
    assert back["'=note"].tolist() == ["'=HYPERLINK(1)", "'@SUM(1)", "-1.5", "'+cmd|' /C calc'!A0"]
    assert back["gold"].tolist() == ["0", "2", "3", "-1"]
    write_table(grade(nasty).table, tmp_path / "out.xlsx")
    cells = [cell for row in openpyxl.load_workbook(tmp_path / "out.xlsx").active.iter_rows() for cell in row]
    assert not [cell.value for cell in cells if cell.data_type == "f"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".xlsx"])
def test_the_command_writes_what_its_ending_says_and_tells_what_it_assumed(tmp_path, suffix):
    people().to_csv(tmp_path / "in.csv", index=False)
    out = tmp_path / f"out{suffix}"
    done = CliRunner().invoke(app, ["spirometry", str(tmp_path / "in.csv"), "--reference", "nhanes3", "--out", str(out), "--pre-bd"])
    assert done.exit_code == 0, done.output
    back = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".xlsx": pd.read_excel}[suffix](out)
    expected = grade(people(), "nhanes3").table["fev1_pp"].to_numpy(dtype=float)
    np.testing.assert_allclose(back["fev1_pp"].astype(float), expected, rtol=1e-12)
    assert "4 rows, 4 predicted, 4 with a GOLD stage" in done.stderr
    assert "reference nhanes3: NHANES III" in done.stderr
    assert "GOLD basis: pre-bronchodilator, not diagnostic: 4 rows" in done.stderr
    assert done.stdout.strip() == str(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", out.name]


def test_another_ending_or_reference_is_a_mistake_that_writes_nothing(tmp_path):
    people().to_csv(tmp_path / "in.csv", index=False)
    with pytest.raises(CopdvaeError, match=r"\.csv, \.parquet, \.xlsx, not \.doc"):
        write_table(people(), tmp_path / "out.doc")
    done = CliRunner().invoke(app, ["spirometry", str(tmp_path / "in.csv"), "--reference", "ecsc", "--out", str(tmp_path / "out.csv")])
    assert done.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.data
@pytest.mark.parametrize(("reference", "predicted"), [("gli2012", 16596), ("gli-global", 16596), ("nhanes3", None)])
def test_all_of_nhanes_is_graded_with_children_and_the_short_flagged(real_data, tmp_path, reference, predicted):
    source, out = real_data / "spirometry" / "nhanes_2007_2012_spirometry.csv.gz", tmp_path / "out.csv"
    started = time.perf_counter()
    done = CliRunner().invoke(app, ["spirometry", str(source), "--reference", reference, "--out", str(out), "--pre-bd"])
    print(f"{reference}: {time.perf_counter() - started:.2f} s without imports")
    assert done.exit_code == 0, done.output
    table = pd.read_csv(out, keep_default_na=False, na_values=[""])
    assert len(table) == 16596
    has = table["fev1_pred"].notna()
    assert has.sum() == predicted or predicted is None
    assert (has == table["reason"].isna()).all()
    young = table["age"] < 18
    assert (table["gold"].isna() == (young | table["fev1_pp"].isna())).all()
    assert (table.loc[young, "gold_reason"] == "under_18").all()
    assert table.loc[young, "flags"].str.contains("age_unusual").all()
    assert table.loc[table["height"] < 120, "flags"].str.contains("height_unusual").all()
    if reference == "nhanes3":
        assert (~has).sum() > 0
        assert table.loc[~table["age"].between(8, 80), "reason"].eq("age_out_of_range").all()
        assert (table["reason"].dropna().isin(["age_out_of_range", "height_out_of_range"])).all()
        group = table["ethnicity"].map(
            {
                "white": "caucasian",
                "black": "african_american",
                "mexican": "mexican_american",
                "hispanic": "mexican_american",
                "other": "caucasian",
            }
        )
        assert (table["reference_group"] == group).all()
