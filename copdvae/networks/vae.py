"""Encoders and decoders for 2-D and 3-D images, built from MONAI blocks.

`x` (B, C, *space) in [0, 1]; `z` (B, D), its first d(u) columns are u. Batch normalisation by default: instance normalisation, MONAI's
own default, removes a scan's mean density, which is a sign of emphysema.
"""

import math
from itertools import pairwise
from typing import Literal

import torch
from monai.networks.blocks.convolutions import Convolution, ResidualUnit
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Normal

from copdvae.config import Config
from copdvae.networks.likelihood import Likelihood, LikelihoodConfig

LOG_VARIANCE_RANGE = (-12.0, 6.0)  # keeps a posterior's standard deviation between .0025 and 20


class NetworkConfig(Config):
    """Encoder and decoder, the same for all methods of a comparison."""

    kind: Literal["conv", "resnet"] = "conv"
    widths: tuple[int, ...] = (16, 32, 64, 128)  # channels after each halving of the image
    hidden: int = Field(default=128, ge=1)  # units between the last convolution and the latents
    pooling: Literal["flatten", "mean"] = "flatten"  # of the last feature map: mean forgets where a finding is, flatten does not
    norm: Literal["batch", "group", "instance"] = "batch"
    dropout: float = Field(default=0.0, ge=0, lt=1)  # before the latents
    u: int = Field(default=1, ge=1)  # d(u), the latents of interest
    v: int = Field(default=15, ge=0)  # d(v), the others
    likelihood: LikelihoodConfig = LikelihoodConfig()


class VAE(nn.Module):
    """A variational autoencoder: `encode` to a diagonal Gaussian, `decode` to a mean image in [0, 1] (or its logits)."""

    def __init__(self, config: NetworkConfig, channels: int, size: tuple[int, ...], presence: bool = False, inputs: int = 0):
        super().__init__()
        self.u, self.latents, self.presence = config.u, config.u + config.v, presence
        self.hidden = config.hidden  # units that the latents are read from
        sizes = halvings(size, len(config.widths))
        self.encoder = Encoder(config, channels, sizes, 2 * self.latents, presence, inputs)
        self.decoder = Decoder(config, channels, sizes, self.latents)
        self.likelihood = Likelihood(config.likelihood)

    def encode(self, x: Tensor, present: Tensor | None = None, inputs: Tensor | None = None) -> Normal:
        """The posterior q(z|x) of images (B, C, *space): a Normal of shape (B, D), float32 also under autocast.

        `present` (B, C) and `inputs` (B, I) go in beside the last feature map, where the network was built to take them.
        """
        return diagonal_normal(self.encoder(x, present, inputs))

    def features(self, x: Tensor, present: Tensor | None = None, inputs: Tensor | None = None) -> Tensor:
        """The hidden units h that the latents are read from: (B, hidden)."""
        return self.encoder.features(x, present, inputs)

    def latent(self, hidden: Tensor) -> Normal:
        """The posterior from the hidden units: (B, hidden) to a Normal of shape (B, D)."""
        return diagonal_normal(self.encoder.read(hidden))

    def decode(self, z: Tensor) -> Tensor:
        """Parameters of p(x|z): (B, C, *space), float32; `likelihood.mean` makes them images."""
        return self.decoder(z).float()

    def images(self, z: Tensor) -> Tensor:
        """Expected images of latents (B, D): (B, C, *space) in [0, 1]."""
        return self.likelihood.mean(self.decode(z))


def diagonal_normal(outputs: Tensor) -> Normal:
    """Means and log-variances side by side (B, 2 D), as a Normal of shape (B, D)."""
    mean, log_variance = outputs.chunk(2, dim=1)
    return Normal(mean, (0.5 * log_variance.clamp(*LOG_VARIANCE_RANGE)).exp(), validate_args=False)


class Encoder(nn.Module):
    def __init__(self, config: NetworkConfig, channels: int, sizes: list[tuple[int, ...]], outputs: int, presence: bool, inputs: int):
        super().__init__()
        widths = (channels, *config.widths)
        blocks = [block(config, len(sizes[0]), a, b) for a, b in pairwise(widths)]
        self.blocks = nn.Sequential(*blocks)
        self.mean = config.pooling == "mean"
        features = widths[-1] if self.mean else widths[-1] * math.prod(sizes[-1])
        self.presence = channels if presence else 0
        self.inputs = inputs
        units = features + self.presence + inputs
        self.hidden = nn.Sequential(nn.Linear(units, config.hidden), nn.LeakyReLU(0.1), nn.Dropout(config.dropout))
        self.out = nn.Linear(config.hidden, outputs)

    def forward(self, x: Tensor, present: Tensor | None, inputs: Tensor | None) -> Tensor:
        return self.read(self.features(x, present, inputs))

    def features(self, x: Tensor, present: Tensor | None, inputs: Tensor | None) -> Tensor:
        features = self.blocks(x)
        features = features.flatten(2).mean(dim=2) if self.mean else features.flatten(1)
        if self.presence:
            if present is None:
                present = torch.ones(len(x), self.presence, device=x.device)
            features = torch.cat([features, present.to(features.dtype)], dim=1)
        if self.inputs:
            if inputs is None:
                inputs = torch.zeros(len(x), self.inputs, device=x.device)
            features = torch.cat([features, inputs.to(features.dtype)], dim=1)
        return self.hidden(features)

    def read(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):  # latents in bf16 have steps of .016 near 2: pairs could not be told apart
            return self.out(hidden.float())


class Decoder(nn.Module):
    def __init__(self, config: NetworkConfig, channels: int, sizes: list[tuple[int, ...]], latents: int):
        super().__init__()
        widths = (*config.widths[::-1], channels)
        self.start = (widths[0], *sizes[-1])
        self.hidden = nn.Sequential(
            nn.Linear(latents, config.hidden), nn.LeakyReLU(0.1), nn.Linear(config.hidden, math.prod(self.start)), nn.LeakyReLU(0.1)
        )
        steps = list(zip(pairwise(widths), pairwise(sizes[::-1]), strict=True))
        self.blocks = nn.Sequential(
            *[up(config, *width, *size, last=number == len(steps)) for number, (width, size) in enumerate(steps, start=1)]
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.blocks(self.hidden(z).view(len(z), *self.start))


def halvings(size: tuple[int, ...], levels: int) -> list[tuple[int, ...]]:
    """The sizes of an image that is halved `levels` times, rounding up, largest first."""
    sizes = [tuple(size)]
    for _ in range(levels):
        sizes.append(tuple((n + 1) // 2 for n in sizes[-1]))
    return sizes


def norm_of(config: NetworkConfig, channels: int):
    return ("group", {"num_groups": math.gcd(8, channels)}) if config.norm == "group" else config.norm


def block(config: NetworkConfig, dims: int, inputs: int, outputs: int) -> nn.Module:
    kind = Convolution if config.kind == "conv" else ResidualUnit
    act = ("leakyrelu", {"negative_slope": 0.1})
    return kind(dims, inputs, outputs, strides=2, kernel_size=3, act=act, norm=norm_of(config, outputs), adn_ordering="NA")


def up(config: NetworkConfig, inputs: int, outputs: int, small: tuple[int, ...], large: tuple[int, ...], last: bool) -> nn.Module:
    """A transposed convolution from `small` to `large`, also where `large` is odd."""
    extra = [b - (2 * a - 1) for a, b in zip(small, large, strict=True)]
    act, norm = ("leakyrelu", {"negative_slope": 0.1}), None if last else norm_of(config, outputs)
    widen = Convolution(
        len(small), inputs, outputs, strides=2, kernel_size=3, act=act, norm=norm, adn_ordering="NA",
        is_transposed=True, padding=1, output_padding=extra, conv_only=last and config.kind == "conv",
    )  # fmt: skip
    if config.kind == "conv":
        return widen
    refine = ResidualUnit(len(small), outputs, outputs, subunits=1, act=act, norm=norm, adn_ordering="NA", last_conv_only=last)
    return nn.Sequential(widen, refine)
