"""The layers of an encoder and its decoder, as data, and the sizes that their maps have. Every convolution has stride 2."""

import math
from dataclasses import dataclass

from copdvae.errors import ConfigError

LARGEST_DENSE = 2**28  # weights of one dense layer: 1 GiB, and three times that again for its gradient and Adam's two moments


@dataclass(frozen=True)
class Layers:
    """An encoder and its decoder, for images of any dimensions. Dense layers to the latents and to the first map are not listed."""

    convolutions: tuple[tuple[int, int], ...]  # of the encoder: (channels it gives, kernel)
    hidden: tuple[int, ...]  # dense layers behind them; the latents are read from the last
    behind: tuple[int, ...]  # the decoder's dense layers between z and the one that makes its first map
    transposed: tuple[tuple[int, int], ...]  # of the decoder: (channels it takes, kernel); the last one makes the image
    norm: str = "none"  # batch, group, instance
    slope: float = 0.0  # of LeakyReLU; 0 is ReLU
    residual: bool = False  # convolutions are residual units
    mean: bool = False  # the last map's mean, not the whole of it, goes to the dense layers
    dropout: float = 0.0  # before the latents


def halvings(size: tuple[int, ...], kernels: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The maps of an image behind each convolution of stride 2 and padding (kernel - 1) // 2, largest first.

    A kernel of 3 rounds a half up, one of 2 or 4 rounds it down.
    """
    sizes = [tuple(size)]
    for kernel in kernels:
        sizes.append(tuple((n + 2 * ((kernel - 1) // 2) - kernel) // 2 + 1 for n in sizes[-1]))
        if min(sizes[-1]) < 1:
            smallest = 2 ** len(kernels)
            raise ConfigError(f"network: {len(kernels)} halvings leave nothing of {by(size)}; it takes images of {smallest} a side or more")
    return sizes


def padding_and_extra(small: tuple[int, ...], large: tuple[int, ...], kernel: int) -> tuple[list[int], list[int]]:
    """Padding and output padding, an axis, with which a transposed convolution of stride 2 makes `large` from `small`."""
    full = [2 * (n - 1) + kernel for n in small]  # without any
    padding = [math.ceil((whole - wanted) / 2) for whole, wanted in zip(full, large, strict=True)]
    return padding, [wanted - whole + 2 * p for whole, wanted, p in zip(full, large, padding, strict=True)]


def check_dense(rows: int, columns: int, size: tuple[int, ...]) -> None:
    """Refuse a dense layer that no machine would want, before anybody allocates it."""
    if rows * columns > LARGEST_DENSE:
        raise ConfigError(
            f"network: images of {by(size)} would need a dense layer of {rows:,} x {columns:,} weights, {rows * columns / 2**28:.1f} GiB; "
            "halve them more often (more `widths` of kind conv or resnet), or give the layer fewer units"
        )


def by(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))
