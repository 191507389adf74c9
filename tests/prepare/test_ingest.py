import errno
import hashlib
import json
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest
from chests import SPACING, chest, lungs, save_nifti
from safetensors import safe_open

from copdvae.errors import CopdvaeError
from copdvae.files import is_alive
from copdvae.prepare import cached
from copdvae.prepare import ingest as module
from copdvae.prepare.cached import load_subject
from copdvae.prepare.ingest import ingest
from copdvae.prepare.settings import IngestConfig
from copdvae.prepare.task import Outcome, Task
from copdvae.prepare.workers import run_in_processes
from copdvae.read import read_ct

SMALL = IngestConfig(grid=32)


def write_manifest(folder, rows, columns="subject_id,visit,insp_path,exp_path,mask_path,site"):
    table = pd.DataFrame([dict(zip(columns.split(","), row, strict=False)) for row in rows]).fillna("")
    table.to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def write_study(folder, subjects=3, pairs=True):
    """P0, P1 ...: an inspiratory and a smaller, denser expiratory scan each."""
    rows = []
    for i in range(subjects):
        save_nifti(folder / f"ct/P{i}/insp.nii.gz", chest(0.95 + 0.02 * i, -860 - 5 * i, seed=2 * i))
        if pairs:
            save_nifti(folder / f"ct/P{i}/exp.nii.gz", chest(0.8, -760, seed=2 * i + 1))
        rows.append((f"P{i}", "1", f"ct/P{i}/insp.nii.gz", f"ct/P{i}/exp.nii.gz" * pairs, "", "A"))
    return write_manifest(folder, rows)


def contents(cache):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(cache.iterdir())}


def reasons(result):
    return dict(zip(result.rejected["subject_id"], result.rejected["reason"], strict=True))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Three subjects, their manifest and what an undisturbed run makes of them: only to be read."""
    folder = tmp_path_factory.mktemp("study")
    manifest = write_study(folder)
    return manifest, folder / "cache", ingest(manifest, folder / "cache", SMALL)


def test_a_pair_becomes_two_channels_with_what_was_measured(study):
    manifest, cache, result = study
    assert list(result.index["subject_id"]) == ["P0", "P1", "P2"]
    assert result.rejected.empty
    row = result.index.iloc[1]
    image, lung, metadata = load_subject(cache / row["file"])
    assert image.shape == lung.shape == (2, 32, 32, 32)
    assert (image.dtype, lung.dtype) == (np.int16, np.uint8)
    assert metadata["channels"] == row["channels"] == "insp+exp"
    assert image[0][lung[0] > 0].mean() < image[1][lung[1] > 0].mean() - 50  # insp is channel 0: thinner

    for name, size, litres in (("insp", 0.97, 4.03 * 0.97**3), ("exp", 0.8, 4.03 * 0.8**3)):
        assert row[f"{name}_lung_volume_l"] == pytest.approx(litres, rel=0.03)
        assert row[f"{name}_box_side_mm"] == pytest.approx(2 * (80 + 58 * size) + 10, abs=2 * SPACING)
        assert row[f"{name}_box_voxel_mm"] == pytest.approx(row[f"{name}_box_side_mm"] / 32)
    assert row["exp_over_insp_volume"] == pytest.approx((0.8 / 0.97) ** 3, rel=0.03)
    assert row["emphysema_pct"] == row["insp_laa950_pct"]
    assert row["gas_trapping_pct"] == row["exp_laa856_pct"]
    hu = read_ct(manifest.parent / "ct/P1/insp.nii.gz").hu
    assert row["insp_mean_lung_hu"] == pytest.approx(hu[lungs(0.97) > 0].mean(), abs=2)


def test_the_tables_on_disk_are_the_tables_returned(study):
    _, cache, result = study
    for name, table in (("index", result.index), ("rejected", result.rejected)):
        assert (cache / f"{name}.csv").read_text() == table.to_csv(index=False, lineterminator="\n")


def test_a_second_run_keeps_every_file_and_says_the_same(study):
    manifest, cache, _ = study
    before, times = contents(cache), {file.name: file.stat().st_mtime_ns for file in cache.glob("*.safetensors")}
    again = ingest(manifest, cache, SMALL)
    assert (again.made, again.kept) == (0, 3)
    assert contents(cache) == before
    assert {file.name: file.stat().st_mtime_ns for file in cache.glob("*.safetensors")} == times


def test_workers_and_the_order_of_rows_change_no_byte(study, tmp_path):
    manifest, cache, _ = study
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    turned = manifest.parent / "turned.csv"
    table.iloc[::-1].to_csv(turned, index=False)
    result = ingest(turned, tmp_path / "cache", SMALL, workers=2)
    assert result.made == 3
    assert contents(tmp_path / "cache") == contents(cache)


@pytest.mark.parametrize("change", ["scan", "grid", "truncated", "version"])
def test_what_no_longer_fits_is_made_again(tmp_path, change, monkeypatch):
    manifest, cache = write_study(tmp_path, 2, pairs=False), tmp_path / "cache"
    first = ingest(manifest, cache, SMALL)
    file = cache / first.index.loc[0, "file"]
    whole = file.read_bytes()
    config = IngestConfig(grid=40) if change == "grid" else SMALL
    if change == "scan":
        save_nifti(tmp_path / "ct/P0/insp.nii.gz", chest(1.05))
    elif change == "truncated":
        file.write_bytes(whole[:-100])
    elif change == "version":
        monkeypatch.setattr(cached, "__version__", "9.9")
    again = ingest(manifest, cache, config)
    assert (again.made, again.kept) == {"scan": (1, 1), "grid": (2, 0), "truncated": (1, 1), "version": (2, 0)}[change]
    assert load_subject(file)[0].shape == (1, *[config.grid] * 3)
    if change == "truncated":
        assert file.read_bytes() == whole


def test_an_inspiratory_scan_alone_is_one_channel(tmp_path):
    result = ingest(write_study(tmp_path, 1, pairs=False), tmp_path / "cache", SMALL)
    row = result.index.iloc[0]
    image, _, metadata = load_subject(tmp_path / "cache" / row["file"])
    assert image.shape == (1, 32, 32, 32)
    assert metadata["channels"] == row["channels"] == "insp"
    assert math.isnan(row["gas_trapping_pct"] or math.nan)
    assert "exp_laa856_pct" in result.index  # the columns are those of every study


def test_each_bad_subject_is_rejected_with_its_reason_and_the_others_go_on(tmp_path):
    save_nifti(tmp_path / "big.nii", chest(1.0))
    save_nifti(tmp_path / "small.nii", chest(0.8, -760, seed=5))
    save_nifti(tmp_path / "insp.nii", chest(1.0, seed=1))
    save_nifti(tmp_path / "exp.nii", chest(1.0, -800, seed=2))
    for name in ("one", "two"):
        save_nifti(tmp_path / f"{name}.nii", chest(0.9))
    save_nifti(tmp_path / "water.nii", np.zeros((30, 30, 30)) + np.where(np.indices((30, 30, 30))[0] < 3, -1000, 30))
    save_nifti(tmp_path / "cut.nii", chest(1.1))
    (tmp_path / "cut.nii").write_bytes((tmp_path / "cut.nii").read_bytes()[:-5000])
    save_nifti(tmp_path / "fine.nii", chest(1.05, seed=9))
    save_nifti(tmp_path / "insp2.nii", chest(1.06, seed=10))
    save_nifti(tmp_path / "bad.nii", np.zeros((20, 20, 20)) + 7)
    manifest = write_manifest(
        tmp_path,
        [
            ("swapped", "", "small.nii", "big.nii"), ("same size", "", "insp.nii", "exp.nii"), ("same scan", "", "one.nii", "two.nii"),
            ("no lungs", "", "water.nii"), ("cut", "", "cut.nii"), ("gone", "", "gone.nii"), ("fine", "", "fine.nii"),
            ("bad exp", "", "insp2.nii", "bad.nii"),
        ],
    )  # fmt: skip
    result = ingest(manifest, tmp_path / "cache", SMALL)
    found = reasons(result)
    assert list(result.index["subject_id"]) == ["fine"]
    assert found["swapped"] == found["same size"] == "exp_not_smaller"
    assert found["same scan"] == "identical_scans"
    assert found["gone"] == "missing_file"
    assert set(found) == {"swapped", "same size", "same scan", "no lungs", "cut", "gone", "bad exp"}
    details = result.rejected.set_index("subject_id")["detail"]
    assert details["bad exp"].startswith("exp: ")
    assert details["cut"].startswith("insp: ")
    assert not any(str(tmp_path) in detail or ".nii" in detail for detail in details)


def test_two_visits_are_two_files_and_never_one_pair(tmp_path):
    save_nifti(tmp_path / "a.nii", chest(1.0))
    save_nifti(tmp_path / "b.nii", chest(0.9, seed=3))
    result = ingest(write_manifest(tmp_path, [("P1", "2", "b.nii"), ("P1", "1", "a.nii")]), tmp_path / "cache", SMALL)
    assert list(zip(result.index["subject_id"], result.index["visit"], result.index["channels"], strict=True)) == [
        ("P1", "1", "insp"), ("P1", "2", "insp"),
    ]  # fmt: skip
    assert result.index["file"].nunique() == 2
    assert result.index.loc[0, "insp_lung_volume_l"] > result.index.loc[1, "insp_lung_volume_l"]


def test_a_pair_of_nearly_one_size_is_kept_with_a_warning(tmp_path):
    save_nifti(tmp_path / "a.nii", chest(1.0))
    hu = chest(1.0, seed=8)
    hu[25, 10:38, 11:22] = 40  # one slice of a lung filled: a little smaller
    save_nifti(tmp_path / "b.nii", hu)
    result = ingest(write_manifest(tmp_path, [("P1", "", "a.nii", "b.nii")]), tmp_path / "cache", SMALL)
    assert 0.98 < result.index.loc[0, "exp_over_insp_volume"] < 1
    assert "expiratory over inspiratory lung volume is 1.00, usually" in result.index.loc[0, "warnings"]


def test_the_same_images_under_two_names_are_said(tmp_path):
    save_nifti(tmp_path / "a.nii", chest(1.0))
    save_nifti(tmp_path / "b.nii.gz", chest(1.0))
    save_nifti(tmp_path / "c.nii", chest(1.0, seed=1))
    result = ingest(write_manifest(tmp_path, [("P1", "", "a.nii"), ("P2", "", "b.nii.gz"), ("P3", "", "c.nii")]), tmp_path / "cache", SMALL)
    assert ["same images" in warnings for warnings in result.index["warnings"]] == [True, True, False]


def test_a_given_mask_is_used_named_and_part_of_what_a_file_is_made_from(tmp_path):
    save_nifti(tmp_path / "a.nii", chest(1.0))
    save_nifti(tmp_path / "mask.nii", lungs(0.8))
    manifest = write_manifest(tmp_path, [("P1", "", "a.nii", "", "mask.nii")])
    first = ingest(manifest, tmp_path / "cache", SMALL)
    assert first.index.loc[0, "insp_mask"] == "given"
    assert first.index.loc[0, "insp_lung_volume_l"] == pytest.approx((lungs(0.8) > 0).sum() * SPACING**3 / 1e6)
    write_manifest(tmp_path, [("P1", "", "a.nii")])
    second = ingest(manifest, tmp_path / "cache", SMALL)
    assert second.made == 1
    assert second.index.loc[0, "insp_mask"] == "threshold"


@pytest.mark.parametrize("name", ["../../escape", "a/b", "line\nbreak", "=1+1", "Ünï;,\"'", "x" * 300])
def test_any_subject_id_survives_and_none_becomes_a_path(tmp_path, name):
    save_nifti(tmp_path / "study/a.nii", chest(1.0))
    result = ingest(write_manifest(tmp_path / "study", [(name, "", "a.nii")]), tmp_path / "study/cache", SMALL)
    assert list(result.index["subject_id"]) == [" ".join(name.split())] or list(result.index["subject_id"]) == [name]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study"]
    assert len(list((tmp_path / "study/cache").glob("*.safetensors"))) == 1
    assert load_subject(tmp_path / "study/cache" / result.index.loc[0, "file"])[2]["subject_id"] == result.index.loc[0, "subject_id"]


def test_no_written_file_holds_a_path_or_a_name_from_a_header(tmp_path):
    save_nifti(tmp_path / "SMITH JOHN/insp.nii", chest(1.0), description="SMITH^JOHN 1950")
    save_nifti(tmp_path / "SMITH JOHN/SMITH.nii", np.zeros((20, 20, 20)) + 7, description="SMITH^JOHN 1950")
    (tmp_path / "SMITH").mkdir()
    (tmp_path / "SMITH/JOHN SMITH 1.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 200)
    rows = [("P1", "", "SMITH JOHN/insp.nii"), ("P2", "", "SMITH JOHN/SMITH.nii"), ("P3", "", "SMITH"), ("P4", "", "/home/SMITH/x.nii")]
    result = ingest(write_manifest(tmp_path, rows), tmp_path / "cache", SMALL)
    assert (len(result.index), len(result.rejected)) == (1, 3)
    for file in (tmp_path / "cache").iterdir():
        written = file.read_bytes()
        assert b"SMITH" not in written
        assert b"JOHN" not in written
        assert str(tmp_path).encode() not in written


def test_a_cached_file_is_plain_safetensors_with_text_metadata_in_a_fixed_order(study):
    _, cache, result = study
    file = cache / result.index.loc[0, "file"]
    with safe_open(file, framework="numpy") as cached:
        assert set(cached.keys()) == {"image", "lung"}
        metadata = cached.metadata()
    assert {key: metadata[key] for key in ("subject_id", "visit", "grid", "channels")} == {
        "subject_id": "P0", "visit": "1", "grid": "32", "channels": "insp+exp",
    }  # fmt: skip
    raw = file.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert list(header["__metadata__"]) == sorted(header["__metadata__"])


def test_a_full_disk_stops_the_run_and_is_no_subjects_fault(tmp_path, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "replacing", full)
    with pytest.raises(CopdvaeError, match="No space left"):
        ingest(write_study(tmp_path, 1, pairs=False), tmp_path / "cache", SMALL)


def test_leftovers_of_killed_runs_go_and_those_of_live_ones_stay(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "cache").mkdir()
    for process in (gone.pid, os.getppid()):
        (tmp_path / f"cache/.x.safetensors.{process}.tmp").touch()
    ingest(write_study(tmp_path, 1, pairs=False), tmp_path / "cache", SMALL)
    assert [file.name for file in (tmp_path / "cache").glob(".*")] == [f".x.safetensors.{os.getppid()}.tmp"]


def deadly(task: Task) -> Outcome:
    """Dies on P1, as a reader's native code may."""
    if task.row["subject_id"] == "P1":
        os.kill(os.getpid(), signal.SIGKILL)
    return Outcome(task.key, "made")


def test_a_process_that_dies_takes_only_its_own_subject_with_it(tmp_path):
    tasks = [Task({"subject_id": f"P{i}", "visit": ""}, tmp_path, tmp_path, SMALL) for i in range(6)]
    outcomes = {outcome.key[0]: outcome for outcome in run_in_processes(tasks, 2, deadly)}
    assert sorted(outcomes) == [f"P{i}" for i in range(6)]
    assert {subject for subject, outcome in outcomes.items() if outcome.state == "made"} == {"P0", "P2", "P3", "P4", "P5"}
    assert outcomes["P1"].reason == "worker_died"


def test_a_worker_killed_by_chance_costs_nobody(tmp_path, study):
    manifest, cache, _ = study

    def kill_one():
        while not (children := multiprocessing.active_children()):
            time.sleep(0.01)
        time.sleep(0.3)
        os.kill(children[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    result = ingest(manifest, tmp_path / "cache", SMALL, workers=2)
    killer.join()
    assert result.rejected.empty
    assert contents(tmp_path / "cache") == contents(cache)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_killed_at_any_moment_and_started_again_ends_with_the_same_bytes(tmp_path, study, workers):
    manifest, cache, _ = study
    target = tmp_path / "cache"
    code = (
        "from pathlib import Path; from copdvae.prepare.ingest import ingest; from copdvae.prepare.settings import IngestConfig\n"
        f"ingest(Path({str(manifest)!r}), Path({str(target)!r}), IngestConfig(grid=32), workers={workers})"
    )
    killed = 0
    for files, delay in enumerate(np.random.default_rng(workers).uniform(0, 0.1, 3)):
        with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as run:
            while run.poll() is None and len(list(target.glob("*.safetensors"))) < files:
                time.sleep(0.002)
            time.sleep(delay)
            run.kill()
        killed += run.returncode == -signal.SIGKILL
        if target.exists():
            whole = {name: content for name, content in contents(target).items() if not name.startswith(".")}
            assert whole.items() <= contents(cache).items()
    assert killed >= 2
    target.mkdir(exist_ok=True)
    time.sleep(1)  # a killed run's workers notice it a moment later, on a busy machine
    while any(is_alive(int(file.name.split(".")[-2])) for file in target.glob(".*.tmp")):
        time.sleep(0.05)
    (target / ".x.safetensors.999999999.tmp").touch()
    ingest(manifest, target, SMALL)
    assert contents(target) == contents(cache)


@pytest.mark.data
def test_real_scans_are_ingested_or_refused_as_they_should_be(tmp_path, real_data):
    for name in ("cip", "opentps_4dct", "elastix", "dcm_qa_ct/GE", "dcm_qa_ct/Philips_S4010"):
        shutil.copytree(real_data / "ct" / name, tmp_path / name)
    inhale, exhale = "opentps_4dct/inhale_phase20_dicom", "opentps_4dct/exhale_phase60_dicom"
    shutil.copytree(tmp_path / "opentps_4dct", tmp_path / "again/opentps_4dct")
    rows = [
        ("dicom", "", "cip/ct-64Dicom"), ("nrrd", "", "cip/ct-64.nrrd"), ("pair", "", inhale, exhale),
        ("swapped", "", f"again/{exhale}", f"again/{inhale}"), ("crop", "", "elastix/3DCT_lung_baseline_small.mha"),
        ("mask", "", "elastix/3DCT_lung_baseline_mask.mha"), ("mask2", "", "elastix/3DCT_lung_followup_mask.mha"),
        ("tilt", "", "dcm_qa_ct/GE"), ("report", "", "dcm_qa_ct/Philips_S4010"),
    ]  # fmt: skip
    result = ingest(write_manifest(tmp_path, rows), tmp_path / "cache", IngestConfig())
    assert list(result.index["subject_id"]) == ["dicom", "nrrd", "pair"]
    assert list(result.index["channels"]) == ["insp", "insp", "insp+exp"]
    (dicom, *_), (nrrd, *_) = (load_subject(tmp_path / "cache" / file) for file in result.index["file"][:2])
    np.testing.assert_allclose(dicom, nrrd, atol=1)  # one volume, whose spacings differ in the fifth digit
    assert ["same images" in warnings for warnings in result.index["warnings"]] == [True, True, False]
    assert reasons(result)["swapped"] == "exp_not_smaller"
    assert set(reasons(result)) == {"swapped", "crop", "mask", "mask2", "tilt", "report"}
    np.testing.assert_allclose(result.index["insp_lung_volume_l"], [4.55, 4.55, 5.44], atol=0.35)  # of PROVENANCE.md


def test_a_sharp_kernel_is_told_by_the_manifest_where_no_header_has_one(tmp_path):
    save_nifti(tmp_path / "a.nii", chest(1.0))
    save_nifti(tmp_path / "b.nii", chest(0.9))
    manifest = write_manifest(tmp_path, [("P1", "a.nii", "B70f"), ("P2", "b.nii", "B31f")], "subject_id,insp_path,kernel")
    found = ingest(manifest, tmp_path / "cache", SMALL).index
    assert ["[sharp_kernel]" in warnings for warnings in found["warnings"]] == [True, False]
    assert all("[thick_slices]" in warnings for warnings in found["warnings"])
    assert {"insp_kvp", "insp_slice_thickness_mm", "insp_contrast", "exp_contrast"} <= set(found)
