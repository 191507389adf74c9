"""A study's subjects as tables: who they are, what was ingested, what training may know of them, what is evaluated."""

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from copdvae import __version__
from copdvae.errors import ConfigError, Problem
from copdvae.evaluate import FIRST_METRIC, TARGETS, Truth
from copdvae.files import read_csv
from copdvae.metrics.ceilings import ceilings
from copdvae.prepare.cached import content_digest
from copdvae.read.phenotypes import Phenotypes, read_phenotypes
from copdvae.study import Study, one_visit

DENSITIES = ("laa950_pct", "laa910_pct", "laa856_pct", "perc15_hu", "mean_lung_hu", "lung_volume_l")
INDEX_TEXT = (
    "subject_id", "visit", "file", "channels", "site", "scanner", "kernel", "warnings", "insp_contrast", "exp_contrast", "denoise",
)  # fmt: skip
PEOPLE = ("age", "sex", "height_cm", "weight_kg", "race", "pack_years", "fev1_l", "fvc_l", "fev1_fvc")


@dataclass(frozen=True)
class Tables:
    """A study's subjects as tables, indexed by subject_id: what was ingested, who they are, and which part each belongs to."""

    index: pd.DataFrame  # one visit a subject, and only subjects with a phenotype row
    phenotypes: pd.DataFrame
    targets: pd.DataFrame  # TARGETS; gold is missing for never-smokers, who are not on its scale
    split: pd.Series
    rejected: pd.DataFrame  # subject_id, visit, stage, reason, detail, expected ("yes" or "no")
    problems: list[Problem]
    notes: list[str]


def phenotypes_of(study: Study) -> Phenotypes:
    return read_phenotypes(study.root / study.data.phenotypes, study.phenotypes)


def ingested(study: Study, name: str, text: tuple[str, ...] | None = None) -> pd.DataFrame:
    """A table that ingest left in the cache."""
    path = study.root / study.cache / name
    if not path.is_file():
        raise ConfigError(f"{study.name}: nothing is ingested yet ({study.cache}/{name} is missing); run `copdvae ingest` first")
    return read_csv(path, text=text)


def usable(study: Study, found: Phenotypes) -> pd.DataFrame:
    """Rows of index.csv, one visit a subject, whose subject has a sound phenotype row."""
    index = one_visit(ingested(study, "index.csv", INDEX_TEXT), study.data.visit)
    return index.loc[index["subject_id"].isin(list(found.table.index))].reset_index(drop=True)


def load_tables(study: Study) -> Tables:
    """Everything about the study's subjects that is known after `prepare`."""
    found = phenotypes_of(study)
    index = usable(study, found).set_index("subject_id")
    assigned = read_csv(study.root / study.out / "split.csv").set_index("subject_id").loc[:, "split"]
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
    columns = ["subject_id", "visit", "stage", "reason", "detail"]
    scans = ingested(study, "rejected.csv")
    rows = scans.assign(stage="ingest").loc[:, columns].to_dict("records")
    for problem in found.problems:
        if problem.fatal:
            detail = {"stage": "phenotypes", "reason": problem.reason, "detail": without_file(study, problem)}
            rows.append({"subject_id": problem.subject_id, "visit": "", **detail})
    known = set(found.table.index) | {problem.subject_id for problem in found.problems if problem.fatal}
    for subject in sorted(set(ingested(study, "index.csv", INDEX_TEXT)["subject_id"]) - known):
        detail = {"stage": "phenotypes", "reason": "no_phenotypes", "detail": "a scan, and no row of phenotypes: a lost leading zero?"}
        rows.append({"subject_id": subject, "visit": "", **detail})
    table = pd.DataFrame(rows, columns=columns)
    expected = planted(study)
    answers = ["yes" if pair in expected else "no" for pair in zip(table["subject_id"], table["reason"], strict=True)]
    return table.assign(expected=answers).sort_values(["subject_id", "stage"], ignore_index=True)


def with_lacking_scans(tables: Tables, encoded: dict[str, set[str]], needs: dict[str, tuple[str, ...]]) -> Tables:
    """The same, those added to `rejected` whom a method has no codes of: they lack a scan, and `input: incomplete` leaves them out."""
    rows = []
    for subject, visit, has in tables.index.reset_index()[["subject_id", "visit", "channels"]].astype(str).itertuples(index=False):
        if methods := [f"{name} needs {' and '.join(needs[name])}" for name, subjects in encoded.items() if subject not in subjects]:
            detail = f"only {has.replace('+', ' and ')} was prepared; {'; '.join(methods)}"
            rows.append((subject, visit, "training", "lacks_scan", detail, "yes"))  # the study asks for it
    added = pd.DataFrame(rows, columns=list(tables.rejected.columns))
    return replace(tables, rejected=pd.concat([tables.rejected, added], ignore_index=True))


def planted(study: Study) -> set[tuple[str, str]]:
    """Subject and reason of every rejection that the study expects."""
    if study.data.planted is None:
        return set()
    path = study.root / study.data.planted
    if not path.is_file():
        raise ConfigError(f"{study.data.planted}: no such file; expected the rejections that the study plants: correct `data: planted`")
    table = read_csv(path)
    if lacking := [name for name in ("subject_id", "reason") if name not in table]:
        raise ConfigError(f"{study.data.planted}: no column {', '.join(lacking)}; expected subject_id and reason")
    return set(zip(table["subject_id"], table["reason"], strict=True))


def without_file(study: Study, problem: Problem) -> str:
    """A problem of the phenotype table as it may be written: neither the table's name nor what a cell says."""
    return f"{problem.where.removeprefix(study.data.phenotypes.name).strip()}: {problem.for_a_file()}"


def cohort_labels(tables: Tables, parts: tuple[str, ...] = ("train", "validation")) -> pd.DataFrame:
    """Spirometry and targets of training and validation subjects: all that training may know. Test subjects have no row."""
    seen = tables.split.index[tables.split.isin(parts).to_numpy()].intersection(tables.index.index)
    return tables.phenotypes.loc[seen].drop(columns=list(TARGETS), errors="ignore").join(tables.targets.loc[seen])


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
        "settings": without_paths(study),
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
        "notes": [*tables.notes, *unscored(study, truth)],
        "phenotype_warnings": [without_file(study, problem) for problem in tables.problems if not problem.fatal],
        "reference": study.phenotypes.reference,
    }


def unscored(study: Study, truth: Truth) -> list[str]:
    """Which targets are not scored, and why."""
    lacking = [target for target in TARGETS if target not in truth.scored(study.evaluate)]
    known = {target: (len(truth.known(target, "train")), len(truth.known(target, study.evaluate.part))) for target in lacking}
    part = study.evaluate.part
    return [
        f"{target} is known of {train} training and {other} {part} subjects: it is not scored" for target, (train, other) in known.items()
    ]


def without_paths(study: Study) -> dict[str, Any]:
    """A study's settings without where its files lie, since a folder may be named after a person; weights are named by what they hold."""
    settings = study.plain()
    data = {key: value for key, value in settings["data"].items() if key not in ("manifest", "phenotypes", "truth", "planted")}
    ingest = settings["ingest"]
    if study.ingest.lungmask_weights is not None:
        manifest = (study.root / study.data.manifest).resolve()
        ingest = ingest | {"lungmask_weights": content_digest(manifest.parent / study.ingest.lungmask_weights)}
    return {key: value for key, value in settings.items() if key not in ("root", "out", "cache")} | {"data": data, "ingest": ingest}


def result_table(scores: pd.DataFrame) -> str:
    """The first metric of each target by method, mean over seeds, as text: what `run` and `demo` end with."""
    lines = [f"{'method':<18}" + "".join(f"{target + ' ' + metric:>30}" for target, metric in FIRST_METRIC.items())]
    for method in dict.fromkeys(scores["method"]):
        cells = []
        for target, metric in FIRST_METRIC.items():
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
        lines.append(f"{'ceiling':<18}" + "".join(f"{tops[t]:>30.3f}" if t in tops else f"{'-':>30}" for t in FIRST_METRIC))
    return "\n".join(lines)
