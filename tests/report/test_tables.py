import numpy as np
import pandas as pd
import pytest

from copdvae.methods import methods
from copdvae.metrics.neighbours import GOLD_SIX
from copdvae.report.cohort import cohort_table, flow, resampled, scan_warnings
from copdvae.report.files import Run, Study, read_study
from copdvae.report.shown import duration, hide, number
from copdvae.report.tables import (
    agreement,
    best_of,
    confusions,
    difference_rows,
    first_scores,
    label_tables,
    middle_seed,
    other_scores,
    result_table,
    summary,
    warnings_of,
)
from copdvae.report.words import METHODS


def made(**parts) -> Study:
    empty = dict.fromkeys(("scores", "differences", "predictions", "cohort", "rejected"))
    return Study(**(empty | {"evaluation": {}, "runs": []} | parts))


def scores(rows: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["method", "seed", "target", "metric", "value", "low", "high", "ceiling", "note"])


SCORES = scores(
    [
        ("pairwise", "0", "fev1_pp", "r2", 0.50, 0.4, 0.6, 0.8, ""),
        ("pairwise", "1", "fev1_pp", "r2", 0.40, 0.3, 0.5, 0.8, ""),
        ("pairwise", "mean", "fev1_pp", "r2", 0.46, 0.37, 0.55, 0.8, ""),
        ("pairwise", "0", "fev1_pp", "mae", 12.3, 11.0, 13.0, np.nan, ""),
        ("vae", "0", "fev1_pp", "r2", 0.10, 0.0, 0.2, 0.8, ""),
        ("vae", "1", "fev1_pp", "r2", 0.30, 0.1, 0.5, 0.8, ""),
        ("supervised", "0", "fev1_pp", "r2", 0.70, 0.6, 0.75, 0.8, ""),
        ("densitometry", "", "fev1_pp", "r2", 0.60, 0.5, 0.7, 0.8, ""),
        ("densitometry", "", "emphysema_pct", "r2", 0.99, 0.98, 1.0, 0.7, "identity"),
        ("mean", "", "fev1_pp", "r2", -0.004, -0.01, 0.0, 0.8, ""),
        ("mean", "", "emphysema_pct", "r2", np.nan, np.nan, np.nan, np.nan, ""),
    ]
)


@pytest.mark.parametrize(
    ("value", "text"), [(0.123, "0.12"), (-0.5, "−0.50"), (-0.001, "0.00"), (np.nan, "–"), (None, "–"), (1234.5, "1,234.50"), (np.inf, "–")]
)
def test_numbers_read_well(value, text):
    assert number(value) == text


def test_the_row_of_the_mean_over_seeds_is_used_where_there_is_one():
    table = summary(SCORES).set_index(["method", "target", "metric"])
    row = table.loc[("pairwise", "fev1_pp", "r2")]
    assert (row["value"], row["low"], row["high"]) == (0.46, 0.37, 0.55)
    assert row["seeds"] == [0.5, 0.4]
    assert row["share"] == pytest.approx(0.46 / 0.8)


def test_without_such_a_row_seeds_are_averaged():
    row = summary(SCORES).set_index(["method", "target", "metric"]).loc[("vae", "fev1_pp", "r2")]
    assert (row["value"], row["low"], row["high"]) == pytest.approx((0.2, 0.05, 0.35))


def test_the_best_representation_is_neither_a_baseline_nor_told_the_measures():
    best = best_of(first_scores(made(scores=SCORES)))
    assert best["fev1_pp"]["method"] == "pairwise"
    assert "emphysema_pct" not in best


def test_results_are_cells_of_methods_and_targets():
    study = made(scores=SCORES)
    table = result_table(study, first_scores(study))
    assert [head["name"] for head in table["heads"]] == ["FEV1 % predicted", "Emphysema %"]
    assert [head["ceiling"] for head in table["heads"]] == ["0.80", "0.70"]
    rows = {row["method"]: row for group in table["groups"] for row in group["rows"]}
    cell = rows["pairwise"]["cells"][0]
    assert (cell["value"], cell["interval"], cell["best"]) == ("0.46", "0.37 to 0.55", True)
    assert cell["share"] == "57\u202f%"
    assert cell["seeds"] == "2 seeds: 0.40 to 0.50"
    assert rows["densitometry"]["cells"][1]["note"] == "identity"
    assert not rows["densitometry"]["cells"][0]["best"]
    assert rows["pairwise"]["cells"][1] is None
    assert rows["mean"]["cells"][0]["value"] == "0.00"
    assert rows["mean"]["cells"][1]["value"] == "–"
    assert [group["kind"] for group in table["groups"]] == ["u", "direct", "baseline"]


def test_other_metrics_have_tables_of_their_own():
    study = made(scores=SCORES)
    (table,) = other_scores(study, first_scores(study))
    assert table["title"] == "Mean absolute error"
    assert table["rows"] == [["Pairwise similarities", "12.30 (11.00 to 13.00)"]]


SDS = "in standard deviations of training subjects"
LABELS = pd.concat(
    [
        SCORES,
        scores(
            [
                (
                    "ss_beta_vae",
                    "0",
                    "fev1_pp+fev1_fvc",
                    "label_l2",
                    0.5,
                    0.45,
                    0.55,
                    np.nan,
                    "in standard deviations of training subjects",
                ),
                ("ss_beta_vae", "0", "fev1_fvc", "label_l2", 0.4, 0.35, 0.45, np.nan, SDS),
                ("ss_beta_vae", "0", "fev1_pp", "label_l2", 0.3, 0.25, 0.35, np.nan, SDS),
                ("mean", "", "fev1_fvc", "label_l2", 0.8, 0.7, 0.9, np.nan, SDS),
                ("larvae", "0", "fev1_pp", "label_l2", 0.1, 0.05, 0.15, np.nan, "in ranges of training subjects"),
                ("parted_vae", "0", "gold", "accuracy", 0.5, np.nan, np.nan, np.nan, "classes 0, 1"),
                ("parted_vae", "1", "gold", "accuracy", 0.6, 0.4, 0.8, np.nan, "classes 0, 1"),
                ("parted_vae", "mean", "gold", "accuracy", 0.55, 0.4, 0.7, np.nan, "classes 0, 1"),
                ("mean", "", "gold", "accuracy", 0.3, np.nan, np.nan, np.nan, "classes 0, 1"),
            ]
        ).assign(n=96),
    ]
)


def test_labels_that_methods_read_have_tables_by_unit_beside_the_baseline():
    first, second, third = label_tables(made(scores=LABELS))
    assert first["columns"] == [
        "Method",
        "FEV1 % predicted (n = 96)",
        "FEV1/FVC (n = 96)",
        "FEV1 % predicted and FEV1/FVC together (n = 96)",
    ]
    assert first["rows"] == [
        ["SS-β-VAE", "0.30 (0.25 to 0.35)", "0.40 (0.35 to 0.45)", "0.50 (0.45 to 0.55)"],
        ["Guess the average", "–", "0.80 (0.70 to 0.90)", "–"],
    ]
    assert "in standard deviations of training subjects: 0 is perfect" in first["about"]
    assert second["rows"] == [["LaRVAE", "0.10 (0.05 to 0.15)"]]
    assert "in ranges of training subjects" in second["about"]
    assert third["rows"] == [
        ["PartedVAE", "55\u202f% (40\u202f% to 70\u202f%)"], ["Guess the average", "30\u202f%"]
    ]  # fmt: skip
    assert "(classes 0, 1)" in third["about"]
    assert label_tables(made(scores=SCORES)) == label_tables(made()) == []


def test_labels_that_methods_read_are_in_no_other_table():
    study = made(scores=LABELS)
    first = first_scores(study)
    assert set(first["metric"]) == {"r2"}
    assert set(first["target"]) == {"fev1_pp", "emphysema_pct"}
    assert [table["title"] for table in other_scores(study, first)] == ["Mean absolute error"]
    assert [head["name"] for head in result_table(study, first)["heads"]] == ["FEV1 % predicted", "Emphysema %"]


def test_differences_are_lines_of_text():
    rows = pd.DataFrame(
        [("pairwise", "vae", "gold", "kappa", 0.2, 0.1, 0.3)], columns=["method", "other", "target", "metric", "value", "low", "high"]
    )
    assert difference_rows(made(differences=rows)) == [["Pairwise similarities", "VAE", "GOLD category, κ", "0.20", "0.10 to 0.30"]]


COHORT = pd.DataFrame(
    {
        "split": ["train"] * 6 + ["test"] * 4,
        "age": [60.0, 62, 64, 66, 68, np.nan, 50, 60, 70, 80],
        "sex": ["F", "F", "F", "M", "M", "M", "F", "F", "F", ""],
        "gold": [-2.0, -1, 0, 0, 1, 1, 2, 2, 0, np.nan],
        "emphysema_pct": [1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        "site": list("AAAAAAAAAB"),
    },
    index=[f"s{i}" for i in range(10)],
)


def rows_of(table):
    return {row["label"]: row for row in table["rows"]}


def test_table_one_is_the_textbook_one():
    table = cohort_table(COHORT, "split")
    assert [(head["name"], head["n"]) for head in table["heads"]] == [("Training", "6"), ("Test", "4"), ("All", "10")]
    rows = rows_of(table)
    assert rows["Age, years"]["cells"][:2] == ["64.0 (3.2)", "65.0 (12.9)"]
    assert rows["Age, years"]["missing"] == "1"
    assert rows["Women"]["cells"] == ["3 (50\u202f%)", "3 (100\u202f%)", "6 (67\u202f%)"]
    assert rows["Women"]["missing"] == "1"
    assert rows["Emphysema %"]["cells"][1] == "8.5 (7.8–9.2)"
    assert rows["GOLD 0"]["cells"] == ["2 (33\u202f%)", "1 (25\u202f%)", "3 (30\u202f%)"]
    assert rows["Never smoked"]["cells"][0] == "1 (17\u202f%)"
    assert rows["GOLD category"]["missing"] == "1"


def test_small_counts_are_hidden_and_cannot_be_had_by_subtraction():
    assert hide(np.array([20, 3, 0, 9]), 5) == ["20", "<5", "0", "hidden"]
    assert hide(np.array([20, 3, 2, 9]), 5) == ["20", "<5", "<5", "9"]
    assert hide(np.array([20, 3, 2, 9]), 0) == ["20", "3", "2", "9"]
    table = cohort_table(COHORT, "split", small=5)
    assert [head["n"] for head in table["heads"]] == ["hidden", "<5", "10"]
    rows = rows_of(table)
    assert rows["Age, years"]["cells"][1] == "–"  # no figure of four people
    assert rows["Age, years"]["missing"] == "<5"
    assert rows["B"]["cells"][2] == "<5"
    assert rows["A"]["cells"][2] == "hidden"
    assert rows["Women"]["cells"][2] == "hidden"  # three men


def test_the_flow_adds_up():
    rejected = pd.DataFrame(
        [("x1", "missing_slice", "yes"), ("x2", "missing_slice", "yes"), ("x3", "tilt", "no")], columns=["subject_id", "reason", "expected"]
    )
    found = flow(made(cohort=COHORT, rejected=rejected))
    assert (found["listed"], found["refused"], found["kept"]) == (13, 3, 10)
    assert [(entry["n"], entry["reason"], entry["expected"]) for entry in found["reasons"]] == [
        ("2", "missing slice", "yes"),
        ("1", "tilt", "no"),
    ]
    assert [(part["name"], part["n"]) for part in found["parts"]] == [("training", "6"), ("test", "4")]
    assert found["parts"][0]["lines"] == ["Emphysema %: 6", "GOLD category: 5"]  # the never-smoker is not on the scale


def test_unexpected_rejections_are_a_warning():
    rejected = pd.DataFrame([("x1", "tilt", "no"), ("x2", "tilt", "yes")], columns=["subject_id", "reason", "expected"])
    assert "1 rejected subject was not expected" in warnings_of(made(rejected=rejected))[0]
    assert not warnings_of(made(rejected=rejected[rejected["expected"] == "yes"]))


def gold_predictions(truth, predicted, seed="0"):
    ids = [f"s{i}" for i in range(len(truth))]
    rows = {"method": "pairwise", "seed": seed, "subject_id": ids, "target": "gold", "truth": truth, "predicted": predicted}
    return pd.DataFrame(rows)


def test_subjects_that_were_kept_because_the_study_allows_it_are_counted():
    cohort = pd.DataFrame({"warnings": [
        "insp: 2 of 50 slices were made up [gaps_filled]; exp: other [gaps_filled]", "insp: the stack leant [tilt_resampled]", "", np.nan,
        "insp: 1 of 9 [gaps_filled]; the two scans are of different studies: asked for [other_study]", "gaps_filled, in words",
    ]})  # fmt: skip
    gaps, tilt, other = resampled(made(cohort=cohort), 0)
    assert gaps.startswith("2 of the subjects have slices that were made up")
    assert tilt.startswith("1 of the subjects")
    assert "two studies" in other
    assert resampled(made(cohort=cohort), 2)[:2] == [gaps, tilt.replace("1 of", "Fewer than 2 of", 1)]
    assert resampled(made(cohort=cohort.iloc[2:4]), 0) == resampled(made(), 0) == []


def test_a_confusion_matrix_holds_shares_of_each_true_category():
    long = gold_predictions([0.0, 0, 0, 0, 1, 2, -1, -2], [0.0, 0, 0, 1, 3, 2, 0, 0])
    (matrix,) = confusions(made(predictions=long, scores=SCORES))
    rows = {row["label"]: row for row in matrix["rows"]}
    assert rows["GOLD 0"]["n"] == "4"
    assert [cell["shade"] for cell in rows["GOLD 0"]["cells"]] == [0, 0.75, 0.25, 0, 0, 0]
    assert rows["GOLD 4"]["cells"][0]["text"] == "–"
    assert matrix["exact"] == "57\u202f%"  # 4 of 7, the never-smoker left out
    assert matrix["within"] == "83\u202f%"  # 5 of the 6 with a stage
    assert len(matrix["columns"]) == len(GOLD_SIX)


def test_a_confusion_matrix_hides_small_cells():
    long = gold_predictions([0.0] * 10 + [1.0] * 3, [0.0] * 9 + [1.0] + [1.0] * 3)
    (matrix,) = confusions(made(predictions=long, scores=SCORES), small=5)
    rows = {row["label"]: row for row in matrix["rows"]}
    assert [cell["text"] for cell in rows["GOLD 0"]["cells"]][1:3] == ["90\u202f%", "<5"]
    assert rows["GOLD 0"]["cells"][2]["shade"] == 0
    assert rows["GOLD 1"]["n"] == "<5"
    assert {cell["text"] for cell in rows["GOLD 1"]["cells"]} == {"–"}


def test_agreement_is_bland_and_altmans_and_calibration_truth_on_prediction():
    predicted = np.array([10.0, 20, 30, 40])
    points = pd.DataFrame({"truth": 2 * predicted + 1, "predicted": predicted})
    facts = agreement(points)
    gap = predicted - (2 * predicted + 1)
    assert (facts["slope"], facts["intercept"]) == pytest.approx((2, 1))
    assert facts["bias"] == pytest.approx(gap.mean())
    assert facts["high"] - facts["low"] == pytest.approx(2 * 1.96 * gap.std(ddof=1))
    assert np.isnan(agreement(points.assign(predicted=5.0))["slope"])


def test_agreement_is_shown_for_the_seed_in_the_middle():
    parts = [
        pd.DataFrame(
            {
                "method": "pairwise",
                "seed": seed,
                "subject_id": ["a", "b"],
                "target": "fev1_pp",
                "truth": [1.0, 2],
                "predicted": [1.0 + off, 2],
            }
        )
        for seed, off in (("0", 9), ("1", 1), ("2", 4))
    ]
    chosen = middle_seed(made(predictions=pd.concat(parts)), "pairwise", "fev1_pp")
    assert chosen["seed"].unique().tolist() == ["2"]
    assert len(middle_seed(made(), "pairwise", "fev1_pp")) == 0


def test_methods_come_by_kind_and_baselines_from_the_simplest(whole):
    order = ["pairwise", "pairwise-insp", "vae", "supervised", "mean", "age_sex_height", "density_probe", "densitometry"]
    assert read_study(whole).methods() == order


def test_durations_read_well():
    assert [duration(seconds) for seconds in (None, 12.4, 600, 9000)] == ["–", "12 s", "10.0 min", "2.5 h"]


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"readout": "u", "told": "pairs"}, "u"),
        ({"readout": "all", "told": "classes"}, "u"), ({"readout": "ranked", "told": "nothing"}, "ranked"),
        ({"readout": "ranked", "told": "pairs of one class"}, "u"),
        ({"readout": "ranked"}, "ranked"), ({"readout": "direct", "told": "all"}, "direct"),
        ({"readout": "all", "told": "classes", "leaks": "sees labels"}, "leaks"),
    ],
)  # fmt: skip
def test_a_method_that_was_told_something_never_counts_as_learnt_from_images_alone(facts, kind):
    assert Run("x-s0-0", facts, {}, None, None, {}, {}).kind == kind


def test_every_method_has_a_name_and_a_sentence_of_its_own():
    names = [method["method"] for method in methods()]
    assert set(names) <= set(METHODS)
    assert len({METHODS[name][1] for name in names}) == len(names)


def test_a_remark_about_many_scans_is_one_line_and_one_about_few_stands_alone():
    thick = "insp: slices are {} mm thick [thick_slices]"
    cells = [f"{thick.format(k)}; exp: {thick.format(k)}" for k in range(20)]
    cells[3] += "; insp: no trachea was found: (really; look) [no_trachea]"
    cohort = pd.DataFrame({"warnings": [*cells, ""]}, index=[f"S{k}" for k in range(21)])
    one, many = scan_warnings(made(cohort=cohort))
    assert one == ("S3", "insp: no trachea was found: (really; look) [no_trachea]")
    assert many[0] == "20 subjects"
    assert thick.format(0) in many[1]
    assert "S0, S1, S2" in many[1]
    assert "S20" not in many[1]
