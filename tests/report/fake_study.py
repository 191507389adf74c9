"""Write the files of a study that was never run: believable enough to judge the page by eye.

python fake_study.py OUT          five methods, three seeds
python fake_study.py OUT --many   as many as configs/copd.yaml has, one seed
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from safetensors.numpy import save_file

from copdvae.metrics.bootstrap import mean_over_seeds, paired_difference, percentile_interval
from copdvae.metrics.neighbours import GOLD_SIX, kappa, knn_classification, knn_regression, mae, r2

REAL = ("fev1_pp", "emphysema_pct", "gas_trapping_pct")
CEILINGS = {"fev1_pp": 0.76, "emphysema_pct": 0.70, "gas_trapping_pct": 0.79, "gold": 0.48}
BASELINES = {"mean": 9, "age_sex_height": 3.5, "density_probe": 1.2, "densitometry": 0.8}
METHODS = {  # by label: method, readout, noise
    "pairwise": ("pairwise", "u", 0.55),
    "pairwise-insp": ("pairwise", "u", 1.0),
    "vae": ("vae", "ranked", 2.8),
    "beta_vae": ("beta_vae", "ranked", 1.9),
    "supervised": ("supervised", "direct", 0.5),
}
MANY = {
    "vae": ("vae", "ranked", 2.8), "beta_vae": ("beta_vae", "ranked", 1.9), "factor_vae": ("factor_vae", "ranked", 2.2),
    "beta_tcvae": ("beta_tcvae", "ranked", 2.4), "dsd": ("dsd", "u", 1.6), "dsd_strict": ("dsd", "u", 2.1),
    "pairwise": ("pairwise", "u", 0.55), "pairwise_binary": ("pairwise", "u", 0.8), "pairwise_u2": ("pairwise", "u", 0.6),
    "wela_vae": ("wela_vae", "all", 1.2), "wela_vae_strict": ("wela_vae", "all", 0.05),
    "ss_beta_vae": ("ss_beta_vae", "u", 0.7), "ss_factor_vae": ("ss_factor_vae", "u", 0.75), "ss_beta_tcvae": ("ss_beta_tcvae", "u", 0.7),
    "larvae_beta_vae": ("larvae", "u", 0.65), "larvae_factor_vae": ("larvae", "u", 0.7), "larvae_beta_tcvae": ("larvae", "u", 0.66),
    "parted_vae": ("parted_vae", "u", 1.1), "ml_vae": ("ml_vae", "u", 1.5), "gvae": ("gvae", "u", 1.4),
    "group_tcvae": ("group_tcvae", "u", 1.7),
    "ada_gvae": ("ada_gvae", "ranked", 2.0), "ada_ml_vae": ("ada_ml_vae", "ranked", 2.1), "supervised": ("supervised", "direct", 0.5),
}  # fmt: skip
MIG = {"pairwise": 0.31, "vae": 0.02, "beta_vae": 0.06}
LABELLED = ("ss_beta_vae", "ss_factor_vae", "ss_beta_tcvae", "larvae")  # their u is read as spirometry
HOSTILE = "<b>0042</b><script>alert(1)</script>"


def fake_study(
    out: Path, subjects: int = 600, seeds: int = 3, size: int = 48, bootstrap: int = 200, methods: Iterable[str] = tuple(METHODS)
) -> Path:
    """A whole study in `out`: pairwise works, one run has collapsed, one rejection was not expected, one id is hostile."""
    rng = np.random.default_rng(7)
    cohort, severity = fake_cohort(rng, subjects)
    out.mkdir(parents=True, exist_ok=True)
    cohort.reset_index().to_csv(out / "cohort.csv", index=False)
    write_rejected(out)
    write_quality(out)

    predicted: dict[str, dict[str, pd.DataFrame]] = {}
    for method, noise in BASELINES.items():
        predicted[method] = {"": predictions(rng, cohort, severity, noise)}
    for method in methods:
        base, readout, noise = (MANY | METHODS)[method]
        predicted[method] = {}
        for seed in range(seeds):
            u = severity + noise * rng.normal(size=subjects)
            predicted[method][str(seed)] = predictions(rng, cohort, u, 0.05)
            write_run(out, method, base, readout, seed, cohort, u, rng, size)
    write_scores(out, cohort, predicted, bootstrap)
    write_evaluation(out, cohort)
    return out


def fake_cohort(rng: np.random.Generator, n: int) -> tuple[pd.DataFrame, np.ndarray]:
    severity = rng.normal(size=n)
    fev1_pp = np.clip(78 - 19 * severity + 9 * rng.normal(size=n), 12, 130)
    ratio = np.clip(0.68 - 0.12 * severity + 0.05 * rng.normal(size=n), 0.25, 0.9)
    stage = np.select([fev1_pp >= 80, fev1_pp >= 50, fev1_pp >= 30], [1.0, 2.0, 3.0], 4.0)
    gold = np.where(ratio < 0.7, stage, np.where(fev1_pp >= 80, 0.0, -1.0))
    gold[rng.random(n) < 0.05] = -2
    part = rng.permutation(np.repeat(["train", "validation", "test"], [int(n * 0.42), int(n * 0.08), n - int(n * 0.42) - int(n * 0.08)]))
    cohort = pd.DataFrame(
        {
            "split": part,
            "age": (62 + 8 * rng.normal(size=n)).round(1),
            "sex": rng.choice(["F", "M"], n),
            "height_cm": (169 + 9 * rng.normal(size=n)).round(1),
            "pack_years": np.clip(38 + 18 * rng.normal(size=n), 0, None).round(1),
            "smoking_status": rng.choice(["former", "current"], n, p=[0.6, 0.4]),
            "gold": gold,
            "fev1_pp": fev1_pp.round(1),
            "fvc_pp": (fev1_pp * 0.6 + 36 + 5 * rng.normal(size=n)).round(1),
            "fev1_fvc": ratio.round(3),
            "emphysema_pct": np.exp(1.2 + 0.8 * severity + 0.5 * rng.normal(size=n)).clip(0, 60).round(2),
            "gas_trapping_pct": np.clip(24 + 13 * severity + 6 * rng.normal(size=n), 0.5, 85).round(2),
            "site": rng.choice(["A", "B", "C", "D"], n, p=[0.4, 0.3, 0.2, 0.1]),
            "kernel": rng.choice(["soft", "sharp"], n),
            "exp_over_insp_volume": (0.53 + 0.06 * rng.normal(size=n)).round(3),
            "insp_lung_volume_l": (5.4 + 0.9 * rng.normal(size=n)).round(2),
            "warnings": np.where(rng.random(n) < 0.01, "insp: the lungs touch the last slice", ""),
        },
        index=pd.Index([f"{i:04d}" for i in range(n - 1)] + [HOSTILE], name="subject_id"),
    )
    cohort.loc[cohort.index[:8], ["fev1_pp", "fvc_pp", "fev1_fvc", "gold"]] = np.nan
    cohort.loc[cohort.index[5:17], "pack_years"] = np.nan
    return cohort, severity


def write_rejected(out: Path) -> None:
    rows = [
        ("P0601", "fev1_above_fvc", "phenotypes.csv row 603: FEV1 3.41 l is above FVC 3.01 l; expected at most FVC", "yes"),
        ("P0602", "age_out_of_range", "phenotypes.csv row 604: age 212.0; expected 18 to 100 years", "yes"),
        ("P0603", "missing_slice", "insp: slices 20.00 mm apart between z = -112.0 and -92.0, others 10.00; is one missing?", "yes"),
        ("P0207", "exp_not_smaller", "the expiratory lungs hold 5.12 l, the inspiratory 4.96 l; expected less on expiration", "no"),
    ]
    pd.DataFrame(rows, columns=["subject_id", "reason", "detail", "expected"]).to_csv(out / "rejected.csv", index=False)


def write_quality(out: Path) -> None:
    """A few lines of what `qc` writes beside its page."""
    lines = [(f"{k:04d}", "kept", "lung_at_edge" if k < 3 else "") for k in range(8)]
    lines += [("P0603", "rejected", "missing_slice"), ("P0207", "left_out", "lung_at_edge")]
    pd.DataFrame(lines, columns=["subject_id", "state", "flags"]).to_csv(out / "qc.csv", index=False)


def predictions(rng: np.random.Generator, cohort: pd.DataFrame, code: np.ndarray, noise: float) -> pd.DataFrame:
    """5-NN of every target from a noisy code, for test subjects."""
    code = code + noise * rng.normal(size=len(code))
    train, test = (cohort["split"] == "train").to_numpy(), (cohort["split"] == "test").to_numpy()
    found = {target: knn_regression(code[train], cohort[target][train], code[test]) for target in REAL}
    found["gold"] = knn_classification(code[train], cohort["gold"][train], code[test], categories=GOLD_SIX)
    return pd.DataFrame(found, index=cohort.index[test])


def write_scores(out: Path, cohort: pd.DataFrame, predicted: dict, draws: int) -> None:
    scores, differences, long = [], [], []
    for target in (*REAL, "gold"):
        statistics = {"kappa": kappa} if target == "gold" else {"r2": r2, "mae": mae}
        truth = cohort.loc[cohort["split"] == "test", target]
        truth = truth.where(truth != -2) if target == "gold" else truth
        for metric, statistic in statistics.items():
            for method, by_seed in predicted.items():
                columns = pd.DataFrame({seed: table[target] for seed, table in by_seed.items()})
                note = "identity" if method == "densitometry" and target in REAL[1:] else ""
                base = {"method": method, "target": target, "metric": metric, "note": note}
                base["ceiling"] = CEILINGS[target] if metric in ("r2", "kappa") else None
                for seed in columns:
                    scores.append(base | {"seed": seed} | percentile_interval(statistic, truth, columns[seed], draws=draws)._asdict())
                if columns.shape[1] > 1:
                    scores.append(base | {"seed": "mean"} | mean_over_seeds(statistic, truth, columns.to_numpy(), draws=draws)._asdict())
                if method != "pairwise" and metric in ("r2", "kappa"):
                    ours = pd.DataFrame({seed: table[target] for seed, table in predicted["pairwise"].items()}).to_numpy()
                    gap = paired_difference(statistic, truth, ours, columns.to_numpy(), draws=draws)._asdict()
                    differences.append({"method": "pairwise", "other": method, "target": target, "metric": metric} | gap)
        for method, by_seed in predicted.items():
            for seed, table in by_seed.items():
                rows = {
                    "method": method,
                    "seed": seed,
                    "subject_id": truth.index,
                    "target": target,
                    "truth": truth,
                    "predicted": table[target],
                }
                long.append(pd.DataFrame(rows))
    for method, value in {name: value for name, value in MIG.items() if name in predicted}.items():
        for target in (*REAL, "gold"):
            row = {"method": method, "seed": "0", "target": target, "metric": "grouped_mig_adjusted", "value": value, "low": value - 0.04}
            scores.append(row | {"high": value + 0.04})
    scores += label_scores(cohort, [method for method in predicted if (MANY | METHODS).get(method, " ")[0] in (*LABELLED, "parted_vae")])
    columns = ["method", "seed", "target", "metric", "value", "low", "high", "ceiling", "n", "note"]
    pd.DataFrame(scores).reindex(columns=columns).to_csv(out / "scores.csv", index=False)
    pd.DataFrame(differences).to_csv(out / "differences.csv", index=False)
    pd.concat(long).dropna().to_csv(out / "predictions.csv", index=False)


def label_scores(cohort: pd.DataFrame, methods: list[str]) -> list[dict]:
    """Labels that methods read from a CT, and the training mean or the most frequent class beside them."""
    rows, n = [], int((cohort["split"] == "test").sum())
    for place, method in enumerate([*methods, "mean"] if methods else []):
        base = "mean" if method == "mean" else (MANY | METHODS)[method][0]
        common = {"method": method, "seed": "" if method == "mean" else "0", "n": n}
        for target, best in (("fev1_pp", 0.49), ("fev1_fvc", 0.46), ("fev1_pp+fev1_fvc", 0.74)):
            value = best * (1.7 if method == "mean" else 1 + 0.03 * place)
            entry = {"target": target, "metric": "label_l2", "value": value, "low": value - 0.05, "high": value + 0.05}
            rows += [common | entry | {"note": "in standard deviations of training subjects"}] if base in (*LABELLED, "mean") else []
        entry = {"target": "gold", "metric": "accuracy", "value": 0.47, "low": 0.41, "high": 0.53, "note": "classes -1, 0, 1, 2, 3, 4"}
        rows += [common | entry] if base == "parted_vae" else []
        rows += [common | entry | {"value": 0.31, "low": 0.26, "high": 0.37}] if base == "mean" and "parted_vae" in methods else []
    return rows


def write_evaluation(out: Path, cohort: pd.DataFrame) -> None:
    parts = {part: {target: int(group[target].notna().sum()) for target in (*REAL, "gold")} for part, group in cohort.groupby("split")}
    facts = {
        "study": "Synthetic study of 600",
        "config": "4be1f09a72c3",
        "version": "0.1.0",
        "n": parts,
        "settings": {"neighbours": 5, "draws": 2000, "seed": 0, "bins": 20},
        "ceilings": CEILINGS,
        "sources": {"emphysema_pct": "ct", "gas_trapping_pct": "ct"},
        "ct_minus_table": {"emphysema_pct": {"n": 600, "mean": -0.00012, "largest": 0.0051}},
        "rejected": {"expected": 3, "unexpected": 1},
        "reference": "gli2012",
        "notes": ["gender: 1 is male, 2 is female", "FEV1_utah: litres", "race 1 is taken as Caucasian, 2 as African American"],
        "phenotype_warnings": ["phenotypes.csv row 88: FEV1/FVC 0.62 and FEV1 over FVC 0.60 differ"],
        "warnings": ["Spirometry is before bronchodilation: GOLD categories are not diagnostic."],
    }
    (out / "evaluation.json").write_text(json.dumps(facts))


def write_run(
    out: Path, method: str, base: str, readout: str, seed: int, cohort: pd.DataFrame, u: np.ndarray, rng: np.random.Generator, size: int
) -> None:
    folder = out / "runs" / f"{method}-s{seed}-0a1b2c3d"
    folder.mkdir(parents=True, exist_ok=True)
    letters = {"u": "uvv", "ranked": "zzz", "all": "zzz", "direct": "ppp"}[readout]
    if base in LABELLED or method.endswith("u2"):
        letters = "uuv"
    n, names = len(cohort), [f"{letter}_{letters[:place].count(letter)}" for place, letter in enumerate(letters)]
    latents = pd.DataFrame(np.column_stack([u / np.std(u), rng.normal(size=(n, 2))]), columns=names)
    latents[[f"{name}_std" for name in names]] = 0.2
    latents.insert(0, "subject_id", cohort.index)
    latents.insert(1, "split", cohort["split"].to_numpy())
    latents.to_parquet(folder / "latents.parquet", index=False)

    collapse = "u stays at the prior: its KL is 0.004 nats a subject" if (method, seed) == ("pairwise-insp", 2) else None
    pairs, grad_pair = (2868, {"grad_pair": 655.1}) if readout == "u" else (None, {})
    told = "nothing" if readout == "ranked" and not base.startswith("ada") else "similarities, classes or labels"
    facts = {
        "study": "Synthetic study of 600", "method": base, "label": method, "seed": seed, "readout": readout,
        "told": told, "leaks": "its encoder is given the labels" if method == "wela_vae_strict" else "",
        "u": 1, "latents": 3, "parameters": 1_482_133, "pairs": pairs, "seconds": 171.3, "data_share": 0.013, "device": "cpu",
        "version": "0.1.0", "config": "9f3e21ab77c0", "collapse": collapse, "best": {"step": 1800, "score": 0.6},
        "last_log": {"grad_rec": 812.4, "grad_kl_u": 1.73, **grad_pair},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "config.yaml").write_text(yaml.safe_dump({"seed": seed, "network": {"u": 1, "v": 15}, "method": {"method": base}}))

    step = np.arange(0, 2000, 50)
    log = pd.DataFrame({"step": step})
    for term, start, end in (("loss", 9000, 5200), ("rec", 8700, 5100), ("rec_lung", 4100, 2300), ("kl_u", 0, 2.4), ("kl_v", 1, 31)):
        log[term] = end + (start - end) * np.exp(-step / 350) * (1 + 0.05 * rng.normal(size=len(step)))
        log[f"validation_{term}"] = np.where(step % 100 == 0, log[term] * 1.03, np.nan)
    if readout == "u":
        log["pair_loss"] = 0.2 + 0.5 * np.exp(-step / 400) + 0.02 * rng.normal(size=len(step))
        log["validation_pair_loss"] = np.where(step % 100 == 0, log["pair_loss"] + 0.04, np.nan)
    log.to_csv(folder / "log.csv", index=False)

    if readout == "direct":
        save_file({}, folder / "pictures.safetensors", metadata={"none": "this method trains no decoder"})
    else:
        channels = 1 if method.endswith("insp") else 2
        steps = np.linspace(-2, 2, 7)
        strength = 1.0 if readout == "u" else 0.25
        given = np.stack(
            [
                chest(size, channels, severity, body, noise=0.05)
                for severity, body in zip([0.1, 0.4, 0.9, 0.6, 0.2, 0.8], [1, 0.9, 1.05, 0.95, 1.1, 1.0], strict=True)
            ]
        )
        save_file(
            {
                "traversal": np.stack([chest(size, channels, 0.5 + 0.25 * strength * step, 1.0) for step in steps]),
                "traversal_u": steps.astype(np.float32),
                "input": given,
                "reconstruction": np.stack([blurred(image) for image in given]),
            },
            folder / "pictures.safetensors",
            metadata={"latent": names[0], "channels": "+".join(("insp", "exp")[:channels])},
        )  # fmt: skip


def chest(size: int, channels: int, severity: float, body: float, noise: float = 0.0) -> np.ndarray:
    """Two lungs on white with dark holes, more of them at the top and with severity: (channels, z, y, x) in [0, 1]."""
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, size)] * 3, indexing="ij")
    rng = np.random.default_rng(1)
    holes = blurred(rng.normal(size=(1, size, size, size)), 4)[0]
    holes /= holes.std()
    vessels = np.clip(blurred(rng.normal(size=(1, size, size, size)), 1)[0] - 0.35, 0, None)
    image = np.ones((channels, size, size, size), np.float32)
    for side in (-0.45, 0.45):
        lung = ((x - side) / 0.36 / body) ** 2 + (y / 0.62 / body) ** 2 + ((z - 0.05) / 0.85) ** 2 < 1 - 0.25 * (z < -0.3)
        lung &= (x / 0.3) ** 2 + ((y + 0.2) / 0.4) ** 2 + ((z + 0.35) / 0.5) ** 2 > 1  # the heart
        for channel in range(channels):
            density = 0.22 + 0.22 * channel + 0.06 * y + 2.5 * vessels
            deep = np.clip(holes - 1.4 + 2.0 * severity + 0.5 * z, 0, 1) * severity
            image[channel] = np.where(lung, density - (0.16 + 0.2 * channel) * deep, image[channel])
    return np.clip(image + noise * np.random.default_rng(2).normal(size=image.shape), 0, 1).astype(np.float32)


def blurred(image: np.ndarray, times: int = 1) -> np.ndarray:
    for _ in range(times):
        for axis in (-3, -2, -1):
            image = (np.roll(image, 1, axis) + 2 * image + np.roll(image, -1, axis)) / 4
    return image.astype(np.float32)


if __name__ == "__main__":
    from copdvae.report import report

    many = {"methods": tuple(MANY), "seeds": 1} if "--many" in sys.argv else {}
    print(report(fake_study(Path(sys.argv[1]), **many)))
