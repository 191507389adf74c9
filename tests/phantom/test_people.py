import numpy as np
import pandas as pd
import pytest

from copdvae.errors import CopdvaeError
from copdvae.phantom import people, study
from copdvae.spirometry import predict


@pytest.fixture(scope="module")
def cohort():
    persons, diseases, tested = study.draw_people(5, range(1, 1201), None)
    return pd.concat([pd.DataFrame([vars(item) for item in items]) for items in (persons, diseases)] + [tested], axis=1)


def test_every_stage_and_prism_are_well_filled(cohort):
    shares = cohort["gold"].value_counts(normalize=True)
    assert set(shares.index) == {-2, -1, 0, 1, 2, 3, 4}
    assert shares.loc[[-1, 0, 1, 2, 3, 4]].min() > 0.04


def test_severity_is_uniform_and_the_two_factors_go_together(cohort):
    for name in ("severity", "emphysema", "small_airways"):
        assert np.allclose(np.quantile(cohort[name], [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.05)
    normal = people.norm.ppf(cohort[["emphysema", "small_airways"]].clip(1e-4, 1 - 1e-4))
    assert np.corrcoef(normal.T)[0, 1] == pytest.approx(people.FACTOR_CORRELATION, abs=0.03)


def test_spirometry_falls_with_severity_and_is_possible(cohort):
    assert cohort["severity"].corr(cohort["fev1_pp"], method="spearman") < -0.85
    assert (cohort["fev1_l"] < cohort["fvc_l"]).all()


def test_which_of_the_two_factors_leads_does_not_move_spirometry(cohort):
    rest = cohort["fev1_pp"] - np.polyval(np.polyfit(cohort["severity"], cohort["fev1_pp"], 3), cohort["severity"])
    assert abs(rest.corr(cohort["emphysema"] - cohort["small_airways"])) < 0.1


def test_percent_predicted_is_the_litres_over_gli(cohort):
    table = cohort[["sex", "age", "height_cm"]].assign(race=[people.RACES[code] for code in cohort["race"]])
    expected = 100 * cohort["fev1_l"] / predict(table, "gli2012")["fev1_pred"]
    np.testing.assert_allclose(cohort["fev1_pp"], expected, atol=0.006)


def test_only_never_smokers_with_normal_spirometry_are_minus_two(cohort):
    normal = (cohort["fev1_l"] / cohort["fvc_l"] >= 0.7) & (cohort["fev1_pp"] >= 80)
    assert ((cohort["gold"] == -2) == (normal & cohort["never_smoked"])).all()


def test_the_body_knows_nothing_of_the_disease(cohort):
    body = cohort[["age", "height_cm", "weight_kg", "race"]]
    assert body.corrwith(cohort["severity"]).abs().max() < 0.09  # 3 standard errors of 1,200


def write_people(path, rows):
    pd.DataFrame(rows, columns=["gender", "age", "height", "weight", "ethnicity", "fev1", "fvc"]).to_csv(path, index=False)
    return path


def test_people_of_a_table_keep_their_spirometry_and_get_a_disease_that_fits(tmp_path):
    table = write_people(
        tmp_path / "people.csv",
        [
            ("male", 60, 175, 80, "white", 3.5, 4.4),
            ("male", 61, 175, 80, "black", 0.9, 2.9),
            ("female", 25, 165, 60, "white", 3.3, 3.9),
            ("female", 70, 160, 60, "other", 2.9, 2.1),
        ],
    )
    persons, diseases, tested = study.draw_people(0, range(1, 61), table)
    assert set(tested["fev1_l"]) == {3.5, 0.9}  # not the young one, not the impossible one
    severity = np.array([disease.severity for disease in diseases])
    ill = (tested["fev1_l"] == 0.9).to_numpy()
    assert severity[ill].min() > severity[~ill].max() + 0.3
    assert {person.race for person, is_ill in zip(persons, ill, strict=True) if is_ill} == {2}


def test_truth_explains_the_spirometry_of_real_people_without_rest(tmp_path):
    table = write_people(tmp_path / "people.csv", [("male", 60, 175, 80, "white", 3.5, 4.4), ("male", 61, 175, 80, "white", 0.9, 2.9)])
    persons, diseases, tested = study.draw_people(0, range(1, 21), table)
    normal = predict(pd.DataFrame([{"sex": p.sex, "age": p.age, "height_cm": p.height_cm, "race": "white"} for p in persons]), "gli2012")
    fvc, ratio = people.expected_shares(np.array([disease.severity for disease in diseases]))
    np.testing.assert_allclose(tested["fvc_l"] / normal["fvc_pred"], fvc - [disease.restriction for disease in diseases], atol=1e-4)
    share = tested["fev1_l"] / tested["fvc_l"] / normal["ratio_pred"]
    np.testing.assert_allclose(share, ratio - [disease.hidden_obstruction for disease in diseases], atol=1e-4)


def test_the_obstructed_of_a_table_are_drawn_more_often(tmp_path):
    rows = [("male", 60, 175, 80, "white", 3.5, 4.4)] * 30 + [("male", 61, 175, 80, "white", 0.9, 2.9)]
    _, _, tested = study.draw_people(0, range(1, 201), write_people(tmp_path / "people.csv", rows))
    assert 0.4 < (tested["fev1_l"] == 0.9).mean() < 0.6


def test_a_table_without_usable_people_is_refused_by_name(tmp_path):
    table = write_people(tmp_path / "young.csv", [("male", 20, 175, 80, "white", 3.5, 4.4)])
    with pytest.raises(CopdvaeError, match=r"young\.csv: no person of 40 years"):
        study.draw_people(0, range(1, 3), table)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(CopdvaeError, match="no column sex or gender"):
        study.draw_people(0, range(1, 3), tmp_path / "other.csv")


@pytest.mark.data
def test_nhanes_people_span_the_stages(real_data):
    table = real_data / "spirometry" / "nhanes_2007_2012_spirometry.csv.gz"
    _, diseases, tested = study.draw_people(0, range(1, 401), table)
    assert set(tested["gold"]) >= {-1, 0, 1, 2, 3, 4}
    severity = pd.Series([disease.severity for disease in diseases])
    assert severity.corr(tested["fev1_pp"], method="spearman") < -0.7
