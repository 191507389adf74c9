"""Ingested subjects as arrays: what training and encoding read.

Images are (N, C, D, H, W) int16 HU on one grid, channel 0 inspiratory, channel 1 expiratory; the network sees them in [0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from copdvae.config import Config
from copdvae.errors import ConfigError
from copdvae.prepare.cached import load_subject

CHANNELS = ("insp", "exp")  # the order in a cached subject
AIR_HU, LARGEST_HU = -1024, 3071  # that a cached subject has; air moves in from beyond the grid where the background is kept
REMOVED = np.iinfo(np.int16).max  # in place of the HU of a voxel outside the lungs, where the background is removed


class AugmentConfig(Config):
    """Changes to a training image that leave severity as it is."""

    flip: bool = True  # left and right lungs change places
    shift: int = Field(default=2, ge=0)  # voxels, at most, along each axis
    offset_hu: float = Field(default=5.0, ge=0)  # standard deviation of a scanner's calibration error
    noise_hu: float = Field(default=0.0, ge=0)  # standard deviation of added noise a voxel


class InputConfig(Config):
    """What of a cached subject the network sees, and how HU become numbers in [0, 1]."""

    channels: tuple[Literal["insp", "exp"], ...] = ("insp", "exp")
    window_hu: tuple[float, float] = (-1024.0, -300.0)  # clipped to, then scaled to [0, 1]
    background: Literal["keep", "remove"] = "remove"  # remove: voxels outside the lungs are set to the window's top
    channel_dropout: float = Field(default=0.0, ge=0, lt=1)  # > 0: a presence input is added, and a channel may then be missing
    incomplete: Literal["error", "exclude"] = "error"  # subjects that lack a channel, where channel_dropout is 0

    @model_validator(mode="after")
    def _sensible(self) -> "InputConfig":
        if not self.channels or len(set(self.channels)) != len(self.channels):
            raise ValueError("channels: name each channel once, at least one")
        if self.window_hu[0] >= self.window_hu[1]:
            raise ValueError("window_hu: the lower bound comes first")
        if self.window_hu[1] > LARGEST_HU:
            raise ValueError(f"window_hu: ends at {self.window_hu[1]:g}, but no cached voxel is above {LARGEST_HU} HU")
        return self


@dataclass(frozen=True)
class Subjects:
    """N ingested subjects in memory. Missing channels have no lung, are False in `present` and 0 in batches.

    Where the background is removed, `image` is marked in place: a batch is then one gathered, moved and scaled array, its lungs what is
    not marked.
    """

    ids: np.ndarray  # (N,) str
    image: np.ndarray  # (N, C, D, H, W) int16, HU, or REMOVED
    lung: np.ndarray  # (N, C, D, H, W) bool
    present: np.ndarray  # (N, C) bool
    config: InputConfig

    def __post_init__(self) -> None:
        if self.config.background == "remove":
            for image, lung in zip(self.image, self.lung, strict=True):
                image[~lung] = REMOVED

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: list[str]) -> np.ndarray:
        """Row numbers of subjects, in the order asked for: (len(ids),) int64."""
        place = {subject: row for row, subject in enumerate(self.ids)}
        return np.array([place[subject] for subject in ids], dtype=np.int64)

    def take(self, rows: np.ndarray, augment: AugmentConfig, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows' images (B, C, D, H, W) float32 in [0, 1], lungs (bool), presence (B, C) float32; augmented where a generator is given."""
        parts, outside = ([self.image], [REMOVED]) if self.config.background == "remove" else ([self.image, self.lung], [AIR_HU, False])
        parts, offset = [part[rows] for part in parts], 0.0
        present = self.present[rows].astype(np.float32)
        if rng is not None:
            parts, offset = augmented(parts, outside, augment, rng)
            if self.config.channel_dropout > 0:
                present = drop_channels(present, self.config.channel_dropout, rng)
        scaled = self.scaled(parts[0], offset)
        if not present.all():
            scaled *= present.reshape(*present.shape, *[1] * (scaled.ndim - 2))
        return scaled, parts[1] if len(parts) > 1 else parts[0] != REMOVED, present

    def scaled(self, image: np.ndarray, offset_hu: np.ndarray | float = 0.0) -> np.ndarray:
        """HU (n, C, D, H, W) to float32 in [0, 1], 1 where REMOVED; `offset_hu` is added first (augmentation)."""
        low, high = self.config.window_hu
        scale = np.float32(1 / (high - low))
        scaled = np.multiply(image, scale, dtype=np.float32)
        scaled += (np.asarray(offset_hu, np.float32) - np.float32(low)) * scale
        np.clip(scaled, 0, 1, out=scaled)
        return scaled


def load_subjects(cache: Path, index: pd.DataFrame, config: InputConfig) -> tuple[Subjects, list[str]]:
    """Read the cached subjects that `index` lists; return them and the ids left out for a missing channel.

    Raises `ConfigError` naming the subjects where a channel is missing and the configuration does not allow for that.
    """
    asked = [CHANNELS.index(channel) for channel in config.channels]
    listed = index.loc[:, ["subject_id", "channels", "file"]].astype(str).to_dict("records")
    found = {row["subject_id"]: row["channels"].split("+") for row in listed}
    lacking = {subject: sorted(set(config.channels) - set(has)) for subject, has in found.items()}
    lacking = {subject: channels for subject, channels in lacking.items() if channels}
    left_out: list[str] = []
    if lacking and config.channel_dropout == 0:
        if config.incomplete == "error":
            some = ", ".join(f"{subject} (no {' or '.join(channels)})" for subject, channels in list(lacking.items())[:5])
            raise ConfigError(
                f"{len(lacking)} of {len(found)} subjects lack a scan that the model needs: {some}"
                f"{' ...' if len(lacking) > 5 else ''}. Use input.channels: [insp], input.channel_dropout > 0, or input.incomplete: exclude"
            )
        left_out = sorted(lacking)
    elif lacking:
        left_out = sorted(subject for subject, channels in lacking.items() if len(channels) == len(config.channels))

    kept = [row for row in listed if row["subject_id"] not in set(left_out)]
    images, lungs, present = [], [], []
    for row in kept:
        image, lung, _ = load_subject(cache / row["file"])
        has = found[row["subject_id"]]
        channel_of = {CHANNELS.index(name): place for place, name in enumerate(has)}
        images.append([image[channel_of[c]] if c in channel_of else np.zeros_like(image[0]) for c in asked])
        lungs.append([np.isin(lung[channel_of[c]], (1, 2)) if c in channel_of else np.zeros(image[0].shape, bool) for c in asked])
        present.append([c in channel_of for c in asked])
    if not kept:
        raise ConfigError("no ingested subject has the scans that the model needs; see cache/index.csv and input.channels")
    ids = np.array([row["subject_id"] for row in kept])
    subjects = Subjects(ids, np.array(images, dtype=np.int16), np.array(lungs, dtype=bool), np.array(present, dtype=bool), config)
    return subjects, left_out


@dataclass(frozen=True)
class Images:
    """N images of one size in memory, such as the papers' benchmarks; they are not augmented."""

    ids: np.ndarray  # (N,) str
    image: np.ndarray  # (N, C, H, W) uint8

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray, augment: AugmentConfig, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows' images (B, C, H, W) float32 in [0, 1]; everything counts as lung, and every channel is there."""
        image = np.multiply(self.image[rows], np.float32(1 / 255), dtype=np.float32)
        return image, np.ones(image.shape, bool), np.ones(image.shape[:2], np.float32)


def augmented(
    parts: list[np.ndarray], outside: Sequence[float], config: AugmentConfig, rng: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """Flip and shift each image, all its channels and parts (n, C, *space) alike; also the offset in HU to add to the first part.

    `outside` is what moves in from beyond the grid, a number a part.
    """
    image = parts[0]
    count, size = len(image), image.shape[2:]
    flips = rng.random(count) < 0.5 if config.flip else np.zeros(count, bool)
    shifts = rng.integers(-config.shift, config.shift + 1, size=(count, len(size)))
    if config.shift or config.flip:
        moved = [np.full_like(part, fill) for part, fill in zip(parts, outside, strict=True)]
        for k in range(count):
            to = (slice(None), *[slice(max(s, 0), n + min(s, 0)) for s, n in zip(shifts[k], size, strict=True)])
            away = (slice(None), *[slice(max(-s, 0), n + min(-s, 0)) for s, n in zip(shifts[k], size, strict=True)])
            turn = (..., slice(None, None, -1)) if flips[k] else ...
            for there, part in zip(moved, parts, strict=True):
                there[k][to] = part[k][turn][away]
        parts = moved
    one_each = (count, *[1] * (image.ndim - 1))
    offset = rng.normal(0, config.offset_hu, one_each).astype(np.float32)
    if config.noise_hu:
        offset = offset + config.noise_hu * rng.standard_normal(image.shape, dtype=np.float32)
    return parts, offset


def drop_channels(present: np.ndarray, chance: float, rng: np.random.Generator) -> np.ndarray:
    """Hide channels by chance, but never a subject's last one: (B, C)."""
    kept = present * (rng.random(present.shape) >= chance)
    return np.where(kept.any(axis=1, keepdims=True), kept, present).astype(np.float32)
