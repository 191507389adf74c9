"""Propose a manifest for a tree of DICOM files: whose they are, visit by visit, and which series is the breath in and which the breath out.

Patients are told apart by PatientID and its issuer, visits by StudyInstanceUID in order of their dates. Within a visit, descriptions that
say inspiration or expiration decide; where none says inspiration, a series that says nothing is taken for it. Among several, the rule of
`copdvae.read.dicom_choice` chooses. What that leaves open is not placed, and listed. Sites are numbered by the institution's name, which
is not written: nothing from a header is, but for scanner and kernel.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import Progress

from copdvae.errors import ConfigError, Problem, printable
from copdvae.files import write_csv
from copdvae.read.dicom_choice import BREATH_WORDS, Candidate, by_rule
from copdvae.read.dicom_index import Index, IndexedSeries, index_files
from copdvae.read.files import regular_files
from copdvae.read.options import ReadConfig
from copdvae.read.tables import tidy

COLUMNS = ("subject_id", "visit", "insp_path", "series", "exp_path", "exp_series", "site", "scanner", "kernel")
NOT_CHEST = (
    "HEAD",
    "BRAIN",
    "SKULL",
    "NECK",
    "ABDOMEN",
    "PELVIS",
    "LIVER",
    "SPINE",
    "KNEE",
    "ANKLE",
    "FOOT",
    "HIP",
    "EXTREMITY",
    "LEG",
    "ARM",
)
FEWEST_SLICES, SHORTEST_MM = 20, 100.0  # less is no chest
CROWDED = 5000  # files in one folder, all of which reading any series in it goes through
FORMULA_SIGNS = "=+-@"


@dataclass(frozen=True)
class IndexResult:
    manifest: pd.DataFrame  # as written; paths are relative to the folder
    unplaced: list[Problem]  # `where` is a folder relative to the one that was indexed
    left_out: Counter  # files that are no CT slices, by what they are
    notes: list[str]
    files: int


def index(folder: Path, out: Path, config: ReadConfig | None = None) -> IndexResult:
    """Walk `folder`, write the proposed manifest to `out`, and return it with what could not be placed. Never overwrites a manifest."""
    if out.exists():
        raise ConfigError(f"{out}: is there already; name another file, or remove it")
    files = regular_files(folder)
    result = propose(folder, index_files(shown(files)), len(files), config or ReadConfig())
    write_csv(out, result.manifest)
    return result


def shown(files: list[Path]) -> Iterator[Path]:
    """The files, with a bar on stderr."""
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("index", total=len(files))
        for n, path in enumerate(files):
            yield path
            if n % 256 == 0:
                progress.update(bar, completed=n)
        progress.update(bar, completed=len(files))


def propose(folder: Path, found: Index, files: int, config: ReadConfig) -> IndexResult:
    """A row for each visit that has an inspiratory scan."""
    unplaced = [problem(str(path.relative_to(folder)), f"{what}; copy it again", "damaged_file") for path, what in found.broken]
    subjects: dict[str, list[IndexedSeries]] = defaultdict(list)
    for each in found.series.values():
        if mistake := out_of_place(each):
            unplaced.append(problem(str(each.folder.relative_to(folder)), *mistake))
        else:
            subjects[each.patient or each.study or each.uid].append(each)

    rows: list[dict[str, str]] = []
    sites: dict[str, int] = {}
    for n, own in enumerate(subjects.values(), start=1):
        if len({each.person for each in own if all(each.person)}) > 1:
            detail = "one PatientID with several birth dates or sexes: perhaps of several people"
            unplaced += [problem(str(each.folder.relative_to(folder)), detail, "mixed_patients") for each in own]
            continue
        visits: dict[tuple[str, str], list[IndexedSeries]] = defaultdict(list)
        for each in own:
            visits[each.date, each.study].append(each)
        for visit, key in enumerate(sorted(visits, key=lambda key: key[0]), start=1):
            if row := propose_visit(visits[key], folder, config, unplaced):
                site = visits[key][0].institution
                row["site"] = str(sites.setdefault(site, len(sites) + 1)) if site else ""
                rows.append({"subject_id": f"S{n:04d}", "visit": str(visit), **row})
    whole = [{column: row.get(column, "") if column != "site" or len(sites) > 1 else "" for column in COLUMNS} for row in rows]
    manifest = pd.DataFrame(whole, columns=list(COLUMNS), dtype=object)
    return IndexResult(manifest, unplaced, found.left_out, notes_on(found.series.values(), rows), files)


def out_of_place(each: IndexedSeries) -> tuple[str, str] | None:
    """Why a series cannot be anybody's chest scan: detail and code."""
    candidate, path = each.candidate(), str(each.folder)
    if any(0xD800 <= ord(letter) <= 0xDFFF for letter in path):
        return "the folder's name is not UTF-8, so no manifest can hold it; rename it", "unwritable_path"
    if not each.uid:
        return "slices without a SeriesInstanceUID: nothing says which belong together; export them again", "missing_uid"
    if each.body_part in NOT_CHEST:
        return f"{candidate}: BodyPartExamined is another part of the body than the chest", "not_chest"
    if candidate.count < FEWEST_SLICES or candidate.coverage_mm < SHORTEST_MM:
        return f"{candidate}: fewer than {FEWEST_SLICES} slices or {SHORTEST_MM:g} mm, expected a whole chest", "not_chest"
    return None


def propose_visit(found: list[IndexedSeries], folder: Path, config: ReadConfig, unplaced: list[Problem]) -> dict[str, str]:
    """A visit's row but for its key and site; {} where it has no inspiratory scan. Adds to `unplaced` what stays open."""
    by_uid, candidates = {each.uid: each for each in found}, [each.candidate() for each in found]
    said = {breath: [each for each in candidates if each.protocol.breath == breath] for breath in ("insp", "exp", "")}
    chosen: dict[str, Candidate] = {}
    for breath, pool in (("insp", said["insp"] or said[""]), ("exp", said["exp"])):
        left = by_rule(pool, config.prefer_series)[0] if pool else []
        if len(left) == 1:
            chosen[breath] = left[0]
        for each in left if len(left) > 1 else []:
            where = str(by_uid[each.uid].folder.relative_to(folder))
            detail = f"{each}: one of {len(left)} series that could be the scan of {BREATH_WORDS[breath]}, and no rule prefers one"
            unplaced.append(problem(where, detail, "several_series"))
    if "insp" not in chosen:
        if not (said["insp"] or said[""]):
            for each in candidates:
                detail = f"{each}: its visit has no scan of inspiration"
                unplaced.append(problem(str(by_uid[each.uid].folder.relative_to(folder)), detail, "no_insp_scan"))
        return {}
    row: dict[str, str] = {}
    for breath, path, name in (("insp", "insp_path", "series"), ("exp", "exp_path", "exp_series")):
        if breath in chosen:
            row |= {path: cell(by_uid[chosen[breath].uid].folder.relative_to(folder)), name: chosen[breath].name}
    header = chosen["insp"].protocol.header
    scanner = " ".join(str(header[key]) for key in ("manufacturer", "model") if key in header)
    return row | {"scanner": plain_cell(scanner), "kernel": plain_cell(str(header.get("kernel", "")))}


def cell(path: Path) -> str:
    """A path that reads back as itself: nothing that a spreadsheet takes for a formula, or a table for a missing value."""
    text = path.as_posix()
    text = f"./{text}" if text.startswith(tuple(FORMULA_SIGNS)) or text != text.lstrip() or not tidy(text) else text
    return text if text == text.rstrip() else f"{text}/."


def plain_cell(text: str) -> str:
    return text.lstrip(FORMULA_SIGNS + " ")


def problem(where: str, detail: str, reason: str) -> Problem:
    return Problem(printable(where), "", reason, detail)


def notes_on(series: Iterable[IndexedSeries], rows: list[dict[str, str]]) -> list[str]:
    """What a person should know of the proposal."""
    by_name = {each.candidate().name: each for each in series}
    used = [by_name[row[name]] for row in rows for name in ("series", "exp_series") if row.get(name)]
    crowds: Counter[Path] = Counter()
    for each in by_name.values():
        crowds.update(each.folders)
    silent = sum(not by_name[row["series"]].protocol.breath for row in rows)
    nameless = sum(not each.patient for each in used)
    crowded = [place for place, count in crowds.items() if count > CROWDED]
    notes = {
        f"{silent} scans say neither inspiration nor expiration and are taken for inspiration": silent,
        f"{nameless} scans have no PatientID: each study is taken for a subject of its own": nameless,
        f"{len(crowded)} folders hold over {CROWDED} slices each: reading one series goes through them all; sort them first": len(crowded),
    }
    return [note for note, count in notes.items() if count]


def describe(result: IndexResult) -> str:
    """For people, on stderr: what is in the tree, and each thing that was not placed."""
    table = result.manifest
    pairs, subjects = sum(table["exp_path"] != ""), len(set(table["subject_id"]))
    lines = [f"{result.files} files: {len(table)} visits of {subjects} subjects, {pairs} of them with both scans"]
    lines += [f"left out: {count} files {kind}" for kind, count in sorted(result.left_out.items())]
    lines += [f"note: {note}" for note in result.notes]
    return "\n".join(lines + [f"not placed: {each.where}: {each.detail} [{each.reason}]" for each in result.unplaced])
