"""DICOM series: good ones read right however they lie, broken ones are refused by name."""

import logging
import os
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from ct_writers import assert_reads_the_world, setting, write_series
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from copdvae.errors import ReadError
from copdvae.read import check_ct, read_ct

CORONAL, SAGITTAL = [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]
AXIALS = [[r, 0, 0, 0, c, 0] for r in (1, -1) for c in (1, -1)] + [
    [0, r, 0, c, 0, 0] for r in (1, -1) for c in (1, -1)
]  # prone, feet first ...


def test_a_series_reads_in_order_of_position_whatever_its_files_are_called(tmp_path):
    volume = read_ct(write_series(tmp_path))
    assert_reads_the_world(volume)
    assert (volume.hu.shape, volume.spacing, volume.reader, volume.warnings) == ((6, 5, 4), (5, 3, 2), "dicom", ())
    np.testing.assert_allclose(volume.affine, np.diag([2, 3, 5, 1]))
    checked = check_ct(tmp_path)
    assert re.fullmatch("s[0-9a-f]{8}", checked.pop("series"))
    owner = checked.pop("patient"), checked.pop("study")
    assert owner == (volume.patient, volume.study)
    assert not any(text in found for text in ("SECRET", "1.2.3") for found in owner)
    assert checked == {
        "reader": "dicom",
        "shape": [6, 5, 4],
        "spacing_mm": [5, 3, 2],
        "header": {"slice_thickness_mm": 2.0, "contrast": ""},
        "warnings": [],
    }


@pytest.mark.parametrize("orientation", [*AXIALS, CORONAL, SAGITTAL])
def test_every_way_to_lie_in_the_scanner_gives_the_same_frame(tmp_path, orientation):
    row, column = np.reshape(orientation, (2, 3))
    ends = 6 * row + 12 * column + 25 * np.cross(row, column)  # the last voxel from the first, mm
    volume = read_ct(write_series(tmp_path, orientation=orientation, corner=-np.minimum(ends, 0)))
    assert_reads_the_world(volume)
    np.testing.assert_allclose(volume.affine[:3, 3], 0)
    assert volume.hu.size == 6 * 5 * 4
    assert any("across the body" in warning for warning in volume.warnings) == (orientation in (CORONAL, SAGITTAL))


def test_a_patient_turned_in_the_scanner_plane_keeps_the_turn_in_the_affine(tmp_path):
    turn = np.radians(10)
    orientation = [np.cos(turn), np.sin(turn), 0, -np.sin(turn), np.cos(turn), 0]
    volume = read_ct(write_series(tmp_path, orientation=orientation, corner=(2, 0, 0)))
    assert_reads_the_world(volume, tolerance=0.51)
    np.testing.assert_allclose(volume.affine[:3, 0], [2 * np.cos(turn), 2 * np.sin(turn), 0], atol=1e-6)


def test_each_slice_is_rescaled_by_its_own_numbers(tmp_path):
    """HU = slope * raw + intercept: half the raw values and twice the slope, or another zero, are the same HU."""

    def change(dataset, number):
        raw = dataset.pixel_array.astype(int)
        if number == 1:
            dataset.RescaleIntercept, raw = -2024, raw + 1000
        if number == 2:
            dataset.RescaleSlope, raw = 0.5, raw * 2
        dataset.PixelData = raw.astype("<u2").tobytes()

    assert_reads_the_world(read_ct(write_series(tmp_path, change=change)))


def test_a_fractional_slope_is_not_rounded(tmp_path):
    volume = read_ct(write_series(tmp_path, change=setting(RescaleSlope="0.123"), raw=lambda hu: hu * 0 + np.arange(4) * 4001))
    np.testing.assert_allclose(volume.hu[0, 0], np.arange(4) * 4001 * 0.123 - 1024, rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "corner", "tissue"),
    [
        (dict(PixelPaddingValue=("US", 65036), PixelRepresentation=1, RescaleIntercept=0), -500, True),  # an unsigned tag, signed pixels
        (dict(PixelPaddingValue=("US", 0)), 0, False),
        (dict(PixelRepresentation=1), -2048, False),  # no tag: thinner than air is padding
        (dict(PixelRepresentation=1, RescaleSlope=0.5), -4096, False),  # the same where voxels are no whole numbers
        (dict(PixelPaddingValue=("US", 3000)), 3000, True),  # the tag alone can tell
        (dict(PixelPaddingValue=("US", 2990), PixelPaddingRangeLimit=("US", 3010)), 3000, True),
        (dict(PixelPaddingValue=("US", 63536), BitsStored=12, HighBit=11), 63536, False),  # more bits than are stored
    ],
    ids=["unsigned_tag", "zero", "no_tag", "no_tag_halves", "bright", "range", "wide"],
)
def test_padding_becomes_air_and_nothing_else_does(tmp_path, values, corner, tissue):
    def change(dataset, number):
        for keyword, value in values.items():
            if isinstance(value, tuple):
                dataset.add_new(keyword, *value)
            else:
                setattr(dataset, keyword, value)

    def raw(hu):
        pixels = (hu - values.get("RescaleIntercept", -1024)) / values.get("RescaleSlope", 1)
        pixels[0, 0] = corner
        return pixels

    volume = read_ct(write_series(tmp_path, change=change, raw=raw))
    assert (volume.hu[:, 0, 0] == -1024).all()
    volume.hu[:, 0, 0] = [-960, -660, -360, -60, 240, 540]
    assert_reads_the_world(volume)
    assert any("as tissue may be" in warning for warning in volume.warnings) == tissue


@pytest.mark.parametrize("high", [11, 13, 15])
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("rest", [0xFFFF, 0, 0x5A5A])
def test_stored_bits_are_taken_with_their_sign_and_other_bits_dropped(tmp_path, high, signed, rest):
    """12 stored bits of 16, wherever they lie; the rest is ones, as of an overlay, zeros, so that the sign is not extended, or both."""

    def raw(hu):
        words = (hu.astype(int) + (0 if signed else 1024)) & 0xFFF
        return (words << (high - 11)) | (rest & 0xFFFF & ~(0xFFF << (high - 11)))

    change = setting(BitsStored=12, HighBit=high, PixelRepresentation=signed, RescaleIntercept=0 if signed else -1024)
    assert_reads_the_world(read_ct(write_series(tmp_path, change=change, raw=raw)))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
def test_other_transfer_syntaxes_read_the_same(tmp_path, syntax):
    for path in write_series(tmp_path, sizes=(64, 64)).iterdir():
        dataset = pydicom.dcmread(path)
        if syntax == RLELossless:
            dataset.compress(syntax, generate_instance_uid=False)
            dataset.save_as(path)
        else:
            big = syntax == ExplicitVRBigEndian
            dataset.PixelData = dataset.pixel_array.astype(">u2" if big else "<u2").tobytes()
            dataset.file_meta.TransferSyntaxUID = syntax
            pydicom.dcmwrite(path, dataset, implicit_vr=not big, little_endian=not big)
    assert_reads_the_world(read_ct(tmp_path))


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_files_without_preamble_are_read_where_their_tags_prove_ct(tmp_path, implicit, little):
    for path in write_series(tmp_path).iterdir():
        dataset = pydicom.dcmread(path)
        if not little:
            dataset.PixelData = dataset.pixel_array.astype(">u2").tobytes()
        del dataset.file_meta
        dataset.preamble = None
        pydicom.dcmwrite(path, dataset, implicit_vr=implicit, little_endian=little, enforce_file_format=False)
        assert path.read_bytes()[128:132] != b"DICM"
    assert_reads_the_world(read_ct(tmp_path))


def test_what_is_not_axial_ct_is_left_out_and_counted(tmp_path):
    write_series(tmp_path / "a")
    scout = setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SOPInstanceUID="1.9")
    write_series(tmp_path / "scout", [0], orientation=SAGITTAL, change=scout)
    others = [
        dict(SOPClassUID=SecondaryCaptureImageStorage),
        dict(SOPClassUID=MRImageStorage),
        dict(Modality="PT"),
        dict(SamplesPerPixel=3),
        dict(BitsAllocated=8, BitsStored=8, HighBit=7),
        dict(BurnedInAnnotation="YES"),
    ]
    for number, values in enumerate(others):
        write_series(tmp_path / str(number), [0], change=setting(**values))
    (tmp_path / "README").write_text("not DICOM")
    (tmp_path / "a" / "empty.dcm").touch()
    (tmp_path / "a" / "almost.dcm").write_bytes(b"\x08\x00 a text that begins like DICOM")
    volume = read_ct(tmp_path)
    assert_reads_the_world(volume)
    (warning,) = volume.warnings
    kinds = "1 scout views, 3 screen captures, 1 with burnt-in text, 2 other DICOM objects, 3 not DICOM"
    assert warning == f"10 files are no CT slices: left out ({kinds}) [left_out]"


def test_copies_of_slices_are_left_out_and_counted(tmp_path):
    write_series(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "copy of a")
    volume = read_ct(tmp_path)
    assert_reads_the_world(volume)
    assert volume.warnings == ("6 files are copies of another slice: left out [copies]",)


def test_a_series_spread_over_folders_is_one(tmp_path):
    write_series(tmp_path / "a" / "1", [0, 5, 10])
    write_series(tmp_path / "b", [15, 20, 25], first=3)
    assert_reads_the_world(read_ct(tmp_path))


def test_only_regular_files_inside_the_folder_are_opened(tmp_path):
    folder = write_series(tmp_path / "scan")
    outside = write_series(tmp_path / "elsewhere", [30], first=6)
    os.mkfifo(folder / "pipe")  # opening it would wait for ever
    (folder / "loop").symlink_to(folder)
    (folder / "out.dcm").symlink_to(next(outside.iterdir()))
    (folder / "dangling").symlink_to(folder / "nothing")
    assert read_ct(folder).hu.shape == (6, 5, 4)


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_even(tmp_path):
    depths = [round(0.625 * number, 1) for number in range(60)]
    assert len({round(step, 1) for step in np.diff(depths)}) == 2
    assert read_ct(write_series(tmp_path, depths)).spacing[0] == pytest.approx(depths[-1] / 59)


@pytest.mark.parametrize(("jitter", "even"), [(0.009, True), (0.03, False)])
def test_steps_that_differ_by_less_than_a_hundredth_are_even(tmp_path, jitter, even):
    """20 mm steps, so that the jitter is more than rounding."""
    folder = write_series(tmp_path, [0, 20, 40 + 20 * jitter, 60 + 20 * jitter, 80 + 20 * jitter])
    if even:
        assert read_ct(folder).spacing[0] == pytest.approx(20 * (1 + jitter / 4))
    else:
        refused(folder, "uneven_spacing", "expected even steps")


@pytest.mark.parametrize("number", [7, None, "random"])
def test_instance_numbers_count_for_nothing(tmp_path, number):
    order = iter([3, 1, 5, 2, 6, 4])
    change = setting(InstanceNumber=number) if number != "random" else lambda dataset, _: setattr(dataset, "InstanceNumber", next(order))
    assert_reads_the_world(read_ct(write_series(tmp_path, change=change)))


@pytest.mark.parametrize(
    ("slope", "intercept", "signed", "raw"),
    [(2.0, -1024, 0, 40_000), (1.0, -1024, 0, 65_535), (1.0, -33_000, 0, 65_000), (4.0, 0, 1, 32_767)],
)
def test_values_beyond_16_bits_after_rescaling_do_not_wrap(tmp_path, slope, intercept, signed, raw):
    """Metal, and rows of other values to go with it."""

    def pixels(hu):
        values = np.rint((hu - intercept) / slope)
        values[0, 0] = raw
        return values

    change = setting(RescaleSlope=slope, RescaleIntercept=intercept, PixelRepresentation=signed)
    volume = read_ct(write_series(tmp_path, change=change, raw=pixels))
    assert (volume.hu[:, 0, 0] == raw * slope + intercept).all()
    volume.hu[:, 0, 0] = [-960, -660, -360, -60, 240, 540]
    assert_reads_the_world(volume, tolerance=slope / 2)


@pytest.mark.parametrize(
    ("bits", "signed", "slope", "intercept", "raw", "dtype"),
    [
        (12, 0, 1, -1024, 4095, np.int16),
        (15, 0, 1, -1024, 32_767, np.int16),
        (16, 1, 1, 0, 32_767, np.int16),
        (16, 1, 1, -1024, 32_767, np.int16),
        (16, 1, 1, -1024, -32_768, np.int16),  # far below air
        (16, 1, 1, -2024, -32_768, np.int16),
        (16, 1, 1, 1, 32_767, np.float32),  # one above what fits
        (16, 0, 1, -1024, 65_535, np.float32),
        (12, 0, 2, -1024, 2047, np.float32),
        (12, 0, 1, -1024.5, 4095, np.float32),
    ],
)
def test_whole_numbers_are_kept_as_such_where_none_can_wrap(tmp_path, bits, signed, slope, intercept, raw, dtype):
    """Half the memory; the values are those that floats have."""

    def pixels(hu):
        values = np.clip(np.rint((hu - intercept) / slope), -(2 ** (bits - 1)) if signed else 0, 2 ** (bits - signed) - 1)
        values[0, 0] = raw
        return values

    change = setting(RescaleSlope=slope, RescaleIntercept=intercept, PixelRepresentation=signed, BitsStored=bits, HighBit=bits - 1)
    volume = read_ct(write_series(tmp_path, change=change, raw=pixels))
    assert volume.hu.dtype == dtype
    assert (volume.hu[:, 0, 0] == max(raw * slope + intercept, -1024)).all()
    volume.hu[:, 0, 0] = [-960, -660, -360, -60, 240, 540]
    assert_reads_the_world(volume, tolerance=slope / 2)


class TestMetal:
    def codes(self, folder):
        return [warning.rpartition("[")[2] for warning in read_ct(folder).warnings]

    def metal(self, *places):
        """Raw values: a row of air, tissue below it, and at (row, column) another HU."""

        def raw(hu):
            hu = np.full_like(hu, 40)
            hu[0] = -900
            for row, column, value in places:
                hu[row, column] = value
            return hu + 1024

        return raw

    @pytest.mark.parametrize("stored", [12, 16])
    def test_voxels_at_the_top_of_twelve_bits_are_counted(self, tmp_path, stored):
        """Also where they were stored in more, later on."""
        folder = write_series(tmp_path, raw=self.metal((2, 1, 3071), (2, 2, 3071)), change=setting(BitsStored=stored, HighBit=stored - 1))
        (warning,) = read_ct(folder).warnings
        assert warning.startswith("12 voxels have the highest value that the files hold")
        assert warning.endswith("[saturated]")

    def test_the_top_of_what_is_stored_counts_too(self, tmp_path):
        folder = write_series(tmp_path, raw=self.metal((2, 1, 65535 - 1024)))
        assert read_ct(folder).warnings[0].startswith("6 voxels have the highest value")

    def test_values_that_began_again_at_the_lowest_show_as_steps(self, tmp_path):
        folder = write_series(tmp_path, raw=self.metal((2, 1, 2900), (2, 2, -900)))
        (warning,) = read_ct(folder).warnings
        assert warning.startswith("0 voxels have the highest value that the files hold, and 6 steps beside dense ones")

    @pytest.mark.parametrize("value", [2900, 3000, 9000])
    def test_dense_bone_and_wide_scales_are_no_sign_of_it(self, tmp_path, value):
        assert read_ct(write_series(tmp_path, raw=self.metal((2, 1, value)))).warnings == ()

    def test_a_bright_padding_value_is_no_metal(self, tmp_path):
        def change(dataset, number):
            dataset.add_new("PixelPaddingValue", "US", 4095)

        folder = write_series(tmp_path, raw=self.metal((0, 0, 3071)), change=change)
        assert self.codes(folder) == []


def test_spacing_is_measured_and_not_taken_from_the_slice_thickness(tmp_path):
    assert read_ct(write_series(tmp_path, change=setting(SliceThickness=1, SpacingBetweenSlices=-1))).spacing == (5, 3, 2)


def test_scanner_and_protocol_are_kept_and_no_agent_or_name(tmp_path):
    values = dict(Manufacturer="GE\n MEDICAL\tSYSTEMS", ManufacturerModelName="M" * 64, ConvolutionKernel=["B31f", "3"], KVP=120)
    agent = "SECRET allergy to Omnipaque"
    found = read_ct(write_series(tmp_path, change=setting(**values, Exposure=200, ContrastBolusAgent=agent))).header
    assert found == {
        "manufacturer": "GE MEDICAL SYSTEMS",
        "model": "M" * 64,
        "kernel": "B31f 3",
        "kvp": 120.0,
        "slice_thickness_mm": 2.0,
        "exposure_mas": 200.0,
        "contrast": "yes",
    }


def test_the_scanner_is_the_one_of_the_middle_slice(tmp_path):
    folder = write_series(tmp_path, change=lambda dataset, number: setattr(dataset, "KVP", 100 + number))
    assert read_ct(folder).header["kvp"] == check_ct(folder)["header"]["kvp"] == 103


def test_lossy_compression_is_noted(tmp_path):
    assert any("lossy" in warning for warning in read_ct(write_series(tmp_path, change=setting(LossyImageCompression="01"))).warnings)


@pytest.mark.parametrize(
    ("depths", "reason", "words"),
    [
        ([0, 10, 30, 40], "missing_slice", "slices 2 and 3 are 20.00 mm apart, others 10.00; 1 slices missing"),
        ([0, 10, 10, 20], "duplicate_position", "0.00 mm apart, others 10.00"),
        ([0, 0, 10, 10, 20, 20], "duplicate_position", "3 doubled slices"),
        ([7, 7, 7], "duplicate_position", "0.00 mm apart"),
        ([0, 1, 5, 9, 16, 20], "uneven_spacing", "slices 1 and 2 are 1.00 mm apart, others 4.00"),
        ([0, 5, 10.5, 16, 21.5, 27], "uneven_spacing", "expected even steps"),
        ([5], "single_slice", "only one slice"),
        ([], "no_axial_ct", "no axial CT"),
    ],
)
def test_depths_that_are_no_even_stack_are_refused(tmp_path, depths, reason, words):
    refused(write_series(tmp_path / "P0042", depths), reason, words)


def shift(axis: int, mm: float, only: int | None = None):
    """Move slices along x, y or z: all, each by `mm` more than the one before, or one alone."""

    def change(dataset, number):
        position = [float(value) for value in dataset.ImagePositionPatient]
        position[axis] += mm * (number if only is None else only == number)
        dataset.ImagePositionPatient = position

    return change


def same_uid(dataset, number):
    dataset.SOPInstanceUID = "1.2.3.4.5"


def own_series(dataset, number):
    dataset.SeriesInstanceUID = f"1.2.3.4.5.{number}"


def other_size(dataset, number):
    if number == 2:
        dataset.Rows, dataset.PixelData = 4, dataset.PixelData[: 4 * 4 * 2]


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        (shift(1, 1.0), "tilted_gantry", "leans 11.3 degrees"),
        (shift(1, 0.02), "tilted_gantry", "leans 0.2 degrees"),
        (shift(0, 3.0, only=2), "shifted_slices", "3.00 mm beside"),
        (same_uid, "uid_reused", "share one SOPInstanceUID"),
        (own_series, "series_per_slice", "6 slices, each in a series of its own"),
        (other_size, "mixed_matrix", r"5x4 \(5\), 4x4 \(1\)"),
        (setting(only=2, PixelSpacing=[3, 2.1]), "mixed_spacing", "2 to 3|are two series mixed"),
        (setting(only=2, ImageOrientationPatient=SAGITTAL), "mixed_orientation", "point 2 ways"),
        (setting(only=2, ImageOrientationPatient=[1, 0, 0, 0, 0.999, 0.045]), "mixed_orientation", "point 2 ways"),
        (setting(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "bad_orientation", "right angle"),
        (setting(ImageOrientationPatient=[0, 0, 0, 0, 0, 0]), "bad_orientation", "unit vectors"),
        (setting(only=2, ImagePositionPatient=None), "missing_position", "1 of 6 slices have no usable ImagePositionPatient"),
        (setting(ImagePositionPatient=[0, 0]), "missing_position", "6 of 6"),
        (setting(only=2, ImageOrientationPatient=None), "missing_orientation", "ImageOrientationPatient"),
        (setting(PixelSpacing=None), "missing_spacing", "PixelSpacing"),
        (setting(PixelSpacing=[0, 0]), "bad_spacing", "millimetres"),
        (setting(only=2, RescaleSlope=None), "missing_rescale", "1 of 6 slices"),
        (setting(RescaleIntercept=None), "missing_rescale", "without them no HU"),
        (setting(only=2, RescaleSlope=0), "bad_rescale", "1 of 6 slices have a RescaleSlope of 0"),
        (setting(RescaleSlope=-1), "bad_rescale", "expected about 1"),
        (setting(RescaleType="Z_EFF"), "not_hu", "values are not HU"),
        (setting(only=2, PatientID="SECRET-OTHER"), "mixed_patients", "2 patients"),
        (setting(BitsAllocated=32, BitsStored=32, HighBit=31), "bad_bits", "32 of 32 bits"),
        (setting(BitsStored=12, HighBit=10), "bad_bits", "12 of 16 bits"),
        (setting(SOPClassUID=EnhancedCTImageStorage), "multi_frame", "Enhanced .* functional groups for 0"),
        (setting(NumberOfFrames=3), "multi_frame", "multi-frame"),
    ],
)
def test_a_broken_series_is_refused_by_name(tmp_path, change, reason, words):
    refused(write_series(tmp_path / "P0042", change=change), reason, words)


def refused(folder: Path, reason: str, words: str, headers_show_it: bool = True, **options) -> None:
    """`read_ct` refuses the folder with this reason and these words, and `check_ct` with the same where headers can tell."""
    for function in (read_ct, check_ct) if headers_show_it else (read_ct,):
        with pytest.raises(ReadError, match=words) as caught:
            function(folder, **options)
        assert caught.value.reason == reason
        assert str(folder) in str(caught.value)
        assert not re.search(r"SECRET|1950|1\.2\.3\.", str(caught.value).replace(str(folder), ""))
        assert caught.value.__cause__ is None


def test_values_without_rescaling_to_hu_are_refused(tmp_path):
    refused(write_series(tmp_path, change=setting(RescaleIntercept=0)), "not_hu", "are not HU", headers_show_it=False)


def test_a_nan_slope_is_missing_rather_than_one(tmp_path):
    folder = write_series(tmp_path, change=setting(RescaleSlope="1.0000000000"))
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"1.0000000000", b"nan         "))
    refused(folder, "missing_rescale", "6 of 6")


@pytest.mark.parametrize(
    ("keep", "reason"), [(-1, "truncated"), (-30, "truncated"), (600, "truncated"), (400, "truncated"), (150, "damaged_file")]
)
def test_a_file_cut_short_is_refused(tmp_path, keep, reason):
    folder = write_series(tmp_path)
    path = sorted(folder.iterdir())[2]
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ReadError, match=path.name) as caught:
        read_ct(folder)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("written", "instead", "reason"),
    [
        (b"OW\x00\x00\x28\x00\x00\x00", b"OW\x00\x00\x26\x00\x00\x00", "truncated"),
        (b"OW\x00\x00\x28\x00\x00\x00", b"OW\x00\x00\xff\xff\xff\xff", "truncated"),
        (b"OW\x00\x00\x28\x00\x00\x00", b"US\x28\x00\x28\x00\x00\x00", "damaged_file"),
    ],
    ids=["too few", "no length", "a type for numbers in the header"],
)
def test_uncompressed_pixels_are_as_many_as_the_header_says(tmp_path, written, instead, reason):
    path = sorted(write_series(tmp_path).iterdir())[2]
    data = path.read_bytes()
    assert data.count(written) == 1
    path.write_bytes(data.replace(written, instead))
    with pytest.raises(ReadError, match=path.name) as caught:
        read_ct(tmp_path)
    assert caught.value.reason == reason


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_too_few_pixels_show_in_every_byte_order(tmp_path, syntax):
    path = sorted(write_series(tmp_path).iterdir())[2]
    dataset, big = pydicom.dcmread(path), syntax == ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(path, dataset, implicit_vr=not big, little_endian=not big)
    data, order = path.read_bytes(), "big" if big else "little"
    written = (b"\x7f\xe0\x00\x10OW\x00\x00" if big else b"\xe0\x7f\x10\x00") + len(dataset.PixelData).to_bytes(4, order)
    assert data.count(written) == 1
    path.write_bytes(data.replace(written, written[:-4] + (len(dataset.PixelData) - 2).to_bytes(4, order)))
    refused(tmp_path, "truncated", "38 bytes of pixels, expected 40", headers_show_it=False)


def test_a_big_slice_cut_short_shows_in_its_size_before_memory_is_asked_for(tmp_path):
    folder = write_series(tmp_path, change=lambda dataset, number: setattr(dataset, "Rows", 60_000) or setattr(dataset, "Columns", 4_000))
    refused(folder, "truncated", "cut short")


def test_compressed_pixels_that_break_off_are_refused(tmp_path):
    for path in write_series(tmp_path, sizes=(64, 64)).iterdir():
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
        path.write_bytes(path.read_bytes()[:-60])
    refused(tmp_path, "bad_compression", "cannot be decoded", headers_show_it=False)


def test_deflated_files_are_refused_unopened(tmp_path):
    path = next(write_series(tmp_path).iterdir())
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    refused(tmp_path, "deflated", "can unpack to any size")


def test_a_way_to_compress_that_is_not_decoded_is_named(tmp_path):
    for path in write_series(tmp_path, sizes=(16, 16)).iterdir():
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
        dataset.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(60)])
        dataset["PixelData"].VR = "OB"
        dataset.save_as(path)
    refused(tmp_path, "bad_compression", r"High-Throughput JPEG 2000 .*cannot be decoded.* gdcmconv", headers_show_it=False)


def test_a_file_that_says_nothing_of_its_writing_is_refused(tmp_path):
    path = next(write_series(tmp_path).iterdir())
    data = path.read_bytes()
    place = data.index(b"\x02\x00\x10\x00UI")
    length = 8 + int.from_bytes(data[place + 6 : place + 8], "little")
    path.write_bytes(data[:place] + data[place + length :])
    refused(tmp_path, "bad_compression", "no standard TransferSyntaxUID")


@pytest.mark.parametrize("syntax", [b"1.2.840.113619.5.2\x00\x00", b"1.2.3.4.5.6.7.8.9.0\x00"], ids=["private", "nonsense"])
def test_pixels_of_unknown_writing_are_refused(tmp_path, syntax):
    path = next(write_series(tmp_path).iterdir())
    data, usual = path.read_bytes(), b"1.2.840.10008.1.2.1\x00"
    assert data.count(usual) == 1
    path.write_bytes(data.replace(usual, syntax))
    refused(tmp_path, "bad_compression", "TransferSyntaxUID")


def test_nothing_that_names_a_person_is_shown(tmp_path, caplog, capfd):
    """pydicom quotes bad values in warnings, logs and exceptions."""
    caplog.set_level(logging.DEBUG)
    folder = write_series(tmp_path, change=setting(KVP="1234567890", Exposure="1234567890", PatientBirthDate="19500513"))
    for path in folder.iterdir():
        data = path.read_bytes().replace(b"1234567890", b"SECRET^JON").replace(b"19500513", b"SECRET50")
        path.write_bytes(data)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        volume = read_ct(folder)
    shown_text = " ".join(str(warning.message) for warning in shown) + caplog.text + "".join(capfd.readouterr())
    assert "SECRET" not in shown_text + repr(volume.header) + repr(volume.warnings)
    assert not shown
    assert "kvp" not in volume.header


@pytest.mark.data
def test_the_same_scan_as_dicom_and_as_nrrd_has_the_same_voxels(real_data):
    dicom, nrrd = read_ct(real_data / "ct/cip/ct-64Dicom"), read_ct(real_data / "ct/cip/ct-64.nrrd")
    np.testing.assert_array_equal(dicom.hu, nrrd.hu)
    np.testing.assert_allclose(dicom.affine, nrrd.affine, atol=1e-3)


@pytest.mark.data
@pytest.mark.parametrize("phase", ["inhale_phase20_dicom", "exhale_phase60_dicom"])
def test_a_real_series_has_the_spacing_of_its_positions_and_the_voxels_of_simpleitk(real_data, phase):
    folder = real_data / "ct/opentps_4dct" / phase
    volume = read_ct(folder)
    assert volume.spacing == (6, 5, 5)  # SliceThickness says 2
    series = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)), sitk.sitkFloat32)
    np.testing.assert_array_equal(volume.hu, np.maximum(sitk.GetArrayViewFromImage(series), -1024))
    np.testing.assert_allclose(volume.affine[:3, 3], series.GetOrigin())


@pytest.mark.data
@pytest.mark.parametrize(("folder", "reason"), [("dcm_qa_ct/GE", "tilted_gantry"), ("dcm_qa_ct/Philips_S4010", "no_axial_ct")])
def test_broken_real_series_are_refused(real_data, folder, reason):
    refused(real_data / "ct" / folder, reason, folder)
