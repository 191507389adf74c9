"""The page's tables as plain rows of text and numbers; the template only lays them out."""

from typing import Any

import numpy as np
import pandas as pd

from copdvae.metrics.neighbours import GOLD_SIX, within_one
from copdvae.report.files import Column, Frame, Study
from copdvae.report.shown import DASH, duration, hidden, interval, method_name, metric_name, number, percent, target_name
from copdvae.report.words import FIRST_METRIC, GOLD, KINDS, LABEL_METRICS, MEASURES, TARGETS


def summary(scores: Frame) -> Frame:
    """One row a (method, target, metric): the mean over seeds, its interval, the seeds' range, the ceiling and the share of it.

    Where `scores` has no row of seed "mean" for several seeds, the interval is the mean of the seeds' limits.
    """
    scores = scores.copy()
    for column in ("value", "low", "high", "ceiling"):
        known = scores[column] if column in scores else pd.Series(np.nan, scores.index)
        scores[column] = pd.to_numeric(known, errors="coerce")
    rows = []
    for key, group in scores.groupby(["method", "target", "metric"], sort=False):
        means, seeds = group[group["seed"] == "mean"], group[group["seed"] != "mean"]
        chosen = (means if len(means) else seeds)[["value", "low", "high", "ceiling"]].mean()
        note = next((text for text in group.get("note", pd.Series(dtype=str)) if text), "")
        ceiling = chosen["ceiling"]
        rows.append(
            dict(zip(("method", "target", "metric"), key, strict=True))
            | chosen.to_dict()
            | {"seeds": seeds["value"].tolist(), "note": note, "share": chosen["value"] / ceiling if ceiling > 0 else np.nan}
        )
    columns = ["method", "target", "metric", "value", "low", "high", "ceiling", "seeds", "note", "share"]
    return pd.DataFrame(rows, columns=columns)


def first_scores(study: Study) -> Frame:
    """`summary` of each target's first metric alone, the targets in their usual order."""
    empty = pd.DataFrame(columns=["method", "seed", "target", "metric", "value", "low", "high"])
    table = summary(empty if study.scores is None else study.scores)
    table = table[~table["metric"].isin(list(LABEL_METRICS))]  # which have a table of their own
    first = table.drop_duplicates("target").set_index("target")["metric"].to_dict() | FIRST_METRIC
    table = table[table["metric"] == table["target"].map(first)]
    return table.assign(kind=[study.kind(method) for method in table["method"]])


def targets_of(table: Frame) -> list[str]:
    found = list(dict.fromkeys(table["target"]))
    return [target for target in TARGETS if target in found] + [target for target in found if target not in TARGETS]


def best_of(table: Frame) -> dict[str, Column]:
    """For each target the best representation (no baseline, nothing trained on the measures themselves)."""
    learnt = table[table["kind"].isin(["u", "ranked"]) & table["value"].notna()]
    return {target: group.loc[group["value"].idxmax()] for target, group in learnt.groupby("target", sort=False)}


def result_table(study: Study, table: Frame) -> dict[str, Any]:
    """Methods x targets from `first_scores`: for the template, groups of rows of cells."""
    targets, best = targets_of(table), best_of(table)
    ceilings = {target: table.loc[table["target"] == target, "ceiling"].max() for target in targets}
    by_key = table.set_index(["method", "target"])
    groups = []
    for kind, title in KINDS.items():
        rows = []
        for method in study.methods():
            if study.kind(method) != kind or method not in set(table["method"]):
                continue
            cells = [
                result_cell(by_key.loc[(method, target)], target in best and best[target]["method"] == method)
                if (method, target) in by_key.index
                else None
                for target in targets
            ]
            rows.append({"method": method, "name": method_name(method), "cells": cells})
        if rows:
            groups.append({"kind": kind, "title": title, "rows": rows})
    heads = [{"name": target_name(t), "metric": metric_name(first_metric(table, t)), "ceiling": number(ceilings[t])} for t in targets]
    return {"heads": heads, "groups": groups, "has_ceiling": any(np.isfinite(c) for c in ceilings.values())}


def first_metric(table: Frame, target: str) -> str:
    return str(table.loc[table["target"] == target, "metric"].iloc[0])


def result_cell(row: Column, is_best: bool) -> dict[str, Any]:
    seeds = [value for value in row["seeds"] if np.isfinite(value)]
    return {
        "value": number(row["value"]),
        "interval": interval(row["low"], row["high"]),
        "share": None if np.isnan(row["share"]) else percent(max(0, row["share"])),
        "bar": None if np.isnan(row["share"]) else round(float(np.clip(row["share"], 0, 1)) * 100, 1),
        "seeds": f"{len(seeds)} seeds: {number(min(seeds))} to {number(max(seeds))}" if len(seeds) > 1 else "",
        "note": row["note"],
        "best": is_best,
    }


def other_scores(study: Study, first: Frame) -> list[dict[str, Any]]:
    """Tables of the metrics that are not in `first`: one a metric, methods x targets."""
    if study.scores is None:
        return []
    table = summary(study.scores[~study.scores["metric"].isin(list(LABEL_METRICS))])
    firsts = {(row["target"], row["metric"]) for row in first.to_dict("records")}
    found = []
    for metric in dict.fromkeys(table["metric"]):
        part = table[[m == metric and (t, m) not in firsts for t, m in zip(table["target"], table["metric"], strict=True)]]
        if not len(part):
            continue
        targets, by_key = targets_of(part), part.set_index(["method", "target"])
        rows = []
        for method in [name for name in study.methods() if name in set(part["method"])]:
            pairs = [by_key.loc[(method, target)] if (method, target) in by_key.index else None for target in targets]
            cells = [DASH if p is None else f"{number(p['value'])} ({interval(p['low'], p['high'])})".replace(" ()", "") for p in pairs]
            rows.append([method_name(method), *cells])
        found.append({"title": metric_name(metric), "columns": ["Method", *map(target_name, targets)], "rows": rows})
    return found


def label_tables(study: Study) -> list[dict[str, Any]]:
    """How well methods read the labels that they were told from a CT: a table for each metric and unit, methods x labels."""
    if study.scores is None:
        return []
    scores: Frame = study.scores[study.scores["metric"].isin(list(LABEL_METRICS))]
    units = scores["note"] if "note" in scores else pd.Series("", scores.index)
    found = []
    for (metric, unit), part in scores.groupby([scores["metric"], units], sort=False):
        title, about = LABEL_METRICS[metric]
        by_key, targets = summary(part).set_index(["method", "target"]), label_targets(part)
        rows = []
        for method in [name for name in study.methods() if name in set(part["method"])]:
            cells = [label_cell(by_key.loc[(method, t)], metric) if (method, t) in by_key.index else DASH for t in targets]
            rows.append([method_name(method), *cells])
        heads = [label_name(target) + label_count(part, target) for target in targets]
        about = about.format(unit=unit or "in the unit that was told")
        found.append({"title": title, "about": about, "columns": ["Method", *heads], "rows": rows})
    return found


def label_count(scores: Frame, target: str) -> str:
    """How many subjects a label's scores are of, where that is known."""
    counts: Column = pd.to_numeric(scores.loc[scores["target"] == target, "n"]) if "n" in scores else pd.Series(dtype=float)
    return f" (n = {counts.max():.0f})" if counts.notna().any() else ""


def label_targets(scores: Frame) -> list[str]:
    """Single labels in the order of the measures, then several together."""
    order = list(MEASURES)
    found = list(dict.fromkeys(scores["target"]))
    return sorted(found, key=lambda target: ("+" in target, order.index(target) if target in order else len(order)))


def label_name(target: str) -> str:
    names = [MEASURES.get(name, name) for name in target.split("+")]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} together"


def label_cell(row: Column, metric: str) -> str:
    if metric != "accuracy":
        return f"{number(row['value'])} ({interval(row['low'], row['high'])})".replace(" ()", "")
    shown = percent(row["value"]) if np.isfinite(row["value"]) else DASH
    return f"{shown} ({percent(row['low'])} to {percent(row['high'])})" if np.isfinite(row["low"]) else shown


def difference_rows(study: Study) -> list[list[str]]:
    """Every paired difference as a line of text."""
    if study.differences is None:
        return []
    rows = []
    for row in study.differences.itertuples():
        what = f"{target_name(str(row.target))}, {metric_name(str(row.metric))}"
        rows.append([method_name(str(row.method)), method_name(str(row.other)), what, number(row.value), interval(row.low, row.high)])
    return rows


def confusions(study: Study, small: int = 0) -> list[dict[str, Any]]:
    """For each method a matrix of row shares over the six categories, pooled over seeds, and how often it is within one stage."""
    if study.predictions is None:
        return []
    gold = study.predictions[study.predictions["target"] == "gold"]
    found, known = [], set(gold["method"])
    for method in [name for name in study.methods() if name in known]:
        own = gold[(gold["method"] == method) & gold["truth"].isin(GOLD_SIX)]
        if not len(own):
            continue
        seeds = own["seed"].nunique()
        rows = []
        for truth in GOLD_SIX:
            part = own[own["truth"] == truth]
            n = part["subject_id"].nunique()
            few = 0 < n < small
            shares = [np.nan if few or not n else float((part["predicted"] == c).mean()) for c in GOLD_SIX]
            tiny = [0 < s * n < small for s in shares]
            cells = [
                {"text": f"<{small}" if t else DASH if np.isnan(s) else percent(s), "shade": 0 if np.isnan(s) or t else round(s, 3)}
                for s, t in zip(shares, tiny, strict=True)
            ]
            rows.append({"label": GOLD[truth], "n": hidden(n, small), "cells": cells})
        by_seed = [within_one(part["truth"], part["predicted"]) for _, part in own.groupby("seed")]
        exact = [float((part["truth"] == part["predicted"]).mean()) for _, part in own.groupby("seed")]
        found.append(
            {
                "method": method, "name": method_name(method), "rows": rows, "columns": [GOLD[c] for c in GOLD_SIX], "seeds": seeds,
                "exact": percent(float(np.mean(exact))), "within": DASH if np.isnan(np.mean(by_seed)) else percent(float(np.mean(by_seed))),
            }
        )  # fmt: skip
    return found


def middle_seed(study: Study, method: str, target: str) -> Frame:
    """Predictions (truth, predicted) of the seed whose score is in the middle; empty where there are none."""
    empty = pd.DataFrame(columns=["subject_id", "truth", "predicted"])
    if study.predictions is None:
        return empty
    own = study.predictions[(study.predictions["method"] == method) & (study.predictions["target"] == target)]
    own = own.dropna(subset=["truth", "predicted"])
    if not len(own):
        return empty
    errors = own.assign(error=(own["truth"] - own["predicted"]) ** 2).groupby("seed", sort=False)["error"].mean().sort_values()
    return own[own["seed"] == errors.index[(len(errors) - 1) // 2]]


def agreement(points: Frame) -> dict[str, float]:
    """Calibration (truth on prediction) and Bland-Altman limits (prediction less truth)."""
    truth, predicted = points["truth"].to_numpy(float), points["predicted"].to_numpy(float)
    gap = predicted - truth
    slope, intercept = np.polyfit(predicted, truth, 1) if np.ptp(predicted) > 0 else (np.nan, np.nan)
    spread = 1.96 * gap.std(ddof=1)
    return {
        "n": len(gap), "slope": float(slope), "intercept": float(intercept), "bias": float(gap.mean()),
        "low": float(gap.mean() - spread), "high": float(gap.mean() + spread),
    }  # fmt: skip


def run_rows(study: Study) -> list[dict[str, Any]]:
    """What each run was: one row a run."""
    rows = []
    for method, runs in study.by_method().items():
        for run in runs:
            facts, last = run.facts, run.facts.get("last_log") or {}
            gradients = {key.removeprefix("grad_"): value for key, value in last.items() if key.startswith("grad_")}
            gradients |= facts.get("gradient_norms") or {}
            waiting = facts.get("data_share", facts.get("data_time_fraction"))
            rows.append(
                {
                    "method": method_name(method),
                    "seed": run.seed,
                    "parameters": f"{facts['parameters']:,}" if facts.get("parameters") else DASH,
                    "step": (facts.get("best") or {}).get("step", DASH),
                    "pairs": f"{facts['pairs']:,}" if facts.get("pairs") else DASH,
                    "time": duration(facts.get("seconds")),
                    "waiting": DASH if waiting is None else f"{100 * waiting:.1f}\u202f%",
                    "device": facts.get("device", DASH),
                    "gradients": ", ".join(f"{name} {value:.3g}" for name, value in gradients.items()) or DASH,
                    "config": facts.get("config") or facts.get("config_hash") or DASH,
                    "collapse": facts.get("collapse") or "",
                }
            )
    return rows


def warnings_of(study: Study) -> list[str]:
    """What a reader must know before anything else."""
    collapsed = [(run, str(run.facts["collapse"])) for run in study.runs if run.facts.get("collapse")]
    found = [str(warning) for warning in study.evaluation.get("warnings", [])]
    found = [warning for warning in found if not any(text in warning for _, text in collapsed)]  # told below, in the page's own names
    for run, text in collapsed:
        name = f"{method_name(run.method)}, seed {run.seed}"
        found.append(f"{name}: training seems to have failed: {text}. Its scores say nothing about the method at its best.")
    if study.rejected is not None and "expected" in study.rejected:
        unexpected = (study.rejected["expected"] != "yes").sum()
        if unexpected:
            found.append(
                f"{unexpected} rejected {'subject was' if unexpected == 1 else 'subjects were'} not expected: see Rejected subjects."
            )
    return found


def sources(study: Study) -> list[str]:
    """Where each CT measure comes from, and how far the phenotype table's own column is from it."""
    apart, lines = study.evaluation.get("ct_minus_table") or {}, []
    for target, source in (study.evaluation.get("sources") or {}).items():
        line = f"{target_name(target)}: {'measured from the CT' if source == 'ct' else 'taken from the phenotype table'}."
        if facts := apart.get(target):
            gaps = f"{number(facts['mean'], 3)} on average, {number(facts['largest'], 3)} at most"
            line += f" Measured less the table's own column: {gaps} ({facts['n']} subjects)."
        lines.append(line)
    return lines
