"""A manifest proposed for a tree of DICOM files."""

import os
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.uid import ImplicitVRLittleEndian
from typer.testing import CliRunner

from copdvae.cli import app
from copdvae.errors import ConfigError
from copdvae.prepare.index import cell, describe, index
from copdvae.read import check_ct
from copdvae.read.dicom_index import LAST, TYPES
from copdvae.read.dicom_plain import FIRST_BYTES, plain_header
from copdvae.read.manifest import read_manifest

sys.path.insert(0, str(Path(__file__).parents[1] / "read"))
from ct_writers import setting, write_series
from test_dicom_frames import write_enhanced

DEPTHS = [5 * number for number in range(24)]
SECRETS = ("SECRET", "1.2.3", "1950", "2001")


def scan(folder: Path, series: str, patient: str = "SECRET-A", study: str = "1.2.3.1", date: str = "20010101", **values) -> Path:
    """One series of 24 slices over 115 mm; every identifier in it begins with one of SECRETS."""
    named = dict(PatientID=patient, PatientName="SECRET^NAME", PatientBirthDate="19500513", PatientSex="F", AccessionNumber="SECRET-ACC")
    named |= dict(InstitutionName="SECRET hospital", StudyInstanceUID=study, StudyDate=date, SeriesDescription="SECRET chest")
    write_series(folder, [1111.5], series=series, sizes=(2, 2), change=setting(**(named | values)), first=1000)
    first = folder / f"00_{series.replace('.', '-')}_1000.dcm"
    slice_ = first.read_bytes()
    first.unlink()
    for n in range(24):
        at, name = f"{1000 + 5 * n}.5".encode(), f"{series}.{1001 + n}".encode()
        (folder / f"{n}_{series}.dcm").write_bytes(slice_.replace(b"1111.5", at).replace(f"{series}.1001".encode(), name))
    return folder


def rows(result) -> list[dict]:
    return [{key: value for key, value in row.items() if value} for row in result.manifest.to_dict("records")]


def unplaced(result) -> list[tuple[str, str]]:
    return sorted((each.where, each.reason) for each in result.unplaced)


def test_patients_visits_and_breaths_come_out_as_rows_that_can_be_read(tmp_path):
    kernel = dict(ConvolutionKernel="B31f", Manufacturer="SIEMENS", ManufacturerModelName="Sensation 64")
    later = dict(study="1.2.3.2", date="20010601")
    scan(tmp_path / "x/a/i", "1.2.3.10", SeriesDescription="INSP SECRET", **kernel)
    scan(tmp_path / "x/a/e", "1.2.3.11", SeriesDescription="EXP", **kernel)
    scan(tmp_path / "x/a/sharp", "1.2.3.12", SeriesDescription="INSP", ConvolutionKernel="B70f")
    scan(tmp_path / "x/0later", "1.2.3.13", **later)
    scan(tmp_path / "y", "1.2.3.14", patient="SECRET-B", study="1.2.3.3", InstitutionName="SECRET other")
    (tmp_path / "notes.txt").write_text("x")
    result = index(tmp_path, tmp_path / "manifest.csv")
    assert [(row["subject_id"], row["visit"], row["insp_path"], row.get("exp_path"), row["site"]) for row in rows(result)] == [
        ("S0001", "1", "x/a/i", "x/a/e", "1"), ("S0001", "2", "x/0later", None, "1"), ("S0002", "1", "y", None, "2"),
    ]  # fmt: skip
    assert (rows(result)[0]["scanner"], rows(result)[0]["kernel"]) == ("SIEMENS Sensation 64", "B31f")
    assert (result.files, dict(result.left_out), result.unplaced) == (5 * 24 + 1, {"not DICOM": 1}, [])
    assert result.notes == ["2 scans say neither inspiration nor expiration and are taken for inspiration"]

    study = read_manifest(tmp_path / "manifest.csv")
    assert not study.problems
    for line in study.scans.to_dict("records"):
        for path, name, breath in (("insp_path", "series", "insp"), ("exp_path", "exp_series", "exp")):
            if line[path]:
                found = check_ct(tmp_path / line[path], line[name], breath=breath)
                assert (found["shape"], found["warnings"]) == ([24, 2, 2], [])
    said = describe(result) + (tmp_path / "manifest.csv").read_text()
    assert not any(secret in said for secret in SECRETS)


def test_a_flat_export_is_told_apart_by_its_headers_alone(tmp_path):
    for n, patient in enumerate(("SECRET-A", "SECRET-B")):
        for m, words in enumerate(("INSP", "EXP")):
            scan(
                tmp_path / "flat",
                f"1.2.3.1{n}{m}",
                patient=patient,
                study=f"1.2.3.{n}",
                SeriesDescription=words,
                ConvolutionKernel=f"{n}{m}",
            )
    result = index(tmp_path, tmp_path / "manifest.csv")
    assert [(row["insp_path"], row["exp_path"]) for row in rows(result)] == [("flat", "flat")] * 2
    study = read_manifest(tmp_path / "manifest.csv")
    assert not study.problems
    kernels = [check_ct(tmp_path / "flat", line[name])["header"]["kernel"] for line in rows(result) for name in ("series", "exp_series")]
    assert kernels == ["00", "01", "10", "11"]


def test_a_series_in_several_folders_has_the_folder_above_them(tmp_path):
    folder = scan(tmp_path / "p/a", "1.2.3.10")
    for n, file in enumerate(sorted(folder.iterdir())[:12]):
        (tmp_path / f"p/b{n % 2}").mkdir(exist_ok=True)
        file.rename(tmp_path / f"p/b{n % 2}" / file.name)
    result = index(tmp_path, tmp_path / "manifest.csv")
    assert rows(result)[0]["insp_path"] == "p"
    assert check_ct(tmp_path / "p", rows(result)[0]["series"])["shape"] == [24, 2, 2]


def test_what_cannot_be_placed_is_listed_with_its_reason(tmp_path):
    def own(name):
        return dict(patient=f"SECRET-{name}", study=f"1.2.3.9.{len(name)}")

    scan(tmp_path / "tie/1", "1.2.3.10", **own("tie"))
    scan(tmp_path / "tie/2", "1.2.3.11", **own("tie"))
    scan(tmp_path / "exp", "1.2.3.12", SeriesDescription="EXP", **own("exp"))
    scan(tmp_path / "head", "1.2.3.13", BodyPartExamined="HEAD", **own("head"))
    write_series(tmp_path / "short", DEPTHS[:5], series="1.2.3.14", change=setting(PatientID="SECRET-short"))
    scan(tmp_path / "twins/1", "1.2.3.15", **own("twins"))
    scan(tmp_path / "twins/2", "1.2.3.16", PatientBirthDate="19500101", **own("twins"))
    loose = scan(tmp_path / "loose", "1.2.3.19", **own("loose"))
    for file in loose.iterdir():
        file.write_bytes(file.read_bytes().replace(b"UI\x08\x001.2.3.19", b"UI\x08\x00" + b"\0" * 8))
    scan(tmp_path / "good", "1.2.3.17", **own("good"))
    (tmp_path / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00\x10\x00XX")
    scout = setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_series(tmp_path / "scout", [0], series="1.2.3.18", change=scout)
    result = index(tmp_path, tmp_path / "manifest.csv")
    assert [row["insp_path"] for row in rows(result)] == ["good"]
    assert unplaced(result) == [
        ("broken.dcm", "damaged_file"), ("exp", "no_insp_scan"), ("head", "not_chest"), ("loose", "missing_uid"), ("short", "not_chest"),
        ("tie/1", "several_series"), ("tie/2", "several_series"), ("twins/1", "mixed_patients"), ("twins/2", "mixed_patients"),
    ]  # fmt: skip
    assert dict(result.left_out) == {"scout views": 1}
    assert not any(secret in describe(result) for secret in SECRETS)


def test_of_two_series_the_original_is_proposed_and_not_the_one_made_of_it(tmp_path):
    scan(tmp_path / "a", "1.2.3.10", SliceThickness="5")
    scan(tmp_path / "b", "1.2.3.11", SliceThickness="1", ImageType=["DERIVED", "SECONDARY", "AXIAL"])
    result = index(tmp_path, tmp_path / "manifest.csv")
    assert ([row["insp_path"] for row in rows(result)], result.unplaced) == (["a"], [])


def test_a_patient_is_one_however_files_are_written(tmp_path):
    """With types or without, plainly or so that only pydicom reads them."""
    named = dict(patient="SECRET-\u00c5", SpecificCharacterSet="ISO_IR 100")
    scan(tmp_path / "a", "1.2.3.10", SeriesDescription="INSP", **named)
    scan(tmp_path / "b", "1.2.3.11", SeriesDescription="EXP", **named)
    scan(tmp_path / "c", "1.2.3.12", study="1.2.3.2", date="20010601", PatientComments="x" * FIRST_BYTES, **named)
    for path in (tmp_path / "b").iterdir():
        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        dcmwrite(path, dataset, implicit_vr=True, little_endian=True)
    result = index(tmp_path, tmp_path / "manifest.csv")
    assert [(row["subject_id"], row["visit"], row["insp_path"], row.get("exp_path")) for row in rows(result)] == [
        ("S0001", "1", "a", "b"), ("S0001", "2", "c", None),
    ]  # fmt: skip


def test_an_expiratory_tie_leaves_the_inspiratory_scan_in_place(tmp_path):
    scan(tmp_path / "i", "1.2.3.10", SeriesDescription="INSP")
    for n in "12":
        scan(tmp_path / f"e{n}", f"1.2.3.2{n}", SeriesDescription="EXP")
    result = index(tmp_path, tmp_path / "manifest.csv")
    assert [(row["insp_path"], row.get("exp_path")) for row in rows(result)] == [("i", None)]
    assert unplaced(result) == [("e1", "several_series"), ("e2", "several_series")]


def test_scans_without_a_patient_id_are_subjects_of_their_own_and_said_to_be(tmp_path):
    scan(tmp_path / "a", "1.2.3.10", patient="", study="1.2.3.1")
    scan(tmp_path / "b", "1.2.3.11", patient="", study="1.2.3.2")
    result = index(tmp_path, tmp_path / "manifest.csv")
    assert [row["subject_id"] for row in rows(result)] == ["S0001", "S0002"]
    assert any(note.startswith("2 scans have no PatientID") for note in result.notes)


def test_one_id_from_two_issuers_is_two_people(tmp_path):
    scan(tmp_path / "a", "1.2.3.10", IssuerOfPatientID="SECRET north")
    scan(tmp_path / "b", "1.2.3.11", study="1.2.3.2", IssuerOfPatientID="SECRET south")
    assert [row["subject_id"] for row in rows(index(tmp_path, tmp_path / "manifest.csv"))] == ["S0001", "S0002"]


def test_a_manifest_that_is_there_is_never_overwritten(tmp_path):
    (tmp_path / "manifest.csv").write_text("mine")
    with pytest.raises(ConfigError, match="there already"):
        index(tmp_path, tmp_path / "manifest.csv")
    assert (tmp_path / "manifest.csv").read_text() == "mine"


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@a", "NA", " a", "a ", "a\nb", 'a"b', "a;b,c", "Ünï", "x" * 200])
def test_any_folder_name_reads_back_as_itself(tmp_path, name):
    scan(tmp_path / name, "1.2.3.10")
    result = index(tmp_path, tmp_path / "manifest.csv")
    study = read_manifest(tmp_path / "manifest.csv")
    assert not study.problems
    assert (tmp_path / study.scans["insp_path"].iloc[0]).samefile(tmp_path / name)
    assert not rows(result)[0]["insp_path"].startswith(("=", "+", "-", "@"))
    assert cell(Path("plain/path")) == "plain/path"


def test_a_folder_whose_name_is_not_text_is_listed(tmp_path):
    scan(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")), "1.2.3.10")
    result = index(tmp_path, tmp_path / "manifest.csv")
    assert unplaced(result) == [("\\udcff", "unwritable_path")]
    assert describe(result).encode()


def test_the_command_ends_with_3_where_something_was_not_placed(tmp_path):
    scan(tmp_path / "in/a", "1.2.3.10")
    done = CliRunner().invoke(app, ["index", str(tmp_path / "in"), "--out", str(tmp_path / "out.csv")])
    assert done.exit_code == 0
    assert done.stdout.strip() == str(tmp_path / "out.csv")
    assert "relative to the folder" in done.stderr
    assert "1 visits of 1 subjects, 0 of them with both scans" in done.stderr
    shutil.copytree(tmp_path / "in/a", tmp_path / "in/b")
    for file in (tmp_path / "in/b").iterdir():
        file.write_bytes(file.read_bytes().replace(b"1.2.3.10", b"1.2.3.11"))
    done = CliRunner().invoke(app, ["index", str(tmp_path / "in"), "--out", str(tmp_path / "in/manifest.csv")])
    assert done.exit_code == 3
    assert "not placed: a: s" in done.stderr
    assert pd.read_csv(tmp_path / "in/manifest.csv").empty


def test_enhanced_ct_is_indexed_by_its_frames_and_read(tmp_path):
    def change(dataset):
        dataset.StudyInstanceUID, dataset.SeriesDescription = "1.2.3.1", "INSP"

    write_enhanced(tmp_path / "e/a.dcm", tuple(range(0, 150, 5)), change=change)
    result = index(tmp_path, tmp_path / "manifest.csv")
    assert (rows(result)[0]["insp_path"], result.notes) == ("e", [])
    assert check_ct(tmp_path / "e", rows(result)[0]["series"])["shape"] == [30, 5, 4]


def test_a_header_that_is_not_plainly_written_is_left_to_pydicom(tmp_path):
    data = next(write_series(tmp_path).iterdir()).read_bytes()[:FIRST_BYTES]
    assert plain_header(data, TYPES, LAST + 1) is not None
    place = data.index(b"\x08\x00\x18\x00UI")  # SOPInstanceUID
    for broken in (
        data[:place] + data[place:].replace(b"\x08\x00\x18\x00UI", b"\x08\x00\x01\x00UI", 1),  # out of order
        data[:place] + data[place:].replace(b"\x08\x00\x18\x00UI", b"\x08\x00\x18\x00??", 1),  # of no type
        data[:place] + b"\x08\x00\x17\x00SQ\0\0\xff\xff\xff\xff" + data[place:],  # without a length
        data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0"),  # big endian
        data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.113619.5.2\0\0"),  # private
        data[:700],  # ends before ImageOrientationPatient
    ):
        assert plain_header(broken, TYPES, LAST + 1) is None
