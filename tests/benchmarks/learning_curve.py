"""How scores grow with the number of training subjects, on one synthetic study and always the same test subjects.

    python tests/benchmarks/learning_curve.py --root learning_curve        writes docs/learning_curve.{csv,png}

For each size the first so many training subjects (in a seeded order) are kept and the others are marked as unused in that size's
split.csv; neighbours, scalers and baselines come from the kept ones alone.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from copdvae.evaluate import FIRST_METRIC
from copdvae.files import write_csv
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
    figure, axes = plt.subplots(1, len(TITLES), figsize=(15, 3.8))
    for axis, (target, title) in zip(axes, TITLES.items(), strict=True):
        for method in SHOWN:
            rows = table[(table["method"] == method) & (table["target"] == target) & (table["note"] != "identity")]
            axis.errorbar(
                rows["train"], rows["value"], [rows["value"] - rows["low"], rows["high"] - rows["value"]], label=method, capsize=3
            )
        tops = table[(table["target"] == target)].drop_duplicates("train")
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
    options = parser.parse_args()
    study = load_study(packaged_config("learning_curve.yaml"), options.root)
    prepare(study, 0, to_stderr)
    whole, tables = assign(study), []
    for size in SIZES:
        part = smaller(study, whole, size)
        with stopping() as stop:
            train(part, options.jobs, to_stderr, stop)
        scores = evaluate(part)
        first = scores[[FIRST_METRIC[target] == metric for target, metric in zip(scores["target"], scores["metric"], strict=True)]]
        tables.append(first.assign(train=size))
    table = pd.concat(tables, ignore_index=True)
    table["note"] = table["note"].fillna("")
    write_csv(options.out, table)
    draw(table, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
