"""What the two disease factors do to a lung: holes of emphysema, patches that trap air, thicker airway walls.

Both are laid out once a subject in material (inspiratory) coordinates, so that the two scans show the same lung.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from copdvae.phantom.anatomy import Thorax, lungs
from copdvae.phantom.people import Disease

MOST_EMPHYSEMA = 0.36  # share of the lung that holes take at the worst
MOST_TRAPPING = 0.62  # share of the lobules that trap air at the worst


@dataclass(frozen=True)
class Lesions:
    """Lengths in mm, points (N, 3) as (x, y, z) in material coordinates."""

    hole_centre: np.ndarray
    hole_radius: np.ndarray
    hole_density: float  # g/ml
    lobule_centre: np.ndarray
    lobule_trapping: np.ndarray  # 0 (empties) to 1 (keeps all its air)
    wall_mm: float  # of the airways
    emphysema_share: float  # planned
    trapping_share: float


def draw_lesions(rng: np.random.Generator, thorax: Thorax, disease: Disease) -> Lesions:
    low = (-thorax.half_width, -thorax.centre_y - thorax.half_depth, thorax.diaphragm)
    points = rng.uniform(low, (thorax.half_width, thorax.centre_y + thorax.half_depth, -3), (16000, 3))
    points = points[lungs(thorax, *points.T) < -2]
    height = 1 - points[:, 2] / thorax.diaphragm  # 1 at the apex, 0 at the base

    emphysema = MOST_EMPHYSEMA * disease.emphysema**1.3 * np.exp(rng.normal(0, 0.1))
    trapping = MOST_TRAPPING * disease.small_airways**1.2 * np.exp(rng.normal(0, 0.15))
    centre, radius = draw_holes(rng, points, height, emphysema, disease.emphysema)
    lobules, trapped = draw_lobules(rng, points, height, trapping)
    return Lesions(
        centre,
        radius,
        rng.uniform(0.015, 0.03),
        lobules,
        trapped,
        0.8 + 1.1 * disease.small_airways + rng.normal(0, 0.12),
        emphysema,
        trapping,
    )


def draw_holes(
    rng: np.random.Generator, points: np.ndarray, height: np.ndarray, share: float, factor: float
) -> tuple[np.ndarray, np.ndarray]:
    """Spheres in clusters, most of them near the apex, until together they take `share` of the lung: centres (N, 3), radii (N,).

    `points` are spread evenly over the lung: what share of them the spheres cover is the share of the lung that they take.
    """
    most = 1500
    radius = np.clip((4.5 + 5.0 * factor) * np.exp(rng.normal(0, 0.4, most)), 2.5, 20)
    weight = np.exp(rng.uniform(1.0, 3.5) * height)
    clusters = points[rng.choice(len(points), 5 + int(24 * factor), p=weight / weight.sum())]
    spread = rng.uniform(14, 24)
    lung = KDTree(points)
    near = lung.query(clusters[rng.integers(len(clusters), size=most)] + rng.normal(0, spread, (most, 3)))[1]
    centre = points[near] + rng.normal(0, 1.5, (most, 3))  # none outside the lung
    covered = np.zeros(len(points), dtype=bool)
    count = 0
    for found in lung.query_ball_point(centre, radius):
        if covered.mean() >= share:
            break
        covered[found] = True
        count += 1
    return centre[:count], radius[:count]


def draw_lobules(rng, points, height, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Groups of secondary lobules (Voronoi cells about 25 mm wide); a `share` of them, in neighbourhoods, traps air."""
    lobules = points[:260]
    foci = points[rng.choice(len(points), 14)]
    tendency = KDTree(foci).query(lobules)[0] / 25 + rng.normal(0, 0.6, len(lobules)) + rng.normal(0, 0.8) * height[:260]
    trapped = np.argsort(np.argsort(tendency)) < share * len(lobules)
    return lobules, trapped * rng.uniform(0.82, 1.0, len(lobules))


def summary(lesions: Lesions) -> dict[str, float]:
    """The numbers that say how these lesions came out: for the truth table."""
    return {
        "emphysema_share": lesions.emphysema_share,
        "trapping_share": lesions.trapping_share,
        "holes": len(lesions.hole_radius),
        "hole_ml": float(4 / 3 * np.pi * (lesions.hole_radius**3).sum() / 1000),
        "hole_mean_mm": float(lesions.hole_radius.mean()) if len(lesions.hole_radius) else 0.0,
        "hole_mean_z": float(lesions.hole_centre[:, 2].mean()) if len(lesions.hole_radius) else 0.0,
        "hole_density": lesions.hole_density,
        "trapped": float((lesions.lobule_trapping > 0).mean()),
        "wall_mm": lesions.wall_mm,
    }
