"""Encoders and decoders for 2-D and 3-D images, built from MONAI blocks.

`x` (B, C, *space) in [0, 1]; `z` (B, D), its first d(u) columns are u. Batch normalisation by default: instance normalisation, MONAI's
own default, removes a scan's mean density, which is a sign of emphysema.
"""

import math
from itertools import pairwise
from typing import Any

import torch
from monai.networks.blocks.convolutions import Convolution, ResidualUnit
from torch import Tensor, nn
from torch.distributions import Normal

from copdvae.networks.config import NetworkConfig, decoder_sizes, layers_of
from copdvae.networks.layers import Layers, check_dense, halvings, padding_and_extra
from copdvae.networks.likelihood import Likelihood

LOG_VARIANCE_RANGE = (-12.0, 6.0)  # keeps a posterior's standard deviation between .0025 and 20


class VAE(nn.Module):
    """A variational autoencoder: `encode` to a diagonal Gaussian, `decode` to a mean image in [0, 1] (or its logits)."""

    def __init__(self, config: NetworkConfig, channels: int, size: tuple[int, ...], presence: bool = False, inputs: int = 0):
        super().__init__()
        self.u, self.latents, self.presence = config.u, config.u + config.v, presence
        layers = layers_of(config, size)
        self.encoder = Encoder(layers, channels, size, 2 * self.latents, presence, inputs)
        self.decoder = Decoder(layers, channels, decoder_sizes(config, layers, size), self.latents)
        self.hidden = self.encoder.out.in_features  # units that the latents are read from
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
    """Convolutions, or none; beside the last map the channels' presence and further inputs; dense layers; the latents."""

    def __init__(self, layers: Layers, channels: int, size: tuple[int, ...], outputs: int, presence: bool, inputs: int):
        super().__init__()
        sizes = halvings(size, tuple(kernel for _, kernel in layers.convolutions))
        widths = (channels, *[width for width, _ in layers.convolutions])
        features = widths[-1] if layers.mean else widths[-1] * math.prod(sizes[-1])
        self.mean, self.presence, self.inputs = layers.mean, channels if presence else 0, inputs
        units = (features + self.presence + inputs, *layers.hidden)
        check_dense(units[0], (*units, outputs)[1], size)
        kernels = [kernel for _, kernel in layers.convolutions]
        self.blocks = nn.Sequential(
            *[down(layers, *width, kernel, small) for width, kernel, small in zip(pairwise(widths), kernels, sizes[1:], strict=True)]
        )
        self.hidden = nn.Sequential(*dense(layers, units), nn.Dropout(layers.dropout))
        self.out = nn.Linear(units[-1], outputs)

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
    """Dense layers, the last of which makes the first map, and transposed convolutions; without these it makes the image."""

    def __init__(self, layers: Layers, channels: int, sizes: list[tuple[int, ...]], latents: int):
        super().__init__()
        widths = (*[width for width, _ in layers.transposed], channels)
        self.start = (widths[0], *sizes[0])
        units = (latents, *layers.behind, math.prod(self.start))
        check_dense(units[-2], units[-1], sizes[-1])
        steps = list(zip(pairwise(widths), [kernel for _, kernel in layers.transposed], pairwise(sizes), strict=True))
        self.hidden = nn.Sequential(*(dense(layers, units) if steps else dense(layers, units)[:-1]))
        self.blocks = nn.Sequential(
            *[up(layers, *width, kernel, *size, last=number == len(steps)) for number, (width, kernel, size) in enumerate(steps, start=1)]
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.blocks(self.hidden(z).view(len(z), *self.start))


def dense(layers: Layers, units: tuple[int, ...]) -> list[nn.Module]:
    """Linear layers from each number of units to the next, an activation behind each."""
    activation = nn.LeakyReLU(layers.slope) if layers.slope else nn.ReLU()
    return [module for a, b in pairwise(units) for module in (nn.Linear(a, b), activation)]


def act_of(layers: Layers) -> Any:
    return ("leakyrelu", {"negative_slope": layers.slope}) if layers.slope else "relu"


def norm_of(layers: Layers, channels: int, size: tuple[int, ...]) -> Any:
    if layers.norm == "none" or (layers.norm == "instance" and math.prod(size) == 1):  # of one voxel nothing would be left
        return None
    return ("group", {"num_groups": math.gcd(8, channels)}) if layers.norm == "group" else layers.norm


def down(layers: Layers, inputs: int, outputs: int, kernel: int, small: tuple[int, ...]) -> nn.Module:
    """A convolution to a map of size `small`, half of what it takes."""
    shape = {"strides": 2, "kernel_size": kernel}
    how = {"act": act_of(layers), "norm": norm_of(layers, outputs, small), "adn_ordering": "NA"}
    if layers.residual:
        return ResidualUnit(len(small), inputs, outputs, **shape, **how)
    return Convolution(len(small), inputs, outputs, **shape, **how, padding=(kernel - 1) // 2)


def up(layers: Layers, inputs: int, outputs: int, kernel: int, small: tuple[int, ...], large: tuple[int, ...], last: bool) -> nn.Module:
    """A transposed convolution from `small` to `large`, also where `large` is odd."""
    padding, extra = padding_and_extra(small, large, kernel)
    act, norm = act_of(layers), None if last else norm_of(layers, outputs, large)
    widen = Convolution(
        len(small), inputs, outputs, strides=2, kernel_size=kernel, act=act, norm=norm, adn_ordering="NA",
        is_transposed=True, padding=padding, output_padding=extra, conv_only=last and not layers.residual,
    )  # fmt: skip
    if not layers.residual:
        return widen
    refine = ResidualUnit(len(small), outputs, outputs, subunits=1, act=act, norm=norm, adn_ordering="NA", last_conv_only=last)
    return nn.Sequential(widen, refine)
