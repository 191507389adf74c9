"""Scenes: an object in a room, 64 x 64 RGB, in the grid of 3D Shapes, ray-cast here. Not the official 3D Shapes: its pixels are others.

Factors as published there, the last changes fastest: floor, wall and object hue (10 each, 0 to .9), scale (8, .75 to 1.25), shape (0 cube,
1 cylinder, 2 sphere, 3 capsule), orientation (15, -30 to 30 degrees: where the camera stands). A pixel is a sum of three colours, with
weights that no hue changes: each of 480 views is cast once and coloured as often as needed.
"""

import colorsys
from functools import lru_cache

import numpy as np

from copdvae.generated.grid import Grid, draw
from copdvae.generated.room import cast
from copdvae.read.images.image_set import ImageSet

SIDE = 64
HUES = np.arange(10) / 10
GRID = Grid(
    "generated_scenes",
    {
        "floor_hue": HUES,
        "wall_hue": HUES,
        "object_hue": HUES,
        "scale": np.linspace(0.75, 1.25, 8),
        "shape": np.arange(4.0),
        "orientation": np.linspace(-30, 30, 15),
    },
    cyclic={"floor_hue": 1.0, "wall_hue": 1.0, "object_hue": 1.0},
)
VIEWS = 8 * 4 * 15
COLOURS = np.array([colorsys.hsv_to_rgb(hue, 0.85, 0.95) for hue in HUES], dtype=np.float32) ** 2  # (10, 3), linear light


def scenes(rows: np.ndarray | None = None) -> ImageSet:
    """The images of `rows`, or all 480,000 (6 GB): (n, 3, 64, 64)."""
    return draw(GRID, render, 3, SIDE, rows)


def render(rows: np.ndarray) -> np.ndarray:
    """Light of floor, wall and object in their colours, and white highlights: (n, 3, 64, 64) uint8."""
    light = np.stack([view(int(number)) for number in rows % VIEWS]).reshape(len(rows), 4, -1)
    colours = np.ones((len(rows), 3, 4), np.float32)
    colours[:, :, :3] = COLOURS[GRID.places(rows)[:, :3]].transpose(0, 2, 1)
    shown = np.sqrt(np.minimum(colours @ light, 1))  # linear light to what a screen is given
    return (255 * shown + 0.5).astype(np.uint8).reshape(len(rows), 3, SIDE, SIDE)


@lru_cache(maxsize=VIEWS)
def view(number: int) -> np.ndarray:
    """Light that floor, wall and object would send if they were white, and highlights: (4, 64, 64) float32."""
    scale, shape, orientation = GRID.factors(np.array([number]))[0, 3:]
    return cast(int(shape), float(scale), float(np.radians(orientation)), SIDE)
