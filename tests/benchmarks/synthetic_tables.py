"""Keep the outcome of configs/synthetic.yaml: docs/synthetic/*.csv and docs/SYNTHETIC.md, every number taken from the files.

make experiment && python tests/benchmarks/synthetic_tables.py demo/synthetic
"""

import argparse
import json
import shutil
from pathlib import Path

import pandas as pd

FIRST = {"fev1_pp": "r2", "emphysema_pct": "r2", "gas_trapping_pct": "r2", "gold": "kappa"}
TITLES = {
    "fev1_pp": "FEV1 % predicted, R2",
    "emphysema_pct": "Emphysema %, R2",
    "gas_trapping_pct": "Gas trapping %, R2",
    "gold": "GOLD, kappa",
}
PAPER_A = {"fev1_pp": 0.431, "emphysema_pct": 0.441, "gas_trapping_pct": 0.522, "gold": 0.236}  # Table 4, on COPDGene
BY_HAND = "## More training subjects"  # from here on the page is not written by this command, and stays
SHARE_OF_CEILING, ABOVE_PROBE, ABOVE_UNSUPERVISED = 0.65, 0.05, 0.2


def first_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """One row a method and target: the mean over seeds where there are several."""
    rows = scores[[FIRST[target] == metric for target, metric in zip(scores["target"], scores["metric"], strict=True)]]
    rows = rows.assign(seed=rows["seed"].astype(str), note=rows["note"].fillna(""))
    several = rows.groupby("method")["seed"].transform(lambda seeds: (seeds == "mean").any())
    return rows[~several | (rows["seed"] == "mean")]


def score_table(rows: pd.DataFrame) -> list[str]:
    lines = ["| method | " + " | ".join(TITLES.values()) + " |", "|---" * (len(TITLES) + 1) + "|"]
    for method in dict.fromkeys(rows["method"]):
        cells = []
        for target in FIRST:
            row = rows[(rows["method"] == method) & (rows["target"] == target)].iloc[0]
            value = f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
            cells.append("identity" if row["note"] == "identity" else value)
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    tops = rows.drop_duplicates("target").set_index("target")["ceiling"]
    lines.append("| ceiling | " + " | ".join(f"{tops[target]:.3f}" for target in FIRST) + " |")
    return lines


def checks(rows: pd.DataFrame, differences: pd.DataFrame) -> list[str]:
    """What `pairwise` was asked to reach, and whether it did."""
    ours = rows[rows["method"] == "pairwise"].set_index("target")
    lines = ["| asked of `pairwise` | asked | reached | holds |", "|---|---|---|---|"]

    def line(what: str, asked: float, reached: str, value: float) -> None:
        lines.append(f"| {what} | {asked:.3f} | {reached} | {'yes' if value >= asked else '**no**'} |")

    for target, title in TITLES.items():
        value = ours.loc[target, "value"]
        line(f"{title}: paper A's figure on COPDGene", PAPER_A[target], f"{value:.3f}", value)
        line(f"{title}: {SHARE_OF_CEILING:.0%} of the ceiling", SHARE_OF_CEILING * ours.loc[target, "ceiling"], f"{value:.3f}", value)
    own = differences[(differences["method"] == "pairwise") & (differences["target"] == "fev1_pp")].set_index("other")
    for other, asked in (("density_probe", ABOVE_PROBE), ("vae", ABOVE_UNSUPERVISED), ("beta_vae", ABOVE_UNSUPERVISED)):
        row = own.loc[other]
        line(f"FEV1 % predicted, R2 above `{other}`", asked, f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]", row["value"])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path, help="The experiment's output folder, such as demo/synthetic.")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    options = parser.parse_args()
    kept = options.docs / "synthetic"
    kept.mkdir(parents=True, exist_ok=True)
    for name in ("scores.csv", "differences.csv", "evaluation.json"):
        shutil.copy(options.results / name, kept / name)
    scores, differences = pd.read_csv(kept / "scores.csv"), pd.read_csv(kept / "differences.csv")
    facts = json.loads((kept / "evaluation.json").read_text())
    runs = [json.loads(path.read_text()) for path in sorted(options.results.glob("runs/*/run.json"))]
    rows = first_scores(scores)
    settings, counts = facts["settings"], facts["n"]
    single = scores[(scores["method"] == "pairwise") & (scores["seed"].astype(str) != "mean")]
    single = single[[FIRST[target] == metric for target, metric in zip(single["target"], single["metric"], strict=True)]]
    by_seed = single.pivot_table(index="seed", columns="target", values="value")[list(FIRST)]
    text = [
        "# The synthetic experiment",
        "",
        "`make experiment` (that is `copdvae run configs/synthetic.yaml --root demo --jobs 2`), then `python "
        "tests/benchmarks/synthetic_tables.py demo/synthetic`, which wrote this page. Scores are 5-NN on `u`, d(u) = 1, on "
        f"{counts['test']['fev1_pp']} test subjects with spirometry (GOLD: {counts['test']['gold']}; never-smokers are not on its scale), "
        "means over seeds where there are several, with 95 % bootstrap intervals by subject. Methods that do not place `u` themselves get "
        "the latent that tells most about each target in training subjects. Figures on a synthetic study say nothing about patients.",
        "",
        f"Study: {settings['phantom']['subjects']} subjects, seed {settings['phantom']['seed']}; {settings['split']['train']} train, "
        f"{settings['split']['test']} test, the rest validate. Seeds {', '.join(map(str, settings['seeds']))}; "
        f"{settings['train']['steps']} steps of {settings['train']['batch']} at {settings['ingest']['grid']}^3. "
        f"copdvae {facts['version']}, configuration {facts['config']}, torch {runs[0]['torch']}, python {runs[0]['python']}. "
        f"Training took {sum(run['seconds'] for run in runs) / 60:.0f} minutes of one core in all, waiting for data at most "
        f"{max(run['data_share'] for run in runs):.1%} of it.",
        "",
        *score_table(rows),
        "",
        "## What was asked",
        "",
        *checks(rows, differences),
        "",
        "`pairwise` by seed: "
        + "; ".join(
            f"{seed}: " + ", ".join(f"{value:.3f}" for value in row) for seed, row in zip(by_seed.index, by_seed.to_numpy(), strict=True)
        )
        + f" (in the order {', '.join(FIRST)}).",
        "",
        f"Alarms: {'; '.join(facts['warnings']) or 'none'}. Rejected: {facts['rejected']['expected']} planted, "
        f"{facts['rejected']['unexpected']} others.",
        "",
        "How settings were chosen: warm-up, learning rate schedule and normalisation on a cohort of another seed (101). A first run of the "
        "demo on 240 training subjects of seed 0 had a kappa of .324, 64 % of its ceiling; 360 training subjects and 1,200 steps were "
        "settled on after that, and the seed changed, so that no choice was made on the subjects of this page.",
        "",
        "Single seeds, MAE, weighted kappa and grouped MIG are in [synthetic/scores.csv](synthetic/scores.csv), all paired differences in",
        "[synthetic/differences.csv](synthetic/differences.csv).",
        "",
    ]
    page = options.docs / "SYNTHETIC.md"
    before = page.read_text() if page.is_file() else ""
    page.write_text("\n".join(text) + ("\n" + before[before.index(BY_HAND) :] if BY_HAND in before else ""))
    print("\n".join(text))


if __name__ == "__main__":
    main()
