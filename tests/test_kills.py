"""A few kills of ingest and train at random moments, and while they write; `kills.py` makes more."""

import json
import os
import subprocess
import sys
from pathlib import Path

import kills
import numpy as np
import pytest
from safetensors.numpy import save_file


@pytest.mark.slow
def test_what_is_killed_at_any_moment_goes_on_to_the_same_bytes(tmp_path):
    """In a process of its own, which forks the commands that it kills."""
    command = [sys.executable, kills.__file__, "--kills", "3", "--aimed", "2", "--seed", "1", "--out", str(tmp_path / "kills.json")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads((tmp_path / "kills.json").read_text())
    assert found["kills"] == 10
    assert {one["stage"] for one in found["each"] if one["killed"]} >= {"ingest, 1 worker", "train"}
    assert found["during_a_write"] >= 1


@pytest.mark.parametrize("damage", ["cut", "other", "unknown", "checkpoint", "log"])
def test_a_file_that_is_half_written_is_noticed(tmp_path, damage):
    """What the script compares."""
    run = tmp_path / "runs/a"
    run.mkdir(parents=True)
    (tmp_path / "index.csv").write_text("a,b\n1,2\n")
    (run / "log.csv").write_text("step\n1\n")
    save_file({"w": np.ones(3)}, run / "checkpoint.safetensors")
    whole = kills.contents(tmp_path)
    assert kills.half_written(tmp_path, whole) == ""
    if damage == "cut":
        (tmp_path / "index.csv").write_text("a,b\n1")
    elif damage == "other":
        (tmp_path / "index.csv").write_text("a,b\n1,3\n")
    elif damage == "unknown":
        (tmp_path / "index.csv.1").touch()
    elif damage == "log":
        (run / "log.csv").write_text("step\n1\n2")
    else:
        (run / "checkpoint.safetensors").write_bytes((run / "checkpoint.safetensors").read_bytes()[:-1])
    assert kills.half_written(tmp_path, whole)
    (tmp_path / ".index.csv.h0.1.tmp").touch()
    assert [path.name for path in kills.temporary(tmp_path)] == [".index.csv.h0.1.tmp"]
    assert not any(name.endswith(".tmp") for name in kills.contents(tmp_path))
