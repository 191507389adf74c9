"""Every problem of a study in one list, before any work is done: manifest, the headers of every scan, phenotypes. Writes nothing."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from copdvae.errors import CopdvaeError, Problem, ReadError, printable, reason_of
from copdvae.prepare.acquisition import doubts
from copdvae.prepare.scans import check_owners
from copdvae.prepare.settings import IngestConfig
from copdvae.prepare.workers import pool
from copdvae.read import check_ct
from copdvae.read.manifest import SCANS, SERIES, Manifest, read_manifest
from copdvae.read.phenotypes import PhenotypesConfig, read_phenotypes

CHUNK = 100  # rows: what a process takes at a time
THREADS = 4  # in each: headers wait for a network disk more than for the processor
EXAMPLES = 3  # of one kind of problem in the list for people; the others are counted


def validate(
    manifest_path: Path,
    phenotypes_path: Path | None = None,
    config: PhenotypesConfig | None = None,
    ingest_config: IngestConfig | None = None,
    workers: int = 1,
) -> list[Problem]:
    """All problems, worst first: fatal ones cost a subject, the others are warnings. A table that cannot be read at all is one problem.

    With more than one worker the headers of a long manifest are read in as many processes.
    """
    problems: list[Problem] = []
    scanned: set[str] | None = None
    try:
        study = read_manifest(manifest_path)
    except ReadError as error:
        problems.append(Problem(manifest_path.name, "", error.reason, str(error)))
    else:
        problems += study.problems
        problems += check_scans(study, manifest_path.name, ingest_config or IngestConfig(), workers)
        scanned = {*study.scans["subject_id"], *study.refused["subject_id"]} - {""}

    if phenotypes_path is not None:
        try:
            phenotypes = read_phenotypes(phenotypes_path, config or PhenotypesConfig())
        except ReadError as error:
            problems.append(Problem(phenotypes_path.name, "", error.reason, str(error)))
        else:
            problems += phenotypes.problems
            described = {*map(str, phenotypes.table.index), *(problem.subject_id for problem in phenotypes.problems)} - {""}
            if scanned is not None:
                problems += one_sided(scanned, described, manifest_path.name, phenotypes_path.name)
    return sorted(problems, key=lambda problem: not problem.fatal)


def check_scans(study: Manifest, name: str, config: IngestConfig, workers: int = 1) -> list[Problem]:
    """What the headers of each scan in a sound row show, in the rows' order, and after each pair what they show together."""
    rows = [(int(str(row)), {str(key): str(value) for key, value in line.items()}) for row, line in study.scans.to_dict("index").items()]
    chunks = [rows[first : first + CHUNK] for first in range(0, len(rows), CHUNK)]
    check = partial(check_rows, study.root, name, config)
    if workers <= 1 or len(chunks) <= 1:
        return [problem for chunk in chunks for problem in check(chunk)]
    try:
        with pool(min(workers, len(chunks))) as processes:
            return [problem for found in processes.map(check, chunks) for problem in found]
    except BrokenProcessPool:
        raise CopdvaeError("validate: a worker was killed, perhaps for memory; the same command with --workers 1 goes on") from None


def check_rows(root: Path, name: str, config: IngestConfig, rows: list[tuple[int, dict[str, str]]]) -> list[Problem]:
    """The same of some rows. Both scans of a row are read in one process: only there can their owners be compared."""
    uses = [(row, column, line) for row, line in rows for column in SCANS if line[column]]

    def check(use: tuple[int, str, dict[str, str]]) -> tuple[list[Problem], dict]:
        row, column, line = use
        where, path = f"{name} row {row}, {column} {line[column]!r}", root / line[column]
        try:
            found = check_ct(path, line[SERIES[column]] or None, config, column.removesuffix("_path"))
        except ReadError as error:
            return [Problem(where, line["subject_id"], error.reason, str(error).removeprefix(f"{printable(str(path))}: "))], {}
        except OSError as error:
            return [Problem(where, line["subject_id"], "unreadable", error.strerror or "the file system refuses to read it")], {}
        told = (*found["warnings"], *doubts(found["header"], found["spacing_mm"]))
        return [Problem(where, line["subject_id"], reason_of(said), said, fatal=False) for said in told], found

    with ThreadPoolExecutor(THREADS) as threads:
        checked = {(row, column): (line, *found) for (row, column, line), found in zip(uses, threads.map(check, uses), strict=True)}
    problems: list[Problem] = []
    for (row, column), (line, found, exp) in checked.items():
        problems += found
        insp = checked[row, "insp_path"][2] if line["insp_path"] else {}
        if column == "exp_path" and (mistake := pair_mistake(line, insp, exp, config)):
            detail, reason = mistake
            problems.append(Problem(f"{name} row {row}, exp_path {line[column]!r}", line["subject_id"], reason, detail))
    return problems


def pair_mistake(line: dict[str, str], insp: dict, exp: dict, config: IngestConfig) -> tuple[str, str] | None:
    """What the headers of a row's two scans show together."""
    if line["insp_path"] == line["exp_path"] and insp.get("series") and insp["series"] == exp.get("series"):
        return "the folder holds one series that both scans would be read from; name each in series and exp_series", "identical_scans"
    patients, studies = ((insp.get(key, ""), exp.get(key, "")) for key in ("patient", "study"))
    return check_owners(patients, studies, config.allow_other_study)


def one_sided(scanned: set[str], described: set[str], manifest: str, phenotypes: str) -> list[Problem]:
    """Subjects in one table and not in the other: a lost leading zero shows up here."""
    no_row = f"in {manifest} but not in {phenotypes}: it has a scan and no measures"
    no_scan = f"in {phenotypes} but not in {manifest}: it has measures and no scan"
    return [
        *(Problem(phenotypes, subject, "no_phenotypes", no_row, fatal=False) for subject in sorted(scanned - described)),
        *(Problem(manifest, subject, "no_scan", no_scan, fatal=False) for subject in sorted(described - scanned)),
    ]


def format_problems(problems: Iterable[Problem], examples: int | None = EXAMPLES) -> str:
    """A list for people: a heading with a count for each reason, and `examples` of it (None: all)."""
    groups: dict[tuple[bool, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((not problem.fatal, problem.reason), []).append(problem)
    lines = []
    for (warning, reason), found in sorted(groups.items(), key=lambda group: (group[0][0], -len(group[1]), group[0][1])):
        lines.append(f"{'warning' if warning else 'error'}: {reason} ({len(found)})")
        shown = found if examples is None else found[:examples]
        lines += [printable(f"  {p.where}{f', subject {p.subject_id}' * bool(p.subject_id)}: {p.detail}") for p in shown]
        if len(found) > len(shown):
            lines.append(f"  ... and {len(found) - len(shown)} more")
    return "\n".join(lines)
