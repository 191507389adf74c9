"""Draw docs/generated.png: some of each generated set.  python docs/generated_picture.py"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from copdvae.generated.blobs import blobs
from copdvae.generated.scenes import scenes
from copdvae.generated.sprites import sprites

ACROSS = 15


def sheet(found, across: int = ACROSS) -> np.ndarray:
    """Images side by side with a grey line between: (H, W, 3)."""
    image = np.broadcast_to(found.image, (len(found.image), 3, 64, 64))
    framed = np.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=150)
    return framed.reshape(-1, across, 3, 66, 66).transpose(0, 3, 1, 4, 2).reshape(-1, across * 66, 3)


def main() -> None:
    rng = np.random.default_rng(0)
    views = np.arange(4 * ACROSS) + 480 * (100 * rng.integers(10, size=4) + 63).repeat(ACROSS) + 60 * np.repeat([7, 5, 3, 5], ACROSS)
    panels = {
        "scenes: four shapes from 15 sides": scenes(views),
        "scenes: random rows": scenes(rng.integers(0, 480_000, 3 * ACROSS)),
        "sprites: random rows": sprites(rng.integers(0, 737_280, 2 * ACROSS)),
        "blobs: random rows": blobs(rng.integers(0, 102_400, ACROSS)),
    }
    sheets = {title: sheet(found) for title, found in panels.items()}
    heights = [len(each) for each in sheets.values()]
    figure, axes = plt.subplots(len(sheets), figsize=(13, 10.2), layout="constrained", height_ratios=heights)
    for axis, (title, each) in zip(axes, sheets.items(), strict=True):
        axis.imshow(each, interpolation="nearest")
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_axis_off()
    figure.savefig(Path(__file__).with_name("generated.png"), dpi=90)


if __name__ == "__main__":
    main()
