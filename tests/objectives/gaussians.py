"""Gaussian posteriors whose total correlation is known: the first two latents' means correlate by rho.

With posterior variance s^2 every latent of q(z) has variance 1, the first two a correlation r = rho (1 - s^2), and TC = -log(1 - r^2) / 2.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Normal

from copdvae.objectives.total_correlation import Sampling, sampled_total_correlation

RHO_OF_A_QUARTER = math.sqrt(1 - math.exp(-0.5)) / 0.7  # at s^2 = .3 a total correlation of .25


def true_total_correlation(rho: float, variance: float) -> float:
    return -0.5 * math.log(1 - (rho * (1 - variance)) ** 2)


def correlated_posteriors(batch: int, latents: int, rho: float, variance: float, g: torch.Generator) -> tuple[Tensor, Normal]:
    """Samples (B, D) and posteriors of a fresh batch."""
    mean, noise = torch.randn(2, batch, latents, generator=g)
    mean[:, 1] = rho * mean[:, 0] + math.sqrt(1 - rho**2) * mean[:, 1]
    q = Normal(math.sqrt(1 - variance) * mean, torch.full_like(mean, math.sqrt(variance)))
    return q.loc + q.scale * noise, q


def estimates(sampling: Sampling, batch: int, images: int, count: int, latents: int, rho: float, variance: float, seed: int = 0) -> Tensor:
    """The estimate of each of `count` batches: (count,)."""
    g = torch.Generator().manual_seed(seed)
    drawn = [correlated_posteriors(batch, latents, rho, variance, g) for _ in range(count)]
    return torch.stack([sampled_total_correlation(z, q, images, sampling).mean() for z, q in drawn])


def rise(sampling: Sampling, batch: int, images: int, count: int, latents: int = 10, variance: float = 0.3) -> float:
    """By how much the mean estimate grows where the truth grows from 0 to .25; the same noise in both."""
    zero, quarter = (estimates(sampling, batch, images, count, latents, rho, variance).mean() for rho in (0.0, RHO_OF_A_QUARTER))
    return float(quarter - zero)
