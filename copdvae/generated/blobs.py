"""Blobs.  Paper B, "Evaluation Dataset": a white Gaussian blob on a black canvas of 64 x 64, 25 a position, 102,400 images.

(0, 0) is the canvas' top left corner, x runs to the right and y down, both to 64: the blob's centre is the centre of one of 64 x 64 pixels.
Paper: "for every possible position, we sample 25 different Gaussian blobs", and not how they differ. Here: 5 widths (standard deviation 2
to 4 pixels) times 5 peaks (.6 to 1), so that the set is a full grid; at the canvas' edge a blob is cut.
"""

import numpy as np

from copdvae.generated.grid import Grid, draw
from copdvae.read.images.image_set import ImageSet

SIDE = 64
CENTRES = np.arange(SIDE) + 0.5  # pixels
GRID = Grid(
    "generated_blobs",
    {"x": CENTRES, "y": CENTRES, "width": np.linspace(2, 4, 5), "peak": np.linspace(0.6, 1, 5)},
)


def blobs(rows: np.ndarray | None = None) -> ImageSet:
    """The images of `rows`, or all 102,400 (419 MB): (n, 1, 64, 64)."""
    return draw(GRID, render, 1, SIDE, rows)


def render(rows: np.ndarray) -> np.ndarray:
    """peak exp(-((x - x0)^2 + (y - y0)^2) / (2 width^2)), as (n, 1, 64, 64) uint8."""
    x, y, width, peak = GRID.factors(rows).astype(np.float32).T[:, :, None]
    pixels = CENTRES.astype(np.float32)
    across, down = (np.exp(-((pixels - centre) ** 2) / (2 * width**2)) for centre in (x, y))  # (n, 64) each
    return (255 * peak[:, :, None] * down[:, :, None] * across[:, None, :] + 0.5).astype(np.uint8)[:, None]
