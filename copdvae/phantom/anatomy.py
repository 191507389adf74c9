"""The chest as geometry: body, rib cage, mediastinum, diaphragm, and the trees of airways and vessels.

Patient coordinates are LPS in mm: x to the left, y to the back, z to the head, z = 0 at the lungs' apex, x = 0 at the spine. A shape is
a function of coordinate arrays that gives a distance in mm, negative inside, good to a voxel near its surface: `inside` makes
of it the share of a voxel that the shape fills.
"""

from dataclasses import dataclass, replace

import numpy as np

from copdvae.phantom.people import Person

CARINA_MM = -95.0  # z of the trachea's fork, below the apex
CAGE_POWER = 2.3  # of the superellipse: 2 is an ellipse, more is squarer


@dataclass(frozen=True)
class Thorax:
    """One chest at one breath. `half_*` are the rib cage's inner half axes at its widest, in mm."""

    half_width: float
    half_depth: float
    centre_y: float
    dome: float  # height of the apical dome
    wall: float  # skin to pleura at the side, mm
    wall_fat: float  # of it, fat
    breasts: float  # thickness in front, mm
    square: float  # power of the body's superellipse
    heart: float  # scale
    heart_shift: tuple[float, float, float]
    mediastinum: float  # scale
    diaphragm: float  # z of the domes' foot
    dome_right: float  # height of the right dome over its foot; the left one is lower
    rib_phase: float
    rib_pitch: float
    lung_volume_ml: float


@dataclass(frozen=True)
class Breath:
    """From material (inspiratory) to breath coordinates: x * sx, back + (y - back) * sy, z * sz."""

    scale: tuple[float, float, float]
    back: float

    def forward(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) material points (x, y, z) to where they lie at this breath."""
        sx, sy, sz = self.scale
        return np.stack([points[:, 0] * sx, self.back + (points[:, 1] - self.back) * sy, points[:, 2] * sz], axis=1)

    def backward(self, x, y, z):
        sx, sy, sz = self.scale
        return x / sx, self.back + (y - self.back) / sy, z / sz


def inside(distance_mm: np.ndarray, edge_mm: float) -> np.ndarray:
    """Share of a voxel of size `edge_mm` that lies inside a surface at that signed distance."""
    return np.clip(0.5 - distance_mm / edge_mm, 0, 1)


def draw_thorax(rng: np.random.Generator, person: Person) -> Thorax:
    """A chest at full inspiration for this body. Nothing here knows of the disease."""
    size = (person.height_cm / 170) ** 0.8 * (1.03 if person.sex == "M" else 0.96)
    bmi = person.weight_kg / (person.height_cm / 100) ** 2
    half_width, half_depth = 131 * size * rng.normal(1, 0.04), 88 * size * rng.normal(1, 0.06)
    fat = float(np.clip(6 + 1.5 * (bmi - 20) + rng.normal(0, 3), 5, 42))
    total = (6.2 if person.sex == "M" else 4.9) * (person.height_cm / (176 if person.sex == "M" else 163)) ** 2.3 * 1000
    return Thorax(
        half_width=half_width,
        half_depth=half_depth,
        centre_y=0.0,
        dome=rng.uniform(115, 150) * size,
        wall=14 + fat,
        wall_fat=fat,
        breasts=float(np.clip(rng.normal(22, 8), 5, 45)) if person.sex == "F" else 0.0,
        square=rng.uniform(2.1, 2.7),
        heart=size * rng.uniform(0.85, 1.15),
        heart_shift=(rng.normal(0, 4), rng.normal(0, 3), rng.normal(0, 5)),
        mediastinum=rng.uniform(0.85, 1.2),
        diaphragm=-215.0,
        dome_right=rng.uniform(38, 62),
        rib_phase=rng.random(),
        rib_pitch=rng.uniform(26, 31),
        lung_volume_ml=total * rng.uniform(0.82, 1.08),
    )


def exhale(thorax: Thorax, effort: float, rng: np.random.Generator) -> tuple[Thorax, Breath]:
    """The same chest at `effort` times its lung volume: ribs in, back wall still (supine), diaphragm up."""
    sx, sy = 1 - (1 - effort) * rng.uniform(0.05, 0.11), 1 - (1 - effort) * rng.uniform(0.18, 0.32)
    back = thorax.centre_y + thorax.half_depth
    out = replace(
        thorax,
        half_width=thorax.half_width * sx,
        half_depth=thorax.half_depth * sy,
        centre_y=back - thorax.half_depth * sy,
        heart=thorax.heart * 1.03,
        dome_right=thorax.dome_right * 1.15,
        lung_volume_ml=thorax.lung_volume_ml * effort,
    )
    out = settle_diaphragm(out)
    return out, Breath((sx, sy, out.diaphragm / thorax.diaphragm), back)


def settle_diaphragm(thorax: Thorax, step_mm: float = 8.0) -> Thorax:
    """Put the diaphragm where the lungs above it have `lung_volume_ml`; the heart lies on it, so this takes a few rounds."""
    x = np.arange(-thorax.half_width, thorax.half_width + step_mm, step_mm, dtype=np.float32)
    y = thorax.centre_y + np.arange(-thorax.half_depth, thorax.half_depth + step_mm, step_mm, dtype=np.float32)
    z = np.arange(-360, step_mm, step_mm, dtype=np.float32)
    z, y, x = np.meshgrid(z, y, x, indexing="ij", sparse=True)
    foot = (z - diaphragm_height(thorax, x, y)).ravel()  # the diaphragm's foot at which this voxel just counts
    order = np.argsort(-foot)
    for _ in range(3):
        room = inside(chest_shapes(thorax, x, y, z).pleura, step_mm).ravel()
        volume = np.cumsum(room[order]) * step_mm**3 / 1000
        last = min(int(np.searchsorted(volume, thorax.lung_volume_ml)), len(volume) - 1)
        thorax = replace(thorax, diaphragm=float(foot[order[last]]))
    return thorax


def cage(thorax: Thorax, x, y, z) -> np.ndarray:
    """Distance from the inner side of the ribs: a superellipse that narrows to a dome at the apex.

    Half way to the side it reaches further back (the gutters beside the spine) and forward than in the middle.
    """
    down = np.clip(-z, 0.5, 250)
    table = np.arange(0, 251, 0.5, dtype=np.float32)  # the profile in z, half a millimetre a step
    level = np.rint(2 * down).astype(np.int16)
    height = 1 - np.minimum(np.maximum(table, 0.5) / thorax.dome, 1)  # 1 at the apex, 0 from the dome's foot down
    grow = 0.92 + 0.08 * np.minimum(table / 220, 1)
    width = (thorax.half_width * np.sqrt(1 - height**2) * grow)[level]
    depth = (thorax.half_depth * np.sqrt(1 - height**2.4) * grow)[level]
    height = height[level]
    along = y - thorax.centre_y - 0.2 * thorax.half_depth * height  # the apex lies towards the back
    gutter = 1 - (2 * np.minimum(np.abs(x) / thorax.half_width, 1) - 1) ** 2  # 0 in the middle and at the side, 1 half way
    depth = depth * (0.95 + np.where(along > 0, np.float32(0.17), np.float32(0.08)) * gutter)
    return np.maximum(superellipse(x, along, width, depth, CAGE_POWER), z)


def skin(thorax: Thorax, x, y, z) -> np.ndarray:
    """Distance from the skin: a superellipse that widens to shoulders with raised arms, and breasts."""
    up = np.clip(z + 70, 0, 120)
    out = superellipse(
        x,
        y - thorax.centre_y - 4,
        thorax.half_width + thorax.wall + 0.55 * up - 0.0019 * up**2,
        thorax.half_depth + 0.62 * thorax.wall + 16 - 0.22 * np.clip(z + 30, 0, 120),
        thorax.square,
    )
    if thorax.breasts:
        front = thorax.centre_y - thorax.half_depth
        for side in (-68, 68):
            ratio = np.sqrt(((x - side) / 58) ** 2 + ((y - front) / (18 + thorax.breasts)) ** 2 + ((z + 145) / 62) ** 2)
            out = np.minimum(out, (ratio - 1) * 30)
    return out


def superellipse(x, y, width, depth, power: float) -> np.ndarray:
    """Distance along the ray from the centre to |x / width|^p + |y / depth|^p = 1."""
    ratio = (np.abs(x) / width) ** power + (np.abs(y) / depth) ** power
    ratio = np.maximum(ratio, 1e-6) ** (1 / power)
    return np.hypot(x, y) * (1 - 1 / ratio)


def spine_y(thorax: Thorax) -> float:
    return thorax.centre_y + thorax.half_depth - 24


def heart(thorax: Thorax, x, y, z) -> np.ndarray:
    """An ellipsoid on the diaphragm whose long axis points left, forward and down."""
    dx, dy, dz = thorax.heart_shift
    x, y, z = x - 20 - dx, y - (thorax.centre_y - 0.32 * thorax.half_depth) - dy, z - thorax.diaphragm - 60 - dz
    along = 0.75 * x - 0.4 * y - 0.52 * z
    radius2 = x**2 + y**2 + z**2 - along**2
    long_axis, short_axis = 70 * thorax.heart, 50 * thorax.heart
    ratio = np.sqrt((along / long_axis) ** 2 + radius2 / short_axis**2)
    return (ratio - 1) * short_axis


def aorta(thorax: Thorax, x, y, z) -> np.ndarray:
    """Ascending, arch and descending, with the vertebral column behind it left out."""
    radius = 12.5 * thorax.mediastinum**0.5
    behind = spine_y(thorax) - 24
    descending = np.maximum(np.hypot(x - 20, y - behind) - radius, z + 70)
    front = thorax.centre_y - 0.25 * thorax.half_depth
    ascending = np.maximum(np.hypot(x + 14, y - front) - radius * 1.15, np.maximum(z + 70, -z - 150))
    share = np.clip((y - front) / (behind - front), 0, 1)
    arch = np.sqrt((x - (-14 + 34 * share)) ** 2 + (z + 66) ** 2 + (y - np.clip(y, front, behind)) ** 2) - radius * 1.05
    return np.minimum(np.minimum(descending, ascending), arch)


def mediastinum(thorax: Thorax, x, y, z) -> np.ndarray:
    """All between the lungs but heart and aorta: a wedge that is narrow in front, wide at the hila."""
    forward = (y - thorax.centre_y) / thorax.half_depth  # -1 at the breast bone, 1 at the back
    hila = np.exp(-(((z - CARINA_MM + 20) / 32) ** 2))
    middle = 1 - np.clip(np.abs(forward - 0.05) / 0.9, 0, 1) ** 2
    low = np.clip((-z - 130) / 60, 0, 1)  # below the hila only gullet and fat remain
    behind = 1 - 0.8 * low * (forward < 0)  # there the heart lies in front
    width = thorax.mediastinum * (7 + middle * behind * (20 + 14 * hila - 6 * low))
    return np.abs(x - 4) - width


def spine(thorax: Thorax, x, y) -> np.ndarray:
    """Vertebral bodies and the wedge of muscle and bone behind them, which no lung enters."""
    centre = spine_y(thorax)
    body = np.hypot(x / 1.15, y - centre) - 17
    behind = np.maximum(np.abs(x) - 19 - 0.35 * (y - centre), centre - y)
    return np.minimum(body, behind)


@dataclass(frozen=True)
class Shapes:
    """Distances that both body and lungs need, computed once on one grid."""

    cage: np.ndarray
    heart: np.ndarray
    aorta: np.ndarray
    pleura: np.ndarray  # the lungs' surface, were there no diaphragm


def chest_shapes(thorax: Thorax, x, y, z) -> Shapes:
    ribs, beating, vessel = cage(thorax, x, y, z), heart(thorax, x, y, z), aorta(thorax, x, y, z)
    between = np.minimum(mediastinum(thorax, x, y, z), beating - 3)
    between = np.minimum(between, np.minimum(vessel - 1, spine(thorax, x, y)))
    return Shapes(ribs, beating, vessel, np.maximum(ribs, -between))


def diaphragm_height(thorax: Thorax, x, y) -> np.ndarray:
    """Height of the diaphragm over its foot: two domes, the right one higher, deepest behind."""
    across = (np.abs(x) - 0.5 * thorax.half_width) / (0.52 * thorax.half_width)
    along = (y - thorax.centre_y + 6) / thorax.half_depth
    dome = np.sqrt(np.clip(1.02 - across**2 - 0.92 * along**2, 0, 1))
    height = np.where(x < 0, np.float32(thorax.dome_right), np.float32(thorax.dome_right - 12))
    return height * dome - 16 * along


def lungs(thorax: Thorax, x, y, z, shapes: Shapes | None = None) -> np.ndarray:
    """Distance from the surface of both lungs."""
    above = diaphragm_height(thorax, x, y) + thorax.diaphragm - z
    pleura = (shapes or chest_shapes(thorax, x, y, z)).pleura
    return np.maximum(pleura, 0.75 * above)  # the domes are steep: .75 makes it a distance


@dataclass(frozen=True)
class Tubes:
    """Straight pieces of a tree: from `start` to `end` (N, 3) in mm (x, y, z), with outer radius and wall in mm."""

    start: np.ndarray
    end: np.ndarray
    radius: np.ndarray  # (N,)


def grow_tree(
    root: np.ndarray, targets: np.ndarray, rng: np.random.Generator, reach: float, root_radius: float, leaf_radius: float
) -> Tubes:
    """A tree from `root` to every target: each branch goes `reach` of the way to its targets' centre, then splits them in two.

    Radii follow Murray's law with exponent 2.6 on the number of targets that a branch serves, between the two given.
    """
    starts, ends, served = [], [], []
    todo = [(root, targets)]
    while todo:
        here, group = todo.pop()
        centre = group.mean(axis=0)
        there = centre if len(group) == 1 else here + reach * (centre - here) + rng.normal(0, 2, 3)
        starts.append(here)
        ends.append(there)
        served.append(len(group))
        if len(group) == 1:
            continue
        spread = group - centre
        axis = np.linalg.svd(spread, full_matrices=False)[2][0] if len(group) > 2 else spread[0]
        side = spread @ axis > 0
        side = side if 0 < side.sum() < len(group) else np.arange(len(group)) % 2 == 0
        todo += [(there, group[side]), (there, group[~side])]
    radius = leaf_radius * np.asarray(served, dtype=float) ** (1 / 2.6)
    return Tubes(np.array(starts), np.array(ends), np.minimum(radius, root_radius))


def draw_trees(thorax: Thorax, rng: np.random.Generator) -> tuple[Tubes, Tubes]:
    """Airways (with the trachea) and vessels of both lungs, in material coordinates."""
    points = rng.uniform((-thorax.half_width, -thorax.half_depth, thorax.diaphragm), (thorax.half_width, thorax.half_depth, -4), (6000, 3))
    points = points[lungs(thorax, *points.T) < -4]
    trachea_y = thorax.centre_y + 0.12 * thorax.half_depth
    carina = np.array([2.0, trachea_y, CARINA_MM])
    top = np.array([0.0, trachea_y - 12, 70.0])
    airways = [Tubes(top[None], carina[None], np.array([8.6 * thorax.mediastinum**0.4]))]
    vessels = []
    for side, hilum_x, hilum_z in ((-1, -34.0, -22.0), (1, 40.0, -18.0)):
        own = points[points[:, 0] * side > 0]
        hilum = carina + np.array([hilum_x, 4.0, hilum_z])
        airways.append(Tubes(carina[None], hilum[None], np.array([6.3])))
        airways.append(grow_tree(hilum, own[:70], rng, 0.42, 4.6, 1.0))
        for shift, count in (((0, -8, 4), 260), ((0, 2, -14), 180)):  # arteries, veins
            vessels.append(grow_tree(hilum + np.array(shift), own[70 : 70 + count], rng, 0.4, 6.5, 0.9))
            own = own[count:]
    return join(airways), join(vessels)


def join(parts: list[Tubes]) -> Tubes:
    return Tubes(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("start", "end", "radius")))
