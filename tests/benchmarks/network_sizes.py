"""Weights of every kind of network on images and on CT grids: writes the table of docs/NETWORKS.md.

    python tests/benchmarks/network_sizes.py [--out docs/NETWORKS.md]

Nothing is allocated (torch's meta device), so that it takes seconds. Two channels on CT, d(u) + d(v) = 16.
"""

import argparse
import re
from pathlib import Path
from typing import get_args

import torch
from torch import nn

from copdvae.errors import ConfigError
from copdvae.networks import VAE, NetworkConfig
from copdvae.networks.layers import by

SIZES = [(1, (28, 28)), (1, (64, 64)), (3, (218, 178)), (2, (32,) * 3), (2, (64,) * 3), (2, (128,) * 3)]
START, END = "<!-- table: begin -->", "<!-- table: end -->"


def cell(kind: str, channels: int, size: tuple[int, ...]) -> str:
    """Millions of weights, and how many of them the largest dense layer holds; or that it is refused."""
    try:
        with torch.device("meta"):
            net = VAE(NetworkConfig.parse({"kind": kind}), channels, size)
    except ConfigError as error:
        return "refused: " + ("too small" if "halvings" in str(error) else f"{re.search(r'[0-9.]+ GiB', str(error))[0]} in a layer")  # type: ignore
    largest = max(m.in_features * m.out_features for m in net.modules() if isinstance(m, nn.Linear))
    return f"{sum(weight.numel() for weight in net.parameters()) / 1e6:.2f} ({largest / 1e6:.2f})"


def table() -> str:
    kinds = [kind for kind in get_args(NetworkConfig.model_fields["kind"].annotation) if kind != "dense"]
    head = ["kind", *[f"{by(size)}, {channels}" for channels, size in SIZES]]
    rows = [[f"`{kind}`", *[cell(kind, channels, size) for channels, size in SIZES]] for kind in kinds]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    print(table())
    if options.out:
        text = options.out.read_text(encoding="utf-8")
        before, after = text.split(START)[0], text.split(END)[1]
        options.out.write_text(f"{before}{START}\n{table()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
