"""A network that can be worked out by hand: linear in both directions, smooth, no norm, float64, images of a few pixels in a row."""

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from copdvae.networks.likelihood import Likelihood, LikelihoodConfig


class FlatVAE(nn.Module):
    """`x` (B, 1, P); encoder and decoder are matrices. `identity`: the code is the image, and back, and the posterior is narrow."""

    def __init__(self, u: int, latents: int, pixels: int = 5, inputs: int = 0, identity: bool = False, scale: float = 1.0, seed: int = 0):
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.u, self.latents, self.inputs, self.hidden = u, latents, inputs, pixels
        self.into = nn.Parameter(torch.randn(pixels + inputs, pixels, generator=rng, dtype=torch.double) / 2)
        self.read = nn.Parameter(torch.randn(pixels, 2 * latents, generator=rng, dtype=torch.double) / 2)
        self.back = nn.Parameter(torch.randn(latents, pixels, generator=rng, dtype=torch.double) / 2)
        if identity:
            with torch.no_grad():
                self.into.copy_(torch.eye(pixels + inputs, pixels))
                self.read.copy_(torch.cat([torch.eye(pixels), torch.zeros(pixels, latents)], dim=1))
                self.back.copy_(torch.eye(pixels))
        self.likelihood = Likelihood(LikelihoodConfig(scale=scale)).double()

    def features(self, x: Tensor, present: Tensor | None = None, inputs: Tensor | None = None) -> Tensor:
        beside = x.new_zeros(len(x), self.inputs) if inputs is None else inputs.to(x)
        return torch.cat([x.flatten(1), beside], dim=1) @ self.into

    def latent(self, hidden: Tensor) -> Normal:
        mean, log_variance = (hidden @ self.read).chunk(2, dim=1)
        return Normal(mean, (log_variance / 2).exp(), validate_args=False)

    def encode(self, x: Tensor, present: Tensor | None = None, inputs: Tensor | None = None) -> Normal:
        return self.latent(self.features(x, present, inputs))

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.back)[:, None]

    def images(self, z: Tensor) -> Tensor:
        return self.decode(z)


def fixed_noise(monkeypatch, seed: int = 0, names: tuple[str, ...] = ("Normal",)) -> None:
    """The same noise at every call, so that a loss is a function of its weights alone."""

    def table(shape: torch.Size, draw) -> Tensor:
        return draw(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)

    if "Normal" in names:
        monkeypatch.setattr(Normal, "rsample", lambda q, shape=(): q.loc + q.scale * table(q.loc.shape, torch.randn).to(q.loc))
    if "Gumbel" in names:
        gumbel = torch.distributions.Gumbel
        monkeypatch.setattr(
            gumbel, "rsample", lambda q, shape=(): q.loc - q.scale * (-table(q.loc.shape, torch.rand).clamp(1e-6).log()).log().to(q.loc)
        )
