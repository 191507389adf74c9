"""Training throughput against a bare loop: the same network and objective, and batches that lie in memory already.

    python tests/benchmarks/training_speed.py        prints, and writes docs/benchmarks/training.json

Ours gathers, augments and scales every batch, logs and measures; the bare loop goes forward, backward and steps. Medians of 7 alternating
rounds in one process; the ratio is what counts, since machines are shared.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch

import copdvae
from copdvae.batches import Batches, Prefetch
from copdvae.dataset import AugmentConfig, InputConfig, Subjects
from copdvae.loop import Every, train
from copdvae.networks import VAE, NetworkConfig
from copdvae.objectives.pairwise import PairwiseConfig
from copdvae.supervision.pairs import label_pairs
from copdvae.supervision.similarity import SimilarityConfig, fit_similarity

ROUNDS, STEPS, BATCH, SUBJECTS = 7, 20, 16, 120


def made_up(size: int) -> tuple[Subjects, Batches]:
    rng = np.random.default_rng(0)
    shape = (SUBJECTS, 2, size, size, size)
    image = rng.integers(-1000, 0, shape, dtype=np.int16)
    subjects = Subjects(np.array([f"S{k}" for k in range(SUBJECTS)]), image, image < -400, np.ones((SUBJECTS, 2), bool), InputConfig())
    measures, config = rng.normal(size=(SUBJECTS, 2)), SimilarityConfig()
    pairs = label_pairs(measures, fit_similarity(measures, config), 0.5, rng)
    return subjects, Batches(subjects, np.arange(SUBJECTS), BATCH, 0, "pair", AugmentConfig(), pairs)


def ours(batches: Batches, size: int, start: int) -> tuple[float, float]:
    """Seconds a step of the loop as it is used, and the share of them spent waiting for data."""
    net = VAE(NetworkConfig(), 2, (size,) * 3)
    objective = PairwiseConfig().build(net, 4)
    prefetched = Prefetch(lambda step: batches(start + step))
    began = time.perf_counter()
    times = train(
        net, objective, prefetched, lr=1e-3, steps=STEPS, seed=0, every=Every(50, 10**9), log=lambda *_: None, save=lambda *_: None
    )  # fmt: skip
    seconds = (time.perf_counter() - began) / STEPS
    prefetched.close()
    return seconds, times["data_share"]


def bare(batches: Batches, size: int, start: int) -> float:
    """Seconds a step with the batches made beforehand, and nothing but forward, backward and step."""
    net = VAE(NetworkConfig(), 2, (size,) * 3)
    objective = PairwiseConfig().build(net, 4)
    ready = [batches(start + step) for step in range(STEPS)]
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    net.train()
    began = time.perf_counter()
    for step, batch in enumerate(ready):
        objective(net, batch, step).by_player["model"].backward()
        optimizer.step()
        optimizer.zero_grad()
    return (time.perf_counter() - began) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/training.json"))
    options = parser.parse_args()
    _, batches = made_up(options.size)
    rounds = [(ours(batches, options.size, STEPS * k), bare(batches, options.size, STEPS * k)) for k in range(ROUNDS + 1)][1:]
    our, plain = statistics.median(r[0][0] for r in rounds), statistics.median(r[1] for r in rounds)
    result = {
        "what": "seconds a training step, ours against a bare loop, medians of alternating rounds",
        "ours_s": round(our, 4), "bare_s": round(plain, 4),
        "throughput_ratio": round(statistics.median(bare_s / our_s for (our_s, _), bare_s in rounds), 3),
        "data_share": round(statistics.median(r[0][1] for r in rounds), 4),
        "settings": {"rounds": ROUNDS, "steps": STEPS, "batch": BATCH, "grid": options.size, "threads": torch.get_num_threads()},
        "versions": {"copdvae": copdvae.__version__, "torch": torch.__version__, "python": platform.python_version()},
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
