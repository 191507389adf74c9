"""What `copdvae doctor` finds in a cache that something happened to."""

import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import yaml
from safetensors.numpy import load_file, save
from typer.testing import CliRunner

from copdvae import doctor as module
from copdvae.cli import app
from copdvae.doctor import Check, as_text, doctor, packages
from copdvae.files import HOST
from copdvae.prepare.ingest import ingest
from copdvae.prepare.settings import IngestConfig
from copdvae.study import load_study

sys.path.insert(0, str(Path(__file__).parent / "prepare"))  # its helpers
from chests import chest, save_nifti


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> dict[str, bytes]:
    """The files of a study of two ingested subjects."""
    root = tmp_path_factory.mktemp("doctor")
    for k in (1, 2):
        save_nifti(root / f"ct/{k}.nii", chest(0.9 + 0.05 * k, seed=k))
    (root / "manifest.csv").write_text("subject_id,visit,insp_path\nP1,,ct/1.nii\nP2,2,ct/2.nii\n")
    (root / "phenotypes.csv").write_text("sid\nP1\nP2\n")
    (root / "study.yaml").write_text(yaml.safe_dump({"name": "n", "methods": [{"method": {"method": "vae"}}]}))
    ingest(root / "manifest.csv", root / "cache", IngestConfig(grid=32))
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file() and path.parent.name != "ct"}


@pytest.fixture
def study(prepared, tmp_path):
    for name, content in prepared.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def problems(root: Path) -> list[tuple[str, str]]:
    return [(check.name, check.problem) for check in doctor(load_study(root)) if check.problem]


def first_file(root: Path) -> Path:
    """The cached file of P1."""
    return (
        root / "cache" / next(line.split(",")[2] for line in (root / "cache/index.csv").read_text().splitlines() if line.startswith("P1,"))
    )


def test_nothing_is_wrong_with_a_sound_study_and_nothing_is_changed(study):
    before = {path: path.stat().st_mtime_ns for path in study.rglob("*")}
    assert problems(study) == []
    assert {path: path.stat().st_mtime_ns for path in study.rglob("*")} == before


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_every_flipped_byte_of_a_cached_file_is_found(study):
    """In the arrays, in a number of the header, in the digest itself, in the length of the header."""
    whole = first_file(study).read_bytes()
    for place in (len(whole) - 1, len(whole) // 2, whole.index(b"laa950_pct") + 15, whole.index(b'"content"') + 15, 2, 9):
        first_file(study).write_bytes(whole)
        assert problems(study) == []
        flip(first_file(study), place)
        ((name, problem),) = problems(study)
        assert name == "subject P1"
        assert "ingest` again" in problem


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file_is_found(study, keep):
    content = first_file(study).read_bytes()
    first_file(study).write_bytes(content[:keep])
    ((name, problem),) = problems(study)
    assert name == "subject P1"
    assert "ingest` again" in problem


def test_a_missing_a_foreign_and_an_unlisted_file_are_found(study):
    content = first_file(study).read_bytes()
    first_file(study).unlink()
    assert problems(study) == [("subject P1", "listed and not there; run `copdvae ingest` again")]
    other = next(path for path in (study / "cache").glob("*.safetensors"))
    first_file(study).write_bytes(other.read_bytes())
    assert problems(study) == [("subject P1", "it is another subject's; run `copdvae ingest` again")]
    first_file(study).write_bytes(content)
    (study / "cache/0123.safetensors").write_bytes(content)
    assert problems(study) == [("cached and not listed", "0123.safetensors: of an earlier manifest; delete them")]


def test_a_file_of_a_version_that_kept_no_digest_is_found(study):
    first_file(study).write_bytes(save(load_file(first_file(study))))
    assert "kept no digest" in dict(problems(study))["subject P1"]


def test_temporary_files_of_the_dead_are_found_and_those_of_the_living_are_not(study):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name in (
        f".a.{HOST}.{gone.pid}.tmp",
        f".b.{HOST}.{os.getpid()}.tmp",
        f".c.h01234567.{gone.pid}.tmp",
    ):  # the last: another machine's
        (study / "cache" / name).touch()
    (problem,) = problems(study)
    assert problem[0] == "unfinished files"
    assert next(check.found for check in doctor(load_study(study)) if check.name == "unfinished files") == "1"


def test_what_a_killed_run_left_beside_results_is_found(study):
    """Under a name that copdvae gives, and no other: the folder is the user's."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (study / "runs/vae-s0").mkdir(parents=True)
    for name in (f".split.csv.{HOST}.{gone.pid}.tmp", f"runs/vae-s0/.log.csv.{HOST}.{gone.pid}.tmp", f".theirs.{gone.pid}.tmp"):
        (study / name).touch()
    (problem,) = problems(study)
    assert problem[0] == "unfinished results"
    assert next(check.found for check in doctor(load_study(study)) if check.name == "unfinished results") == "2"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"nothing,of,use\n1,2,3\n", None])
def test_a_table_that_is_gone_or_damaged_is_found(study, content):
    if content is None:
        (study / "cache/index.csv").unlink()
    else:
        (study / "cache/index.csv").write_bytes(content)
    assert "index.csv" in dict(problems(study))


def test_what_a_study_needs_is_looked_for(study, monkeypatch):
    (study / "manifest.csv").unlink()
    assert problems(study) == [("manifest", "no file manifest.csv")]
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(free=1e9))
    assert ("disk", "less than 2 GB free; make room") in problems(study)
    monkeypatch.setattr(module.os, "access", lambda *_: False)
    assert {"root", "cache", "out"} <= set(dict(problems(study)))


@pytest.mark.parametrize(
    ("requirement", "problem"),
    [
        ("numpy>=1.26", ""), ("numpy>=99.1", "needs 99.1 or newer"), ("nothing-of-that-name>=1", "not installed"),
        ("nothing-of-that-name>=1; extra == 'images'", ""), ("nothing-of-that-name>=1; extra == 'dev'", ""),
    ],
)  # fmt: skip
def test_packages_are_compared_with_what_is_needed(requirement, problem):
    found = [check.problem for check in packages(requirement)]
    assert not found or (found[0] == problem if not problem else found[0].startswith(problem))
    assert bool(found) == ("dev" not in requirement)


def test_the_command_says_what_is_wrong_and_ends_with_1(study):
    done = CliRunner().invoke(app, ["doctor", str(study)])
    assert done.exit_code == 0, done.output
    assert "WRONG" not in done.output
    flip(first_file(study), -1)
    done = CliRunner().invoke(app, ["doctor", str(study)])
    assert done.exit_code == 1
    assert [line.split()[0:3] for line in done.output.splitlines() if not line.startswith("ok")] == [["WRONG", "subject", "P1"]]
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 0
    assert as_text([Check("a", "b"), Check("long name", "c", "d")]) == "ok     a          b\nWRONG  long name  c: d"


def test_ingest_makes_again_what_the_doctor_found(study):
    """The scans are not here: what is sound is kept without them being looked at, so only a digest can tell."""
    from copdvae.prepare.cached import is_right, load_metadata

    identity = {key: value for key, value in load_metadata(first_file(study)).items() if key in ("subject_id", "source", "config")}
    assert is_right(first_file(study), identity)
    flip(first_file(study), -1)
    assert not is_right(first_file(study), identity)
