"""How scores grow with the number of training subjects, on one synthetic study and always the same test subjects.

    python tests/benchmarks/learning_curve.py --root learning_curve        writes docs/learning_curve.{csv,json,png}

For each size the first so many training subjects (in a seeded order) are kept and the others are marked as unused in that size's
split.csv; neighbours, scalers and baselines come from the kept ones alone.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from machine import machine
from runs import facts_of_runs
from synthetic_tables import first_scores

from copdvae.evaluate import FIRST_METRIC
from copdvae.files import write_csv, write_json
from copdvae.processes import cores
from copdvae.run import assign, evaluate, prepare, stopping, to_stderr, train
from copdvae.study import Study, load_study, packaged_config

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SIZES = (240, 480, 960)
SHOWN = ("pairwise", "supervised", "densitometry", "density_probe", "age_sex_height")
TITLES = {"fev1_pp": "FEV1 % predicted", "emphysema_pct": "Emphysema %", "gas_trapping_pct": "Gas trapping %", "gold": "GOLD stage"}


def smaller(study: Study, whole: pd.DataFrame, size: int) -> Study:
    """The study with `size` training subjects, its split written to a folder of its own."""
    part = study.model_copy(update={"out": Path(f"train_{size}"), "name": f"{study.name}_{size}"})
    training = sorted(whole.loc[whole["split"] == "train", "subject_id"])
    dropped = np.random.default_rng(study.split.seed).permutation(training)[size:]
    write_csv(part.root / part.out / "split.csv", whole.assign(split=whole["split"].where(~whole["subject_id"].isin(dropped), "unused")))
    return part


def draw(table: pd.DataFrame, path: Path) -> None:
    """The mean over seeds of each method, with its interval; the baselines and the ceiling beside it."""
    figure, axes = plt.subplots(1, len(TITLES), figsize=(15, 3.8))
    shown = pd.concat([first_scores(rows).assign(train=size) for size, rows in table.groupby("train")])
    for axis, (target, title) in zip(axes, TITLES.items(), strict=True):
        for number, method in enumerate(SHOWN):
            rows = shown[(shown["method"] == method) & (shown["target"] == target) & (shown["note"] != "identity")]
            errors = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
            axis.errorbar(rows["train"] * 1.02 ** (number - 2), rows["value"], errors, label=method, capsize=3, color=f"C{number}")
        tops = shown[shown["target"] == target].drop_duplicates("train")
        axis.plot(tops["train"], tops["ceiling"], "k--", label="ceiling")
        axis.set(title=title, xlabel="training subjects", xscale="log", xticks=SIZES, xticklabels=SIZES, ylabel=FIRST_METRIC[target])
        axis.minorticks_off()
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, default=Path("learning_curve"))
    parser.add_argument("--out", type=Path, default=Path("docs/learning_curve.csv"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--study", type=Path, default=packaged_config("learning_curve.yaml"))
    options = parser.parse_args()
    study, begun = load_study(options.study, options.root), time.perf_counter()
    prepare(study, 0, to_stderr)
    prepared = time.perf_counter()
    whole, tables, folders = assign(study), [], []
    parts = {size: smaller(study, whole, size) for size in SIZES}
    for part in parts.values():
        with stopping() as stop:
            folders += train(part, options.jobs, to_stderr, stop)
    trained = time.perf_counter()
    with ProcessPoolExecutor(min(len(SIZES), cores()), mp_context=get_context("spawn")) as pool:
        found = dict(zip(SIZES, pool.map(evaluate, parts.values()), strict=True))
    for size, scores in found.items():
        first = scores[[FIRST_METRIC[target] == metric for target, metric in zip(scores["target"], scores["metric"], strict=True)]]
        tables.append(first.assign(train=size))
    table = pd.concat(tables, ignore_index=True)
    table["note"] = table["note"].fillna("")
    write_csv(options.out, table)
    spent = {"prepare": round(prepared - begun), "train": round(trained - prepared), "evaluate": round(time.perf_counter() - trained)}
    settings = study.model_copy(update={"root": Path()}).plain()
    facts = {"settings": settings, "sizes": SIZES, "jobs": options.jobs, "seconds": spent, "machine": machine()}
    write_json(options.out.with_suffix(".json"), facts | {"runs": facts_of_runs(folders)})
    draw(table, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
