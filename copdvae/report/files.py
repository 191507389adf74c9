"""Read what a study left behind. A file that is missing or unreadable is told about on the page; it never stops the report."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from safetensors import SafetensorError, safe_open

from copdvae.config import read_yaml
from copdvae.errors import ConfigError, CopdvaeError
from copdvae.files import read_csv
from copdvae.report.words import BASELINES, KINDS

Frame = Any  # a pandas DataFrame: pandas types every selection as a union that no checker can follow
Column = Any  # a pandas Series

TEXT = {
    "subject_id", "visit", "method", "other", "seed", "target", "metric", "note", "split", "sex", "site", "scanner", "kernel", "race",
    "smoking_status", "stage", "reason", "detail", "expected", "channels", "warnings", "state", "flags", "why",
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One method trained with one seed."""

    folder: str
    facts: dict[str, Any]  # run.json
    config: dict[str, Any]
    log: Frame | None
    latents: Frame | None  # indexed by subject_id
    pictures: dict[str, np.ndarray]
    about_pictures: dict[str, str]  # which latent was walked along, which channels there are

    @property
    def method(self) -> str:
        return str(self.facts.get("label") or self.facts.get("method") or self.folder.split("-")[0])

    @property
    def seed(self) -> str:
        return str(self.facts.get("seed", ""))

    @property
    def readout(self) -> str:
        """How u is found: "u" by place, "all" latents, "ranked" by rank, "direct" where the outputs are predictions."""
        return str(self.facts.get("readout", "u"))

    @property
    def kind(self) -> str:
        """A key of `words.KINDS`."""
        if self.facts.get("leaks"):
            return "leaks"
        told = self.facts.get("told", "nothing") != "nothing"  # also where u is then found by rank, as in Ada-GVAE
        return "u" if self.readout == "all" or (self.readout == "ranked" and told) else self.readout


@dataclass(frozen=True)
class Study:
    """Everything that the page can show; None, or empty, where there is no such file. `missing` says why, by file."""

    scores: Frame | None
    differences: Frame | None
    predictions: Frame | None
    cohort: Frame | None  # indexed by subject_id
    rejected: Frame | None  # who takes no part
    evaluation: dict[str, Any]
    runs: list[Run]
    missing: dict[str, str] = field(default_factory=dict)
    quality: Frame | None = None  # qc.csv, a line a visit
    lacking: Frame | None = None  # lines of rejected.csv on those who lack a scan that some methods need

    def kind(self, method: str) -> str:
        """A key of `words.KINDS`."""
        if method in BASELINES:
            return "baseline"
        return next((run.kind for run in self.runs if run.method == method), "direct" if method == "supervised" else "u")

    def methods(self) -> list[str]:
        """All methods, learnt ones first, in the order of their kinds and then of the files."""
        scored = [] if self.scores is None else list(self.scores["method"])
        names = list(dict.fromkeys([*scored, *(run.method for run in self.runs)]))
        kinds = list(KINDS)
        return sorted(names, key=lambda name: (kinds.index(self.kind(name)), BASELINES.index(name) if name in BASELINES else 0))

    def by_method(self) -> dict[str, list[Run]]:
        """Runs of each method, by seed."""
        found = {method: [run for run in self.runs if run.method == method] for method in self.methods()}
        return {method: sorted(runs, key=lambda run: (len(run.seed), run.seed)) for method, runs in found.items() if runs}


def read_study(out: Path) -> Study:
    """Everything under `out`; raises `CopdvaeError` where there is nothing at all to report on."""
    if not any((out / name).exists() for name in ("scores.csv", "cohort.csv", "rejected.csv", "runs")):
        raise CopdvaeError(f"{out}: nothing to report on: no scores.csv, cohort.csv, rejected.csv or runs here; `copdvae run` makes them")
    missing: dict[str, str] = {}
    cohort = read_table(out, "cohort.csv", ("subject_id", "split"), missing)
    rejected = read_table(out, "rejected.csv", ("subject_id", "reason"), missing)
    lacking = None
    if rejected is not None and "stage" in rejected:
        takes_part = rejected["stage"] == "training"
        rejected, lacking = rejected[~takes_part], rejected[takes_part]
    score = ("method", "seed", "target", "metric", "value", "low", "high")
    study = Study(
        scores=read_table(out, "scores.csv", score, missing),
        differences=read_table(out, "differences.csv", ("method", "other", "target", "metric", "value", "low", "high"), missing),
        predictions=read_table(out, "predictions.csv", ("method", "seed", "subject_id", "target", "truth", "predicted"), missing),
        cohort=None if cohort is None else cohort.drop_duplicates("subject_id").set_index("subject_id"),
        rejected=rejected,
        evaluation=read_mapping(out, "evaluation.json", missing),
        runs=[read_run(out, folder.parent.name, missing) for folder in sorted(out.glob("runs/*/run.json"))],
        missing=missing,
        quality=read_table(out, "qc.csv", ("subject_id", "state", "flags"), missing),
        lacking=lacking,
    )
    if not study.runs:
        missing["runs"] = "there is no finished run in runs"
    return study


def read_run(out: Path, folder: str, missing: dict[str, str]) -> Run:
    base = f"runs/{folder}"
    latents, pictures, about = None, {}, {}
    if present(out, f"{base}/latents.parquet", missing):
        try:
            latents = pd.read_parquet(out / base / "latents.parquet")
            latents = latents.assign(subject_id=latents["subject_id"].astype(str)).set_index("subject_id")
        except (pa.ArrowInvalid, OSError, KeyError) as error:
            missing[f"{base}/latents.parquet"] = f"{base}/latents.parquet cannot be read ({type(error).__name__})"
            latents = None
    if present(out, f"{base}/pictures.safetensors", missing):
        try:
            with safe_open(out / base / "pictures.safetensors", framework="numpy") as file:
                pictures, about = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            missing[f"{base}/pictures.safetensors"] = f"{base}/pictures.safetensors cannot be read ({type(error).__name__})"
    return Run(
        folder=folder,
        facts=read_mapping(out, f"{base}/run.json", missing),
        config=read_mapping(out, f"{base}/config.yaml", missing),
        log=read_table(out, f"{base}/log.csv", ("step",), missing),
        latents=latents,
        pictures=pictures,
        about_pictures=about,
    )


def read_table(out: Path, name: str, columns: tuple[str, ...], missing: dict[str, str]) -> Frame | None:
    """A CSV whose columns are numbers where they are all numbers, and text (never NaN) otherwise."""
    if not present(out, name, missing):
        return None
    try:
        table = read_csv(out / name)
    except CopdvaeError:
        missing[name] = f"{name} cannot be read (nothing in it)"
        return None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        missing[name] = f"{name} cannot be read ({type(error).__name__})"
        return None
    if lacking := [column for column in columns if column not in table]:
        missing[name] = f"{name} lacks the columns {', '.join(lacking)}"
        return None
    for column in table.columns.difference(list(TEXT)):
        numbers: Column = pd.to_numeric(table[column], errors="coerce")
        if (numbers.notna() | table[column].str.lower().isin(["", "nan"])).all():
            table[column] = numbers
    return table


def read_mapping(out: Path, name: str, missing: dict[str, str]) -> dict[str, Any]:
    if not present(out, name, missing):
        return {}
    try:
        found = read_yaml(out / name) if name.endswith(".yaml") else json.loads((out / name).read_text(encoding="utf-8"))
    except (ConfigError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        missing[name] = f"{name} cannot be read ({type(error).__name__})"
        return {}
    if not isinstance(found, dict):
        missing[name] = f"{name} cannot be read (no mapping)"
        return {}
    return found


def present(out: Path, name: str, missing: dict[str, str]) -> bool:
    if (out / name).is_file():
        return True
    missing[name] = f"there is no {name}"
    return False
