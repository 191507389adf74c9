"""Enhanced CT: one file with many frames.  Each frame becomes a slice, placed and rescaled by its own functional groups.

DICOM PS3.3 C.7.6.16: what holds for every frame stands in the shared groups, what differs in the per-frame ones; a frame's own word counts
more. Frames come in any order.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pydicom
from pydicom.tag import Tag

from copdvae.errors import ReadError
from copdvae.read.dicom_header import SCOUTS, HeaderStream, PixelPlace, Slice, is_derived, number, numbers, plain, several
from copdvae.read.dicom_plain import NO_LENGTH

GROUP_TAGS = [Tag("SharedFunctionalGroupsSequence"), Tag("PerFrameFunctionalGroupsSequence")]

# What may tell two frames at one place apart: name for print, functional group, attribute.
TRAITS = (
    ("acquisition", "FrameContentSequence", "FrameAcquisitionNumber"),
    ("stack", "FrameContentSequence", "StackID"),
    ("temporal position", "FrameContentSequence", "TemporalPositionIndex"),
    ("phase", "RespiratorySynchronizationSequence", "NominalPercentageOfRespiratoryPhase"),
    ("phase", "CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),
    ("kernel", "CTReconstructionSequence", "ConvolutionKernel"),
    ("filter", "CTReconstructionSequence", "ReconstructionAlgorithm"),
    ("kVp", "CTXRayDetailsSequence", "KVP"),
    ("thickness", "PixelMeasuresSequence", "SliceThickness"),
    ("image type", "CTImageFrameTypeSequence", "FrameType"),
)

Lookup = Callable[[str, str], pydicom.Dataset]


def frames_of(file: Slice) -> list[Slice]:
    """A slice for each frame of `file`, scouts left out; raises `ReadError` where its functional groups do not place every frame."""
    shared, own = groups_of(file)
    if len(own) != file.frames:
        raise ReadError(
            f"{file.path}: Enhanced (multi-frame) CT of {file.frames} frames with functional groups for {len(own)}; export it again",
            "multi_frame",
        )
    slices = (frame_slice(file, n, lookup(shared, groups)) for n, groups in enumerate(own))
    return [slice_ for slice_ in slices if slice_ is not None]


def groups_of(file: Slice) -> tuple[pydicom.Dataset, list[pydicom.Dataset]]:
    """The shared functional groups, and those of each frame."""
    with HeaderStream(file.path) as stream:
        dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=GROUP_TAGS, force=True)
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])
    return shared[0] if shared else pydicom.Dataset(), list(dataset.get("PerFrameFunctionalGroupsSequence") or [])


def lookup(shared: pydicom.Dataset, own: pydicom.Dataset) -> Lookup:
    """Find the group that has an attribute: the frame's own, else the shared one, else nothing."""

    def find(group: str, keyword: str) -> pydicom.Dataset:
        for groups in (own, shared):
            items = list(groups.get(group) or [])
            if items and keyword in items[0]:
                return items[0]
        return pydicom.Dataset()

    return find


def frame_slice(file: Slice, frame: int, find: Lookup) -> Slice | None:
    frame_type = find("CTImageFrameTypeSequence", "FrameType").get("FrameType")
    if any(scout in str(word).upper() for word in several(frame_type) for scout in SCOUTS):
        return None
    size, start, length = 2 * file.rows * file.columns, file.pixels.start, file.pixels.length
    if file.native and length != NO_LENGTH:
        start, length = start + frame * size, min(size, max(0, length - frame * size))
    rescale = "PixelValueTransformationSequence"
    return replace(
        file,
        position=numbers(find("PlanePositionSequence", "ImagePositionPatient"), "ImagePositionPatient", 3),
        orientation=numbers(find("PlaneOrientationSequence", "ImageOrientationPatient"), "ImageOrientationPatient", 6),
        pixel_spacing=numbers(find("PixelMeasuresSequence", "PixelSpacing"), "PixelSpacing", 2),
        slope=number(find(rescale, "RescaleSlope"), "RescaleSlope"),
        intercept=number(find(rescale, "RescaleIntercept"), "RescaleIntercept"),
        rescale_type=plain(find(rescale, "RescaleType").get("RescaleType")),
        acquisition=plain(find("FrameContentSequence", "FrameAcquisitionNumber").get("FrameAcquisitionNumber")),
        derived=file.derived if frame_type is None else is_derived(frame_type),
        pixels=PixelPlace(start, length, file.pixels.little_endian),
        frame=frame,
        traits=tuple((name, plain(find(group, keyword).get(keyword))) for name, group, keyword in TRAITS),
    )


def group_values(file: Slice, wanted: tuple[tuple[str, str], ...]) -> Iterator[tuple[str, pydicom.Dataset]]:
    """For each (group, attribute), the attribute and the group of this frame that has it."""
    shared, own = groups_of(file)
    find = lookup(shared, own[file.frame] if file.frame is not None and file.frame < len(own) else pydicom.Dataset())
    for group, keyword in wanted:
        yield keyword, find(group, keyword)
