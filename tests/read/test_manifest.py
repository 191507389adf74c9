import pytest

from copdvae.errors import ReadError
from copdvae.read.manifest import read_manifest


def write(folder, *rows, header="subject_id,visit,insp_path,exp_path,mask_path"):
    for name in ("a.nii", "b.nii", "c.nii", "d.nii"):
        (folder / name).touch()
    (folder / "manifest.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder / "manifest.csv"


def test_a_sound_manifest_gives_its_rows_with_empty_columns_filled_in(tmp_path):
    study = read_manifest(write(tmp_path, "007,a.nii", "8,b.nii", header="subject_id,insp_path"))
    assert study.problems == []
    assert study.scans.to_dict("records") == [
        {column: {"subject_id": subject, "insp_path": scan}.get(column, "") for column in study.scans.columns}
        for subject, scan in (("007", "a.nii"), ("8", "b.nii"))
    ]
    assert list(study.scans.columns) == [
        "subject_id", "visit", "insp_path", "exp_path", "mask_path", "exp_mask_path", "series", "exp_series", "site", "scanner", "kernel",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("P1,1,gone.nii,,", "missing_file"),
        ("P1,1,a.nii,gone.nii,", "missing_file"),
        ("P1,1,a.nii,,gone.nii", "missing_file"),
        ("P1,1,../other/a.nii,,", "outside_study"),
        ("P1,1,x/../a.nii,,", "outside_study"),
        ("P1,1,/etc/hostname,,", "outside_study"),
        ("P1,1,C:\\scans\\a.nii,,", "outside_study"),
        ("P1,1,x\\..\\..\\a.nii,,", "outside_study"),
        ("P1,1,away.nii,,", "outside_study"),
        ("P1,1,round.nii,,", "missing_file"),
        (",1,a.nii,,", "empty_id"),
        ("P1,1,,b.nii,", "no_insp_scan"),
        ("P1,1,a.nii,./a.nii,", "same_scan_twice"),
        ("P1,1,a.nii,same.nii,", "same_scan_twice"),
    ],
)
def test_a_bad_row_is_named_with_its_reason_and_the_others_stay(tmp_path, row, reason):
    study_folder = tmp_path / "study"
    study_folder.mkdir()
    (tmp_path / "elsewhere.nii").touch()
    (study_folder / "away.nii").symlink_to(tmp_path / "elsewhere.nii")
    (study_folder / "round.nii").symlink_to(study_folder / "round.nii")
    (study_folder / "same.nii").symlink_to(study_folder / "a.nii")
    study = read_manifest(write(study_folder, "good,1,c.nii,,", row))
    assert list(study.scans["subject_id"]) == ["good"]
    assert [problem.reason for problem in study.problems] == [reason]
    assert study.problems[0].where.startswith("manifest.csv row 3, ")
    assert list(study.refused["reason"]) == [reason]


def test_all_problems_come_at_once(tmp_path):
    study = read_manifest(write(tmp_path, "P1,1,gone.nii,gone.nii,", "P2,1,a.nii,,", ",1,../b.nii,,", "P2,1,c.nii,,"))
    found = sorted((problem.where.split(", ")[0].split()[-1], problem.reason) for problem in study.problems)
    assert found == [
        ("2", "missing_file"), ("2", "missing_file"), ("3", "duplicate_row"),
        ("4", "empty_id"), ("4", "outside_study"), ("5", "duplicate_row"),
    ]  # fmt: skip
    assert study.scans.empty


def test_two_visits_of_a_subject_are_two_rows(tmp_path):
    study = read_manifest(write(tmp_path, "P1,1,a.nii,,", "P1,2,b.nii,,"))
    assert study.problems == []
    assert list(zip(study.scans["subject_id"], study.scans["visit"], strict=True)) == [("P1", "1"), ("P1", "2")]


@pytest.mark.parametrize("second", ["P2,1,a.nii,,", "P2,1,b.nii,a.nii,", "P1,2,./a.nii,,", "P2,1,link.nii,,"])
def test_one_scan_in_two_rows_refuses_both(tmp_path, second):
    path = write(tmp_path, "P1,1,a.nii,,", second, "P3,1,c.nii,d.nii,")
    (tmp_path / "link.nii").symlink_to("a.nii")
    study = read_manifest(path)
    assert list(study.scans["subject_id"]) == ["P3"]
    assert {problem.reason for problem in study.problems} == {"same_scan_twice"}
    assert all("rows 2, 3" in problem.detail for problem in study.problems)


def test_what_is_written_to_files_holds_no_path(tmp_path):
    study = read_manifest(write(tmp_path, "P1,1,ct/SMITH_JOHN/gone.nii,,", "P2,1,/home/smith/a.nii,,"))
    assert "smith" in " ".join(problem.where for problem in study.problems).lower()  # a person at the screen sees which
    assert "smith" not in study.refused.to_csv().lower()


def test_a_table_without_the_needed_columns_is_refused_by_name(tmp_path):
    with pytest.raises(ReadError, match="no column insp_path") as caught:
        read_manifest(write(tmp_path, "P1,a.nii", header="subject_id,ct"))
    assert "found subject_id, ct" in str(caught.value)
