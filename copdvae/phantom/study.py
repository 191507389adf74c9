"""A whole synthetic study: who is in it, in parallel what their CTs look like, and the tables."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track

import copdvae
from copdvae.errors import ConfigError, CopdvaeError
from copdvae.phantom import anatomy, disease, people, scan
from copdvae.phantom.people import Disease, Person
from copdvae.phantom.write import write_dicom, write_nifti
from copdvae.prepare.densitometry import densitometry
from copdvae.prepare.lungs import find_lungs
from copdvae.read.volume import Volume

SIZES = (24, 512)
EFFORT = (0.42, 0.64)  # expiratory over inspiratory volume
FORMATS = ("dicom", "nifti")
# Subjects that a study must refuse come on top of the good ones, with the reason that our readers give.
BROKEN_SCAN = {"dicom": "missing_slice", "nifti": "truncated"}
BAD_ROWS = ("fev1_above_fvc", "age_out_of_range", "height_out_of_range")
PLANTED = 1 + len(BAD_ROWS)
MISSING = 0.015  # share of good subjects without spirometry; as many without weight


@dataclass(frozen=True)
class Job:
    """All that a worker needs to make one subject's scans."""

    out: Path
    subject: str
    index: int
    seed: int
    size: int
    format: str
    person: Person
    disease: Disease
    broken: bool


def generator(seed: int, index: int, part: str) -> np.random.Generator:
    """A stream of its own for each subject and part: what one part draws never moves another."""
    parts = ("disease", "person", "spirometry", "thorax", "lesions", "scanner", "insp", "exp", "table")
    return np.random.Generator(np.random.PCG64([seed, index, parts.index(part)]))


def phantom(
    out: Path, subjects: int = 300, size: int = 64, seed: int = 0, format: str = "dicom", spirometry: Path | None = None, workers: int = 0
) -> Path:
    """Write a synthetic study of `subjects` good subjects, and a few that must be refused, into the folder `out`.

    `size` is the matrix (64: voxels of about 5 mm). `spirometry` names a table to draw the people from. `workers` of 0 is one a
    core; the bytes written do not depend on it. A study that is already there with the same settings is left alone.
    """
    settings = check_settings(out, subjects, size, seed, format, spirometry)
    if (out / "manifest.csv").exists():
        return out
    (out / "parts").mkdir(parents=True, exist_ok=True)
    write_text(out / "phantom.json", json.dumps(settings, indent=2) + "\n")

    rows = range(1, subjects + PLANTED + 1)
    names = [f"S{index:04d}" for index in rows]
    persons, diseases, tested = draw_people(seed, rows, spirometry)
    jobs = [
        Job(out, name, index, seed, size, format, person, illness, index == subjects + 1)
        for name, index, person, illness in zip(names, rows, persons, diseases, strict=True)
    ]
    results = list(progress(in_parallel(jobs, workers or len(os.sched_getaffinity(0))), len(jobs)))

    truth = pd.DataFrame([result["truth"] for result in results], index=pd.Index(names, name="subject_id"))
    measured = pd.DataFrame([result["measured"] for result in results], index=truth.index)
    phenotypes = phenotype_table(seed, names, persons, tested.set_index(truth.index), measured)
    planted = plant(phenotypes, names[subjects:], format)
    write_table(phenotypes, out / "phenotypes.csv")
    write_table(truth, out / "truth.csv")
    write_table(measured, out / "densitometry.csv")
    write_table(planted, out / "planted.csv")
    shutil.rmtree(out / "parts")
    write_table(manifest_table(truth, format), out / "manifest.csv")  # last: it says that the study is complete
    return out


def check_settings(out: Path, subjects: int, size: int, seed: int, format: str, spirometry: Path | None) -> dict[str, Any]:
    """What makes this study; refuse what cannot be made, or would be mixed with another study."""
    if subjects < 1 or not SIZES[0] <= size <= SIZES[1] or format not in FORMATS or seed < 0:
        raise ConfigError(
            f"phantom: {subjects} subjects, size {size}, seed {seed}, format {format!r}; expected at least 1 subject, a size of "
            f"{SIZES[0]} to {SIZES[1]}, a seed of at least 0 and {' or '.join(FORMATS)}"
        )
    settings = {
        "copdvae": copdvae.__version__,
        "subjects": subjects,
        "planted": PLANTED,
        "size": size,
        "seed": seed,
        "format": format,
        "people": "table" if spirometry else "drawn",
        "reference": people.REFERENCE,
    }
    known = out / "phantom.json"
    if known.exists():
        if json.loads(known.read_text()) != settings:
            raise CopdvaeError(f"{out}: holds a phantom study with other settings (phantom.json); choose an empty folder")
    elif out.exists() and any(out.iterdir()):
        raise CopdvaeError(f"{out}: not empty, and not a phantom study; choose an empty folder")
    elif (need := 2.2 * (subjects + 3) * (size**3 * 2 * 1.1 + size * 1500)) > (free := shutil.disk_usage(first_existing(out)).free):
        raise CopdvaeError(f"{out}: {subjects} subjects at {size} need about {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")
    return settings


def first_existing(path: Path) -> Path:
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def draw_people(seed: int, rows: Iterable[int], table: Path | None) -> tuple[list[Person], list[Disease], pd.DataFrame]:
    """People, their disease, and their spirometry (`people.spirometry`)."""
    if table is not None:
        return people.from_table(table, [generator(seed, index, "table") for index in rows])
    diseases = [people.draw_disease(generator(seed, index, "disease")) for index in rows]
    persons = [people.draw_person(generator(seed, index, "person"), illness) for index, illness in zip(rows, diseases, strict=True)]
    shares = [people.draw_shares(generator(seed, index, "spirometry"), illness) for index, illness in zip(rows, diseases, strict=True)]
    return persons, diseases, people.spirometry(persons, np.array(shares))


def in_parallel(jobs: list[Job], workers: int) -> Iterator[dict[str, Any]]:
    if workers == 1:
        yield from map(make_subject, jobs)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["copdvae.phantom.study"])
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            yield from pool.map(make_subject, jobs, chunksize=2)
        except BrokenProcessPool:
            raise CopdvaeError("phantom: a worker was killed, perhaps for memory; the same command with fewer --workers goes on") from None


def progress(results: Iterator[dict[str, Any]], total: int) -> Iterable[dict[str, Any]]:
    return track(results, "phantom", total=total, console=Console(stderr=True))


def make_subject(job: Job) -> dict[str, Any]:
    """Draw, scan, measure and write one subject; return its truth and what our densitometry says of its CTs.

    A subject that an interrupted run finished is not made again: `parts/` holds what it returned until the study is complete.
    """
    part = job.out / "parts" / f"{job.subject}.json"
    if part.exists():
        return json.loads(part.read_text(encoding="utf-8"))
    truth, scans = make_scans(job)
    measured = {}
    for breath, (hu, _, origin, scanner) in scans.items():
        affine = np.diag([*scanner.spacing[::-1], 1.0])
        affine[:3, 3] = origin
        volume = Volume(hu.astype(np.float32), scanner.spacing, affine)
        measured[breath] = densitometry(volume.hu, find_lungs(volume), scanner.spacing)
        folder = job.out / "ct" / job.subject
        if job.format == "nifti":
            path = folder / f"{breath}.nii.gz"
            write_nifti(path, hu, affine)
            if job.broken and breath == "insp":
                path.write_bytes(path.read_bytes()[:-2000])
        else:
            shutil.rmtree(folder / breath, ignore_errors=True)  # what an interrupted run left
            write_dicom(folder / breath, hu, origin, scanner, job.subject, breath, job.seed)
            if job.broken and breath == "insp":
                (folder / breath / f"{len(hu) // 2:04d}.dcm").unlink()
    figures = {f"{breath}_{name}": value for breath, found in measured.items() for name, value in found.items()}
    write_text(part, json.dumps({"truth": truth, "measured": figures}))
    return {"truth": truth, "measured": figures}


def make_scans(job: Job) -> tuple[dict[str, Any], dict[str, tuple]]:
    """The subject's truth, and by breath its HU, its lung (share of each voxel), the first voxel's place (x, y, z), its scanner."""
    rng = generator(job.seed, job.index, "thorax")
    thorax = anatomy.settle_diaphragm(anatomy.draw_thorax(rng, job.person))
    effort = float(rng.uniform(*EFFORT))
    emptied, breath = anatomy.exhale(thorax, effort, rng)
    trees = anatomy.draw_trees(thorax, rng)
    tissue = scan.draw_parenchyma(rng, job.person)
    lesions = disease.draw_lesions(generator(job.seed, job.index, "lesions"), thorax, job.disease)
    rng = generator(job.seed, job.index, "scanner")
    scanner = scan.draw_scanner(rng, job.size, thorax)
    pose = scan.draw_pose(rng)
    still = anatomy.Breath((1.0, 1.0, 1.0), breath.back)
    scans = {
        name: (*scan.take_scan(generator(job.seed, job.index, name), *chest, lesions, trees, tissue, scanner, where, job.size), scanner)
        for name, chest, where in (("insp", (thorax, still, 1.0), pose), ("exp", (emptied, breath, effort), scan.draw_pose(rng)))
    }
    truth = {
        **asdict(job.person),
        **asdict(job.disease),
        "effort": effort,
        **flat("lesion", disease.summary(lesions)),
        **flat("tissue", asdict(tissue)),
        **flat("scan", asdict(scanner)),
        **flat("pose", asdict(pose)),
        **flat("thorax", asdict(thorax)),
    }
    return truth, scans


def flat(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    """One column a number: `prefix_key`, and `prefix_key_0` and so on for a tuple."""
    out = {}
    for key, value in values.items():
        items = {f"{prefix}_{key}_{i}": item for i, item in enumerate(value)} if isinstance(value, tuple) else {f"{prefix}_{key}": value}
        out |= {name: round(float(item), 5) if isinstance(item, float) else item for name, item in items.items()}
    return out


def phenotype_table(seed: int, names: list[str], persons: list[Person], tested: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """COPDGene's columns and codes. A few values are missing, as in every study."""
    table = pd.DataFrame([asdict(person) for person in persons], index=tested.index)
    smoking = np.select([table["never_smoked"], table["smokes_now"]], [0, 2], default=1)  # never, former, current
    out = pd.DataFrame(
        {
            "visitnum": 1,
            "gender": np.where(table["sex"] == "M", 1, 2),
            "race": table["race"],
            "age_visit": table["age"],
            "Height_CM": table["height_cm"],
            "Weight_KG": table["weight_kg"],
            "BMI": (table["weight_kg"] / (table["height_cm"] / 100) ** 2).round(2),
            "ATS_PackYears": table["pack_years"],
            "SmokCigNow": table["smokes_now"].astype(int),
            "smoking_status": smoking,
            "FEV1_utah": tested["fev1_l"],
            "FVC_utah": tested["fvc_l"],
            "FEV1pp_utah": tested["fev1_pp"],
            "FVCpp_utah": tested["fvc_pp"],
            "FEV1_FVC_utah": tested["fev1_fvc"],
            "finalGold": tested["gold"].astype("Int64"),
            "pctEmph_Thirona": measured["insp_laa950_pct"].round(4),
            "pctGasTrap_Thirona": measured["exp_laa856_pct"].round(4),
            "Perc15_Insp_Thirona": measured["insp_perc15_hu"].round(1),
        }
    )
    out.index.name = "sid"
    for index, name in enumerate(names, start=1):
        lost = generator(seed, index, "table").random(2) < MISSING
        if lost[0]:
            out.loc[name, [column for column in out if column.endswith("_utah")] + ["finalGold"]] = pd.NA
        if lost[1]:
            out.loc[name, ["Weight_KG", "BMI"]] = pd.NA
    return out


def plant(phenotypes: pd.DataFrame, names: list[str], format: str) -> pd.DataFrame:
    """Make the bad rows, in place; the first subject's scan is broken by its worker. Columns subject_id, reason."""
    reasons = (BROKEN_SCAN[format], *BAD_ROWS)
    for name, reason in zip(names, reasons, strict=True):
        if reason == "fev1_above_fvc":
            phenotypes.loc[name, "FEV1_utah"] = round(float(phenotypes.loc[name, "FVC_utah"]) + 0.4, 3)
        elif reason == "age_out_of_range":
            phenotypes.loc[name, "age_visit"] = 212.0
        elif reason == "height_out_of_range":
            phenotypes.loc[name, "Height_CM"] = round(float(phenotypes.loc[name, "Height_CM"]) * 10, 1)
    return pd.DataFrame({"reason": reasons}, index=pd.Index(names, name="subject_id"))


def manifest_table(truth: pd.DataFrame, format: str) -> pd.DataFrame:
    ending = ".nii.gz" if format == "nifti" else ""
    return pd.DataFrame(
        {
            "visit": 1,
            "insp_path": [f"ct/{name}/insp{ending}" for name in truth.index],
            "exp_path": [f"ct/{name}/exp{ending}" for name in truth.index],
            "site": ["ABCD"[site] for site in truth["scan_site"]],
            "scanner": [" ".join(scan.SCANNERS[scanner]) for scanner in truth["scan_scanner"]],
            "kernel": [scan.KERNELS[kernel] for kernel in truth["scan_kernel"]],
        },
        index=truth.index,
    )


def write_table(table: pd.DataFrame, path: Path) -> None:
    write_text(path, table.to_csv(lineterminator="\n"))


def write_text(path: Path, text: str) -> None:
    part = path.with_name(f"part-{path.name}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
