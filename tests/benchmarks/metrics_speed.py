"""Metrics against the versions that disentanglement_lib describes, in numpy and scikit-learn, on the same data and one index table.

    python tests/benchmarks/metrics_speed.py        prints, and writes docs/benchmarks/metrics.json

10,000 codes of 10 latents and 5 factors (and 5,000 that DCI's trees are tested on). The described versions below are
written from their description, a loop for each "for every"; both sides must agree
to 1e-9. Seconds are CPU seconds (machines are shared), of rounds in which the two sides alternate.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import scipy
import sklearn
from scipy.stats import entropy
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import mutual_info_score

import copdvae
from copdvae.files import write_json
from copdvae.metrics.dci import dci
from copdvae.metrics.factor_score import Votes, factor_score, votes_of
from copdvae.metrics.mig import mig

IMAGES, TEST_IMAGES, LATENTS, SIZES = 10_000, 5_000, 10, (10, 10, 8, 4, 15)  # values a factor
TRAIN_VOTES, TEST_VOTES, BATCH = 10_000, 5_000, 64
SEED, TOLERANCE = 0, 1e-9


def made_up(images: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes of which each of the first five tells a factor through noise, one of them two, and two more latents mix some; factors."""
    rng = np.random.default_rng(SEED)
    factors = np.stack([rng.integers(size, size=images) for size in SIZES], axis=1)
    scaled = factors / (np.array(SIZES) - 1)
    z = np.hstack([scaled + 0.3 * rng.normal(size=scaled.shape), rng.normal(size=(images, LATENTS - len(SIZES)))])
    z[:, 0] += scaled[:, 1]
    z[:, 5] += scaled[:, 0]
    z[:, 6] += 2 * scaled[:, 1] * scaled[:, 2]
    return z, factors


def described_mig(z: np.ndarray, factors: np.ndarray) -> float:
    """Cut each latent into 20 bins by its histogram, take the information of every latent and factor, then the gap of the best two."""
    codes = [np.digitize(column, np.histogram(column, 20)[1][:-1]) for column in z.T]
    told = np.zeros((z.shape[1], factors.shape[1]))
    for d in range(told.shape[0]):
        for k in range(told.shape[1]):
            told[d, k] = mutual_info_score(factors[:, k], codes[d])
    told = np.sort(told, axis=0)[::-1]
    entropies = [mutual_info_score(factor, factor) for factor in factors.T]
    return float(np.mean((told[0] - told[1]) / entropies))


def described_factor_score(z: np.ndarray, factors: np.ndarray, drawn: tuple[np.ndarray, np.ndarray, np.ndarray]) -> float:
    """For every vote scan the factor for the images that share the value, draw from them, compare variances."""
    variance = np.var(z, axis=0, ddof=1)
    active = np.sqrt(variance) >= 0.05
    told = np.zeros((2, z.shape[1], factors.shape[1]), dtype=int)
    for vote, (factor, like, place) in enumerate(zip(*drawn, strict=True)):
        same = np.where(factors[:, factor] == factors[like, factor])[0]
        local = np.var(z[same[(place * len(same)).astype(int)]], axis=0, ddof=1)
        told[int(vote >= TRAIN_VOTES), np.argmin(np.where(active, local / variance, np.inf)), factor] += 1
    rule = np.argmax(told[0], axis=1)
    return float(told[1][np.arange(len(rule)), rule].sum() / told[1].sum())


def our_factor_score(z: np.ndarray, factors: np.ndarray, drawn: tuple[np.ndarray, np.ndarray, np.ndarray]) -> float:
    votes = votes_of(factors, *drawn)
    train, test = (Votes(votes.factor[part], votes.row[part]) for part in (slice(TRAIN_VOTES), slice(TRAIN_VOTES, None)))
    return factor_score(z, train, test)


def described_dci(z: np.ndarray, factors: np.ndarray, test_z: np.ndarray, test_factors: np.ndarray) -> tuple[float, float, float, float]:
    """Trees for every factor; entropies of their importances."""
    importance = np.zeros((z.shape[1], factors.shape[1]))
    train, test = [], []
    for k in range(factors.shape[1]):
        model = GradientBoostingClassifier(random_state=SEED).fit(z, factors[:, k])
        importance[:, k] = np.abs(model.feature_importances_)
        train.append(np.mean(model.predict(z) == factors[:, k]))
        test.append(np.mean(model.predict(test_z) == test_factors[:, k]))
    latent, factor = (importance.sum(axis=axis) / importance.sum() for axis in (1, 0))
    by_latent = 1 - entropy(importance.T, base=importance.shape[1])
    by_factor = 1 - entropy(importance, base=importance.shape[0])
    return float(by_latent @ latent), float(by_factor @ factor), float(np.mean(test)), float(np.mean(train))


def compare(name: str, ours: Callable, described: Callable, rounds: int) -> dict[str, object]:
    """Both sides' scores and CPU seconds, alternating; the ratio is the median over rounds. One round first to warm up."""
    times: list[tuple[float, float]] = []
    scores = [ours(), described()] if rounds > 1 else []
    for _ in range(rounds):
        began = time.process_time()
        our = ours()
        middle = time.process_time()
        their = described()
        times.append((middle - began, time.process_time() - middle))
        scores = [our, their]
    difference = float(np.max(np.abs(np.subtract(*scores))))
    if difference > TOLERANCE:
        raise SystemExit(f"{name}: ours and the described version differ by {difference}")
    return {
        "ours": scores[0], "described": scores[1], "difference": difference,
        "ours_cpu_s": round(statistics.median(t[0] for t in times), 4), "described_cpu_s": round(statistics.median(t[1] for t in times), 4),
        "times_as_fast": round(statistics.median(t[1] / t[0] for t in times), 1),
        "slowest_round": round(min(t[1] / t[0] for t in times), 1), "rounds": rounds,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/metrics.json"))
    options = parser.parse_args()
    z, factors = made_up(IMAGES + TEST_IMAGES)
    (z, test_z), (factors, test_factors) = np.split(z, [IMAGES]), np.split(factors, [IMAGES])
    rng, votes = np.random.default_rng(SEED), TRAIN_VOTES + TEST_VOTES
    drawn = rng.integers(factors.shape[1], size=votes), rng.integers(IMAGES, size=votes), rng.random((votes, BATCH))
    result = {
        "what": "CPU seconds of a metric, ours against the version that disentanglement_lib describes, alternating rounds, equal to 1e-9",
        "mig": compare("mig", lambda: mig(z, factors), lambda: described_mig(z, factors), options.rounds),
        "factor_score": compare(
            "factor_score", lambda: our_factor_score(z, factors, drawn), lambda: described_factor_score(z, factors, drawn), options.rounds
        ),
        "dci": compare(
            "dci", lambda: dci(z, factors, test_z, test_factors, SEED)[:4], lambda: described_dci(z, factors, test_z, test_factors), 1
        ),
        "settings": {
            "images": IMAGES, "test_images": TEST_IMAGES,
            "latents": LATENTS, "values_a_factor": SIZES, "votes": [TRAIN_VOTES, TEST_VOTES], "images_a_vote": BATCH,
            "seed": SEED, "threads": os.environ["OMP_NUM_THREADS"],
        },
        "versions": {
            "copdvae": copdvae.__version__, "numpy": np.__version__, "scipy": scipy.__version__, "scikit-learn": sklearn.__version__,
            "python": platform.python_version(),
        },
    }  # fmt: skip
    write_json(options.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
