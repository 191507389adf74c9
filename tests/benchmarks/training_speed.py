"""Training throughput against a bare loop: the same network and objective, and batches that lie in memory already.

    python tests/benchmarks/training_speed.py                                 prints, and writes docs/benchmarks/training.json
    python tests/benchmarks/training_speed.py --device cuda --steps 200       ... training_cuda_32.json

Ours gathers, augments and scales every batch, logs and measures; the bare loop goes forward, backward and steps. Medians of 7 alternating
rounds in one process; the ratio is what counts, since machines are shared.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from machine import machine

from copdvae.batches import Batches, Prefetch
from copdvae.dataset import AugmentConfig, InputConfig, Subjects
from copdvae.loop import Every, train
from copdvae.networks import VAE, NetworkConfig
from copdvae.objectives.pairwise import PairwiseConfig
from copdvae.supervision.pairs import label_pairs
from copdvae.supervision.similarity import SimilarityConfig, fit_similarity
from copdvae.train import use_bf16

ROUNDS, BATCH, SUBJECTS = 7, 16, 120


def made_up(size: int) -> tuple[Subjects, Batches]:
    rng = np.random.default_rng(0)
    shape = (SUBJECTS, 2, size, size, size)
    image = rng.integers(-1000, 0, shape, dtype=np.int16)
    subjects = Subjects(np.array([f"S{k}" for k in range(SUBJECTS)]), image, image < -400, np.ones((SUBJECTS, 2), bool), InputConfig())
    measures, config = rng.normal(size=(SUBJECTS, 2)), SimilarityConfig()
    pairs = label_pairs(measures, fit_similarity(measures, config), 0.5, rng)
    return subjects, Batches(subjects, np.arange(SUBJECTS), BATCH, 0, "pair", AugmentConfig(), pairs)


def wait_for(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def ours(batches: Batches, size: int, start: int, steps: int, device: str, threads: int) -> tuple[float, float]:
    """Seconds a step of the loop as it is used, and the share of them spent waiting for data."""
    net = VAE(NetworkConfig(), 2, (size,) * 3).to(device)
    objective = PairwiseConfig().build(net, 4)
    prefetched = Prefetch(lambda step: batches(start + step), pin=device.startswith("cuda"), threads=threads)
    wait_for(device)
    began = time.perf_counter()
    times = train(
        net, objective, prefetched, lr=1e-3, steps=steps, seed=0, every=Every(50, 100), log=lambda *_: None, save=lambda *_: None,
        device=device, bf16=use_bf16("auto", device),
    )  # fmt: skip
    wait_for(device)
    seconds = (time.perf_counter() - began) / steps
    prefetched.close()
    return seconds, times["data_share"]


def bare(batches: Batches, size: int, start: int, steps: int, device: str) -> float:
    """Seconds a step with the batches made beforehand, and nothing but forward, backward and step."""
    net = VAE(NetworkConfig(), 2, (size,) * 3).to(device)
    objective = PairwiseConfig().build(net, 4)
    ready = [batches(start + step).to(device) for step in range(steps)]
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    net.train()
    wait_for(device)
    began = time.perf_counter()
    for step, batch in enumerate(ready):
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=use_bf16("auto", device)):
            loss = objective(net, batch, step).by_player["model"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    wait_for(device)
    return (time.perf_counter() - began) / steps


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prefetch", type=int, default=1, help="threads that make batches")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    size, steps, device = options.size, options.steps, options.device
    before, (_, batches) = machine(), made_up(size)
    rounds = []
    for start in range(0, (ROUNDS + 1) * steps, steps):
        rounds.append((ours(batches, size, start, steps, device, options.prefetch), bare(batches, size, start, steps, device)))
    rounds = rounds[1:]  # the first warms up
    our, plain = statistics.median(r[0][0] for r in rounds), statistics.median(r[1] for r in rounds)
    result = {
        "what": "seconds a training step, ours against a bare loop, medians of alternating rounds",
        "ours_s": round(our, 4), "bare_s": round(plain, 4),
        "throughput_ratio": round(statistics.median(bare_s / our_s for (our_s, _), bare_s in rounds), 3),
        "data_share": round(statistics.median(r[0][1] for r in rounds), 4),
        "settings": {
            "rounds": ROUNDS, "steps": steps, "batch": BATCH, "grid": size, "threads": torch.get_num_threads(), "device": device,
            "bf16": use_bf16("auto", device), "prefetch": options.prefetch, "seed": 0,
        },
        "each": [{"ours_s": round(ours_s, 4), "bare_s": round(bare_s, 4), "data_share": round(s, 4)} for (ours_s, s), bare_s in rounds],
        "machine": before,
    }  # fmt: skip
    out = options.out or Path("docs/benchmarks") / ("training.json" if device == "cpu" else f"training_{device}_{size}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
