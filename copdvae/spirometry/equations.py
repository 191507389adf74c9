"""Predicted spirometry from three published reference sets, evaluated by pyspiro.

    gli2012     GLI-2012, Quanjer et al. 2012, doi 10.1183/09031936.00080312.  3 to 95 years, five groups.
    gli-global  GLI Global 2022, Bowerman et al. 2023, doi 10.1164/rccm.202205-0963OC.  3 to 95 years, no groups.
    nhanes3     NHANES III, Hankinson et al. 1999, doi 10.1164/ajrccm.159.1.9712108.  8 to 80 years, three groups, heights by group.

GLI: z = ((y/M)^L - 1) / (L S), LLN = M (1 - 1.645 L S)^(1/L).  NHANES III: z = 1.645 (y - M) / (M - LLN).
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from pyspiro import BOWERMAN_2022, GLI_2012, HANKINSON_1999

from copdvae.errors import ConfigError

MEASURES = {"fev1": "FEV1", "fvc": "FVC", "ratio": "FEV1FVC"}  # our name -> pyspiro's
OBSERVED = {"fev1": "fev1_l", "fvc": "fvc_l", "ratio": "fev1_fvc"}  # our name -> the column it is measured in
CREDIBLE_CM = (50.0, 250.0)  # outside: not a standing height in cm, whatever the equations would make of it

# Probe for the median: pyspiro gives only 100 y / M, rounded to two decimals. With y = 1e10 that is M to fourteen digits.
PROBE = 1e10


class Nhanes3(HANKINSON_1999):
    """Hankinson's children are "under 20" (men) and "under 18" (women); pyspiro ends them at 19.0 and 17.0."""

    _CHILD_MAX_AGE_MALE = float(np.nextafter(20.0, 0.0))
    _CHILD_MAX_AGE_FEMALE = float(np.nextafter(18.0, 0.0))


@dataclass(frozen=True)
class ReferenceSet:
    """One set of equations and the rule from a race or ethnicity of ours (`codes.RACES`) to its groups."""

    title: str
    equations: type
    ages: tuple[float, float]  # years, both included
    groups: dict[str, str]  # race -> group, a member of the equations' `Ethnicity`; empty: the set has no groups
    default_group: str = ""  # where the race is missing or not in `groups`
    ratio_unit: float = 1.0  # what the equations call a ratio of 1


REFERENCES = {
    "gli2012": ReferenceSet(
        "GLI-2012 (Quanjer 2012)",
        GLI_2012,
        (3.0, 95.0),
        {
            "white": "CAUCASIAN",
            "black": "AFRICAN_AMERICAN",
            "hispanic": "CAUCASIAN",
            "north east asian": "NORTHEAST_ASIAN",
            "south east asian": "SOUTHEAST_ASIAN",
            "asian": "OTHER",
            "other": "OTHER",
        },
        "OTHER",
    ),
    "gli-global": ReferenceSet("GLI Global 2022 (Bowerman 2023)", BOWERMAN_2022, (3.0, 95.0), {}),
    "nhanes3": ReferenceSet(
        "NHANES III (Hankinson 1999)",
        Nhanes3,
        (8.0, 80.0),
        {"white": "CAUCASIAN", "black": "AFRICAN_AMERICAN", "hispanic": "MEXICAN_AMERICAN"},
        "CAUCASIAN",
        ratio_unit=100.0,
    ),
}


def reference_set(name: str) -> ReferenceSet:
    if name not in REFERENCES:
        raise ConfigError(f"reference {name!r} is unknown; the reference sets are {', '.join(REFERENCES)}")
    return REFERENCES[name]


def predict(people: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Predicted values (medians) and lower limits of normal (5th percentiles), one row a person, on `people`'s index.

    `people` has `sex` ("M", "F"; anything else is missing), `age` (years), `height_cm`, and where the set has groups `race`
    (`codes.RACES`; anything else takes the set's default group). Columns: `fev1_pred`, `fvc_pred`, `ratio_pred`, `fev1_lln`, `fvc_lln`,
    `ratio_lln`; `reference`, `reference_group` ("" without groups), `group_from` ("race", "default" or ""); `reason`, why a row has
    no prediction ("" where it has one); and from `fev1_l` and `fvc_l` where `people` has them `fev1_pp`, `fvc_pp` (percent), `fev1_z`,
    `fvc_z`, `ratio_z` (NaN where not measured; the ratio is `fev1_fvc` if there is such a column).
    """
    chosen = reference_set(reference)
    reason = reason_without_prediction(people, chosen)
    sound = np.flatnonzero(reason == "")
    inputs = pd.DataFrame({"sex": column(people, "sex")[sound] == "M", "probe": PROBE}).astype({"sex": int})
    inputs["age"], inputs["height"] = numbers(people, "age")[sound], numbers(people, "height_cm")[sound]
    race = column(people, "race") if "race" in people else np.full(len(people), "")
    group = np.array([chosen.groups.get(word, chosen.default_group) for word in race], dtype=object)
    ethnicity = {}
    if chosen.groups:
        inputs["group"] = [chosen.equations.Ethnicity[name].value for name in group[sound]]
        ethnicity = {"ethnicity_col": "group"}

    equations = loaded(chosen.equations)
    found: dict[str, np.ndarray] = {}
    for name, parameter in MEASURES.items():
        unit = chosen.ratio_unit if name == "ratio" else 1.0
        y = observed(people, name)
        inputs["observed"] = np.where(y > 0, y, np.nan)[sound] * unit
        code = chosen.equations.Parameters[parameter]
        of_probe = equations.compute(inputs, code, value_col="probe", metrics=("percent",), **ethnicity)
        scores = equations.compute(inputs, code, value_col="observed", metrics=("lln", "zscore"), **ethnicity)
        found[f"{name}_pred"] = spread(100 * PROBE / numbers(of_probe, "percent") / unit, sound, len(people))
        found[f"{name}_lln"] = spread(numbers(scores, "lln") / unit, sound, len(people))
        if name != "ratio":
            found[f"{name}_pp"] = 100 * y / found[f"{name}_pred"]
        found[f"{name}_z"] = spread(numbers(scores, "zscore"), sound, len(people))

    reason[(reason == "") & np.isnan(found["fev1_pred"])] = "height_out_of_range"  # heights by group are the equations' own
    kinds = ("pred", "lln", "pp", "z")
    table = pd.DataFrame({key: found[key] for kind in kinds for name in MEASURES if (key := f"{name}_{kind}") in found}, index=people.index)
    table[reason != ""] = np.nan  # a ratio needs no height, yet a row has all of its predictions or none
    table["reference"] = reference
    table["reference_group"] = [name.lower() for name in group]
    table["group_from"] = ["race" if word in chosen.groups else "default" if chosen.groups else "" for word in race]
    table["reason"] = reason
    return table


@cache
def loaded(equations: type) -> Any:
    """The equations with their tables read."""
    return equations()


def reason_without_prediction(people: pd.DataFrame, chosen: ReferenceSet) -> np.ndarray:
    """What keeps a row from the equations, "" for nothing: they raise for the whole table on one bad sex, and believe metres."""
    age, height = numbers(people, "age"), numbers(people, "height_cm")
    checks = {
        "no_sex": ~np.isin(column(people, "sex"), ["M", "F"]),
        "no_age": np.isnan(age),
        "no_height": np.isnan(height),
        "age_out_of_range": ~((age >= chosen.ages[0]) & (age <= chosen.ages[1])),
        "height_not_credible": ~((height >= CREDIBLE_CM[0]) & (height <= CREDIBLE_CM[1])),
    }
    return np.select(list(checks.values()), list(checks), default="").astype(object)


def observed(people: pd.DataFrame, name: str) -> np.ndarray:
    """What was measured, NaN where it was not; FEV1/FVC from the volumes where the table has no ratio."""
    if name == "ratio" and "fev1_fvc" not in people:
        return observed(people, "fev1") / observed(people, "fvc")
    return numbers(people, OBSERVED[name]) if OBSERVED[name] in people else np.full(len(people), np.nan)


def column(people: pd.DataFrame, name: str) -> np.ndarray:
    return people[name].astype(object).to_numpy()


def numbers(people: pd.DataFrame, name: str) -> np.ndarray:
    """A column as floats. pyspiro marks a row out of range with `pandas.NA` in a column of objects: NaN."""
    return np.asarray(pd.to_numeric(people[name], errors="coerce"), dtype=float)


def spread(values: np.ndarray, rows: np.ndarray, length: int) -> np.ndarray:
    """`values` of some `rows` among `length`, NaN elsewhere."""
    whole = np.full(length, np.nan)
    whole[rows] = values
    return whole
