"""Read a study's list of scans.  One row is one visit of one subject; paths are relative to the manifest's folder and stay inside it.

Columns: `subject_id` and `insp_path` are needed; `visit`, `exp_path`, `mask_path` (of the inspiratory scan), `exp_mask_path`, `series` and
`exp_series` (which one of a folder with several), `site`, `scanner` and `kernel` may be left out or empty. The key of a row is
(subject_id, visit): two visits are never mixed. One folder may hold both of a row's scans, if it is a folder of DICOM files: their series'
names, or else their descriptions, tell them apart.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import pandas as pd

from copdvae.errors import Problem, ReadError
from copdvae.read.tables import read_table

NEEDED = ("subject_id", "insp_path")
PATHS = ("insp_path", "exp_path", "mask_path", "exp_mask_path")
SCANS = ("insp_path", "exp_path")
SERIES = {"insp_path": "series", "exp_path": "exp_series"}
COLUMNS = ("subject_id", "visit", *PATHS, *SERIES.values(), "site", "scanner", "kernel")
REFUSED = ("subject_id", "visit", "reason", "detail")

Rows = dict[int, dict[str, str]]  # spreadsheet row to its cells by column
Places = dict[str, Path | tuple[str, str]]  # a path as it is written: where it leads, or reason and detail where it may not be followed


@dataclass(frozen=True)
class Manifest:
    """`scans`: the sound rows, columns `COLUMNS`, all text, "" where empty, indexed by spreadsheet row; paths relative to `root`.

    `refused`: a line for each thing wrong with each other row, columns `REFUSED`, without paths: fit for a file.
    `problems`: the same for a person to read, with rows and paths.
    """

    root: Path
    scans: pd.DataFrame
    refused: pd.DataFrame
    problems: list[Problem]


def read_manifest(path: Path) -> Manifest:
    """Read and check every row; raise `ReadError` only where there is no usable table at all."""
    table = read_table(path)
    missing = [column for column in NEEDED if column not in table]
    if missing:
        raise ReadError(
            f"{path}: no column {' and no column '.join(missing)}; found {', '.join(map(str, table.columns)) or 'none'}. "
            "A manifest has at least subject_id and insp_path",
            "missing_column",
        )
    table = table.reindex(columns=list(COLUMNS), fill_value="")
    root = path.resolve().parent
    rows: Rows = {int(str(row)): {str(key): str(value) for key, value in line.items()} for row, line in table.to_dict("index").items()}
    problems: list[Problem] = []
    refused: list[tuple[str, str, str, str]] = []
    bad_rows: set[int] = set()
    places = {text: follow(text, root) for line in rows.values() for column in PATHS if (text := line[column])}
    for row, column, reason, detail in (*row_mistakes(rows, places), *doubles(rows, places)):
        line = rows[row]
        where = f"{path.name} row {row}, {column}" + (f" {line[column]!r}" if column in PATHS and line[column] else "")
        problems.append(Problem(where, line["subject_id"], reason, detail))
        refused.append((line["subject_id"], line["visit"], reason, f"{column}: {detail}"))
        bad_rows.add(row)
    scans = table.drop(index=sorted(bad_rows))
    return Manifest(root, scans, pd.DataFrame(refused, columns=list(REFUSED)), problems)


def row_mistakes(rows: Rows, places: Places) -> Iterator[tuple[int, str, str, str]]:
    """What is wrong with each row alone: row, column, reason, detail."""
    for row, line in rows.items():
        if not line["subject_id"]:
            yield row, "subject_id", "empty_id", "the row names no subject"
        if not line["insp_path"]:
            yield row, "insp_path", "no_insp_scan", "every row needs an inspiratory scan"
        if line["exp_mask_path"] and not line["exp_path"]:
            yield row, "exp_mask_path", "mask_without_scan", "there is a mask for an expiratory scan but no scan in exp_path"
        if line["exp_series"] and not line["exp_path"]:
            yield row, "exp_series", "series_without_scan", "a series is named for an expiratory scan but no scan in exp_path"
        for column in PATHS:
            if isinstance(mistake := places.get(line[column]), tuple):
                yield row, column, *mistake
        if isinstance(exp := places.get(line["exp_path"]), Path) and exp == places.get(line["insp_path"]):
            if not exp.is_dir():
                yield row, "exp_path", "same_scan_twice", "the inspiratory and the expiratory scan are the same file"
            elif line["series"] and line["series"] == line["exp_series"]:
                yield row, "exp_series", "same_scan_twice", "the inspiratory and the expiratory scan are the same series of one folder"


def follow(text: str, root: Path) -> Path | tuple[str, str]:
    """Where a path leads, links followed, so that `a/b`, `./a/b` and a link to it count as one.

    Reason and detail where it is no relative path to something inside `root`.
    """
    pure, windows = PurePosixPath(text), PureWindowsPath(text)
    if "\0" in text or pure.is_absolute() or windows.drive or windows.root or ".." in (*pure.parts, *windows.parts):
        return "outside_study", "the path leaves the manifest's folder; write it relative to that folder, without '..'"
    try:
        target = (root / text).resolve()
        found = target.exists()
    except (OSError, RuntimeError):  # a loop of links, a name too long
        return "missing_file", "the path cannot be followed"
    if not target.is_relative_to(root):
        return "outside_study", "a link leads out of the manifest's folder; copy the scan into it"
    return target if found else ("missing_file", "there is nothing at this path")


def doubles(rows: Rows, places: Places) -> Iterator[tuple[int, str, str, str]]:
    """Rows with one key, and scans named in more than one row: all of them are named, since nothing says which is right."""
    keys: dict[tuple[str, str], list[int]] = {}
    users: dict[tuple[Path, str], list[tuple[int, str]]] = {}
    for row, line in rows.items():
        keys.setdefault((line["subject_id"], line["visit"]), []).append(row)
        for column in SCANS:
            if isinstance(target := places.get(line[column]), Path):
                users.setdefault((target, line[SERIES[column]]), []).append((row, column))
    for (subject, _), same in keys.items():
        if subject and len(same) > 1:
            for row in same:
                yield row, "subject_id", "duplicate_row", f"rows {', '.join(map(str, same))} are the same visit of one subject"
    for uses in users.values():
        same = sorted({row for row, _ in uses})
        if len(same) > 1:
            for row, column in uses:
                yield row, column, "same_scan_twice", f"rows {', '.join(map(str, same))} name one scan"
