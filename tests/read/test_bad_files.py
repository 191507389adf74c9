"""Bad files that are not DICOM: each is made here, and read or refused as docs/REASONS.md says, for a reason that stays the same.

The numbers are of the rows of the list that the readers were written against.
"""

import bz2
import errno
import gzip
import os
import shutil
import tempfile
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from ct_writers import assert_reads_the_world, lps_affine, stored_voxels, write_itk, write_nifti

from copdvae.errors import ReadError, printable
from copdvae.read import check_ct, metaimage, read_ct, read_labels
from copdvae.read.manifest import read_manifest

RAS = np.diag([-1, -1, 1, 1])


def reason_of(path: Path, reader=read_ct) -> str:
    """Why a file is refused; "" where it is read. The message names the file, and where the error came from stays in here."""
    found = []
    try:
        reader(path)
    except ReadError as error:
        found.append(error)
    assert all(str(path) in str(error) and error.__cause__ is None for error in found)
    return found[0].reason if found else ""


def nifti(path: Path, change=lambda header: None, dtype=np.int16, voxels=None) -> Path:
    """A sound NIfTI-1 whose header bytes are then changed in place."""
    affine, sizes = lps_affine()
    write_nifti(path, affine, sizes, dtype)
    data = bytearray(path.read_bytes())
    header = np.frombuffer(data, nibabel.nifti1.header_dtype, count=1)
    change(header)
    path.write_bytes(data)
    return path


def replaced(path: Path, *pairs: tuple[bytes, bytes]) -> Path:
    data = path.read_bytes()
    for old, new in pairs:
        assert data.count(old) == 1
        data = data.replace(old, new)
    path.write_bytes(data)
    return path


def nrrd(folder: Path, *pairs: tuple[bytes, bytes]) -> Path:
    return replaced(write_itk(folder / "scan.nrrd", *lps_affine()), *pairs)


def mha(folder: Path, *pairs: tuple[bytes, bytes], **options) -> Path:
    return replaced(write_itk(folder / "scan.mha", *lps_affine(), **options), *pairs)


def by_qform(**fields):
    """Orientation from the qform alone, where voxel sizes are those of `pixdim`."""

    def change(header):
        header["sform_code"], header["qform_code"] = 0, 1
        for name, value in fields.items():
            header[name] = value

    return change


@pytest.mark.parametrize("steps", [(0, 3, 5), (2, 0, 5), (2, 3, 0), (-2, 3, 5), (2, -3, 5), (np.nan, 3, 5)])
def test_row_51_a_nifti_without_a_voxel_size_is_not_read_as_one_millimetre(tmp_path, steps):
    """nibabel takes a 0 for 1 mm and drops a minus, both in silence."""
    pixdim = [1, *steps, 0, 0, 0, 0]
    path = nifti(tmp_path / "scan.nii", by_qform(pixdim=pixdim))
    assert {reason_of(path, reader) for reader in (read_ct, check_ct)} == {"bad_spacing"}
    assert reason_of(nifti(tmp_path / "sound.nii", by_qform())) == ""


@pytest.mark.parametrize(
    "pair",
    [
        (b"ElementSpacing = 2 3 5", b"ElementSpacing = 2 3 -5"), (b"ElementSpacing = 2 3 5", b"ElementSpacing = 0 3 5"),
        (b"ElementSpacing = 2 3 5", b"ElementSpacing = 2 3"), (b"ElementSpacing = 2 3 5", b"ElementSpacing = 2 3 x"),
        (b"ElementType", b"DistanceUnits = um\nElementType"),
    ],
)  # fmt: skip
def test_row_51_a_metaimage_with_a_spacing_of_nothing_or_less_or_in_another_unit_is_refused(tmp_path, pair):
    """SimpleITK drops the minus and passes over the unit."""
    assert reason_of(mha(tmp_path, pair)) == "bad_spacing"


def assert_read_or_refused(path, reason):
    """A file that is read has to be the one that was written."""
    assert reason_of(path) == reason
    if not reason:
        assert_reads_the_world(read_ct(path))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"(0,0,5)", b"(0,0,0)", "bad_spacing"), (b"(0,0,5)", b"(0,0,nan)", "no_orientation"), (b"(0,0,5)", b"(0,0,inf)", "no_orientation"),
        (b"(0,0,5)", b"(0,0,5) (0,0,1)", "no_orientation"), (b"(0,0,5)", b"none", "no_orientation"),
        (b"kinds: domain domain domain", b"kinds: domain domain vector", "not_3d"),
        (b"dimension: 3\nspace: left-posterior-superior\nsizes: 4 5 6", b"dimension: 4\nspace: left-posterior-superior\nsizes: 4 5 3 2",
         "not_3d"),
        (b"encoding: raw", b'encoding: raw\nspace units: "um" "um" "um"', "bad_spacing"),
        (b"encoding: raw", b'encoding: raw\nspace units: "mm" "mm" "mm"', ""),
        (b"encoding: raw", b"encoding: raw\nold min: 0\nold max: 1", "not_hu"), 
        (b"encoding: raw", b"encoding: raw\nspacings: 1 1 1", "damaged_file"),
        (b"sizes: 4 5 6", b"sizes: 4 5 6\nsizes: 2 5 6", "damaged_file"), (b"endian: little\n", b"", "damaged_file"),
        (b"encoding: raw", b"encoding: raw\ncontent: anything", ""), (b"encoding: raw", b"encoding: raw\nPatient:=anyone", ""),
        (b"space origin: (0,0,0)", b"space origin: (0,0)", "damaged_file"),
        (b"space origin: (0,0,0)", b"space origin: (0,0,1e308)", "damaged_file"), (b"\n\n", b"\n", "damaged_file"),
    ],
)  # fmt: skip
def test_rows_50_and_51_fields_of_a_nrrd_that_would_change_the_image_are_read_or_refused(tmp_path, old, new, reason):
    assert_read_or_refused(nrrd(tmp_path, (old, new)), reason)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"ElementType", b"ElementToIntensityFunctionSlope = 2\nElementType", "not_hu"),
        (b"ElementType", b"ElementToIntensityFunctionOffset = -1024\nElementType", "not_hu"),
        (b"ElementType", b"ElementToIntensityFunctionSlope = 1\nElementToIntensityFunctionOffset = 0\nElementType", ""),
        (b"DimSize = 4 5 6", b"DimSize = 4 5 6\nDimSize = 2 5 6", "damaged_file"),
        (b"Offset = 0 0 0", b"Offset = 0 0 0\nPosition = 5 5 5", "damaged_file"), (b"Offset = 0 0 0", b"Offset = nan 0 0", "damaged_file"),
        (b"Offset = 0 0 0", b"Origin = 0 0 0", ""), (b"ElementSpacing", b"ElEmentSpacing", "damaged_file"),
        (b"NDims = 3", b"NDims = 3\nelementsize = 2 3 9", "damaged_file"), (b"NDims = 3", b"NDims = 3\ncomment = x\nComment = y", ""),
        (b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"TransformMatrix = 1 0 0 0 1 0", "damaged_file"),
        (b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"TransformMatrix = 1 0 0 0 1 0 0 .5 .9", "sheared"),
        (b"ObjectType = Image", b"ObjectType = Scene", "damaged_file"), (b"NDims = 3", b"NDims = 3\nPatientName = anyone", ""),
    ],
)  # fmt: skip
def test_fields_of_a_metaimage_that_would_change_the_image_are_read_or_refused(tmp_path, old, new, reason):
    assert_read_or_refused(mha(tmp_path, (old, new)), reason)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nhdr", ".mhd"])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.float32, np.float64])
def test_nrrd_and_metaimage_are_read_as_simpleitk_reads_them(tmp_path, suffix, compress, dtype):
    """Oblique by 7 degrees, about an axis of no plane: every entry of the affine counts."""
    turn = sitk.VersorTransform((0.3, -0.5, 0.8), np.radians(7)).GetMatrix()
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(-1000, 1000, (6, 5, 4)).astype(dtype))
    image.SetSpacing((0.7, 0.9, 2.5))
    image.SetDirection(turn)
    image.SetOrigin((-12.5, 3.25, 99.1))
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(image, str(path), useCompression=compress)
    volume = read_ct(path)
    np.testing.assert_array_equal(volume.hu, sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.float32))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.reshape(turn, (3, 3)) * image.GetSpacing(), image.GetOrigin()
    np.testing.assert_allclose(volume.affine, affine, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", ">u2", ">i2", "<u4", ">f4", ">f8"])
@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
def test_a_nrrd_of_any_number_byte_order_and_encoding_reads_as_it_was_written(tmp_path, dtype, encoding):
    names = {"u1": "uchar", "i1": "signed char", "u2": "unsigned short", "i2": "int16_t", "u4": "uint32", "f4": "float", "f8": "double"}
    kind = np.dtype(dtype)
    voxels = np.resize(np.array([-100, 0, 40, 90, -60, 20] if kind.kind != "u" else [0, 40, 90, 120, 200, 20]), (6, 5, 4)).astype(kind)
    header = (
        f"NRRD0005\ntype: {names[kind.str[1:]]}\ndimension: 3\nspace: LPS\nsizes: 4 5 6\nspace directions: (2,0,0) (0,3,0) (0,0,5)\n"
        f"endian: {'big' if dtype.startswith('>') else 'little'}\nencoding: {encoding}\n\n"
    )
    packed = {"raw": bytes, "gzip": gzip.compress, "bzip2": bz2.compress}[encoding](voxels.tobytes())
    (tmp_path / "scan.nrrd").write_bytes(header.encode() + packed)
    labels, affine = metaimage.read_label_map(tmp_path / "scan.nrrd", (6, 5, 4))
    np.testing.assert_array_equal(labels, voxels)
    np.testing.assert_array_equal(affine, np.diag([2, 3, 5, 1]))


@pytest.mark.parametrize(("suffix", "name"), [(".nhdr", "data file"), (".mhd", "ElementDataFile")])
@pytest.mark.parametrize(
    "data", ["http://example.org/scan.raw", "file:scan.raw", "\\\\host\\share\\scan.raw", ".", "..", "scan.raw/", "x" * 300]
)
def test_row_42_addresses_and_odd_names_of_a_data_file_are_refused(tmp_path, suffix, name, data):
    path = write_itk(tmp_path / f"scan{suffix}", *lps_affine())
    assert reason_of(replaced(path, (b"scan.raw", data.encode()))) == "outside_file"
    assert name.encode() in path.read_bytes()


def test_row_42_no_file_outside_the_headers_folder_is_opened(tmp_path):
    """A pipe that nobody writes to: opening it would wait for ever."""
    folder = tmp_path / "scans"
    folder.mkdir()
    os.mkfifo(tmp_path / "secret.raw")
    os.mkfifo(folder / "pipe.raw")
    (folder / "link.raw").symlink_to(tmp_path / "secret.raw")
    for name in ("link.raw", "../secret.raw", str(tmp_path / "secret.raw"), "pipe.raw"):
        path = write_itk(folder / "scan.mhd", *lps_affine())
        assert reason_of(replaced(path, (b"scan.raw", name.encode()))) == "outside_file"


def chest_in(low: float, high: float) -> np.ndarray:
    """The world's HU brought to another scale, (k, j, i): -960 is `low`, 700 is `high`."""
    hu = stored_voxels(*lps_affine())
    return low + (hu + 960) / 1660 * (high - low)


@pytest.mark.parametrize(("low", "high", "dtype"), [(0, 4095, np.int16), (0, 255, np.uint8), (0, 1, np.float32), (-1, 1, np.float32)])
def test_row_45_values_that_are_not_hu_are_refused_with_what_was_found(tmp_path, low, high, dtype):
    path = tmp_path / "scan.nii"
    nibabel.save(nibabel.Nifti1Image(chest_in(low, high).astype(dtype).transpose(2, 1, 0), RAS @ lps_affine()[0]), path)
    with pytest.raises(ReadError, match=r"values .* are not HU: .*unscaled\?") as caught:
        read_ct(path)
    assert caught.value.reason == "not_hu"


@pytest.mark.parametrize("which", ["nii", "mha", "nrrd"])
def test_row_46_a_sheared_affine_is_refused_and_never_squared_in_silence(tmp_path, which):
    if which == "nii":
        path = nifti(tmp_path / "scan.nii", lambda header: header["srow_x"].__setitem__((0, 1), 0.4))
    elif which == "mha":
        path = mha(tmp_path, (b"TransformMatrix = 1 0 0 0 1 0", b"TransformMatrix = 1 0.2 0 0 1 0"))
    else:
        path = nrrd(tmp_path, (b"(2,0,0)", b"(2,0.4,0)"))
    with pytest.raises(ReadError, match="resample it to an orthogonal grid") as caught:
        read_ct(path)
    assert caught.value.reason == "sheared"


def test_row_47_no_code_is_refused_and_a_disagreement_is_told(tmp_path):
    def codes(q, s):
        return lambda header: (header.__setitem__("qform_code", q), header.__setitem__("sform_code", s))

    assert reason_of(nifti(tmp_path / "none.nii", codes(0, 0))) == "no_orientation"
    mirrored = nifti(tmp_path / "mirrored.nii", lambda header: (codes(1, 1)(header), header.__setitem__("quatern_d", 0)))
    assert any("qform and sform disagree" in warning for warning in read_ct(mirrored).warnings)
    assert_reads_the_world(read_ct(mirrored))
    stale = nifti(tmp_path / "stale.nii", lambda header: (codes(0, 1)(header), header["pixdim"].__setitem__((0, 3), 1)))
    assert read_ct(stale).warnings == ("pixdim and sform give different voxel sizes; sform is used [voxel_sizes_disagree]",)
    assert_reads_the_world(read_ct(stale))


@pytest.mark.parametrize("slope", [0, np.nan, np.inf])
def test_row_48_a_slope_of_nothing_is_one(tmp_path, slope):
    path = nifti(tmp_path / "scan.nii", lambda header: (header.__setitem__("scl_slope", slope), header.__setitem__("scl_inter", 3)))
    assert_reads_the_world(read_ct(path))


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_an_affine_of_no_numbers_is_refused_without_a_word_on_stderr(tmp_path, recwarn, value):
    path = nifti(tmp_path / "scan.nii", lambda header: header["srow_x"].__setitem__((0, slice(None)), value))
    assert reason_of(path) in ("bad_spacing", "sheared", "oblique", "damaged_file")
    assert not recwarn.list


def test_row_48_a_slope_that_makes_voxels_infinite_is_refused_without_a_word_on_stderr(tmp_path, recwarn):
    path = nifti(tmp_path / "scan.nii", lambda header: header.__setitem__("scl_slope", 3e38))
    assert reason_of(path) == "nan_voxels"
    assert not recwarn.list


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda header: header.__setitem__("magic", b"ni1"), "damaged_file"),  # voxels in another file
        (lambda header: header.__setitem__("vox_offset", 100), "damaged_file"),
        (lambda header: header.__setitem__("vox_offset", np.nan), "damaged_file"),
        (lambda header: header.__setitem__("xyzt_units", 5), "damaged_file"),
        (lambda header: header.__setitem__("dim", [3, 4, -5, 6, 1, 1, 1, 1]), "single_slice"),
        (lambda header: header.__setitem__("sizeof_hdr", 0), "damaged_file"),
        (lambda header: header["srow_z"].__setitem__((0, 3), 1e30), "damaged_file"),
    ],
)
def test_a_nifti_header_that_makes_no_sense_is_refused(tmp_path, change, reason):
    path = nifti(tmp_path / "scan.nii", change)
    assert {reason_of(path, reader) for reader in (read_ct, check_ct)} == {reason}


def test_row_49_a_scan_beside_its_compressed_namesake_is_the_one_that_is_named(tmp_path):
    affine, sizes = lps_affine()
    plain = write_nifti(tmp_path / "A.nii", affine, sizes)
    other = nibabel.Nifti1Image((stored_voxels(affine, sizes) + 100).astype(np.int16).transpose(2, 1, 0), RAS @ affine)
    nibabel.save(other, tmp_path / "A.nii.gz")
    assert_reads_the_world(read_ct(plain))
    np.testing.assert_array_equal(read_ct(tmp_path / "A.nii.gz").hu, read_ct(plain).hu + 100)
    (tmp_path / "manifest.csv").write_text("subject_id,insp_path\nP1,A.nii\nP2,A.nii.gz\n")
    assert list(read_manifest(tmp_path / "manifest.csv").scans["insp_path"]) == ["A.nii", "A.nii.gz"]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.98])
def test_row_41_no_beginning_of_a_file_passes_for_all_of_it(tmp_path, suffix, share):
    """Noise, so that a compressed file holds its voxels to the end."""
    voxels = np.random.default_rng(0).integers(-1000, 1000, (20, 40, 40), dtype=np.int16)
    path = tmp_path / f"scan{suffix}"
    if suffix.startswith(".nii"):
        nibabel.save(nibabel.Nifti1Image(voxels.T, np.diag([-2, -3, 5, 1])), path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path), useCompression=True)
    assert reason_of(path) == ""
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert reason_of(path) == "truncated"


@pytest.mark.parametrize("lost", [1, 2, 100])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_row_41_a_whole_compressed_stream_of_too_few_voxels_is_refused(tmp_path, suffix, lost):
    """Nothing is wrong with it but its length: no checksum tells."""
    affine, sizes = lps_affine()
    voxels = stored_voxels(affine, sizes).astype("<i2").tobytes()[:-lost]
    path = tmp_path / f"scan{suffix}"
    if suffix == ".nii.gz":
        path.write_bytes(gzip.compress(write_nifti(tmp_path / "whole.nii", affine, sizes).read_bytes()[:-lost]))
    else:
        whole = write_itk(path, affine, sizes, compress=True).read_bytes()
        end = whole.index(b"LOCAL\n") + 6 if suffix == ".mha" else whole.index(b"\n\n") + 2
        path.write_bytes(whole[:end] + (zlib.compress(voxels) if suffix == ".mha" else gzip.compress(voxels)))
    assert reason_of(path) == "truncated"


@pytest.mark.parametrize("suffix", [".nii", ".nrrd"])
def test_row_52_a_mask_that_is_flipped_moved_resized_or_empty_is_refused(tmp_path, suffix):
    ct = read_ct(write_nifti(tmp_path / "ct.nii", *lps_affine()))

    def mask(name, affine, sizes, values=1):
        labels = np.full(sizes[::-1], values, np.uint8)
        if suffix == ".nii":
            nibabel.save(nibabel.Nifti1Image(labels.T, RAS @ affine), tmp_path / (name + suffix))
        else:
            image = sitk.GetImageFromArray(labels)
            spacing = np.linalg.norm(affine[:3, :3], axis=0)
            image.SetSpacing(spacing.tolist())
            image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
            image.SetOrigin(affine[:3, 3].tolist())
            sitk.WriteImage(image, str(tmp_path / (name + suffix)))
        return reason_of(tmp_path / (name + suffix), lambda path: read_labels(path, ct))

    affine, sizes = lps_affine()
    assert mask("same", affine, sizes) == ""
    assert mask("empty", affine, sizes, 0) == "empty_mask"
    assert mask("resized", affine, (4, 5, 7)) == "mask_grid"
    assert mask("moved", affine + np.eye(4, k=3) * 1.0, sizes) == "mask_grid"
    flipped, _ = lps_affine(signs=(-1, 1, 1))
    assert mask("turned", flipped, sizes) == ""  # stored from the left, and says so
    flipped[0, 3] = 0
    assert mask("flipped", flipped, sizes) == "mask_grid"  # stored from the left, and says otherwise


@pytest.fixture
def nobody(tmp_path_factory):
    """Run as a user who may not read everything; a folder of theirs."""
    folder = Path(tempfile.mkdtemp(prefix="copdvae-"))
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(0)
            shutil.rmtree(folder)
    else:
        yield folder
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd"])
def test_row_60_a_file_that_may_not_be_read_is_not_called_damaged(nobody, suffix):
    """The system's own error goes up to who knows the subject: ingest and validate call it unreadable."""
    path = nobody / f"scan{suffix}"
    if suffix == ".nrrd":
        write_itk(path, *lps_affine())
    else:
        write_nifti(path, *lps_affine())
    path.chmod(0)
    for reader in (read_ct, check_ct):
        with pytest.raises(PermissionError):
            reader(path)


def test_row_60_a_disk_that_goes_away_in_the_middle_is_not_called_damaged(tmp_path, monkeypatch):
    path = write_nifti(tmp_path / "scan.nii", *lps_affine())

    def stale(stream, size):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr("copdvae.read.voxels.whole", stale)
    with pytest.raises(OSError, match="Stale"):
        read_ct(path)


@pytest.mark.parametrize("name", ["a b.nii", "ünï.nii", "a;b.nii", "-rf.nii", "a'b\"c.nii", "n" * 240 + ".nii", "$(x).nii", "a%d.nii"])
def test_row_59_any_name_of_a_file_is_a_name(tmp_path, name):
    assert_reads_the_world(read_ct(write_nifti(tmp_path / name, *lps_affine())))


def test_row_59_a_name_that_is_not_utf_8_can_be_read_and_printed(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/K\xf6ln.nii"))
    shutil.move(write_nifti(tmp_path / "scan.nii", *lps_affine()), path)
    assert_reads_the_world(read_ct(path))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ReadError) as caught:
        read_ct(path)
    printable(str(caught.value)).encode()
