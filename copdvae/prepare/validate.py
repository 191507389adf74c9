"""Every problem of a study in one list, before any work is done: manifest, the headers of every scan, phenotypes. Writes nothing."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from copdvae.errors import Problem, ReadError, printable
from copdvae.read import check_ct
from copdvae.read.manifest import SCANS, Manifest, read_manifest
from copdvae.read.phenotypes import PhenotypesConfig, read_phenotypes

THREADS = 8  # headers wait for the disk more than for the processor
EXAMPLES = 3  # of one kind of problem in the list for people; the others are counted


def validate(manifest_path: Path, phenotypes_path: Path | None = None, config: PhenotypesConfig | None = None) -> list[Problem]:
    """All problems, worst first: fatal ones cost a subject, the others are warnings. A table that cannot be read at all is one problem."""
    problems: list[Problem] = []
    scanned: set[str] | None = None
    try:
        study = read_manifest(manifest_path)
    except ReadError as error:
        problems.append(Problem(manifest_path.name, "", error.reason, str(error)))
    else:
        problems += study.problems
        problems += check_scans(study, manifest_path.name)
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


def check_scans(study: Manifest, name: str) -> list[Problem]:
    """What the headers of each scan in a sound row show, in the rows' order."""
    rows = study.scans.to_dict("index").items()
    uses = [(row, column, str(line["subject_id"]), str(line[column])) for row, line in rows for column in SCANS if line[column] != ""]

    def check(use: tuple) -> list[Problem]:
        row, column, subject, path = use
        where = f"{name} row {row}, {column} {path!r}"
        try:
            found = check_ct(study.root / path)
        except ReadError as error:
            return [Problem(where, subject, error.reason, str(error).removeprefix(f"{study.root / path}: "))]
        except OSError as error:
            return [Problem(where, subject, "unreadable", error.strerror or "the file system refuses to read it")]
        return [Problem(where, subject, "scan_warning", warning, fatal=False) for warning in found.get("warnings", ())]

    with ThreadPoolExecutor(THREADS) as threads:
        return [problem for found in threads.map(check, uses) for problem in found]


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
