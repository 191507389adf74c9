"""Made-up subjects, batches and runs, small enough to train on in a second."""

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch

from copdvae.dataset import AugmentConfig, InputConfig, Subjects
from copdvae.networks import VAE, NetworkConfig
from copdvae.objectives import Batch, Method, MethodConfig, Pairs, Stream
from copdvae.supervision.labels import GOLD_CLASSES
from copdvae.train import Cohort, RunConfig, TrainConfig, build

METHODS = get_args(get_args(Method)[0])  # the configuration of every method in the union: a new one is tested without a change here
NAMES = [kind.model_fields["method"].default for kind in METHODS]
STRICT = [kind(variant="strict") for kind in METHODS if "variant" in kind.model_fields]
CONFIGS = {config.name: config for config in (kind() for kind in METHODS)} | {f"{config.name} strict": config for config in STRICT}
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
    """A short run of a method (its configuration, its settings, or its name) on the CPU."""
    chosen = {"method": method} if isinstance(method, str) else method
    fitted = latents_of(METHODS[NAMES.index(chosen["method"])]() if isinstance(chosen, dict) else chosen)
    settings = {"steps": 4, "batch": 8, "log_every": 1, "save_every": 2, "device": "cpu"} | train
    return RunConfig.parse({
        "study": "tiny", "data": "0", "seed": 0, "grid": 8, "network": fitted, "train": TrainConfig.parse(settings),
        "augment": AugmentConfig(shift=1), "method": chosen,
    })  # fmt: skip


def made_batch(method: MethodConfig, count: int = 6, size: tuple[int, ...] = (8, 8, 8), channels: int = 2, seed: int = 0) -> Batch:
    """One batch with whatever the method may use."""
    also = {stream: stream_batch(method, stream, count, size, channels, seed + 1 + k) for k, stream in enumerate(method.also)}
    return replace(stream_batch(method, method.needs, count, size, channels, seed), also=also)


def stream_batch(method: MethodConfig, stream: Stream, count: int, size: tuple[int, ...], channels: int, seed: int) -> Batch:
    """A batch as one stream gives it: images, and pairs, labels or groups of two."""
    rng = torch.Generator().manual_seed(seed)
    image = torch.rand(count, channels, *size, generator=rng)
    batch = Batch(image, image < 0.5, torch.ones(count, channels))
    if stream == "pair":
        first, second = torch.triu_indices(count, count, 1)
        pairs = Pairs(first, second, torch.rand(len(first), generator=rng))
        label = torch.randn(count, NETWORK.u, generator=rng)  # a place in u that follows from the pairs
        label[1] = float("nan")
        return replace(batch, pairs=pairs, label=label)
    if stream == "group":
        return replace(batch, group=torch.arange(count) // method.groups.size)
    if stream == "label":
        return replace(batch, label=made_label(method, count, rng))
    return batch


def made_label(method: MethodConfig, count: int, rng: torch.Generator) -> torch.Tensor:
    labels = getattr(method, "labels", None)
    if labels is None:
        label = torch.randn(count, len(TARGETS), generator=rng)
        label[:, -1] = torch.arange(count) % len(GOLD_CLASSES)
        return label
    if labels.kind == "class":
        return torch.stack([torch.arange(count) % size for size in labels.sizes], dim=1).float()
    draw = torch.rand if labels.kind == "unit" else torch.randn
    return draw(count, len(labels.columns), generator=rng)


def latents_of(method: MethodConfig) -> NetworkConfig:
    """A small network with a d(u) and d(v) that fit what the method is told."""
    tried = [(u, v) for u in range(1, 11) for v in (10 - u, 0)]
    fits = next((u, v) for u, v in tried if not method.misfit(u, v))
    return NETWORK.model_copy(update={"u": fits[0], "v": fits[1]})


def made_net(network: NetworkConfig = NETWORK, channels: int = 2, size: tuple[int, ...] = (8, 8, 8), seed: int = 0, **options: Any) -> VAE:
    torch.manual_seed(seed)
    return VAE(network, channels, size, **options)


def made_pair(
    method: MethodConfig, network: NetworkConfig | None = None, seed: int = 0, size: tuple[int, ...] = (8, 8, 8), channels: int = 2
):
    """A network (a small one that fits, if none is given) and the method's objective, as a run builds them."""
    torch.manual_seed(seed)
    network = network or latents_of(method)
    config = run_config("vae").model_copy(update={"method": method, "network": network})
    return build(config, (channels, *size))
