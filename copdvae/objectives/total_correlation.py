"""Total correlation of the latents, TC = KL(q(z) || prod_k q(z_k)), in nats; q(z) is the mean of q(z|x) over the N images.

The parts z_k are single latents, or blocks of them where `sizes` says so. B: batch, D: latents, K: parts.

critic      Kim & Mnih 2018, arXiv:1802.05983: log q(z) - log prod_k q(z_k) as the log odds of a classifier that tells samples of q(z) from
            samples whose parts were permuted among images. The classifier is a player of its own.
weighted    Chen et al. 2018, arXiv:1802.04942, App. C.1: q(z) as the mean over the batch. Chen's constant log(N B) in place of log B
            moves no gradient but prints (D - 1) log N too much.
stratified  the same, App. C.2, exchangeable: the batch holds image i for certain and each other one by chance, so that i has weight 1/N
            and each other one (N - 1) / (N (B - 1)). Their expectation over batches is q(z); at B = N it is q(z) itself.

Both sampling estimators are biased (the logarithm of a mean): docs/ESTIMATORS.md has by how much.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Normal

from copdvae.config import Config

Sampling = Literal["stratified", "weighted"]


def sampled_total_correlation(z: Tensor, q: Normal, images: int, sampling: Sampling, sizes: Sequence[int] | None = None) -> Tensor:
    """log q(z_i) - sum_k log q(z_ik), a value an image: (B,). `z` (B, D) is drawn from `q`, Normal, (B, D), a batch of N `images`."""
    every = Normal(q.loc, q.scale, validate_args=False).log_prob(z[:, None])  # (B, B, D): log q(z_id | x_j)
    parts = every if sizes is None else torch.stack([part.sum(dim=2) for part in every.split(list(sizes), dim=2)], dim=2)
    weight = log_weights(len(z), images, sampling).to(every)
    joint = torch.logsumexp(weight + parts.sum(dim=2), dim=1)  # (B,)
    return joint - torch.logsumexp(weight[:, :, None] + parts, dim=1).sum(dim=1)


def log_weights(batch: int, images: int, sampling: Sampling) -> Tensor:
    """log of image j's weight in the density at image i's sample: (B, B) float64. Each row's weights sum to 1."""
    if sampling == "weighted" or batch == 1:
        return torch.full((batch, batch), -math.log(batch), dtype=torch.double)
    images = max(images, batch)  # groups may hold an image twice
    weight = torch.full((batch, batch), math.log(images - 1) - math.log(images) - math.log(batch - 1), dtype=torch.double)
    return weight.fill_diagonal_(-math.log(images))


CRITIC_ADAM = {"betas": (0.5, 0.9)}  # Kim & Mnih


class CriticConfig(Config):
    """The classifier's size. Paper: 6 layers of 1000; here: fewer, because the encoder is small as well."""

    layers: int = Field(default=4, ge=1)
    width: int = Field(default=256, ge=1)


class Critic(nn.Module):
    """Two logits a sample: it is of q(z), it is of prod_k q(z_k)."""

    def __init__(self, config: CriticConfig, latents: int):
        super().__init__()
        widths = [latents, *[config.width] * config.layers]
        layers = [nn.Sequential(nn.Linear(a, b), nn.LeakyReLU(0.2)) for a, b in pairwise(widths)]
        self.logits = nn.Sequential(*layers, nn.Linear(config.width, 2))

    def forward(self, z: Tensor) -> Tensor:
        """Estimated log q(z) - log prod_k q(z_k) of samples (B, D): (B,), also under autocast as precise as z."""
        with torch.autocast(z.device.type, enabled=False):
            joint, product = self.logits(z).unbind(dim=1)
        return joint - product

    def loss(self, z: Tensor, permuted: Tensor) -> Tensor:
        """Cross-entropy of telling z (B, D) from permuted samples (B', D), the two halves equal in weight: a scalar.

        Both are detached: what the critic learns never reaches the encoder.
        """
        real, fake = self(z.detach()), self(permuted.detach())
        return (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2


def permute_parts(z: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
    """Samples of prod_k q(z_k): each part of z (B, D) permuted among the images by itself."""
    sizes = [1] * z.shape[1] if sizes is None else list(sizes)
    order = torch.rand(len(z), len(sizes), device=z.device).argsort(dim=0)  # (B, K)
    return z.gather(0, order.repeat_interleave(torch.tensor(sizes, device=z.device), dim=1))
