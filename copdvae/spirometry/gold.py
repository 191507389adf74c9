"""GOLD stage from post-bronchodilator FEV1/FVC and FEV1 % predicted.

    FEV1/FVC < 0.70 (strict, unrounded):  FEV1 >= 80 %: 1,  50 to 80: 2,  30 to 50: 3,  < 30: 4
    FEV1/FVC >= 0.70:                     FEV1 >= 80 %: 0,  < 80: -1 (PRISm: preserved ratio, impaired spirometry)

A never-smoker with normal spirometry is -2 (COPDGene's own category), which only a smoking history can say.
The rule is for adults: there is no stage under 18.
"""

import numpy as np
from numpy.typing import ArrayLike

OBSTRUCTED_BELOW = 0.70  # FEV1/FVC
CUTS_PP = (30.0, 50.0, 80.0)  # FEV1 % predicted; a value on a cut is in the milder stage
ADULT_FROM = 18.0  # years
ROUNDING = 1e-9  # relative: 2.268 / 3.24 is 0.7, and a hair less in floating point
NEVER_SMOKED, PRISM = -2, -1
STAGES = (NEVER_SMOKED, PRISM, 0, 1, 2, 3, 4)


def gold_stage(fev1_fvc: ArrayLike, fev1_pp: ArrayLike, never_smoked: ArrayLike | None = None, age: ArrayLike | None = None) -> np.ndarray:
    """Stage of each person, float, NaN where it is unknown: see `gold_reason`. `never_smoked` is true only where that is known."""
    ratio, percent = (np.asarray(value, dtype=float) * (1 + ROUNDING) for value in (fev1_fvc, fev1_pp))
    obstructed = 4.0 - np.searchsorted(CUTS_PP, percent, side="right")  # 1 to 4
    preserved = np.where(percent >= CUTS_PP[-1], 0.0, PRISM)
    stage = np.where(ratio < OBSTRUCTED_BELOW, obstructed, preserved)
    if never_smoked is not None:
        stage = np.where((stage == 0) & np.asarray(never_smoked, dtype=bool), NEVER_SMOKED, stage)
    return np.where(gold_reason(ratio, percent, age) == "", stage, np.nan)


def gold_reason(fev1_fvc: ArrayLike, fev1_pp: ArrayLike, age: ArrayLike | None = None) -> np.ndarray:
    """Why there is no stage: "under_18", "no_ratio", "no_fev1_pp", or "" where there is one. An unknown age is taken as adult."""
    ratio, percent = np.asarray(fev1_fvc, dtype=float), np.asarray(fev1_pp, dtype=float)
    young = np.zeros(ratio.shape, dtype=bool) if age is None else np.asarray(age, dtype=float) < ADULT_FROM
    return np.select([young, np.isnan(ratio), np.isnan(percent)], ["under_18", "no_ratio", "no_fev1_pp"], default="")
