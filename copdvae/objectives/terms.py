"""Terms that objectives share. Each returns one value an image (or a pair), in nats; the mean is taken once, by the objective.

B: batch, D: latents, P: pairs, T: labels.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal

from copdvae.networks import VAE
from copdvae.objectives.base import Batch


def gaussian_kl(q: Normal) -> Tensor:
    """KL(q(z|x) || N(0, I)), a value a dimension: (B, D)."""
    return 0.5 * (q.loc**2 + q.scale**2 - 1) - q.scale.log()


def reconstruction(net: VAE, z: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """-log p(x|z) summed over the voxels of the channels that were scanned: (B,), and of those the ones inside the lungs, a log: (B,)."""
    return summed(net.likelihood.errors(net.decode(z), batch.image), batch, net.likelihood.nats)


def squared_error(net: VAE, z: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """`reconstruction` with (x - mean)^2 in place of the network's likelihood, whatever that is: (B,), (B,).

    It is the nats of a Gaussian whose standard deviation is 1 / sqrt(2), but for a constant.
    """
    decoded = net.decode(z)
    mean = decoded.sigmoid() if net.likelihood.kind == "bernoulli" else decoded
    return summed((batch.image - mean) ** 2, batch, lambda errors, voxels: errors)


def summed(errors: Tensor, batch: Batch, nats: Callable[[Tensor, Tensor | int], Tensor]) -> tuple[Tensor, Tensor]:
    """Errors (B, C, *space) summed a channel at a time, made nats by sum and count, then added over the scanned channels: (B,), (B,)."""
    errors, lung = errors.flatten(2), batch.lung.flatten(2)
    rec = nats(errors.sum(dim=2), errors.shape[2])  # (B, C)
    with torch.no_grad():
        rec_lung = nats(errors.where(lung, errors.new_zeros(())).sum(dim=2), lung.sum(dim=2))
    return (rec * batch.present).sum(dim=1), (rec_lung * batch.present).sum(dim=1)


def pair_logit(u_first: Tensor, u_second: Tensor, eta1: float, eta2: float) -> Tensor:
    """a = eta1 (eta2 - |u_i - u_j|^2), paper A, inside the sigmoid of Eq. 5: (P, d(u)), (P, d(u)) to (P,)."""
    return eta1 * (eta2 - ((u_first.float() - u_second.float()) ** 2).sum(dim=1))


def pair_log_likelihood(a: Tensor, y: Tensor, binary: bool = False) -> Tensor:
    """log p(y | u_i, u_j), paper A, Eq. 3-5, from the logit `a` and the similarity `y`: (P,).

    y log sigmoid(a) + (1 - y) log sigmoid(-a) - log C, with C = 1 for binary similarities and tanh(a/2) / a for real ones.
    """
    log_p = y * F.logsigmoid(a) + (1 - y) * F.logsigmoid(-a)
    return log_p if binary else log_p - log_continuous_bernoulli_constant(a)


def log_continuous_bernoulli_constant(a: Tensor) -> Tensor:
    """log C(a), C(a) = tanh(a/2) / a, the integral of sigmoid(a)^y sigmoid(-a)^(1-y) over y in [0, 1] (A, Eq. 4): any shape.

    Paper: Eq. 4 as a quotient of differences; here: its series near a = 0, where the quotient is 0/0, and a form without
    overflow elsewhere. Both branches get arguments that are safe for their gradients.
    """
    near = a.abs() < 0.1
    small = torch.where(near, a, torch.zeros_like(a))
    large = torch.where(near, torch.ones_like(a), a).abs()
    series = -torch.log(torch.tensor(2.0, dtype=a.dtype, device=a.device)) - small**2 / 12 + 7 * small**4 / 1440
    direct = torch.log(-torch.expm1(-large)) - torch.log1p(torch.exp(-large)) - large.log()
    return torch.where(near, series, direct)
