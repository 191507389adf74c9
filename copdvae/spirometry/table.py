"""Grade a table of people: predicted values, % predicted, z-scores, lower limits and GOLD beside what the table has."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false, reportOperatorIssue=false
# pandas comes without types: a column is inferred as Series | DataFrame.

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from copdvae.errors import CopdvaeError, ReadError
from copdvae.files import replacing, without_formulas
from copdvae.spirometry.columns import COPDGENE, PLAIN, TableConfig, find_columns
from copdvae.spirometry.gold import gold_reason, gold_stage
from copdvae.spirometry.measures import disagreeing_grades, predict_measures, read_measures
from copdvae.spirometry.quantities import Finding

NEEDED = ("age", "sex", "height_cm", "fev1_l", "fvc_l")
USED = (*NEEDED, "race", "fev1_fvc", "gold", "pack_years", "smoking_status", "smokes_now", "bronchodilator")
BASIS = {"pre": "pre-bronchodilator, not diagnostic", "post": "post-bronchodilator", "": "bronchodilator not stated"}
WRITERS = (".csv", ".parquet", ".xlsx")
LISTED_ROWS = 10  # of each kind of finding in the summary


@dataclass(frozen=True)
class GradedTable:
    """`table`: the table's own columns as text, then ours (docs/SPIROMETRY.md); `notes`: what was assumed; `summary`: what came of it."""

    table: pd.DataFrame
    notes: list[str]
    summary: list[str]


def grade_table(table: pd.DataFrame, config: TableConfig, pre_bronchodilator: bool = False) -> GradedTable:
    """Grade `table` (text, as from `read_table`) against `config.reference`. Every row comes back; what it lacks is null with a reason.

    A bad measurement (`flags`) takes what is computed from it along; the predicted values, from age, sex and height, stay.
    """
    columns = find_columns(table, config)
    lacking = [name for name in NEEDED if name not in columns]
    if lacking:
        looked = "; ".join(f"{name} ({', '.join((COPDGENE if config.preset == 'copdgene' else PLAIN)[name])})" for name in lacking)
        raise ReadError(
            f"no column for {looked}; the table has {', '.join(table.columns)}; name them with --column NAME=COLUMN", "no_column"
        )
    measures = read_measures(table, {name: column for name, column in columns.items() if name in USED}, config)
    values = measures.values
    bad = {(finding.row, finding.name): finding.reason for finding in measures.findings if finding.bad}
    both = {row for (row, _), reason in bad.items() if reason in ("fev1_above_fvc", "ratio_disagrees")}
    either = both | {row for row, name in bad if name in ("fev1_l", "fvc_l", "fev1_fvc")}
    values.loc[values.index.isin(both), ["fev1_l", "fvc_l"]] = np.nan
    values.loc[values.index.isin(either), "fev1_fvc"] = np.nan
    found, notes = predict_measures(values, config)
    for name in ("sex", "age", "height_cm"):  # what was there and could not be used is not missing
        rows = {row: reason for (row, about), reason in bad.items() if about == name}
        found["reason"] = found["reason"].mask(found.index.isin(rows), found.index.map(rows))

    graded = found.drop(columns=["reference", "reference_group", "group_from", "reason"])
    if pre_bronchodilator or is_pre(columns):
        values["bronchodilator"] = "pre"
    age, stage = values["age"], gold_stage(values["fev1_fvc"], found["fev1_pp"], values["never_smoked"], values["age"])
    graded["gold"] = pd.Series(stage, index=table.index).astype("Int64")
    graded["gold_basis"] = np.where(graded["gold"].isna(), "", values["bronchodilator"].map(BASIS))
    graded["gold_reason"] = gold_reason(values["fev1_fvc"], found["fev1_pp"], age)
    grades = disagreeing_grades(values.assign(fev1_pp=found["fev1_pp"]))
    findings = measures.findings + grades
    graded["reason"] = found["reason"]
    graded["flags"] = joined_flags(findings, table.index)
    graded[["reference", "reference_group", "group_from"]] = found[["reference", "reference_group", "group_from"]]

    renamed = {}
    for column in table.columns:
        if column in graded:
            renamed[column] = next(name for n in range(1, 99) if (name := column + "_given" * n) not in table and name not in graded)
            notes.append(f"the table's own column {column!r} is now {renamed[column]!r}")
    whole = pd.concat([table.rename(columns=renamed), graded], axis=1)
    return GradedTable(whole, [*table.attrs.get("notes", []), *measures.notes, *notes], summarise(graded, findings))


def is_pre(columns: dict[str, str]) -> bool:
    return columns["fev1_l"].casefold().endswith("pre")


def joined_flags(findings: list[Finding], rows: pd.Index) -> pd.Series:
    """Each row's reasons in the order found, once each, joined by ";"."""
    flags: dict[int, dict[str, None]] = defaultdict(dict)
    for finding in findings:
        flags[finding.row].setdefault(finding.reason)
    return pd.Series([";".join(flags[row]) if row in flags else "" for row in rows.tolist()], index=rows, dtype=object)


def summarise(graded: pd.DataFrame, findings: list[Finding]) -> list[str]:
    """A line for each thing that a reader should know before using the numbers."""
    lines = [
        f"{len(graded)} rows, {int(graded['fev1_pred'].notna().sum())} predicted, {int(graded['gold'].notna().sum())} with a GOLD stage"
    ]
    stages = graded["gold"].value_counts().sort_index()
    lines.append("GOLD: " + (", ".join(f"{stage}: {count}" for stage, count in stages.items()) or "none"))
    lines += [f"GOLD basis: {basis}: {count} rows" for basis, count in Counter(graded["gold_basis"].tolist()).items() if basis]
    for column, title in (("reason", "not predicted"), ("gold_reason", "no GOLD stage")):
        counts = Counter(reason for reason in graded[column].tolist() if reason)
        lines += [f"{title}, {reason}: {count} rows" for reason, count in counts.most_common()]
    rows: dict[str, dict[int, None]] = defaultdict(dict)
    for finding in findings:
        rows[finding.reason].setdefault(finding.row)
    for reason, flagged in rows.items():
        numbers = sorted(flagged)
        more = " ..." if len(numbers) > LISTED_ROWS else ""
        lines.append(f"flagged {reason}: {len(numbers)} rows ({', '.join(map(str, numbers[:LISTED_ROWS]))}{more})")
    return lines


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write by `path`'s ending (.csv, .parquet, .xlsx) under a temporary name, then rename. No cell can run as a formula."""
    suffix = path.suffix.lower()
    if suffix not in WRITERS:
        raise CopdvaeError(f"{path}: a table is written as {', '.join(WRITERS)}, not {suffix or 'without an ending'}")
    with replacing(path) as temporary, temporary.open("wb") as file:
        if suffix == ".parquet":
            table.to_parquet(file, index=False)
        elif suffix == ".xlsx":
            without_formulas(table).to_excel(file, index=False, engine="openpyxl")
        else:
            without_formulas(table).to_csv(file, index=False, lineterminator="\n")
