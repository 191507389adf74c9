"""What the objectives of paper C share: the supervised term of Eq. 4 and 8, and adding terms to another objective's loss.

Labels (B, T), NaN where unknown; mu the posterior means of u, one latent a label. A value an image: an unknown label costs nothing.
Both terms are expectations over the labelled images (C: P_L): their batch holds images with all labels alone (train.py), and the mean is
over it, so that gamma_lb and tau weigh the same at any fraction told.
"""

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from copdvae.objectives.base import Batch, Losses, MethodConfig, Stream
from copdvae.supervision.labels import LabelsConfig

LabelLoss = Literal["l2", "cross_entropy"]
UNIT_MARGIN = 0.05  # of a label in [0, 1]: its logit as a latent stays within 3 standard deviations of the prior


class ToldLabels(MethodConfig):
    """Settings of an objective that adds labels to another one's loss: `base`, declared by each such method."""

    told: ClassVar = "labels of a fraction of the training subjects"
    readout: ClassVar = "u"
    selects_by: ClassVar = "selection"
    gamma_lb: float = Field(default=1e4, ge=0)  # on the label loss: a reconstruction summed over voxels needs a large one
    label_loss: LabelLoss = "l2"  # cross_entropy: mu is the logit of a label in [0, 1]
    labels: LabelsConfig = LabelsConfig()

    @model_validator(mode="after")
    def _fits(self) -> "ToldLabels":
        kinds = {"l2": ("zscore", "unit"), "cross_entropy": ("unit",)}[self.label_loss]
        if self.labels.kind not in kinds:
            raise ValueError(f"label_loss: {self.label_loss} needs labels.kind: {' or '.join(kinds)}, found {self.labels.kind}")
        return self

    @property
    def also(self) -> tuple[Stream, ...]:
        base: Any = getattr(self, "base")  # noqa: B009  each method has one
        return (*base.also, "label")

    def misfit(self, u: int, v: int) -> str:
        count = len(self.labels.columns)
        return "" if u == count else f"d(u) must be {count}, one a label"


def label_loss(mu: Tensor, label: Tensor, kind: LabelLoss) -> Tensor:
    """R_s, summed over the known labels: means (B, T) and labels (B, T) to (B,)."""
    known, label = ~label.isnan(), label.nan_to_num()
    each = (mu - label) ** 2 if kind == "l2" else F.binary_cross_entropy_with_logits(mu, label, reduction="none")
    return (each * known).sum(dim=1)


def as_latent(label: Tensor, kind: LabelLoss) -> Tensor:
    """The value of u that stands for a label: the label, or with cross-entropy its logit, of which 0 and 1 have none: (B, T)."""
    return label if kind == "l2" else torch.logit(label, eps=UNIT_MARGIN)


def labelled(batch: Batch) -> tuple[Batch, Tensor]:
    """The step's labelled batch, and its labels (B, T)."""
    told = batch.also["label"]
    if told.label is None:
        raise ValueError("the labelled batch has no labels")
    return told, told.label


def with_terms(losses: Losses, terms: dict[str, Tensor], logs: dict[str, Tensor]) -> Losses:
    """Another objective's losses, with terms added to its model's and to what weights are picked by."""
    loss = losses.by_player["model"]
    selection = sum(terms.values(), losses.logs.get("selection", loss))
    model = sum(terms.values(), loss)
    return Losses(losses.by_player | {"model": model}, losses.logs | logs | {"selection": selection}, losses.terms | terms)
