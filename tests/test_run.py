"""The main job on a tiny study: from DICOM and CSV to a page, killed and started again, from the command line."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors import safe_open

from copdvae.report.files import read_study
from copdvae.report.tables import best_of, first_scores
from copdvae.run import run
from copdvae.study import load_study
from copdvae.tables import load_tables

TINY = {
    "name": "tiny",
    "phantom": {"subjects": 36, "size": 32, "seed": 3},
    "data": {
        "manifest": "study/manifest.csv",
        "phenotypes": "study/phenotypes.csv",
        "truth": "study/truth.csv",
        "planted": "study/planted.csv",
    },
    "ingest": {"grid": 32},
    "split": {"train": 20, "validation": 6, "test": "rest"},
    "network": {"widths": [4, 8, 8], "hidden": 16, "u": 1, "v": 9},
    "train": {"steps": 12, "batch": 8, "save_every": 4, "log_every": 4, "threads": 1},
    "methods": [
        {"method": {"method": "vae"}},
        {"method": {"method": "pairwise"}},
        {"method": {"method": "supervised"}},
        {"method": {"method": "wela_vae", "variant": "strict"}},
        {"method": {"method": "ss_beta_vae", "labels": {"columns": ["fev1_fvc"], "fraction": 0.5}}},
        {"method": {"method": "parted_vae"}},
    ],
    "evaluate": {"draws": 100},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A tiny study that was run undisturbed."""
    root = tmp_path_factory.mktemp("tiny")
    (root / "study.yaml").write_text(yaml.safe_dump(TINY))
    run(load_study(root), workers=1)
    return root


def latents(root: Path) -> dict[str, str]:
    """A digest of every run's latents."""
    return {path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.glob("runs/*/latents.parquet")}


@pytest.mark.slow
def test_a_run_ends_with_scores_of_every_method_baseline_and_target(finished):
    scores = pd.read_csv(finished / "scores.csv")
    trained = {"vae", "pairwise", "supervised", "wela_vae", "ss_beta_vae", "parted_vae"}
    assert set(scores["method"]) == trained | {"mean", "densitometry", "age_sex_height", "density_probe"}
    labels = scores["metric"].isin(["label_l2", "accuracy"])
    for method in set(scores["method"]):
        assert set(scores.loc[~labels & (scores["method"] == method), "target"]) == {"fev1_pp", "emphysema_pct", "gas_trapping_pct", "gold"}
    assert list(scores.columns) == ["method", "seed", "target", "metric", "value", "low", "high", "ceiling", "n", "note"]
    mean = scores[(scores["method"] == "mean") & (scores["metric"] == "r2")]
    assert (mean["value"] <= 0).all()
    assert set(scores.loc[scores["note"] == "identity", "method"]) == {"densitometry"}
    assert (finished / "report.html").stat().st_size > 100_000
    assert 'href="qc.html"' in (finished / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_run_leaves_a_page_of_its_subjects_and_the_command_writes_it_again(finished):
    page = finished / "qc.html"
    table = pd.read_csv(finished / "qc.csv").set_index("subject_id")
    planted = pd.read_csv(finished / "study/planted.csv")["subject_id"]
    assert table.loc[planted, "expected"].eq("yes").all()
    assert table["state"].value_counts()["kept"] == 36
    assert page.read_text(encoding="utf-8").count("data:image/png") == 2 * (table["state"] != "rejected").sum()
    page.unlink()
    done = subprocess.run(
        [sys.executable, "-m", "copdvae.cli", "qc", finished, "--pictures", "3"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(page)
    assert page.read_text(encoding="utf-8").count("data:image/png") == 2 * 3


@pytest.mark.slow
def test_a_run_that_leaks_is_scored_and_marked_and_compared_with_nothing(finished):
    scores, differences = pd.read_csv(finished / "scores.csv"), pd.read_csv(finished / "differences.csv")
    assert set(scores.loc[scores["note"] == "leaks", "method"]) == {"wela_vae"}
    assert (scores.loc[scores["method"] == "wela_vae", "note"] == "leaks").all()
    assert "pairwise" in set(differences["method"])
    assert "wela_vae" not in {*differences["method"], *differences["other"]}
    study = read_study(finished)
    assert study.kind("wela_vae") == "leaks"
    assert "wela_vae" not in {row["method"] for row in best_of(first_scores(study)).values()}


@pytest.mark.slow
def test_a_code_that_tells_nothing_is_told_of_in_run_json_evaluation_and_page(finished):
    """After twelve steps some have learnt nothing yet: what their run.json says is what a reader meets first."""
    facts = [json.loads(path.read_text()) for path in finished.glob("runs/*/run.json")]
    collapsed = {f"{fact['label']}, seed {fact['seed']}: {fact['collapse']}" for fact in facts if fact["collapse"]}
    assert collapsed, "otherwise this test shows nothing"
    assert set(json.loads((finished / "evaluation.json").read_text())["warnings"]) == collapsed
    page = (finished / "report.html").read_text()
    for warning in collapsed:
        assert warning.partition(": ")[2] in page[page.index("Read th") : page.index('id="summary"')]


@pytest.mark.slow
def test_labels_that_a_method_infers_are_scored_beside_what_knows_nothing(finished):
    """By hand, from the study's own tables."""
    scores = pd.read_csv(finished / "scores.csv")
    found = scores[scores["metric"].isin(["label_l2", "accuracy"])].set_index(["method", "target", "metric"])["value"]
    l2, share = ("fev1_fvc", "label_l2"), ("gold", "accuracy")
    assert set(found.index) == {("ss_beta_vae", *l2), ("mean", *l2), ("parted_vae", *share), ("mean", *share)}
    people = pd.read_csv(finished / "cohort.csv").set_index("subject_id")
    train, test = (people[people["split"] == part] for part in ("train", "test"))
    z = ((test["fev1_fvc"] - train["fev1_fvc"].mean()) / train["fev1_fvc"].std(ddof=0)).dropna()
    u = pd.read_parquet(next(finished.glob("runs/ss_beta_vae-*")) / "latents.parquet").set_index("subject_id")["u_0"]
    assert found["mean", *l2] == pytest.approx(z.abs().mean(), rel=1e-5)
    assert found["ss_beta_vae", *l2] == pytest.approx((u[z.index] - z).abs().mean(), rel=1e-5)
    shares = pd.read_parquet(next(finished.glob("runs/parted_vae-*")) / "latents.parquet").set_index("subject_id")
    known = test.index[test["gold"] >= -1]
    inferred = shares.loc[known, [f"c_gold_{k}" for k in range(6)]].to_numpy().argmax(axis=1) - 1
    assert found["parted_vae", *share] == pytest.approx((inferred == test.loc[known, "gold"]).mean())
    most = train.loc[train["gold"] >= -1, "gold"].mode().iloc[0]
    assert found["mean", *share] == pytest.approx((test.loc[known, "gold"] == most).mean())
    assert "as the methods themselves read" in (finished / "report.html").read_text()


@pytest.mark.slow
def test_pictures_are_of_the_latents_that_are_scored(finished):
    """Also of a method whose encoder is given labels: each walk goes from the 2nd to the 98th percentile of its latent."""
    walked = []
    for folder in finished.glob("runs/*"):
        with safe_open(folder / "pictures.safetensors", "numpy") as file:
            about, ends = file.metadata(), file.get_tensor("traversal_u")[[0, -1]] if "traversal_u" in file.keys() else None  # noqa: SIM118
        if ends is None:
            continue
        table = pd.read_parquet(folder / "latents.parquet")
        known = table["split"].eq("train") & table["subject_id"].isin(load_tables(load_study(finished)).targets["fev1_pp"].dropna().index)
        np.testing.assert_allclose(ends, np.percentile(table.loc[known, about["latent"]], [2, 98]), atol=1e-5)
        walked.append(folder.name.split("-")[0])
    assert {"vae", "pairwise", "wela_vae", "ss_beta_vae", "parted_vae"} == set(walked)


@pytest.mark.slow
def test_planted_faults_are_rejected_and_expected_and_nothing_else_is(finished):
    rejected = pd.read_csv(finished / "rejected.csv")
    planted = pd.read_csv(finished / "study" / "planted.csv")
    assert set(zip(rejected["subject_id"], rejected["reason"], strict=True)) == set(
        zip(planted["subject_id"], planted["reason"], strict=True)
    )
    assert set(rejected["expected"]) == {"yes"}


@pytest.mark.slow
def test_subjects_whom_a_method_leaves_out_for_want_of_a_scan_are_told_of(finished, tmp_path):
    root = tmp_path / "study"
    shutil.copytree(finished, root, ignore=shutil.ignore_patterns("runs"))
    manifest = pd.read_csv(root / "study/manifest.csv", dtype=str, keep_default_na=False)
    kept = load_tables(load_study(root)).index.index
    lacking = list(kept[[2, 9, 30]])
    manifest.loc[manifest["subject_id"].isin(lacking), ["exp_path", "exp_mask_path", "exp_series"]] = ""
    manifest.to_csv(root / "study/manifest.csv", index=False)
    alone = {"method": {"method": "beta_vae"}, "input": {"channels": ["insp"]}}
    settings = TINY | {"methods": [{"method": {"method": "vae"}}, alone], "input": {"incomplete": "exclude"}}
    (root / "study.yaml").write_text(yaml.safe_dump(settings))
    run(load_study(root), workers=1)
    rejected = pd.read_csv(root / "rejected.csv", dtype=str)
    told = rejected[rejected["stage"] == "training"]
    assert list(told["subject_id"]) == lacking
    assert set(told["reason"]) == {"lacks_scan"}
    assert set(told["detail"]) == {"only insp was prepared; vae needs insp and exp"}
    assert list(read_study(root).lacking["subject_id"]) == lacking
    assert "3 subjects have no score of some methods" in (root / "report.html").read_text()


@pytest.mark.slow
def test_no_subject_is_on_two_sides_and_training_knows_no_label_of_a_test_subject(finished):
    from copdvae.tables import cohort_labels

    tables = load_tables(load_study(finished))
    told = cohort_labels(tables)
    assert not set(told.index) & set(tables.split.index[tables.split == "test"])
    assert tables.split.index.is_unique


@pytest.mark.slow
def test_a_second_run_does_nothing_again(finished):
    before = latents(finished)
    times = {path: path.stat().st_mtime_ns for path in finished.glob("runs/*/*")}
    run(load_study(finished), workers=1)
    assert latents(finished) == before
    assert {path: path.stat().st_mtime_ns for path in finished.glob("runs/*/*") if path.name != ".lock"}.items() <= times.items()


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [4.0, 9.0])
def test_a_killed_run_started_again_ends_with_the_same_latents(finished, tmp_path, seconds):
    """SIGKILL to the whole process group, again and again, each time a little later; then once more to the end."""
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(TINY))
    command = [sys.executable, "-m", "copdvae.cli", "run", str(tmp_path), "--workers", "2", "--jobs", "2"]
    for attempt in range(3):
        process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(seconds * (attempt + 1))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert subprocess.run(command, capture_output=True, text=True).returncode == 0
    assert latents(tmp_path) == latents(finished)


@pytest.mark.slow
def test_sigterm_checkpoints_and_exits_75_and_the_same_command_goes_on(finished, tmp_path):
    slow = TINY | {"train": TINY["train"] | {"steps": 4000, "save_every": 4000}}
    for name in ("study", "cache"):
        (tmp_path / name).symlink_to(finished / name)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(slow))
    command = [sys.executable, "-m", "copdvae.cli", "train", str(tmp_path), "--only", "vae"]
    prepare = [sys.executable, "-m", "copdvae.cli", "ingest", str(tmp_path), "--workers", "1"]
    assert subprocess.run(prepare, capture_output=True).returncode == 0
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:  # the first line of the log says that training has begun
        if "step" in line:
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert list(tmp_path.glob("runs/*/checkpoint.safetensors"))
    assert not list(tmp_path.glob("runs/*/run.json"))


@pytest.mark.slow
def test_no_artefact_names_the_machine_or_a_header(finished):
    """No absolute path, no UID root of the phantom's DICOM files, no PatientName in anything that copdvae wrote about the study."""
    ours = [path for path in finished.rglob("*") if path.is_file() and "study" not in path.relative_to(finished).parts]
    assert len(ours) > 20
    for path in ours:
        content = path.read_bytes()
        for word in (str(finished).encode(), b"PHANTOM^", b"1.2.826"):
            assert word not in content, f"{path.name} holds {word!r}"
