"""The most that any method could score on a synthetic study, and the least that it must beat.

FEV1 % predicted and GOLD: 5-NN on the true severity, as severity is all that spirometry and CT share. Emphysema % and gas trapping %
are functions of the image, which severity does not bound: 5-NN on the best one-dimensional function of all true factors,
fitted on training subjects alone. The probe is what density alone gives away: least squares on the two scans' mean lung densities.

    python -m copdvae.metrics.ceilings STUDY    prints both for a study that `copdvae phantom` wrote
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import cohen_kappa_score, r2_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

NEIGHBOURS = 5
SPIROMETRY = ("fev1_pp",)
DENSITOMETRY = ("emphysema_pct", "gas_trapping_pct")
COPDGENE = {"FEV1pp_utah": "fev1_pp", "pctEmph_Thirona": "emphysema_pct", "pctGasTrap_Thirona": "gas_trapping_pct", "finalGold": "gold"}
NEVER_SMOKED = -2  # GOLD's code here: left out of the six categories


def ceilings(truth: pd.DataFrame, targets: pd.DataFrame, train_ids, test_ids) -> dict[str, float]:
    """By target: R2 (`fev1_pp`, `emphysema_pct`, `gas_trapping_pct`) or kappa over six categories (`gold`), on `test_ids`.

    `truth` (as `copdvae phantom` writes it) and `targets` are indexed by subject; a subject without a target is left out of that one.
    """
    train, test = list(train_ids), list(test_ids)
    out = {}
    for name in (*SPIROMETRY, *DENSITOMETRY, "gold"):
        if name not in targets:
            continue
        column = np.asarray(targets[name], dtype=float)
        wanted = np.isfinite(column) & ((column != NEVER_SMOKED) | (name != "gold"))
        values = {subject: value for subject, value, ok in zip(targets.index, column, wanted, strict=True) if ok}
        rows = [[i for i in ids if i in values] for ids in (train, test)]
        known, asked = (np.array([values[i] for i in ids]) for ids in rows)
        if name in DENSITOMETRY:
            codes = [best_function(truth, rows[0], known, ids) for ids in rows]
        else:
            codes = [truth.loc[ids, ["severity"]].to_numpy(dtype=float) for ids in rows]
        if name == "gold":
            found = KNeighborsClassifier(NEIGHBOURS).fit(codes[0], known.astype(int)).predict(codes[1])
            out[name] = float(cohen_kappa_score(asked.astype(int), found))
        else:
            out[name] = float(r2_score(asked, KNeighborsRegressor(NEIGHBOURS).fit(codes[0], known).predict(codes[1])))
    return out


def best_function(truth: pd.DataFrame, train_ids: list[str], values: np.ndarray, ids: list[str]) -> np.ndarray:
    """A one-dimensional function of every true factor that follows `values`, from boosted trees fitted on training subjects: (N, 1).

    Training subjects get theirs from five-fold cross-fitting: 5-NN would believe a code that has seen its own value.
    """
    factors = pd.get_dummies(truth).astype(float)
    model = HistGradientBoostingRegressor(max_iter=150, learning_rate=0.06, max_leaf_nodes=8, min_samples_leaf=10, random_state=0)
    if ids == train_ids:
        folds = KFold(5, shuffle=True, random_state=0)
        return np.asarray(cross_val_predict(model, factors.loc[ids], values, cv=folds)).reshape(-1, 1)
    return model.fit(factors.loc[train_ids], values).predict(factors.loc[ids])[:, None]


def density_probe(train_means, train_target, test_means, test_target) -> float:
    """R2 on test subjects of least squares on mean lung densities: (N, 1 or 2) HU, insp and exp, to (N,)."""
    model = LinearRegression().fit(np.asarray(train_means, dtype=float), np.asarray(train_target, dtype=float))
    return float(r2_score(np.asarray(test_target, dtype=float), model.predict(np.asarray(test_means, dtype=float))))


def study_ceilings(folder: Path) -> dict[str, Any]:
    """Ceilings and probe of a study that `copdvae phantom` wrote: its first half trains, its second half is held out."""
    table = pd.read_csv(folder / "phenotypes.csv", index_col="sid")
    planted = pd.read_csv(folder / "planted.csv")["subject_id"]
    densities, truth = (pd.read_csv(folder / name, index_col="subject_id") for name in ("densitometry.csv", "truth.csv"))
    good = [subject for subject in table.index if subject not in set(planted)]
    train, test = good[: len(good) // 2], good[len(good) // 2 :]
    targets = pd.DataFrame({name: table[column] for column, name in COPDGENE.items()})
    probed = [[i for i in ids if np.isfinite(targets.at[i, "fev1_pp"])] for ids in (train, test)]
    (train_means, train_fev1), (test_means, test_fev1) = (
        (densities.loc[ids, ["insp_mean_lung_hu", "exp_mean_lung_hu"]], targets.loc[ids, "fev1_pp"]) for ids in probed
    )
    return {
        "ceilings": {name: round(value, 3) for name, value in ceilings(truth, targets, train, test).items()},
        "density_probe_fev1_pp": round(density_probe(train_means, train_fev1, test_means, test_fev1), 3),
        "train": len(train),
        "held_out": len(test),
        "study": json.loads((folder / "phantom.json").read_text(encoding="utf-8")),
    }


if __name__ == "__main__":
    print(json.dumps(study_ceilings(Path(sys.argv[1])), indent=2))
