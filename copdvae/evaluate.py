"""How well u predicts severity in subjects that training never saw.  Paper A, "Prediction Task" and Eq. 8.

For each run and target: 5-NN with neighbours from training subjects, scored on test subjects by R2 and MAE (numbers) or Cohen's kappa over
the six GOLD categories; grouped MIG over all encoded subjects. Beside them baselines, and on a synthetic study the ceilings that its
known truth sets. Where a method infers the labels that it is told, also how near it comes to those of test subjects: `label_l2` (paper C:
the mean distance, in the unit that it is told; 0 is best) and `accuracy` (paper D: the share of right classes; 1 is best). All are tables:

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
from scipy.special import expit
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from copdvae.config import Config
from copdvae.metrics.accuracy import accuracy
from copdvae.metrics.bootstrap import Interval, mean_over_seeds, paired_difference, percentile_interval
from copdvae.metrics.chen_mig import chen_mig
from copdvae.metrics.grouped_mig import grouped_mig_interval
from copdvae.metrics.information import cut_at_deciles, rank_latents
from copdvae.metrics.label_error import distances
from copdvae.metrics.neighbours import GOLD_SIX, GOLD_STAGES, kappa, knn_classification, knn_regression, mae, quadratic_kappa, r2
from copdvae.supervision.labels import GOLD_CLASSES, Labels, LabelsConfig, class_columns, fit_labels, labels_from

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

    def scored(self, config: EvaluateConfig) -> tuple[str, ...]:
        """The targets that are known of enough subjects: gas trapping is of none where nobody was scanned at expiration."""
        enough = {"train": config.neighbours, config.part: 2}
        return tuple(target for target in TARGETS if all(len(self.known(target, part)) >= least for part, least in enough.items()))


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
    for target in truth.scored(config):
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
    probe = mostly_known(truth.densities.reindex(columns=["insp_mean_lung_hu", "exp_mean_lung_hu"]))
    targets = truth.scored(config)
    wanted = [(target, target, GOLD_SIX) for target in targets]
    wanted += [("gold_stages", "gold", GOLD_STAGES)] if "gold" in targets else []
    found: dict[str, dict[str, pd.Series]] = {}
    for name, code in codes.items():
        found[name] = {key: predict(code, truth, target, config, categories) for key, target, categories in wanted}
    found["density_probe"] = {key: linear(probe, truth, target, config, categories) for key, target, categories in wanted}
    found["mean"] = {key: constant(truth, target, config, categories) for key, target, categories in wanted}
    return found


def mostly_known(table: pd.DataFrame) -> pd.DataFrame:
    """Without columns that are mostly missing, then without subjects that lack a value."""
    return table.drop(columns=table.columns[(table.notna().mean() <= 0.5).to_numpy()]).dropna()


def standardised(table: pd.DataFrame, split: pd.Series) -> pd.DataFrame:
    """z-scores by the training subjects, without subjects that lack a value and columns that do not vary or are mostly missing."""
    kept = mostly_known(table)
    training = kept[split.reindex(kept.index) == "train"]
    varying = training.columns[training.std(ddof=0) > 0]
    return kept.loc[:, varying].sub(training[varying].mean()).div(training[varying].std(ddof=0))


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
    for target in truth.scored(config):
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
    for target in truth.scored(config):
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


def label_rows(
    method: str, runs: dict[int, tuple[pd.DataFrame, dict[str, Any]]], told: pd.DataFrame, truth: Truth, config: EvaluateConfig
) -> list[dict[str, Any]]:
    """How near the labels that a method infers come to those of test subjects: none where it infers none.

    `runs`: latents and run.json by seed. `told`: the columns that may be labels, of all subjects, indexed by subject_id. A row a label, and
    for `label_l2` of several labels one of all together, as paper C has it, whose target joins their names by "+".
    """
    inferred = {seed: labels for seed, (latents, facts) in runs.items() if (labels := inferred_labels(latents, facts)) is not None}
    if not inferred:
        return []
    fitted = labels_from(runs[next(iter(inferred))][1]["labels"])  # from the training subjects, which all seeds share
    test = truth.split.index[(truth.split == config.part).to_numpy()].intersection(told.index)
    for values in inferred.values():
        test = test.intersection(values.index)
    by_seed = {seed: values.loc[test].to_numpy(float) for seed, values in inferred.items()}
    rows = label_scores(fitted, told.loc[test], by_seed, config)
    if len(by_seed) > 1:
        rows += label_scores(fitted, told.loc[test], {"mean": list(by_seed.values())}, config)
    return [{"method": method} | row for row in rows]


def label_baselines(all_facts: list[dict[str, Any]], told: pd.DataFrame, truth: Truth, config: EvaluateConfig) -> list[dict[str, Any]]:
    """What says nothing of a subject reaches: the training mean, or the most frequent class, for every kind of label that is inferred."""
    train, test = (truth.split.index[(truth.split == part).to_numpy()].intersection(told.index) for part in ("train", config.part))
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for facts in all_facts:
        if not (facts.get("labels") or {}).get("inferred"):
            continue
        fitted = fit_labels(told.loc[train], LabelsConfig.parse(facts["labels"]["settings"]))
        known = fitted.of(told.loc[train])
        modes = [np.bincount(own[~np.isnan(own)].astype(int)).argmax() for own in known.T] if fitted.config.kind == "class" else None
        constant = np.tile(np.nanmean(known, axis=0) if modes is None else np.array(modes, float), (len(test), 1))
        for row in label_scores(fitted, told.loc[test], {"": constant}, config):
            found.setdefault((row["target"], row["metric"], row["note"]), {"method": "mean"} | row)
    return list(found.values())


def inferred_labels(latents: pd.DataFrame, facts: dict[str, Any]) -> pd.DataFrame | None:
    """The labels that a run's latents say, in the unit that it was told, a column a label; None where it infers none."""
    labels = facts.get("labels") or {}  # runs of versions before 0.2.0 have none
    if not labels.get("inferred"):
        return None
    fitted = labels_from(labels)
    if labels["inferred"] == "classes":
        names = [class_columns(name, size) for name, size in zip(fitted.config.columns, fitted.config.sizes, strict=True)]
        values = np.column_stack([latents[own].to_numpy().argmax(axis=1) for own in names])
    else:
        values = latents[[f"u_{k}" for k in range(len(fitted.config.columns))]].to_numpy(float)
        values = expit(values) if labels["inferred"] == "logit" else values
    return pd.DataFrame(values, columns=list(fitted.config.columns), index=latents.index)


def label_scores(
    fitted: Labels, told: pd.DataFrame, inferred: dict[Any, np.ndarray | list[np.ndarray]], config: EvaluateConfig
) -> list[dict[str, Any]]:
    """Rows of scores.csv but for the method: labels inferred (n, T) by seed, or a list of them whose mean score is taken."""
    names, true = fitted.config.columns, fitted.of(told)  # (T,), (n, T)
    metric = "accuracy" if fitted.config.kind == "class" else "label_l2"
    places = [[k] for k in range(len(names))] + ([list(range(len(names)))] if metric == "label_l2" and len(names) > 1 else [])
    rows = []
    for place in places:
        known = ~np.isnan(true[:, place]).any(axis=1)
        if not known.any():
            continue
        common = {"target": "+".join(names[k] for k in place), "metric": metric, "n": int(known.sum())}
        common["note"] = unit_of(fitted.config, place[0])
        for seed, values in inferred.items():
            several = values if isinstance(values, list) else [values]
            interval = label_interval(metric, true[:, place], [one[:, place] for one in several], config)
            rows.append(common | {"seed": seed} | interval._asdict())
    return rows


def label_interval(metric: str, true: np.ndarray, inferred: list[np.ndarray], config: EvaluateConfig) -> Interval:
    """Mean over seeds of the score of inferred labels against true ones: (n, T) each, one column for classes."""
    options = {"draws": config.draws, "seed": config.seed}
    if metric == "accuracy":
        return mean_over_seeds(accuracy, true[:, 0], np.column_stack([one[:, 0] for one in inferred]), **options)
    apart = np.mean([distances(one, true) for one in inferred], axis=0)
    return percentile_interval(lambda distance: distance.mean(axis=-1), apart, **options)


def unit_of(labels: LabelsConfig, place: int) -> str:
    """The unit of a label's score, or what its classes are."""
    if labels.bins:
        return f"{labels.bins} equally frequent classes"
    if labels.categories:
        return f"classes {', '.join(f'{value:g}' for value in labels.categories[place])}"
    return {"zscore": "in standard deviations of training subjects", "unit": "in ranges of training subjects"}[labels.kind]


def difference_rows(everything: Predictions, of: list[str], truth: Truth, config: EvaluateConfig) -> list[dict[str, Any]]:
    """Each method in `of` less every other, both means over their seeds, on the subjects and resamples that both share."""
    rows, targets = [], truth.scored(config)
    for name in of:
        for other in everything:
            if name == other:
                continue
            for target in targets:
                metric = FIRST_METRIC[target]
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
            for target in [target for target in TARGETS if target in found]:
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
