"""Sprites: binary images 64 x 64 in the grid of dSprites, drawn here. Not the official dSprites: its shapes and pixels are others.

Factors as published there, the last changes fastest: shape (1 square, 2 ellipse, 3 heart), scale (6, .5 to 1), orientation (40, 0 to 2 pi,
both ends, so that the first and the last are one pose), position x and y (32 each, 0 to 1: one pixel a step, x to the right and y down).
A pixel is white where its centre lies inside the shape. Centres lie off the pixels' grid (CENTRE), or a small square turned by ten steps,
92 degrees, would be the same picture; so every image is unlike every other but for the two ends of a turn.
"""

import numpy as np

from copdvae.generated.grid import Grid, draw
from copdvae.read.images.image_set import ImageSet

SIDE = 64
MARGIN = 16  # pixels from the canvas' edge to the first centre
REACH = 15  # pixels from a sprite's centre to the last that it may cover
CENTRE = (0.2, 0.45)  # pixels to the right of and below a pixel's centre
GRID = Grid(
    "generated_sprites",
    {
        "shape": np.array([1.0, 2.0, 3.0]),
        "scale": np.linspace(0.5, 1, 6),
        "orientation": np.linspace(0, 2 * np.pi, 40),
        "position_x": np.linspace(0, 1, 32),
        "position_y": np.linspace(0, 1, 32),
    },
    cyclic={"orientation": 2 * np.pi},
)


def sprites(rows: np.ndarray | None = None) -> ImageSet:
    """The images of `rows`, or all 737,280 (3 GB): (n, 1, 64, 64), 0 or 255."""
    return draw(GRID, render, 1, SIDE, rows)


def render(rows: np.ndarray) -> np.ndarray:
    """Each unlike sprite once, then pasted: (n, 1, 64, 64) uint8."""
    places = GRID.places(rows)
    poses, which = np.unique(rows // (32 * 32), return_inverse=True)
    drawn = 255 * stencils(poses)  # (poses, 31, 31)
    window = np.arange(-REACH, REACH + 1)
    across, down = (MARGIN + places[:, axis, None] + window for axis in (3, 4))  # (n, 31) each
    out = np.zeros((len(rows), 1, SIDE, SIDE), np.uint8)
    out[np.arange(len(rows))[:, None, None], 0, down[:, :, None], across[:, None, :]] = drawn[which.reshape(-1)]
    return out


def stencils(poses: np.ndarray) -> np.ndarray:
    """1 inside the sprite: (n, 31, 31) uint8. `poses` numbers shape, scale and orientation together."""
    shape, scale, angle = GRID.factors(poses * (32 * 32))[:, :3].T[:, :, None, None]
    angle %= 2 * np.pi  # a whole turn is no turn, to the last bit
    down, across = np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1] - np.array(CENTRE[::-1])[:, None, None]
    x = (np.cos(angle) * across + np.sin(angle) * down) / scale  # turned back and to scale 1, in pixels
    y = (np.cos(angle) * down - np.sin(angle) * across) / scale
    square = np.maximum(abs(x), abs(y)) <= 9.6
    ellipse = (x / 13.7) ** 2 + (y / 7) ** 2 <= 1
    u, v = x / 10.9, 0.12 - y / 10.9  # the heart (u^2 + v^2 - 1)^3 = u^2 v^3 lies between v = -1 and 1.24: about its middle, top up
    heart = (u**2 + v**2 - 1) ** 3 <= u**2 * v**3
    return np.where(shape == 1, square, np.where(shape == 2, ellipse, heart)).astype(np.uint8)
