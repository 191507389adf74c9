"""Many picture files into one array, shrunk on the way.

Pillow decodes, with the one decoder that a set's layout names. Shrinking averages over the area that a new pixel covers, weighted by a
triangle (Pillow's BILINEAR); no paper says how its images were shrunk, but for C on Isaac3D ("bilinear downsampling").
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from copdvae.errors import ReadError
from copdvae.read.images.image_set import empty_images

BLOCK = 256  # pictures that one thread reads at a time


def read_pictures(
    paths: Sequence[Path], decoder: str, expected: Sequence[tuple[int, int]], channels: int, size: tuple[int, int] | None
) -> np.ndarray:
    """The pictures at `paths` as (N, C, H, W) uint8, in any of the sizes `expected` (H, W) and then made `size` (H, W).

    `size` None keeps the pictures' own, which must then be the same for all.
    """
    if not paths:
        return np.zeros((0, channels, *(size or expected[0])), np.uint8)
    allowed = expected if size else [shape_of(paths[0], decoder)]
    if not size and allowed[0] not in expected:
        raise wrong_shape(paths[0], allowed[0], expected)
    out = empty_images(paths[0].parent, len(paths), channels, *(size or allowed[0]))

    def read_block(first: int) -> None:
        for row, path in enumerate(paths[first : first + BLOCK], start=first):
            out[row] = read_picture(path, decoder, allowed, channels, size)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in threads.map(read_block, range(0, len(paths), BLOCK)):
            pass
    return out


def shape_of(path: Path, decoder: str) -> tuple[int, int]:
    """Height and width, from the header alone."""
    from PIL import Image

    try:
        with Image.open(path, formats=(decoder,)) as picture:
            return picture.height, picture.width
    except FileNotFoundError:
        raise ReadError(f"{path}: no such file", "no_file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise broken(path, decoder, error) from None


def read_picture(path: Path, decoder: str, expected: Sequence[tuple[int, int]], channels: int, size: tuple[int, int] | None) -> np.ndarray:
    """One picture: (C, H, W) uint8."""
    from PIL import Image

    if (found := shape_of(path, decoder)) not in expected:
        raise wrong_shape(path, found, expected)
    try:
        with Image.open(path, formats=(decoder,)) as picture:
            pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise broken(path, decoder, error) from None
    return shrink(pixels[None], size)[0]


def shrink(pixels: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Images (N, H, W) or (N, H, W, 3), resized to `size` (H, W) unless that is None: (N, C, H, W)."""
    from PIL import Image

    if size and pixels.shape[1:3] != size:
        wide = (size[1], size[0])
        pixels = np.stack([np.asarray(Image.fromarray(each).resize(wide, Image.Resampling.BILINEAR)) for each in pixels])
    return pixels[:, None] if pixels.ndim == 3 else np.moveaxis(pixels, 3, 1)


def wrong_shape(path: Path, found: tuple[int, int], expected: Sequence[tuple[int, int]]) -> ReadError:
    wanted = " or ".join(f"{height} x {width}" for height, width in expected)
    return ReadError(f"{path}: {found[0]} x {found[1]} pixels (height x width), expected {wanted}; is it another set?", "wrong_shape")


def broken(path: Path, decoder: str, error: Exception) -> ReadError:
    return ReadError(f"{path}: not a whole {decoder} picture ({error}); fetch it again", "truncated")
