"""A whole study, stage by stage, each skipped where its result is there already. What one stage hands on is a file that the next one reads.

root/manifest.csv, phenotypes.csv     the study's own, or written by `phantom`
root/cache/                           ingest
out/split.csv, rejected.csv           split; every subject that was left out, and why
out/qc.html, qc.csv                   qc: everyone with slices, mask and flags
out/runs/ID/                          train, encode, picture
out/scores.csv, differences.csv, predictions.csv, cohort.csv, evaluation.json    evaluate
out/report.html                       report
"""

import json
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from copdvae import processes
from copdvae.dataset import load_subjects
from copdvae.encode import encode
from copdvae.errors import ConfigError
from copdvae.evaluate import (
    TARGETS,
    Predictions,
    baselines,
    difference_rows,
    label_baselines,
    label_rows,
    mig_rows,
    prediction_rows,
    predictions_of_run,
    read_latents,
    score_rows,
)  # fmt: skip
from copdvae.files import digest_of, sweep, write_csv, write_json
from copdvae.phantom import phantom
from copdvae.pictures import draw_run
from copdvae.prepare.ingest import ingest
from copdvae.prepare.split import write_split
from copdvae.report import qc as write_qc
from copdvae.report import report
from copdvae.report.quality import MOST_DRAWN
from copdvae.study import MethodRun, Study
from copdvae.tables import (
    Tables,
    ceilings_of,
    cohort_labels,
    cohort_table,
    facts_of,
    left_out,
    load_tables,
    phenotypes_of,
    truth_of,
    usable,
    with_lacking_scans,
)
from copdvae.train import Cohort, RunConfig, train_run

Show = Callable[[str], None]


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def run(study: Study, workers: int = 0, jobs: int = 1, show: Show = to_stderr) -> Tables:
    """Do whatever of a study is not done yet, from scans to report. `workers` prepare scans (0: one a core), `jobs` runs train at once."""
    prepare(study, workers, show)
    show(f"quality control: {qc(study, renew=False)}")
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
    manifest, workers = study.root / study.data.manifest, workers or processes.cores()
    if study.phantom is not None and not manifest.is_file():
        settings = study.phantom
        show(f"phantom: {settings.subjects} subjects at {settings.size}^3, seed {settings.seed}")
        phantom(manifest.parent, settings.subjects, settings.size, settings.seed, settings.format, workers=workers)
    done = ingest(manifest, study.root / study.cache, study.ingest, workers)
    show(f"ingest: {done.made} prepared, {done.kept} kept from before, {len(done.rejected)} rejected")
    assign(study)


def assign(study: Study) -> pd.DataFrame:
    """Write `split.csv` for the subjects that have both a scan and a phenotype row."""
    found = phenotypes_of(study)
    index = usable(study, found)
    sweep(study.root / study.out)
    people = index[["subject_id", "site"]].assign(gold=found.table["gold"].reindex(index["subject_id"]).to_numpy())
    return write_split(people, study.split, study.root / study.out / "split.csv")


def qc(study: Study, pictures: int = MOST_DRAWN, renew: bool = True) -> Path:
    """The page that shows every subject's slices, mask and flags. Without `renew`, one that still holds stays."""
    found = phenotypes_of(study)
    index, refused = usable(study, found), left_out(study, found)
    used = set(zip(index["subject_id"], index["visit"], strict=True))
    return write_qc(study.name, study.root / study.cache, study.root / study.out, refused, used, pictures, renew)


def run_config(study: Study, chosen: MethodRun, seed: int, tables: Tables) -> RunConfig:
    """The complete configuration of one run, with a hash of all data that it may see."""
    told = cohort_labels(tables)
    data = digest_of(tables.index.to_csv(), tables.split.sort_index().to_csv(), told.sort_index().to_csv())
    own = {name: getattr(chosen, name) or getattr(study, name) for name in ("input", "network", "train")}
    common = {"similarity": study.similarity, "augment": study.augment, "method": chosen.method, **own}
    return RunConfig.parse(
        {"study": study.name, "data": data, "seed": seed, "grid": study.ingest.grid, "targets": TARGETS, **common}, study.name
    )


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

    threads = max(1, processes.cores() // jobs)
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
    told = cohort_labels(tables, ("train", "validation", "test")) if config.method.leaks else None
    if not (folder / "pictures.safetensors").is_file():
        draw_run(subjects, folder, tables.split, tables.targets.loc[:, "fev1_pp"], told)
    if not (folder / "latents.parquet").is_file():
        encode(subjects, folder, tables.split, told)
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
    sweep(out)
    truth = truth_of(study, tables)
    tops = ceilings_of(study, tables)
    everything: Predictions = {}
    rows: list[dict[str, Any]] = []
    collapsed: list[str] = []
    leading: list[str] = []
    runs: dict[str, dict[int, tuple[pd.DataFrame, dict[str, Any]]]] = {}  # latents and run.json, by method and seed
    encoded: dict[str, set[str]] = {}  # subjects by method
    needs: dict[str, tuple[str, ...]] = {}  # channels by method
    leaking: set[str] = set()  # scored, marked, and compared with nothing
    for config in plan(study, tables):
        folder = out / "runs" / config.id
        if not (folder / "latents.parquet").is_file():
            raise ConfigError(f"{config.id} is not trained yet; run `copdvae train` first")
        facts, latents = json.loads((folder / "run.json").read_text()), read_latents(folder)
        runs.setdefault(config.method.name, {})[config.seed] = latents, facts
        encoded[config.method.name], needs[config.method.name] = set(latents.index), config.input.channels
        everything.setdefault(config.method.name, {})[config.seed] = predictions_of_run(latents, facts, truth, study.evaluate)
        rows += mig_rows(config.method.name, config.seed, latents, facts, truth, study.evaluate)
        collapsed += [f"{config.method.name}, seed {config.seed}: {facts['collapse']}"] if facts["collapse"] else []
        leaking |= {config.method.name} if config.method.leaks else set()
        told = facts["readout"] in ("u", "all") and not config.method.leaks
        leading += [config.method.name] if told and config.method.name not in leading else []
    tables = with_lacking_scans(tables, encoded, needs)
    everything |= {name: {"": found} for name, found in baselines(truth, study.evaluate).items()}
    for method, found in everything.items():
        rows += score_rows(method, found, truth, tops, study.evaluate)
    told_to_all = cohort_labels(tables, ("train", "validation", "test"))  # for scoring alone
    for method, by_seed in runs.items():
        rows += label_rows(method, by_seed, told_to_all, truth, study.evaluate)
    rows += label_baselines([facts for by_seed in runs.values() for _, facts in by_seed.values()], told_to_all, truth, study.evaluate)
    rows = [row | {"note": "leaks", "ceiling": None} if row["method"] in leaking else row for row in rows]
    compared = {method: found for method, found in everything.items() if method not in leaking}

    columns = ["method", "seed", "target", "metric", "value", "low", "high", "ceiling", "n", "note"]
    scores = pd.DataFrame(rows).reindex(columns=columns)
    write_csv(out / "scores.csv", scores)
    write_csv(out / "differences.csv", pd.DataFrame(difference_rows(compared, leading, truth, study.evaluate)))
    write_csv(out / "predictions.csv", prediction_rows(everything, truth))
    write_csv(out / "rejected.csv", tables.rejected)
    write_csv(out / "cohort.csv", cohort_table(tables))
    write_json(out / "evaluation.json", facts_of(study, tables, truth, tops, collapsed))
    return scores
