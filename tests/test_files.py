import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from copdvae.files import HOST, digest_of, in_order, replacing, sweep, write_csv, write_json, write_text


def killed_while_writing(path):
    with replacing(path) as temporary:
        temporary.write_text("half of tw")
        raise KeyboardInterrupt


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "one")
    with pytest.raises(KeyboardInterrupt):
        killed_while_writing(path)
    assert path.read_text() == "one"
    assert [found.name for found in path.parent.iterdir()] == ["a.txt"]
    write_text(path, "two")
    assert path.read_text() == "two"


def test_only_what_a_killed_process_of_ours_left_is_swept_away(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, elsewhere = tmp_path / f".a.csv.{HOST}.{gone.pid}.tmp", tmp_path / f".a.csv.h01234567.{gone.pid}.tmp"
    others = (elsewhere, tmp_path / f".a.csv.{HOST}.{os.getppid()}.tmp", tmp_path / f".theirs.{gone.pid}.tmp", tmp_path / "a.tmp")
    for path in (dead, *others):
        path.touch()
    sweep(tmp_path)
    assert set(tmp_path.iterdir()) == set(others)
    sweep(tmp_path / "nothing")


def test_a_safetensors_file_has_its_keys_in_one_order_and_the_same_content(tmp_path):
    """The library writes metadata in another order from process to process, and even from call to call."""
    arrays, metadata = {"b": np.arange(3.0), "a": np.ones((2, 2), np.int16)}, {f"k{k}": str(k) for k in range(20)}
    written = [in_order(save(arrays, metadata=metadata)) for _ in range(20)]
    assert len(set(written)) == 1
    (tmp_path / "a").write_bytes(written[0])
    with safe_open(tmp_path / "a", "numpy") as stored:
        assert stored.metadata() == metadata
        assert stored.get_tensor("b").tolist() == [0, 1, 2]
        assert stored.get_tensor("a").tolist() == [[1, 1], [1, 1]]
    length = int.from_bytes(written[0][:8], "little")
    assert list(json.loads(written[0][8 : 8 + length])["__metadata__"]) == sorted(metadata)


def test_json_holds_numbers_only(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [None, 0.1]})
    assert (tmp_path / "a.json").read_text() == '{\n "a": [\n  null,\n  0.1\n ],\n "b": 1\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", {"a": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_numbers_survive_a_csv(tmp_path):
    table = pd.DataFrame({"a": np.random.default_rng(0).normal(size=500) * 10.0 ** np.arange(-250, 250)})
    write_csv(tmp_path / "a.csv", table)
    assert (pd.read_csv(tmp_path / "a.csv", dtype=str)["a"].map(float) == table["a"]).all()


def test_a_digest_tells_parts_apart():
    assert digest_of("ab", "c") != digest_of("a", "bc")
    assert digest_of("ab") == digest_of(b"ab")
    assert len(digest_of("x")) == 12
