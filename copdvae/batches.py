"""A step's batch as a function of (seed, step): stopping and resuming changes nothing.

Whatever a method needs (images, labelled pairs, labels, groups) is drawn here, from arrays in memory.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch

from copdvae.dataset import AugmentConfig
from copdvae.objectives.base import Batch, Pairs, Stream
from copdvae.supervision.groups import GroupTable
from copdvae.supervision.pairs import PairTable


class Source(Protocol):
    """Subjects or images in memory, numbered by row."""

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray, augment: AugmentConfig, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows' images (B, C, *space) float32 in [0, 1], lungs (bool), presence (B, C) float32; augmented where a generator is given."""
        ...


class Batches:
    """Training batches of `rows` of `source`; calling it with a step number gives that step's batch, always the same."""

    def __init__(
        self, source: Source, rows: np.ndarray, size: int, seed: int, needs: Stream, augment: AugmentConfig,
        pairs: PairTable | None = None, labels: np.ndarray | None = None, groups: GroupTable | None = None,
        also: "dict[str, Batches] | None" = None, stream: int = 0, pairs_apart: bool = False,
    ):  # fmt: skip
        self.source, self.rows, self.size, self.needs, self.augment = source, rows, size, needs, augment
        self.pairs, self.labels, self.groups = pairs, labels, groups  # numbered like `rows`: place k is rows[k]
        self.also, self.pairs_apart = also or {}, pairs_apart
        self.seed = [seed, stream] if stream else [seed]  # a step's further batches are drawn apart from its main one
        self.items = len(pairs) if needs == "pair" and pairs is not None else len(rows)
        self.shuffled = -1, np.zeros(0, dtype=np.int64)  # the epoch, and its order

    def __call__(self, step: int) -> Batch:
        rng = np.random.default_rng([*self.seed, 1, step])
        also = {stream: batches(step) for stream, batches in self.also.items()}
        if self.groups is not None:
            drawn = self.groups.draw(max(2, self.size // self.groups.size), rng)
            return self.gather(drawn.ravel(), rng, group_of(drawn), also)
        if self.pairs is not None and self.pairs_apart:
            return self.gather_pairs(self.pairs, rng.integers(len(self.pairs), size=self.size), rng, also)
        return self.gather(self.places(step), rng, None, also)

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
        known = self.shuffled  # read and set as one: several threads may ask for steps of two epochs
        if known[0] != epoch:
            known = self.shuffled = epoch, np.random.default_rng([*self.seed, 0, epoch]).permutation(self.items)
        return known[1][place * count : (place + 1) * count]

    def gather(
        self, places: np.ndarray, rng: np.random.Generator | None, group: np.ndarray | None = None, also: dict[str, Batch] | None = None
    ) -> Batch:
        """The batch of these places; augmented where a generator is given."""
        pairs = None if self.pairs is None else pairs_of(*self.pairs.among(places))
        return self.batch_of(places, rng, pairs, group, also)

    def gather_pairs(self, table: PairTable, drawn: np.ndarray, rng: np.random.Generator, also: dict[str, Batch]) -> Batch:
        """The batch of these pairs (P,), a pair or an image as often as it was drawn: all first members, then all second ones, (2 P,)."""
        place = np.arange(len(drawn))
        pairs = pairs_of(place, place + len(drawn), table.similarity[drawn])
        return self.batch_of(np.concatenate([table.first[drawn], table.second[drawn]]), rng, pairs, None, also)

    def batch_of(
        self,
        places: np.ndarray,
        rng: np.random.Generator | None,
        pairs: Pairs | None,
        group: np.ndarray | None,
        also: dict[str, Batch] | None,
    ) -> Batch:
        """The images of these places, and what is known of them."""
        image, lung, present = self.source.take(self.rows[places], self.augment, rng)
        label = None if self.labels is None else torch.from_numpy(self.labels[places].astype(np.float32))
        numbers = None if group is None else torch.from_numpy(group)
        tensors = torch.from_numpy(image), torch.from_numpy(lung), torch.from_numpy(present)
        return Batch(*tensors, pairs, label, numbers, also or {}, len(self.rows))

    def whole(self, chunk: int, ends: np.ndarray | None = None) -> list[Batch]:
        """Every subject once (those that fill a group, where it is groups that are asked for), in a fixed order and not augmented.

        Batches have about `chunk` images, or end at the shares `ends` of all. Beside each lies its share of the further ones' images, or
        all of them where they fit in a chunk: a mean over batches weighs them alike. None at all where a further one has no subject.
        """
        units = np.arange(len(self.rows))[:, None] if self.groups is None else self.groups.all()  # (units, images of one)
        at_once = max(1, chunk // units.shape[1])
        whole_chunks = np.arange(at_once, len(units), at_once)
        cuts = whole_chunks if ends is None or not len(whole_chunks) else np.round(ends * len(units)).astype(int)
        parts = [part for part in np.split(units, cuts) if len(part)]
        batches = [self.gather(part.ravel(), None, None if self.groups is None else group_of(part)) for part in parts]
        own_ends = np.cumsum([len(part) for part in parts])[:-1] / max(len(units), 1)
        also = {stream: further.whole(chunk, own_ends) for stream, further in self.also.items()}
        if not all(also.values()):
            return []  # a loss without one of its parts would be another loss
        beside = [{stream: found[number % len(found)] for stream, found in also.items()} for number in range(len(batches))]
        return [replace(batch, also=own) for batch, own in zip(batches, beside, strict=True)]


def pairs_of(first: np.ndarray, second: np.ndarray, similarity: np.ndarray) -> Pairs:
    return Pairs(torch.from_numpy(first), torch.from_numpy(second), torch.from_numpy(similarity))


def group_of(drawn: np.ndarray) -> np.ndarray:
    """The group number of each member of groups (G, size), read row by row: (G * size,) int64."""
    return np.repeat(np.arange(len(drawn)), drawn.shape[1])


class Prefetch:
    """Makes the next steps' batches, one a thread, while this one is trained on."""

    def __init__(self, batches: Callable[[int], Batch], pin: bool = False, threads: int = 1):
        self.batches, self.pin, self.threads = batches, pin, threads
        self.pool, self.ready = ThreadPoolExecutor(threads), {}

    def __call__(self, step: int) -> Batch:
        wanted = range(step, step + self.threads + 1)
        self.ready = {number: self.ready.get(number) or self.later(number) for number in wanted}
        return self.ready.pop(step).result()

    def later(self, step: int) -> "Future[Batch]":
        return self.pool.submit(lambda: self.batches(step).pinned() if self.pin else self.batches(step))

    def close(self) -> None:
        self.pool.shutdown(cancel_futures=True)
