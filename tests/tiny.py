"""Made-up subjects, batches and runs, small enough to train on in a second."""

from typing import Any, get_args

import numpy as np
import pandas as pd
import torch

from copdvae.batches import AugmentConfig
from copdvae.dataset import InputConfig, Subjects
from copdvae.networks import VAE, NetworkConfig
from copdvae.objectives import Batch, Method, MethodConfig, Pairs
from copdvae.train import GOLD_CLASSES, Cohort, RunConfig, TrainConfig, build

METHODS = get_args(get_args(Method)[0])  # the configuration of every method in the union: a new one is tested without a change here
NAMES = [kind.model_fields["method"].default for kind in METHODS]
NETWORK = NetworkConfig(widths=(4, 8), hidden=16, u=1, v=9)
STILL = AugmentConfig(flip=False, shift=0, offset_hu=0)
TARGETS = ("fev1_pp", "emphysema_pct", "gas_trapping_pct", "gold")


def made_subjects(
    count: int = 30,
    size: tuple[int, ...] = (8, 8, 8),
    channels: int = 2,
    seed: int = 0,
    severity: np.ndarray | None = None,
    nuisance: float = 0.0,
    **settings: Any,
) -> Subjects:
    """Noise in HU inside a box of lung; `severity` (N,), if given, darkens the lungs' upper quarter and lights the lower one.

    `nuisance` does that too, by chance, `nuisance` times as strongly, and darkens one side: only both together tell the two apart.
    """
    rng = np.random.default_rng(seed)
    names = ("insp", "exp")[:channels]
    image = rng.normal(-700, 60, (count, channels, *size))
    if severity is not None:
        pattern = np.zeros(size)
        pattern[: size[0] // 4], pattern[-(size[0] // 4) :] = -1, 1
        image += 150 * severity.reshape(-1, 1, *[1] * len(size)) * pattern
        side = np.zeros(size)
        side[..., : size[-1] // 2] = -1
        image += 150 * nuisance * rng.uniform(-1, 1, (count, 1, *[1] * len(size))) * (pattern + side)
    lung = np.zeros(image.shape, bool)
    lung[(..., *[slice(1, n - 1) for n in size])] = True
    ids = np.array([f"S{k:03d}" for k in range(count)])
    present = np.ones((count, channels), bool)
    return Subjects(ids, image.clip(-1024, 3071).round().astype(np.int16), lung, present, InputConfig(channels=names, **settings))


def made_cohort(count: int = 40, seed: int = 0, related: bool = True, **settings: Any) -> Cohort:
    """Three fifths training, a fifth validation, a fifth test; labels follow what the image shows, or nothing at all."""
    rng = np.random.default_rng(seed)
    severity = rng.uniform(-1, 1, count)
    subjects = made_subjects(count, seed=seed + 1, severity=severity, **settings)
    told = severity if related else rng.permutation(severity)
    labels = pd.DataFrame(
        {
            "fev1_pp": 70 - 25 * told, "fev1_fvc": 0.6 - 0.15 * told, "emphysema_pct": 12 + 10 * told, "gas_trapping_pct": 30 + 20 * told,
            "gold": np.array(GOLD_CLASSES)[np.digitize(told, [-0.6, -0.3, 0, 0.3, 0.6])].astype(float),
        },
        index=subjects.ids,
    )  # fmt: skip
    part = np.resize(["train", "train", "validation", "train", "test"], count)
    split = pd.Series(part, index=subjects.ids)
    return Cohort(subjects, split, labels)  # tests that care take the test subjects' labels away


def run_config(method: Any, **train: Any) -> RunConfig:
    """A short run of a method (its configuration, or its name) on the CPU."""
    chosen = {"method": method} if isinstance(method, str) else method
    settings = {"steps": 4, "batch": 8, "log_every": 1, "save_every": 2, "device": "cpu"} | train
    return RunConfig.parse({
        "study": "tiny", "data": "0", "seed": 0, "grid": 8, "network": NETWORK, "train": TrainConfig.parse(settings),
        "augment": AugmentConfig(shift=1), "method": chosen,
    })  # fmt: skip


def made_batch(method: MethodConfig, count: int = 6, size: tuple[int, ...] = (8, 8, 8), channels: int = 2, seed: int = 0) -> Batch:
    """One batch with whatever the method may use."""
    torch_rng = torch.Generator().manual_seed(seed)
    image = torch.rand(count, channels, *size, generator=torch_rng)
    first, second = torch.triu_indices(count, count, 1)
    pairs = Pairs(first, second, torch.rand(len(first), generator=torch_rng)) if method.needs == "pair" else None
    label = None
    if method.needs == "pair":
        label = torch.randn(count, NETWORK.u, generator=torch_rng)  # a place in u that follows from the pairs
        label[1] = float("nan")
    if method.needs == "label":
        label = torch.randn(count, len(TARGETS), generator=torch_rng)
        label[:, -1] = torch.arange(count) % len(GOLD_CLASSES)
    return Batch(image, image < 0.5, torch.ones(count, channels), pairs, label)


def made_net(network: NetworkConfig = NETWORK, channels: int = 2, size: tuple[int, ...] = (8, 8, 8), seed: int = 0, **options: Any) -> VAE:
    torch.manual_seed(seed)
    return VAE(network, channels, size, **options)


def made_pair(method: MethodConfig, network: NetworkConfig = NETWORK, seed: int = 0, size: tuple[int, ...] = (8, 8, 8)):
    """A network and the method's objective, as a run builds them."""
    torch.manual_seed(seed)
    config = run_config("vae").model_copy(update={"method": method, "network": network})
    return build(config, (2, *size))
