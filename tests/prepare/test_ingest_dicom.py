"""What a study of DICOM folders goes through in `validate` and `ingest`: whose scans, which series, what was resampled, what is written."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chests import chest, lungs
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from copdvae.cli import app
from copdvae.prepare.cached import load_metadata, load_subject
from copdvae.prepare.ingest import ingest
from copdvae.prepare.settings import IngestConfig
from copdvae.prepare.validate import validate
from copdvae.read import check_ct

sys.path.insert(0, str(Path(__file__).parents[1] / "read"))
from ct_writers import ct_slice

SMALL = IngestConfig(grid=32)
SPACING = 6.0


def save_dicom(
    folder: Path, hu: np.ndarray, series: str = "1.2.3.1", keep=lambda k: True, change=lambda dataset, k: None, **header
) -> Path:
    """One slice a file, 6 mm apart; `keep` says which, `header` what all of them say."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, plane in enumerate(hu):
        if keep(k):
            dataset = ct_slice(plane + 1024, (0, 0, SPACING * k), [1, 0, 0, 0, 1, 0], (SPACING, SPACING), series, k)
            for keyword, value in header.items():
                setattr(dataset, keyword, value)
            change(dataset, k)
            dataset.save_as(folder / f"{series[-1]}{k:03d}.dcm", enforce_file_format=True)
    return folder


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """Folders of one chest's breath in and out, to be linked or copied from."""
    folder = tmp_path_factory.mktemp("scans")
    save_dicom(folder / "insp", chest(1.0), "1.2.3.1", ConvolutionKernel="B31f", SeriesDescription="SECRET INSP")
    save_dicom(folder / "exp", chest(0.8, -760, seed=1), "1.2.3.2", ConvolutionKernel="B31f", SeriesDescription="SECRET EXP")
    return folder


def manifest_of(folder: Path, *rows: dict) -> Path:
    pd.DataFrame([{"subject_id": "P1", "visit": ""} | row for row in rows]).fillna("").to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


IN_HEADERS = {"other_patient", "other_study", "several_series", "same_scan_twice", "identical_scans", "missing_slice"}


def both_say(manifest: Path, config: IngestConfig = SMALL) -> list[str]:
    """The reasons of `ingest`'s rejections; where headers show them, `validate` must have given the same."""
    checked = sorted({problem.reason for problem in validate(manifest, ingest_config=config) if problem.fatal})
    rejected = sorted(set(ingest(manifest, manifest.parent / "cache", config).rejected["reason"]))
    assert checked == [reason for reason in rejected if reason in IN_HEADERS]
    return rejected


def copied(scans: Path, folder: Path, *pairs: tuple[str, str], change=lambda dataset: None) -> Path:
    import pydicom

    for source, target in pairs:
        shutil.copytree(scans / source, folder / target, dirs_exist_ok=True)
        for file in (folder / target).iterdir():
            dataset = pydicom.dcmread(file)
            if change(dataset):
                dataset.save_as(file)
    return folder


def other(**values):
    def change(dataset: Dataset) -> bool:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        return True

    return change


class TestPairs:
    def test_a_pair_in_one_folder_is_told_apart_by_its_descriptions(self, scans, tmp_path):
        copied(scans, tmp_path, ("insp", "both"), ("exp", "both"))
        manifest = manifest_of(tmp_path, {"insp_path": "both", "exp_path": "both"})
        assert both_say(manifest) == []
        row = ingest(manifest, tmp_path / "cache", SMALL).index.iloc[0]
        assert row["exp_over_insp_volume"] == pytest.approx(0.8**3, rel=0.05)
        assert row["insp_lung_volume_l"] == pytest.approx((lungs() > 0).sum() * SPACING**3 / 1e6, rel=0.05)

    def test_or_by_the_manifest_whatever_descriptions_say(self, scans, tmp_path):
        copied(scans, tmp_path, ("insp", "both"), ("exp", "both"), change=other(SeriesDescription="CHEST"))
        manifest = manifest_of(tmp_path, {"insp_path": "both", "exp_path": "both"})
        assert both_say(manifest) == ["several_series"]
        names = {breath: check_ct(scans / breath)["series"] for breath in ("insp", "exp")}
        row = {"insp_path": "both", "exp_path": "both", "series": names["insp"], "exp_series": names["exp"]}
        assert both_say(manifest_of(tmp_path, row)) == []
        row |= {"series": names["exp"], "exp_series": names["insp"]}
        assert both_say(manifest_of(tmp_path, row)) == ["exp_not_smaller"]
        row |= {"series": names["insp"]}
        assert both_say(manifest_of(tmp_path, row)) == ["same_scan_twice"]
        assert both_say(manifest_of(tmp_path, row | {"exp_series": ""})) in (["several_series"], ["identical_scans"])

    def test_another_series_makes_another_cached_file(self, scans, tmp_path):
        copied(scans, tmp_path, ("insp", "both"), ("exp", "both"))
        for breath, litres in (("insp", 1.0), ("exp", 0.8)):
            row = {"insp_path": "both", "series": check_ct(scans / breath)["series"]}
            result = ingest(manifest_of(tmp_path, row), tmp_path / "cache", SMALL)
            assert result.made == 1
            assert result.index.loc[0, "insp_lung_volume_l"] == pytest.approx(litres**3 * 4.03, rel=0.05)

    def test_one_series_for_both_is_an_error(self, scans, tmp_path):
        copied(scans, tmp_path, ("insp", "a"))
        assert both_say(manifest_of(tmp_path, {"insp_path": "a", "exp_path": "a"})) == ["identical_scans"]

    def test_another_patients_scan_is_an_error(self, scans, tmp_path):
        copied(scans, tmp_path, ("insp", "i"))
        copied(scans, tmp_path, ("exp", "e"), change=other(PatientID="SECRET-OTHER"))
        manifest = manifest_of(tmp_path, {"insp_path": "i", "exp_path": "e"})
        assert both_say(manifest) == ["other_patient"]
        assert "SECRET" not in (tmp_path / "cache/rejected.csv").read_text()

    def test_a_scan_of_another_study_is_an_error_unless_it_is_allowed_and_then_said(self, scans, tmp_path):
        copied(scans, tmp_path, ("insp", "i"))
        copied(scans, tmp_path, ("exp", "e"), change=other(StudyInstanceUID="1.2.9"))
        manifest = manifest_of(tmp_path, {"insp_path": "i", "exp_path": "e"})
        assert both_say(manifest) == ["other_study"]
        allowed = IngestConfig(grid=32, allow_other_study=True)
        assert both_say(manifest, allowed) == []
        assert "different studies: asked for [other_study]" in ingest(manifest, tmp_path / "cache", allowed).index.loc[0, "warnings"]

    def test_scans_without_ids_are_paired(self, scans, tmp_path):
        for source, target in (("insp", "i"), ("exp", "e")):
            copied(scans, tmp_path, (source, target), change=other(PatientID="", StudyInstanceUID="" if target == "i" else "1.2.9"))
        assert both_say(manifest_of(tmp_path, {"insp_path": "i", "exp_path": "e"})) == []

    def test_a_description_that_says_the_other_breath_is_a_warning(self, scans, tmp_path):
        copied(scans, tmp_path, ("exp", "e"))
        result = ingest(manifest_of(tmp_path, {"insp_path": "e"}), tmp_path / "cache", SMALL)
        assert "[breath_words]" in result.index.loc[0, "warnings"]
        assert "breath_words" in {problem.reason for problem in validate(tmp_path / "manifest.csv")}


class TestChests:
    """Rows 2 and 53: not a whole chest."""

    def test_a_scan_that_ends_within_the_lungs_is_refused(self, tmp_path):
        save_dicom(tmp_path / "a", chest(1.0), keep=lambda k: k > 20)
        assert both_say(manifest_of(tmp_path, {"insp_path": "a"})) == ["lung_at_border"]

    def test_a_scan_that_ends_just_within_the_lungs_is_kept_with_a_warning(self, tmp_path):
        save_dicom(tmp_path / "a", chest(1.0), keep=lambda k: k > 6)  # its first slice has a seventh of the largest cross-section
        manifest = manifest_of(tmp_path, {"insp_path": "a"})
        assert both_say(manifest) == []
        assert "lowest slice" in ingest(manifest, tmp_path / "cache", SMALL).index.loc[0, "warnings"]

    def test_a_head_or_a_belly_is_refused(self, tmp_path):
        _, y, x = np.indices((30, 40, 40))
        head = np.where((y - 20) ** 2 + (x - 20) ** 2 < 150, 40.0, -1000.0) + np.random.default_rng(0).normal(0, 10, (30, 40, 40)).round()
        save_dicom(tmp_path / "a", head)
        assert both_say(manifest_of(tmp_path, {"insp_path": "a"})) == ["no_lungs"]

    def test_a_field_of_view_that_cuts_the_lungs_is_refused(self, tmp_path):
        save_dicom(tmp_path / "a", chest(1.0)[:, 12:-12, 14:-14])
        assert both_say(manifest_of(tmp_path, {"insp_path": "a"}))[0] in ("lung_at_border", "no_lungs", "lung_volume")


class TestResampled:
    def test_filled_gaps_are_refused_by_default_and_recorded_where_allowed(self, tmp_path):
        save_dicom(tmp_path / "a", chest(1.0), keep=lambda k: k not in (20, 31))
        manifest = manifest_of(tmp_path, {"insp_path": "a"})
        assert both_say(manifest) == ["missing_slice"]
        config = IngestConfig(grid=32, allow_gaps=True)
        assert both_say(manifest, config) == []
        result = ingest(manifest, tmp_path / "cache", config)
        said = "2 of 50 slices, 6 mm apart, were made up between their neighbours, gaps up to 12 mm: asked for [gaps_filled]"
        assert said in result.index.loc[0, "warnings"]
        assert any(said in warning for warning in json.loads(load_metadata(tmp_path / "cache" / result.index.loc[0, "file"])["warnings"]))
        assert result.index.loc[0, "insp_lung_volume_l"] == pytest.approx(4.03, rel=0.03)

    def test_what_is_allowed_makes_another_cached_file_and_changes_no_sound_scan(self, scans, tmp_path):
        copied(scans, tmp_path, ("insp", "i"))
        manifest = manifest_of(tmp_path, {"insp_path": "i"})
        first = ingest(manifest, tmp_path / "cache", SMALL)
        image, lung, _ = load_subject(tmp_path / "cache" / first.index.loc[0, "file"])
        again = ingest(manifest, tmp_path / "cache", IngestConfig(grid=32, allow_gaps=True, resample_tilt=True))
        assert again.made == 1
        after, lung_after, metadata = load_subject(tmp_path / "cache" / again.index.loc[0, "file"])
        np.testing.assert_array_equal(after, image)
        np.testing.assert_array_equal(lung_after, lung)
        assert json.loads(metadata["warnings"]) == json.loads(load_metadata(tmp_path / "cache" / first.index.loc[0, "file"])["warnings"])

    def test_the_command_line_has_the_same_options(self, tmp_path):
        def lean(dataset, k):
            dataset.ImagePositionPatient = [0, 0.5 * k, 6 * k]

        save_dicom(tmp_path / "a", chest(1.0), keep=lambda k: k != 20, change=lean)
        run = CliRunner()
        assert run.invoke(app, ["ct", str(tmp_path / "a")]).exit_code == 1
        assert "allow_gaps" in str(run.invoke(app, ["ct", str(tmp_path / "a"), "--resample-tilt"]).exception)
        done = run.invoke(app, ["ct", str(tmp_path / "a"), "--allow-gaps", "--resample-tilt", "--series", check_name(tmp_path / "a")])
        assert done.exit_code == 0, done.exception
        assert "[gaps_filled]" in done.stdout
        assert "[tilt_resampled]" in done.stdout


def check_name(folder: Path) -> str:
    return str(check_ct(folder, config=IngestConfig(allow_gaps=True, resample_tilt=True))["series"])


@pytest.mark.parametrize("break_it", [False, True])
def test_no_identifier_is_in_anything_that_is_written_or_shown(scans, tmp_path, break_it, capfd):
    """Names in headers, file names and folders; a scan that is read and one that is refused."""
    place = "SECRET^NAME: 1950; x/SECRET, Jon"
    copied(scans, tmp_path, ("insp", f"{place}/in"), ("exp", f"{place}/out"))
    for file in sorted((tmp_path / place / "in").iterdir()):
        file.rename(file.with_name(f"a:SECRET; {file.name}, x"))
    if break_it:
        file = sorted((tmp_path / place / "in").iterdir())[3]
        file.write_bytes(file.read_bytes()[:-100])
    manifest = manifest_of(tmp_path, {"insp_path": f"{place}/in", "exp_path": f"{place}/out"})
    result = ingest(manifest, tmp_path / "cache", SMALL)
    assert len(result.rejected) == break_it
    written = b"".join(file.read_bytes() for file in (tmp_path / "cache").iterdir())
    shown = "".join(capfd.readouterr())
    for secret in ("SECRET", "1950", "1.2.3", "Jon"):
        assert secret.encode() not in written
        assert secret not in shown
    if break_it:
        assert result.rejected.loc[0, "reason"] == "truncated"
        assert result.rejected.loc[0, "detail"].startswith("insp: insp_path: ")


def test_a_scan_without_a_kernel_in_its_header_has_the_manifests_word(scans, tmp_path):
    shutil.copytree(scans / "insp", tmp_path / "insp")
    save_dicom(tmp_path / "exp", chest(0.8, -760, seed=1), "1.2.3.2")
    rows = [{"insp_path": "insp", "exp_path": "exp", "kernel": "B70f"}]
    warnings = ingest(manifest_of(tmp_path, *rows), tmp_path / "cache", SMALL).index["warnings"][0]
    assert "exp: kernel B70f is sharp" in warnings
    assert warnings.count("[sharp_kernel]") == 1  # the header of the other says B31f


def test_contrast_and_voltage_of_a_header_are_recorded_and_doubted(scans, tmp_path):
    copied(scans, tmp_path, ("insp", "a"), change=other(ContrastBolusAgent="SECRET-AGENT", KVP=100, ConvolutionKernel="LUNG"))
    result = ingest(manifest_of(tmp_path, {"insp_path": "a"}), tmp_path / "cache", SMALL)
    row = result.index.iloc[0]
    assert (row["insp_contrast"], row["insp_kvp"]) == ("yes", 100)
    metadata = load_metadata(tmp_path / "cache" / row["file"])
    assert json.loads(metadata["insp_header"])["contrast"] == "yes"
    assert "SECRET" not in json.dumps(metadata)
    for code in ("contrast", "kvp", "sharp_kernel", "thick_slices"):
        assert f"[{code}]" in row["warnings"]
