import numpy as np
import pandas as pd
import pytest

from copdvae.files import digest_of, replacing, write_csv, write_json, write_text


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
