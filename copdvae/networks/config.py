"""The settings of a network, and the layers that they mean."""

from typing import Any, Literal

from pydantic import Field, model_validator

from copdvae.config import Config
from copdvae.networks.layers import Layers, halvings
from copdvae.networks.likelihood import LikelihoodConfig
from copdvae.networks.presets import PRESETS


class NetworkConfig(Config):
    """Encoder and decoder, the same for all methods of a comparison. A paper's network (presets.py) fixes all but the latents' number."""

    kind: Literal[
        "conv", "resnet", "dense", "paper_a", "paper_b", "paper_c", "paper_d_mnist", "paper_d_dsprites", "paper_d_celeba"
    ] = "conv"  # fmt: skip
    widths: tuple[int, ...] = (16, 32, 64, 128)  # channels after each halving of the image; units of each layer where `dense`
    hidden: int = Field(default=128, ge=0)  # units between those and the latents; 0: no such layer
    pooling: Literal["flatten", "mean"] = "flatten"  # of the last feature map: mean forgets where a finding is, flatten does not
    norm: Literal["batch", "group", "instance", "none"] = "batch"  # of convolutions
    dropout: float = Field(default=0.0, ge=0, lt=1)  # before the latents
    u: int = Field(default=1, ge=1)  # d(u), the latents of interest
    v: int = Field(default=15, ge=0)  # d(v), the others
    likelihood: LikelihoodConfig = LikelihoodConfig()

    @model_validator(mode="before")
    @classmethod
    def _as_published(cls, settings: Any) -> Any:
        """Fill in what a paper decides, and take nothing else for it."""
        preset = PRESETS.get(str(settings.get("kind"))) if isinstance(settings, dict) else None
        if preset is None:
            return settings
        fixed = preset.settings()
        for key, value in fixed.items():
            found = settings.get(key, value)
            if (tuple(found) if isinstance(found, list) else found) != value:
                raise ValueError(f"{settings['kind']} has {key} {value}; leave it out, or describe a network of your own as conv or dense")
        return settings | fixed


def layers_of(config: NetworkConfig, size: tuple[int, ...]) -> Layers:
    """The layers for images of this size."""
    if config.kind in PRESETS:
        return PRESETS[config.kind].on(size)
    hidden = (config.hidden,) if config.hidden else ()
    if config.kind == "dense":
        units = (*config.widths, *hidden)
        return Layers((), units, units[::-1], (), slope=0.1, dropout=config.dropout)
    steps = tuple((width, 3) for width in config.widths)
    return Layers(
        steps, hidden, hidden, steps[::-1], config.norm, 0.1, config.kind == "resnet", config.pooling == "mean", config.dropout
    )  # fmt: skip


def decoder_sizes(config: NetworkConfig, layers: Layers, size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The decoder's maps, smallest first, the image last."""
    preset = PRESETS.get(config.kind)
    if preset is not None and preset.maps and preset.size == tuple(size):
        return list(preset.maps)
    return halvings(size, tuple(kernel for _, kernel in layers.convolutions))[::-1]
