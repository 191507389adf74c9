"""Scores of made-up latents whose right answer is known."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score, r2_score
from sklearn.neighbors import KNeighborsRegressor

from copdvae.evaluate import (
    FIRST_METRIC,
    TARGETS,
    EvaluateConfig,
    Truth,
    baselines,
    difference_rows,
    mig_rows,
    prediction_rows,
    predictions_of_run,
    score_rows,
    standardised,
    u_columns,
)

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


def test_every_prediction_of_a_test_subject_is_written_beside_its_truth():
    truth = made_truth(never=20)
    found = predictions_of_run(latents(truth), FACTS["pairwise"], truth, CONFIG)
    table = prediction_rows({"pairwise": {0: found}}, truth)
    assert set(table["subject_id"]) == set(truth.split.index[truth.split == "test"])
    assert table.notna().all().all()
    row = table[table["target"] == "fev1_pp"].set_index("subject_id").loc["S001"]
    assert row["truth"] == truth.targets.loc["S001", "fev1_pp"]
    assert row["predicted"] == found["fev1_pp"]["S001"]
