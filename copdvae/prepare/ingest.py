"""From a manifest of CTs to a cache of small volumes: read, find the lungs, measure densities, cut to the grid; a subject at a time.

`cache/NAME.safetensors`, one for each visit of a subject: `image` int16 HU (C, D, H, W), `lung` uint8 (C, D, H, W) with 1 right
lung, 2 left lung, 3 airways, and in its metadata all that `index.csv` says and all that decides whether the file is still right:
version, settings and the hash of the scans' bytes, and a digest of the file itself (`seal`). The same scans make the same bytes, in any
order, with any number of workers, killed and restarted or not.
`cache/index.csv` and `cache/rejected.csv` are written last. None of these files holds a path or anything that names a person from a header.
"""

import hashlib
import json
import math
import multiprocessing
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import wait as wait_for_end
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from copdvae import __version__
from copdvae.errors import CopdvaeError, ReadError, coded, printable
from copdvae.files import as_csv, digest_of, in_order, leftovers, replacing, write_csv
from copdvae.prepare.acquisition import doubts, kernel_doubts, recorded
from copdvae.prepare.denoise import denoised, told
from copdvae.prepare.densitometry import densitometry
from copdvae.prepare.grid import GridScan, to_grid
from copdvae.prepare.lungs import LungError, Lungs, find_lungs, given_lungs
from copdvae.prepare.seal import broken, sealed
from copdvae.prepare.settings import USUAL, IngestConfig
from copdvae.read import read_ct, read_labels, source_hash
from copdvae.read.manifest import REFUSED, SERIES, Manifest, read_manifest
from copdvae.read.volume import Volume

CHANNELS = ("insp", "exp")
PLAUSIBLE_VOLUME_RATIO = (0.2, 0.98)  # expiratory over inspiratory lung volume: outside, the pair is kept with a warning
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")}


@dataclass(frozen=True)
class IngestResult:
    index: pd.DataFrame  # what index.csv holds
    rejected: pd.DataFrame  # what rejected.csv holds
    made: int  # subjects prepared now
    kept: int  # subjects whose cached file was still right


@dataclass(frozen=True)
class PreparedScan:
    """One CT on the grid, with what was measured before it was cut and resampled."""

    scan: GridScan
    densities: dict[str, float | None]  # keys of `densitometry`; None where there was nothing to measure
    mask: str  # who made the lung mask: "threshold", "lungmask" or "given"
    reader: str
    header: dict[str, str | float]
    pixels: str  # digest of the CT's voxels, whatever file they came from
    warnings: tuple[str, ...]
    patient: str = ""  # for comparison with the subject's other scan, never to be written
    study: str = ""


def prepare_scan(
    path: Path, mask_path: Path | None = None, series: str | None = None, config: IngestConfig = USUAL, breath: str = ""
) -> PreparedScan:
    """Read one CT (as `read_ct` does) and prepare it. Raises `ReadError` or `LungError`; the full volume is gone on return."""
    volume = read_ct(path, series, config, breath)
    lungs = lungs_of(volume, mask_path, config)
    quiet = denoised(volume.hu, lungs.labels, config.denoise)
    densities = densitometry(quiet, lungs, volume.spacing, config.reference_volume_l)
    header = recorded(volume.header)
    return PreparedScan(
        scan=to_grid(volume.hu, lungs.labels, volume.spacing, config.grid),
        densities={key: None if value is None or not math.isfinite(value) else float(value) for key, value in densities.items()},
        mask=lungs.maker,
        reader=volume.reader,
        header=header,
        pixels=pixel_digest(volume.hu),
        warnings=(*volume.warnings, *lungs.warnings, *doubts(header, volume.spacing, lungs.trachea_hu), *told(config.denoise)),
        patient=volume.patient,
        study=volume.study,
    )


def lungs_of(volume: Volume, mask_path: Path | None, config: IngestConfig) -> Lungs:
    """By the map at `mask_path` where there is one, else as the settings say."""
    if mask_path is not None:
        return given_lungs(read_labels(mask_path, like=volume), volume)
    if config.lungmask_weights is None:
        return find_lungs(volume)
    from copdvae.prepare.network_mask import lungmask_lungs  # torch: seconds that nothing else here needs

    return lungmask_lungs(volume, config.lungmask_weights)


def pixel_digest(hu: np.ndarray) -> str:
    """Equal for equal CTs: a digest of the shape and of every voxel up to a million, evenly spread, since all of them would take long."""
    flat = hu.reshape(-1)
    return digest_of(str(hu.shape), np.ascontiguousarray(flat[:: max(1, flat.size // 1_000_003)], np.float32).tobytes())


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
        for outcome in run_here(tasks) if workers <= 1 else run_in_processes(tasks, workers):
            outcomes.append(outcome)
            advance(outcome)

    index, rejected = make_index(tasks, outcomes), make_rejected(study, outcomes)
    for name, table in (("index", index), ("rejected", rejected)):
        write_changed(cache / f"{name}.csv", table)
    done = [outcome.state for outcome in outcomes]
    return IngestResult(index, rejected, done.count("made"), done.count("kept"))


@dataclass(frozen=True)
class Task:
    """One visit of one subject."""

    row: dict[str, str]  # of the manifest
    root: Path
    cache: Path
    config: IngestConfig

    @property
    def key(self) -> tuple[str, str]:
        return self.row["subject_id"], self.row["visit"]

    @property
    def file(self) -> Path:
        """Named by a hash: a subject's id may hold anything, and never becomes part of a path."""
        return self.cache / f"{hashlib.sha256(json.dumps(self.key).encode()).hexdigest()[:20]}.safetensors"

    @property
    def paths(self) -> dict[str, Path]:
        """Manifest column to absolute path, for those given."""
        columns = ("insp_path", "exp_path", "mask_path", "exp_mask_path")
        return {column: self.root / self.row[column] for column in columns if self.row[column]}

    def series(self, column: str) -> str | None:
        """The series named for a column's scan."""
        return self.row.get(SERIES.get(column, ""), "") or None


@dataclass(frozen=True)
class Outcome:
    key: tuple[str, str]
    state: str  # "made", "kept" or "rejected"
    reason: str = ""
    detail: str = ""


class Rejection(CopdvaeError):
    """Why one subject cannot be used, although each of its scans was read."""

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


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


def identify(task: Task) -> dict[str, str]:
    """What decides whether a cached file is still right: whose it is, from which bytes, by which settings and version."""
    return {
        "subject_id": task.row["subject_id"],
        "visit": task.row["visit"],
        "copdvae_version": __version__,
        "config": settings_digest(task.config),
        "source": json.dumps({column: source_hash(path) + (task.series(column) or "") for column, path in task.paths.items()}),
    }


def settings_digest(config: IngestConfig) -> str:
    """Of the settings, with a file of weights by what it holds, wherever it lies."""
    if config.lungmask_weights is None:
        return config.digest()
    return config.model_copy(update={"lungmask_weights": Path(content_digest(config.lungmask_weights))}).digest()


def content_digest(file: Path) -> str:
    """SHA-256 of a file, read again only if it has changed since."""
    if not file.is_file():
        raise CopdvaeError(f"{file}: no such file; expected the weights that masks were made with")
    return content_of(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def content_of(file: Path, changed: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_right(file: Path, identity: dict[str, str]) -> bool:
    if not file.is_file():
        return False
    try:
        metadata = load_metadata(file)
    except CopdvaeError:  # cut short: made again
        return False
    return all(metadata.get(key) == value for key, value in identity.items()) and not broken(file)


def serialise(task: Task, identity: dict[str, str]) -> bytes:
    """The bytes of a cached file; raises where a scan or the pair of them is no good."""
    scans = {"insp": prepare_named("insp", task, "insp_path", "mask_path")}
    warnings = [f"insp: {warning}" for warning in scans["insp"].warnings]
    ratio = None
    if "exp_path" in task.paths:
        scans["exp"] = prepare_named("exp", task, "exp_path", "exp_mask_path")
        warnings += [f"exp: {warning}" for warning in scans["exp"].warnings]
        ratio, doubts = check_pair(scans["insp"], scans["exp"], task.config.allow_other_study)
        warnings += doubts
    image = np.stack([scan.scan.image for scan in scans.values()])
    lung = np.stack([scan.scan.lung for scan in scans.values()])
    metadata = {
        **identity,
        "channels": "+".join(scans),
        "grid": str(task.config.grid),
        "hu_range": "-1024 3071",
        "denoise": task.config.denoise,
        "reference_volume_l": f"{task.config.reference_volume_l:g}",
        "exp_over_insp_volume": json.dumps(ratio),
        "warnings": json.dumps([without_paths(warning, task.paths) for warning in warnings]),
    }
    for name, scan in scans.items():
        metadata |= {
            f"{name}_box": json.dumps(scan.scan.box),
            f"{name}_densities": json.dumps(scan.densities, allow_nan=False),
            f"{name}_mask": scan.mask,
            f"{name}_reader": scan.reader,
            f"{name}_header": json.dumps(scan.header, sort_keys=True),
            f"{name}_pixels": scan.pixels,
        }
    return in_order(sealed(save({"image": image, "lung": lung}, metadata=metadata)))


def prepare_named(name: str, task: Task, scan_column: str, mask_column: str) -> PreparedScan:
    """`prepare_scan`, its errors saying which of the subject's scans they are about."""
    path, mask = task.paths[scan_column], task.paths.get(mask_column)
    try:
        return prepare_scan(path, mask, task.series(scan_column), task.config, name)
    except (ReadError, LungError) as error:
        raise Rejection(f"{name}: {str(error).removeprefix(f'{printable(str(path))}: ')}", error.reason) from None


def check_owners(patients: tuple[str, str], studies: tuple[str, str], allow_other_study: bool) -> tuple[str, str] | None:
    """Why two scans, by what their headers say, are not one subject's of one day: text and code; None where nothing speaks against it."""
    if all(patients) and patients[0] != patients[1]:
        return "the two scans are of different patients (PatientID); expected one subject's", "other_patient"
    if all(studies) and studies[0] != studies[1] and not allow_other_study:
        found = "the two scans are of different studies (StudyInstanceUID); expected a breath in and a breath out in one"
        return f"{found}; if they belong together, set allow_other_study", "other_study"
    return None


def check_pair(insp: PreparedScan, exp: PreparedScan, allow_other_study: bool = False) -> tuple[float | None, list[str]]:
    """Expiratory over inspiratory lung volume, and doubts; raises where the two cannot be one subject's breath in and out."""
    if insp.pixels == exp.pixels:
        raise Rejection("the inspiratory and the expiratory scan are the same images", "identical_scans")
    patients, studies = (insp.patient, exp.patient), (insp.study, exp.study)
    if found := check_owners(patients, studies, allow_other_study):
        raise Rejection(*found)
    apart = check_owners(patients, studies, allow_other_study=False)
    doubts = [coded("the two scans are of different studies: asked for", "other_study")] if apart else []
    big, small = insp.densities.get("lung_volume_l"), exp.densities.get("lung_volume_l")
    if not big or not small:
        return None, doubts
    if small >= big:
        found = f"the expiratory lungs hold {small:.2f} l, the inspiratory {big:.2f} l"
        raise Rejection(f"{found}; expected less on expiration: are the two scans swapped?", "exp_not_smaller")
    low, high = PLAUSIBLE_VOLUME_RATIO
    if not low <= small / big <= high:
        doubt = f"expiratory over inspiratory lung volume is {small / big:.2f}, usually {low} to {high}"
        doubts.append(coded(doubt, "volume_ratio"))
    return small / big, doubts


def without_paths(text: str, paths: dict[str, Path]) -> str:
    """`text` with the scans' paths, and the files inside them, replaced by the manifest's column: people's names hide in file names."""
    for column, path in paths.items():
        inside = sorted(path.rglob("*"), key=lambda inner: len(str(inner)), reverse=True) if path.is_dir() else []
        for inner in inside:  # whole, whatever signs its name holds; a deeper one before its folder
            if inner.name in text or printable(inner.name) in text:
                for form in {str(inner), str(path.resolve() / inner.relative_to(path))}:
                    text = text.replace(form, column).replace(printable(form), column)
        for form in {str(path), str(path.resolve())}:
            text = re.sub(re.escape(printable(form)) + r"(/[^:;,]*(?=[:;,]))?", column, text.replace(form, column))
        for name in sorted({path.name, *(printable(inner.name) for inner in inside)}, key=len, reverse=True):
            if len(name) > 2 and not name.isdigit() and name not in CHANNELS:  # "3" and "exp" are words of our own too
                text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", column if name == path.name else "a file", text)
    return text


def load_subject(file: Path) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """`image` int16 HU (C, D, H, W), `lung` uint8 (C, D, H, W) and the metadata, where "channels" says "insp+exp" or "insp"."""
    with opened(file) as cached:
        image, lung, metadata = cached.get_tensor("image"), cached.get_tensor("lung"), cached.metadata() or {}
    if (image.dtype, lung.dtype, image.ndim) != (np.int16, np.uint8, 4) or image.shape != lung.shape:
        raise CopdvaeError(f"{file}: arrays of {image.dtype} {image.shape} and {lung.dtype} {lung.shape}; delete it and ingest again")
    return image, lung, metadata


def load_metadata(file: Path) -> dict[str, str]:
    with opened(file) as cached:
        return cached.metadata() or {}


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="numpy") as cached:
            yield cached
    except (SafetensorError, OSError):
        raise CopdvaeError(f"{file}: not a whole cached subject; delete it and ingest again") from None


def run_here(tasks: list[Task]) -> Iterator[Outcome]:
    yield from map(prepare_subject, tasks)


def run_in_processes(tasks: list[Task], workers: int, work: Callable[[Task], Outcome] = prepare_subject) -> Iterator[Outcome]:
    """Outcomes as they come. Where a process dies, each subject then in work is tried again alone; one that dies alone too is rejected."""
    todo, suspects = list(reversed(tasks)), []
    while todo or suspects:
        alone = bool(suspects)
        waiting = [suspects.pop()] if alone else todo
        lost: list[Task] = []
        with environment(ONE_THREAD), pool(1 if alone else workers) as executor:
            running: dict[Future[Outcome], Task] = {}
            while (waiting and not lost) or running:
                while waiting and not lost and len(running) < 2 * workers:
                    task = waiting.pop()
                    try:
                        running[executor.submit(work, task)] = task
                    except BrokenProcessPool:
                        lost.append(task)
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    task = running.pop(future)
                    try:
                        yield future.result()
                    except BrokenProcessPool:
                        lost.append(task)
        if alone and lost:
            yield Outcome(lost[0].key, "rejected", "worker_died", "the process that prepared this subject was killed (out of memory?)")
        else:
            suspects += lost


def pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent)


def end_with_parent() -> None:
    """Let this worker end when the process that started it is killed: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait_for_end([parent.sentinel]), os._exit(1)), daemon=True).start()


@contextmanager
def environment(settings: dict[str, str]) -> Iterator[None]:
    """Variables that new processes see."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


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
