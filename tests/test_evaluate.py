"""Scores of made-up latents whose right answer is known."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import cohen_kappa_score, r2_score
from sklearn.neighbors import KNeighborsRegressor
from tiny import made_cohort, run_config

from copdvae.encode import encode
from copdvae.evaluate import (
    FIRST_METRIC,
    TARGETS,
    EvaluateConfig,
    Truth,
    baselines,
    difference_rows,
    label_baselines,
    label_rows,
    mig_rows,
    prediction_rows,
    predictions_of_run,
    read_latents,
    score_rows,
    standardised,
    u_columns,
)
from copdvae.objectives import Batch
from copdvae.supervision.labels import GOLD_CLASSES, LabelsConfig, class_columns, fit_labels, labels_from
from copdvae.train import load_run, train_run

CONFIG = EvaluateConfig(draws=200)
FACTS = {"pairwise": {"readout": "u", "u": 1, "latents": 4}, "vae": {"readout": "ranked", "u": 1, "latents": 4}}


def made_truth(count=400, seed=0, never=0) -> Truth:
    """Severity 0 .. 1 behind every target; the last `never` subjects never smoked: they have no GOLD category."""
    rng = np.random.default_rng(seed)
    ids = [f"S{k:03d}" for k in range(count)]
    severity = rng.uniform(0, 1, count)
    gold = np.array([-1.0, 0, 1, 2, 3, 4])[(severity * 6).astype(int).clip(0, 5)]
    gold[count - never :] = np.nan
    targets = pd.DataFrame(
        {"fev1_pp": 100 - 60 * severity, "emphysema_pct": 30 * severity**2, "gas_trapping_pct": 50 * severity, "gold": gold}, index=ids
    )
    split = pd.Series(np.resize(["train", "test", "train", "validation"], count), index=ids)
    people = pd.DataFrame(
        {"age": rng.normal(60, 8, count), "sex": rng.choice(["M", "F"], count), "height_cm": rng.normal(170, 9, count)}, index=ids
    )
    densities = pd.DataFrame(
        {
            "insp_laa950_pct": 30 * severity**2,
            "insp_mean_lung_hu": rng.normal(-850, 20, count),
            "exp_mean_lung_hu": rng.normal(-700, 30, count),
        },
        index=ids,
    )
    return Truth(targets, split, people, densities, {"emphysema_pct": "insp_laa950_pct"})


def latents(truth, method="pairwise", informative=1.0, place=0, seed=1):
    """u (or one of z) is severity in some other unit, plus noise."""
    rng = np.random.default_rng(seed)
    severity = (100 - truth.targets["fev1_pp"].to_numpy()) / 60
    values = rng.normal(size=(len(severity), 4))
    values[:, place] = 7 * (informative * severity + (1 - informative) * rng.uniform(0, 1, len(severity))) - 3
    names = ["u_0", "v_0", "v_1", "v_2"] if method == "pairwise" else [f"z_{d}" for d in range(4)]
    table = pd.DataFrame(values, columns=names, index=truth.targets.index)
    return table.join(pd.DataFrame(0.1, columns=[f"{name}_std" for name in names], index=table.index)).assign(split=truth.split)


def scores(found, truth, method="it"):
    return pd.DataFrame(score_rows(method, found, truth, {}, CONFIG)).set_index(["target", "metric", "seed"])


@pytest.mark.parametrize(("method", "place"), [("pairwise", 0), ("vae", 2)])
def test_a_latent_that_is_the_target_scores_full_marks(method, place):
    truth = made_truth()
    found = scores({0: predictions_of_run(latents(truth, method, place=place), FACTS[method], truth, CONFIG)}, truth)
    for target in TARGETS:
        row = found.loc[(target, FIRST_METRIC[target], 0)]
        assert row["value"] > (0.9 if target == "gold" else 0.99)
        assert row["low"] <= row["value"] <= row["high"]
        assert row["n"] == 100
    assert found.loc[("fev1_pp", "mae", 0), "value"] < 1


def test_scores_are_those_of_a_second_implementation():
    truth = made_truth(never=30)
    codes = latents(truth, informative=0.7)
    found = scores({0: predictions_of_run(codes, FACTS["pairwise"], truth, CONFIG)}, truth)
    train, test = ((truth.split == part).to_numpy() for part in ("train", "test"))
    model = KNeighborsRegressor(5).fit(codes.loc[train, ["u_0"]].to_numpy(), truth.targets.loc[train, "gas_trapping_pct"])
    by_hand = r2_score(truth.targets.loc[test, "gas_trapping_pct"], model.predict(codes.loc[test, ["u_0"]].to_numpy()))
    assert found.loc[("gas_trapping_pct", "r2", 0), "value"] == pytest.approx(by_hand)

    gold = truth.targets["gold"].to_numpy()
    smoked, u = ~np.isnan(gold), codes["u_0"].to_numpy()
    voted = []
    for row in np.flatnonzero(test & smoked):
        candidates = np.flatnonzero(train & smoked)
        near = gold[candidates[np.argsort(np.abs(u[candidates] - u[row]))[:5]]]
        stages, votes = np.unique(near, return_counts=True)
        voted.append(stages[votes.argmax()])
    assert found.loc[("gold", "kappa", 0), "value"] == pytest.approx(
        cohen_kappa_score(gold[test & smoked].astype(int), np.array(voted).astype(int))
    )
    assert found.loc[("gold", "kappa", 0), "n"] == (test & smoked).sum()


def test_a_latent_that_knows_nothing_scores_nothing():
    truth = made_truth()
    found = scores({0: predictions_of_run(latents(truth, informative=0), FACTS["pairwise"], truth, CONFIG)}, truth)
    assert found.loc[("fev1_pp", "r2", 0), "value"] < 0.05
    assert abs(found.loc[("gold", "kappa", 0), "value"]) < 0.12


@pytest.mark.parametrize("method", ["pairwise", "vae"])
def test_neighbours_and_ranks_come_from_training_subjects_only(method):
    """Poisoned targets and latents of validation and test subjects change no prediction of an untouched test subject."""
    truth, config = made_truth(), CONFIG
    codes = latents(truth, method, informative=0.6)
    spared = truth.split.index[truth.split == "test"][:20]
    others = truth.split.index[(truth.split != "train") & ~truth.split.index.isin(spared)]
    targets, poisoned = truth.targets.copy(), codes.copy()
    targets.loc[others] = 4.0
    numbers = [column for column in poisoned if column != "split"]
    poisoned.loc[others, numbers] = codes.loc[spared[0], numbers].to_numpy(float)
    other = Truth(targets, truth.split, truth.people, truth.densities, truth.identity)
    clean, dirty = (predictions_of_run(c, FACTS[method], t, config) for c, t in ((codes, truth), (poisoned, other)))
    for target in TARGETS:
        pd.testing.assert_series_equal(clean[target].loc[spared], dirty[target].loc[spared])
    clean, dirty = baselines(truth, config), baselines(other, config)
    for name in clean:
        for target in TARGETS:
            pd.testing.assert_series_equal(clean[name][target].loc[spared], dirty[name][target].loc[spared])


def test_never_smokers_neither_vote_nor_count():
    truth = made_truth(never=100)
    codes = latents(truth)
    found = predictions_of_run(codes, FACTS["pairwise"], truth, CONFIG)
    smokers = truth.targets.index[truth.targets["gold"].notna()]
    assert set(found["gold"].index) == set(smokers[truth.split[smokers] == "test"])
    assert len(found["fev1_pp"]) == 100, "they have an FEV1 like anyone"
    assert scores({0: found}, truth).loc[("gold", "kappa", 0), "n"] == len(found["gold"])


def test_ranked_latents_are_ranked_on_training_subjects_by_what_they_tell():
    truth = made_truth()
    codes = latents(truth, "vae", place=3)
    assert u_columns(codes, FACTS["vae"], truth, "fev1_pp") == ["z_3"]
    assert u_columns(codes, FACTS["vae"] | {"u": 2}, truth, "gold")[0] == "z_3"
    assert u_columns(latents(truth), FACTS["pairwise"], truth, "gold") == ["u_0"]
    codes.loc[truth.split != "train", "z_1"] = truth.targets.loc[truth.split != "train", "fev1_pp"]  # perfect, but not in training
    codes["z_3"] += np.random.default_rng(0).normal(0, 1, 400)
    assert u_columns(codes, FACTS["vae"], truth, "fev1_pp") == ["z_3"]


def test_a_network_s_own_predictions_are_put_back_into_the_target_s_unit():
    """Its outputs are z-scores by the training subjects that it had, then a logit a class."""
    truth = made_truth()
    seen = truth.targets.index[40:]  # the others lack a scan: they were neither trained on nor encoded
    training = truth.targets.loc[[i for i in seen if truth.split[i] == "train"]]
    real = ["fev1_pp", "emphysema_pct", "gas_trapping_pct"]
    z = (truth.targets.loc[seen, real] - training[real].mean()) / training[real].std(ddof=0)
    codes = pd.DataFrame(np.zeros((len(seen), 10)), columns=[f"p_{d}" for d in range(10)], index=seen)
    codes[["p_0", "p_1", "p_2"]] = z.to_numpy()
    for place, stage in enumerate((-1, 0, 1, 2, 3, 4)):
        codes[f"p_{3 + place}"] = -((truth.targets.loc[seen, "gold"] - stage) ** 2)
    found = predictions_of_run(codes, {"readout": "direct", "u": 1, "latents": 10}, truth, CONFIG)
    for target in TARGETS:
        np.testing.assert_allclose(found[target], truth.targets.loc[found[target].index, target], atol=1e-9)
    assert mig_rows("supervised", 0, codes, {"readout": "direct"}, truth, CONFIG) == []


def test_baselines_are_what_their_names_say():
    truth = made_truth(never=10)
    found = baselines(truth, CONFIG)
    assert set(found) == {"densitometry", "age_sex_height", "density_probe", "mean"}
    train = truth.targets[truth.split == "train"]
    assert found["mean"]["fev1_pp"].unique() == pytest.approx(train["fev1_pp"].mean())
    assert found["mean"]["gold"].unique() == train["gold"].mode().iloc[0]
    rows = pd.concat([pd.DataFrame(score_rows(name, {"": by_target}, truth, {}, CONFIG)) for name, by_target in found.items()])
    value = rows.set_index(["method", "target", "metric"])["value"]
    assert value["mean", "fev1_pp", "r2"] == pytest.approx(0, abs=0.05)
    assert value["mean", "gold", "kappa"] == 0
    assert value["densitometry", "emphysema_pct", "r2"] > 0.5 > value["age_sex_height", "fev1_pp", "r2"]
    assert value["density_probe", "fev1_pp", "r2"] < 0.1, "mean densities are noise here"
    marked = rows[rows["note"] == "identity"]
    assert set(zip(marked["method"], marked["target"], strict=True)) == {("densitometry", "emphysema_pct")}


def test_baselines_leave_out_who_lacks_a_value_and_columns_that_do_not_vary():
    truth = made_truth(40)
    table = truth.people.drop(columns="sex").assign(constant=1.0, rare=np.nan)
    table.iloc[0, 0] = np.nan
    scaled = standardised(table, truth.split)
    assert scaled.columns.tolist() == ["age", "height_cm"]
    assert len(scaled) == 39
    training = scaled[truth.split.reindex(scaled.index) == "train"]
    np.testing.assert_allclose(training.mean(), 0, atol=1e-9)
    np.testing.assert_allclose(training.std(ddof=0), 1)


def test_differences_are_paired_and_have_the_sign_of_ours_less_the_other():
    truth = made_truth()
    everything = {
        name: {seed: predictions_of_run(latents(truth, informative=share, seed=seed), FACTS["pairwise"], truth, CONFIG) for seed in (1, 2)}
        for name, share in (("good", 0.9), ("middling", 0.8), ("copy", 0.9))
    }
    rows = pd.DataFrame(difference_rows(everything, ["good"], truth, CONFIG)).set_index(["method", "other", "target"])
    ahead = rows.loc[("good", "middling", "fev1_pp")]
    alone = {name: scores(found, truth).loc[("fev1_pp", "r2", "mean")] for name, found in everything.items()}
    assert ahead["value"] == pytest.approx(alone["good"]["value"] - alone["middling"]["value"])
    assert 0 < ahead["low"] <= ahead["value"] <= ahead["high"]
    same = rows.loc[("good", "copy", "fev1_pp")]
    assert same["value"] == same["low"] == same["high"] == 0, "the same resamples on both sides"
    assert ("good", "good", "fev1_pp") not in rows.index


def test_several_seeds_have_a_row_each_and_one_for_their_mean():
    truth = made_truth()
    found = {seed: predictions_of_run(latents(truth, informative=0.7, seed=seed), FACTS["pairwise"], truth, CONFIG) for seed in (1, 2, 3)}
    table = scores(found, truth)
    each = [table.loc[("fev1_pp", "r2", seed), "value"] for seed in (1, 2, 3)]
    assert len(set(each)) == 3
    assert table.loc[("fev1_pp", "r2", "mean"), "value"] == pytest.approx(np.mean(each))
    assert "mean" not in scores({1: found[1]}, truth).index.get_level_values("seed")


def test_ceilings_stand_beside_the_first_metric_of_their_target():
    truth = made_truth()
    found = predictions_of_run(latents(truth), FACTS["pairwise"], truth, CONFIG)
    rows = pd.DataFrame(score_rows("it", {0: found}, truth, {"fev1_pp": 0.7, "gold": 0.4}, CONFIG)).set_index(["target", "metric"])
    assert rows.loc[("fev1_pp", "r2"), "ceiling"] == 0.7
    assert rows.loc[("gold", "kappa"), "ceiling"] == 0.4
    assert rows["ceiling"].notna().sum() == 2


def test_grouped_mig_is_high_for_u_alone_and_low_where_v_knows_it_too():
    truth = made_truth()
    codes = latents(truth)
    doubled = codes.assign(v_1=codes["u_0"])
    rows = [
        pd.DataFrame(mig_rows("it", 0, c, FACTS["pairwise"], truth, CONFIG)).set_index(["target", "metric"])["value"]
        for c in (codes, doubled)
    ]
    for target in TARGETS:
        assert rows[0][target, "grouped_mig_adjusted"] > 0.5
        assert rows[1][target, "grouped_mig"] == pytest.approx(0, abs=1e-9)
    ranked = pd.DataFrame(mig_rows("it", 0, latents(truth, "vae", place=2), FACTS["vae"], truth, CONFIG)).set_index(["target", "metric"])
    assert ranked.loc[("fev1_pp", "grouped_mig_adjusted"), "value"] > 0.5
    assert (ranked["n"] == 400).all()


def test_chen_s_gap_is_of_the_posteriors_and_says_how_wide_they_are():
    truth = made_truth()
    codes = latents(truth)
    found = pd.DataFrame(mig_rows("it", 0, codes, FACTS["pairwise"], truth, CONFIG)).set_index(["target", "metric"])
    for target in TARGETS:
        plain, adjusted = (found.loc[(target, f"grouped_mig_chen{end}")] for end in ("", "_adjusted"))
        assert plain["value"] > adjusted["value"] - 0.2
        assert adjusted["value"] > 0.5
        assert plain["low"] < plain["value"] < plain["high"]
        assert "posterior sd of u 0.0" in plain["note"], "0.1 of a code that spreads over 7 / sqrt(12)"
    wide = codes.assign(u_0_std=50.0)
    blurred = pd.DataFrame(mig_rows("it", 0, wide, FACTS["pairwise"], truth, CONFIG)).set_index(["target", "metric"])["value"]
    assert blurred["gold", "grouped_mig_chen"] < 0.05
    assert blurred["gold", "grouped_mig"] == found.loc[("gold", "grouped_mig"), "value"], "bins of means do not see it"
    deterministic = codes.assign(v_0_std=0.0)
    rows = mig_rows("it", 0, deterministic, FACTS["pairwise"], truth, CONFIG)
    assert {row["metric"] for row in rows} == {"grouped_mig", "grouped_mig_adjusted"}


# Labels that a method infers itself.


def told_of(truth) -> pd.DataFrame:
    """Columns that may be labels, FEV1/FVC among them; unknown for one test subject each."""
    told = truth.targets.assign(fev1_fvc=0.9 - 0.4 * (100 - truth.targets["fev1_pp"]) / 60)
    told.loc["S001", "fev1_pp"] = told.loc["S005", "fev1_fvc"] = np.nan
    return told


def facts_told(truth, inferred, **settings) -> dict:
    training = told_of(truth).loc[truth.split == "train"]
    return {"labels": fit_labels(training, LabelsConfig.parse(settings)).plain() | {"inferred": inferred}}


def labelled(truth, *runs):
    """Rows by target and seed, for runs of (latents, run.json), and the baselines."""
    by_seed = dict(enumerate(runs))
    found = label_rows("it", by_seed, told_of(truth), truth, CONFIG)
    found += label_baselines([facts for _, facts in runs], told_of(truth), truth, CONFIG)
    return pd.DataFrame(found).set_index(["method", "target", "seed"])


def latents_saying(truth, u_0, u_1) -> pd.DataFrame:
    return pd.DataFrame({"u_0": u_0, "u_1": u_1, "u_0_std": 0.1, "u_1_std": 0.1, "v_0": 0.0}, index=truth.targets.index)


def test_inferred_labels_that_are_off_by_so_much_score_so_much():
    """In the unit that was told, z-scores by training subjects: .3 and .4 off in two labels are .5 off in both."""
    truth, facts = made_truth(), facts_told(made_truth(), "u")
    exact = labels_from(facts["labels"]).of(told_of(truth)).astype(float)
    sign = np.resize([1, -1], len(exact))
    found = labelled(truth, (latents_saying(truth, exact[:, 0] + 0.3 * sign, exact[:, 1] - 0.4), facts))
    for target, by_hand, n in (("fev1_pp", 0.3, 99), ("fev1_fvc", 0.4, 99), ("fev1_pp+fev1_fvc", 0.5, 98)):
        row = found.loc[("it", target, 0)]
        assert row[["metric", "n", "note"]].tolist() == ["label_l2", n, "in standard deviations of training subjects"]
        assert row[["value", "low", "high"]].tolist() == pytest.approx([by_hand] * 3, abs=1e-6)
    assert set(found.index.get_level_values("seed")) == {0, ""}


def test_the_training_mean_is_the_baseline_of_inferred_labels():
    truth, told = made_truth(), told_of(made_truth())
    facts = facts_told(truth, "u", columns=["fev1_fvc", "fev1_pp"])
    found = labelled(truth, (latents_saying(truth, 0.0, 0.0), facts))
    train, test = (told[truth.split == part] for part in ("train", "test"))
    far = (test - train.mean()) / train.std(ddof=0)
    for target in ("fev1_pp", "fev1_fvc"):
        row = found.loc[("mean", target, "")]
        assert row["value"] == pytest.approx(far[target].abs().mean(), rel=1e-5)
        assert row["low"] < row["value"] < row["high"]
        assert found.loc[("it", target, 0), "value"] == pytest.approx(row["value"], rel=1e-5), "it says the mean of everyone"
    both = np.hypot(far["fev1_pp"], far["fev1_fvc"]).dropna().mean()
    assert found.loc[("mean", "fev1_fvc+fev1_pp", ""), "value"] == pytest.approx(both, rel=1e-5)


def test_a_logit_of_u_is_read_as_the_label_that_it_stands_for():
    truth, facts = made_truth(), facts_told(made_truth(), "logit", kind="unit")
    exact = labels_from(facts["labels"]).of(told_of(truth)).astype(float).clip(1e-6, 1 - 1e-6)
    logit = np.log(exact / (1 - exact))
    found = labelled(truth, (latents_saying(truth, logit[:, 0], 50.0), facts))
    assert found.loc[("it", "fev1_pp", 0), "value"] == pytest.approx(0, abs=1e-5)
    assert found.loc[("it", "fev1_fvc", 0), "value"] == pytest.approx(
        1 - np.nanmean(exact[(truth.split == "test").to_numpy(), 1]), rel=1e-4
    )
    assert found["note"].unique().tolist() == ["in ranges of training subjects"]


def probabilities(truth, **said) -> pd.DataFrame:
    """Class probabilities of variables: .6 for the class that is said, the rest for the others."""
    tables = [pd.DataFrame({"u_0": 0.0}, index=truth.targets.index)]
    for name, (classes, size) in said.items():
        one_hot = np.eye(size)[np.asarray(classes, int)]
        tables.append(pd.DataFrame(0.4 / size + 0.6 * one_hot, columns=class_columns(name, size), index=truth.targets.index))
    return pd.concat(tables, axis=1)


def test_accuracy_is_the_share_of_right_classes_among_those_that_are_known():
    """Three of four right by making; who never smoked has no class."""
    truth, order = made_truth(never=80), (4.0, 3.0, 2.0, 1.0, 0.0, -1.0)
    facts = facts_told(truth, "classes", columns=["gold"], kind="class", categories=[order])
    number = truth.targets["gold"].map({value: k for k, value in enumerate(order)}).fillna(0).astype(int)
    known_test = ((truth.split == "test") & truth.targets["gold"].notna()).to_numpy()
    wrong = np.zeros(len(number), bool)
    wrong[np.flatnonzero(known_test)[::4]] = True
    found = labelled(truth, (probabilities(truth, gold=(np.where(wrong, (number + 1) % 6, number), 6)), facts))
    row = found.loc[("it", "gold", 0)]
    assert row[["metric", "n"]].tolist() == ["accuracy", known_test.sum()] == ["accuracy", 80]
    assert row["value"] == pytest.approx(0.75)
    assert row["low"] < 0.75 < row["high"]
    assert row["note"] == "classes 4, 3, 2, 1, 0, -1"
    train, test = (truth.targets.loc[truth.split == part, "gold"] for part in ("train", "test"))
    assert found.loc[("mean", "gold", ""), "value"] == pytest.approx((test.dropna() == train.mode().iloc[0]).mean())


def test_each_of_several_discrete_variables_is_scored_by_itself():
    truth = made_truth()
    facts = facts_told(truth, "classes", columns=["fev1_pp", "gold"], kind="class", bins=3)
    true = labels_from(facts["labels"]).of(told_of(truth))
    found = labelled(truth, (probabilities(truth, fev1_pp=(np.nan_to_num(true[:, 0]), 3), gold=(2 - true[:, 1], 3)), facts))
    assert found.loc[("it", "fev1_pp", 0), "value"] == 1
    middle = (true[(truth.split == "test").to_numpy(), 1] == 1).mean()  # the class that turning round leaves where it is
    assert found.loc[("it", "gold", 0), "value"] == pytest.approx(middle)
    assert {target for _, target, _ in found.index} == {"fev1_pp", "gold"}


def test_several_seeds_of_inferred_labels_have_a_row_of_their_mean():
    truth, facts = made_truth(), facts_told(made_truth(), "u")
    exact = labels_from(facts["labels"]).of(told_of(truth)).astype(float)
    found = labelled(truth, *[(latents_saying(truth, exact[:, 0] + off, exact[:, 1]), facts) for off in (0.1, 0.2, 0.6)])
    for target in ("fev1_pp", "fev1_pp+fev1_fvc"):
        values = [found.loc[("it", target, seed), "value"] for seed in (0, 1, 2, "mean")]
        assert values == pytest.approx([0.1, 0.2, 0.6, 0.3], abs=1e-6)
    classes = facts_told(truth, "classes", columns=["gold"], kind="class", bins=2)
    halves = labels_from(classes["labels"]).of(told_of(truth))[:, 0].astype(int)
    found = labelled(truth, *[(probabilities(truth, gold=(said, 2)), classes) for said in (halves, 1 - halves)])
    assert [found.loc[("it", "gold", seed), "value"] for seed in (0, 1, "mean")] == [1, 0, 0.5]
    assert len(found.loc["mean"]) == 1, "one baseline for both"


def test_labels_are_scored_on_test_subjects_alone_and_only_where_they_are_inferred():
    truth, facts = made_truth(), facts_told(made_truth(), "u")
    exact = labels_from(facts["labels"]).of(told_of(truth)).astype(float)
    others = (truth.split != "test").to_numpy()
    codes = latents_saying(truth, exact[:, 0], exact[:, 1])
    codes.loc[others, ["u_0", "u_1"]] = 99.0
    found = labelled(truth, (codes, facts))
    assert found.xs("it")["value"].to_numpy() == pytest.approx(0, abs=1e-6)
    for none in ({}, {"labels": None}, {"labels": facts["labels"] | {"inferred": None}}):
        assert label_rows("it", {0: (codes, none)}, told_of(truth), truth, CONFIG) == []
        assert label_baselines([none], told_of(truth), truth, CONFIG) == []
    nobody = told_of(truth)
    nobody.loc[truth.split == "test", "fev1_pp"] = np.nan
    assert [row["target"] for row in label_rows("it", {0: (codes, facts)}, nobody, truth, CONFIG)] == ["fev1_fvc"]


@pytest.mark.parametrize("method", ["ss_beta_vae", "larvae", "parted_vae"])
def test_a_trained_run_s_own_files_are_all_that_its_labels_need(tmp_path, method):
    """Against the network itself, from the run's folder."""
    cohort = made_cohort()
    folder = train_run(cohort, run_config(method), tmp_path, lambda line: None)
    encode(cohort.subjects, folder, cohort.split)
    facts, codes = json.loads((folder / "run.json").read_text()), read_latents(folder)
    truth = Truth(cohort.labels, cohort.split, cohort.labels, cohort.labels, {})
    found = pd.DataFrame(label_rows(method, {0: (codes, facts)}, cohort.labels, truth, CONFIG)).set_index("target")["value"]
    _, net, objective = load_run(folder, cohort.subjects.image.shape[1:])
    test, train = cohort.rows("test"), cohort.labels.iloc[cohort.rows("train")]
    image = torch.from_numpy(cohort.subjects.scaled(cohort.subjects.image[test]))
    batch = Batch(image, image < 0.5, torch.ones(len(test), 2))
    with torch.no_grad():
        if method == "parted_vae":
            said = np.array(GOLD_CLASSES)[objective.class_probabilities(net, batch)[0].argmax(dim=1)]
            assert found["gold"] == pytest.approx((said == cohort.labels["gold"].iloc[test]).mean())
            return
        u = objective.posterior(net, batch).loc[:, :2].numpy()
    for k, name in enumerate(("fev1_pp", "fev1_fvc")):
        z = (cohort.labels[name].iloc[test] - train[name].mean()) / train[name].std(ddof=0)
        assert found[name] == pytest.approx((u[:, k] - z).abs().mean(), rel=1e-4)


def test_every_prediction_of_a_test_subject_is_written_beside_its_truth():
    truth = made_truth(never=20)
    found = predictions_of_run(latents(truth), FACTS["pairwise"], truth, CONFIG)
    table = prediction_rows({"pairwise": {0: found}}, truth)
    assert set(table["subject_id"]) == set(truth.split.index[truth.split == "test"])
    assert table.notna().all().all()
    row = table[table["target"] == "fev1_pp"].set_index("subject_id").loc["S001"]
    assert row["truth"] == truth.targets.loc["S001", "fev1_pp"]
    assert row["predicted"] == found["fev1_pp"]["S001"]
