"""Another program, written by other people from the same standard, reads the same voxels at the same places. Where it differs, and why, is
in docs/REASONS.md.
"""

import subprocess
import tarfile
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from ct_writers import setting, write_series
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless
from test_dicom import CORONAL
from test_dicom_frames import write_enhanced
from test_dicom_real import bundled, series_of

from copdvae.read.dicom import read_volume
from copdvae.read.options import ReadConfig

dcm2niix = pytest.importorskip("dcm2niix", reason="the development extra installs dcm2niix")


def converted(folder: Path, suffix: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Voxels (z, y, x) and affine (x, y, z) -> LPS mm, axes turned to left, back and up, of the volume that dcm2niix makes of `folder`."""
    with tempfile.TemporaryDirectory() as out:
        command = [dcm2niix.bin, "-z", "n", "-b", "n", "-f", "scan", "-o", out, str(folder)]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        files = [file for file in Path(out).glob("*.nii") if file.stem.removeprefix("scan").rstrip("_0123456789").endswith(suffix)]
        files = [file for file in files if suffix or "_" not in file.stem]
        assert len(files) == 1, said.stdout
        image = nibabel.as_closest_canonical(nibabel.load(files[0]))
        voxels = np.asarray(image.dataobj, dtype=np.float64)
    turned = voxels[::-1, ::-1]  # from right, front: to left, back
    affine = np.diag([-1.0, -1, 1, 1]) @ image.affine
    affine[:3, 3] += affine[:3, 0] * (voxels.shape[0] - 1) + affine[:3, 1] * (voxels.shape[1] - 1)
    affine[:3, :2] *= -1
    return turned.transpose(2, 1, 0), affine


def assert_the_same(folder: Path, tolerance: float = 0) -> np.ndarray:
    """Returns what the other program reads."""
    voxels, affine = converted(folder)
    volume = read_volume(folder)
    np.testing.assert_allclose(volume.hu, np.maximum(voxels, -1024), atol=tolerance, rtol=0)
    np.testing.assert_allclose(affine, volume.affine, atol=1e-3)
    return voxels


SQUARE = dict(sizes=(16, 16), pixel_spacing=(3.0, 2.0))


@pytest.mark.parametrize("orientation", [[1, 0, 0, 0, 1, 0], [-1, 0, 0, 0, 1, 0], [1, 0, 0, 0, -1, 0], [0, 1, 0, -1, 0, 0], CORONAL])
def test_however_slices_lie(tmp_path, orientation):
    corner = (7, -11, 13)
    assert_the_same(write_series(tmp_path, orientation=orientation, corner=corner, **SQUARE))


def other_rescale(dataset, number):
    raw = dataset.pixel_array.astype(int)
    if number == 1:
        dataset.RescaleIntercept, raw = -2024, raw + 1000
    dataset.PixelData = raw.astype("<u2").tobytes()


def rle(dataset, number):
    dataset.compress(RLELossless, generate_instance_uid=False)


@pytest.mark.parametrize(
    ("change", "tolerance"),
    [
        (setting(RescaleSlope="0.125"), 0.1),
        (setting(RescaleIntercept="-1024.5"), 0.51),
        (rle, 0),
        (setting(BitsStored=12, HighBit=11), 0),
        (setting(SpacingBetweenSlices=-2, SliceThickness=1), 0),
    ],
    ids=["slope", "half", "rle", "twelve bits", "spacing tags lie"],
)  # fmt: skip
def test_however_pixels_are_written(tmp_path, change, tolerance):
    assert_the_same(write_series(tmp_path, change=change, **SQUARE), tolerance)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_in_every_byte_order(tmp_path, syntax):
    for path in write_series(tmp_path, **SQUARE).iterdir():
        dataset, big = pydicom.dcmread(path), syntax == ExplicitVRBigEndian
        dataset.PixelData = dataset.pixel_array.astype(">u2" if big else "<u2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(path, dataset, implicit_vr=not big, little_endian=not big)
    assert_the_same(tmp_path)


def test_enhanced_ct_with_shuffled_frames(tmp_path):
    assert_the_same(write_enhanced(tmp_path / "a.dcm", sizes=(16, 16)))


@pytest.mark.parametrize("name", ["CT_small.dcm", "693_J2KI.dcm"])
def test_series_of_bundled_slices(tmp_path, name):
    assert_the_same(series_of(bundled(name), tmp_path / "a"))


@pytest.mark.parametrize(
    "name", ["MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm", "MR_small_expb.dcm", "MR_small_padded.dcm"]
)
def test_bundled_ways_to_compress(tmp_path, name):
    header = dict(RescaleSlope=1, RescaleIntercept=-1024, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])
    assert_the_same(series_of(bundled(name), tmp_path / "a", **header))


def test_a_tiny_series_of_the_media_tests():
    assert_the_same(bundled("CT_small.dcm").parent / "dicomdirtests/98892001/CT5N")


def test_where_the_sign_is_in_dispute_it_reads_unsigned_pixels_and_we_what_the_header_means(tmp_path):
    """Its negative HU come out 8192 too high, which no CT has."""
    folder = series_of(bundled("J2K_pixelrep_mismatch.dcm"), tmp_path / "a")
    voxels, _ = converted(folder)
    volume = read_volume(folder)
    wrapped = np.where(voxels > 4095, voxels - 8192, voxels)
    assert (voxels > 6000).mean() > 0.3
    np.testing.assert_array_equal(volume.hu, np.maximum(wrapped, -1024))


@pytest.mark.data
@pytest.mark.parametrize(
    "folder", ["cip/ct-64Dicom", "opentps_4dct/inhale_phase20_dicom", "opentps_4dct/exhale_phase60_dicom", "pydicom_data"]
)
def test_real_series(real_data, folder):
    assert_the_same(real_data / "ct" / folder)


@pytest.mark.data
def test_a_tilted_uneven_series_is_sheared_the_same_way(real_data):
    """Both put the stack upright on as many rows and interpolate between slices: it in 2.6 mm steps and by whole pixels, we in 4 mm."""
    folder = real_data / "ct/dcm_qa_ct/GE"
    volume = read_volume(folder, config=ReadConfig(allow_gaps=True, resample_tilt=True))
    voxels, affine = converted(folder, "_Tilt_Eq")
    assert voxels.shape[1:] == volume.hu.shape[1:] == (611, 512)
    directions = [each[:3, :3] / np.linalg.norm(each[:3, :3], axis=0) for each in (affine, volume.affine)]
    np.testing.assert_allclose(directions[0], directions[1], atol=1e-3)
    assert np.abs(affine[:3, 3] - volume.affine[:3, 3]).max() < 0.25  # half a pixel
    for plane in (0, -1):  # the first and the last slice are in both
        assert np.abs(np.maximum(voxels[plane], -1024) - volume.hu[plane]).mean() < 4


@pytest.mark.data
@pytest.mark.slow
def test_a_whole_chest(real_data, tmp_path):
    with tarfile.open(real_data / "ct/lidc_idri_0001_full_dicom.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    voxels = assert_the_same(tmp_path / "LIDC-IDRI-0001")
    assert np.mean(voxels == -2048) == pytest.approx(0.21, abs=0.01)  # its padding, whatever PixelPaddingValue says; in ours it is air
