"""Enhanced CT: many frames in one file, in any order, each with its own place and rescaling."""

import re
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from ct_writers import AXIAL, assert_reads_the_world, ct_slice, world_hu
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import EnhancedCTImageStorage, RLELossless
from test_dicom import refused

from copdvae.errors import ReadError
from copdvae.read import read_ct
from copdvae.read.dicom import read_volume
from copdvae.read.dicom_pixels import rle_is_whole


def item(**values) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def plane(depth: float, sizes=(5, 4)) -> np.ndarray:
    j, i = np.indices(sizes)
    return world_hu(np.stack([2.0 * i, 3.0 * j, np.full(sizes, depth)], axis=-1))


def write_enhanced(
    path: Path,
    depths=(15, 0, 25, 5, 20, 10),
    own_rescale: bool = False,
    change=lambda dataset: None,
    raw=lambda hu, n: hu + 1024,
    sizes=(5, 4),
    instance: str = "1.2.3.4.1",
) -> Path:
    """One file with a frame a depth. The second frame on has its intercept in its own groups, if asked for, and other raw values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = [raw(plane(depth, sizes), n) for n, depth in enumerate(depths)]
    dataset = ct_slice(pixels[0], (0, 0, 0), AXIAL, (3, 2), "1.2.3.4", 0)
    for keyword in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "SliceThickness",
        "RescaleSlope",
        "RescaleIntercept",
    ):
        delattr(dataset, keyword)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = EnhancedCTImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = instance
    dataset.NumberOfFrames = len(depths)
    rescale = item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=AXIAL)],
        PixelMeasuresSequence=[item(PixelSpacing=[3, 2], SliceThickness=2)],
        PixelValueTransformationSequence=[rescale],
        CTReconstructionSequence=[item(ConvolutionKernel="B31f")],
        CTXRayDetailsSequence=[item(KVP=120)],
        CTImageFrameTypeSequence=[item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])],
    )
    places = [sorted(depths).index(depth) + 1 for depth in depths]
    content = [item(StackID="1", InStackPositionNumber=place, DimensionIndexValues=[1, place]) for place in places]
    frames = [
        item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, depth])], FrameContentSequence=[each])
        for depth, each in zip(depths, content, strict=True)
    ]
    if own_rescale:
        for n, groups in enumerate(frames[1:], start=1):
            groups.PixelValueTransformationSequence = [item(RescaleSlope=1, RescaleIntercept=-1024 - 100 * n, RescaleType="HU")]
            pixels[n] = pixels[n] + 100 * n
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], frames
    dataset.PixelData = np.array(pixels).astype("<i4").astype("<u2").tobytes()
    change(dataset)
    dataset.save_as(path, enforce_file_format=True)
    return path.parent


@pytest.mark.parametrize("own_rescale", [False, True])
def test_shuffled_frames_are_put_in_order_of_their_places_and_rescaled_by_their_own_groups(tmp_path, own_rescale):
    volume = read_ct(write_enhanced(tmp_path / "a.dcm", own_rescale=own_rescale))
    assert_reads_the_world(volume)
    assert (volume.hu.shape, volume.spacing, volume.warnings) == ((6, 5, 4), (5, 3, 2), ())
    assert volume.header == {"contrast": "", "kernel": "B31f", "kvp": 120.0, "slice_thickness_mm": 2.0}


def test_an_orientation_of_its_own_counts_more_than_the_shared_one(tmp_path):
    def change(dataset):
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            frame.PlaneOrientationSequence = [item(ImageOrientationPatient=[-1, 0, 0, 0, 1, 0])]
            frame.PlanePositionSequence[0].ImagePositionPatient[0] = 6
        frames = np.frombuffer(dataset.PixelData, "<u2").reshape(-1, 5, 4)
        dataset.PixelData = np.ascontiguousarray(frames[:, :, ::-1]).tobytes()

    assert_reads_the_world(read_ct(write_enhanced(tmp_path / "a.dcm", change=change)))


def test_compressed_frames_are_decoded_one_by_one(tmp_path):
    def compress(dataset):
        dataset.compress(RLELossless, generate_instance_uid=False)

    assert_reads_the_world(read_ct(write_enhanced(tmp_path / "a.dcm", own_rescale=True, sizes=(16, 16), change=compress)))


def test_padding_and_stored_bits_hold_for_frames_too(tmp_path):
    def change(dataset):
        dataset.add_new("PixelPaddingValue", "US", 3000)

    def raw(hu, n):
        pixels = hu + 1024
        pixels[0, 0] = 3000
        return pixels

    volume = read_ct(write_enhanced(tmp_path / "a.dcm", change=change, raw=raw))
    assert (volume.hu[:, 0, 0] == -1024).all()
    assert any(warning.endswith("[padding_in_tissue]") for warning in volume.warnings)


def test_a_stack_in_two_files_is_one(tmp_path):
    write_enhanced(tmp_path / "a.dcm", (15, 0, 5))
    assert_reads_the_world(read_ct(write_enhanced(tmp_path / "b.dcm", (25, 20, 10), instance="1.2.3.4.2")))


def test_copies_of_the_file_and_scout_frames_are_left_out(tmp_path):
    def change(dataset):
        scout = dataset.PerFrameFunctionalGroupsSequence[2]
        scout.CTImageFrameTypeSequence = [item(FrameType=["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"])]

    write_enhanced(tmp_path / "copy.dcm", (0, 5, 1, 10), change=change)
    volume = read_ct(write_enhanced(tmp_path / "a.dcm", (0, 5, 1, 10), change=change))
    assert_reads_the_world(volume)
    assert len(volume.hu) == 3
    assert volume.warnings == ("3 files are copies of another slice: left out [copies]",)


def test_two_time_points_are_listed_and_one_can_be_named(tmp_path):
    def change(dataset):
        for n, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            frame.FrameContentSequence = [item(TemporalPositionIndex=1 + n // 3)]

    folder = write_enhanced(tmp_path / "a.dcm", (0, 5, 10, 0, 5, 10), change=change, raw=lambda hu, n: hu + 1024 + 50 * (n // 3))
    refused(folder, "duplicate_position", "2 images of each place in one series .*temporal position 2")
    with pytest.raises(ReadError) as caught:
        read_ct(folder)
    first, second = re.findall(r"s[0-9a-f]{8}\.\d", str(caught.value))
    assert_reads_the_world(read_ct(folder, series=first))
    np.testing.assert_allclose(read_ct(folder, series=second).hu, read_ct(folder, series=first).hu + 50)


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        (lambda d: d.PerFrameFunctionalGroupsSequence.pop(), "multi_frame", "6 frames with functional groups for 5"),
        (lambda d: delattr(d, "PerFrameFunctionalGroupsSequence"), "multi_frame", "functional groups for 0"),
        (lambda d: d.PerFrameFunctionalGroupsSequence[2].clear(), "missing_position", "1 of 6 slices have no usable ImagePositionPatient"),
        (lambda d: delattr(d.SharedFunctionalGroupsSequence[0], "PlaneOrientationSequence"), "missing_orientation", "6 of 6"),
        (lambda d: delattr(d.SharedFunctionalGroupsSequence[0], "PixelMeasuresSequence"), "missing_spacing", "6 of 6"),
        (lambda d: delattr(d.SharedFunctionalGroupsSequence[0], "PixelValueTransformationSequence"), "missing_rescale", "6 of 6"),
        (lambda d: setattr(d, "PixelData", d.PixelData[:-40]), "truncated", "bytes"),
        (lambda d: setattr(d, "NumberOfFrames", 6000), "multi_frame", "6000 frames"),
    ],
)
def test_what_leaves_a_frame_without_place_or_pixels_is_refused(tmp_path, change, reason, words):
    refused(write_enhanced(tmp_path / "a.dcm", change=change), reason, words)


def test_a_frame_that_breaks_off_is_refused(tmp_path):
    def compress(dataset):
        dataset.compress(RLELossless, generate_instance_uid=False)

    folder = write_enhanced(tmp_path / "a.dcm", sizes=(16, 16), change=compress)
    (tmp_path / "a.dcm").write_bytes((tmp_path / "a.dcm").read_bytes()[:-300])
    refused(folder, "bad_compression", r"a.dcm: its compressed pixels \(RLE Lossless\) cannot be decoded", headers_show_it=False)


@pytest.mark.parametrize("lost", [2, 30])
def test_a_frame_cut_short_in_a_file_that_is_whole_is_refused(tmp_path, lost):
    """GDCM fills up what an RLE frame lacks."""

    def compress(dataset):
        dataset.compress(RLELossless, generate_instance_uid=False)
        frames = list(generate_frames(dataset.PixelData, number_of_frames=6))
        dataset.PixelData = encapsulate([*frames[:-1], frames[-1][:-lost]])
        dataset["PixelData"].VR = "OB"

    folder = write_enhanced(tmp_path / "a.dcm", sizes=(16, 16), change=compress)
    refused(folder, "bad_compression", r"a.dcm: its compressed pixels \(RLE Lossless\) cannot be decoded", headers_show_it=False)


@pytest.mark.parametrize("segments", [0, 1, 3, 2**32 - 1])
def test_a_frame_of_another_number_of_segments_is_refused(tmp_path, segments):
    """16 bits of one sample are two segments."""

    def compress(dataset):
        dataset.compress(RLELossless, generate_instance_uid=False)
        frames = list(generate_frames(dataset.PixelData, number_of_frames=6))
        assert rle_is_whole(frames[0], 16, 16)
        assert not rle_is_whole(struct.pack("<L", segments) + frames[0][4:], 16, 16)
        dataset.PixelData = encapsulate([*frames[:-1], struct.pack("<L", segments) + frames[-1][4:]])
        dataset["PixelData"].VR = "OB"

    folder = write_enhanced(tmp_path / "a.dcm", sizes=(16, 16), change=compress)
    refused(folder, "bad_compression", r"a.dcm: its compressed pixels \(RLE Lossless\) cannot be decoded", headers_show_it=False)


@pytest.mark.data
def test_a_real_enhanced_ct_is_read_by_its_groups(real_data):
    """Two frames, x runs backwards, the rescaling stands in the shared groups alone; a perfusion map, by its type."""
    path = real_data / "ct/pydicom_data/eCT_Supplemental.dcm"
    frames = pydicom.dcmread(path).pixel_array.astype(np.float32) - 1024
    volume = read_volume(path.parent)
    np.testing.assert_array_equal(volume.hu, frames[:, :, ::-1])
    np.testing.assert_allclose(volume.affine[:3, 3], [99.5 - 511 * 0.388672, -301.5, -159], atol=1e-3)
    assert volume.spacing == pytest.approx((10, 0.388672, 0.388672))
    assert volume.header["contrast"] == "yes"
    assert any(warning.endswith("[derived]") for warning in volume.warnings)
