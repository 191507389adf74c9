"""The page's tables of people as plain rows of text and numbers: who was listed, kept, rejected and split, and what was said of them."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from copdvae.errors import reason_of
from copdvae.metrics.neighbours import GOLD_SIX
from copdvae.report.files import Column, Frame, Study
from copdvae.report.shown import DASH, hidden, hide, number, percent_of, share, target_name
from copdvae.report.words import GOLD, MEASURES, SPLITS, TARGETS

NUMBERS = (
    "age",
    "height_cm",
    "pack_years",
    "fev1_pp",
    "fvc_pp",
    "fev1_fvc",
    "insp_lung_volume_l",
    "exp_over_insp_volume",
)  # mean and standard deviation
SKEWED = ("emphysema_pct", "gas_trapping_pct")  # median and quartiles
MOST_CATEGORIES = 12
ALLOWED = {  # codes of warnings about what is refused unless a study asks for it
    "gaps_filled": "of the subjects have slices that were made up between their neighbours, as allow_gaps asks",
    "tilt_resampled": "of the subjects have a tilted scan that was sheared upright, as resample_tilt asks",
    "other_study": "of the subjects have a pair of scans of two studies, as allow_other_study asks",
}
ONE_BY_ONE, NAMED = 3, 12  # a remark about more subjects is one line, with this many named
CATEGORIES = ("gold", "smoking_status", "site", "scanner", "kernel")


def cohort_table(cohort: Frame, by: str, small: int = 0) -> dict[str, Any]:
    """A "Table 1": a column for each value of `by` and one for all, rows of measures, and how many lack each.

    Counts from 1 to `small` - 1 read "<small", and no figure is given for a column that has so few subjects. Where that leaves one
    hidden count in a group, the next smallest is hidden with it, so that it cannot be had by subtraction.
    """
    labels = cohort[by].map(lambda value: label_of(by, value))
    order = [label_of(by, value) for value in ordered(by, cohort[by].unique()) if label_of(by, value)]
    columns = {label: cohort[labels == label] for label in order} | {"All": cohort}
    counts = hide(np.array([len(columns[label]) for label in order]), small)
    heads = [{"name": label, "n": n} for label, n in zip([*order, "All"], [*counts, str(len(cohort))], strict=True)]
    shown = {label: part for (label, part), n in zip(columns.items(), [*counts, ""], strict=True) if not n.startswith("<")}
    rows: list[dict[str, Any]] = []

    def add(title: str, cells: dict[str, str], missing: int | None, indent: bool = False) -> None:
        entry = {"label": title, "cells": [cells.get(label, DASH) for label in columns], "missing": hidden(missing, small)}
        rows.append(entry | {"indent": indent})

    for name in NUMBERS:
        if name in cohort and by != name:
            digits = 2 if cohort[name].abs().max() < 15 else 1
            cells = {label: mean_sd(part[name], digits) for label, part in shown.items()}
            add(MEASURES[name], cells, int(cohort[name].isna().sum()))
        if name == "age" and "sex" in cohort:
            known = {label: int(part["sex"].isin(["F", "M"]).sum()) for label, part in shown.items()}
            cells = {label: share(int(part["sex"].eq("F").sum()), known[label], small) for label, part in shown.items()}
            add("Women", cells, len(cohort) - known["All"])
    for name in SKEWED:
        if name in cohort:
            add(MEASURES[name], {label: quartiles(part[name]) for label, part in shown.items()}, int(cohort[name].isna().sum()))
    for name in CATEGORIES:
        if name not in cohort or name == by or not 1 < cohort[name].nunique() <= MOST_CATEGORIES:
            continue
        values = pd.Series([label_of(name, value) for value in cohort[name]], cohort.index)
        found = [label_of(name, value) for value in ordered(name, cohort[name].unique()) if label_of(name, value)]
        tallies = {label: hide(np.array([(values[part.index] == v).sum() for v in found]), small) for label, part in shown.items()}
        add(MEASURES.get(name, name.replace("_", " ").capitalize()), dict.fromkeys(columns, ""), int((values == "").sum()))
        for place, value in enumerate(found):
            add(value, {label: percent_of(tallies[label][place], len(part)) for label, part in shown.items()}, None, indent=True)
    return {"heads": heads, "rows": rows}


def label_of(column: str, value: Any) -> str:
    """A category for reading; empty where it is missing."""
    if value is None or value == "" or (isinstance(value, float) and np.isnan(value)):
        return ""
    if column == "gold":
        return GOLD.get(int(value), str(value))
    if column == "split":
        return SPLITS.get(str(value), str(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def ordered(column: str, values: Iterable[Any]) -> list[Any]:
    if column == "split":
        order = list(SPLITS)
        return sorted(values, key=lambda value: (order.index(value) if value in order else len(order), str(value)))
    known = [value for value in values if label_of(column, value)]
    numeric = all(isinstance(value, int | float | np.number) for value in known)
    return sorted(known, key=None if numeric else str)


def mean_sd(values: Column, digits: int) -> str:
    return f"{number(values.mean(), digits)} ({number(values.std(), digits)})" if values.notna().sum() > 1 else DASH


def quartiles(values: Column) -> str:
    if values.notna().sum() < 2:
        return DASH
    low, middle, high = values.quantile([0.25, 0.5, 0.75])
    return f"{number(middle, 1)} ({number(low, 1)}–{number(high, 1)})"


def flow(study: Study, small: int = 0) -> dict[str, Any]:
    """How subjects came to be scored: listed, rejected by reason, split, with a value of each target."""
    cohort, rejected = study.cohort, study.rejected
    refused = 0 if rejected is None else rejected["subject_id"].nunique()
    reasons = []
    if rejected is not None:
        expected = rejected.get("expected", pd.Series("", rejected.index))
        counts = rejected.assign(expected=expected).groupby(["reason", "expected"], sort=False).size()
        reasons = [
            {"reason": str(reason).replace("_", " "), "n": hidden(int(n), small), "expected": expected}
            for (reason, expected), n in counts.items()
        ]
    parts = []
    if cohort is not None:
        for part in ordered("split", [value for value in cohort["split"].unique() if value]):
            own = cohort[cohort["split"] == part]
            lines = [f"{target_name(t)}: {hidden(int(has_target(own, t).sum()), small)}" for t in TARGETS if t in own]
            parts.append({"name": label_of("split", part).lower(), "n": hidden(len(own), small), "lines": lines})
    kept = 0 if cohort is None else len(cohort)
    extra = set() if rejected is None or cohort is None else set(rejected["subject_id"]) & set(cohort.index)
    return {"listed": kept + refused - len(extra), "refused": refused, "kept": kept, "reasons": reasons, "parts": parts}


def has_target(table: Frame, target: str) -> Column:
    return table[target].isin(GOLD_SIX) if target == "gold" else table[target].notna()


def scan_warnings(study: Study) -> list[tuple[str, str]]:
    """What ingest remarked about subjects that it kept; what it remarked about many is one line, with the first one's words."""
    if study.cohort is None or "warnings" not in study.cohort:
        return []
    by_code: dict[str, list[tuple[str, str]]] = {}
    for subject, texts in study.cohort["warnings"].items():
        for text in re.split(r"(?<=\]); ", texts) if texts else ():
            by_code.setdefault(reason_of(text, default=text), []).append((str(subject), text))
    lines: list[tuple[str, str]] = []
    for said in sorted(by_code.values(), key=len):
        subjects = list(dict.fromkeys(subject for subject, _ in said))
        if len(subjects) > ONE_BY_ONE:
            named = ", ".join(subjects[:NAMED]) + (" and more" if len(subjects) > NAMED else "")
            lines.append((f"{len(subjects)} subjects", f"{said[0][1]} (the first one's; all: {named})"))
        else:
            lines += said
    return lines


def resampled(study: Study, small: int) -> list[str]:
    """How many subjects were kept because the study allows what is refused otherwise."""
    if study.cohort is None or "warnings" not in study.cohort:
        return []
    said, lines = study.cohort["warnings"].fillna("").astype(str), []
    for code, words in ALLOWED.items():
        if count := int(said.str.contains(f"[{code}]", regex=False).sum()):
            lines.append(f"{f'Fewer than {small}' if count < small else count} {words} ({code.replace('_', ' ')}).")
    return lines


def lacking(study: Study, small: int) -> list[str]:
    """How many subjects some methods leave out for want of a scan."""
    count = 0 if study.lacking is None else study.lacking["subject_id"].nunique()
    if not count:
        return []
    shown = f"Fewer than {small}" if count < small else count
    return [f"{shown} subjects have no score of some methods, which need a scan that they lack (rejected.csv, stage training)."]


def quality_rows(study: Study, small: int = 0) -> list[dict[str, str]]:
    """How often each flag of qc.csv is there, among subjects that were kept and among the others."""
    if study.quality is None:
        return []
    states, lists = (study.quality[name].tolist() for name in ("state", "flags"))
    counts: dict[str, Counter[str]] = {}
    for state, flags in zip(states, lists, strict=True):
        for flag in flags.split():
            counts.setdefault(flag, Counter())["kept" if state == "kept" else "out"] += 1
    rows = sorted(counts.items(), key=lambda entry: (-entry[1].total(), entry[0]))
    return [{"flag": flag, "kept": hidden(found["kept"], small), "out": hidden(found["out"], small)} for flag, found in rows]
