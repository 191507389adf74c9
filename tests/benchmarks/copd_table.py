"""Keep the outcome of configs/copd.yaml: docs/copd/*.csv and docs/COPD_SYNTHETIC.md, every number taken from the files.

copdvae run configs/copd.yaml --root demo --jobs 2 && python tests/benchmarks/copd_table.py demo/copd
"""

import argparse
import json
import shutil
from pathlib import Path

import pandas as pd
from synthetic_tables import FIRST, TITLES, first_scores, score_table

BY_HAND = "## What to make of it"  # from here on the page is not written by this command, and stays

U = {
    "u": "by place",
    "ranked": "best latent by rank, for each target",
    "all": "all latents",
    "direct": "its own predictions",
}
GAPS = {
    "grouped_mig": "plain",
    "grouped_mig_adjusted": "adjusted",
    "grouped_mig_chen": "Chen's",
    "grouped_mig_chen_adjusted": "Chen's, adjusted",
}


def facts_table(runs: list[dict]) -> list[str]:
    lines = ["| method | told | u | latents of u, of all | step kept | minutes | alarm |", "|---|---|---|---|---|---|---|"]
    for run in runs:
        lines.append(
            f"| `{run['label']}` | {run['told']} | {U[run['readout']]}{': LEAKS, ' + run['leaks'] if run['leaks'] else ''} | "
            f"{run['u']}, {run['latents']} | {run['best']['step']} | {run['seconds'] / 60:.1f} | {run['collapse'] or ''} |"
        )
    return lines


def gap_table(scores: pd.DataFrame, metric: str, methods: list[str]) -> list[str]:
    lines = ["| method | " + " | ".join(title.split(",")[0] for title in TITLES.values()) + " |", "|---" * (len(FIRST) + 1) + "|"]
    for method in methods:
        rows = scores[(scores["method"] == method) & (scores["metric"] == metric)].set_index("target")
        cells = [
            f"{rows.loc[t, 'value']:.3f} [{rows.loc[t, 'low']:.3f}, {rows.loc[t, 'high']:.3f}]" if t in rows.index else "-" for t in FIRST
        ]
        lines.append(f"| `{method}` | " + " | ".join(cells) + " |")
    return lines


def further_table(scores: pd.DataFrame) -> list[str]:
    """Scores of labels that a method infers: C's l2 and D's accuracy."""
    found = scores[scores["metric"].isin(["label_l2", "accuracy"])]
    lines = ["| method | label | metric | value | n | note |", "|---|---|---|---|---|---|"]
    for row in found.to_dict("records"):
        note = "" if pd.isna(row["note"]) else row["note"]
        lines.append(f"| `{row['method']}` | {row['target']} | {row['metric']} | {with_interval(row)} | {row['n']:.0f} | {note} |")
    return lines if len(lines) > 2 else []


def with_interval(row) -> str:
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path, help="The experiment's output folder, such as demo/copd.")
    parser.add_argument("--wall", default="", help="How long the command took, in words, where it was timed.")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    options = parser.parse_args()
    kept = options.docs / "copd"
    kept.mkdir(parents=True, exist_ok=True)
    for name in ("scores.csv", "differences.csv", "evaluation.json"):
        shutil.copy(options.results / name, kept / name)
    scores, facts = pd.read_csv(kept / "scores.csv"), json.loads((kept / "evaluation.json").read_text())
    found = {run["label"]: run for run in (json.loads(path.read_text()) for path in options.results.glob("runs/*/run.json"))}
    settings, counts = facts["settings"], facts["n"]
    names = [one["method"].get("label") or one["method"]["method"] for one in settings["methods"]]
    runs = [found[name] for name in names]
    text = [
        "# Every method on the synthetic study",
        "",
        "`copdvae run configs/copd.yaml --root demo --jobs 2`, then `python tests/benchmarks/copd_table.py demo/copd`, which wrote this "
        f"page. 5-NN on `u`, neighbours from training subjects, on {counts['test']['fev1_pp']} test subjects with spirometry (GOLD: "
        f"{counts['test']['gold']}), 95 % intervals by subject. One seed: two methods whose intervals overlap are not told apart. "
        "The settings of most methods on CT are first guesses that nobody has tuned, so this page says what runs and what learns, not "
        "which method is best. Figures on a synthetic study say nothing about patients.",
        "",
        f"Study: {settings['phantom']['subjects']} subjects, seed {settings['phantom']['seed']}; {settings['split']['train']} train, "
        f"{settings['split']['test']} test, the rest validate. Seed {', '.join(map(str, settings['seeds']))}; {settings['train']['steps']} "
        f"steps of {settings['train']['batch']} at {settings['ingest']['grid']}^3. copdvae {facts['version']}, configuration "
        f"{facts['config']}, torch {runs[0]['torch']}, python {runs[0]['python']}, {runs[0]['device']}. Training took "
        f"{sum(run['seconds'] for run in runs) / 60:.0f} minutes of one core in all{'; ' + options.wall if options.wall else ''}.",
        "",
        *score_table(first_scores(scores)),
        "",
        "## What each was told, and what it cost",
        "",
        "Minutes are those of one run beside another one, on one core each.",
        "",
        *facts_table(runs),
        "",
        "## Grouped MIG, adjusted for chance",
        "",
        "Of all encoded subjects; plain and Chen's are in [copd/scores.csv](copd/scores.csv).",
        "",
        *gap_table(scores, "grouped_mig_adjusted", [run["label"] for run in runs if run["readout"] != "direct"]),
        "",
    ]
    further = further_table(scores)
    if further:
        words = "l2: distance of inferred and true label in training standard deviations, 0 is best (paper C). Accuracy: share of test "
        words += "subjects whose most likely class is theirs (paper D)."
        text += ["## Labels that methods infer", "", words, "", *further, ""]
    text += [f"Alarms: {'; '.join(facts['warnings']) or 'none'}.", ""]
    page = options.docs / "COPD_SYNTHETIC.md"
    before = page.read_text() if page.is_file() else ""
    page.write_text("\n".join(text) + ("\n" + before[before.index(BY_HAND) :] if BY_HAND in before else ""))
    print("\n".join(text))


if __name__ == "__main__":
    main()
