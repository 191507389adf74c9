"""From a chest to the CT of it: densities, partial volume, blur, noise.  Arrays are (z, y, x) in HU, spacing is (z, y, x) in mm.

Tissue is composed on the scan's own voxels with soft edges (the share of a voxel that a shape fills), so that what is thinner than a
voxel fades as it does in a scanner. Lung density follows conservation of mass: at `effort` of the inspiratory volume, lung that
empties is 1 / effort as dense, lung that traps air stays as it was.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from copdvae.phantom import anatomy
from copdvae.phantom.anatomy import Breath, Shapes, Thorax, Tubes, inside
from copdvae.phantom.disease import Lesions
from copdvae.phantom.people import Person

FAT_HU, MUSCLE_HU, BLOOD_HU, LIVER_HU, BONE_HU, MARROW_HU = -98.0, 48.0, 42.0, 58.0, 520.0, 190.0
SITES = 4
SCANNERS = (("Foxglove", "Arc 64"), ("Foxglove", "Arc 128"), ("Larkspur", "Helix 16"), ("Larkspur", "Helix 80"))  # made-up makers
KERNELS = {"soft": "P30s", "sharp": "P60h"}


@dataclass(frozen=True)
class Scanner:
    """How one subject was scanned: nothing here knows of the disease."""

    site: int
    scanner: int
    offset_hu: float
    kernel: str  # "soft" or "sharp"
    noise_hu: float  # standard deviation in water
    spacing: tuple[float, float, float]  # (z, y, x) mm
    kvp: int = 120


@dataclass(frozen=True)
class Pose:
    """How the body lies on the table: rotation about z, y, x in degrees, shift (x, y, z) in mm."""

    angles: tuple[float, float, float]
    shift: tuple[float, float, float]

    def matrix(self) -> np.ndarray:
        """(3, 3): scanner to patient axes."""
        out = np.eye(3)
        for axis, degrees in zip((2, 1, 0), self.angles, strict=True):
            c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
            i, j = [k for k in range(3) if k != axis]
            turn = np.eye(3)
            turn[i, i] = turn[j, j] = c
            turn[i, j], turn[j, i] = s, -s
            out = out @ turn
        return out


@dataclass(frozen=True)
class Parenchyma:
    density: float  # g/ml at full inspiration, of healthy lung without visible vessels
    gravity: float  # relative gain from the middle to the back wall
    mottle: float  # relative standard deviation of the texture


def draw_parenchyma(rng: np.random.Generator, person: Person) -> Parenchyma:
    """Healthy lung's own variation; who smokes now has denser lungs."""
    return Parenchyma(
        float(np.clip(rng.normal(0.120, 0.006), 0.108, 0.134)) + 0.006 * person.smokes_now, rng.uniform(0.04, 0.1), rng.uniform(0.04, 0.08)
    )


def draw_scanner(rng: np.random.Generator, size: int, thorax: Thorax) -> Scanner:
    site = int(rng.integers(SITES))
    scanner = int(rng.integers(2)) + 2 * (site % 2)
    offset = (-3.0, 3.0, 1.0, -1.0)[scanner] + (1.5, -1.5, -0.5, 0.5)[site] + rng.uniform(-1.5, 1.5)
    kernel = "sharp" if rng.random() < 0.35 else "soft"
    field = 2 * (thorax.half_width + rng.uniform(38, 66))
    plane = round(field / size, 4)
    depth = round(float(rng.uniform(0.85, 1.4) * 300 / size), 2)
    noise = float(np.clip(rng.normal(16, 3.5) * (1.15 if kernel == "sharp" else 0.95), 9, 23))
    return Scanner(site, scanner, round(offset, 2), kernel, round(noise, 2), (depth, plane, plane))


def draw_pose(rng: np.random.Generator) -> Pose:
    angles, shift = rng.normal(0, (3.0, 1.5, 2.5)), rng.normal(0, (6.0, 6.0, 0.0))
    # No lung leaves the field of view: leaning sideways, 300 mm below the apex, moves it by 16 mm, the shift by 12.
    return Pose(tuple(np.clip(angles, (-7, -3, -7), (7, 3, 7))), tuple(np.clip(shift, -12, 12)))


class Canvas:
    """The scan's voxels: their patient coordinates, and what has been painted so far."""

    def __init__(self, scanner: Scanner, pose: Pose, size: int, top: float, bottom: float, centre_y: float):
        dz, dy, dx = scanner.spacing
        slices = int(np.ceil((top - bottom) / dz))
        self.shape = (slices, size, size)
        self.origin = np.array([-(size - 1) / 2 * dx, -(size - 1) / 2 * dy + centre_y, bottom])  # (x, y, z) of the first voxel
        self.step = np.array([dx, dy, dz])
        self.turn, self.shift = pose.matrix(), np.asarray(pose.shift)
        axes = [self.origin[k] + self.step[k] * np.arange(n) - self.shift[k] for k, n in zip((0, 1, 2), (size, size, slices), strict=True)]
        x, y, z = axes[0][None, None, :], axes[1][None, :, None], axes[2][:, None, None]
        self.x, self.y, self.z = ((row[0] * x + row[1] * y + row[2] * z).astype(np.float32) for row in self.turn)
        self.edge = float((dx * dy * dz) ** (1 / 3))

    def voxels(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) patient points (x, y, z) to fractional voxel indices (x, y, z)."""
        return (points @ self.turn + self.shift - self.origin) / self.step

    def around(self, low: tuple[float, float, float], high: tuple[float, float, float]) -> tuple[slice, slice, slice]:
        """The slices (z, y, x) of the smallest block of voxels that holds the patient's box from `low` to `high` (x, y, z)."""
        corners = self.voxels(np.array([[(low, high)[i][0], (low, high)[j][1], (low, high)[k][2]] for i, j, k in np.ndindex(2, 2, 2)]))
        first = np.maximum(np.floor(corners.min(axis=0)) - 1, 0).astype(int)
        last = np.maximum(np.ceil(corners.max(axis=0)) + 2, 0).astype(int)
        return tuple(slice(a, b) for a, b in zip(first[::-1], last[::-1], strict=True))  # type: ignore[return-value]


def stamp_balls(canvas: Canvas, centre: np.ndarray, radius: np.ndarray, stretch: np.ndarray) -> np.ndarray:
    """Share of each voxel inside ellipsoids with half axes `radius * stretch` (x, y, z): (z, y, x) float32."""
    out = np.zeros(canvas.shape, dtype=np.float32)
    at, limits = canvas.voxels(centre), np.array(canvas.shape[::-1])
    reach = (radius[:, None] * stretch + canvas.edge) / canvas.step
    low, high = np.maximum(np.ceil(at - reach), 0).astype(int), np.minimum(np.floor(at + reach) + 1, limits).astype(int)
    for i in np.flatnonzero((low < high).all(axis=1)):
        (x0, y0, z0), (x1, y1, z1) = low[i], high[i]
        dx, dy, dz = ((np.arange(a, b) - c) * s / k for a, b, c, s, k in zip(low[i], high[i], at[i], canvas.step, stretch, strict=True))
        distance = np.sqrt(dz[:, None, None] ** 2 + dy[None, :, None] ** 2 + dx[None, None, :] ** 2) - radius[i]
        part = out[z0:z1, y0:y1, x0:x1]
        np.maximum(part, np.clip(0.5 - distance / canvas.edge, 0, 1), out=part)
    return out


def stamp_capsules(canvas: Canvas, tubes: Tubes, breath: Breath, grow_mm: float = 0.0) -> np.ndarray:
    """Share of each voxel inside tubes that are wider than voxels, as capsules."""
    out = np.zeros(canvas.shape, dtype=np.float32)
    start, end = (canvas.voxels(breath.forward(points)) for points in (tubes.start, tubes.end))
    limits = np.array(canvas.shape[::-1])
    for a, b, radius in zip(start, end, tubes.radius + grow_mm, strict=True):
        reach = (radius + canvas.edge) / canvas.step
        low = np.clip(np.ceil(np.minimum(a, b) - reach), 0, limits).astype(int)
        high = np.clip(np.floor(np.maximum(a, b) + reach) + 1, 0, limits).astype(int)
        if (low >= high).any():
            continue
        along = (b - a) * canvas.step
        p = [((np.arange(low[k], high[k]) - a[k]) * canvas.step[k]).astype(np.float32) for k in range(3)]
        px, py, pz = p[0][None, None, :], p[1][None, :, None], p[2][:, None, None]
        t = np.clip((px * along[0] + py * along[1] + pz * along[2]) / max(along @ along, 1e-6), 0, 1)
        distance = np.sqrt((px - t * along[0]) ** 2 + (py - t * along[1]) ** 2 + (pz - t * along[2]) ** 2) - radius
        part = out[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
        np.maximum(part, inside(distance, canvas.edge), out=part)
    return out


def stamp_fine(canvas: Canvas, tubes: Tubes, breath: Breath, area_mm2: np.ndarray) -> np.ndarray:
    """Share of each voxel filled by tubes about as thin as voxels: their volume laid out along them, to the eight nearest voxels."""
    start, end = breath.forward(tubes.start), breath.forward(tubes.end)
    length = np.linalg.norm(end - start, axis=1)
    count = np.maximum(np.ceil(length / (0.6 * canvas.edge)), 1).astype(int)
    which = np.repeat(np.arange(len(count)), count)
    t = (np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count) + 0.5) / count[which]
    at = canvas.voxels(start[which] + t[:, None] * (end - start)[which])
    share = (area_mm2 * length / count)[which] / np.prod(canvas.step)
    return scatter(at, share, canvas.shape)


def scatter(at: np.ndarray, share: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Add `share` at fractional voxels (x, y, z) with trilinear weights."""
    first = np.floor(at).astype(int)
    rest = at - first
    out = np.zeros(int(np.prod(shape)))
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(corner, rest, 1 - rest), axis=1) * share
        x, y, z = (first + corner).T
        fits = (x >= 0) & (y >= 0) & (z >= 0) & (x < shape[2]) & (y < shape[1]) & (z < shape[0])
        out += np.bincount(((z * shape[1] + y) * shape[2] + x)[fits], weight[fits], len(out))
    return out.reshape(shape).astype(np.float32)


def pick(tubes: Tubes, keep: np.ndarray) -> Tubes:
    return Tubes(tubes.start[keep], tubes.end[keep], tubes.radius[keep])


def mix(image: np.ndarray, share: np.ndarray, hu: float | np.ndarray) -> None:
    """Replace `share` of each voxel by `hu`, in place."""
    image += share * (hu - image)


def paint_body(canvas: Canvas, thorax: Thorax, shapes: Shapes, rng: np.random.Generator, soft: np.ndarray) -> np.ndarray:
    """Everything but the lungs: (z, y, x) HU. `soft` is smooth unit noise that breaks up the tissue."""
    z, edge = canvas.z, canvas.edge
    image = np.full(canvas.shape, -1000.0, dtype=np.float32)
    paint_table(canvas, image, thorax)
    skin = anatomy.skin(thorax, canvas.x, canvas.y, z)
    mix(image, inside(skin, edge), MUSCLE_HU + 8 * soft)
    fat = np.minimum(-skin - 2.5, skin + thorax.wall_fat + 5 * soft)  # a layer under the skin
    mix(image, inside(-fat, edge), FAT_HU + 6 * soft)
    paint_bones(canvas, image, thorax, shapes.cage, soft)
    inner = inside(np.maximum(shapes.cage, z), edge)
    mix(image, inner, FAT_HU + 45 + 25 * soft)  # mediastinal fat; abdomen and lungs are painted over it
    for organ in (shapes.heart, shapes.aorta):
        mix(image, inside(organ, edge) * inner, BLOOD_HU + 4 * soft)
    paint_abdomen(canvas, image, thorax, inner, rng, soft)
    paint_spine(canvas, image, thorax, inner)
    return image


def paint_bones(canvas: Canvas, image: np.ndarray, thorax: Thorax, cage: np.ndarray, soft: np.ndarray) -> None:
    """Ribs as stripes on the cage that fall towards the front, shoulder blades outside them, the breast bone; fat between muscles."""
    front, edge = thorax.centre_y - thorax.half_depth, canvas.edge
    side, back = thorax.half_width + 45, thorax.centre_y + thorax.half_depth + 45
    at = canvas.around((-side, front - 45, -400), (side, back, 60))
    x, y, z, close = canvas.x[at], canvas.y[at], canvas.z[at], cage[at]
    mix(image[at], inside(np.abs(close - 14 - 2 * soft[at]) - 2.2, edge) * 0.6, FAT_HU)
    rib = (z - 0.42 * (y - thorax.centre_y)) / thorax.rib_pitch + thorax.rib_phase
    stripe = np.abs(rib - np.round(rib)) * thorax.rib_pitch - 5.2
    cartilage = (np.abs(x) + 14 < 0.4 * thorax.half_width) & (y < thorax.centre_y)
    mix(image[at], inside(np.maximum(np.abs(close - 7) - 4, stripe), edge) * ~cartilage, BONE_HU - 150)

    at = canvas.around((-side, thorax.centre_y + 40, -140), (side, back, 30))
    x, y, above = canvas.x[at], canvas.y[at], np.abs(canvas.z[at] + 60)
    blade = np.maximum(np.abs(cage[at] - 25 - 0.1 * above) - 3.0, np.maximum(above - 75, 55 - y + thorax.centre_y))
    mix(image[at], inside(np.maximum(blade, 45 - np.abs(x)), edge), BONE_HU - 200)

    at = canvas.around((-25, front - 20, -180), (25, front + 5, -30))
    x, y, z = canvas.x[at], canvas.y[at], canvas.z[at]
    bone = np.maximum(np.abs(x) - 19, np.abs(y - front + 7) - 6)
    mix(image[at], inside(np.maximum(bone, np.maximum(z + 40, -170 - z)), edge), MARROW_HU)


def paint_spine(canvas: Canvas, image: np.ndarray, thorax: Thorax, inner: np.ndarray) -> None:
    """Vertebral bodies with discs, arches and processes round the cord, and the gullet in front of them."""
    centre, edge = anatomy.spine_y(thorax), canvas.edge
    at = canvas.around((-34, centre - 45, -500), (34, centre + 70, 120))
    x, y, z, part = canvas.x[at], canvas.y[at], canvas.z[at], image[at]
    gullet = np.hypot(x - 8, y - centre + 32) - 8
    mix(part, inside(gullet, edge) * inner[at], MUSCLE_HU - 10)
    vertebra = np.hypot(x / 1.1, y - centre) - 16.5
    disc = np.abs(((z / 27 + thorax.rib_phase) % 1) - 0.5) * 27 - 10.5
    mix(part, inside(vertebra, edge), np.where(disc > 0, np.float32(90), np.float32(MARROW_HU)))
    mix(part, inside(np.abs(vertebra) - 1.6, edge), BONE_HU)
    cord = np.hypot(x, y - centre - 25)
    mix(part, inside(cord - 7, edge), 20.0)
    arch = np.maximum(np.abs(cord - 11) - 3, np.abs(x) - 26)
    process = np.maximum(np.abs(x) - 4, np.abs(y - centre - 48) - 14)
    mix(part, inside(np.minimum(arch, process), edge) * (y < centre + 62), BONE_HU - 150)


def paint_abdomen(canvas: Canvas, image: np.ndarray, thorax: Thorax, inner: np.ndarray, rng: np.random.Generator, soft: np.ndarray) -> None:
    """Liver under the right dome, spleen and a stomach with gas under the left one."""
    side, top = thorax.half_width + 25, thorax.diaphragm + thorax.dome_right + 30
    at = canvas.around((-side, thorax.centre_y - thorax.half_depth - 25, -600), (side, thorax.centre_y + thorax.half_depth + 25, top))
    x, y, z, edge = canvas.x[at], canvas.y[at], canvas.z[at], canvas.edge
    part, soft = image[at], soft[at]
    deep = anatomy.diaphragm_height(thorax, x, y) + thorax.diaphragm - z  # below the diaphragm, mm
    below = inside(-deep * 0.75, edge) * inner[at]
    mix(part, below, FAT_HU + 15 * soft)
    liver = np.maximum(3 - deep, x - 42 + 0.25 * (deep - 30))
    mix(part, inside(liver, edge) * below, LIVER_HU + 3 * soft)
    spleen = np.sqrt(((x - 82) / 34) ** 2 + ((y - thorax.centre_y - 42) / 44) ** 2 + ((deep - 45) / 42) ** 2) - 1
    mix(part, inside(spleen * 34, edge) * below, LIVER_HU - 8)
    stomach = np.sqrt(((x - 62) / 44) ** 2 + ((y - thorax.centre_y + 18) / 46) ** 2 + ((deep - 48) / 42) ** 2) - 1
    mix(part, inside(stomach * 40, edge) * below, 25.0 + 6 * soft)
    level = thorax.centre_y - rng.uniform(20, 60)  # gas floats to the front
    mix(part, inside(np.maximum(stomach * 40 + 6, y - level), edge) * below, -960.0)


def paint_table(canvas: Canvas, image: np.ndarray, thorax: Thorax) -> None:
    """A curved board under the back, fixed to the scanner: it does not turn with the patient."""
    _, ny, nx = canvas.shape
    x = (np.arange(nx) * canvas.step[0] + canvas.origin[0])[None, :]
    y = (np.arange(ny) * canvas.step[1] + canvas.origin[1])[:, None]
    sag = y - (thorax.centre_y + thorax.half_depth + 0.62 * thorax.wall + 27) + 0.0011 * x**2
    board = np.maximum(np.abs(sag) - 2.0, np.abs(x) - 215)
    floor = np.maximum(np.abs(sag - 36 + 0.0022 * x**2) - 2.0, np.abs(x) - 215)
    mix(image, np.broadcast_to(inside(np.minimum(board, floor), canvas.edge), canvas.shape), -420.0)
    mix(image, np.broadcast_to(inside(np.maximum(np.abs(sag - 5) - 4, np.abs(x) - 200), canvas.edge), canvas.shape), -930.0)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Gaussian noise with unit variance, smooth over `sigma` voxels: made on a coarser grid where it is smoother than voxels."""
    stride = max(int(sigma), 1)
    coarse = [int(np.ceil(n / stride)) + 2 for n in shape]
    noise = np.asarray(ndimage.gaussian_filter(rng.standard_normal(coarse, dtype=np.float32), sigma / stride, mode="wrap"))
    if stride > 1:
        noise = np.asarray(ndimage.zoom(noise, stride, order=1))
    noise = noise[tuple(slice(0, n) for n in shape)]
    return (noise - noise.mean()) / noise.std()


def lung_density(canvas, thorax, breath, lesions: Lesions, tissue: Parenchyma, lung, mottle, effort: float) -> np.ndarray:
    """g/ml of the parenchyma where `lung` > 0: (z, y, x) float32."""
    density = np.zeros(canvas.shape, dtype=np.float32)
    where = lung > 0
    x, y, z = breath.backward(canvas.x[where], canvas.y[where], canvas.z[where])
    points = np.stack([x, y, z], axis=1)
    wobble = 5 * np.stack([np.sin(z / 9), np.sin(x / 9 + 1), np.sin(y / 9 + 2)], axis=1)  # lobules have no flat faces
    if effort < 1:
        cell = KDTree(lesions.lobule_centre).query(points + wobble)[1]
        gain = 1 + (1 / effort - 1) * (1 - lesions.lobule_trapping[cell])
    else:
        gain = 1.0
    down = (canvas.y[where] - thorax.centre_y) / thorax.half_depth
    gravity = 1 + tissue.gravity * (1 + 1.2 * (1 - effort) / 0.5) * down
    density[where] = tissue.density * gain * gravity * (1 + tissue.mottle * mottle[where])
    return density


def take_scan(
    rng: np.random.Generator,
    thorax: Thorax,
    breath: Breath,
    effort: float,
    lesions: Lesions,
    trees: tuple[Tubes, Tubes],
    tissue: Parenchyma,
    scanner: Scanner,
    pose: Pose,
    size: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One scan: int16 HU (z, y, x), foot first; the share of each voxel that is lung and vessels; the first voxel's place (x, y, z)."""
    top, bottom = rng.uniform(18, 34), thorax.diaphragm - rng.uniform(22, 45)
    if effort < 1:
        bottom -= rng.uniform(0, 60)  # the table is not moved up as far as the diaphragm
    canvas = Canvas(scanner, pose, size, top, bottom, thorax.centre_y + 8)
    soft = smooth_noise(rng, canvas.shape, 9 / canvas.edge)
    mottle = smooth_noise(rng, canvas.shape, 5 / canvas.edge)
    shapes = anatomy.chest_shapes(thorax, canvas.x, canvas.y, canvas.z)
    image = paint_body(canvas, thorax, shapes, rng, soft)

    lung = inside(anatomy.lungs(thorax, canvas.x, canvas.y, canvas.z, shapes), canvas.edge)
    density = lung_density(canvas, thorax, breath, lesions, tissue, lung, mottle, effort)
    stretch = np.sqrt(np.array(breath.scale))  # holes empty half as well as lung
    holes = stamp_balls(canvas, breath.forward(lesions.hole_centre), lesions.hole_radius, stretch)
    density += holes * (lesions.hole_density * (1 + 0.12 * mottle) - density)
    mix(image, lung, 1000 * (density - 1))
    paint_fissures(canvas, thorax, breath, image, lung)
    paint_tubes(canvas, breath, lesions, trees, image, lung)

    return expose(rng, image, scanner), lung, canvas.origin


def paint_fissures(canvas: Canvas, thorax: Thorax, breath: Breath, image: np.ndarray, lung: np.ndarray) -> None:
    """Oblique fissures on both sides, the horizontal one on the right: sheets of .7 mm, mostly lost in the voxel."""
    where = lung > 0
    x, y, z = breath.backward(canvas.x[where], canvas.y[where], canvas.z[where])
    middle = 0.5 * thorax.diaphragm / breath.scale[2]
    oblique = (z - middle + 12 - 0.85 * y + 0.0011 * (np.abs(x) - 60) ** 2) * 0.76
    horizontal = np.where((x < 0) & (oblique > 0), z - middle - 4 + 0.0016 * (y + 30) ** 2, np.float32(1e3))
    thin = np.minimum(np.abs(oblique), np.abs(horizontal))
    share = np.clip(1 - thin / canvas.edge, 0, 1) * (0.7 / canvas.edge) * lung[where]
    image[where] += share * (20 - image[where])


def paint_tubes(canvas: Canvas, breath: Breath, lesions: Lesions, trees: tuple[Tubes, Tubes], image: np.ndarray, lung: np.ndarray) -> None:
    """Vessels; then airway walls, then the air in them, which is not lung."""
    airways, vessels = trees
    wide = vessels.radius > 0.75 * canvas.edge
    blood = stamp_capsules(canvas, pick(vessels, wide), breath)
    thin = pick(vessels, ~wide)
    blood = np.maximum(blood, stamp_fine(canvas, thin, breath, np.pi * thin.radius**2))
    mix(image, np.minimum(blood, 1) * lung, BLOOD_HU)

    wide = airways.radius > 0.6 * canvas.edge
    thin = pick(airways, ~wide)
    tube = stamp_fine(canvas, thin, breath, np.pi * (thin.radius + lesions.wall_mm) ** 2)
    mix(image, np.minimum(tube, 1), MUSCLE_HU - 20)
    mix(image, np.minimum(stamp_fine(canvas, thin, breath, np.pi * thin.radius**2), 1), -1000.0)
    broad = pick(airways, wide)
    mix(image, stamp_capsules(canvas, broad, breath, lesions.wall_mm), MUSCLE_HU - 20)
    lumen = stamp_capsules(canvas, broad, breath)
    mix(image, lumen, -1000.0)
    lung *= 1 - lumen


def expose(rng: np.random.Generator, image: np.ndarray, scanner: Scanner) -> np.ndarray:
    """The scanner's blur, noise, offset and rounding: int16 HU, never below -1024."""
    image = ndimage.gaussian_filter(image, (0.3, 0.42, 0.42) if scanner.kernel == "soft" else (0.3, 0.3, 0.3), truncate=3)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    if scanner.kernel == "sharp":
        image += 0.18 * (image - ndimage.gaussian_filter(image, (0, 0.9, 0.9), truncate=3))
        noise -= 0.5 * ndimage.uniform_filter(noise, size=3, axes=(1, 2))
    else:
        noise = ndimage.gaussian_filter(noise, (0, 0.5, 0.5), truncate=3)
    noise *= scanner.noise_hu / noise.std()
    image += noise * (0.8 + 0.2 * np.clip(image / 1000 + 1, 0, 1)) + scanner.offset_hu
    return np.clip(np.rint(image), -1024, 3071).astype(np.int16)
