"""Put the slices of a series in order along their normal, and refuse a stack that is doubled, tilted, uneven or bent.

Where it is asked for, a tilted or uneven stack is resampled instead: a slice is shifted within its own plane to stand upright on the first
one, and planes between slices are made by linear interpolation along the normal. Both reproduce whatever is linear in space.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from copdvae.errors import ReadError, coded
from copdvae.read.dicom_header import Slice
from copdvae.read.options import ReadConfig
from copdvae.read.volume import AIR_HU

GAP_TOLERANCE = 0.01  # of the usual gap: beyond this a slice is missing or doubled ...
ROUNDING_MM = 0.06  # ... unless every slice is this near to even steps: positions written to .1 mm
TILT_TOLERANCE_DEG = 0.1  # between the step from slice to slice and the slices' normal
ORIENTATION_TOLERANCE = 1e-3  # between direction cosines of two slices
WIDEST_GAP_MM = 20.0  # that may be filled

Reader = Callable[[Slice, np.ndarray], None]


@dataclass(frozen=True)
class Plan:
    """How planes of an upright, even grid are made of slices: plane k is `1 - weight[k]` of slice `below[k]` the rest of the next."""

    below: np.ndarray  # (K,) number of a slice
    weight: np.ndarray  # (K,) 0 to 1
    shift: np.ndarray  # (N, 2) of each slice: how far down and across its first pixel lies in the grid, in pixels


@dataclass(frozen=True)
class Stack:
    slices: list[Slice]  # in order along their normal
    shape: tuple[int, int, int]  # of the grid: planes, rows, columns
    affine: np.ndarray  # (4, 4): (column, row, plane, 1) -> LPS mm
    plan: Plan | None = None  # None: the slices are the grid's planes
    warnings: tuple[str, ...] = ()


def stack(slices: list[Slice], folder: object, config: ReadConfig) -> Stack:
    """Order slices along their normal; `folder` is for the words of errors. Never z alone: gantries tilt."""
    row, column = directions(slices, folder)
    normal = np.cross(row, column)
    positions = np.array([slice_.position for slice_ in slices])  # (N, 3)
    order = np.argsort(positions @ normal, kind="stable")
    positions, slices = positions[order], [slices[i] for i in order]
    depth = positions @ normal
    check_doubled(depth, folder)
    between_rows, between_columns = slices[0].pixel_spacing if slices[0].pixel_spacing is not None else (np.nan, np.nan)

    count = len(slices)
    step = (positions[-1] - positions[0]) / (count - 1)
    leaning = float(np.degrees(np.arctan2(np.linalg.norm(np.cross(step, normal)), step @ normal)))
    tilted = leaning > TILT_TOLERANCE_DEG
    if tilted and not config.resample_tilt:
        raise ReadError(
            f"{folder}: the stack leans {leaning:.1f} degrees from its slices' normal (tilted gantry?); resample it to upright slices, or "
            "allow that with resample_tilt",
            "tilted_gantry",
        )
    uneven = unevenness(depth)
    if uneven and not (config.allow_gaps and uneven.widest <= WIDEST_GAP_MM):
        raise ReadError(f"{folder}: {uneven.words}", uneven.reason)
    along = (depth - depth[0]) / (depth[-1] - depth[0])
    aside = np.abs(positions - positions[0] - along[:, None] * (positions[-1] - positions[0])).max()
    if aside > max(2 * ROUNDING_MM, GAP_TOLERANCE * np.linalg.norm(step)):
        raise ReadError(f"{folder}: slices lie up to {aside:.2f} mm beside one line; expected a straight stack", "shifted_slices")

    affine = np.eye(4)
    if not tilted and not uneven:
        affine[:3] = np.column_stack([row * between_columns, column * between_rows, normal * np.linalg.norm(step), positions[0]])
        return Stack(slices, (count, slices[0].rows, slices[0].columns), affine)

    below, weight, gap = planes(depth, uneven)
    shift = np.zeros((count, 2))
    if tilted:  # along one line, so that rounded positions do not shake
        lean = (positions[-1] - positions[0]) - (depth[-1] - depth[0]) * normal
        shift = along[:, None] * [lean @ column / between_rows, lean @ row / between_columns]
    first = shift.min(axis=0)
    shift = shift - first
    rows, columns = np.array([slices[0].rows, slices[0].columns]) + np.ceil(shift.max(axis=0) - 1e-3).astype(int)
    origin = positions[0] + first[0] * between_rows * column + first[1] * between_columns * row
    affine[:3] = np.column_stack([row * between_columns, column * between_rows, normal * gap, origin])
    plan = Plan(below, weight, shift)
    return Stack(slices, (len(below), int(rows), int(columns)), affine, plan, remarks(plan, uneven, leaning if tilted else 0.0, gap))


def directions(slices: list[Slice], folder: object) -> tuple[np.ndarray, np.ndarray]:
    """The unit vectors along a row and down a column that all slices share."""
    orientations = np.array([slice_.orientation for slice_ in slices])  # (N, 6)
    if np.ptp(orientations, axis=0).max() > ORIENTATION_TOLERANCE:
        ways = len(np.unique(orientations.round(3), axis=0))
        raise ReadError(f"{folder}: slices point {ways} ways; expected one; is a scout view mixed in?", "mixed_orientation")
    row, column = orientations[0].reshape(2, 3)
    if abs(np.linalg.norm(row) - 1) > 0.01 or abs(np.linalg.norm(column) - 1) > 0.01 or abs(row @ column) > 0.01:
        raise ReadError(
            f"{folder}: ImageOrientationPatient is not two unit vectors at a right angle; export the series again", "bad_orientation"
        )
    return row, column


def doubled(depth: np.ndarray) -> np.ndarray:
    """Numbers of the slices that lie where the next one does: `depth` is each one's place along the normal in mm, ascending."""
    gaps = np.diff(depth)
    return np.flatnonzero(gaps < max(0.1 * usual_gap(gaps[gaps > 1e-3]), 1e-3))


def check_doubled(depth: np.ndarray, folder: object) -> None:
    """Refuse two slices at one place."""
    twice, gaps = doubled(depth), np.diff(depth)
    if len(twice):
        usual = usual_gap(gaps[gaps > 1e-3])
        raise ReadError(
            f"{folder}: {len(twice)} doubled slices: {gaps[twice[0]]:.2f} mm apart, others {usual:.2f} "
            "(two reconstructions or time points in one series, which nothing in the headers tells apart?); keep one",
            "duplicate_position",
        )


@dataclass(frozen=True)
class Unevenness:
    words: str
    widest: float  # gap, mm
    number: np.ndarray | None  # (N,) of each slice in the whole stack, where slices are missing; None where steps are uneven otherwise

    @property
    def reason(self) -> str:
        return "uneven_spacing" if self.number is None else "missing_slice"


def unevenness(depth: np.ndarray) -> Unevenness | None:
    """What is wrong with the steps between slices, or None. They are even within a hundredth of a step, or within rounding."""
    gaps = np.diff(depth)
    usual = usual_gap(gaps)
    worst = int(np.abs(gaps - usual).argmax())
    if abs(gaps[worst] - usual) <= GAP_TOLERANCE * usual or off_line(np.arange(len(depth)), depth) <= ROUNDING_MM:
        return None
    times = np.rint(gaps / usual)
    number = np.concatenate([[0], np.cumsum(times)]).astype(int)
    straight = off_line(number, depth) <= max(ROUNDING_MM, GAP_TOLERANCE * usual)
    missing = bool(times.min() >= 1 and straight and np.count_nonzero(times > 1) < len(gaps) / 2)
    lost = int(times.sum()) - len(gaps)
    todo = f"{lost} slices missing? Export the series again" if missing else "expected even steps; resample it first"
    fill = "have gaps filled with allow_gaps" if gaps.max() <= WIDEST_GAP_MM else f"mind that gaps over {WIDEST_GAP_MM:g} mm are not filled"
    words = f"slices {worst + 1} and {worst + 2} are {gaps[worst]:.2f} mm apart, others {usual:.2f}; {todo}, or {fill}"
    return Unevenness(words, float(gaps.max()), number if missing else None)


def off_line(number: np.ndarray, depth: np.ndarray) -> float:
    """How far the slice furthest from even steps is from them, in mm."""
    return float(np.abs(depth - np.polyval(np.polyfit(number, depth, 1), number)).max())


def planes(depth: np.ndarray, uneven: Unevenness | None) -> tuple[np.ndarray, np.ndarray, float]:
    """For each plane of an even grid over `depth`: the slice below it and the share of the next one; and the grid's step in mm."""
    length, number = float(depth[-1] - depth[0]), np.arange(len(depth)) if uneven is None else uneven.number
    if number is None:
        count = max(1, round(length / usual_gap(np.diff(depth))))
        place = (depth - depth[0]) / length * count  # of each slice, in planes
    else:
        count, place = int(number[-1]), number.astype(float)  # slices stay as they are; only what is missing is made up
    below = np.clip(np.searchsorted(place, np.arange(count + 1), side="right") - 1, 0, len(depth) - 2)
    weight = (np.arange(count + 1) - place[below]) / np.diff(place)[below]
    whole = weight > 1 - 1e-9  # the last plane is the last slice
    return np.where(whole, below + 1, below), np.where(whole | (weight < 1e-9), 0.0, weight), length / count


def remarks(plan: Plan, uneven: Unevenness | None, leaning: float, gap: float) -> tuple[str, ...]:
    said = []
    if leaning:
        said.append(coded(f"the stack leant {leaning:.1f} degrees and was sheared upright, air around it: asked for", "tilt_resampled"))
    if uneven:
        count = f"{np.count_nonzero(plan.weight)} of {len(plan.below)} slices, {gap:.3g} mm apart,"
        said.append(coded(f"{count} were made up between their neighbours, gaps up to {uneven.widest:.3g} mm: asked for", "gaps_filled"))
    return tuple(said)


def read_planes(found: Stack, plan: Plan, read: Reader, out: np.ndarray) -> None:
    """Fill `out` (planes, rows, columns) by the plan; `read` writes one slice as HU."""
    rows, columns = found.slices[0].rows, found.slices[0].columns
    ready: dict[int, np.ndarray] = {}
    for k, (below, weight) in enumerate(zip(plan.below, plan.weight, strict=True)):
        wanted = (int(below), int(below) + 1)[: 1 + bool(weight)]
        for n in wanted:
            if n not in ready:
                plane = np.empty((rows, columns), np.float32)
                read(found.slices[n], plane)
                ready[n] = shifted(plane, plan.shift[n], (found.shape[1], found.shape[2]))
        ready = {n: ready[n] for n in wanted}
        out[k] = ready[wanted[0]]
        if weight:
            out[k] += np.float32(weight) * (ready[wanted[1]] - ready[wanted[0]])


def shifted(plane: np.ndarray, shift: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """`plane` on a larger one of `shape`, moved down and across by fractions of pixels; air around it."""
    for axis in (0, 1):
        whole = int(np.floor(shift[axis] + 1e-3))
        part = max(0.0, float(shift[axis]) - whole)
        part = part if part > 1e-3 else 0.0  # a thousandth of a pixel is rounding
        wider = np.full((shape[0], plane.shape[1]) if axis == 0 else (plane.shape[0], shape[1]), AIR_HU, np.float32)
        size = plane.shape[axis]
        moved = np.moveaxis(wider, axis, 0), np.moveaxis(plane, axis, 0)
        moved[0][whole : whole + size] = moved[1]
        if part:
            before = np.concatenate([np.full_like(moved[1][:1], AIR_HU), moved[1]])  # the pixel before each, and one after the last
            after = np.concatenate([moved[1], np.full_like(moved[1][:1], AIR_HU)])
            moved[0][whole : whole + size + 1] = after + np.float32(part) * (before - after)
        plane = wider
    return plane


def usual_gap(gaps: np.ndarray) -> float:
    """The lower median, a gap that is there: of 10 and 20 mm, 10."""
    return float(np.sort(gaps)[(len(gaps) - 1) // 2]) if len(gaps) else 0.0
