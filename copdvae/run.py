"""A whole study, stage by stage, each skipped where its result is there already. What one stage hands on is a file that the next one reads.

root/manifest.csv, phenotypes.csv     the study's own, or written by `phantom`
root/cache/                           ingest
out/split.csv, rejected.csv           split; every subject that was left out, and why
out/runs/ID/                          train, encode, picture
out/scores.csv, differences.csv, predictions.csv, cohort.csv, evaluation.json    evaluate
out/report.html                       report
"""

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from copdvae import __version__, processes
from copdvae.dataset import load_subjects
from copdvae.encode import encode
from copdvae.errors import ConfigError, Problem
from copdvae.evaluate import (
    TARGETS,
    Predictions,
    Truth,
    baselines,
    difference_rows,
    mig_rows,
    prediction_rows,
    predictions_of_run,
    read_latents,
    score_rows,
)  # fmt: skip
from copdvae.files import digest_of, write_csv, write_json
from copdvae.metrics.ceilings import ceilings
from copdvae.phantom import phantom
from copdvae.pictures import draw_run
from copdvae.prepare.ingest import ingest
from copdvae.prepare.split import write_split
from copdvae.read.phenotypes import Phenotypes, read_phenotypes
from copdvae.report import report
from copdvae.study import MethodRun, Study, one_visit
from copdvae.train import Cohort, RunConfig, train_run

Show = Callable[[str], None]
DENSITIES = ("laa950_pct", "laa910_pct", "laa856_pct", "perc15_hu", "mean_lung_hu", "lung_volume_l")
PEOPLE = ("age", "sex", "height_cm", "weight_kg", "race", "pack_years", "fev1_l", "fvc_l", "fev1_fvc")


@dataclass(frozen=True)
class Tables:
    """A study's subjects as tables, indexed by subject_id: what was ingested, who they are, and which part each belongs to."""

    index: pd.DataFrame  # one visit a subject, and only subjects with a phenotype row
    phenotypes: pd.DataFrame
    targets: pd.DataFrame  # TARGETS; gold is missing for never-smokers, who are not on its scale
    split: pd.Series
    rejected: pd.DataFrame  # subject_id, reason, detail, expected ("yes" or "no")
    problems: list[Problem]
    notes: list[str]


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def run(study: Study, workers: int = 0, jobs: int = 1, show: Show = to_stderr) -> Tables:
    """Do whatever of a study is not done yet, from scans to report. `workers` prepare scans (0: one a core), `jobs` runs train at once."""
    prepare(study, workers, show)
    tables = load_tables(study)
    for note in tables.notes:
        show(note)
    with stopping() as stop:
        train(study, jobs, show, stop)
    evaluate(study)
    page = report(study.root / study.out)
    show(f"report: {page}")
    return tables


def prepare(study: Study, workers: int, show: Show) -> None:
    """Phantom (where the study is a synthetic one and not there yet), ingest, split."""
    manifest, workers = study.root / study.data.manifest, workers or os.cpu_count() or 1
    if study.phantom is not None and not manifest.is_file():
        settings = study.phantom
        show(f"phantom: {settings.subjects} subjects at {settings.size}^3, seed {settings.seed}")
        phantom(manifest.parent, settings.subjects, settings.size, settings.seed, settings.format, workers=workers)
    done = ingest(manifest, study.root / study.cache, study.ingest, workers)
    show(f"ingest: {done.made} prepared, {done.kept} kept from before, {len(done.rejected)} rejected")
    assign(study)


def phenotypes_of(study: Study) -> Phenotypes:
    return read_phenotypes(study.root / study.data.phenotypes, study.phenotypes)


def assign(study: Study) -> pd.DataFrame:
    """Write `split.csv` for the subjects that have both a scan and a phenotype row."""
    found = phenotypes_of(study)
    index = usable(study, found)
    people = index[["subject_id", "site"]].assign(gold=found.table["gold"].reindex(index["subject_id"]).to_numpy())
    return write_split(people, study.split, study.root / study.out / "split.csv")


def usable(study: Study, found: Phenotypes) -> pd.DataFrame:
    """Rows of index.csv, one visit a subject, whose subject has a sound phenotype row."""
    path = study.root / study.cache / "index.csv"
    if not path.is_file():
        raise ConfigError(f"{study.name}: nothing is ingested yet ({study.cache}/index.csv is missing); run `copdvae ingest` first")
    index = one_visit(pd.read_csv(path, dtype={"subject_id": str, "visit": str}), study.data.visit)
    return index.loc[index["subject_id"].isin(list(found.table.index))].reset_index(drop=True)


def load_tables(study: Study) -> Tables:
    """Everything about the study's subjects that is known after `prepare`."""
    found = phenotypes_of(study)
    index = usable(study, found).set_index("subject_id")
    assigned = pd.read_csv(study.root / study.out / "split.csv", dtype={"subject_id": str}).set_index("subject_id").loc[:, "split"]
    people = found.table.reindex(index.index)
    sources = {"emphysema_pct": study.data.emphysema_from, "gas_trapping_pct": study.data.gas_trapping_from}
    targets = pd.DataFrame(index=index.index)
    targets["fev1_pp"] = people["fev1_pp"]
    for target, source in sources.items():
        targets[target] = index[target] if source == "ct" else people[target]
    targets["gold"] = people["gold"].astype(float).where(lambda stage: stage >= -1)
    rejected = left_out(study, found)
    return Tables(index, people, targets.astype(float), assigned, rejected, found.problems, found.notes)


def left_out(study: Study, found: Phenotypes) -> pd.DataFrame:
    """Everyone who takes no part, with the reason; `expected` where the study says so itself (a phantom's planted faults)."""
    columns = ["subject_id", "stage", "reason", "detail"]
    scans = pd.read_csv(study.root / study.cache / "rejected.csv", dtype=str).fillna("")
    rows = scans.assign(stage="ingest").loc[:, columns].to_dict("records")
    for problem in found.problems:
        if problem.fatal:
            detail = {"stage": "phenotypes", "reason": problem.reason, "detail": f"{problem.where}: {problem.detail}"}
            rows.append({"subject_id": problem.subject_id, **detail})
    table = pd.DataFrame(rows, columns=columns)
    expected: set[tuple[str, str]] = set()
    if study.data.planted is not None:
        planted = pd.read_csv(study.root / study.data.planted, dtype=str).fillna("")
        expected = set(zip(planted["subject_id"], planted["reason"], strict=True))
    known = [pair in expected for pair in zip(table["subject_id"], table["reason"], strict=True)]
    return table.assign(expected=["yes" if k else "no" for k in known]).sort_values(["subject_id", "stage"], ignore_index=True)


def run_config(study: Study, chosen: MethodRun, seed: int, tables: Tables) -> RunConfig:
    """The complete configuration of one run, with a hash of all data that it may see."""
    told = cohort_labels(tables)
    data = digest_of(tables.index.to_csv(), tables.split.sort_index().to_csv(), told.sort_index().to_csv())
    own = {name: getattr(chosen, name) or getattr(study, name) for name in ("input", "network", "train")}
    common = {"similarity": study.similarity, "augment": study.augment, "method": chosen.method, **own}
    return RunConfig.parse(
        {"study": study.name, "data": data, "seed": seed, "grid": study.ingest.grid, "targets": TARGETS, **common}, study.name
    )


def cohort_labels(tables: Tables) -> pd.DataFrame:
    """Spirometry and targets of training and validation subjects: all that training may know. Test subjects have no row."""
    seen = tables.split.index[tables.split.isin(["train", "validation"]).to_numpy()].intersection(tables.index.index)
    return tables.phenotypes.loc[seen].drop(columns=list(TARGETS), errors="ignore").join(tables.targets.loc[seen])


def plan(study: Study, tables: Tables) -> list[RunConfig]:
    """The study's runs, seed by seed, so that every method has a first result early."""
    seeds = sorted({seed for chosen in study.methods for seed in (chosen.seeds or study.seeds)})
    return [run_config(study, chosen, seed, tables) for seed in seeds for chosen in study.methods if seed in (chosen.seeds or study.seeds)]


def train(study: Study, jobs: int, show: Show, stop: Callable[[], bool] = lambda: False) -> list[Path]:
    """Train and encode every run of the study that is not finished, `jobs` at a time. Returns the runs' folders."""
    runs = study.root / study.out / "runs"
    tables = load_tables(study)
    todo = [config for config in plan(study, tables) if not (runs / config.id / "latents.parquet").is_file()]
    if jobs <= 1 or len(todo) <= 1 or processes.started_together():
        with processes.together():
            for config in todo:
                train_one(study, config, show, stop)
            if processes.rank():
                return []
        return [runs / config.id for config in plan(study, tables)]

    threads = max(1, (os.cpu_count() or 1) // jobs)
    todo = [config.model_copy(update={"train": config.train.model_copy(update={"threads": threads})}) for config in todo]
    context = multiprocessing.get_context("spawn")
    asked = context.Event()
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=remember, initargs=(asked,)) as pool:
        waiting = {pool.submit(train_one_in_process, study, config) for config in todo}
        while waiting:
            done, waiting = wait(waiting, timeout=1, return_when=FIRST_COMPLETED)
            if stop():
                asked.set()
            for future in done:
                show(future.result())
    return [runs / config.id for config in plan(study, tables)]


def train_one(study: Study, config: RunConfig, show: Show, stop: Callable[[], bool]) -> Path:
    """One run: train or go on, encode every subject that was ingested, draw its pictures."""
    tables = load_tables(study)
    subjects, excluded = load_subjects(study.root / study.cache, tables.index.reset_index(), config.input)
    for subject in excluded:
        show(f"{config.method.name}: {subject} left out, a scan that the model needs is missing")
    cohort = Cohort(subjects, tables.split, cohort_labels(tables))
    folder = train_run(cohort, config, study.root / study.out / "runs", show, stop)
    if processes.rank():
        return folder  # the first process does the rest
    if not (folder / "pictures.safetensors").is_file():
        draw_run(subjects, folder, tables.split, tables.targets.loc[:, "fev1_pp"])
    if not (folder / "latents.parquet").is_file():
        encode(subjects, folder, tables.split)
    return folder


asked_to_stop: Any = None  # in a worker process: the event that its parent sets


def remember(asked: Any) -> None:
    global asked_to_stop
    asked_to_stop = asked
    for name in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(name, lambda *_: asked.set())


def train_one_in_process(study: Study, config: RunConfig) -> str:
    return f"{train_one(study, config, to_stderr, asked_to_stop.is_set).name} done"


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM and SIGUSR1 (what schedulers send) into a wish that the training loop asks about."""
    wishes: list[int] = []
    before = {name: signal.signal(name, lambda number, _: wishes.append(number)) for name in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield lambda: bool(wishes)
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def evaluate(study: Study) -> pd.DataFrame:
    """Score every finished run of the study and the baselines; write the tables; return the scores."""
    out, tables = study.root / study.out, load_tables(study)
    truth = truth_of(study, tables)
    tops = ceilings_of(study, tables)
    everything: Predictions = {}
    rows: list[dict[str, Any]] = []
    collapsed: list[str] = []
    leading: list[str] = []
    for config in plan(study, tables):
        folder = out / "runs" / config.id
        if not (folder / "latents.parquet").is_file():
            raise ConfigError(f"{config.id} is not trained yet; run `copdvae train` first")
        facts, latents = json.loads((folder / "run.json").read_text()), read_latents(folder)
        everything.setdefault(config.method.name, {})[config.seed] = predictions_of_run(latents, facts, truth, study.evaluate)
        rows += mig_rows(config.method.name, config.seed, latents, facts, truth, study.evaluate)
        collapsed += [f"{config.method.name}, seed {config.seed}: {facts['collapse']}"] if facts["collapse"] else []
        leading += [config.method.name] if facts["readout"] == "u" and config.method.name not in leading else []
    everything |= {name: {"": found} for name, found in baselines(truth, study.evaluate).items()}
    for method, found in everything.items():
        rows += score_rows(method, found, truth, tops, study.evaluate)

    columns = ["method", "seed", "target", "metric", "value", "low", "high", "ceiling", "n", "note"]
    scores = pd.DataFrame(rows).reindex(columns=columns)
    write_csv(out / "scores.csv", scores)
    write_csv(out / "differences.csv", pd.DataFrame(difference_rows(everything, leading, truth, study.evaluate)))
    write_csv(out / "predictions.csv", prediction_rows(everything, truth))
    write_csv(out / "rejected.csv", tables.rejected)
    write_csv(out / "cohort.csv", cohort_table(tables))
    write_json(out / "evaluation.json", facts_of(study, tables, truth, tops, collapsed))
    return scores


def truth_of(study: Study, tables: Tables) -> Truth:
    densities = [f"{scan}_{key}" for scan in ("insp", "exp") for key in DENSITIES if f"{scan}_{key}" in tables.index]
    itself = {"emphysema_pct": "insp_laa950_pct", "gas_trapping_pct": "exp_laa856_pct"}
    sources = {"emphysema_pct": study.data.emphysema_from, "gas_trapping_pct": study.data.gas_trapping_from}
    identity = {target: column for target, column in itself.items() if sources[target] == "ct"}
    people = tables.phenotypes.loc[:, ["age", "sex", "height_cm"]]
    return Truth(tables.targets, tables.split, people, tables.index.loc[:, densities].astype(float), identity)


def ceilings_of(study: Study, tables: Tables) -> dict[str, float]:
    """What the known truth of a synthetic study allows; empty for a real one."""
    if study.data.truth is None:
        return {}
    factors = pd.read_csv(study.root / study.data.truth, dtype={"subject_id": str}).set_index("subject_id")
    part = tables.split.reindex(tables.targets.index)
    chosen = {name: part.index[(part == name).to_numpy()] for name in ("train", study.evaluate.part)}
    return ceilings(factors, tables.targets, list(chosen["train"]), list(chosen[study.evaluate.part]))


def cohort_table(tables: Tables) -> pd.DataFrame:
    people = tables.phenotypes.reindex(columns=[*PEOPLE, "gold", "smoking_status"])
    scans = tables.index[["channels", "site", "scanner", "kernel", "exp_over_insp_volume", "warnings"]]
    densities = tables.index[[column for column in tables.index if column.endswith(("_lung_volume_l", "_mean_lung_hu", "_perc15_hu"))]]
    from_table = tables.phenotypes.reindex(columns=["emphysema_pct", "gas_trapping_pct"]).add_suffix("_table")
    joined = people.join(tables.targets.drop(columns="gold")).join(from_table).join(scans).join(densities)
    joined.insert(0, "split", tables.split.reindex(joined.index).fillna(""))
    return joined.reset_index()


def facts_of(study: Study, tables: Tables, truth: Truth, tops: dict[str, float], warnings: list[str]) -> dict[str, Any]:
    """What the report says about the evaluation beside its tables."""
    counts = {part: {target: len(truth.known(target, part)) for target in TARGETS} for part in ("train", "validation", "test")}
    from_table = tables.phenotypes.reindex(columns=["emphysema_pct", "gas_trapping_pct"]).astype(float)
    apart = (tables.index[["emphysema_pct", "gas_trapping_pct"]].astype(float) - from_table).dropna()
    expected = list(tables.rejected["expected"])
    return {
        "study": study.name,
        "version": __version__,
        "config": study.digest(),
        "settings": study.model_copy(update={"root": Path()}).plain(),
        "n": counts,
        "ceilings": tops,
        "warnings": warnings,
        "rejected": {"expected": expected.count("yes"), "unexpected": expected.count("no")},
        "sources": {"emphysema_pct": study.data.emphysema_from, "gas_trapping_pct": study.data.gas_trapping_from},
        "ct_minus_table": {
            name: {"n": len(apart), "mean": float(column.mean()), "largest": float(column.abs().max())}
            for name, column in apart.items()
            if len(apart)
        },
        "notes": tables.notes,
        "phenotype_warnings": [f"{problem.where}: {problem.detail}" for problem in tables.problems if not problem.fatal],
        "reference": study.phenotypes.reference,
    }


def result_table(scores: pd.DataFrame) -> str:
    """The first metric of each target by method, mean over seeds, as text: what `run` and `demo` end with."""
    first = {"fev1_pp": "r2", "emphysema_pct": "r2", "gas_trapping_pct": "r2", "gold": "kappa"}
    lines = [f"{'method':<18}" + "".join(f"{target + ' ' + metric:>30}" for target, metric in first.items())]
    for method in dict.fromkeys(scores["method"]):
        cells = []
        for target, metric in first.items():
            found = scores.loc[(scores["method"] == method) & (scores["target"] == target) & (scores["metric"] == metric)]
            means = found.loc[found["seed"].astype(str) == "mean"]
            text = "-"
            if len(found):
                one = (means if len(means) else found).iloc[0]
                text = "identity" if one["note"] == "identity" else f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
            cells.append(f"{text:>30}")
        lines.append(f"{method:<18}" + "".join(cells))
    tops = scores.dropna(subset=["ceiling"]).drop_duplicates("target").set_index("target")["ceiling"]
    if len(tops):
        lines.append(f"{'ceiling':<18}" + "".join(f"{tops[t]:>30.3f}" if t in tops else f"{'-':>30}" for t in first))
    return "\n".join(lines)
