"""Where rays meet a cube, cylinder, sphere or capsule that stands on the floor above (0, 0), z up, and the normals there."""

import numpy as np

CUBE, CYLINDER, SPHERE, CAPSULE = range(4)
BOX, BALL = 0.82, 0.96  # half the cube's edge and the sphere's radius at scale 1


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.sqrt((vectors**2).sum(-1, keepdims=True))


def hit(shape: int, scale: float, start: np.ndarray, ray: np.ndarray) -> np.ndarray:
    """Distance along unit rays from `start` to the object, inf where it is missed."""
    if shape == SPHERE:
        return ball(start, ray, BALL * scale, BALL * scale)
    if shape == CUBE:
        half = BOX * scale
        return slab(start, ray, np.array([-half, -half, 0], dtype=np.float32), np.array([half, half, 2 * half], dtype=np.float32))
    radius, bottom, top = profile(shape, scale)
    distance = tube(start, ray, radius, bottom, top)
    if shape == CAPSULE:
        return np.minimum(distance, np.minimum(ball(start, ray, radius, bottom), ball(start, ray, radius, top)))
    for height in (bottom, top):  # the cylinder's ends
        away = (height - start[..., 2]) / np.where(ray[..., 2] == 0, 1e-9, ray[..., 2])
        spot = start[..., :2] + away[..., None] * ray[..., :2]
        distance = np.where((away > 0) & ((spot**2).sum(-1) <= radius**2), np.minimum(distance, away), distance)
    return distance


def profile(shape: int, scale: float) -> tuple[float, float, float]:
    """Radius of a cylinder or capsule, and where its straight part begins and ends."""
    return (0.82 * scale, 0.0, 1.7 * scale) if shape == CYLINDER else (0.66 * scale, 0.66 * scale, 1.6 * scale)


def ball(start: np.ndarray, ray: np.ndarray, radius: float, height: float) -> np.ndarray:
    centre = np.array([0, 0, height], dtype=np.float32)
    return nearest((ray * (start - centre)).sum(-1), 1, ((start - centre) ** 2).sum(-1) - radius**2)


def tube(start: np.ndarray, ray: np.ndarray, radius: float, bottom: float, top: float) -> np.ndarray:
    flat, away = ray[..., :2], start[..., :2]
    distance = nearest((flat * away).sum(-1), np.maximum((flat**2).sum(-1), 1e-9), (away**2).sum(-1) - radius**2)
    height = start[..., 2] + np.where(np.isinf(distance), 0, distance) * ray[..., 2]
    return np.where((height >= bottom) & (height <= top), distance, np.inf)


def nearest(half_b, a, c) -> np.ndarray:
    """The nearer root of a t^2 + 2 half_b t + c, inf where there is none ahead."""
    inside = half_b**2 - a * c
    root = (-half_b - np.sqrt(np.maximum(inside, 0))) / a
    return np.where((inside >= 0) & (root > 0), root, np.inf)


def slab(start: np.ndarray, ray: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Where a ray enters the box from `low` to `high`."""
    step = np.where(ray == 0, 1e-9, ray)
    first, second = (low - start) / step, (high - start) / step
    enter, leave = np.minimum(first, second).max(-1), np.maximum(first, second).min(-1)
    return np.where((enter <= leave) & (enter > 0), enter, np.inf)


def object_normal(shape: int, scale: float, point: np.ndarray) -> np.ndarray:
    """The normal at points on the object; elsewhere anything."""
    if shape == CUBE:
        away = (point - np.array([0, 0, BOX * scale], dtype=np.float32)) / (BOX * scale)
        return np.sign(away) * (abs(away) == abs(away).max(-1, keepdims=True))
    bottom, top = (BALL * scale, BALL * scale) if shape == SPHERE else profile(shape, scale)[1:]
    core = point.copy()
    core[..., :2] = 0
    core[..., 2] = np.clip(point[..., 2], bottom, top)
    normal = unit(point - core + 1e-9)
    if shape == CYLINDER:
        normal[point[..., 2] > top - 1e-3] = (0, 0, 1)
    return normal
