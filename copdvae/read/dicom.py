"""Read a CT series from a folder of DICOM files.  Arrays are (z, y, x) in HU; spacing is (z, y, x) in mm; frame is LPS.

The checks come first and are our own: plain SimpleITK turns most broken series into a wrong volume with a warning at most.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from copdvae.errors import ReadError
from copdvae.read.dicom_files import Slice, read_pixels, read_scanner, read_slice
from copdvae.read.files import regular_files
from copdvae.read.geometry import Placement, place, summary
from copdvae.read.volume import Volume

READER = "dicom"
GAP_TOLERANCE = 0.01  # of the usual gap: beyond this a slice is missing or doubled ...
ROUNDING_MM = 0.06  # ... unless every slice is this near to even steps: positions written to .1 mm
TILT_TOLERANCE_DEG = 0.1  # between the step from slice to slice and the slices' normal
ORIENTATION_TOLERANCE = 1e-3  # between direction cosines of two slices
TISSUE_HU = (-990.0, 3071.0)  # lung, fat, water, bone
HU_TYPES = ("", "HU", "US", "UNSPECIFIED")  # US: unspecified


@dataclass(frozen=True)
class Series:
    """A checked series: its slices in order along their normal."""

    slices: list[Slice]
    placement: Placement
    warnings: tuple[str, ...]


def read_volume(folder: Path, series: str | None = None) -> Volume:
    """Read the one axial CT series under `folder`, or the one that `series` names; raise `ReadError` on anything else."""
    found = find_series(folder, series)
    hu, stored = found.placement.empty()
    for k, slice_ in enumerate(found.slices):
        read_pixels(slice_, stored[k])
    return Volume(hu, found.placement.spacing, found.placement.affine, READER, scanner(found.slices), found.warnings)


def check_headers(folder: Path, series: str | None = None) -> dict:
    """What `read_volume` would read, from headers alone."""
    found = find_series(folder, series)
    return summary(READER, found.placement, scanner(found.slices), found.warnings)


def find_series(folder: Path, series: str | None) -> Series:
    """Choose the series, check it, put its slices in order."""
    files = regular_files(folder)
    images = [slice_ for path in files if (slice_ := read_slice(path))]
    warnings = (
        [f"{len(files) - len(images)} files are not axial CT (scouts, reports, captures, other files): left out"]
        if len(files) > len(images)
        else []
    )
    if not images:
        raise ReadError(f"{folder}: no axial CT slice in this folder or below it ({len(files)} files)", "no_axial_ct")
    slices = drop_copies(images, folder)
    if len(slices) < len(images):
        warnings.append(f"{len(images) - len(slices)} files are copies of another slice: left out")
    slices, left_out = choose_series(slices, folder, series)
    warnings += left_out

    check_alike(slices, folder)
    check_rescale(slices, folder)
    slices, affine = stack(slices, folder)
    placement = place((len(slices), slices[0].rows, slices[0].columns), affine, folder)
    check_sizes(slices)
    if not is_axial(slices):
        warnings.append("slices do not lie across the body (a reformatted series?): reordered to axial")
    padding = {value for slice_ in slices for value in slice_.padding_hu() if TISSUE_HU[0] < value < TISSUE_HU[1]}
    if padding:
        warnings.append(f"the padding value is {max(padding):g} HU, as tissue may be: voxels of that value became air")
    if any(slice_.lossy for slice_ in slices):
        warnings.append("lossy compression: densitometry is not to be trusted")
    return Series(slices, placement, (*warnings, *placement.warnings))


def drop_copies(slices: list[Slice], folder: Path) -> list[Slice]:
    """Keep the first file of each SOPInstanceUID."""
    kept: dict[str, Slice] = {}
    for slice_ in slices:
        first = kept.setdefault(slice_.instance or str(slice_.path), slice_)
        if not _same(first.position, slice_.position):
            raise ReadError(f"{folder}: two slices at different places share one SOPInstanceUID; export the series again", "uid_reused")
    return list(kept.values())


def choose_series(slices: list[Slice], folder: Path, wanted: str | None) -> tuple[list[Slice], list[str]]:
    """The slices of the one series that can be meant, and what was left out; an error that lists the candidates otherwise."""
    groups: dict[str, list[Slice]] = defaultdict(list)
    for slice_ in slices:
        groups[slice_.series].append(slice_)
    if wanted is not None:
        chosen = [group for name, group in groups.items() if wanted in (name, group[0].series_uid)]
        if not chosen:
            raise ReadError(f"{folder}: no CT series of that name; there are: {_candidates(groups)}", "no_such_series")
        return chosen[0], []
    if len(groups) > 1 and all(len(group) == 1 and group[0].frames == 1 for group in groups.values()):
        raise ReadError(f"{folder}: {len(groups)} slices, each in a series of its own; export them as one series", "series_per_slice")

    several = {name: group for name, group in groups.items() if len(group) > 1 or group[0].frames > 1} or groups
    axial = {name: group for name, group in several.items() if is_axial(group)} or several
    if len(axial) > 1:
        raise ReadError(
            f"{folder}: {len(axial)} CT series and no rule prefers one; name one with series: {_candidates(axial)}", "several_series"
        )
    name, chosen = axial.popitem()
    others = Counter("single slices" if other not in several else "not axial" for other in groups if other != name)
    return chosen, [f"{count} other CT series ({kind}): left out" for kind, count in others.items()]


def is_axial(group: list[Slice]) -> bool:
    """Whether most slices lie across the body; unknown counts as yes, so that the lack is named and not passed over."""
    normals = [np.cross(s.orientation[:3], s.orientation[3:]) for s in group if s.orientation is not None]
    return not normals or bool(np.median([abs(normal).argmax() == 2 for normal in normals]))


def check_alike(slices: list[Slice], folder: Path) -> None:
    """What all slices of one volume must have, and have in common."""
    if any(slice_.frames > 1 for slice_ in slices):
        raise ReadError(f"{folder}: multi-frame (Enhanced) CT, which is not read yet; convert it to single slices or NIfTI", "multi_frame")
    patients = {slice_.patient for slice_ in slices} - {""}
    if len(patients) > 1:
        raise ReadError(f"{folder}: slices of {len(patients)} patients in one series; take them apart", "mixed_patients")
    for name, reason in (("position", "missing_position"), ("orientation", "missing_orientation"), ("pixel_spacing", "missing_spacing")):
        if lacking := sum(getattr(slice_, name) is None for slice_ in slices):
            tag = {"position": "ImagePositionPatient", "orientation": "ImageOrientationPatient", "pixel_spacing": "PixelSpacing"}[name]
            raise ReadError(f"{folder}: {lacking} of {len(slices)} slices have no usable {tag}; export the series again", reason)
    if len(slices) < 2:
        raise ReadError(f"{folder}: only one slice; expected a series of the whole chest", "single_slice")
    sizes = Counter((slice_.rows, slice_.columns) for slice_ in slices)
    if len(sizes) > 1:
        found = ", ".join(f"{rows}x{columns} ({count})" for (rows, columns), count in sizes.most_common(4))
        raise ReadError(f"{folder}: slices of {len(sizes)} sizes: {found}; expected one; are two series mixed?", "mixed_matrix")
    spacings = np.array([slice_.pixel_spacing for slice_ in slices])
    if np.ptp(spacings, axis=0).max() > 1e-3 * spacings.max():
        raise ReadError(
            f"{folder}: pixels from {spacings.min():g} to {spacings.max():g} mm wide; expected one size; are two series mixed?",
            "mixed_spacing",
        )
    bits = {slice_.bits for slice_ in slices}
    if any(word.allocated != 16 or not 1 <= word.stored <= word.high + 1 <= 16 for word in bits):
        found = ", ".join(f"{word.stored} of {word.allocated}" for word in bits)
        raise ReadError(f"{folder}: {found} bits a pixel (highest {max(word.high for word in bits)}); expected words of 16", "bad_bits")


def check_rescale(slices: list[Slice], folder: Path) -> None:
    """Raw values become HU by each slice's own slope and intercept."""
    if lacking := sum(slice_.slope is None or slice_.intercept is None for slice_ in slices):
        raise ReadError(
            f"{folder}: {lacking} of {len(slices)} slices have no usable RescaleSlope and RescaleIntercept; without them no HU",
            "missing_rescale",
        )
    if bad := sum(not slice_.slope or slice_.slope <= 0 for slice_ in slices):
        raise ReadError(f"{folder}: {bad} of {len(slices)} slices have a RescaleSlope of 0 or less; expected about 1", "bad_rescale")
    if any(slice_.rescale_type.upper() not in HU_TYPES for slice_ in slices):
        raise ReadError(f"{folder}: RescaleType says that values are not HU; expected HU (a dual-energy or other derived map?)", "not_hu")


def stack(slices: list[Slice], folder: Path) -> tuple[list[Slice], np.ndarray]:
    """Order slices along their normal; return them and the affine (column, row, slice) -> LPS mm. Never z alone: gantries tilt."""
    orientations = np.array([slice_.orientation for slice_ in slices])  # (N, 6)
    if np.ptp(orientations, axis=0).max() > ORIENTATION_TOLERANCE:
        ways = len(np.unique(orientations.round(3), axis=0))
        raise ReadError(f"{folder}: slices point {ways} ways; expected one; is a scout view mixed in?", "mixed_orientation")
    row, column = orientations[0].reshape(2, 3)
    if abs(np.linalg.norm(row) - 1) > 0.01 or abs(np.linalg.norm(column) - 1) > 0.01 or abs(row @ column) > 0.01:
        raise ReadError(
            f"{folder}: ImageOrientationPatient is not two unit vectors at a right angle; export the series again", "bad_orientation"
        )
    normal = np.cross(row, column)
    positions = np.array([slice_.position for slice_ in slices])  # (N, 3)
    order = np.argsort(positions @ normal, kind="stable")
    positions, slices = positions[order], [slices[i] for i in order]
    depth = positions @ normal
    check_doubled(depth, slices, folder)
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(np.cross(step, normal)), step @ normal)))
    if tilt > TILT_TOLERANCE_DEG:
        raise ReadError(
            f"{folder}: the stack leans {tilt:.1f} degrees from its slices' normal (tilted gantry?); resample it to upright slices",
            "tilted_gantry",
        )
    check_even(depth, folder)
    aside = np.abs(positions - positions[0] - np.arange(len(slices))[:, None] * step).max()
    if aside > max(2 * ROUNDING_MM, GAP_TOLERANCE * np.linalg.norm(step)):
        raise ReadError(f"{folder}: slices lie up to {aside:.2f} mm beside one line; expected a straight stack", "shifted_slices")

    between_rows, between_columns = slices[0].pixel_spacing if slices[0].pixel_spacing is not None else (np.nan, np.nan)
    affine = np.eye(4)
    affine[:3] = np.column_stack([row * between_columns, column * between_rows, normal * np.linalg.norm(step), positions[0]])
    return slices, affine


def check_doubled(depth: np.ndarray, slices: list[Slice], folder: Path) -> None:
    """Refuse two slices at one place: `depth` is each one's place along the normal in mm, ascending."""
    gaps = np.diff(depth)
    usual = _usual(gaps[gaps > 1e-3])
    doubled = np.flatnonzero(gaps < max(0.1 * usual, 1e-3))
    if len(doubled):
        apart = {(slices[i].acquisition != slices[i + 1].acquisition) for i in doubled}
        hint = "two acquisitions in one series?" if apart == {True} else "two reconstructions or time points in one series?"
        raise ReadError(
            f"{folder}: {len(doubled)} doubled slices: {gaps[doubled[0]]:.2f} mm apart, others {usual:.2f} ({hint}); keep one",
            "duplicate_position",
        )


def check_even(depth: np.ndarray, folder: Path) -> None:
    """Refuse missing slices and uneven steps."""
    gaps = np.diff(depth)
    usual = _usual(gaps)
    number = np.arange(len(depth))
    even = np.polyval(np.polyfit(number, depth, 1), number)
    worst = int(np.abs(gaps - usual).argmax())
    if abs(gaps[worst] - usual) <= GAP_TOLERANCE * usual or np.abs(depth - even).max() <= ROUNDING_MM:
        return
    times = gaps[np.abs(gaps - usual) > GAP_TOLERANCE * usual] / usual
    missing = bool((np.abs(times - np.rint(times)) < 0.05).all() and len(times) < len(gaps) / 2)
    raise ReadError(
        f"{folder}: slices {worst + 1} and {worst + 2} are {gaps[worst]:.2f} mm apart, others {usual:.2f}; "
        + (
            f"{int(np.rint(times - 1).sum())} slices missing? Export the series again"
            if missing
            else "expected even steps; resample it first"
        ),
        "missing_slice" if missing else "uneven_spacing",
    )


def check_sizes(slices: list[Slice]) -> None:
    """Before memory is asked for: a file that is smaller than its pixels is cut short."""
    for slice_ in slices:
        needed, found = slice_.rows * slice_.columns * 2, slice_.path.stat().st_size
        if slice_.native and found < needed:
            raise ReadError(f"{slice_.path}: {found} bytes, expected over {needed}; the file is cut short, copy it again", "truncated")


def scanner(slices: list[Slice]) -> dict[str, str | float]:
    """Scanner and protocol, from the middle slice."""
    return read_scanner(slices[len(slices) // 2].path)


def _candidates(groups: dict[str, list[Slice]]) -> str:
    found = []
    for name, group in sorted(groups.items()):
        first, protocol = group[0], read_scanner(group[0].path)
        thickness, kernel = protocol.get("slice_thickness_mm", "?"), protocol.get("kernel", "?")
        found.append(f"{name} ({len(group)} slices {first.rows}x{first.columns}, {thickness} mm, kernel {kernel})")
    return "; ".join(found)


def _same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is b or (a is not None and b is not None and np.allclose(a, b, atol=1e-3))


def _usual(gaps: np.ndarray) -> float:
    """The lower median, a gap that is there: of 10 and 20 mm, 10."""
    return float(np.sort(gaps)[(len(gaps) - 1) // 2]) if len(gaps) else 0.0
