"""NIfTI: good files read right however they lie, broken ones are refused by name."""

import gzip
from itertools import product

import nibabel
import numpy as np
import pytest
from ct_writers import assert_reads_the_world, lps_affine, stored_voxels, write_nifti

from copdvae.errors import ReadError
from copdvae.read import check_ct, read_ct


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "SCAN.NII.GZ"])
def test_a_file_reads_with_its_places_in_lps(tmp_path, name):
    path = write_nifti(tmp_path / name, *lps_affine())
    volume = read_ct(path)
    assert_reads_the_world(volume)
    np.testing.assert_allclose(volume.affine, np.diag([2, 3, 5, 1]))
    assert (volume.spacing, volume.reader, volume.header, volume.warnings) == ((5, 3, 2), "nifti", {}, ())
    assert check_ct(path) == {"reader": "nifti", "shape": [6, 5, 4], "spacing_mm": [5, 3, 2], "header": {}, "warnings": []}


@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_every_order_and_direction_of_axes_gives_the_same_volume(tmp_path, axes, signs):
    volume = read_ct(write_nifti(tmp_path / "scan.nii", *lps_affine(axes, signs)))
    assert_reads_the_world(volume)
    np.testing.assert_allclose(volume.affine, np.diag([2, 3, 5, 1]))


def test_left_stays_left():
    """nibabel's own orientation codes: RAS+ data has its first voxel at the patient's right, front (LPS back is +y) and feet."""
    assert nibabel.aff2axcodes(np.diag([-1, -1, 1, 1]) @ lps_affine()[0]) == ("L", "P", "S")


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64, np.dtype(">i2")])
def test_every_kind_of_number_reads_the_same(tmp_path, dtype):
    affine, sizes = lps_affine()
    if dtype == np.dtype(">i2"):
        voxels = stored_voxels(affine, sizes).astype(dtype).transpose(2, 1, 0)
        big = nibabel.Nifti1Image(voxels, np.diag([-1, -1, 1, 1]) @ affine, nibabel.Nifti1Header(endianness=">"))
        big.set_sform(big.affine, 1)
        nibabel.save(big, tmp_path / "scan.nii")
        assert (tmp_path / "scan.nii").read_bytes()[:4] == b"\x00\x00\x01\x5c"
    else:
        write_nifti(tmp_path / "scan.nii", affine, sizes, dtype)
    assert_reads_the_world(read_ct(tmp_path / "scan.nii"))


def test_nifti_2_reads_too(tmp_path):
    affine, sizes = lps_affine()
    image = nibabel.Nifti2Image(stored_voxels(affine, sizes).astype(np.int16).transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine)
    nibabel.save(image, tmp_path / "scan.nii")
    assert_reads_the_world(read_ct(tmp_path / "scan.nii"))


def test_slope_and_intercept_are_applied_and_a_slope_of_zero_or_nan_is_one(tmp_path):
    affine, sizes = lps_affine()
    image = nibabel.Nifti1Image(
        (stored_voxels(affine, sizes) + 1024).astype(np.uint16).transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine
    )
    image.header.set_slope_inter(1, -1024)
    nibabel.save(image, tmp_path / "scaled.nii")
    assert_reads_the_world(read_ct(tmp_path / "scaled.nii"))
    for slope in (0.0, np.nan):
        path = patched(write_nifti(tmp_path / "plain.nii", affine, sizes), 112, np.array([slope, 7], "<f4"))
        assert_reads_the_world(read_ct(path))


def patched(path, offset: int, values: np.ndarray):
    """Overwrite bytes of a NIfTI-1 header: 40 dim, 70 datatype, 76 pixdim, 108 vox_offset, 112 slope, 123 units, 252 q/s codes."""
    data = bytearray(path.read_bytes())
    data[offset : offset + values.nbytes] = values.tobytes()
    path.write_bytes(data)
    return path


def test_values_below_air_become_air(tmp_path):
    path = write_nifti(tmp_path / "scan.nii", *lps_affine())
    volume = read_ct(patched(path, 352, np.array([-3024], "<i2")))
    assert volume.hu[0, 0, 0] == -1024
    assert volume.hu[0, 0, 1] == -958


@pytest.mark.parametrize(("code", "scale"), [(1, 1000), (3, 0.001), (0, 1)])
def test_length_units_are_converted(tmp_path, code, scale):
    affine, sizes = lps_affine()
    path = tmp_path / "scan.nii"
    image = nibabel.Nifti1Image(
        stored_voxels(affine, sizes).astype(np.int16).transpose(2, 1, 0), np.diag([-1 / scale, -1 / scale, 1 / scale, 1]) @ affine
    )
    image.header["xyzt_units"] = code
    nibabel.save(image, path)
    volume = read_ct(path)
    assert volume.spacing == pytest.approx((5, 3, 2), rel=1e-6)
    assert_reads_the_world(volume)


def test_a_last_axis_of_one_time_point_is_dropped(tmp_path):
    affine, sizes = lps_affine()
    voxels = stored_voxels(affine, sizes).astype(np.int16).transpose(2, 1, 0)[..., None]
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1, -1, 1, 1]) @ affine), tmp_path / "scan.nii")
    assert_reads_the_world(read_ct(tmp_path / "scan.nii"))


def test_sform_is_preferred_and_a_disagreement_noted(tmp_path):
    affine, sizes = lps_affine()
    image = nibabel.Nifti1Image(stored_voxels(affine, sizes).astype(np.int16).transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine)
    image.set_sform(image.affine, 1)
    image.set_qform(np.diag([2, 3, 5, 1]), 1)
    nibabel.save(image, tmp_path / "scan.nii")
    volume = read_ct(tmp_path / "scan.nii")
    assert_reads_the_world(volume)
    assert volume.warnings == ("qform and sform disagree; sform is used [qform]",)


def test_qform_is_used_where_there_is_no_sform(tmp_path):
    affine, sizes = lps_affine()
    image = nibabel.Nifti1Image(stored_voxels(affine, sizes).astype(np.int16).transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine)
    image.set_sform(None, 0)
    image.set_qform(np.diag([-1, -1, 1, 1]) @ affine, 1)
    nibabel.save(image, tmp_path / "scan.nii")
    assert_reads_the_world(read_ct(tmp_path / "scan.nii"))


def refused(path, reason: str, words: str, headers_show_it: bool = True) -> None:
    for function in (read_ct, check_ct) if headers_show_it else (read_ct,):
        with pytest.raises(ReadError, match=words) as caught:
            function(path)
        assert caught.value.reason == reason
        assert str(path) in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("offset", "values", "reason", "words"),
    [
        (252, np.zeros(2, "<i2"), "no_orientation", "left and right are unknown"),
        (42, np.array([3200, 3200, 100], "<i2"), "truncated", "cut short"),
        (42, np.array([32000, 32000, 32000], "<i2"), "too_large", "header claims"),
        (42, np.array([120, 1, 1], "<i2"), "single_slice", "at least 2 voxels"),
        (40, np.array([2, 20, 6], "<i2"), "not_3d", "expected one volume with 3"),
        (40, np.array([4, 4, 5, 3, 2], "<i2"), "not_3d", "cut the time point"),
        (70, np.array([128, 24], "<i2"), "not_scalar", "colour or complex"),
        (70, np.array([32, 64], "<i2"), "not_scalar", "colour or complex"),
        (70, np.array([9999], "<i2"), "damaged_file", "NIfTI header"),
        (280, np.array([np.nan], "<f4"), "bad_spacing", "millimetres"),
        (280, np.array([0, 0, 0, 0], "<f4"), "bad_spacing", "millimetres"),
        (284, np.array([1.5], "<f4"), "sheared", "resample it"),
        (344, np.array([0], "<i4"), "damaged_file", "NIfTI header"),
    ],
)
def test_a_broken_header_is_refused_by_name(tmp_path, offset, values, reason, words):
    path = patched(write_nifti(tmp_path / "P0042.nii", *lps_affine()), offset, values)
    refused(path, reason, words)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_numbers_are_refused(tmp_path, value):
    path = write_nifti(tmp_path / "scan.nii", *lps_affine(), dtype=np.float32)
    refused(patched(path, 352 + 40, np.array([value], "<f4")), "nan_voxels", "not numbers", headers_show_it=False)


def test_a_file_cut_short_is_refused(tmp_path):
    path = write_nifti(tmp_path / "scan.nii", *lps_affine())
    path.write_bytes(path.read_bytes()[:-1])
    refused(path, "truncated", "cut short")


def noise(path):
    """A file too big to be read whole with its header."""
    voxels = np.random.default_rng(0).integers(-1000, 1000, (100, 100, 20), dtype=np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-2, -3, 5, 1])), path)
    return path


@pytest.mark.parametrize("keep", [-1, -20, -20_000, 60, 5])
def test_a_compressed_file_cut_short_is_refused(tmp_path, keep):
    path = noise(tmp_path / "scan.nii.gz")
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, *(("damaged_file", "is the file whole") if keep > 0 else ("truncated", "copy it again")), headers_show_it=keep > 0)


def test_a_flipped_bit_in_a_compressed_file_is_refused(tmp_path):
    path = noise(tmp_path / "scan.nii.gz")
    data = bytearray(path.read_bytes())
    data[-8] ^= 1  # the checksum
    path.write_bytes(data)
    refused(path, "truncated", "copy it again", headers_show_it=False)


def test_a_small_compressed_file_cannot_claim_a_huge_image(tmp_path):
    path = patched(write_nifti(tmp_path / "scan.nii", *lps_affine()), 42, np.array([1000, 1000, 1000], "<i2"))
    bomb = tmp_path / "bomb.nii.gz"
    bomb.write_bytes(gzip.compress(path.read_bytes()))
    refused(bomb, "truncated", "expected 2000000352")


def test_a_mask_is_refused_as_not_hu(tmp_path):
    affine, sizes = lps_affine()
    mask = nibabel.Nifti1Image((stored_voxels(affine, sizes) > 0).astype(np.uint8).transpose(2, 1, 0), affine)
    nibabel.save(mask, tmp_path / "mask.nii")
    refused(tmp_path / "mask.nii", "not_hu", "values 0 to 1 are not HU", headers_show_it=False)


@pytest.mark.data
def test_a_derived_nifti_lies_where_its_dicom_lies(real_data):
    """lidc_idri_0001 was resampled to 2 mm from a series whose first voxel is at -166, -171.7, -340 (LPS)."""
    volume = read_ct(real_data / "ct/lidc_idri_0001_2mm.nii.gz")
    assert volume.spacing == (2, 2, 2)
    np.testing.assert_allclose(volume.affine[:3, 3], [-166, -171.7, -340], atol=1e-3)
    by_nibabel = nibabel.load(real_data / "ct/lidc_idri_0001_2mm.nii.gz")
    canonical = nibabel.as_closest_canonical(by_nibabel).get_fdata()[::-1, ::-1]  # RAS to LPS
    np.testing.assert_array_equal(volume.hu, np.maximum(canonical.transpose(2, 1, 0), -1024).astype(np.float32))
