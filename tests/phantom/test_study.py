"""A study on disk: same bytes, sound files, tables that agree with them, planted faults that our readers find."""

from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from copdvae.errors import ConfigError, CopdvaeError, ReadError
from copdvae.phantom import phantom, study
from copdvae.prepare.densitometry import densitometry
from copdvae.prepare.lungs import find_lungs
from copdvae.read import read_ct
from copdvae.read.manifest import read_manifest
from copdvae.read.phenotypes import PhenotypesConfig, read_phenotypes

SIZE = 36


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return phantom(tmp_path_factory.mktemp("one") / "study", 3, SIZE, seed=7, workers=1)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_seed_writes_the_same_bytes_for_any_number_of_workers(written, tmp_path):
    again = contents(phantom(tmp_path / "study", 3, SIZE, seed=7, workers=2))
    assert again == contents(written)


def test_a_subject_is_a_function_of_seed_and_number_alone(written, tmp_path):
    fewer = contents(phantom(tmp_path / "fewer", 1, SIZE, seed=7, workers=1))
    whole = contents(written)
    of_first = [path for path in fewer if path.startswith("ct/S0001/")]
    assert of_first
    assert all(fewer[path] == whole[path] for path in of_first)
    drawn = [[study.generator(seed, index, part).random() for seed in (7, 8) for index in (1, 2)] for part in ("thorax", "insp")]
    assert len(set(drawn[0] + drawn[1])) == 8


def test_dicom_and_nifti_hold_the_same_voxels_in_the_same_place(written, tmp_path):
    other = phantom(tmp_path / "nifti", 1, SIZE, seed=7, format="nifti", workers=1)
    for breath in ("insp", "exp"):
        dicom, nifti = read_ct(written / f"ct/S0001/{breath}"), read_ct(other / f"ct/S0001/{breath}.nii.gz")
        np.testing.assert_array_equal(dicom.hu, nifti.hu)
        np.testing.assert_allclose(dicom.affine, nifti.affine, atol=1e-3)


def test_headers_are_sound_and_hold_no_person_and_no_date(written):
    uids = []
    for path in written.glob("ct/*/*/*.dcm"):
        header = pydicom.dcmread(path)
        subject = path.parts[-3]
        assert (str(header.PatientName), header.PatientID) == (f"PHANTOM^{subject}", f"PHANTOM-{subject}")
        assert all(uid.is_valid for uid in (header.SOPInstanceUID, header.SeriesInstanceUID, header.StudyInstanceUID))
        assert header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID
        assert not any(element.value for element in header if element.VR in ("DA", "TM", "DT"))
        uids.append(header.SOPInstanceUID)
    assert len(set(uids)) == len(uids) > 6 * 30


def test_densitometry_in_the_table_is_that_of_the_files(written):
    table = pd.read_csv(written / "phenotypes.csv", index_col="sid")
    for subject in ("S0001", "S0002"):
        for breath, column, key in (("insp", "pctEmph_Thirona", "laa950_pct"), ("exp", "pctGasTrap_Thirona", "laa856_pct")):
            volume = read_ct(written / f"ct/{subject}/{breath}")
            assert table.loc[subject, column] == pytest.approx(densitometry(volume.hu, find_lungs(volume), volume.spacing)[key], abs=1e-4)


@pytest.mark.parametrize("format", ["dicom", "nifti"])
def test_our_readers_find_what_was_planted_and_nothing_else(written, tmp_path, format):
    out = written if format == "dicom" else phantom(tmp_path / "study", 3, SIZE, seed=7, format=format, workers=1)
    manifest = read_manifest(out / "manifest.csv")
    phenotypes = read_phenotypes(out / "phenotypes.csv", PhenotypesConfig())
    assert manifest.problems == []
    found = {(problem.subject_id, problem.reason) for problem in phenotypes.problems if problem.fatal}
    for row in manifest.scans.itertuples():
        for path in (row.insp_path, row.exp_path):
            try:
                read_ct(out / str(path))
            except ReadError as error:
                found.add((row.subject_id, error.reason))
    planted = pd.read_csv(out / "planted.csv")
    assert found == set(planted.itertuples(index=False, name=None))
    assert len(planted) == 4
    assert len(manifest.scans) == 3 + len(planted)


def test_good_subjects_lack_some_values_and_their_stages_follow_the_rule(tmp_path):
    names = [f"S{number:04d}" for number in range(1, 401)]
    persons, _, tested = study.draw_people(0, range(1, 401), None)
    tested.index = pd.Index(names)
    measured = pd.DataFrame(0.0, tested.index, ["insp_laa950_pct", "exp_laa856_pct", "insp_perc15_hu"])
    study.phenotype_table(0, names, persons, tested, measured).to_csv(tmp_path / "phenotypes.csv")
    read = read_phenotypes(tmp_path / "phenotypes.csv", PhenotypesConfig())
    assert read.problems == []
    assert 0 < read.table["fev1_pp"].isna().sum() < 20
    assert 0 < read.table["weight_kg"].isna().sum() < 20


def test_a_finished_study_is_left_alone_and_another_is_not_mixed_in(written):
    before = (written / "truth.csv").stat().st_mtime_ns
    assert phantom(written, 3, SIZE, seed=7) == written
    assert (written / "truth.csv").stat().st_mtime_ns == before
    with pytest.raises(CopdvaeError, match="other settings"):
        phantom(written, 3, SIZE, seed=8)


def test_an_interrupted_study_goes_on_and_ends_with_the_same_bytes(written, tmp_path, monkeypatch):
    out, made = tmp_path / "study", []
    make_scans = study.make_scans

    def tire(job):
        if len(made) == 4:
            stale = out / f"ct/{job.subject}/insp/0999.dcm"
            stale.parent.mkdir(parents=True)
            stale.write_text("half a slice")
            made.append("")
            raise KeyboardInterrupt
        made.append(job.subject)
        return make_scans(job)

    monkeypatch.setattr(study, "make_scans", tire)
    with pytest.raises(KeyboardInterrupt):
        phantom(out, 3, SIZE, seed=7, workers=1)
    assert contents(phantom(out, 3, SIZE, seed=7, workers=1)) == contents(written)
    assert made == ["S0001", "S0002", "S0003", "S0004", "", "S0005", "S0006", "S0007"]


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CopdvaeError, match="not empty"):
        phantom(tmp_path, 1, SIZE)


@pytest.mark.parametrize("wrong", [{"subjects": 0}, {"size": 8}, {"format": "jpeg"}, {"seed": -1}])
def test_settings_that_make_no_study_are_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match="phantom"):
        phantom(tmp_path / "study", **{"subjects": 1, "size": SIZE} | wrong)
    assert not (tmp_path / "study").exists()


def test_a_full_disk_is_found_before_anything_is_written(tmp_path, monkeypatch):
    usage = study.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(study.shutil, "disk_usage", lambda path: usage._replace(free=10_000_000))
    with pytest.raises(CopdvaeError, match=r"0\.0 GB are free"):
        phantom(tmp_path / "deep" / "study", 300, 64)
    assert not (tmp_path / "deep").exists()
