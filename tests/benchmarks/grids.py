"""`pairwise` on finer grids and with the other kind of network, on the demo's study. Reported, not tuned on.

    python tests/benchmarks/grids.py --root demo                     writes docs/grids.{csv,json}
    python tests/benchmarks/grids.py --root demo --only 64_conv      prepares and trains that variant alone

The root is a folder in which the demo's study lies, or is made. The reconstruction is a sum over voxels and the pair term is not, so
one variant at 64^3 has the weight that keeps their balance: 8 times that of 32^3.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
from machine import machine
from runs import facts_of_runs
from synthetic_tables import FIRST

from copdvae.files import write_csv, write_json
from copdvae.processes import cores
from copdvae.run import evaluate, prepare, stopping, to_stderr, train
from copdvae.study import MethodRun, Study, load_study, packaged_config

VARIANTS: dict[str, dict[str, Any]] = {
    "32_conv": {"grid": 32},
    "32_resnet": {"grid": 32, "kind": "resnet"},
    "48_conv": {"grid": 48},
    "64_conv": {"grid": 64},
    "64_conv_weight_8": {"grid": 64, "weight": 8.0},
    "64_resnet": {"grid": 64, "kind": "resnet"},
}
SEEDS = (0, 1)


def changed(study: Study, name: str, grid: int, kind: str = "conv", weight: float = 1.0) -> Study:
    """The demo with `pairwise` alone, another grid, another kind of network, another weight (times the demo's own)."""
    method = study.only("pairwise").methods[0].method
    method = method.model_copy(update={"weight": method.weight * weight})  # pyright: ignore[reportAttributeAccessIssue]
    return study.model_copy(
        update={
            "name": f"grids_{name}", "out": Path("grids") / name, "cache": Path(f"cache_{grid}"), "seeds": SEEDS,
            "ingest": study.ingest.model_copy(update={"grid": grid}), "network": study.network.model_copy(update={"kind": kind}),
            "methods": (MethodRun(method=method),),
        }
    )  # fmt: skip


def rows_of(scores: pd.DataFrame, part: Study, name: str, losses: dict[str, float]) -> pd.DataFrame:
    """The first metric of each target, by seed and mean, beside the validation pair loss of the weights that were kept."""
    method: Any = part.methods[0].method
    rows = scores[[FIRST[target] == metric for target, metric in zip(scores["target"], scores["metric"], strict=True)]]
    rows = rows[rows["method"] == "pairwise"]
    settings = {"variant": name, "grid": part.ingest.grid, "kind": part.network.kind, "weight": method.weight}
    return rows.assign(**settings, validation_pair_loss=[losses[str(seed)] for seed in rows["seed"]])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, default=Path("demo"))
    parser.add_argument("--out", type=Path, default=Path("docs/grids.csv"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", choices=VARIANTS, action="append", help="prepare and train this variant, and do not evaluate")
    parser.add_argument("--study", type=Path, default=packaged_config("demo.yaml"))
    options = parser.parse_args()
    study = load_study(options.study, options.root)
    parts = {name: changed(study, name, **VARIANTS[name]) for name in options.only or VARIANTS}
    runs = {}
    for name, part in parts.items():
        prepare(part, 0, to_stderr)
        with stopping() as stop:
            runs[name] = facts_of_runs(train(part, options.jobs, to_stderr, stop))
    if options.only:
        return
    with ProcessPoolExecutor(min(len(parts), cores()), mp_context=get_context("spawn")) as pool:
        scores = list(pool.map(evaluate, parts.values()))
    tables = []
    for (name, part), found in zip(parts.items(), scores, strict=True):
        losses = {str(facts["seed"]): facts["best"]["score"] for facts in runs[name]}
        losses["mean"] = sum(losses.values()) / len(losses)
        tables.append(rows_of(found, part, name, losses))
    first = ["variant", "grid", "kind", "weight", "seed", "target", "metric", "value", "low", "high", "ceiling", "n"]
    write_csv(options.out, pd.concat(tables, ignore_index=True)[[*first, "validation_pair_loss"]])
    settings = study.model_copy(update={"root": Path()}).plain()
    facts = {"settings": settings, "variants": VARIANTS, "seeds": SEEDS, "machine": machine(), "runs": runs}
    write_json(options.out.with_suffix(".json"), facts)


if __name__ == "__main__":
    main()
