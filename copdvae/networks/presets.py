"""The papers' encoders and decoders, for images of two dimensions and, with the same layers, of three.

The dense layers that a table gives as one number of units a map (C: "FC 1024") follow from the image's size here. On images larger than
the paper's the last convolution is repeated, and the first transposed one, until the last map is no larger a side than the paper's:
at 128 x 128 x 128 the dense layer behind the three convolutions of D's Table 3 would have 67 million weights.

Where papers are silent: convolutions are padded by 1 (kernel 4) or 0 (kernel 2), which is what the units of C's and D's dense layers
ask for; the layer of h has a ReLU too. One voxel is not normalised, as nothing would be left of it.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from copdvae.networks.layers import Layers


@dataclass(frozen=True)
class Preset:
    """A paper's network."""

    source: str
    size: tuple[int, int]  # of the paper's images
    layers: Layers
    maps: tuple[tuple[int, int], ...] = ()  # that the decoder goes through at that size; the encoder's, reversed, where not given

    def settings(self) -> dict[str, Any]:
        """What of a NetworkConfig the paper decides."""
        layers = self.layers
        widths = tuple(channels for channels, _ in layers.convolutions) or layers.hidden[:-1]
        hidden = layers.hidden[-1] if layers.hidden else 0
        return {"widths": widths, "hidden": hidden, "norm": layers.norm, "pooling": "flatten", "dropout": 0.0}

    def on(self, size: tuple[int, ...]) -> Layers:
        """The layers for images of this size."""
        more = max(0, math.ceil(math.log2(max(size) / max(self.size)))) if self.layers.convolutions else 0
        return replace(
            self.layers,
            convolutions=self.layers.convolutions + self.layers.convolutions[-1:] * more,
            transposed=self.layers.transposed[:1] * more + self.layers.transposed,
        )


# Kernels, channels, and that the latents are read from the last map itself are ours: A says "four convolutional layers and one fully
# connected layer", for images of 32 x 32 to 64 x 64 and for CT.
PAPER_A = Layers(((32, 4), (64, 4), (128, 4), (256, 4)), (), (), ((256, 4), (128, 4), (64, 4), (32, 4)))

PAPER_B = Layers((), (1200, 1200), (1200, 1200), ())

PAPER_C = Layers(
    ((32, 4), (32, 4), (64, 2), (64, 2)), (256,), (256,), ((64, 4), (64, 4), (32, 4), (32, 4)), norm="instance",
)  # fmt: skip

# What D puts behind h (classes, attention, u of each class) is `parted_vae`'s own.
PAPER_D_MNIST = Layers(((32, 4), (64, 4), (64, 4)), (256,), (256,), ((64, 4), (32, 4), (32, 4)))

PAPER_D_DSPRITES = Layers(((32, 4), (32, 4), (64, 4), (64, 4)), (256,), (256,), ((64, 4), (64, 4), (32, 4), (32, 4)))

PAPER_D_CELEBA = Layers(
    ((32, 4), (32, 4), (64, 4), (64, 4), (64, 4)), (256,), (256,), ((64, 4), (64, 4), (64, 4), (32, 4), (32, 4)),
)  # fmt: skip

PRESETS: dict[str, Preset] = {
    "paper_a": Preset("paper A, Experiments", (64, 64), PAPER_A),
    "paper_b": Preset("paper B, section 5", (64, 64), PAPER_B),
    "paper_c": Preset("paper C, Table D.2", (64, 64), PAPER_C),
    "paper_d_mnist": Preset("paper D, Table 3", (32, 32), PAPER_D_MNIST),
    # D prints an input of 32 x 32: the units of its tables, and its text, fit 64 x 64 alone.
    "paper_d_dsprites": Preset("paper D, Table 4", (64, 64), PAPER_D_DSPRITES),
    # 1,600 units are 64 maps of 5 x 5; from there kernels of 4 reach 218 x 178 with paddings 0, (0, 1), (0, 2), (1, 2), (0, 2).
    "paper_d_celeba": Preset(
        "paper D, Table 5", (218, 178), PAPER_D_CELEBA, maps=((5, 5), (12, 12), (26, 24), (54, 46), (108, 90), (218, 178))
    ),
}
