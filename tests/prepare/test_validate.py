import sys
from pathlib import Path

import pandas as pd
import pytest
from chests import chest, save_nifti

from copdvae.errors import Problem
from copdvae.prepare import validate as module
from copdvae.prepare.validate import format_problems
from copdvae.read.phenotypes import PhenotypesConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "read"))  # its helpers
from ct_writers import write_series

HEADER = "sid,gender,age_visit,Height_CM,FEV1_utah,FVC_utah,FEV1_FVC_utah,FEV1pp_utah\n"


def validate(*args, **settings):
    """All problems but one: these chests' slices are 6 mm apart."""
    return [problem for problem in module.validate(*args, **settings) if problem.reason != "thick_slices"]


def write_study(folder):
    """P1 is sound; P2's scan is cut short; P3's is gone; P4 has no measures; P5 has measures only; P6's spirometry is impossible."""
    for name in ("P1", "P2", "P4", "P6"):
        save_nifti(folder / f"{name}.nii", chest(1.0))
    (folder / "P2.nii").write_bytes((folder / "P2.nii").read_bytes()[:9000])
    rows = "".join(f"P{i},P{i}.nii\n" for i in (1, 2, 3, 4, 6))
    (folder / "manifest.csv").write_text(f"subject_id,insp_path\n{rows}")
    people = "".join(f"P{i},1,60,175,3.0,4.0,0.75,90\n" for i in (1, 2, 3, 5))
    (folder / "phenotypes.csv").write_text(f"{HEADER}{people}P6,1,60,175,4.0,3.0,1.33,90\n")
    return folder / "manifest.csv", folder / "phenotypes.csv"


def files(folder):
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.iterdir()}


def test_all_problems_of_all_kinds_come_in_one_list_and_nothing_is_written(tmp_path):
    manifest, phenotypes = write_study(tmp_path)
    before = files(tmp_path)
    problems = validate(manifest, phenotypes, PhenotypesConfig())
    assert files(tmp_path) == before
    by_subject = {}
    for problem in problems:
        by_subject.setdefault(problem.subject_id, set()).add((problem.reason, problem.fatal))
    assert "P1" not in by_subject
    assert {fatal for _, fatal in by_subject["P2"]} == {True}
    assert by_subject["P3"] == {("missing_file", True)}
    assert by_subject["P4"] == {("no_phenotypes", False)}
    assert by_subject["P5"] == {("no_scan", False)}
    assert any(fatal for _, fatal in by_subject["P6"])
    assert [problem.fatal for problem in problems] == sorted((problem.fatal for problem in problems), reverse=True)


def test_a_sound_study_has_no_problem(tmp_path):
    save_nifti(tmp_path / "a.nii", chest(1.0))
    (tmp_path / "manifest.csv").write_text("subject_id,insp_path\nP1,a.nii\n")
    (tmp_path / "phenotypes.csv").write_text(f"{HEADER}P1,1,60,175,3.0,4.0,0.75,90\n")
    assert validate(tmp_path / "manifest.csv", tmp_path / "phenotypes.csv", PhenotypesConfig()) == []


def test_a_lost_leading_zero_shows_as_subjects_in_one_table_only(tmp_path):
    save_nifti(tmp_path / "a.nii", chest(1.0))
    (tmp_path / "manifest.csv").write_text("subject_id,insp_path\n007,a.nii\n")
    (tmp_path / "phenotypes.csv").write_text(f"{HEADER}7,1,60,175,3.0,4.0,0.75,90\n")
    problems = validate(tmp_path / "manifest.csv", tmp_path / "phenotypes.csv", PhenotypesConfig())
    assert {(problem.subject_id, problem.reason) for problem in problems} == {("007", "no_phenotypes"), ("7", "no_scan")}


def test_a_table_that_cannot_be_read_is_one_problem_beside_the_others(tmp_path):
    manifest, _ = write_study(tmp_path)
    problems = validate(manifest, tmp_path / "nothing.csv", PhenotypesConfig())
    assert {"P2", "P3", ""} == {problem.subject_id for problem in problems}
    assert validate(tmp_path / "nothing.csv")[0].fatal


def test_every_scan_of_a_pair_is_looked_at(tmp_path):
    save_nifti(tmp_path / "insp.nii", chest(1.0))
    (tmp_path / "exp.nii").write_bytes(b"nothing")
    (tmp_path / "manifest.csv").write_text("subject_id,insp_path,exp_path\nP1,insp.nii,exp.nii\n")
    (problem,) = validate(tmp_path / "manifest.csv")
    assert "row 2, exp_path 'exp.nii'" in problem.where
    assert str(tmp_path) not in problem.where + problem.detail


def test_the_list_for_people_counts_each_kind_and_shows_errors_first():
    problems = [Problem(f"row {i}", f"P{i}", "gap", "a slice is missing") for i in range(5)]
    problems.insert(0, Problem("row 9", "", "odd", "strange", fatal=False))
    text = format_problems(problems)
    assert text.splitlines() == [
        "error: gap (5)",
        "  row 0, subject P0: a slice is missing",
        "  row 1, subject P1: a slice is missing",
        "  row 2, subject P2: a slice is missing",
        "  ... and 2 more",
        "warning: odd (1)",
        "  row 9: strange",
    ]
    assert "row 4" in format_problems(problems, examples=None)
    assert format_problems([]) == ""


def test_the_tables_notes_are_not_problems(tmp_path):
    """Units are announced by the phenotype reader; validate lists only what is wrong."""
    save_nifti(tmp_path / "a.nii", chest(1.0))
    (tmp_path / "manifest.csv").write_text("subject_id,insp_path\nP1,a.nii\n")
    pd.DataFrame({"sid": ["P1"], "gender": ["1"], "age_visit": ["60"], "FEV1_utah": ["3000"], "FVC_utah": ["4000"]}).to_csv(
        tmp_path / "p.csv", index=False
    )
    assert not [problem for problem in validate(tmp_path / "manifest.csv", tmp_path / "p.csv", PhenotypesConfig()) if problem.fatal]


@pytest.mark.slow
def test_processes_list_the_same_in_the_same_order(tmp_path, monkeypatch):
    """A pair of two patients among them: what tells owners apart means something within one process only."""
    monkeypatch.setattr(module, "CHUNK", 2)
    rows = ""
    for i in range(5):
        save_nifti(tmp_path / f"P{i}.nii", chest(1.0))
        if i % 2:
            (tmp_path / f"P{i}.nii").write_bytes(b"nothing")
        rows += f"P{i},P{i}.nii,\n"
    for breath in ("insp", "exp"):
        write_series(tmp_path / breath, series=f"1.2.{len(breath)}", change=lambda d, _, breath=breath: setattr(d, "PatientID", breath))
    (tmp_path / "manifest.csv").write_text(f"subject_id,insp_path,exp_path\n{rows}P9,insp,exp\n")
    alone = validate(tmp_path / "manifest.csv")
    assert validate(tmp_path / "manifest.csv", workers=2) == alone
    assert [problem.subject_id for problem in alone if problem.fatal] == ["P1", "P3", "P9"]
    assert next(problem for problem in alone if problem.subject_id == "P9").reason == "other_patient"


def test_how_a_scan_was_made_is_doubted_before_any_voxel_is_read(tmp_path):
    save_nifti(tmp_path / "a.nii", chest(1.0))
    (tmp_path / "manifest.csv").write_text("subject_id,insp_path\nP1,a.nii\n")
    (problem,) = module.validate(tmp_path / "manifest.csv")
    assert (problem.subject_id, problem.reason, problem.fatal) == ("P1", "thick_slices", False)
