"""Cast rays into a room with one object.  z up, floor at z = 0, the object above (0, 0).

Walls stand at x = -4, x = 4 and y = 4; the fourth is behind the camera, which looks at the object from `angle` around the z axis. A lamp of
some width hangs in front, to the left and above: shadows have soft edges. Light falls off with Lambert's cosine and is dimmed in corners.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from copdvae.generated.solids import BOX, CUBE, CYLINDER, hit, object_normal, unit

WALL = 4.0
CAMERA, HEIGHT, TARGET = 6.0, 3.1, 0.72  # distance from the axis, above the floor, and the height that is looked at
HALF_VIEW = 0.40  # tangent of half the angle of view
LAMP = np.array([-2.3, -3.6, 5.6], dtype=np.float32)
LAMP_POINTS = np.array([[0, 0, 0], [0.45, 0, 0.1], [-0.3, 0.35, 0], [-0.2, -0.4, -0.1]], dtype=np.float32)
AMBIENT, DIRECT = 0.42, 0.72
RAYS = 3  # a pixel, each way


@dataclass(frozen=True)
class Backdrop:
    """The empty room as the camera sees it from one side."""

    eye: np.ndarray  # (3,)
    ray: np.ndarray  # (S, S, 3), unit
    distance: np.ndarray  # (S, S)
    point: np.ndarray  # (S, S, 3)
    floor: np.ndarray  # (S, S) bool
    to_lamp: np.ndarray  # (S, S, 3), unit
    cosine: np.ndarray  # (S, S)
    ambient: np.ndarray  # (S, S)


@lru_cache(maxsize=15)
def backdrop(angle: float, side: int) -> Backdrop:
    eye, ray = camera(angle, side)
    distance, normal = room(eye, ray)
    point = eye + distance[..., None] * ray
    to_lamp = unit(LAMP - point)
    second = np.sort(np.stack([point[..., 2], WALL - abs(point[..., 0]), WALL - point[..., 1]]), axis=0)[1]  # to the other plane nearby
    ambient = AMBIENT * (1 - 0.4 * np.exp(-np.maximum(second, 0) / 0.7))  # dimmed where planes meet
    return Backdrop(eye, ray, distance, point, normal[..., 2] == 1, to_lamp, np.maximum((normal * to_lamp).sum(-1), 0), ambient)


def cast(shape: int, scale: float, angle: float, side: int) -> np.ndarray:
    """Light from floor, wall and object, each as if white, and highlights, averaged over a pixel's rays: (4, side, side) float32."""
    behind = backdrop(angle, side * RAYS)
    distance = hit(shape, scale, behind.eye, behind.ray)
    seen = distance < behind.distance
    maps = np.zeros((4, *seen.shape), np.float32)
    light = behind.ambient * contact(shape, scale, behind.point) + DIRECT * behind.cosine * lit(shape, scale, behind, ~seen)
    maps[0], maps[1] = light * (behind.floor & ~seen), light * ~(behind.floor | seen)
    maps[2, seen], maps[3, seen] = on_object(shape, scale, behind.eye + distance[seen, None] * behind.ray[seen], behind.ray[seen])
    return maps.reshape(4, side, RAYS, side, RAYS).mean(axis=(2, 4), dtype=np.float32)


def on_object(shape: int, scale: float, point: np.ndarray, ray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Light and highlight at points of the object, which is convex and throws no shadow on itself: (n,) each."""
    normal, to_lamp = object_normal(shape, scale, point), unit(LAMP - point)
    cosine = np.maximum((normal * to_lamp).sum(-1), 0)
    ambient = AMBIENT * (1 - 0.35 * np.exp(-point[..., 2] / (0.4 * scale)))  # less near the floor
    half = (normal * unit(to_lamp - ray)).sum(-1)
    return ambient + DIRECT * cosine, 0.45 * (cosine > 0) * np.maximum(half, 0) ** 40


def camera(angle: float, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the camera stands (3,), and a unit ray through each point of a picture: (side, side, 3), rows from the top."""
    eye = np.array([CAMERA * np.sin(angle), -CAMERA * np.cos(angle), HEIGHT])
    ahead = unit(np.array([0, 0, TARGET]) - eye)
    right = unit(np.cross(ahead, [0, 0, 1]))
    steps = HALF_VIEW * (2 * (np.arange(side) + 0.5) / side - 1)
    rays = ahead + steps[None, :, None] * right - steps[:, None, None] * np.cross(right, ahead)
    return eye.astype(np.float32), unit(rays).astype(np.float32)


def room(eye: np.ndarray, ray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the floor or a wall, and the normal there."""
    normals = np.array([[0, 0, 1], [1, 0, 0], [-1, 0, 0], [0, -1, 0]], dtype=np.float32)
    heading = -(ray @ normals.T)  # how fast each plane comes nearer: (..., 4)
    away = normals @ eye + np.array([0, WALL, WALL, WALL], dtype=np.float32)
    distance = np.where(heading > 1e-6, away / np.maximum(heading, 1e-6), np.inf)
    return distance.min(-1), normals[distance.argmin(-1)]


def lit(shape: int, scale: float, behind: Backdrop, visible: np.ndarray) -> np.ndarray:
    """Share of the lamp that the object does not hide from the points of the room that are visible: (S, S)."""
    middle = np.array([0, 0, 0.9 * scale], dtype=np.float32) - behind.point
    along = (middle * behind.to_lamp).sum(-1)
    near = visible & (along > 0) & ((middle**2).sum(-1) - along**2 < (1.5 * scale + 0.25) ** 2)  # others look past the object
    share = np.ones(visible.shape, np.float32)
    start = behind.point[near]
    share[near] = np.mean([np.isinf(hit(shape, scale, start, unit(LAMP + part - start))) for part in LAMP_POINTS], axis=0)
    return share


def contact(shape: int, scale: float, point: np.ndarray) -> np.ndarray:
    """Share of the ambient light that gets past the object to points of the room: less on the floor beside it."""
    radius = BOX * scale if shape in (CUBE, CYLINDER) else 0.35 * scale
    beside = np.sqrt((point[..., :2] ** 2).sum(-1)) - radius
    return 1 - 0.55 * np.exp(-np.maximum(beside, 0) / (0.3 * scale) - np.maximum(point[..., 2], 0) / 0.1)
