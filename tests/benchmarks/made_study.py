"""Studies of many subjects, made from a few phantom ones: what the scale and QC measurements run on."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save

from copdvae.errors import coded
from copdvae.files import digest_of, in_order, write_csv
from copdvae.phantom import phantom
from copdvae.prepare.cached import identify, load_subject
from copdvae.prepare.ingest import ingest
from copdvae.prepare.seal import sealed
from copdvae.prepare.settings import IngestConfig
from copdvae.prepare.task import Task
from copdvae.read.manifest import COLUMNS

SLICES = 3  # of a linked scan: the fewest that have even steps
WARNED = 0.1  # share of subjects with a warning of the jitter's own


def few_subjects(folder: Path, count: int, grid: int, seed: int) -> list[tuple[np.ndarray, np.ndarray, dict[str, str]]]:
    """Arrays and metadata of `count` phantom subjects, ingested at `grid`; the planted faults are rejected."""
    phantom(folder, count, 64, seed, "dicom", workers=2)
    index = ingest(folder / "manifest.csv", folder / "cache", IngestConfig(grid=grid), workers=2).index
    return [load_subject(folder / "cache" / name) for name in index["file"]]


def jittered(image: np.ndarray, lung: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The same chest a few voxels away, a little denser, noisier: no two pictures are the same bytes."""
    steps = tuple(int(step) for step in rng.integers(-3, 4, 3))
    moved = np.roll(image, steps, axis=(1, 2, 3)).astype(np.float32)
    moved += rng.normal(0, 15) + rng.normal(0, 25, image.shape)
    return moved.round().clip(-1024, 3071).astype(np.int16), np.roll(lung, steps, axis=(1, 2, 3))


def write_cached(task: Task, image: np.ndarray, lung: np.ndarray, metadata: dict[str, str]) -> None:
    """The cached file of `task` as ingest would have written it, with its own pixels' digest."""
    pixels = {f"{name}_pixels": digest_of(f"{task.key} {name}") for name in metadata["channels"].split("+")}
    content = save({"image": image, "lung": lung}, metadata=metadata | pixels)
    task.file.parent.mkdir(parents=True, exist_ok=True)
    task.file.write_bytes(in_order(sealed(content)))


def linked_manifest(folder: Path, scans: Path, subjects: int) -> Path:
    """`subjects` rows, each with two DICOM folders of its own whose `SLICES` files are hard links of those of `scans`/insp and /exp."""
    rows = []
    for number in range(subjects):
        row = {"subject_id": name_of(number), "visit": "1", "site": "ABCD"[number % 4], "kernel": ("B31f", "STANDARD")[number % 2]}
        for breath in ("insp", "exp"):
            place = folder / "ct" / row["subject_id"] / breath
            place.mkdir(parents=True)
            for file in sorted((scans / breath).iterdir())[:SLICES]:
                os.link(file, place / file.name)
            row[f"{breath}_path"] = str(place.relative_to(folder))
        rows.append(row)
    write_csv(folder / "manifest.csv", pd.DataFrame(rows).reindex(columns=list(COLUMNS), fill_value="").fillna(""))
    return folder / "manifest.csv"


def name_of(number: int) -> str:
    return f"P{number:05d}"


def many_phenotypes(table: pd.DataFrame, subjects: int, rng: np.random.Generator) -> pd.DataFrame:
    """`subjects` rows drawn from those of a phantom's phenotype table."""
    drawn = table.iloc[rng.integers(0, len(table), subjects)].copy()
    drawn["sid"] = [name_of(number) for number in range(subjects)]
    return drawn


def cached_many(
    base: list[tuple[np.ndarray, np.ndarray, dict[str, str]]], root: Path, rows: list[dict[str, str]], config: IngestConfig, seed: int
) -> None:
    """A cached file for each manifest row, as if ingest had made it: `base` in turn, jittered."""
    identity: dict[str, str] = {}
    for number, row in enumerate(rows):
        task = Task(row, root, root / "cache", config)
        identity = identity or identify(task)  # all rows have the same bytes
        image, lung, metadata = base[number % len(base)]
        rng = np.random.default_rng([seed, number])
        own = identity | {"subject_id": row["subject_id"], "visit": row["visit"]}
        if rng.random() < WARNED:
            own["warnings"] = json.dumps([f"insp: {coded('the lungs reach the highest slice: a little may be missing', 'lung_at_edge')}"])
        write_cached(task, *jittered(image, lung, rng), metadata | own)
