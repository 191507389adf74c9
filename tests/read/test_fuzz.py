"""Changed files are read right or refused: a few hundred mutants of sound files (`fuzz.py` makes thousands), headers and tables drawn from
what their formats allow, and what the thousands found."""

import io
import resource
import struct
import zipfile
from pathlib import Path

import fuzz
import nibabel
import numpy as np
import openpyxl
import pydicom
import pytest
from ct_writers import AXIAL, assert_reads_the_world, ct_slice, lps_affine, stored_voxels, write_itk, write_nifti, write_series
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from copdvae.config import read_yaml
from copdvae.errors import ConfigError, ReadError
from copdvae.read import read_ct
from copdvae.read.phenotypes import PhenotypesConfig
from copdvae.read.tables import read_table

quick = settings(max_examples=150, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
ODD = st.sampled_from([0, 1, -1, 2, 255, 32767, -32768]) | st.integers(-(2**15), 2**15 - 1)
REALS = st.sampled_from([0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e30, 1e-30, 3.4e38]) | st.floats(width=32)


def test_every_mutant_is_read_right_or_refused_and_none_takes_long_or_much():
    """A process of its own reads them, so that one that kills it is a finding and not the end of the tests."""
    results, said = fuzz.watch(0, 300, seed=7)
    assert [number for number, *_ in results] == list(range(300))
    assert not fuzz.wrong(results)
    assert b"SECRET" not in said
    assert {"read", "damaged_file", "truncated"} <= {found for _, _, found, *_ in results}


def test_a_reader_that_reads_wrong_is_noticed(tmp_path):
    """The comparison itself: a volume turned, moved, scaled, or of another value in one voxel is no agreement."""
    path = write_nifti(tmp_path / "scan.nii", *lps_affine())
    volume, slabs = read_ct(path), fuzz.nifti_slabs(path)
    assert fuzz.compared(volume, slabs) == "read"
    assert fuzz.compared(volume, slabs[:0]) == "read, unchecked"
    volume.hu[1, 2, 3] += 1
    assert fuzz.compared(volume, slabs) == "WRONG in 1 of 120 voxels, first [1, 2, 3]"
    volume.hu[1, 2, 3] -= 1
    volume.hu[...] = volume.hu[:, :, ::-1].copy()
    assert fuzz.compared(volume, slabs).startswith("WRONG")


def test_a_reader_that_dies_hangs_or_raises_is_noticed():
    sound = (0, "nii", "read", 0.1, 5)
    for found in (
        (0, "nii", "DIED with -11", 0.1, 5),
        (0, "nii", "RAISED", 0.1, 5),
        (0, "nii", "out_of_memory", 0.1, 5),
        (0, "nii", "read", 11.0, 5),
        (0, "nii", "read", 0.1, 2**30 + 1),
    ):
        assert fuzz.wrong([sound, found]) == [found]
    assert fuzz.wrong([sound, (1, "yaml", "ConfigError", 0.1, 5), (2, "nii", "truncated", 0.1, 5)]) == []


@quick
@given(
    dims=st.lists(ODD, min_size=8, max_size=8), pixdim=st.lists(REALS, min_size=8, max_size=8),
    rows=st.lists(REALS, min_size=12, max_size=12), codes=st.tuples(ODD, ODD), kind=st.tuples(ODD, ODD), offset=REALS,
    scale=st.tuples(REALS, REALS), units=st.integers(0, 255),
    which=st.sets(
        st.sampled_from(["dim", "pixdim", "srow", "codes", "datatype", "vox_offset", "scale", "xyzt_units", "quatern"]), max_size=3
    ),
)  # fmt: skip
def test_any_nifti_header_is_read_right_or_refused(tmp_path, dims, pixdim, rows, codes, kind, offset, scale, units, which):
    path = write_nifti(tmp_path / "scan.nii", *lps_affine())
    data = bytearray(path.read_bytes())
    header = np.frombuffer(data, nibabel.nifti1.header_dtype, count=1)[0]
    values = {
        "dim": {"dim": dims}, "pixdim": {"pixdim": pixdim}, "srow": {"srow_x": rows[:4], "srow_y": rows[4:8], "srow_z": rows[8:]},
        "codes": {"qform_code": codes[0], "sform_code": codes[1]}, "datatype": {"datatype": kind[0], "bitpix": kind[1]},
        "vox_offset": {"vox_offset": offset}, "scale": {"scl_slope": scale[0], "scl_inter": scale[1]}, "xyzt_units": {"xyzt_units": units},
        "quatern": {"quatern_b": rows[0], "quatern_c": rows[1], "quatern_d": rows[2], "sform_code": 0},
    }  # fmt: skip
    for name in which:
        for field, value in values[name].items():
            header[field] = value
    path.write_bytes(data)
    assert not fuzz.outcome("nii", path)[0].isupper()


DECIMALS = st.sampled_from(["0", "1", "-1", "0.5", "nan", "inf", "1e30", "-1024", "", "x", "1e-9", "3.0001", "9" * 40])
COSINES = st.sampled_from(["1", "0", "-1", "0.7071068", "nan", ""])
SMALL = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 8, 11, 15, 16, 32, 65535])
HEADER = {
    "RescaleSlope": DECIMALS, "RescaleIntercept": DECIMALS, "ImagePositionPatient": st.lists(DECIMALS, max_size=4).map("\\".join),
    "ImageOrientationPatient": st.lists(COSINES, min_size=5, max_size=7).map("\\".join),
    "PixelSpacing": st.lists(DECIMALS, max_size=3).map("\\".join), "SliceThickness": DECIMALS, "Rows": SMALL, "Columns": SMALL,
    "SamplesPerPixel": SMALL, "BitsAllocated": SMALL, "SOPInstanceUID": st.sampled_from(["", "1.2", "x" * 70]),
    "SeriesInstanceUID": st.sampled_from(["", "1.2.3.4", "1.2.9"]), "Modality": st.sampled_from(["CT", "MR", "", "CT\\MR"]),
    "ImageType": st.sampled_from(["DERIVED", "LOCALIZER", "", "X\\" * 30]), "PatientID": st.sampled_from(["", "A", "B\\C"]),
}  # fmt: skip


def put(data: bytes, keyword: str, value: str | int) -> bytes:
    """A DICOM file, explicit little endian, with another value: any bytes, which pydicom would not write."""
    tag = pydicom.tag.Tag(keyword)
    head = struct.pack("<HH", tag.group, tag.element) + pydicom.datadict.dictionary_VR(tag).encode()
    place, text = data.index(head) + len(head), struct.pack("<H", value) if isinstance(value, int) else value.encode()
    text += b" " * (len(text) % 2)
    return data[:place] + struct.pack("<H", len(text)) + text + data[place + 2 + struct.unpack_from("<H", data, place)[0] :]


@settings(quick, max_examples=60)
@given(
    values=st.lists(st.one_of([st.tuples(st.just(keyword), values) for keyword, values in HEADER.items()]), max_size=3),
    only=st.none() | st.integers(0, 5),
)
def test_any_values_of_a_dicom_header_are_read_right_or_refused(tmp_path, values, only):
    """In all slices, or in one of six."""
    folder = write_series(tmp_path / "ct")
    for number, path in enumerate(sorted(folder.iterdir())):
        if only is None or number == only:
            data = path.read_bytes()
            for keyword, value in values:
                data = put(data, keyword, value)
            path.write_bytes(data)
    assert not fuzz.outcome("dicom", folder)[0].isupper()


LINES = st.sampled_from([
    "NRRD0004", "NRRD0001", "type: short", "type: uchar", "type: double", "dimension: 3", "dimension: 4", "space: LPS", "space: RAS",
    "space: scanner-xyz", "sizes: 4 5 6", "sizes: 4 5", "sizes: 0 5 6", "sizes: 99999 99999 99999",
    "space directions: (2,0,0) (0,3,0) (0,0,5)",
    "space directions: (0,0,2) (3,0,0) (0,-5,0)", "space directions: none (2,0,0) (0,3,0)", "kinds: domain domain domain", "kinds: vector",
    "endian: little", "endian: big", "encoding: raw", "encoding: gzip", "encoding: bzip2", "encoding: ascii", "space origin: (0,0,0)",
    "space origin: (1,2,3)", "data file: scan.raw", "data file: LIST", "byte skip: 3", "# remark", "key:=value", "spacings: 1 1 1", "",
    "NDims = 3", "ObjectType = Image", "BinaryData = True", "CompressedData = True", "ElementSpacing = 2 3 5", "ElementSpacing = 0 0 0",
    "DimSize = 4 5 6", "DimSize = 4 5", "ElementType = MET_SHORT", "ElementType = MET_FLOAT", "TransformMatrix = 0 1 0 1 0 0 0 0 1",
    "Offset = 1 2 3", "ElementDataFile = LOCAL", "ElementDataFile = scan.raw", "ElementDataFile = LIST", "BinaryDataByteOrderMSB = True",
    "ElementNumberOfChannels = 3", "HeaderSize = -1",
])  # fmt: skip


@quick
@given(
    lines=st.lists(LINES, max_size=14),
    first=st.sampled_from(["NRRD0004\n", "", "ObjectType = Image\n"]),
    end=st.sampled_from(["\n", "\r\n", ""]),
)
def test_any_lines_of_a_nrrd_or_metaimage_header_are_read_right_or_refused(tmp_path, lines, first, end):
    voxels = stored_voxels(*lps_affine()).astype("<i2").tobytes()
    (tmp_path / "scan.raw").write_bytes(voxels)
    path = tmp_path / "scan.nrrd"
    path.write_bytes((first + "".join(line + end for line in lines) + "\n").encode() + voxels)
    assert not fuzz.outcome("nrrd", path)[0].isupper()


@quick
@given(text=st.text(st.sampled_from("sid,gender\nage_visit;FEV1_utah\t0123456789.-\"' \r\0\ufeffé="), max_size=200), head=st.booleans())
def test_any_text_is_a_table_or_refused(tmp_path, text, head):
    path = tmp_path / "p.csv"
    path.write_text(("sid,gender,age_visit,FEV1_utah\n" if head else "") + text, encoding="utf-8", newline="")
    assert not fuzz.outcome("csv", path)[0].isupper()


@quick
@given(st.text(st.sampled_from("name: [x]{}&a*!#|>-?'\"\n 0123456789:,~<\t\\"), max_size=120))
def test_any_text_is_plain_yaml_or_refused(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    try:
        PhenotypesConfig.parse(read_yaml(path))
    except ConfigError:
        return


# ---- what the thousands found


def test_a_workbook_whose_directory_points_before_its_beginning_is_refused(tmp_path):
    """Python's zipfile then seeks to a negative place: an OSError that is not the disk's."""
    book = openpyxl.Workbook()
    book.active.append(["sid", "x"])
    packed = io.BytesIO()
    book.save(packed)
    data = bytearray(packed.getvalue())
    end = data.rindex(b"PK\5\6")
    first = struct.unpack_from("<L", data, end + 16)[0]
    for place in (first + 42, end + 16):  # a part's place, the directory's
        broken = bytearray(data)
        struct.pack_into("<L", broken, place, 2**31)
        (tmp_path / "p.xlsx").write_bytes(broken)
        with pytest.raises(ReadError) as caught:
            read_table(tmp_path / "p.xlsx")
        assert caught.value.reason == "unreadable_table"
    assert zipfile.is_zipfile(io.BytesIO(data))


def test_a_compressed_metaimage_that_does_not_say_how_long_it_is_reads_right(tmp_path):
    """SimpleITK says 'Uncompress failed' on stderr and gives whatever memory held."""
    path = write_itk(tmp_path / "scan.mha", *lps_affine(), compress=True)
    path.write_bytes(path.read_bytes().replace(b"CompressedDataSize = 240\n", b""))
    assert_reads_the_world(read_ct(path))


def test_a_length_of_gigabytes_in_a_dicom_header_is_a_damaged_file(tmp_path, monkeypatch):
    """pydicom asks for as many bytes as an element claims, and fails where there is no such memory. 22 of 4,000 mutants did."""
    folder = write_series(tmp_path / "ct")
    path = sorted(folder.iterdir())[2]
    data = path.read_bytes()
    place = data.index(b"\x08\x00\x08\x00CS") + 4  # ImageType becomes a value of 32-bit length
    path.write_bytes(data[:place] + b"UN\0\0" + struct.pack("<L", 2**32 - 16) + data[place + 4 :])
    limit = resource.getrlimit(resource.RLIMIT_AS)
    size = next(int(line.split()[1]) * 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (size + 2**30, limit[1]))
    try:
        with pytest.raises(ReadError) as caught:
            read_ct(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
    assert caught.value.reason in ("damaged_file", "truncated")


def test_a_series_of_the_fuzzers_own_is_sound(tmp_path):
    """Or its mutants would be refused for a reason of their own."""
    assert_reads_the_world(read_ct(write_series(tmp_path / "ct")))
    assert ct_slice(np.zeros((5, 4)), (0, 0, 0), AXIAL, (3, 2), "1.2", 0).PatientName == "SECRET^NAME"
