"""What all readers share: the choice of one by path, label maps on a CT's grid, hashes of contents."""

import shutil

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from ct_writers import lps_affine, stored_voxels, write_itk, write_nifti, write_series

from copdvae.errors import ReadError
from copdvae.read import check_ct, read_ct, read_labels, source_hash


@pytest.fixture
def ct(tmp_path):
    return read_ct(write_series(tmp_path / "ct"))


def label_map(path, axes=(0, 1, 2), signs=(1, 1, 1), dtype: type = np.uint16, move=0.0):
    """Labels that name their place: 256 * (1 + x index) + y index + 10 * z index, stored in any order of axes."""
    affine, sizes = lps_affine(axes, signs)
    k, j, i = np.indices(sizes[::-1])
    places = (np.stack([i, j, k, np.ones_like(i)], axis=-1) @ affine.T)[..., :3] / [2, 3, 5]
    labels = (256 * (1 + places[..., 0]) + places[..., 1] + 10 * places[..., 2]).round().astype(dtype)
    affine[0, 3] += move
    if path.name.endswith((".nii", ".nii.gz")):
        nibabel.save(nibabel.Nifti1Image(labels.transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine), path)
        return path
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    image.SetDirection((affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    sitk.WriteImage(image, str(path))
    return path


def expected_labels():
    z, y, x = np.indices((6, 5, 4))
    return 256 * (1 + x) + y + 10 * z


@pytest.mark.parametrize("name", ["m.nii", "m.nii.gz", "m.nrrd", "m.nhdr", "m.mha", "m.mhd"])
@pytest.mark.parametrize(("axes", "signs"), [((0, 1, 2), (1, 1, 1)), ((0, 1, 2), (-1, -1, 1)), ((2, 0, 1), (1, -1, -1))])
def test_labels_of_16_bits_come_in_the_frame_of_the_ct(tmp_path, ct, name, axes, signs):
    labels = read_labels(label_map(tmp_path / name, axes, signs), ct)
    np.testing.assert_array_equal(labels, expected_labels())
    assert labels.dtype == np.uint16


@pytest.mark.parametrize("name", ["m.nii", "m.nrrd"])
def test_whole_numbers_stored_as_floats_are_labels(tmp_path, ct, name):
    labels = read_labels(label_map(tmp_path / name, dtype=np.float32), ct)
    np.testing.assert_array_equal(labels, expected_labels())
    assert labels.dtype.kind == "i"


@pytest.mark.parametrize("name", ["m.nii", "m.nrrd"])
def test_probabilities_are_not_labels(tmp_path, ct, name):
    affine, sizes = lps_affine()
    half = np.full(sizes[::-1], 0.5, np.float32)
    if name == "m.nii":
        nibabel.save(nibabel.Nifti1Image(half.T, affine), tmp_path / name)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(half), str(tmp_path / name))
    refused_labels(tmp_path / name, ct, "not_labels", "not probabilities")


def refused_labels(path, ct, reason, words):
    with pytest.raises(ReadError, match=words) as caught:
        read_labels(path, ct)
    assert caught.value.reason == reason


def test_labels_on_another_grid_are_refused(tmp_path, ct):
    read_labels(label_map(tmp_path / "near.nrrd", move=0.1), ct)
    refused_labels(label_map(tmp_path / "moved.nrrd", move=2.0), ct, "mask_grid", "2.00 mm from the CT's")
    refused_labels(write_nifti(tmp_path / "size.nii", lps_affine()[0], (4, 5, 7)), ct, "mask_grid", "7 x 5 x 4 voxels .* 6 x 5 x 4")
    finer = lps_affine()[0] @ np.diag([1, 1, 0.9, 1])
    refused_labels(write_nifti(tmp_path / "step.nii", finer, (4, 5, 6)), ct, "mask_grid", "2.50 mm from the CT's")


def test_labels_turned_left_to_right_without_their_affine_are_refused(tmp_path, ct):
    """The voxel sizes agree: only corners tell."""
    affine, sizes = lps_affine(signs=(-1, 1, 1))
    affine[0, 3] = 0
    refused_labels(write_nifti(tmp_path / "turned.nii", affine, sizes), ct, "mask_grid", "corners")


def test_an_empty_mask_and_a_folder_are_refused(tmp_path, ct):
    affine, sizes = lps_affine()
    nibabel.save(nibabel.Nifti1Image(np.zeros(sizes, np.uint8), np.diag([-1, -1, 1, 1]) @ affine), tmp_path / "empty.nii")
    refused_labels(tmp_path / "empty.nii", ct, "empty_mask", "every label is 0")
    refused_labels(tmp_path / "ct", ct, "unknown_format", "a folder")


@pytest.mark.parametrize(("name", "reason"), [("nothing.nii", "not_found"), ("scan.dcm", "unknown_format"), ("scan.img", "unknown_format")])
def test_a_path_that_is_no_ct_is_refused(tmp_path, name, reason):
    if reason != "not_found":
        (tmp_path / name).touch()
    for function in (read_ct, check_ct, source_hash):
        with pytest.raises(ReadError, match=name) as caught:
            function(tmp_path / name)
        assert caught.value.reason == reason


def test_a_series_can_be_named_in_a_folder_only(tmp_path):
    with pytest.raises(ReadError, match="DICOM folder only"):
        read_ct(write_nifti(tmp_path / "scan.nii", *lps_affine()), series="1.2.3")


def test_the_same_scan_in_every_format_is_the_same_volume(tmp_path, ct):
    for path in (
        write_nifti(tmp_path / "a.nii.gz", *lps_affine()),
        write_itk(tmp_path / "a.nrrd", *lps_affine()),
        write_itk(tmp_path / "a.mha", *lps_affine()),
    ):
        other = read_ct(path)
        np.testing.assert_array_equal(other.hu, ct.hu)
        np.testing.assert_allclose(other.affine, ct.affine)
        assert other.spacing == pytest.approx(ct.spacing)
    np.testing.assert_array_equal(ct.hu, stored_voxels(*lps_affine()))


def test_the_hash_follows_contents_and_not_names(tmp_path):
    folder = write_series(tmp_path / "a")
    before = source_hash(folder)
    assert len(before) == 16
    assert int(before, 16) >= 0
    (tmp_path / "b" / "deep").mkdir(parents=True)
    for number, path in enumerate(sorted(folder.iterdir(), reverse=True)):
        shutil.copy(path, tmp_path / "b" / "deep" / f"{number}.dcm")
    assert source_hash(tmp_path / "b") == before
    with (tmp_path / "b" / "deep" / "0.dcm").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x7f")
    assert source_hash(tmp_path / "b") != before


@pytest.mark.data
def test_the_known_label_map_has_its_known_count(real_data):
    for name in ("ct-64.nrrd", "ct-64Dicom"):
        labels = read_labels(real_data / "ct/cip/lm-64.nrrd", read_ct(real_data / "ct/cip" / name))
        assert np.count_nonzero(labels & 255) == 65_624


@pytest.mark.data
def test_a_label_map_without_geometry_is_refused(real_data):
    refused_labels(
        real_data / "ct/cip/rind_partition-64.nrrd", read_ct(real_data / "ct/cip/ct-64.nrrd"), "no_orientation", "left-posterior-superior"
    )
