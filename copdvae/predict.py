"""New scans through a finished run: their latents, and 5-NN predictions from the run's own training subjects.

The table has `subject_id`, the posterior's means and standard deviations (columns as in `latents.parquet`), and `predicted_<target>` for
the targets of the run's study, as in its evaluation. Whether the new scans are like the training ones is for the user to judge: `nearest`
is the mean distance in u to the five neighbours, over the median such distance of training subjects; well above 1 means far from all.
`warnings` is what was doubted or resampled as the scans were read: codes as in index.csv.

New scans are prepared as the study's own were, by the `ingest` settings that its evaluation.json records; gaps and tilt are resampled only
where these say so or the call does.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from copdvae.dataset import load_subjects
from copdvae.encode import latent_names, posterior
from copdvae.errors import ConfigError, CopdvaeError
from copdvae.evaluate import TARGETS, EvaluateConfig, Truth, read_latents, u_columns
from copdvae.files import read_csv, write_csv
from copdvae.metrics.neighbours import GOLD_SIX, knn_classification, knn_regression
from copdvae.prepare.cached import content_digest
from copdvae.prepare.ingest import ingest
from copdvae.prepare.settings import IngestConfig
from copdvae.processes import cores
from copdvae.train import load_run

NEIGHBOURS = 5


def predict(
    run: Path,
    manifest: Path,
    out: Path,
    cache: Path,
    workers: int = 0,
    allow_gaps: bool = False,
    resample_tilt: bool = False,
    lungmask: Path | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ingest `manifest` into `cache`, encode with `run`, write `out`; return the table and who is not in it, with reasons.

    The latter are written beside `out`, as its name with _rejected in it.

    `run` is OUT/runs/ID of a study that was evaluated: OUT/cohort.csv has its training subjects' targets. Subjects that lack a scan
    which the model needs are an error that names them. `allow_gaps` and `resample_tilt` add to what the study allowed; `lungmask` is the
    file of weights that the study's masks were made with, if they were.
    """
    cohort = run.parent.parent / "cohort.csv"
    if not (run / "run.json").is_file() or not cohort.is_file():
        raise ConfigError(f"{run}: not a finished run of an evaluated study; expected run.json in it and cohort.csv two folders up")
    facts = json.loads((run / "run.json").read_text())
    if facts["readout"] == "direct":
        raise ConfigError(f"{run.name}: a yardstick, not a method: choose a run with a latent space")
    if facts.get("leaks"):
        raise ConfigError(f"{run.name}: {facts['leaks']}, and new scans have none: choose another run")
    config = ingest_config(cohort.parent, facts["grid"], allow_gaps, resample_tilt, lungmask)
    prepared = ingest(manifest, cache, config, workers or cores())
    if not len(prepared.index):
        raise ConfigError(f"{manifest}: none of its scans could be prepared; see {cache.name}/rejected.csv for the reasons")
    twice = prepared.index["subject_id"].astype(str).duplicated()
    if twice.any():
        first = prepared.index.loc[twice, "subject_id"].iloc[0]
        raise ConfigError(f"{manifest.name}: {first} has more than one visit; give each visit a subject_id of its own")
    config, net, objective = load_run(run, tuple(facts["shape"]))
    subjects, incomplete = load_subjects(cache, prepared.index, config.input)
    mean, std = posterior(subjects, config, net, objective)
    names = latent_names(config)
    table = pd.DataFrame(np.hstack([mean, std]), columns=[*names, *[f"{name}_std" for name in names]])
    table.insert(0, "subject_id", subjects.ids)

    people = read_csv(cohort, text=("subject_id", "split")).set_index("subject_id")
    targets = people[list(TARGETS)].assign(gold=people["gold"].where(people["gold"] >= -1))
    truth = Truth(targets, people.loc[:, "split"], people, people, {})
    known = read_latents(run)
    for target in truth.scored(EvaluateConfig(neighbours=NEIGHBOURS, part="train")):
        columns = u_columns(known, facts, truth, target)
        training = truth.known(target, "train").intersection(known.index)
        codes, wanted = known.loc[training, columns].to_numpy(), truth.targets.loc[training, target].to_numpy(float)
        asked = table[columns].to_numpy()
        if target == "gold":
            table["predicted_gold"] = knn_classification(codes, wanted, asked, NEIGHBOURS, GOLD_SIX)
            continue
        table[f"predicted_{target}"] = knn_regression(codes, wanted, asked, NEIGHBOURS)
        if target == TARGETS[0]:
            table["nearest"] = distance(codes, asked) / np.median(distance(codes, None))
    warnings = dict(zip(prepared.index["subject_id"], prepared.index["warnings"], strict=True))
    table["warnings"] = [warnings[subject] for subject in table["subject_id"]]
    write_csv(out, table)
    rejected = pd.concat([prepared.rejected, without_a_scan(prepared.index, incomplete, config.input.channels)], ignore_index=True)
    write_csv(out.with_name(f"{out.stem}_rejected.csv"), rejected)
    return table, rejected


def without_a_scan(index: pd.DataFrame, subjects: list[str], channels: tuple[str, ...]) -> pd.DataFrame:
    """Rows like those of rejected.csv of subjects that were prepared, but lack a scan that the model needs."""
    rows = index.set_index("subject_id").loc[subjects].reset_index()
    needs = " and ".join(channels)
    detail = [f"only {has.replace('+', ' and ')} was prepared; the model needs {needs}" for has in rows["channels"]]
    return rows[["subject_id", "visit"]].assign(reason="lacks_scan", detail=detail)


def ingest_config(out: Path, grid: int, allow_gaps: bool, resample_tilt: bool, lungmask: Path | None = None) -> IngestConfig:
    """How the study whose results are in `out` prepared its own scans, and what is allowed beside that.

    Where its weights lay is not on record, what they held is: `lungmask` must hold the same.
    """
    try:
        settings = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["settings"]["ingest"]
        own = IngestConfig.parse(settings, "evaluation.json")
    except (OSError, ValueError, KeyError, TypeError, RecursionError, CopdvaeError):
        raise ConfigError("evaluation.json: does not say how the study's scans were prepared; run `copdvae evaluate` again") from None
    allowed = {"allow_gaps": own.allow_gaps or allow_gaps, "resample_tilt": own.resample_tilt or resample_tilt}
    if (own.mask == "lungmask") != (lungmask is not None):
        found = "lungmask's: name its weights with --lungmask" if lungmask is None else f"made by {own.mask}: leave --lungmask out"
        raise ConfigError(f"the study's own masks are {found}")
    if lungmask is not None and content_digest(lungmask) != str(own.lungmask_weights):
        raise ConfigError(f"{lungmask}: other weights than the study's masks were made with; expected SHA-256 {own.lungmask_weights}")
    weights = {"lungmask_weights": lungmask and lungmask.resolve()}
    return own.model_copy(update={"grid": grid} | allowed | weights)


def distance(training: np.ndarray, codes: np.ndarray | None) -> np.ndarray:
    """Mean distance of each code (none given: each training code) to its nearest training codes, itself not counted: (n,)."""
    return NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(training) - 1)).fit(training).kneighbors(codes)[0].mean(axis=1)
