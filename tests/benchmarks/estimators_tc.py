"""Total correlation by sampling and by a critic, on Gaussians where it is known.

    python tests/benchmarks/estimators_tc.py        writes the figure, the table and the section

They go to docs/estimators/total_correlation.{csv,png} and one section of docs/ESTIMATORS.md. Every batch is drawn from a seed, so that
another run on the same versions writes the same files. Some four minutes of one idle core.

The first two latents' means correlate by rho; with posterior variance s^2 they have r = rho (1 - s^2) in q(z), and TC = -log(1 - r^2) / 2.
"""

import argparse
import math
import os
import platform
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.append(str(Path(__file__).parents[1] / "objectives"))

import matplotlib
import pandas as pd
import torch
from estimators_mi import put_section
from gaussians import estimates
from torch import Tensor

import copdvae
from copdvae.files import write_csv, write_with
from copdvae.objectives.total_correlation import CRITIC_ADAM, Critic, CriticConfig, Sampling, permute_parts

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HEADING = "## Total correlation"
IMAGES, SEED = 60_000, 0
SAMPLES = 20_000  # a setting: so many images in all, in batches
LATENTS, BATCHES, VARIANCES, TRUTHS = (3, 10), (16, 64, 512), (0.1, 0.3, 0.7), (0.0, 0.1, 0.25, 0.5)
WAYS: tuple[Sampling, ...] = ("stratified", "weighted")
CRITIC_TRUTHS, CRITIC_STEPS, CRITIC_LR, CRITIC_BATCHES, CRITIC_SEEDS = (0.0, 0.25, 0.83), 2_000, 1e-3, (64,), (0, 1, 2)


def correlation(truth: float) -> float:
    """r of two Gaussians with a total correlation."""
    return math.sqrt(1 - math.exp(-2 * truth))


def sampled() -> list[dict[str, object]]:
    rows = []
    for sampling in WAYS:
        for latents in LATENTS:
            for variance in VARIANCES:
                for batch in BATCHES:
                    bias = 0.0
                    for truth in TRUTHS:
                        rho = correlation(truth) / (1 - variance)
                        if rho >= 1:
                            continue  # posteriors this wide cannot depend on each other so much
                        found = estimates(sampling, batch, IMAGES, SAMPLES // batch, latents, rho, variance, SEED)
                        mean, sd = float(found.mean()), float(found.std())
                        bias = mean if truth == 0 else bias
                        rows.append({
                            "estimator": sampling, "latents": latents, "posterior_variance": variance, "batch": batch, "truth": truth,
                            "estimate": mean, "sd_of_a_batch": sd, "standard_error": sd / len(found) ** 0.5, "rise": mean - bias,
                            "draws": len(found),
                        })  # fmt: skip
            print(f"{sampling}, {latents} latents", flush=True)
    return rows


def gaussian(count: int, latents: int, r: float, g: torch.Generator) -> Tensor:
    z = torch.randn(count, latents, generator=g)
    z[:, 1] = r * z[:, 0] + math.sqrt(1 - r * r) * z[:, 1]
    return z


def critic_estimate(latents: int, batch: int, truth: float, seed: int) -> float:
    """What a critic trained on fresh samples says of 20,000 others."""
    torch.manual_seed(seed)
    g, r = torch.Generator().manual_seed(seed + 1), correlation(truth)
    critic = Critic(CriticConfig(), latents)
    optimizer = torch.optim.Adam(critic.parameters(), lr=CRITIC_LR, betas=CRITIC_ADAM["betas"])
    for step in range(CRITIC_STEPS):
        optimizer.param_groups[0]["lr"] = CRITIC_LR * (1 - step / CRITIC_STEPS)
        z = gaussian(batch, latents, r, g)
        optimizer.zero_grad()
        critic.loss(z, permute_parts(z)).backward()
        optimizer.step()
    with torch.no_grad():
        return float(critic(gaussian(20_000, latents, r, g)).mean())


def critics() -> list[dict[str, object]]:
    rows = []
    for latents in LATENTS:
        for batch in CRITIC_BATCHES:
            bias = 0.0
            for truth in CRITIC_TRUTHS:
                found = torch.tensor([critic_estimate(latents, batch, truth, seed) for seed in CRITIC_SEEDS])
                mean, sd = float(found.mean()), float(found.std())
                bias = mean if truth == 0 else bias
                rows.append({
                    "estimator": "critic", "latents": latents, "posterior_variance": float("nan"), "batch": batch, "truth": truth,
                    "estimate": mean, "sd_of_a_batch": sd, "standard_error": sd / len(found) ** 0.5, "rise": mean - bias,
                    "draws": len(found),
                })  # fmt: skip
                print(f"critic, {latents} latents, batch {batch}, truth {truth}: {mean:.3f}", flush=True)
    return rows


def figure(table: pd.DataFrame, path: Path) -> None:
    """Estimates beside the truth at s^2 = .3."""
    shown, axes = plt.subplots(1, len(LATENTS), figsize=(9, 3.6), constrained_layout=True)
    for axis, latents in zip(axes, LATENTS, strict=True):
        part = table[(table["latents"] == latents) & (table["posterior_variance"].isna() | (table["posterior_variance"] == 0.3))]
        for (name, batch), line in part.groupby(["estimator", "batch"], sort=False):
            style = {"stratified": "-", "weighted": "--", "critic": ":"}[str(name)]
            axis.plot(line["truth"], line["estimate"], style, marker=".", label=f"{name}, batch {batch}")
        axis.plot([0, 0.83], [0, 0.83], color="black", linewidth=0.8, label="truth")
        axis.set(title=f"{latents} latents, posterior variance .3", xlabel="true total correlation, nats", ylabel="estimate, nats")
    axes[-1].legend(fontsize=7)
    write_with(path, lambda temporary: shown.savefig(temporary, dpi=100, format="png"))
    plt.close(shown)


def markdown(table: pd.DataFrame) -> str:
    header = "| " + " | ".join(map(str, table.columns)) + " |\n|" + " --- |" * len(table.columns) + "\n"
    return header + "".join("| " + " | ".join(map(str, row)) + " |\n" for row in table.to_numpy())


def biases(table: pd.DataFrame) -> str:
    part = table[(table["truth"] == 0) & (table["estimator"] != "critic")]
    wide = part.pivot_table(index=["estimator", "latents", "posterior_variance"], columns="batch", values="estimate", sort=False)
    wide.columns = [f"B = {batch}" for batch in wide.columns]
    return markdown(wide.map("{:.2f}".format).reset_index().rename(columns={"posterior_variance": "s²"}))


def rises(table: pd.DataFrame) -> str:
    part = table[(table["truth"] == 0.25) & (table["posterior_variance"].isin([0.1, 0.3]))]
    wide = part.pivot_table(index=["estimator", "latents", "posterior_variance"], columns="batch", values="rise", sort=False)
    wide.columns = [f"B = {batch}" for batch in wide.columns]
    return markdown(wide.map("{:.3f}".format).reset_index().rename(columns={"posterior_variance": "s²"}))


def critic_table(table: pd.DataFrame) -> str:
    part = table[table["estimator"] == "critic"]
    wide = part.pivot_table(index=["latents", "batch"], columns="truth", values="estimate", sort=False)
    wide.columns = [f"truth {truth:g}" for truth in wide.columns]
    return markdown(wide.map("{:.2f}".format).reset_index())


def page(table: pd.DataFrame) -> str:
    """The section, in Markdown."""
    small = table[(table["latents"] == 3) & (table["batch"] == 512) & (table["estimator"] != "critic")]
    worst = (small["estimate"] - small["truth"]).abs().max()
    critic = CriticConfig()
    return f"""{HEADING}

Gaussian latents of which two depend on each other, so that `TC = -log(1 - r^2) / 2` is known; N = {IMAGES:,} images, B a batch, s² the
variance of every posterior. Each number is a mean over {SAMPLES:,} images in batches; `copdvae/objectives/total_correlation.py` has the
estimators, `docs/estimators/total_correlation.csv` every number with the spread of a batch and its standard error.

![Estimates beside the truth](estimators/total_correlation.png)

**With 3 latents and B = 512 sampling is right to {worst:.2f} nats** or better at every s². In smaller batches and with more latents it is
biased. Where the truth is 0 it prints:

{biases(table)}
Weighted sampling prints too much, stratified sampling mostly too little, by nats where posteriors are narrow, latents many and batches
small: the value that a run logs as `tc` is no total correlation by itself. What a training step follows is how it changes.
**Where the truth rises from 0 to .25 the estimate rises by:**

{rises(table)}
Weighted sampling gives the image itself a weight of 1/B in place of 1/N, sees mostly that, and so hardly notices dependence among ten
latents at small batches. Stratified sampling does at s² = .3; at s² = .1 neither does where B is small. Chen's constant log(N B) in place
of log B would add (D - 1) log N to what is printed, {9 * math.log(IMAGES):.0f} nats here at D = 10, and changes no gradient.

**A critic** ({critic.layers} layers of {critic.width}, {CRITIC_STEPS:,} steps of its own, Adam at {CRITIC_LR:g} falling to 0, mean of \
{len(CRITIC_SEEDS)} seeds) needs no posterior variance. On
20,000 new samples it says:

{critic_table(table)}
Made by `python tests/benchmarks/estimators_tc.py`: seed {SEED} (critic: {", ".join(map(str, CRITIC_SEEDS))}), torch {torch.__version__}, \
Python {platform.python_version()}, copdvae {copdvae.__version__}.
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--docs", type=Path, default=Path(__file__).parents[2] / "docs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = pd.DataFrame(sampled() + critics())
    table = table.assign(images=IMAGES, seed=SEED, torch=torch.__version__, version=copdvae.__version__).round(4)
    folder = options.docs / "estimators"
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "total_correlation.csv", table)
    figure(table, folder / "total_correlation.png")
    put_section(options.docs / "ESTIMATORS.md", page(table))


if __name__ == "__main__":
    main()
