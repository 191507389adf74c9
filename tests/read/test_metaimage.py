"""NRRD and MetaImage: good files read right however they lie, broken and malicious ones are refused by name."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from ct_writers import assert_reads_the_world, lps_affine, stored_voxels, write_itk

from copdvae.errors import ReadError
from copdvae.read import check_ct, read_ct, source_hash

SUFFIXES = [".nrrd", ".nhdr", ".mha", ".mhd"]
DATA_FILES = {".nhdr": "scan.raw", ".mhd": "scan.raw"}


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_reads_with_its_places_in_lps(tmp_path, suffix, compress):
    path = write_itk(tmp_path / f"scan{suffix}", *lps_affine(), compress=compress)
    volume = read_ct(path)
    assert_reads_the_world(volume)
    np.testing.assert_allclose(volume.affine, np.diag([2, 3, 5, 1]))
    reader = "nrrd" if suffix in (".nrrd", ".nhdr") else "metaimage"
    assert (volume.reader, volume.header, volume.warnings) == (reader, {}, ())
    assert check_ct(path) == {"reader": reader, "shape": [6, 5, 4], "spacing_mm": [5, 3, 2], "header": {}, "warnings": []}


@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_every_order_and_direction_of_axes_gives_the_same_volume(tmp_path, suffix, signs):
    for axes in ((0, 1, 2), (2, 0, 1)):
        volume = read_ct(write_itk(tmp_path / f"scan{suffix}", *lps_affine(axes, signs)))
        assert_reads_the_world(volume)
        np.testing.assert_allclose(volume.affine, np.diag([2, 3, 5, 1]), atol=1e-9)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_every_kind_of_number_reads_the_same(tmp_path, suffix, dtype):
    assert_reads_the_world(read_ct(write_itk(tmp_path / f"scan{suffix}", *lps_affine(), dtype=dtype)))


def test_a_metaimage_of_big_endian_numbers_reads_the_same(tmp_path):
    path = write_itk(tmp_path / "scan.mha", *lps_affine())
    header, _, voxels = path.read_bytes().partition(b"LOCAL\n")
    header = header.replace(b"BinaryDataByteOrderMSB = False", b"BinaryDataByteOrderMSB = True") + b"LOCAL\n"
    path.write_bytes(header + np.frombuffer(voxels, "<i2").astype(">i2").tobytes())
    assert_reads_the_world(read_ct(path))
    other = path.rename(tmp_path / "other.mha")
    other.write_bytes(other.read_bytes().replace(b"BinaryDataByteOrderMSB", b"ElementByteOrderMSB"))
    assert_reads_the_world(read_ct(other))


def test_a_nrrd_in_ras_has_its_first_two_axes_turned(tmp_path):
    """Written by hand: right-anterior-superior x and y are minus LPS x and y."""
    affine, sizes = lps_affine()
    for space, sign in {"right-anterior-superior": (-1, -1), "RAS": (-1, -1), "left-anterior-superior": (1, -1), "LPS": (1, 1)}.items():
        header = (
            f"NRRD0004\r\ntype: int16\r\ndimension: 3\r\nspace: {space}\r\nsizes: 4 5 6\r\nendian: little\r\nencoding: raw\r\n"
            f"space directions: ({2 * sign[0]},0,0) (0,{3 * sign[1]},0) (0,0,5)\r\nspace origin: (0,0,0)\r\nname:=a: b\r\n\r\n"
        ).replace("\r\n", "\r\n" if space == "LPS" else "\n")
        path = tmp_path / "scan.nrrd"
        path.write_bytes(header.encode() + stored_voxels(affine, sizes).astype("<i2").tobytes())
        volume = read_ct(path)
        assert_reads_the_world(volume)
        np.testing.assert_allclose(volume.affine, np.diag([2, 3, 5, 1]))


def refused(path: Path, reason: str, words: str, headers_show_it: bool = True) -> None:
    for function in (read_ct, check_ct) if headers_show_it else (read_ct,):
        with pytest.raises(ReadError, match=words) as caught:
            function(path)
        assert caught.value.reason == reason
        assert str(path) in str(caught.value)
        assert caught.value.__cause__ is None


def replaced(path: Path, old: bytes, new: bytes) -> Path:
    """Change the header once, which must have what is to be changed."""
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "reason", "words"),
    [
        (b"space: left-posterior-superior\n", b"space dimension: 3\n", "no_orientation", "no patient orientation"),
        (b"space: left-posterior-superior\n", b"space: scanner-xyz\n", "no_orientation", "no patient orientation"),
        (b"space directions: (2,0,0) (0,3,0) (0,0,5)\n", b"", "no_orientation", "no space directions"),
        (b"(0,0,5)", b"none", "no_orientation", "no space directions"),
        (b"(0,0,5)", b"(0,0,0)", "bad_spacing|damaged_file", "millimetres|cannot be read"),
        (b"(0,0,5)", b"(0,2,5)", "sheared|damaged_file", "sheared|cannot be read"),
        (b"sizes: 4 5 6", b"sizes: 4 5 7", "truncated", "cut short"),
        (b"sizes: 4 5 6", b"sizes: 9999999 999999 999999", "truncated", "cut short"),
        (b"sizes: 4 5 6", b"sizes: 4 30", "not_3d", "3 axes"),
        (b"sizes: 4 5 6", b"sizes: 4 5 -6", "not_3d", "3 axes"),
        (b"encoding: raw", b"encoding: ascii", "unknown_encoding", "expected numbers"),
        (b"encoding: raw", b"byte skip: -1\nencoding: raw", "unknown_encoding", "skip"),
        (b"type: short", b"type: block", "unknown_encoding", "expected numbers"),
        (b"NRRD0004", b"NRRQ0004", "damaged_file", "not a MetaImage or NRRD header"),
        (b"dimension: 3", b"dimension: three", "damaged_file", "cannot be read"),
    ],
)
def test_a_broken_nrrd_is_refused_by_name(tmp_path, old, new, reason, words):
    path = replaced(write_itk(tmp_path / "P0042.nrrd", *lps_affine()), old, new)
    with pytest.raises(ReadError, match=words) as caught:
        read_ct(path)
    assert caught.value.reason in reason.split("|")
    refused(path, caught.value.reason, words)


@pytest.mark.parametrize(
    ("old", "new", "reason", "words"),
    [
        (b"ElementSpacing = 2 3 5\n", b"", "no_orientation", "no ElementSpacing"),
        (b"ElementSpacing = 2 3 5\n", b"ElementSpacing = 2 3 0\n", "bad_spacing|damaged_file", "millimetres|cannot be read"),
        (b"DimSize = 4 5 6", b"DimSize = 4 5 7", "truncated", "cut short"),
        (b"NDims = 3", b"NDims = 4", "not_3d", "3 axes"),
        (b"DimSize = 4 5 6", b"DimSize = 4 5", "not_3d", "3 axes"),
        (b"MET_SHORT", b"MET_SHORT_ARRAY", "not_scalar", "one number a voxel"),
        (b"MET_SHORT\n", b"MET_SHORT\nElementNumberOfChannels = 3\n", "damaged_file|not_scalar", "one number"),
        (b"BinaryData = True", b"BinaryData = False", "not_scalar", "one number"),
        (b"ElementDataFile = LOCAL", b"HeaderSize = -1\nElementDataFile = LOCAL", "not_scalar", "header size"),
        (b"ElementDataFile = LOCAL", b"ElementDataFil = LOCAL", "damaged_file", "not a MetaImage"),
        (b"ObjectType = Image", b"ElementDataFile: x = y\nObjectType = Image", "damaged_file", "not a MetaImage"),
    ],
)
def test_a_broken_metaimage_is_refused_by_name(tmp_path, old, new, reason, words):
    path = replaced(write_itk(tmp_path / "P0042.mha", *lps_affine()), old, new)
    with pytest.raises(ReadError, match=words) as caught:
        read_ct(path)
    assert caught.value.reason in reason.split("|")
    refused(path, caught.value.reason, words)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_voxels_cut_short_are_refused(tmp_path, suffix, compress):
    path = write_itk(tmp_path / f"scan{suffix}", *lps_affine(), compress=compress)
    data = next((file for file in tmp_path.iterdir() if file != path), path)
    data.write_bytes(data.read_bytes()[: -12 if compress else -1])
    refused(path, "truncated", "cut short|break off", headers_show_it=not compress)


def test_a_small_compressed_file_cannot_claim_a_huge_image(tmp_path):
    path = write_itk(tmp_path / "scan.nrrd", *lps_affine(), compress=True)
    refused(replaced(path, b"sizes: 4 5 6", b"sizes: 999 999 999"), "truncated", "cannot hold")


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
@pytest.mark.parametrize("kind", ["absolute", "above", "below", "link", "list", "pattern", "missing", "folder"])
def test_voxels_outside_the_headers_own_folder_are_never_read(tmp_path, suffix, kind):
    """SimpleITK would read any file of the machine into the image."""
    folder = tmp_path / "scans"
    folder.mkdir()
    path = write_itk(folder / f"scan{suffix}", *lps_affine())
    secret = tmp_path / "secret.raw"
    secret.write_bytes(bytes(1000))
    (folder / "below").mkdir()
    (folder / "below" / "secret.raw").write_bytes(bytes(1000))
    (folder / "link.raw").symlink_to(secret)
    name = {
        "absolute": str(secret),
        "above": "../secret.raw",
        "below": "below/secret.raw",
        "link": "link.raw",
        "list": "LIST\nscan.raw",
        "pattern": "scan%d.raw 1 1 1",
        "missing": "nothing.raw",
        "folder": "below",
    }[kind]
    refused(replaced(path, b"scan.raw", name.encode()), "outside_file", "plain file name in the same folder")


def test_contents_decide_between_nrrd_and_metaimage_and_nothing_else_has_a_try(tmp_path):
    path = write_itk(tmp_path / "scan.nrrd", *lps_affine())
    assert_reads_the_world(read_ct(path.rename(tmp_path / "scan.mha")))
    sitk.WriteImage(sitk.Image(4, 5, 6, sitk.sitkInt16), str(tmp_path / "other.nii"))
    refused((tmp_path / "other.nii").rename(tmp_path / "other.mha"), "damaged_file", "not a MetaImage or NRRD header")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_values_below_air_become_air_and_nan_is_refused(tmp_path, suffix):
    voxels = stored_voxels(*lps_affine()).astype(np.float32)
    for value in (-3024, np.nan):
        voxels[0, 0, 0] = value
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing((2, 3, 5))
        sitk.WriteImage(image, str(tmp_path / f"scan{suffix}"))
        if np.isnan(value):
            refused(tmp_path / f"scan{suffix}", "nan_voxels", "not numbers", headers_show_it=False)
        else:
            assert read_ct(tmp_path / f"scan{suffix}").hu[0, 0].tolist() == [-1024, -958, -956, -954]


def test_the_hash_covers_the_data_file_beside_the_header(tmp_path):
    path = write_itk(tmp_path / "scan.mhd", *lps_affine())
    before = source_hash(path)
    (tmp_path / "scan.raw").write_bytes((tmp_path / "scan.raw").read_bytes()[::-1])
    assert source_hash(path) != before


@pytest.mark.data
def test_real_files_read_as_simpleitk_reads_them(real_data):
    for name in ("cip/ct-64.nrrd", "elastix/3DCT_lung_baseline_small.mha"):
        volume, image = read_ct(real_data / "ct" / name), sitk.ReadImage(str(real_data / "ct" / name))
        np.testing.assert_array_equal(volume.hu, np.maximum(sitk.GetArrayViewFromImage(image), -1024))
        np.testing.assert_allclose(volume.affine[:3, 3], image.GetOrigin())
        np.testing.assert_allclose(volume.spacing[::-1], image.GetSpacing())


@pytest.mark.data
@pytest.mark.parametrize("name", ["3DCT_lung_baseline_mask.mha", "3DCT_lung_followup_mask.mha"])
def test_real_masks_are_refused_as_not_hu(real_data, name):
    refused(real_data / "ct/elastix" / name, "not_hu", "values 0 to 1 are not HU", headers_show_it=False)
