"""Files that other people's scanners and programs wrote: those that come with pydicom, and the real series of the data folder."""

import logging
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from ct_writers import AXIAL, ct_slice
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import CTImageStorage, RLELossless
from test_dicom import refused

from copdvae.errors import ReadError
from copdvae.read import read_ct
from copdvae.read.dicom import read_volume
from copdvae.read.dicom_files import read_file
from copdvae.read.dicom_header import CAPTURE, FOREIGN, OBJECT, SCOUT
from copdvae.read.dicom_pixels import read_pixels, rle_is_whole, stream_size
from copdvae.read.options import ReadConfig


def bundled(name: str) -> Path:
    found = get_testdata_file(name, download=False)
    assert found is not None, name
    return Path(str(found))


def opened(path: Path) -> pydicom.FileDataset:
    """By pydicom, which complains of much."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path, force=True)


def series_of(path: Path, folder: Path, **header) -> Path:
    """Three CT slices, 5 mm apart, all with the pixels of `path` as that file holds them."""
    folder.mkdir()
    for n in range(3):
        dataset = opened(path)
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.Modality, dataset.SeriesInstanceUID = "CT", "1.2.3"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{n}"
        for keyword, value in header.items():
            setattr(dataset, keyword, value)
        normal = np.cross(*np.reshape(np.array(dataset.ImageOrientationPatient, float), (2, 3)))
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in np.array(dataset.ImagePositionPatient, float) + 5 * n * normal]
        dataset.save_as(folder / f"{n}.dcm")
    return folder


def hu_of(path: Path) -> np.ndarray:
    """The pixels of `path` as pydicom reads them, rescaled."""
    dataset = opened(path)
    return dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)


def codes(volume) -> list[str]:
    return [warning.rpartition("[")[2].rstrip("]") for warning in volume.warnings]


def test_a_small_ct_of_ge_is_read_as_pydicom_reads_it(tmp_path):
    hu, volume = hu_of(bundled("CT_small.dcm")), read_ct(series_of(bundled("CT_small.dcm"), tmp_path / "a"))
    np.testing.assert_array_equal(volume.hu, np.stack([hu] * 3))
    np.testing.assert_allclose(volume.affine[:3, 3], [-158.135803, -179.035797, -75.699997])
    assert volume.spacing == pytest.approx((5, 0.661468, 0.661468))
    assert codes(volume) == []
    (tmp_path / "one").mkdir()
    (tmp_path / "one/x.dcm").write_bytes(bundled("CT_small.dcm").read_bytes())
    refused(tmp_path / "one", "single_slice", "only one slice")


def test_lossy_jpeg_2000_is_noted_and_its_blurred_padding_becomes_air(tmp_path):
    hu, volume = hu_of(bundled("693_J2KI.dcm")), read_ct(series_of(bundled("693_J2KI.dcm"), tmp_path / "a"))
    assert hu.min() < -3000  # raw -2971 beside a padding value of -2000
    np.testing.assert_array_equal(volume.hu, np.stack([np.where(hu == -3024, -1024, np.maximum(hu, -1024))] * 3))
    assert "lossy" in codes(volume)
    assert "derived" in codes(volume)


def test_pixels_whose_sign_the_header_denies_are_read_as_decoders_do_and_noted(tmp_path):
    """The stream's 13 bits are unsigned, the header's signed; the padding of -2000 has no tag; slices lean by 22 degrees, all alike."""
    hu, folder = hu_of(bundled("J2K_pixelrep_mismatch.dcm")), series_of(bundled("J2K_pixelrep_mismatch.dcm"), tmp_path / "a")
    assert (hu.min(), hu.max()) == (-2000, 1896)
    volume = read_ct(folder)
    np.testing.assert_array_equal(volume.hu, np.stack([np.maximum(hu, -1024)] * 3))
    assert codes(volume) == ["bits_disagree", "turned"]


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm",
        "MR_small_expb.dcm", "MR_small_padded.dcm",
    ],
)  # fmt: skip
def test_every_way_to_write_pixels_gives_the_same_voxels(tmp_path, name):
    header = dict(RescaleSlope=1, RescaleIntercept=-1024, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"])
    header |= dict(ImagePositionPatient=[0, 0, 0], ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    volume = read_volume(series_of(bundled(name), tmp_path / "a", **header))
    np.testing.assert_array_equal(volume.hu, np.stack([np.maximum(opened(bundled("MR_small.dcm")).pixel_array - 1024.0, -1024)] * 3))
    assert "bits_disagree" not in codes(volume)


def test_lossless_jpeg_is_decoded(tmp_path):
    hu = np.random.default_rng(0).integers(-1000, 1000, (3, 32, 32)).astype(np.int16)
    for n, plane in enumerate(hu):
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(tmp_path / f"{n}.dcm"))
        writer.UseCompressionOn()
        writer.SetCompressor("JPEG")
        image = sitk.GetImageFromArray(plane)
        image.SetMetaData("0008|0060", "CT")
        writer.Execute(image)
        dataset = pydicom.dcmread(tmp_path / f"{n}.dcm")
        assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.70"
        dataset.SeriesInstanceUID, dataset.ImagePositionPatient, dataset.ImageOrientationPatient = "1.2.3", [0, 0, n], [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.RescaleSlope, dataset.RescaleIntercept = [1, 1], 1, 0
        dataset.save_as(tmp_path / f"{n}.dcm")
    np.testing.assert_array_equal(read_ct(tmp_path).hu, hu)


def test_a_real_truncated_file_is_refused(tmp_path):
    header = dict(RescaleSlope=1, RescaleIntercept=-1024)
    folder = series_of(bundled("MR_small.dcm"), tmp_path / "a", **header)
    whole, cut = bundled("MR_small.dcm").stat().st_size, bundled("MR_truncated.dcm").stat().st_size
    lost = whole - cut
    path = folder / "1.dcm"
    path.write_bytes(path.read_bytes()[:-lost])
    refused(folder, "truncated", "1.dcm: .*cut short", headers_show_it=False)


@pytest.mark.parametrize("lost", [8, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("way", ["frame", "frame without lengths inside", "file"])
@pytest.mark.parametrize(
    "name", ["693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm"]
)
def test_a_compressed_frame_that_breaks_off_is_refused(tmp_path, name, way, lost):
    """Also where what holds it is whole, and where the JPEG 2000 stream does not say how long its only tile is.

    Eight bytes: the last two of a JPEG are its end's mark alone.
    """
    folder = series_of(bundled(name), tmp_path / "a", RescaleSlope=1, RescaleIntercept=-1024)
    path = folder / "1.dcm"
    data, dataset = path.read_bytes(), opened(path)
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    frame = frame.rstrip(b"\0") if "RLE" not in name else frame
    tile = frame.find(b"\xff\x90\x00\x0a")
    if way == "file":
        size = len(data) - data.index(b"\xe0\x7f\x10\x00O")
        path.write_bytes(data[: -int(lost if lost > 1 else size * lost) - 8])  # the mark of the end takes eight
    else:
        if way != "frame":
            if tile < 0:
                pytest.skip("no JPEG 2000")
            frame = frame[: tile + 6] + bytes(4) + frame[tile + 10 :]
        kept = len(frame) - int(lost if lost > 1 else len(frame) * lost)
        dataset.PixelData = encapsulate([frame[:kept]])
        dataset["PixelData"].VR = "OB"
        dataset.save_as(path)
    refused(folder, "bad_compression", "1.dcm: its compressed pixels .* cannot be decoded", headers_show_it=False)


@pytest.mark.parametrize("count", [1, 5, 127, 128, 129, 1000])
def test_rle_is_whole_where_pydicom_decodes_it_and_not_without_its_last_bytes(count):
    rng = np.random.default_rng(count)
    words = np.concatenate([rng.integers(0, 2**16, count // 2), np.full(count - count // 2, 77)]).astype("<u2")
    dataset = ct_slice(words.reshape(1, -1), (0, 0, 0), AXIAL, (1, 1), "1.2", 0)
    dataset.compress(RLELossless, generate_instance_uid=False)
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    assert rle_is_whole(frame, 1, count)
    assert not rle_is_whole(frame, 1, count + 2)
    assert not rle_is_whole(frame, count // 2, 1)
    second = int.from_bytes(frame[8:12], "little")
    shorter = frame[: second - 2] + frame[second:]  # of the first segment
    assert not rle_is_whole(shorter[:8] + (second - 2).to_bytes(4, "little") + shorter[12:], 1, count)
    assert not rle_is_whole(frame[:-2] if len(frame) - second > 2 else frame[:second], 1, count)
    assert not rle_is_whole(frame[:60], 1, count)


@pytest.mark.parametrize("size", [(32, 64), (64, 32), (64, 63), (63, 64), (128, 64)])
@pytest.mark.parametrize("name", ["MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm"])
def test_compressed_pixels_of_another_size_than_the_header_says_are_refused(tmp_path, name, size):
    """GDCM breaks JPEG-LS and RLE into rows of the header's length, whatever they were."""
    folder = series_of(bundled(name), tmp_path / "a", RescaleSlope=1, RescaleIntercept=-1024, Rows=size[0], Columns=size[1])
    refused(folder, "bad_compression", "dcm: (its )?compressed pixels", headers_show_it=False)


def test_a_jpeg_says_its_size_behind_any_tables():
    lossless = b"\xff\xd8\xff\xe0\0\x04ab\xff\xff\xc4\0\x05abc\xff\xc3\0\x0b\x10\x01\x02\x03\x04\x01\x01\x11\0"
    assert stream_size(lossless) == (258, 772)
    assert stream_size(lossless.replace(b"\x01\x02\x03", b"\0\0\x03")) is None
    assert stream_size(lossless[:20]) is None
    assert stream_size(b"\xff\x4f\xff\x51" + bytes(60)) is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("MR_truncated.dcm", OBJECT), ("image_dfl.dcm", OBJECT), ("rtplan.dcm", OBJECT), ("rtstruct.dcm", OBJECT), ("rtdose.dcm", OBJECT),
        ("reportsi.dcm", OBJECT), ("test-SR.dcm", OBJECT), ("waveform_ecg.dcm", OBJECT), ("liver_1frame.dcm", OBJECT),
        ("badVR.dcm", OBJECT), ("ExplVR_BigEnd.dcm", OBJECT), ("ExplVR_BigEndNoMeta.dcm", OBJECT), ("ExplVR_LitEndNoMeta.dcm", OBJECT),
        ("no_meta_group_length.dcm", OBJECT), ("SC_rgb_rle.dcm", CAPTURE), ("SC_rgb_jpeg_dcmtk.dcm", CAPTURE), ("README.txt", FOREIGN),
        ("no_meta.dcm", FOREIGN), ("rtplan.dump", FOREIGN), ("crayons.icc", FOREIGN), ("dicomdirtests/DICOMDIR", OBJECT),
        ("dicomdirtests/DICOMDIR-bigEnd", OBJECT), ("dicomdirtests/DICOMDIR-implicit", OBJECT),
        ("dicomdirtests/DICOMDIR-empty.dcm", OBJECT), ("dicomdirtests/98892001/CT2N/6293", SCOUT),
        ("dicomdirtests/98892001/CT2N/6924", SCOUT),
    ],
)  # fmt: skip
def test_bundled_files_that_are_no_ct_are_told_by_kind(name, found):
    folder = bundled("CT_small.dcm").parent
    assert read_file(folder / name if "/" in name or name == "README.txt" else bundled(name)) == found


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("meta_missing_tsyntax.dcm", "damaged_file"), ("UN_sequence.dcm", "truncated"), ("nested_priv_SQ.dcm", "damaged_file"),
        ("dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM000000", "truncated"),
    ],
)  # fmt: skip
def test_bundled_files_that_are_broken_are_refused(name, reason):
    path = bundled("CT_small.dcm").parent / name
    with pytest.raises(ReadError) as caught:
        read_file(path if path.is_file() else bundled(name))
    assert caught.value.reason == reason


@pytest.mark.parametrize(("folder", "count", "others"), [("98892001/CT5N", 5, False), ("98892001", 5, True)])
def test_tiny_series_of_the_media_tests_are_read(folder, count, others):
    path = bundled("CT_small.dcm").parent / "dicomdirtests" / folder
    volume = read_volume(path)
    slices = [opened(file) for file in path.rglob("*") if file.is_file()]
    slices = sorted((s for s in slices if "AXIAL" in s.ImageType and s.Modality == "CT"), key=lambda s: float(s.ImagePositionPatient[2]))
    assert len(slices) == len(volume.hu) == count
    for plane, slice_ in zip(volume.hu, slices, strict=True):
        np.testing.assert_array_equal(
            plane, np.maximum(slice_.pixel_array * float(slice_.RescaleSlope) + float(slice_.RescaleIntercept), -1024)
        )
    assert ("left_out" in codes(volume)) == others


def test_two_pieces_of_a_body_far_apart_are_no_series():
    folder = bundled("CT_small.dcm").parent / "dicomdirtests/77654033/CT2"
    refused(folder, "missing_slice", "202.50 mm apart, others 1.25")
    refused(folder, "missing_slice", "gaps over 20 mm are not filled", config=ReadConfig(allow_gaps=True))


@pytest.mark.data
def test_a_report_folder_without_any_image_is_refused_with_a_count_of_what_is_there(real_data):
    refused(real_data / "ct/dcm_qa_ct/Philips_S4010", "no_axial_ct", r"\(5 screen captures, 1 other DICOM objects\)")


@pytest.mark.data
def test_padding_of_a_real_series_becomes_air(real_data):
    """GE: raw -1500 and an intercept of 0, a padding value that no HU has; 23.7 % of a slice."""
    path = real_data / "ct/dcm_qa_ct/GE/01.dcm"
    (slice_,) = read_file(path)
    out = np.empty((slice_.rows, slice_.columns), np.float32)
    read_pixels(slice_, out)
    raw = opened(path).pixel_array
    assert np.mean(raw == -1500) == pytest.approx(0.237, abs=0.001)
    np.testing.assert_array_equal(out, np.where(raw == -1500, -1024, np.maximum(raw, -1024)))
