"""Mutual information, MIG and grouped MIG against known answers.

    python tests/benchmarks/estimators_mi.py [--redraw]       writes the figures and tables; --redraw: of the numbers that are there

They go to docs/estimators/mutual_information.{csv,png} and one section of docs/ESTIMATORS.md. Every code is drawn from a seed, so that
another run on the same versions writes the same files. Ten equally frequent classes throughout; gaps are shares of H(t). Some ten minutes
of one core.
"""

import argparse
import os
import platform
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib
import numpy as np
import pandas as pd
from scipy.stats import norm

import copdvae
from copdvae.files import write_csv, write_text, write_with
from copdvae.metrics.bootstrap import jackknife_interval
from copdvae.metrics.chen_mig import chen_mig
from copdvae.metrics.grouped_mig import gap, grouped_mig, rows
from copdvae.metrics.information import BINS, bins_for, cut_at_deciles
from copdvae.metrics.mig import mig

matplotlib.use("Agg")
import matplotlib.pyplot as plt

CLASSES, SIZES = 10, (500, 2_500, 10_000)
SEEDS, DATA_SETS, LONG_RUN, DRAWS = 20, 100, 200, 100
HEADING = "## Mutual information and MIG"
ANGLE = 2 * np.pi * np.arange(CLASSES) / CLASSES
CIRCLE = np.column_stack([np.cos(ANGLE), np.sin(ANGLE)])
Found = Iterator[dict[str, object]]


def classes_of(n: int) -> np.ndarray:
    return np.arange(n) % CLASSES


def gaps(u: np.ndarray, v: np.ndarray, t: np.ndarray, seed: int) -> dict[str, float]:
    """Gaps from bins of the codes: plain with 20 bins a latent, plain with n / 5 cells, adjusted."""
    every = rows(u, v, t, 0, seed)
    return {
        "bins, plain, 20 a latent": gap(*every, u_bins=BINS, v_bins=BINS),
        "bins, plain": grouped_mig(u, v, t, adjusted=False),
        "bins, adjusted": grouped_mig(u, v, t, seed=seed),
    }


def chens(u: np.ndarray, v: np.ndarray, t: np.ndarray, std: float, seed: int) -> dict[str, float]:
    """Chen's gaps where every posterior has standard deviation `std`."""
    found = chen_mig(u, np.full(u.shape, std), v, np.full(v.shape, std), t, seed=seed)
    return {"Chen, plain": found.plain.value, "Chen, adjusted": found.adjusted.value}


def repeat(experiment: str, case: str, n: int, truth: float, once: Callable[[np.random.Generator, int], dict[str, float]]) -> Found:
    """Mean and standard deviation over seeds of what `once` finds."""
    table = pd.DataFrame([once(np.random.default_rng(seed), seed) for seed in range(SEEDS)])
    for estimator in table:
        values = table[estimator]
        yield {
            "experiment": experiment, "case": case, "n": n, "estimator": estimator, "truth": truth,
            "mean": values.mean(), "sd": values.std(), "least": values.min(), "repeats": SEEDS,
        }  # fmt: skip


def independent(n: int) -> Found:
    """Codes that know nothing: every gap should be 0."""

    def binned(rng: np.random.Generator, seed: int, du: int, dv: int) -> dict[str, float]:
        v = rng.normal(size=(n, dv)) if dv else np.zeros((n, 1))
        return gaps(rng.normal(size=(n, du)), v, classes_of(n), seed)

    def posteriors(rng: np.random.Generator, seed: int, std: float) -> dict[str, float]:
        mean = np.sqrt(1 - std**2) * rng.normal(size=(n, 10))
        return chens(mean[:, :2], mean[:, 2:], classes_of(n), std, seed)

    for du, dv in ((1, 0), (2, 0), (2, 8)):
        yield from repeat("independent", f"d(u) {du}, d(v) {dv}", n, 0, partial(binned, du=du, dv=dv))
    for std in (0.1, 0.3):
        yield from repeat("independent", f"d(u) 2, d(v) 8, posterior sd {std}", n, 0, partial(posteriors, std=std))


def circle(n: int, spread: float) -> Found:
    """Classes on a circle with Gaussian noise in two dimensions; for Chen's half of its variance is the posterior's."""

    def once(rng: np.random.Generator, seed: int) -> dict[str, float]:
        t, v = classes_of(n), rng.normal(size=(n, 2))
        noise = rng.normal(size=(n, 2))
        std = spread / np.sqrt(2)
        return gaps(CIRCLE[t] + spread * noise, v, t, seed) | chens(CIRCLE[t] + std * noise, np.sqrt(max(1 - std**2, 0)) * v, t, std, seed)

    return repeat("known", f"circle, noise {spread}", n, circle_truth(spread), once)


def circle_truth(spread: float) -> float:
    """I / H from the true densities, averaged over 400,000 draws."""
    rng, t = np.random.default_rng(0), classes_of(400_000)
    u = CIRCLE[t] + spread * rng.normal(size=(len(t), 2))
    log_density = -((u[:, None] - CIRCLE) ** 2).sum(axis=2) / (2 * spread**2)
    top = log_density.max(axis=1)
    own = log_density[np.arange(len(t)), t]
    return float(np.mean(own - top - np.log(np.mean(np.exp(log_density - top[:, None]), axis=1))) / np.log(CLASSES))


def gaussian(n: int, rho: float) -> Found:
    """One Gaussian code of correlation rho with a Gaussian target, which is cut at its deciles."""

    def once(rng: np.random.Generator, seed: int) -> dict[str, float]:
        t, noise, v = rng.normal(size=(3, n))
        return gaps((rho * t + np.sqrt(1 - rho**2) * noise)[:, None], v[:, None], cut_at_deciles(t, t), seed)

    z = np.linspace(-8, 8, 4_001)
    edges = norm.ppf(np.arange(0, 1.01, 0.1))
    share = np.diff(norm.cdf((edges[:, None] - rho * z) / np.sqrt(1 - rho**2)), axis=0)  # of each tenth, given the code
    of_z = -(share * np.log(np.where(share > 0, share, 1))).sum(axis=0)
    truth = 1 - np.sum(of_z * norm.pdf(z)) * (z[1] - z[0]) / np.log(CLASSES)
    return repeat("known", f"Gaussian, rho {rho}", n, float(truth), once)


def channel(n: int, kept: float) -> Found:
    """A discrete code: the class with probability `kept`, else any of the ten."""

    def once(rng: np.random.Generator, seed: int) -> dict[str, float]:
        t = classes_of(n)
        u = np.where(rng.random(n) < kept, t, rng.integers(CLASSES, size=n)).astype(float)
        return gaps(u[:, None], rng.normal(size=(n, 1)), t, seed)

    right, wrong = kept + (1 - kept) / CLASSES, (1 - kept) / CLASSES
    truth = 1 + (right * np.log(right) + (CLASSES - 1) * wrong * np.log(wrong)) / np.log(CLASSES)
    return repeat("known", f"discrete, {kept} kept", n, float(truth), once)


def clusters(arrangement: str) -> Found:
    """Ten separated clusters of 500 subjects in two dimensions: every gap should be 1."""

    def once(rng: np.random.Generator, seed: int) -> dict[str, float]:
        t = classes_of(500)
        centre = {"circle": CIRCLE[t], "line": np.column_stack([t, 0 * t]), "5 x 2 grid": np.column_stack([t % 5, t // 5])}[arrangement]
        u, v = centre + 0.03 * rng.normal(size=(500, 2)), rng.normal(size=(500, 8))
        return gaps(u, v, t, seed) | chens(u, v, t, 0.1, seed)

    return repeat("clusters", f"ten on a {arrangement}", 500, 1, once)


def coverage(n: int) -> Found:
    """How many 95 % intervals hold the score's own mean over many data sets of that size, the truth, and their own estimate."""

    def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng, t = np.random.default_rng(10_000 + seed), classes_of(n)
        return CIRCLE[t] + 0.4 * rng.normal(size=(n, 2)), rng.normal(size=(n, 2)), t

    def adjusted(u, v, t, shuffled) -> float:
        return gap(u, v, t, shuffled, bins_for(n, 2), bins_for(n, 1))

    def plain_mig(u, v, t) -> float:
        return mig(np.hstack([u[:, :1], v]), t)

    def resampled(statistic, *arrays, seed: int) -> np.ndarray:
        index = np.random.default_rng(seed).integers(n, size=(DRAWS, n))
        return np.array([statistic(*[array[i] for array in arrays]) for i in index])

    def intervals(name: str, statistic, arrays, seed: int) -> dict[tuple[str, str], tuple[float, float, float]]:
        value, low, high = jackknife_interval(statistic, *arrays, seed=seed)
        draws = resampled(statistic, *arrays, seed=seed)
        half = 1.96 * draws.std(ddof=1)
        return {
            (name, "20-block jackknife"): (value, low, high),
            (name, "1.96 bootstrap sd"): (value, value - half, value + half),
            (name, "percentile bootstrap"): (value, *np.percentile(draws, [2.5, 97.5])),
        }

    def once(seed: int, limits: bool) -> dict[tuple[str, str], tuple[float, float, float]]:
        u, v, t = drawn(seed)
        whole = rows(u, v, t, 20, seed)
        std = 0.4 / np.sqrt(2)
        about = chen_mig(CIRCLE[t] + (u - CIRCLE[t]) / np.sqrt(2), np.full(u.shape, std), v, np.full(v.shape, std), t, 5, seed).adjusted
        found = {("Chen, adjusted", "20-block jackknife"): tuple(about)}
        if not limits:
            return found | {("bins, adjusted", ""): (adjusted(*whole),) * 3, ("MIG, plain", ""): (plain_mig(u, v, t),) * 3}
        return found | intervals("bins, adjusted", adjusted, whole, seed) | intervals("MIG, plain", plain_mig, (u, v, t), seed)

    long_run = [once(DATA_SETS + k, limits=False) for k in range(LONG_RUN)]
    own = {name: float(np.mean([found[name, kind][0] for found in long_run])) for name, kind in long_run[0]}
    truth = {"Chen, adjusted": circle_truth(0.4), "bins, adjusted": circle_truth(0.4)}
    sets = [once(k, limits=True) for k in range(DATA_SETS)]
    for name, kind in sets[0]:
        value, low, high = np.array([found[name, kind] for found in sets]).T
        known = truth.get(name, np.nan)
        yield {
            "experiment": "coverage", "case": kind, "n": n, "estimator": name, "truth": known, "mean": value.mean(), "sd": value.std(),
            "repeats": DATA_SETS, "own_mean": own[name], "holds_own_mean": np.mean((low <= own[name]) & (own[name] <= high)),
            "holds_truth": np.mean((low <= known) & (known <= high)) if np.isfinite(known) else np.nan,
            "holds_estimate": np.mean((low <= value) & (value <= high)), "width": np.mean(high - low),
        }  # fmt: skip


def measure() -> pd.DataFrame:
    found: list[dict[str, object]] = []
    for n in SIZES:
        found += independent(n)
        found += [row for spread in (0.1, 0.2, 0.4, 0.8) for row in circle(n, spread)]
        found += [row for rho in (0.3, 0.6, 0.9) for row in gaussian(n, rho)]
        found += [row for kept in (0.2, 0.5, 0.9) for row in channel(n, kept)]
    found += [row for arrangement in ("circle", "line", "5 x 2 grid") for row in clusters(arrangement)]
    found += [row for n in SIZES[:2] for row in coverage(n)]
    return pd.DataFrame(found).assign(copdvae=copdvae.__version__, numpy=np.__version__, python=platform.python_version())


def draw(table: pd.DataFrame, path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(16, 4.6), layout="constrained")
    nothing = table[(table["experiment"] == "independent") & table["case"].str.startswith("d(u) 2, d(v) 8")]
    for (case, estimator), part in nothing.groupby(["case", "estimator"], sort=False):
        std = case.partition("posterior ")[2]
        label, adjusted = f"{estimator}{', ' + std if std else ''}", "adjusted" in estimator
        axes[0].errorbar(part["n"], part["mean"], part["sd"], marker="o", capsize=3, label=label, ls="-" if adjusted else "--")
    axes[0].axhline(0, color="grey", lw=0.8)
    axes[0].set(
        xscale="log", xticks=SIZES, xticklabels=SIZES, xlabel="subjects", ylabel="gap / H", title="Codes that know nothing: truth 0"
    )
    axes[0].minorticks_off()
    known = table[(table["experiment"] == "known") & (table["n"] == SIZES[0])]
    for estimator, part in known.groupby("estimator", sort=False):
        axes[1].errorbar(part["truth"], part["mean"], part["sd"], ls="none", marker="o", capsize=2, label=estimator)
    axes[1].plot([0, 1], [0, 1], color="grey", lw=0.8)
    axes[1].set(xlabel="true gap / H", ylabel="estimate", title=f"Known answers, {SIZES[0]} subjects")
    held = table[table["experiment"] == "coverage"]
    place = np.arange(len(held))
    axes[2].barh(place - 0.2, held["holds_own_mean"], 0.4, label="its own mean")
    axes[2].barh(place + 0.2, held["holds_estimate"], 0.4, label="the estimate itself")
    axes[2].axvline(0.95, color="grey", lw=0.8)
    axes[2].set_yticks(place, [f"{r['estimator']}, {r['case']}, {r['n']}" for r in held.to_dict("records")], fontsize=7)
    axes[2].set(title=f"Share of {DATA_SETS} 95 % intervals that hold ...", xlim=(0, 1.02))
    for axis, place in zip(axes, ("best", "upper left", "lower left"), strict=True):
        axis.legend(fontsize=7, loc=place, framealpha=1)
    write_with(path, lambda temporary: figure.savefig(temporary, dpi=100, format="png"))


def page(table: pd.DataFrame) -> str:
    """The section, in Markdown."""
    parts = {name: part for name, part in table.groupby("experiment", sort=False)}
    bias = wide(parts["independent"], "mean")
    worst = parts["independent"][parts["independent"]["estimator"].str.contains("adjusted")]["mean"].abs().max()
    poorest = parts["clusters"][parts["clusters"]["estimator"].str.contains("adjusted")]["least"].min()
    held, made = parts["coverage"], table.iloc[0]
    jackknife = held[held["case"].str.contains("jackknife")].set_index(["estimator", "n"])["holds_truth"]
    of_bins, of_chen = (" and ".join(f"{100 * jackknife[f'{name}, adjusted', n]:.0f}" for n in SIZES[:2]) for name in ("bins", "Chen"))
    columns = ["estimator", "case", "n", "mean", "own_mean", "truth", "width", "holds_own_mean", "holds_truth", "holds_estimate"]
    return f"""{HEADING}

`python tests/benchmarks/estimators_mi.py` writes this section, [its numbers](estimators/mutual_information.csv) and the figure. Scores are
gaps `(I(u; t) - max_d I(v_d; t)) / H(t)` of ten equally frequent classes, in shares of H. "Bins" is `metrics/grouped_mig.py` (posterior
means, at most n / 5 cells unless it says 20 a latent), "Chen" `metrics/chen_mig.py` (from q(z|x)); "adjusted" takes what permuted
targets find off each term. Means over {SEEDS} seeds (0 to {SEEDS - 1}).
Made with copdvae {made["copdvae"]}, numpy {made["numpy"]}, Python {made["python"]}.

![Bias, known answers and coverage](estimators/mutual_information.png)

### Codes that know nothing

The truth is 0. The largest adjusted mean, in absolute value, is {worst:.3f}.

{bias}

### Known answers

The truth comes from the true densities (circle: 400,000 draws; Gaussian: quadrature; discrete: closed form).
Plain bins overstate weak codes of two dimensions; adjusted ones understate codes in between, the more the fewer subjects.

{wide(parts["known"], "mean", truth=True)}

### Ten separated clusters, 500 subjects

The truth is 1. The poorest adjusted score of all seeds is {poorest:.3f}.

{wide(parts["clusters"], "mean")}

### Do 95 % intervals hold?

{DATA_SETS} data sets of classes on a circle with noise .4. An interval should hold the score's own mean over {LONG_RUN} further data
sets of that size (`own_mean`) in 95 of 100; whether it holds the truth depends on the estimator's bias.
The adjusted score from bins is too low for codes in between, so that its jackknife interval holds the truth in {of_bins} of
100 at {SIZES[0]} and {SIZES[1]} subjects, though its own mean in nearly all; Chen's, from posteriors, in {of_chen}. A percentile
bootstrap must not be used: its resamples repeat rows, which adds information, so it can miss the very estimate that it is about
(`holds_estimate`).

{markdown(held[columns].rename(columns={"case": "interval"}))}
"""


def wide(part: pd.DataFrame, value: str, truth: bool = False) -> str:
    index = ["case", "truth", "n"] if truth else ["case", "n"]
    return markdown(part.pivot_table(value, index, "estimator", sort=False).reset_index())


def markdown(table: pd.DataFrame) -> str:
    """A Markdown table; numbers to three digits after the point, empty where there is none."""

    def cell(value: object) -> str:
        if isinstance(value, float):
            return "" if np.isnan(value) else f"{value:.3f}".replace("-0.000", "0.000")
        return str(value)

    lines = [list(map(str, table.columns)), ["---"] * table.shape[1], *(list(map(cell, row)) for row in table.itertuples(index=False))]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def put_section(path: Path, section: str) -> None:
    """Replace the section that starts with the same heading, or add it at the end; others stay as they are."""
    text = path.read_text(encoding="utf-8") if path.is_file() else "# Estimators against known truth\n"
    heading = section.partition("\n")[0]
    before, found, rest = text.partition(f"{heading}\n")
    after = "\n## " + rest.partition("\n## ")[2] if found and "\n## " in rest else ""
    write_text(path, before.rstrip("\n") + "\n\n" + section.rstrip("\n") + "\n" + after)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--redraw", action="store_true")
    options = parser.parse_args()
    numbers = options.docs / "estimators" / "mutual_information.csv"
    table = pd.read_csv(numbers) if options.redraw else measure().round(5)
    write_csv(numbers, table)
    draw(table, options.docs / "estimators" / "mutual_information.png")
    put_section(options.docs / "ESTIMATORS.md", page(table))


if __name__ == "__main__":
    main()
