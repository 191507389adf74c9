"""A step's batch as a function of (seed, step): stopping and resuming changes nothing.

Whatever a method needs (images, labelled pairs, labels) is drawn here, from arrays in memory.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from pydantic import Field

from copdvae.config import Config
from copdvae.dataset import Subjects
from copdvae.objectives.base import Batch, Pairs, Stream
from copdvae.supervision.pairs import PairTable

OUTSIDE_HU = {"remove": 3071, "keep": -1024}  # what moves in from beyond the grid


class AugmentConfig(Config):
    """Changes to a training image that leave severity as it is."""

    flip: bool = True  # left and right lungs change places
    shift: int = Field(default=2, ge=0)  # voxels, at most, along each axis
    offset_hu: float = Field(default=5.0, ge=0)  # standard deviation of a scanner's calibration error
    noise_hu: float = Field(default=0.0, ge=0)  # standard deviation of added noise a voxel


class Batches:
    """Training batches of `rows` of `subjects`; calling it with a step number gives that step's batch, always the same."""

    def __init__(
        self, subjects: Subjects, rows: np.ndarray, size: int, seed: int, needs: Stream, augment: AugmentConfig,
        pairs: PairTable | None = None, labels: np.ndarray | None = None,
    ):  # fmt: skip
        self.subjects, self.rows, self.size, self.seed, self.needs, self.augment = subjects, rows, size, seed, needs, augment
        self.pairs, self.labels = pairs, labels  # numbered like `rows`: place k is rows[k]
        self.items = len(pairs) if needs == "pair" and pairs is not None else len(rows)
        self.epoch, self.order = -1, np.zeros(0, dtype=np.int64)

    def __call__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, 1, step])
        return self.gather(self.places(step), rng)

    def places(self, step: int) -> np.ndarray:
        """Places in `rows` of this step's images, each once: about (size,) int64."""
        if self.needs != "pair" or self.pairs is None:
            return self.take(step, min(self.size, self.items))
        drawn = self.take(step, min(self.size // 2, self.items))
        return np.unique(np.concatenate([self.pairs.first[drawn], self.pairs.second[drawn]]))

    def take(self, step: int, count: int) -> np.ndarray:
        """The next `count` items of an endless series of shuffled epochs; an epoch's incomplete last batch is left out."""
        steps_an_epoch = self.items // count
        epoch, place = divmod(step, steps_an_epoch)
        if epoch != self.epoch:
            self.epoch, self.order = epoch, np.random.default_rng([self.seed, 0, epoch]).permutation(self.items)
        return self.order[place * count : (place + 1) * count]

    def gather(self, places: np.ndarray, rng: np.random.Generator | None) -> Batch:
        """The batch of these places; augmented where a generator is given."""
        rows = self.rows[places]
        image, lung, offset = self.subjects.image[rows], self.subjects.lung[rows], 0.0
        if rng is not None:
            image, lung, offset = augmented(image, lung, self.augment, self.subjects.config.background, rng)
        present = self.subjects.present[rows].astype(np.float32)
        if rng is not None and self.subjects.config.channel_dropout > 0:
            present = drop_channels(present, self.subjects.config.channel_dropout, rng)
        scaled = self.subjects.scaled(image, lung, offset)
        if not present.all():
            scaled *= present.reshape(*present.shape, *[1] * (scaled.ndim - 2))

        pairs = None
        if self.pairs is not None:
            first, second, similarity = self.pairs.among(places)
            pairs = Pairs(torch.from_numpy(first), torch.from_numpy(second), torch.from_numpy(similarity))
        label = None if self.labels is None else torch.from_numpy(self.labels[places].astype(np.float32))
        return Batch(torch.from_numpy(scaled), torch.from_numpy(lung), torch.from_numpy(present), pairs, label)

    def whole(self, chunk: int) -> list[Batch]:
        """Every subject once, in order and not augmented, in batches of `chunk`."""
        return [self.gather(np.arange(start, min(start + chunk, len(self.rows))), None) for start in range(0, len(self.rows), chunk)]


def augmented(image: np.ndarray, lung: np.ndarray, config: AugmentConfig, background: str, rng: np.random.Generator):
    """Flip, shift and offset each image (all its channels alike): image, lung, and the offset in HU to add."""
    count, axes = len(image), image.ndim - 2
    flips = rng.random(count) < 0.5 if config.flip else np.zeros(count, bool)
    shifts = rng.integers(-config.shift, config.shift + 1, size=(count, axes))
    if config.shift or config.flip:
        moved, moved_lung = np.full_like(image, OUTSIDE_HU[background]), np.zeros_like(lung)
        for k in range(count):
            to = (slice(None), *[slice(max(s, 0), n + min(s, 0)) for s, n in zip(shifts[k], image.shape[2:], strict=True)])
            away = (slice(None), *[slice(max(-s, 0), n + min(-s, 0)) for s, n in zip(shifts[k], image.shape[2:], strict=True)])
            turn = (..., slice(None, None, -1)) if flips[k] else ...
            moved[k][to], moved_lung[k][to] = image[k][turn][away], lung[k][turn][away]
        image, lung = moved, moved_lung
    one_each = (count, *[1] * (image.ndim - 1))
    offset = rng.normal(0, config.offset_hu, one_each).astype(np.float32)
    if config.noise_hu:
        offset = offset + config.noise_hu * rng.standard_normal(image.shape, dtype=np.float32)
    return image, lung, offset


def drop_channels(present: np.ndarray, chance: float, rng: np.random.Generator) -> np.ndarray:
    """Hide channels by chance, but never a subject's last one: (B, C)."""
    kept = present * (rng.random(present.shape) >= chance)
    return np.where(kept.any(axis=1, keepdims=True), kept, present).astype(np.float32)


class Prefetch:
    """Makes the next step's batch in a thread while this one is trained on."""

    def __init__(self, batches: Callable[[int], Batch], pin: bool = False):
        self.batches, self.pin = batches, pin
        self.pool, self.ready = ThreadPoolExecutor(1), {}

    def __call__(self, step: int) -> Batch:
        batch = self.ready.pop(step, None) or self.later(step)
        self.ready = {step + 1: self.later(step + 1)}
        return batch.result()

    def later(self, step: int) -> "Future[Batch]":
        return self.pool.submit(lambda: pinned(self.batches(step)) if self.pin else self.batches(step))

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)


def pinned(batch: Batch) -> Batch:
    return Batch(batch.image.pin_memory(), batch.lung.pin_memory(), batch.present.pin_memory(), batch.pairs, batch.label)
