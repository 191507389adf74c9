"""From a manifest of CTs to a cache of small volumes: read, find the lungs, measure densities, cut to the grid; a subject at a time.

`cache/NAME.safetensors`, one for each visit of a subject (`cached`): the same scans make the same bytes, in any order, with any number of
workers, killed and restarted or not. `cache/index.csv` and `cache/rejected.csv` are written last. None of these files holds a path or
anything that names a person from a header.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from copdvae.errors import CopdvaeError, ReadError, coded
from copdvae.files import as_csv, leftovers, replacing, write_csv
from copdvae.prepare.acquisition import kernel_doubts
from copdvae.prepare.cached import identify, is_right, load_metadata, serialise
from copdvae.prepare.lungs import LungError
from copdvae.prepare.settings import IngestConfig
from copdvae.prepare.task import CHANNELS, Outcome, Rejection, Task, without_paths
from copdvae.prepare.workers import run_in_processes
from copdvae.read.manifest import REFUSED, Manifest, read_manifest


@dataclass(frozen=True)
class IngestResult:
    index: pd.DataFrame  # what index.csv holds
    rejected: pd.DataFrame  # what rejected.csv holds
    made: int  # subjects prepared now
    kept: int  # subjects whose cached file was still right


def ingest(manifest: Path, cache: Path, config: IngestConfig, workers: int = 1) -> IngestResult:
    """Prepare every scan that `manifest` lists and `cache` lacks; write `index.csv` and `rejected.csv`.

    A subject that cannot be prepared is rejected with a reason and the others go on. With one worker the work is done in this process;
    with more, each in its own, and a process that dies takes only its own subject with it.
    """
    study = read_manifest(manifest)
    if config.lungmask_weights is not None:
        from copdvae.prepare.network_mask import load_network

        weights = study.root / config.lungmask_weights
        config = config.model_copy(update={"lungmask_weights": weights})
        load_network(weights)  # a missing file is everyone's trouble, and told before any work
    open_cache(cache)
    tasks = [
        Task({str(key): str(value) for key, value in row.items()}, study.root, cache, config) for row in study.scans.to_dict("records")
    ]
    tasks.sort(key=lambda task: task.key)
    outcomes = []
    with progress_bar(len(tasks)) as advance:
        for outcome in run_here(tasks) if workers <= 1 else run_in_processes(tasks, workers, prepare_subject):
            outcomes.append(outcome)
            advance(outcome)

    index, rejected = make_index(tasks, outcomes), make_rejected(study, outcomes)
    for name, table in (("index", index), ("rejected", rejected)):
        write_changed(cache / f"{name}.csv", table)
    done = [outcome.state for outcome in outcomes]
    return IngestResult(index, rejected, done.count("made"), done.count("kept"))


def prepare_subject(task: Task) -> Outcome:
    """Make the task's cached file, unless it is there and right."""
    try:
        identity = identify(task)
        if is_right(task.file, identity):
            return Outcome(task.key, "kept")
        content = serialise(task, identity)
    except (ReadError, LungError, Rejection) as error:
        return Outcome(task.key, "rejected", error.reason, without_paths(str(error), task.paths))
    except OSError as error:  # no permission, or a network disk that went away
        return Outcome(task.key, "rejected", "unreadable", error.strerror or "the file system refuses to read it")
    except MemoryError:
        return Outcome(task.key, "rejected", "out_of_memory", "the scan does not fit into this machine's memory")
    try:
        with replacing(task.file) as temporary:
            temporary.write_bytes(content)
    except OSError as error:  # a full disk is no fault of the subject's
        raise CopdvaeError(f"{task.file.parent}: cannot write the cache: {error.strerror}") from None
    return Outcome(task.key, "made")


def run_here(tasks: list[Task]) -> Iterator[Outcome]:
    yield from map(prepare_subject, tasks)


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[Outcome], None]]:
    columns = (
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[rejected]} rejected"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar, rejected = progress.add_task("ingest", total=total, rejected=0), 0

        def advance(outcome: Outcome) -> None:
            nonlocal rejected
            rejected += outcome.state == "rejected"
            progress.update(bar, advance=1, rejected=rejected)

        yield advance


def open_cache(cache: Path) -> None:
    """Make the folder, and delete the temporary files of runs that were killed. A whole cache may lie where nothing can be written."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CopdvaeError(f"{cache}: cannot make this folder for the cache: {error.strerror}") from None
    for file in leftovers(cache):
        with suppress(OSError):
            file.unlink()


def write_changed(path: Path, table: pd.DataFrame) -> None:
    """`write_csv` where the file does not say the same already."""
    if not path.is_file() or path.read_bytes() != as_csv(table).encode("utf-8", "backslashreplace"):
        write_csv(path, table)


def make_index(tasks: list[Task], outcomes: list[Outcome]) -> pd.DataFrame:
    """One row a cached subject, from the files' metadata: the same whether they were made now or earlier."""
    good = {outcome.key for outcome in outcomes if outcome.state != "rejected"}
    owners: dict[str, list[int]] = {}  # rows by the digest of a scan's pixels: more than one have the same images
    rows, remarks = [], []
    for task in tasks:
        if task.key not in good:
            continue
        facts = load_metadata(task.file)
        channels = facts["channels"].split("+")
        for name in channels:
            owners.setdefault(facts[f"{name}_pixels"], []).append(len(rows))
        warnings = json.loads(facts["warnings"])
        for name in channels:
            if "kernel" not in json.loads(facts[f"{name}_header"]):  # the manifest's word counts where a scan's header has none
                warnings += [f"{name}: {doubt}" for doubt in kernel_doubts(task.row["kernel"])]
        remarks.append(warnings)
        densities = {name: json.loads(facts.get(f"{name}_densities", "{}")) for name in CHANNELS}
        header = json.loads(facts["insp_header"])
        row: dict[str, Any] = {
            "subject_id": task.row["subject_id"],
            "visit": task.row["visit"],
            "file": task.file.name,
            "channels": facts["channels"],
            "site": task.row["site"],
            "scanner": task.row["scanner"] or " ".join(str(header[key]) for key in ("manufacturer", "model") if key in header),
            "kernel": task.row["kernel"] or str(header.get("kernel", "")),
            "emphysema_pct": densities["insp"].get("laa950_pct"),
            "gas_trapping_pct": densities["exp"].get("laa856_pct"),
            "exp_over_insp_volume": json.loads(facts["exp_over_insp_volume"]),
        }
        for name in CHANNELS:  # an absent scan leaves its columns empty: every study has the same columns
            row |= {f"{name}_{key}": densities[name].get(key) for key in densities["insp"]}
            box = json.loads(facts.get(f"{name}_box", "{}"))
            row |= {f"{name}_box_{key}": box.get(key) for key in ("side_mm", "voxel_mm")}
            row[f"{name}_box_origin_mm"] = " ".join(map(str, box.get("origin_mm", [])))
            row[f"{name}_mask"] = facts.get(f"{name}_mask", "")
            made = json.loads(facts.get(f"{name}_header", "{}"))
            row |= {f"{name}_{key}": made.get(key) for key in ("kvp", "slice_thickness_mm")}
            row[f"{name}_contrast"] = made.get("contrast", "")
        row |= {"denoise": facts["denoise"], "reference_volume_l": float(facts["reference_volume_l"])}
        rows.append(row)
    for place in sorted({place for same in owners.values() if len(same) > 1 for place in same}):
        remarks[place].append(coded("another row of the manifest has the same images", "same_images"))
    rows = [row | {"warnings": "; ".join(warnings)} for row, warnings in zip(rows, remarks, strict=True)]
    return pd.DataFrame(rows, columns=None if rows else ["subject_id", "visit", "file", "channels", "site", "scanner", "kernel"])


def make_rejected(study: Manifest, outcomes: list[Outcome]) -> pd.DataFrame:
    """One row for each visit that was refused: its first reason, and all details."""
    lines = [(*outcome.key, outcome.reason, outcome.detail) for outcome in outcomes if outcome.state == "rejected"]
    table = pd.concat([study.refused, pd.DataFrame(lines, columns=list(REFUSED))], ignore_index=True)
    merged: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for subject, visit, reason, detail in table.itertuples(index=False):
        merged.setdefault((subject, visit), []).append((reason, detail))
    rows = [(*key, found[0][0], "; ".join(dict.fromkeys(detail for _, detail in found))) for key, found in sorted(merged.items())]
    return pd.DataFrame(rows, columns=list(REFUSED))
