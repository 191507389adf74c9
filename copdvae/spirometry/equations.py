"""Predicted spirometry from three published reference sets, evaluated by pyspiro.

    gli2012     GLI-2012, Quanjer et al. 2012, doi 10.1183/09031936.00080312.  3 to 95 years, five groups.
    gli-global  GLI Global 2022, Bowerman et al. 2023, doi 10.1164/rccm.202205-0963OC.  3 to 95 years, no groups.
    nhanes3     NHANES III, Hankinson et al. 1999, doi 10.1164/ajrccm.159.1.9712108.  8 to 80 years, three groups, heights by group.

GLI: z = ((y/M)^L - 1) / (L S), LLN = M (1 - 1.645 L S)^(1/L).  NHANES III: z = 1.645 (y - M) / (M - LLN).
"""

from dataclasses import dataclass

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
    no prediction ("" where it has one). Where `people` has `fev1_l` or `fvc_l`: `fev1_pp`, `fvc_pp` (percent), `fev1_z`, `fvc_z`;
    `ratio_z` from `fev1_fvc`, or from both volumes.
    """
    chosen = reference_set(reference)
    rows = people.index
    people = people.reset_index(drop=True)
    if "fev1_fvc" not in people and {"fev1_l", "fvc_l"} <= set(people):
        people["fev1_fvc"] = people["fev1_l"] / people["fvc_l"]

    race = people["race"] if "race" in people else pd.Series("", index=people.index)
    group = race.map(chosen.groups)
    found = pd.DataFrame(index=people.index)
    reason = reason_without_prediction(people, chosen)
    sound = people[reason == ""]
    inputs = pd.DataFrame(
        {
            "sex": (sound["sex"] == "M").astype(int),
            "age": sound["age"].astype(float),
            "height": sound["height_cm"].astype(float),
            "probe": PROBE,
        }
    )
    if chosen.groups:
        inputs["group"] = [chosen.equations.Ethnicity[name].value for name in group[sound.index].fillna(chosen.default_group)]

    equations = chosen.equations()
    for name, parameter in MEASURES.items():
        unit = chosen.ratio_unit if name == "ratio" else 1.0
        observed = OBSERVED[name] in people
        inputs["observed"] = sound[OBSERVED[name]].astype(float).where(lambda y: y > 0) * unit if observed else np.nan
        columns = {"ethnicity_col": "group"} if chosen.groups else {}
        code = chosen.equations.Parameters[parameter]
        median = numbers(equations.compute(inputs, code, value_col="probe", metrics=("percent",), **columns)["percent"])
        scores = equations.compute(inputs, code, value_col="observed", metrics=("lln", "zscore"), **columns)
        found[f"{name}_pred"] = 100 * PROBE / median / unit
        found[f"{name}_lln"] = numbers(scores["lln"]) / unit
        if observed and name != "ratio":
            found[f"{name}_pp"] = 100 * people[OBSERVED[name]] / found[f"{name}_pred"]
        if observed:
            found[f"{name}_z"] = numbers(scores["zscore"])

    reason[(reason == "") & found["fev1_pred"].isna()] = "height_out_of_range"  # heights by group are the equations' own
    found[reason != ""] = np.nan
    found["reference"] = reference
    found["reference_group"] = group.fillna(chosen.default_group).str.lower() if chosen.groups else ""
    found["group_from"] = np.where(group.isna(), "default", "race") if chosen.groups else ""
    found["reason"] = reason
    order = [f"{name}_{kind}" for kind in ("pred", "lln", "pp", "z") for name in MEASURES]
    found = found[[column for column in order if column in found] + ["reference", "reference_group", "group_from", "reason"]]
    return found.set_index(rows)


def reason_without_prediction(people: pd.DataFrame, chosen: ReferenceSet) -> pd.Series:
    """What keeps a row from the equations, "" for nothing: they raise for the whole table on one bad sex, and believe metres."""
    age, height = people["age"].astype(float), people["height_cm"].astype(float)
    checks = {
        "no_sex": ~people["sex"].isin(["M", "F"]),
        "no_age": age.isna(),
        "no_height": height.isna(),
        "age_out_of_range": ~age.between(*chosen.ages),
        "height_not_credible": ~height.between(*CREDIBLE_CM),
    }
    return pd.Series(np.select(list(checks.values()), list(checks), default=""), index=people.index, dtype=object)


def numbers(values: pd.Series) -> pd.Series:
    """pyspiro marks a row out of range with `pandas.NA` in a column of objects: floats with NaN."""
    return pd.to_numeric(values, errors="coerce").astype(float)
