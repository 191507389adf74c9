"""How near lungs and densities that are measured come to the phantom's own, which knows which voxels are lung.

    python tests/benchmarks/phantom_lungs.py [--subjects 720] [--seed 2] [--size 64] [--out docs/benchmarks/phantom_lungs.json]

By default the demo's subjects, both breaths. A voxel of the truth is lung where at least half of it is lung or vessels; airways are taken
out of it as they were found. Its densities are the definitions' on these voxels. Each figure is a scan's: measured less true.
"""

import argparse
import json
from collections.abc import Hashable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from machine import machine

from copdvae.phantom.study import Job, draw_people, make_scans
from copdvae.prepare.densitometry import densitometry
from copdvae.prepare.lungs import LungError, Lungs, find_lungs
from copdvae.prepare.masks import AIRWAYS, LEFT, RIGHT
from copdvae.read.volume import Volume

FIGURES = ("lung_volume_l", "laa950_pct", "laa856_pct", "perc15_hu", "mean_lung_hu")


def scored(job: Job) -> list[dict]:
    """A row for each breath."""
    _, scans = make_scans(job)
    return [{"subject": job.subject, "breath": breath} | scored_scan(*scan) for breath, scan in scans.items()]


def scored_scan(hu: np.ndarray, share: np.ndarray, _origin: np.ndarray, scanner) -> dict:
    spacing = tuple(scanner.spacing)
    volume = Volume(hu=hu, affine=np.diag([*spacing[::-1], 1.0]), spacing=spacing, reader="phantom")
    try:
        found = find_lungs(volume)
    except LungError as error:
        return {"refused": error.reason}
    true = (share >= 0.5) & (found.labels != AIRWAYS)
    ours = np.isin(found.labels, (LEFT, RIGHT))
    known: Lungs = replace(found, labels=np.where(true, np.where(found.labels == LEFT, LEFT, RIGHT), 0).astype(found.labels.dtype))
    measured, truth = densitometry(hu, found, spacing), densitometry(hu, known, spacing)
    row = {"dice": 2 * np.count_nonzero(ours & true) / (np.count_nonzero(ours) + np.count_nonzero(true))}
    row |= {name: measured[name] - truth[name] for name in FIGURES}
    return row | {"warnings": " ".join(found.warnings)}


def summary(table: pd.DataFrame) -> dict:
    """By breath: how the figures' errors are spread, and the worst scan of each."""
    found = {}
    for breath, rows in table.groupby("breath"):
        kept = rows[rows["dice"].notna()]
        left_out = kept["warnings"].str.contains("[gas_left_out]", regex=False)
        found[str(breath)] = {
            "scans": len(rows),
            "refused": rows["refused"].dropna().value_counts().to_dict() if "refused" in rows else {},
            "dice": spread(kept, "dice", kept["dice"].idxmin()),
            "dice_where_gas_was_left_out": spread(kept[left_out], "dice", None) | {"scans": int(left_out.sum())},
            "errors": {name: spread(kept, name, kept[name].abs().idxmax()) for name in FIGURES},
        }
    return found


def spread(rows: pd.DataFrame, name: str, worst: Hashable | None) -> dict:
    values = rows[name].astype(float)
    told = {"mean": values.mean(), "sd": values.std(), "least": values.min(), "most": values.max()}
    told = {key: round(float(value), 4) for key, value in told.items() if np.isfinite(value)}
    return told if worst is None else told | {"worst": str(rows["subject"][worst])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=720)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "docs" / "benchmarks" / "phantom_lungs.json")
    options = parser.parse_args()
    numbers = range(1, options.subjects + 1)
    people, diseases, _ = draw_people(options.seed, numbers, None)
    make = partial(Job, Path(), seed=options.seed, size=options.size, format="dicom", broken=False)
    jobs = [make(f"S{n:04d}", n, person=person, disease=ill) for n, person, ill in zip(numbers, people, diseases, strict=True)]
    with ProcessPoolExecutor(options.jobs) as processes:
        table = pd.DataFrame([row for rows in processes.map(scored, jobs, chunksize=4) for row in rows])
    result = {"subjects": options.subjects, "seed": options.seed, "size": options.size, "breaths": summary(table), "machine": machine()}
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["breaths"], indent=1))


if __name__ == "__main__":
    main()
