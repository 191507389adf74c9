"""What every objective takes and returns."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor, nn
from torch.distributions import Normal

from copdvae.config import Config
from copdvae.networks import VAE
from copdvae.supervision.pairs import PairTable

Stream = Literal["image", "second", "pair", "label", "group"]  # what a method asks of a step's batches


@dataclass(frozen=True)
class Pairs:
    """P labelled pairs of a batch's images."""

    first: Tensor  # (P,) int64, rows of the batch
    second: Tensor  # (P,) int64
    similarity: Tensor  # (P,) float32 in [0, 1]


@dataclass(frozen=True)
class Batch:
    """One step's images, and whatever is known about them that the method may use."""

    image: Tensor  # (B, C, *space) float32 in [0, 1]
    lung: Tensor  # (B, C, *space) bool: where the reconstruction is also printed by itself
    present: Tensor  # (B, C) float32, 0 where the channel was not scanned
    pairs: Pairs | None = None
    label: Tensor | None = None  # (B, T) float32, NaN where unknown: targets, or a place in u that follows from the pairs
    group: Tensor | None = None  # (B,) int64: images with one number are alike in what u stands for; numbers 0 .. G - 1
    also: dict[str, "Batch"] = field(default_factory=dict)  # the step's further batches, by stream
    drawn_from: int | None = None  # images of which these are a sample; None where they are all there are

    def to(self, device: Any) -> "Batch":
        return self.each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        return self.each(lambda tensor: tensor.pin_memory())

    def each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The same batch with every tensor changed."""

        def of(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else change(tensor)

        pairs = self.pairs and Pairs(change(self.pairs.first), change(self.pairs.second), change(self.pairs.similarity))
        also = {stream: batch.each(change) for stream, batch in self.also.items()}
        images = change(self.image), change(self.lung), change(self.present)
        return Batch(*images, pairs, of(self.label), of(self.group), also, self.drawn_from)


@dataclass(frozen=True)
class Losses:
    """One scalar a player to go backward from, scalars to log, and the weighted terms that compete inside the model's loss."""

    by_player: dict[str, Tensor]
    logs: dict[str, Tensor]
    terms: dict[str, Tensor] = field(default_factory=dict)  # their gradient norms are logged side by side


class MethodConfig(Config):
    """Settings of one method, plus what the method needs and how its latents are read.

    A method that is told labels has a field `labels` (supervision/labels.py), one that is told groups a field `groups` (groups.py).
    """

    label: str = ""  # the name in tables and files; the method's own name where empty
    paper: ClassVar[str] = ""  # and equation, in words
    told: ClassVar[str] = "nothing"  # supervision, in words
    quirks: ClassVar[dict[str, str]] = {}  # what `strict` copies from the paper or its authors, by name
    needs: ClassVar[Stream] = "image"  # the step's main batch
    # The logged value whose minimum on validation subjects picks the weights that are kept. `selection`: the loss less what a critic says,
    # which is another measure at every look, and with the loss of the step before the main one, where there are such.
    selects_by: ClassVar[str] = "loss"
    readout: ClassVar[Literal["ranked", "u", "all", "direct"]] = (
        "ranked"  # `u`: by rank, by place, every latent; or outputs are predictions
    )

    @property
    def name(self) -> str:
        return self.label or getattr(self, "method")  # noqa: B009  each member of the union has a `method`

    @property
    def also(self) -> tuple[Stream, ...]:
        """Further batches of each step, each drawn by itself; they come as `batch.also[stream]`."""
        return ()

    @property
    def pairs_apart(self) -> bool:
        """Whether a step's pairs are drawn with replacement, each with two images of its own; else all pairs among its images count."""
        return False

    @property
    def inputs(self) -> int:
        """Numbers a subject that the encoder gets beside the image."""
        return 0

    @property
    def leaks(self) -> str:
        """Why scores of its latents say nothing about images, as "its encoder is given the labels"; empty where they do."""
        return ""

    def misfit(self, u: int, v: int) -> str:
        """Why d(u) and d(v) do not fit what the method is told, as in "d(u) must be 2, one a label"; empty where they do."""
        return ""

    def place(self, pairs: PairTable, subjects: int, u: int, seed: int) -> np.ndarray | None:
        """Where a method that needs pairs draws its training subjects to at first: (N, d(u)), as their label; None for nowhere."""
        return None


class Objective(nn.Module):
    """Losses of one method. The network is passed in: an objective owns only what the method adds to it."""

    def players(self, net: VAE) -> dict[str, list[nn.Parameter]]:
        """The weights that each loss trains. Only a player of `before` may share weights with another."""
        return {"model": list(net.parameters())}

    def adam(self) -> dict[str, dict[str, Any]]:
        """Adam settings of a player that differ from the study's."""
        return {}

    def before(self, net: VAE, batch: Batch, step: int) -> Losses | None:
        """Losses of a step of its own, taken before the main one; None where the method has no such step."""
        return None

    def forward(self, net: VAE, batch: Batch, step: int) -> Losses:
        raise NotImplementedError

    def posterior(self, net: VAE, batch: Batch) -> Normal:
        """q(z|x) as it is scored, from images alone: Normal, (B, D)."""
        return net.encode(batch.image, batch.present)

    def class_prior(self, net: VAE, classes: Tensor) -> Normal | None:
        """p(z | classes) for classes (B, variables) int64, to draw images of a class from: Normal, (B, D); None without classes."""
        return None
