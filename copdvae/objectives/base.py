"""What every objective takes and returns."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from copdvae.config import Config
from copdvae.networks import VAE
from copdvae.supervision.pairs import PairTable

Stream = Literal["image", "pair", "label"]  # what a method asks of a step's batch


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

    def to(self, device: Any) -> "Batch":
        def move(value: Any) -> Any:
            return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value

        pairs = self.pairs and Pairs(move(self.pairs.first), move(self.pairs.second), move(self.pairs.similarity))
        return Batch(move(self.image), move(self.lung), move(self.present), pairs, move(self.label))


@dataclass(frozen=True)
class Losses:
    """One scalar a player to go backward from, scalars to log, and the weighted terms that compete inside the model's loss."""

    by_player: dict[str, Tensor]
    logs: dict[str, Tensor]
    terms: dict[str, Tensor] = field(default_factory=dict)  # their gradient norms are logged side by side


class MethodConfig(Config):
    """Settings of one method, plus what the method needs and how its latents are read."""

    label: str = ""  # the name in tables and files; the method's own name where empty
    needs: ClassVar[Stream] = "image"
    selects_by: ClassVar[str] = "loss"  # the logged value whose minimum on validation subjects picks the weights that are kept
    readout: ClassVar[Literal["ranked", "u", "direct"]] = "ranked"  # how `u` is found: by rank, by place, or outputs are predictions

    @property
    def name(self) -> str:
        return self.label or getattr(self, "method")  # noqa: B009  each member of the union has a `method`

    def place(self, pairs: PairTable, subjects: int, u: int, seed: int) -> np.ndarray | None:
        """Where a method that needs pairs draws its training subjects to at first: (N, d(u)), as their label; None for nowhere."""
        return None


class Objective(nn.Module):
    """Losses of one method. The network is passed in: an objective owns only what the method adds to it."""

    def players(self, net: VAE) -> dict[str, list[nn.Parameter]]:
        """The weights that each loss trains."""
        return {"model": list(net.parameters())}

    def adam(self) -> dict[str, dict[str, Any]]:
        """Adam settings of a player that differ from the study's."""
        return {}

    def forward(self, net: VAE, batch: Batch, step: int) -> Losses:
        raise NotImplementedError
