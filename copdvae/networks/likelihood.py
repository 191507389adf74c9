"""p(x|z), the reconstruction term.  Values are nats per image: summed over voxels, never averaged."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from copdvae.config import Config


class LikelihoodConfig(Config):
    """How a decoded image is compared with the real one."""

    kind: Literal["gaussian", "bernoulli", "l1"] = "gaussian"
    scale: PositiveFloat | Literal["learned"] = 0.1  # standard deviation (gaussian) or scale (l1, Laplace) in units of the [0, 1] image
    initial: float = Field(default=0.1, gt=0)  # of a learned scale


class Likelihood(nn.Module):
    """-log p(x|z) a voxel: Gaussian or Laplace with mean sigmoid-free output clipped only when shown, or Bernoulli with logits."""

    def __init__(self, config: LikelihoodConfig):
        super().__init__()
        self.kind = config.kind
        learned = config.scale == "learned"
        start = torch.tensor(math.log(config.initial if learned else float(config.scale)))
        if learned and config.kind != "bernoulli":
            self.log_scale = nn.Parameter(start)
        else:
            self.register_buffer("log_scale", start)

    def errors(self, decoded: Tensor, x: Tensor) -> Tensor:
        """What of -log p depends on a voxel's two values, before scale and normaliser: decoded and x (B, C, *space) to the same shape."""
        if self.kind == "bernoulli":
            return F.binary_cross_entropy_with_logits(decoded, x, reduction="none")
        return F.mse_loss(decoded, x, reduction="none") if self.kind == "gaussian" else (x - decoded).abs()

    def nats(self, errors: Tensor, voxels: Tensor | float = 1.0) -> Tensor:
        """-log p, nats, from errors summed over so many voxels: any shape."""
        if self.kind == "bernoulli":
            return errors
        if self.kind == "gaussian":
            return 0.5 * (-2 * self.log_scale).exp() * errors + voxels * (self.log_scale + 0.5 * math.log(2 * math.pi))
        return (-self.log_scale).exp() * errors + voxels * (self.log_scale + math.log(2))

    def voxels(self, decoded: Tensor, x: Tensor) -> Tensor:
        """-log p of each voxel, nats: decoded and x (B, C, *space) to the same shape."""
        return self.nats(self.errors(decoded, x))

    def mean(self, decoded: Tensor) -> Tensor:
        """The expected image, in [0, 1]."""
        return decoded.sigmoid() if self.kind == "bernoulli" else decoded.clamp(0, 1)
