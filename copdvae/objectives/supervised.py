"""The same encoder trained on the targets themselves: no method, but what supervision could reach with this network and data.

The first latents' means are the predictions: one a real-valued target (z-scored), then one logit a class of the class target.
    L = sum_j (mu_j - t_j)^2 / 2 + cross-entropy(class),   mean over images, to which an unknown target adds 0
No decoder is trained, and nothing is sampled. Losses in nats per image up to a constant.
"""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from copdvae.networks import VAE
from copdvae.objectives.base import Batch, Losses, MethodConfig, Objective
from copdvae.supervision.labels import GOLD_CLASSES


class SupervisedConfig(MethodConfig):
    method: Literal["supervised"] = "supervised"
    paper: ClassVar = "none: a yardstick"
    told: ClassVar = "the targets themselves"
    needs: ClassVar = "label"
    readout: ClassVar = "direct"
    classes: int = Field(default=len(GOLD_CLASSES), ge=len(GOLD_CLASSES))  # of the last target, GOLD; the others are real-valued

    def build(self, net: VAE, targets: int) -> "Supervised":
        return Supervised(self.classes, targets)


class Supervised(Objective):
    def __init__(self, classes: int, targets: int):
        super().__init__()
        self.classes, self.real = classes, targets - 1

    def players(self, net):
        """Encoder alone. The decoder has no part in this loss."""
        return {"model": list(net.encoder.parameters())}

    def forward(self, net, batch: Batch, step: int) -> Losses:
        if batch.label is None:
            raise ValueError("supervised training needs a label for each image, and this batch has none")
        label = batch.label  # (B, T), z-scores and a class number
        mean = net.encode(batch.image, batch.present).loc  # (B, D)
        error = 0.5 * (mean[:, : self.real] - label[:, : self.real].nan_to_num()) ** 2
        real = (error * ~label[:, : self.real].isnan()).sum(dim=1)  # (B,)
        wanted = torch.where(label[:, -1].isnan(), -100, label[:, -1].nan_to_num()).long()
        logits = mean[:, self.real : self.real + self.classes]
        cross_entropy = F.cross_entropy(logits, wanted, ignore_index=-100, reduction="none")  # (B,), 0 where unknown

        logs = {"squared_error": real.mean(), "cross_entropy": cross_entropy.mean()}
        return Losses({"model": real.mean() + cross_entropy.mean()}, logs, dict(logs))
