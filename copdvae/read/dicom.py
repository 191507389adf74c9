"""Read a CT series from a folder of DICOM files.  Arrays are (z, y, x) in HU; spacing is (z, y, x) in mm; frame is LPS.

The checks come first and are our own: plain SimpleITK turns most broken series into a wrong volume with a warning at most.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from copdvae.errors import ReadError, coded
from copdvae.read.dicom_choice import choose_series, is_axial
from copdvae.read.dicom_files import read_file
from copdvae.read.dicom_header import BURNT_IN, CAPTURE, FOREIGN, OBJECT, SCOUT, Slice
from copdvae.read.dicom_pixels import NEAR_TOP_HU, read_pixels, saturated, stream_bits, whole
from copdvae.read.dicom_protocol import Protocol
from copdvae.read.dicom_stack import Stack, read_planes, stack
from copdvae.read.files import regular_files
from copdvae.read.geometry import Placement, place, summary
from copdvae.read.options import PLAIN, ReadConfig
from copdvae.read.volume import Volume

READER = "dicom"
TISSUE_HU = (-990.0, 3071.0)  # lung, fat, water, bone
HU_TYPES = ("", "HU", "US", "UNSPECIFIED")  # US: unspecified


@dataclass(frozen=True)
class Series:
    """A checked series: its slices in order along their normal."""

    stack: Stack
    placement: Placement
    protocol: Protocol
    name: str
    warnings: tuple[str, ...]


def read_volume(folder: Path, series: str | None = None, config: ReadConfig = PLAIN, breath: str = "") -> Volume:
    """Read the one CT series under `folder` that can be meant, or the one that `series` names; raise `ReadError` on anything else.

    `breath`: "insp" or "exp" where only that scan is wanted and the folder may hold both.
    """
    found = find_series(folder, series, config, breath)
    as_int = found.stack.plan is None and all(map(whole, found.stack.slices))
    hu, stored = found.placement.empty(np.int16 if as_int else np.float32)
    full, steps = 0, 0

    def read(slice_: Slice, out: np.ndarray) -> None:
        nonlocal full, steps
        if read_pixels(slice_, out) >= NEAR_TOP_HU:
            count, jumps = saturated(slice_, out)
            full, steps = full + count, steps + jumps

    if found.stack.plan is None:
        for k, slice_ in enumerate(found.stack.slices):
            read(slice_, stored[k])
    else:
        read_planes(found.stack, found.stack.plan, read, stored)
    warnings = found.warnings
    if full or steps:
        found_so = f"{full} voxels have the highest value that the files hold, and {steps} steps beside dense ones are too steep for a body"
        warnings += (coded(f"{found_so} (metal?)", "saturated"),)
    protocol = found.protocol
    return Volume(hu, found.placement.spacing, found.placement.affine, READER, protocol.header, warnings, protocol.patient, protocol.study)


def check_headers(folder: Path, series: str | None = None, config: ReadConfig = PLAIN, breath: str = "") -> dict:
    """What `read_volume` would read, from headers alone."""
    found = find_series(folder, series, config, breath)
    owner = {"patient": found.protocol.patient, "study": found.protocol.study, "series": found.name}
    return summary(READER, found.placement, found.protocol.header, found.warnings) | owner


def find_series(folder: Path, series: str | None, config: ReadConfig = PLAIN, breath: str = "") -> Series:
    """Choose the series, check it, put its slices in order."""
    images, warnings = ct_images(folder)
    slices = drop_copies(images, folder)
    if len(slices) < len(images):
        warnings.append(coded(f"{len(images) - len(slices)} files are copies of another slice: left out", "copies"))
    chosen, left_out = choose_series(slices, folder, series, config.prefer_series, breath)
    slices = list(chosen.slices)
    warnings += left_out

    check_alike(slices, folder)
    check_rescale(slices, folder)
    stacked = stack(slices, folder, config)
    placement = place(stacked.shape, stacked.affine, folder)
    check_sizes(slices)
    return Series(stacked, placement, chosen.protocol, chosen.name, (*warnings, *doubts(slices), *stacked.warnings, *placement.warnings))


def ct_images(folder: Path) -> tuple[list[Slice], list[str]]:
    """Every CT slice under `folder`, and a warning that counts what else is there."""
    files = regular_files(folder)
    images: list[Slice] = []
    others: Counter[str] = Counter()
    for path in files:
        found = read_file(path)
        if isinstance(found, str):
            others[found] += 1
        else:
            images += found
    kinds = ", ".join(f"{others[kind]} {kind}" for kind in (SCOUT, CAPTURE, BURNT_IN, OBJECT, FOREIGN) if others[kind])
    if not images:
        raise ReadError(f"{folder}: no axial CT slice in this folder or below it ({kinds or 'no file'})", "no_axial_ct")
    left_out = coded(f"{others.total()} files are no CT slices: left out ({kinds})", "left_out")
    return images, [left_out] if others else []


def drop_copies(slices: list[Slice], folder: Path) -> list[Slice]:
    """Keep the first file of each SOPInstanceUID (and frame)."""
    kept: dict[tuple[str, int | None], Slice] = {}
    for slice_ in slices:
        first = kept.setdefault((slice_.instance or str(slice_.path), slice_.frame), slice_)
        if not _same(first.position, slice_.position):
            raise ReadError(f"{folder}: two slices at different places share one SOPInstanceUID; export the series again", "uid_reused")
    return list(kept.values())


def check_alike(slices: list[Slice], folder: Path) -> None:
    """What all slices of one volume must have, and have in common."""
    if any(slice_.frames > 1 and slice_.frame is None for slice_ in slices):
        raise ReadError(f"{folder}: multi-frame CT that is not Enhanced CT, so no frame has a place; export single slices", "multi_frame")
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


def check_sizes(slices: list[Slice]) -> None:
    """Before memory is asked for: a file that is smaller than its pixels is cut short."""
    for slice_ in slices:
        needed, found = slice_.rows * slice_.columns * 2, slice_.path.stat().st_size
        if slice_.frame is not None:
            needed += slice_.pixels.start
        if slice_.native and found < needed:
            raise ReadError(f"{slice_.path}: {found} bytes, expected over {needed}; the file is cut short, copy it again", "truncated")


def doubts(slices: list[Slice]) -> list[str]:
    """Warnings about a series that is read all the same."""
    found = []
    if not is_axial([slice_.orientation for slice_ in slices if slice_.orientation is not None]):
        found.append(coded("slices do not lie across the body (a reformatted series?): reordered to axial", "reformatted"))
    if derived := sum(slice_.derived for slice_ in slices):
        found.append(coded(f"{derived} of {len(slices)} images are derived from others, not as scanned (ImageType)", "derived"))
    padding = {value for slice_ in slices for value in slice_.padding_hu() if TISSUE_HU[0] < value < TISSUE_HU[1]}
    if padding:
        found.append(
            coded(f"the padding value is {max(padding):g} HU, as tissue may be: voxels of that value became air", "padding_in_tissue")
        )
    if any(slice_.lossy for slice_ in slices):
        found.append(coded("lossy compression: densitometry is not to be trusted", "lossy"))
    said = {(slice_.bits.signed, slice_.bits.stored): bits for slice_ in slices if (bits := stream_bits(slice_))}
    if any(header != stream for header, stream in said.items()):
        found.append(coded("compressed pixels have other bits than the header says: read as the pixels say", "bits_disagree"))
    return found


def _same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is b or (a is not None and b is not None and np.allclose(a, b, atol=1e-3))
