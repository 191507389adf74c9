"""Small pictures of a cached subject: a coronal and an axial slice of each scan, side by side, and the lungs' outline to lay over them.

Arrays are (C, z, y, x), frame LPS: x grows to the patient's left, so that the patient's right is on the viewer's left as it is. Two PNG
files, since the outline has twice the picture's pixels and can be taken away. Pillow writes them: a figure's library takes a hundred times
as long, and a page has a thousand.
"""

import base64
import io

import numpy as np
from PIL import Image

from copdvae.prepare.describe import OUTLINES, WINDOW_HU
from copdvae.prepare.lungs import LEFT, RIGHT

SIDE = 64  # pixels of a slice, at most
GREYS = 32  # more cost bytes and show nothing more beside noise
GREY_COLOURS = [(grey, grey, grey) for grey in (round(255 * k / (GREYS - 1)) for k in range(GREYS))]
LINE_COLOURS = [(0, 0, 0), *((int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)) for _, colour in OUTLINES.values())]


def thumbnails(image: np.ndarray, lung: np.ndarray) -> tuple[str, str]:
    """The slices of `image` (HU) and the outlines of `lung` (labels) as data URIs, an image each."""
    planes, outlines = [], []
    for hu, labels in zip(image, lung, strict=True):
        z, y = middle(labels)
        for plane, mask in ((hu[::-1, y], labels[::-1, y]), (hu[z], labels[z])):  # coronal, head up; axial, front up
            planes.append(shrunk(plane))
            outlines.append(outline(np.repeat(np.repeat(nearest(mask), 2, axis=0), 2, axis=1)))
    low, high = WINDOW_HU
    greys = (np.hstack(planes) - low) * (GREYS / (high - low))
    return data_uri(png(greys.clip(0, GREYS - 1).astype(np.uint8), GREY_COLOURS)), data_uri(png(np.hstack(outlines), LINE_COLOURS, 0))


def middle(labels: np.ndarray) -> tuple[int, int]:
    """The slices (z, y) through the middle of the lungs, or of the cube where none are labelled."""
    lungs = (labels == RIGHT) | (labels == LEFT)
    found = [np.flatnonzero(lungs.any(axis=axes)) for axes in ((1, 2), (0, 2))]
    z, y = (int(line[0] + line[-1]) // 2 if len(line) else size // 2 for line, size in zip(found, labels.shape[:2], strict=True))
    return z, y


def shrunk(plane: np.ndarray) -> np.ndarray:
    """A square plane of at most `SIDE` pixels: means of what falls into each."""
    size = len(plane)
    if size <= SIDE:
        return plane.astype(np.float32)
    edges = np.arange(SIDE) * size // SIDE
    counts = np.diff(np.append(edges, size))
    sums = np.add.reduceat(np.add.reduceat(plane.astype(np.float32), edges, axis=0), edges, axis=1)
    return sums / (counts[:, None] * counts)


def nearest(labels: np.ndarray) -> np.ndarray:
    """The same of labels: that of the voxel in a pixel's middle."""
    size = len(labels)
    if size <= SIDE:
        return labels
    centres = ((np.arange(SIDE) + 0.5) * size / SIDE).astype(int)
    return labels[np.ix_(centres, centres)]


def outline(labels: np.ndarray) -> np.ndarray:
    """Labels where they meet another one above, below or beside them, else 0."""
    framed = np.pad(labels, 1)
    inside = np.ones(labels.shape, bool)
    for down, across in ((0, 1), (2, 1), (1, 0), (1, 2)):
        inside &= framed[down : down + len(labels), across : across + labels.shape[1]] == labels
    return np.where(inside, 0, labels).astype(np.uint8)


def png(pixels: np.ndarray, colours: list[tuple[int, int, int]], clear: int | None = None) -> bytes:
    """A PNG file of `pixels` (height, width), each the number of one of `colours`; the colour `clear` is transparent."""
    picture = Image.fromarray(pixels)
    picture.putpalette(np.array(colours, np.uint8).tobytes())
    file = io.BytesIO()
    bits = next(bits for bits in (1, 2, 4, 8) if len(colours) <= 1 << bits)
    picture.save(file, format="PNG", bits=bits, compress_level=9, **({} if clear is None else {"transparency": clear}))
    return file.getvalue()


def data_uri(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()
