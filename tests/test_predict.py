"""New scans through a finished run: prepared as its study's own, and what was allowed is said with each subject."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from copdvae.cli import app
from copdvae.errors import ConfigError
from copdvae.predict import ingest_config, predict, without_a_scan
from copdvae.prepare.settings import IngestConfig
from copdvae.run import run
from copdvae.study import Study, load_study
from copdvae.tables import without_paths

sys.path.insert(0, str(Path(__file__).parent / "read"))  # helpers
sys.path.insert(0, str(Path(__file__).parent / "prepare"))
from chests import SPACING, chest, save_nifti
from ct_writers import AXIAL, ct_slice

STUDY = {
    "name": "n",
    "ingest": {"grid": 32, "allow_gaps": True},
    "split": {"train": 8, "validation": 2, "test": "rest"},
    "network": {"widths": [4, 8], "hidden": 8, "u": 1, "v": 3},
    "input": {"channels": ["insp"]},
    "train": {"steps": 2, "batch": 4, "save_every": 2, "log_every": 1, "threads": 1, "device": "cpu"},
    "methods": [{"method": {"method": "vae"}}],
    "evaluate": {"draws": 100},
}


def write_series(folder: Path, hu: np.ndarray, lost: int, lean_mm: float = 0) -> None:
    """A DICOM series without one of its slices; each lies `lean_mm` further back than the one before."""
    folder.mkdir(parents=True)
    for k, plane in enumerate(hu):
        if k != lost:
            place = (0, lean_mm * k, k * SPACING)
            dataset = ct_slice(plane.round() + 1024, place, AXIAL, (SPACING, SPACING), f"1.2.3.{len(folder.name)}", k)
            dataset.save_as(folder / f"{k:03d}.dcm", enforce_file_format=True)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A finished study that allows gaps; its first subject has one, the others are sound."""
    root = tmp_path_factory.mktemp("study")
    write_series(root / "ct/P00", chest(0.9), lost=20)
    rows = [{"subject_id": "P00", "insp_path": "ct/P00"}]
    for k in range(1, 13):
        save_nifti(root / f"ct/P{k:02d}.nii", chest(0.9 + 0.01 * k, seed=k))
        rows.append({"subject_id": f"P{k:02d}", "insp_path": f"ct/P{k:02d}.nii"})
    for k, row in enumerate(rows):
        save_nifti(root / f"ct/exp{k:02d}.nii", chest(0.8 + 0.008 * k, -780, seed=20 + k))
        row["exp_path"] = f"ct/exp{k:02d}.nii"
    return write_tables(root, rows, STUDY)


def write_tables(root: Path, rows: list[dict[str, str]], settings: dict) -> Path:
    """The manifest of `rows`, their people's measures, and the study run to its page."""
    pd.DataFrame(rows).to_csv(root / "manifest.csv", index=False)
    people = pd.DataFrame({"sid": [row["subject_id"] for row in rows], "gender": 1, "race": 1})
    number = np.arange(len(people))
    people = people.assign(age_visit=60 + number, Height_CM=165 + number, FEV1_utah=2.9 + number / 50, FVC_utah=4 + number % 2 / 2)
    people = people.assign(FEV1_FVC_utah=people["FEV1_utah"] / people["FVC_utah"], FEV1pp_utah=85 + number, finalGold=number % 2)
    people.to_csv(root / "phenotypes.csv", index=False)
    (root / "study.yaml").write_text(yaml.safe_dump(settings))
    run(load_study(root), workers=1, show=lambda line: None)
    return root


@pytest.mark.slow
def test_a_study_of_inspiratory_scans_alone_is_scored_by_what_they_tell(tmp_path):
    rows = []
    for k in range(13):
        save_nifti(tmp_path / f"ct/P{k:02d}.nii", chest(0.9 + 0.01 * k, seed=k))
        rows.append({"subject_id": f"P{k:02d}", "insp_path": f"ct/P{k:02d}.nii"})
    methods = [{"method": {"method": name}} for name in ("vae", "pairwise", "supervised")]
    root = write_tables(tmp_path, rows, STUDY | {"methods": methods, "network": {"widths": [4, 8], "hidden": 8, "u": 1, "v": 8}})
    scores, predictions = pd.read_csv(root / "scores.csv"), pd.read_csv(root / "predictions.csv")
    known = {"fev1_pp", "emphysema_pct", "gold"}
    for method in ("vae", "pairwise", "supervised", "mean", "densitometry", "age_sex_height", "density_probe"):
        assert set(scores.loc[scores["method"] == method, "target"]) == known
    assert set(predictions["target"]) == known
    assert predictions["predicted"].notna().all()
    notes = json.loads((root / "evaluation.json").read_text())["notes"]
    assert "gas_trapping_pct is known of 0 training and 0 test subjects: it is not scored" in notes
    page = (root / "report.html").read_text()
    assert "gas_trapping_pct is known of 0" in page
    run_folder = next(folder for folder in (root / "runs").iterdir() if folder.name.startswith("vae"))
    table, rejected = predict(run_folder, root / "manifest.csv", tmp_path / "p.csv", tmp_path / "p_cache", workers=1)
    assert len(table) == 13
    assert "predicted_fev1_pp" in table
    assert "predicted_gas_trapping_pct" not in table
    assert not len(rejected)


def test_who_lacks_a_scan_that_the_model_needs_is_told_of(tmp_path):
    index = pd.DataFrame({"subject_id": ["a", "b"], "visit": ["1", "2"], "channels": ["insp", "insp+exp"]})
    rows = without_a_scan(index, ["a"], ("insp", "exp")).to_dict("records")
    assert rows == [
        {"subject_id": "a", "visit": "1", "reason": "lacks_scan", "detail": "only insp was prepared; the model needs insp and exp"}
    ]


@pytest.fixture
def new(tmp_path) -> Path:
    """A manifest of new scans: one sound, one with a gap, one with a gap and tilted."""
    save_nifti(tmp_path / "new/sound.nii", chest(0.97, seed=50))
    write_series(tmp_path / "new/gap", chest(0.96, seed=51), lost=20)
    write_series(tmp_path / "new/tilted", chest(0.95, seed=52), lost=20, lean_mm=0.5)
    rows = [("sound", "sound.nii"), ("gap", "gap"), ("tilted", "tilted")]
    pd.DataFrame(rows, columns=["subject_id", "insp_path"]).to_csv(tmp_path / "new/manifest.csv", index=False)
    return tmp_path / "new/manifest.csv"


def copied(study: Path, folder: Path, **ingest) -> Path:
    """The run of a copy of the study's results whose evaluation says other settings of ingest."""
    folder.mkdir()
    shutil.copy(study / "cohort.csv", folder)
    shutil.copytree(study / "runs", folder / "runs")
    facts = json.loads((study / "evaluation.json").read_text())
    facts["settings"]["ingest"] |= ingest
    (folder / "evaluation.json").write_text(json.dumps(facts))
    return next((folder / "runs").iterdir())


def said(table: pd.DataFrame) -> dict[str, list[str]]:
    """The codes of each subject's warnings about what was resampled."""
    codes = {subject: [code for code in ("gaps_filled", "tilt_resampled") if f"[{code}]" in text] for subject, text in
             table.set_index("subject_id")["warnings"].items()}  # fmt: skip
    return {str(subject): found for subject, found in codes.items()}


@pytest.mark.slow
def test_new_scans_are_prepared_as_the_studys_own_and_say_so(study, new, tmp_path):
    own = next((study / "runs").iterdir())
    table, rejected = predict(own, new, tmp_path / "a.csv", tmp_path / "a_cache", workers=1)
    assert said(table) == {"gap": ["gaps_filled"], "sound": []}
    assert rejected[["subject_id", "reason"]].to_numpy().tolist() == [["tilted", "tilted_gantry"]]
    written = pd.read_csv(tmp_path / "a.csv").set_index("subject_id")
    assert "1 of 50 slices, 6 mm apart, were made up" in written.loc["gap", "warnings"]
    assert written["predicted_fev1_pp"].between(85, 98).all()


@pytest.mark.slow
def test_where_the_study_allowed_nothing_the_options_do(study, new, tmp_path):
    strict = copied(study, tmp_path / "strict", allow_gaps=False)
    table, rejected = predict(strict, new, tmp_path / "a.csv", tmp_path / "cache", workers=1)
    assert said(table) == {"sound": []}
    assert dict(zip(rejected["subject_id"], rejected["reason"], strict=True)) == {"gap": "missing_slice", "tilted": "tilted_gantry"}
    words = ["predict", str(strict), str(new), "--out", str(tmp_path / "b.csv"), "--cache", str(tmp_path / "cache"), "--workers", "1"]
    done = CliRunner().invoke(app, [*words, "--allow-gaps", "--resample-tilt"])
    assert done.exit_code == 0, done.exception
    again = pd.read_csv(tmp_path / "b.csv", keep_default_na=False)
    assert said(again) == {"gap": ["gaps_filled"], "sound": [], "tilted": ["gaps_filled", "tilt_resampled"]}
    before, after = (found.set_index("subject_id").loc["sound", "z_0"] for found in (table, again))
    assert after == pytest.approx(before)


@pytest.mark.slow
def test_what_a_study_allowed_is_on_its_page_by_subject_and_in_its_settings(study):
    page = (study / "report.html").read_text()
    assert "<tr><th>P00</th><td>insp: 1 of 50 slices, 6 mm apart, were made up between their neighbours" in page
    assert "1 of the subjects have slices that were made up between their neighbours, as allow_gaps asks (gaps filled)." in page
    assert "<tr><th>settings.ingest.allow_gaps</th><td>True</td></tr>" in page
    assert "<tr><th>settings.ingest.resample_tilt</th><td>False</td></tr>" in page


def test_the_studys_settings_and_the_options_add_up(tmp_path):
    own = IngestConfig(grid=64, allow_gaps=True, allow_other_study=True, prefer_series=("thin",))
    (tmp_path / "evaluation.json").write_text(json.dumps({"settings": {"ingest": own.plain()}}))
    assert ingest_config(tmp_path, 64, False, False) == own
    assert ingest_config(tmp_path, 64, False, True) == own.model_copy(update={"resample_tilt": True})


def test_a_network_mask_needs_the_weights_that_the_study_had_wherever_they_lie(tmp_path):
    weights, others = tmp_path / "a.pt", tmp_path / "elsewhere.pt"
    weights.write_bytes(b"one")
    others.write_bytes(b"one")
    study = Study.parse(
        {"name": "s", "root": tmp_path, "data": {"manifest": "m.csv", "phenotypes": "p.csv"}, "methods": [{"method": {"method": "vae"}}],
         "ingest": {"mask": "lungmask", "lungmask_weights": "a.pt"}}, "study"
    )  # fmt: skip
    settings = without_paths(study)
    (tmp_path / "evaluation.json").write_text(json.dumps({"settings": settings}))
    assert str(tmp_path) not in json.dumps(settings)
    assert "a.pt" not in json.dumps(settings)
    assert ingest_config(tmp_path, 64, False, False, others).lungmask_weights == others.resolve()
    with pytest.raises(ConfigError, match="name its weights with --lungmask"):
        ingest_config(tmp_path, 64, False, False)
    others.write_bytes(b"another")
    with pytest.raises(ConfigError, match=r"elsewhere\.pt: other weights than .* expected SHA-256 [0-9a-f]{64}"):
        ingest_config(tmp_path, 64, False, False, others)
    (tmp_path / "evaluation.json").write_text(json.dumps({"settings": {"ingest": IngestConfig().plain()}}))
    with pytest.raises(ConfigError, match="leave --lungmask out"):
        ingest_config(tmp_path, 64, False, False, weights)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"settings": {"ingest": {"grid": "x"}}}', "[" * 100_000])
def test_a_study_that_does_not_say_how_it_was_prepared_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(ConfigError, match=r"evaluation\.json: does not say how"):
        ingest_config(tmp_path, 64, False, False)
