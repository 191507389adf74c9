"""How well u predicts severity in subjects that training never saw.  Paper A, "Prediction Task" and Eq. 8.

For each run and target: 5-NN with neighbours from training subjects, scored on test subjects by R2 and MAE (numbers) or Cohen's kappa over
the six GOLD categories; grouped MIG over all encoded subjects. Beside them baselines, and on a synthetic study the ceilings that its
known truth sets. Everything is a table:

    scores.csv        method, seed, target, metric, value, low, high, ceiling, n, note      seed "mean": over the seeds
    differences.csv   method, other, target, metric, value, low, high                       paired, on the same resamples
    predictions.csv   method, seed, subject_id, target, truth, predicted
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from copdvae.config import Config
from copdvae.metrics.bootstrap import mean_over_seeds, paired_difference, percentile_interval
from copdvae.metrics.chen_mig import chen_mig
from copdvae.metrics.grouped_mig import grouped_mig_interval
from copdvae.metrics.information import cut_at_deciles, rank_latents
from copdvae.metrics.neighbours import GOLD_SIX, GOLD_STAGES, kappa, knn_classification, knn_regression, mae, quadratic_kappa, r2
from copdvae.supervision.labels import GOLD_CLASSES

REAL_TARGETS = ("fev1_pp", "emphysema_pct", "gas_trapping_pct")
TARGETS = (*REAL_TARGETS, "gold")
METRICS = {**{target: {"r2": r2, "mae": mae} for target in REAL_TARGETS}, "gold": {"kappa": kappa, "quadratic_kappa": quadratic_kappa}}
FIRST_METRIC = {**dict.fromkeys(REAL_TARGETS, "r2"), "gold": "kappa"}
DEMOGRAPHICS = ("age", "height_cm")

Predictions = dict[str, dict[int | str, dict[str, pd.Series]]]  # method, seed, target: predictions indexed by subject_id


class EvaluateConfig(Config):
    neighbours: int = Field(default=5, ge=1)
    draws: int = Field(default=2000, ge=100)  # of the bootstrap
    seed: int = Field(default=0, ge=0)
    bins: int = Field(default=20, ge=2)  # of mutual information, at most; see metrics/information.py
    part: str = "test"  # the subjects that scores are about


@dataclass(frozen=True)
class Truth:
    """What is to be predicted, and what baselines predict it from; all indexed by subject_id."""

    targets: pd.DataFrame  # TARGETS; gold without never-smokers
    split: pd.Series
    people: pd.DataFrame  # age, sex, height_cm
    densities: pd.DataFrame  # densitometry of the CTs
    identity: dict[str, str]  # target: the density column that it is, where it comes from the CT itself

    def known(self, target: str, part: str) -> pd.Index:
        inside = self.split.reindex(self.targets.index) == part
        return self.targets.index[(inside & self.targets[target].notna()).to_numpy()]


def predict(codes: pd.DataFrame, truth: Truth, target: str, config: EvaluateConfig, categories: tuple = GOLD_SIX) -> pd.Series:
    """5-NN predictions of `target` for test subjects from codes (columns, indexed by subject_id)."""
    train = truth.known(target, "train").intersection(codes.index)
    test = truth.known(target, config.part).intersection(codes.index)
    code, wanted = codes.loc[train].to_numpy(), truth.targets.loc[train, target].to_numpy(float)
    if target == "gold":
        found = knn_classification(code, wanted, codes.loc[test].to_numpy(), config.neighbours, categories)
    else:
        found = knn_regression(code, wanted, codes.loc[test].to_numpy(), config.neighbours)
    return pd.Series(found, index=test)


def predictions_of_run(latents: pd.DataFrame, facts: dict[str, Any], truth: Truth, config: EvaluateConfig) -> dict[str, pd.Series]:
    """Predictions a target (and "gold_stages", votes among the ordered stages only) from one run's latents, indexed by subject_id."""
    found = {}
    for target in TARGETS:
        if facts["readout"] == "direct":
            found[target] = direct(latents, truth, target, config)
            if target == "gold":
                found["gold_stages"] = direct(latents, truth, target, config, GOLD_STAGES)
            continue
        codes = latents.loc[:, u_columns(latents, facts, truth, target)]
        found[target] = predict(codes, truth, target, config)
        if target == "gold":
            found["gold_stages"] = predict(codes, truth, target, config, GOLD_STAGES)
    return found


def u_columns(latents: pd.DataFrame, facts: dict[str, Any], truth: Truth, target: str) -> list[str]:
    """The columns of `u`: by place, or the d(u) latents that tell most about the target in training subjects.

    Ranking by the target that is then predicted favours these methods.
    """
    if facts["readout"] == "u":
        return [f"u_{i}" for i in range(facts["u"])]
    columns = [f"z_{i}" for i in range(facts["latents"])]
    if facts["readout"] == "all":
        return columns
    train = truth.known(target, "train").intersection(latents.index)
    values = truth.targets.loc[train, target].to_numpy(float)
    labels = values if target == "gold" else cut_at_deciles(values, values)
    return [columns[i] for i in rank_latents(latents.loc[train, columns].to_numpy(), labels)[: facts["u"]]]


def direct(latents: pd.DataFrame, truth: Truth, target: str, config: EvaluateConfig, categories: tuple = GOLD_CLASSES) -> pd.Series:
    """A network's own predictions: its outputs are z-scores of the real targets, then a logit for each class."""
    test = truth.known(target, config.part).intersection(latents.index)
    if target == "gold":
        names = [f"p_{len(REAL_TARGETS) + GOLD_CLASSES.index(c)}" for c in categories]
        return pd.Series(np.array(categories, float)[latents.loc[test, names].to_numpy().argmax(axis=1)], index=test)
    training = truth.targets.loc[truth.known(target, "train").intersection(latents.index), target]  # those that it was trained on
    return latents.loc[test, f"p_{REAL_TARGETS.index(target)}"] * training.std(ddof=0) + training.mean()


def baselines(truth: Truth, config: EvaluateConfig) -> dict[str, dict[str, pd.Series]]:
    """Predictions of the baselines: the mean, 5-NN on densitometry, 5-NN on age, sex and height, and a linear probe on mean densities."""
    densities = standardised(truth.densities, truth.split)
    people = truth.people.assign(male=truth.people["sex"] == "M").loc[:, [*DEMOGRAPHICS, "male"]].astype(float)
    codes = {"densitometry": densities, "age_sex_height": standardised(people, truth.split)}
    probe = truth.densities.loc[:, [column for column in ("insp_mean_lung_hu", "exp_mean_lung_hu") if column in truth.densities]].dropna()
    found: dict[str, dict[str, pd.Series]] = {}
    for name, code in codes.items():
        found[name] = {target: predict(code, truth, target, config) for target in TARGETS}
        found[name]["gold_stages"] = predict(code, truth, "gold", config, GOLD_STAGES)
    found["density_probe"] = {target: linear(probe, truth, target, config) for target in TARGETS}
    found["density_probe"]["gold_stages"] = linear(probe, truth, "gold", config, GOLD_STAGES)
    found["mean"] = {target: constant(truth, target, config) for target in TARGETS}
    found["mean"]["gold_stages"] = constant(truth, "gold", config, GOLD_STAGES)
    return found


def standardised(table: pd.DataFrame, split: pd.Series) -> pd.DataFrame:
    """z-scores by the training subjects, without subjects that lack a value and columns that do not vary or are mostly missing."""
    kept = table.loc[:, table.notna().mean() > 0.5].dropna()
    training = kept[split.reindex(kept.index) == "train"]
    varying = training.columns[training.std(ddof=0) > 0]
    return (kept[varying] - training[varying].mean()) / training[varying].std(ddof=0)


def linear(codes: pd.DataFrame, truth: Truth, target: str, config: EvaluateConfig, categories: tuple = GOLD_SIX) -> pd.Series:
    """Least squares for numbers, multinomial logistic regression for GOLD."""
    train = truth.known(target, "train").intersection(codes.index)
    test = truth.known(target, config.part).intersection(codes.index)
    wanted = truth.targets.loc[train, target]
    if target == "gold":
        train = train[wanted.isin(categories)]
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    else:
        model = LinearRegression()
    model.fit(codes.loc[train].to_numpy(), truth.targets.loc[train, target].to_numpy(float))
    return pd.Series(model.predict(codes.loc[test].to_numpy()), index=test)


def constant(truth: Truth, target: str, config: EvaluateConfig, categories: tuple = GOLD_SIX) -> pd.Series:
    """The training subjects' mean, or their most frequent category."""
    training = truth.targets.loc[truth.known(target, "train"), target]
    value = training[training.isin(categories)].mode().iloc[0] if target == "gold" else training.mean()
    test = truth.known(target, config.part)
    return pd.Series(float(value), index=test)


def score_rows(
    method: str, found: dict[int | str, dict[str, pd.Series]], truth: Truth, ceilings: dict[str, float], config: EvaluateConfig
) -> list[dict[str, Any]]:
    """Rows of scores.csv from predictions by seed (baselines: seed ""): every seed, and where there are several their mean."""
    rows = []
    for target in TARGETS:
        for metric, statistic in METRICS[target].items():
            key = "gold_stages" if metric == "quadratic_kappa" else target
            columns = pd.DataFrame({seed: predictions[key] for seed, predictions in found.items()}).dropna()
            wanted = truth.targets.loc[columns.index, target].to_numpy(float)
            common = {"method": method, "target": target, "metric": metric, "n": len(columns), "note": note(method, target, truth)}
            common["ceiling"] = ceilings.get(target) if metric == FIRST_METRIC[target] else None
            for seed in columns:
                interval = percentile_interval(statistic, wanted, columns[seed].to_numpy(), draws=config.draws, seed=config.seed)
                rows.append(common | {"seed": seed} | interval._asdict())
            if columns.shape[1] > 1:
                interval = mean_over_seeds(statistic, wanted, columns.to_numpy(), draws=config.draws, seed=config.seed)
                rows.append(common | {"seed": "mean"} | interval._asdict())
    return rows


def note(method: str, target: str, truth: Truth) -> str:
    """`identity` where a baseline predicts a figure from itself."""
    return "identity" if method == "densitometry" and target in truth.identity else ""


def mig_rows(
    method: str, seed: int, latents: pd.DataFrame, facts: dict[str, Any], truth: Truth, config: EvaluateConfig
) -> list[dict[str, Any]]:
    """Grouped MIG (A, Eq. 8) on all encoded subjects, plain and adjusted for chance, from bins of the means and as Chen et al. from q(z|x).

    None where the outputs are predictions, none of Chen's where the encoder is deterministic.
    """
    if facts["readout"] == "direct":
        return []
    rows = []
    for target in TARGETS:
        everyone = truth.targets.index[truth.targets[target].notna().to_numpy()].intersection(latents.index)
        values = truth.targets.loc[everyone, target].to_numpy(float)
        labels = values if target == "gold" else cut_at_deciles(values, truth.targets.loc[truth.known(target, "train"), target])
        u = u_columns(latents, facts, truth, target)
        v = [column for column in latents if column[:2] in ("v_", "z_") and not column.endswith("_std") and column not in u]
        for metric, adjusted in (("grouped_mig", False), ("grouped_mig_adjusted", True)):
            interval = grouped_mig_interval(
                latents.loc[everyone, u].to_numpy(), latents.loc[everyone, v].to_numpy(), labels, config.bins, adjusted, seed=config.seed
            )
            rows.append({"method": method, "seed": seed, "target": target, "metric": metric, "n": len(everyone)} | interval._asdict())
        u_std, v_std = ([f"{column}_std" for column in columns] for columns in (u, v))
        if (latents.loc[everyone, [*u_std, *v_std]] > 0).all(axis=None):
            of_u, of_u_std, of_v, of_v_std = (latents.loc[everyone, columns].to_numpy() for columns in (u, u_std, v, v_std))
            found = chen_mig(of_u, of_u_std, of_v, of_v_std, labels, seed=config.seed)
            common = {"method": method, "seed": seed, "target": target, "n": len(everyone)}
            common["note"] = f"posterior sd of u {found.posterior_std:.2f} of its spread"
            rows.append(common | {"metric": "grouped_mig_chen"} | found.plain._asdict())
            rows.append(common | {"metric": "grouped_mig_chen_adjusted"} | found.adjusted._asdict())
    return rows


def difference_rows(everything: Predictions, of: list[str], truth: Truth, config: EvaluateConfig) -> list[dict[str, Any]]:
    """Each method in `of` less every other, both means over their seeds, on the subjects and resamples that both share."""
    rows = []
    for name in of:
        for other in everything:
            if name == other:
                continue
            for target, metric in FIRST_METRIC.items():
                ours = pd.DataFrame({f"a{seed}": found[target] for seed, found in everything[name].items()})
                theirs = pd.DataFrame({f"b{seed}": found[target] for seed, found in everything[other].items()})
                both = ours.join(theirs, how="inner").dropna()
                wanted = truth.targets.loc[both.index, target].to_numpy(float)
                interval = paired_difference(
                    METRICS[target][metric], wanted, both[ours.columns].to_numpy(), both[theirs.columns].to_numpy(),
                    draws=config.draws, seed=config.seed,
                )  # fmt: skip
                rows.append({"method": name, "other": other, "target": target, "metric": metric, "n": len(both)} | interval._asdict())
    return rows


def prediction_rows(everything: Predictions, truth: Truth) -> pd.DataFrame:
    """Every prediction of a test subject, long form."""
    tables = []
    for method, by_seed in everything.items():
        for seed, found in by_seed.items():
            for target in TARGETS:
                values = found[target]
                known = truth.targets.loc[values.index, target]
                tables.append(
                    pd.DataFrame(
                        {
                            "method": method, "seed": seed, "subject_id": values.index, "target": target,
                            "truth": known.to_numpy(), "predicted": values.to_numpy(),
                        }
                    )
                )  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def read_latents(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "latents.parquet").set_index("subject_id")
