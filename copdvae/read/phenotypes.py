"""Read the table of phenotypes: one row a subject, COPDGene's columns out of the box or the user's own mapping.

Every bad row is listed at once, with its row number in the spreadsheet; nothing is repaired. A missing value is no mistake.
`spirometry.columns.COPDGENE` says which column is read as what.
"""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false
# pandas comes without types: a column is inferred as Series | DataFrame.

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from copdvae.errors import Problem, ReadError
from copdvae.read.tables import read_table
from copdvae.spirometry.columns import TableConfig, Text, find_columns
from copdvae.spirometry.gold import gold_stage
from copdvae.spirometry.measures import disagreeing_grades, predict_measures, read_measures
from copdvae.spirometry.quantities import QUANTITIES, Finding

MEASURED = ("age", "height_cm", "fev1_l", "fvc_l", "fev1_pp", "fvc_pp", "fev1_fvc", "gold", "emphysema_pct", "gas_trapping_pct")


class PhenotypesConfig(TableConfig):
    """How to read the phenotype table. `TableConfig` has the columns, units and codes."""

    visit: Text = ""  # which visit, where the table has several of a subject
    sheet: str | None = None  # of a workbook with several


@dataclass(frozen=True)
class Phenotypes:
    """`table`: indexed by `subject_id` (str), in the table's order, without the subjects of fatal problems.

    Floats, NaN missing: `age`, `height_cm`, `weight_kg`, `bmi`, `pack_years`, `fev1_l`, `fvc_l`, `fev1_pp`, `fvc_pp`, `fev1_fvc` (ratio),
    `gold` (-2, -1, 0 to 4), `emphysema_pct`, `gas_trapping_pct`, `perc15_hu`.
    Words, "" missing: `sex` ("M", "F"), `race`, `smoking_status`, `visit`.
    """

    table: pd.DataFrame
    problems: list[Problem]
    notes: list[str]


def read_phenotypes(path: Path, config: PhenotypesConfig) -> Phenotypes:
    """Read `path`; raise `ReadError` for what concerns the whole table, list everything that concerns one row."""
    path = Path(path)
    table = read_table(path, config.sheet)
    try:
        columns = find_columns(table, config, config.visit)
        table = at_visit(table, columns, config.visit)
        measures = read_measures(table, columns, config)
    except ReadError as error:
        raise ReadError(f"{path}: {error}", error.reason) from None
    subjects = table[columns["subject_id"]]
    values, findings = measures.values, measures.findings + double_subjects(subjects)
    notes = [*table.attrs.get("notes", []), *measures.notes]

    if values["fev1_pp"].isna().all() and values["fev1_l"].notna().any():
        predicted, said = predict_measures(values, config)
        for name in ("fev1_pp", "fvc_pp"):
            values[name] = predicted[name] if values[name].isna().all() else values[name]  # one column, one reference
        notes += [*said, f"fev1_pp not in the table: computed from FEV1, age, sex and height for {predicted['fev1_pp'].notna().sum()} rows"]
    findings += disagreeing_grades(values)
    if "gold" not in columns:
        values["gold"] = gold_stage(values["fev1_fvc"], values["fev1_pp"], values["never_smoked"], values["age"])
        notes.append(f"gold not in the table: by the rule for {values['gold'].notna().sum()} rows")
    lacking = [name for name in MEASURED if values[name].isna().all()]
    notes += [f"not in the table: {', '.join(lacking)}"] if lacking else []
    values["visit"] = table[columns["visit"]] if "visit" in columns else config.visit

    findings.sort(key=lambda finding: finding.row)
    problems = [Problem(f"{path.name} row {f.row}", subjects[f.row], f.reason, f.detail, f.bad, f.written) for f in findings]
    kept = ~values.index.isin({finding.row for finding in findings if finding.bad})
    names = [*QUANTITIES, "sex", "race", "smoking_status", "gold", "visit"]
    sound = values.loc[kept, names].set_axis(pd.Index(subjects[kept], name="subject_id", dtype=object))
    return Phenotypes(sound, problems, notes)


def at_visit(table: pd.DataFrame, columns: dict[str, str], visit: str) -> pd.DataFrame:
    """The rows of one visit of a long table; an error where subjects have several visits and none is chosen."""
    if "subject_id" not in columns:
        raise ReadError("no column names the subjects; say which does: `columns: {subject_id: ...}`", "no_column")
    if "visit" not in columns:
        if visit and not any(column.endswith(f"_P{visit}") for column in columns.values()):
            raise ReadError(f"visit {visit!r} is asked for, and no column says visits", "no_visit")
        return table
    visits = table[columns["visit"]]
    if visit:
        if not (visits == visit).any():
            raise ReadError(f"no row of visit {visit!r}; the visits are {', '.join(sorted(set(visits)))}", "no_visit")
        return table[visits == visit]
    several = int((table.assign(visit_=visits).groupby(columns["subject_id"])["visit_"].nunique() > 1).sum())
    if several:
        known = sorted(set(visits))
        raise ReadError(f"{several} subjects have several visits ({', '.join(known)}); choose one: `visit: {known[0]}`", "several_visits")
    return table


def double_subjects(subjects: pd.Series) -> list[Finding]:
    """Rows without a subject, and every row of a subject that has more than one."""
    findings = [Finding(row, "no_subject_id", "the row names no subject") for row in subjects.index[subjects == ""].tolist()]
    double = subjects[(subjects != "") & subjects.duplicated(keep=False)]
    rows = {subject: ", ".join(map(str, group.index)) for subject, group in double.groupby(double)}
    return findings + [
        Finding(row, "duplicate_subject", f"subject {subject} is in rows {rows[subject]}") for row, subject in double.items()
    ]
