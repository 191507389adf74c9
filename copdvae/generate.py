"""Images that a trained network draws: of latents, along a latent, with `u` of another image, of a class.

Latents are (B, D), their first d(u) columns `u` where the method places it; images are (B, C, *space) in [0, 1], on the CPU. Networks draw
as they are scored: normalisation by what training saw, no dropout. A method that trains no decoder can draw nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from copdvae.errors import ConfigError
from copdvae.networks import VAE
from copdvae.objectives import Batch, Objective

CHUNK = 64


def decode(net: VAE, objective: Objective, z: Tensor) -> Tensor:
    """The expected images of latents: (B, D) to (B, C, *space)."""
    with drawing(net, objective) as device:
        return torch.cat([net.images(part.to(device)).cpu() for part in z.float().split(CHUNK)])


def traverse(net: VAE, objective: Objective, z: Tensor, latent: int, values: Tensor) -> Tensor:
    """One latent walks through `values` (K,), the others stay as in z (D,): (K, C, *space). Latent j of `u` is j, of `v` it is d(u) + j."""
    if not 0 <= latent < net.latents:
        raise ConfigError(f"no latent {latent}; there are {net.latents}, counted from 0")
    walked = z.float().repeat(len(values), 1)
    walked[:, latent] = values.float()
    return decode(net, objective, walked)


def swap(net: VAE, objective: Objective, one: Batch, other: Batch, latents: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
    """Each image of `one` with the `u` of its counterpart in `other`, and the reverse: (B, C, *space), (B, C, *space).

    Latents that are found by rank and not by place are named in `latents`.
    """
    taken = torch.tensor(list(range(net.u) if latents is None else latents))
    with drawing(net, objective) as device:
        z_one, z_other = (objective.posterior(net, batch.to(device)).loc.cpu() for batch in (one, other))
    one_with, other_with = z_one.clone(), z_other.clone()
    one_with[:, taken], other_with[:, taken] = z_other[:, taken], z_one[:, taken]
    return decode(net, objective, one_with), decode(net, objective, other_with)


def sample_class(net: VAE, objective: Objective, classes: Tensor, generator: torch.Generator) -> Tensor:
    """Images of classes (B, variables) int64, drawn from p(z | classes): (B, C, *space)."""
    with drawing(net, objective) as device:
        prior = objective.class_prior(net, classes.to(device))
    if prior is None:
        raise ConfigError("this method has no classes to draw images of")
    mean, scale = prior.loc.cpu(), prior.scale.cpu()
    return decode(net, objective, mean + scale * torch.randn(mean.shape, generator=generator))


@contextmanager
def drawing(net: VAE, objective: Objective) -> Iterator[torch.device]:
    """Network and objective as they are scored, without gradients; yields their device. Refuses a decoder that nothing has trained."""
    trained = {id(weight) for weights in objective.players(net).values() for weight in weights}
    if not {id(weight) for weight in net.decoder.parameters()} <= trained:
        raise ConfigError("this method trains no decoder, so there is nothing to draw with")
    modes = [(module, module.training) for module in (net, objective)]
    try:
        net.eval()
        objective.eval()
        with torch.no_grad():
            yield next(net.parameters()).device
    finally:
        for module, mode in modes:
            module.train(mode)
