"""The measures of a table of people: each column found, brought to our units and words, and each row looked at."""

# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false, reportOperatorIssue=false
# pandas comes without types: a column is inferred as Series | DataFrame.

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from copdvae.spirometry.codes import WORDS, read_codes
from copdvae.spirometry.columns import COPDGENE, TableConfig
from copdvae.spirometry.equations import REFERENCES, predict
from copdvae.spirometry.gold import gold_stage
from copdvae.spirometry.quantities import QUANTITIES, Finding, read_quantity

RATIO_TOLERANCE = 0.02  # between a table's ratio and its FEV1/FVC


@dataclass(frozen=True)
class Measures:
    """`values`, on the table's index: every quantity (float, NaN), `sex`, `race`, `smoking_status`, `smokes_now`, `bronchodilator` (words,
    "" missing), `gold` (float, NaN), `never_smoked` (bool). `fev1_fvc` is from the volumes where both are there.
    """

    values: pd.DataFrame
    findings: list[Finding]
    notes: list[str]


def read_measures(table: pd.DataFrame, columns: Mapping[str, str], config: TableConfig) -> Measures:
    """Measures from the table's `columns` (`find_columns`); what is not there is missing."""
    values = pd.DataFrame(index=table.index)
    findings: list[Finding] = []
    notes: list[str] = []
    for name in WORDS:
        values[name] = ""
        if name in columns:
            copdgene = config.preset == "copdgene" and name in COPDGENE
            values[name], found, note = read_codes(name, table[columns[name]], config.codes.get(name), copdgene)
            if name != "race" or REFERENCES[config.reference].groups:  # otherwise nothing hangs on it
                findings += found
            notes.append(note)
    for name in QUANTITIES:
        values[name] = np.nan
        if name in columns:
            column = read_quantity(name, table[columns[name]], config.units.get(name), config.missing)
            values[name] = column.values
            findings += column.findings
            notes.append(column.note)
    if config.default_race:
        values["race"] = values["race"].replace("", config.default_race)
    values["gold"] = pd.to_numeric(values["gold"], errors="coerce")
    pack_years, status = values["pack_years"], values["smoking_status"]
    values["smoking_status"] = status.where(status != "", smoking_from_amounts(values["smokes_now"], pack_years))
    values["never_smoked"] = values["smoking_status"] == "never"

    measured = values["fev1_l"] / values["fvc_l"]
    both = measured.notna()
    for row in values.index[measured > 1].tolist():
        findings.append(
            Finding(row, "fev1_above_fvc", f"FEV1 {values.at[row, 'fev1_l']:g} L is more than FVC {values.at[row, 'fvc_l']:g} L")
        )
    apart = (values["fev1_fvc"] - measured).abs() > RATIO_TOLERANCE
    for row in values.index[apart & (measured <= 1)].tolist():
        findings.append(
            Finding(row, "ratio_disagrees", f"the table's ratio is {values.at[row, 'fev1_fvc']:.3f}, its FEV1/FVC {measured[row]:.3f}")
        )
    values["fev1_fvc"] = measured.where(both, values["fev1_fvc"])
    for row in values.index[values["never_smoked"] & (pack_years > 1)].tolist():
        findings.append(Finding(row, "smoking_disagrees", f"never smoked, with {pack_years[row]:g} pack-years", bad=False))
    return Measures(values, findings, notes)


def smoking_from_amounts(smokes_now: pd.Series, pack_years: pd.Series) -> np.ndarray:
    """Smoking history where no column states it. Without pack-years nobody is known to have never smoked."""
    return np.select(
        [smokes_now == "yes", pack_years == 0, (pack_years > 0) & (smokes_now == "no")], ["current", "never", "former"], default=""
    )


def disagreeing_grades(values: pd.DataFrame) -> list[Finding]:
    """Rows whose own GOLD is not what the rule makes of their ratio and FEV1 % predicted. Nothing is overwritten.

    A table's -2 (never-smoked normal) agrees with a 0 of the rule where no smoking history is there to tell.
    """
    rule = pd.Series(gold_stage(values["fev1_fvc"], values["fev1_pp"], values["never_smoked"], values["age"]), index=values.index)
    silent = values["gold"].isna() | rule.isna() | ((values["gold"] == -2) & (rule == 0) & (values["smoking_status"] == ""))
    return [
        Finding(
            row,
            "gold_disagrees",
            f"the table says {values.at[row, 'gold']:.0f}; FEV1/FVC {values.at[row, 'fev1_fvc']:.3f} and "
            f"FEV1 {values.at[row, 'fev1_pp']:.1f} % of predicted make it {rule[row]:.0f}",
            bad=False,
        )
        for row in values.index[~silent & (rule != values["gold"])].tolist()
    ]


def predict_measures(values: pd.DataFrame, config: TableConfig) -> tuple[pd.DataFrame, list[str]]:
    """`predict` for measured rows, and what to announce about the reference and its groups."""
    found = predict(values, config.reference)
    chosen = REFERENCES[config.reference]
    notes = [f"reference {config.reference}: {chosen.title}"]
    if chosen.groups:
        defaulted = int((found["group_from"] == "default").sum())
        mapping = ", ".join(f"{race} as {group.lower()}" for race, group in chosen.groups.items())
        notes.append(
            f"groups of {config.reference}: {mapping}; race missing or without a group as {chosen.default_group.lower()}: {defaulted} rows"
        )
    return found, notes
