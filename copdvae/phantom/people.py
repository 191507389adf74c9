"""Who is scanned: demography, two correlated disease factors, and the spirometry that follows from them.

FEV1 = FVC * ratio, each a share of the GLI-2012 predicted value that falls with severity, less what no CT shows: hidden obstruction and
restriction. Severity is uniform on 0..1, so that every GOLD stage is well filled.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from copdvae.errors import CopdvaeError
from copdvae.read.tables import read_table
from copdvae.spirometry import gold_stage, predict

REFERENCE = "gli2012"
RACES = {1: "white", 2: "black"}  # COPDGene's codes: non-Hispanic white, African American
FACTOR_CORRELATION = 0.9  # of emphysema with small-airway disease, before they become uniform
NEVER_SMOKED = 0.06
RESTRICTED = 0.28  # lose FVC for other reasons than COPD
FVC_NOISE, RATIO_NOISE = 0.075, 0.045  # of the spirometer and of the day, as shares of the predicted values
USUAL_RESTRICTION, USUAL_HIDDEN = 0.03, 0.036  # of those who lose none for other reasons

TABLE_COLUMNS = {
    "sex": ("sex", "gender"),
    "age": ("age", "age_visit"),
    "height_cm": ("height", "height_cm"),
    "weight_kg": ("weight", "weight_kg"),
    "race": ("ethnicity", "race"),
    "fev1_l": ("fev1", "fev1_l", "fev1_utah"),
    "fvc_l": ("fvc", "fvc_l", "fvc_utah"),
}


@dataclass(frozen=True)
class Person:
    sex: str  # "M" or "F"
    age: float  # years
    height_cm: float
    weight_kg: float
    race: int  # COPDGene's code
    never_smoked: bool
    smokes_now: bool
    pack_years: float


@dataclass(frozen=True)
class Disease:
    """`severity` is what lowers FEV1; `emphysema` and `small_airways` are what the CT shows. All are uniform on 0..1."""

    severity: float
    emphysema: float
    small_airways: float
    hidden_obstruction: float  # share of the FEV1/FVC ratio that is lost without a trace on CT
    restriction: float  # share of FVC that is lost without obstruction: it makes PRISm


def draw_disease(rng: np.random.Generator, severity: float | None = None) -> Disease:
    """Two Gaussians with correlation `FACTOR_CORRELATION`; severity is their mean. Given a severity, they are drawn around it."""
    spread = np.sqrt((1 + FACTOR_CORRELATION) / 2)  # of the mean of the two
    common, contrast = rng.normal(size=2) * (spread, np.sqrt((1 - FACTOR_CORRELATION) / 2))
    if severity is not None:
        common = spread * norm.ppf(np.clip(severity, 0.005, 0.995))
    hidden = rng.gamma(1.2, 0.03)
    restriction = rng.uniform(0.15, 0.36) if rng.random() < RESTRICTED else rng.gamma(1.5, 0.02)
    factors = (common / spread, common + contrast, common - contrast)
    return Disease(*(round(float(value), 5) for value in (*norm.cdf(factors), hidden, restriction)))


def draw_person(rng: np.random.Generator, disease: Disease) -> Person:
    """Body and age know nothing of the disease; smoking does."""
    female = rng.random() < 0.47
    height = float(np.clip(rng.normal(163, 6.5) if female else rng.normal(176, 7), 146, 198))
    bmi, age = np.clip(rng.normal(27.5, 4.5), 18, 42), np.clip(rng.normal(61, 8.5), 45, 80)
    white, smokes = rng.random() < 0.67, rng.random() < 0.45
    never = disease.severity < 0.3 and rng.random() < NEVER_SMOKED / 0.3
    return Person(
        sex="F" if female else "M",
        age=round(float(age), 1),
        height_cm=round(height, 1),
        weight_kg=round(float(bmi * (height / 100) ** 2), 1),
        race=1 if white else 2,
        never_smoked=bool(never),
        smokes_now=bool(smokes and not never),
        pack_years=0.0 if never else round(float(np.clip(rng.gamma(6, 6) + 25 * (disease.severity - 0.5), 10, 140)), 1),
    )


def expected_shares(severity: Any) -> tuple[Any, Any]:
    """FVC and FEV1/FVC as shares of the predicted values, before noise: the ratio falls first, FVC late."""
    return 1.06 - 0.25 * severity**2, 1.07 - 0.70 * severity**1.4


def draw_shares(rng: np.random.Generator, disease: Disease) -> tuple[float, float]:
    """Measured FVC and FEV1/FVC as shares of the predicted values."""
    fvc, ratio = expected_shares(disease.severity)
    fvc = max(fvc - disease.restriction + rng.normal(0, FVC_NOISE), 0.3)
    return fvc, ratio - disease.hidden_obstruction + rng.normal(0, RATIO_NOISE)


def spirometry(people: list[Person], shares: np.ndarray) -> pd.DataFrame:
    """FEV1 and FVC in litres, as a spirometer gives them, with % predicted (GLI-2012), FEV1/FVC and GOLD; `shares` as in `draw_shares`.

    Everything follows from the rounded litres, so the table agrees with itself.
    """
    table = pd.DataFrame({name: [getattr(person, name) for person in people] for name in ("sex", "age", "height_cm", "never_smoked")})
    table["race"] = [RACES[person.race] for person in people]
    normal = predict(table, REFERENCE)
    fvc = np.asarray(normal["fvc_pred"] * shares[:, 0]).round(3)
    fev1 = np.asarray(fvc * np.clip(normal["ratio_pred"] * shares[:, 1], 0.2, 0.95)).round(3)
    return finish_spirometry(table, normal, fev1, fvc)


def finish_spirometry(table: pd.DataFrame, normal: pd.DataFrame, fev1: np.ndarray, fvc: np.ndarray) -> pd.DataFrame:
    ratio, fev1_pp = fev1 / fvc, (100 * fev1 / normal["fev1_pred"]).round(2)
    return pd.DataFrame(
        {
            "fev1_l": fev1,
            "fvc_l": fvc,
            "fev1_pp": fev1_pp,
            "fvc_pp": (100 * fvc / normal["fvc_pred"]).round(2),
            "fev1_fvc": ratio.round(4),
            "gold": gold_stage(ratio, fev1_pp, table["never_smoked"]).astype(int),
        }
    )


def from_table(path: Path, streams: list[np.random.Generator]) -> tuple[list[Person], list[Disease], pd.DataFrame]:
    """Real people instead: one row of the table for each stream, the obstructed more often, and a disease that fits their spirometry.

    The table has sex or gender, age, height (cm), weight (kg), FEV1 and FVC (litres), and may have ethnicity or race. Rows under 40
    years, incomplete or out of the reference's range are left out. Smoking is made up: such tables seldom have it.
    """
    table = read_people(path)
    normal = predict(table, REFERENCE)
    usable = normal[["fev1_pred", "fvc_pred", "ratio_pred"]].notna().all(axis=1)
    table, normal = table[usable], normal[usable]
    if table.empty:
        raise CopdvaeError(f"{path}: no person of 40 years or more with sex, age, height, weight, FEV1 and FVC in plausible units")
    shares = np.stack([table["fvc_l"] / normal["fvc_pred"], table["fev1_l"] / table["fvc_l"] / normal["ratio_pred"]], axis=1)
    fitted = fit_severity(shares)
    # As many people from each tenth of severity as from the next, as far as there are any.
    tenth = np.minimum((10 * fitted).astype(int), 9)
    weight = 1 / np.bincount(tenth, minlength=10)[tenth]
    picked = [int(rng.choice(len(table), p=weight / weight.sum())) for rng in streams]

    persons, diseases = [], []
    for row, rng in zip(picked, streams, strict=True):
        severity = float(np.clip(fitted[row] + rng.normal(0, 0.07), 0, 1))
        found = draw_disease(rng, severity)
        fvc, ratio = expected_shares(found.severity)
        found = replace(found, hidden_obstruction=round(ratio - shares[row, 1], 5), restriction=round(fvc - shares[row, 0], 5))
        real = table.iloc[row]
        body = {name: float(real[name]) for name in ("age", "height_cm", "weight_kg")}
        person = replace(
            draw_person(rng, found), sex=real["sex"], race=next(code for code, race in RACES.items() if race == real["race"]), **body
        )
        persons.append(person)
        diseases.append(found)
    chosen = table.iloc[picked].reset_index(drop=True)
    chosen["never_smoked"] = [person.never_smoked for person in persons]
    return (
        persons,
        diseases,
        finish_spirometry(chosen, normal.iloc[picked].reset_index(drop=True), *chosen[["fev1_l", "fvc_l"]].to_numpy().T),
    )


def fit_severity(shares: np.ndarray) -> np.ndarray:
    """The severity whose expected FVC and ratio shares lie nearest, in units of their noise: (N, 2) to (N,)."""
    grid = np.linspace(0, 1, 201)
    expected = np.stack(expected_shares(grid), axis=1)
    expected -= (USUAL_RESTRICTION, USUAL_HIDDEN)
    distance = ((shares[:, None] - expected[None]) / (2 * FVC_NOISE, RATIO_NOISE)) ** 2  # FVC falls for other reasons too
    return grid[distance.sum(axis=2).argmin(axis=1)]


def read_people(path: Path) -> pd.DataFrame:
    """Columns sex, age, height_cm, weight_kg, race, fev1_l, fvc_l, plausible rows only."""
    raw = read_table(path)
    raw.columns = [str(column).strip().lower() for column in raw.columns]
    out = pd.DataFrame(index=raw.index)
    for name, spellings in TABLE_COLUMNS.items():
        found = [column for column in spellings if column in raw]
        if not found and name != "race":
            raise CopdvaeError(f"{path}: no column {' or '.join(spellings)}; found {', '.join(raw.columns)}")
        out[name] = raw[found[0]].str.strip().str.lower() if found else ""
    out["sex"] = np.select([out["sex"].isin(("male", "m", "1")), out["sex"].isin(("female", "f", "2"))], ["M", "F"], default="")
    black = out["race"].isin(("black", "african american", "aa", "2"))
    for name in ("age", "height_cm", "weight_kg", "fev1_l", "fvc_l"):
        out[name] = pd.to_numeric(out[name], errors="coerce")
    out["race"] = np.where(black, RACES[2], RACES[1])
    plausible = out["age"].between(40, 95) & out["height_cm"].between(130, 210) & out["weight_kg"].between(35, 180)
    plausible &= out["fev1_l"].between(0.3, 7) & out["fvc_l"].between(0.6, 9) & (out["fev1_l"] <= out["fvc_l"]) & (out["sex"] != "")
    return out.loc[plausible].reset_index(drop=True)
