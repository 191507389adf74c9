"""Which weight of the pair term makes similarities of unseen subjects likeliest: the choice behind `weight` of `pairwise`.

    python tests/benchmarks/pair_weight.py --root pair_weight        writes docs/pair_weight.{csv,json,png}

Every weight of configs/pair_weight.yaml is trained on a tuning cohort; a run counts by the pair loss (-log p(y | u_i, u_j), nats a pair)
of the validation subjects' pairs at the step that it kept. The cohort has no test subjects, and only run.json and log.csv are read.
`chance` is the loss of the best constant similarity; gradient norms are those of the weighted terms, medians over the steps logged after
the warm-up.
"""

import argparse
import json
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
import yaml
from machine import machine
from runs import facts_of_runs

from copdvae.files import write_csv, write_json
from copdvae.run import cohort_labels, load_tables, prepare, stopping, to_stderr, train
from copdvae.study import Study, load_study, packaged_config
from copdvae.supervision.pairs import label_pairs
from copdvae.supervision.similarity import fit_similarity, measures_of
from copdvae.train import constant_likelihood

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def chance(study: Study) -> float:
    """Nats a validation pair of the best constant similarity."""
    tables = load_tables(study)
    labels, config = cohort_labels(tables), study.similarity
    part = tables.split.reindex(labels.index)
    similarity = fit_similarity(measures_of(labels[part == "train"], config), config)
    pairs = label_pairs(measures_of(labels[part == "validation"], config), similarity, 1.0, np.random.default_rng(0))
    return -constant_likelihood(torch.from_numpy(pairs.similarity))


def row_of(folder: Path) -> dict:
    """One run: validation values at the step that was kept, and which term ruled."""
    facts, log = json.loads((folder / "run.json").read_text()), pd.read_csv(folder / "log.csv").set_index("step")
    method = yaml.safe_load((folder / "config.yaml").read_text())["method"]
    kept = log.loc[facts["best"]["step"] - 1]
    later = log[log.index >= method["warm_up"]]
    return {
        "weight": method["weight"], "seed": facts["seed"], "step": facts["best"]["step"],
        "validation_pair_loss": kept["validation_pair_loss"], "validation_rec": kept["validation_rec"],
        "validation_rec_lung": kept["validation_rec_lung"], "validation_kl_u": kept["validation_kl_u"],
        "last_pair_loss": log["validation_pair_loss"].dropna().iloc[-1],
        **{f"gradient_{term}": later[f"grad_{term}"].median() for term in ("rec", "pair")},
        "collapse": facts["collapse"] or "",
    }  # fmt: skip


def draw(table: pd.DataFrame, path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
    means = table.groupby("weight").mean(numeric_only=True)
    left.plot(table["weight"], table["validation_pair_loss"], "o", color="C0", alpha=0.5)
    left.plot(means.index, means["validation_pair_loss"], "-", color="C0", label="mean of seeds")
    left.axhline(table["chance"].iloc[0], color="k", linestyle="--", label="best constant similarity")
    left.set(xscale="log", xlabel="weight of the pair term", ylabel="validation pair loss, nats a pair")
    left.legend(fontsize=8)
    right.plot(means.index, means["gradient_pair"] / means["gradient_rec"], "o-", color="C1")
    right.axhline(1, color="k", linestyle=":")
    right.set(xscale="log", yscale="log", xlabel="weight of the pair term", ylabel="gradient norm, pair term / reconstruction")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, default=Path("pair_weight"))
    parser.add_argument("--out", type=Path, default=Path("docs/pair_weight.csv"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--study", type=Path, default=packaged_config("pair_weight.yaml"))
    options = parser.parse_args()
    study = load_study(options.study, options.root)
    prepare(study, 0, to_stderr)
    with stopping() as stop:
        folders = train(study, options.jobs, to_stderr, stop)
    table = pd.DataFrame([row_of(folder) for folder in folders]).sort_values(["weight", "seed"], ignore_index=True)
    table["chance"] = chance(study)
    write_csv(options.out, table)
    means = table.groupby("weight")["validation_pair_loss"].mean()
    settings = study.model_copy(update={"root": Path()}).plain()
    facts = {"chosen": float(means.idxmin()), "settings": settings, "jobs": options.jobs, "machine": machine()}
    write_json(options.out.with_suffix(".json"), facts | {"runs": facts_of_runs(folders)})
    draw(table, options.out.with_suffix(".png"))
    print(means.to_string(), f"\nchance {table['chance'].iloc[0]:.4f}, chosen {means.idxmin():g}")


if __name__ == "__main__":
    main()
