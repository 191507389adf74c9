"""Files that mean harm: each is tried, and each is refused or does nothing."""

import ast
import csv
import json
import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from tiny import made_net

import copdvae
from copdvae.checkpoint import load_checkpoint, save_checkpoint
from copdvae.config import read_yaml
from copdvae.errors import ConfigError, CopdvaeError, printable
from copdvae.files import escape, read_csv, unescape, write_csv
from copdvae.prepare import scans as module
from copdvae.prepare.cached import load_metadata, load_subject
from copdvae.prepare.ingest import ingest
from copdvae.prepare.scans import prepare_scan
from copdvae.prepare.settings import IngestConfig
from copdvae.read.phenotypes import PhenotypesConfig
from copdvae.report.files import read_study
from copdvae.study import load_study
from copdvae.tables import phenotypes_of, usable

sys.path.insert(0, str(Path(__file__).parent / "prepare"))  # its helpers
from chests import chest, save_nifti

IDS = [
    "=cmd|' /C calc'!A0", "@SUM(1+1)*cmd|' /C calc'!A0", "+1+1", "-2+3", "-5", "1e3", "'=1+1", "''@x", "'quoted'",
    "<script>alert(1)</script>", "{{ 7 * 7 }}", "a;b", 'a"b', "line\nbreak", "../../up", "/etc/passwd", "None", "<NA>", "-nan", "True",
    "007", "\x1b[2J", "名前", "x" * 500,
]  # fmt: skip


class Bomb:
    """Unpickling this writes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def harm(tmp_path):
    """A file that appears where something was run; nothing may have."""
    path = tmp_path / "harm"
    yield path
    assert not path.exists(), "a file was run and not read"


def test_the_bomb_goes_off_where_it_is_loaded(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "harm")))
    assert (tmp_path / "harm").exists()


def zipped_pickle(harm: Path) -> bytes:
    """What `torch.save` writes."""
    path = harm.with_name("saved.pt")
    torch.save({"net": Bomb(harm)}, path)
    return path.read_bytes()


def safetensors_of(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return struct.pack("<Q", len(text)) + text + data


def checkpoints(harm: Path) -> dict[str, bytes]:
    facts = {"facts": json.dumps({"step": 1, "best": {}})}
    numbers = {f"net/{key}": value.numpy() for key, value in made_net().state_dict().items()}
    return {
        "a pickle": pickle.dumps(Bomb(harm)),
        "what torch saves": zipped_pickle(harm),
        "a huge header": struct.pack("<Q", 1 << 62) + b"{",
        "a huge tensor": safetensors_of({"net/x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
        "overlapping tensors": safetensors_of(
            {name: {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]} for name in ("net/a", "net/b")}, bytes(4)
        ),
        "no facts": save(numbers),
        "facts that are no facts": save(numbers, metadata={"facts": "[1]"}),
        "facts without a bottom": save(numbers, metadata={"facts": "[" * 100_000}),
        "facts that are no JSON": save(numbers, metadata={"facts": "{'step': __import__('os')}"}),
        "a state of no weight": save(numbers | {"adam/model/99999/exp_avg": np.zeros(1, np.float32)}, metadata=facts),
        "a state with no number": save(numbers | {"adam/model/../exp_avg": np.zeros(1, np.float32)}, metadata=facts),
        "a state of another shape": save(
            numbers
            | {f"adam/model/0/{slot}": np.zeros((1, 2, 3), np.float32) for slot in ("exp_avg", "exp_avg_sq")}
            | {"adam/model/0/step": np.zeros((), np.float32)},
            metadata=facts,
        ),
    }


NAMES = [
    "a pickle", "what torch saves", "a huge header", "a huge tensor", "overlapping tensors", "no facts", "facts that are no facts",
    "facts without a bottom", "facts that are no JSON", "a state of no weight", "a state with no number", "a state of another shape",
]  # fmt: skip


@pytest.mark.parametrize("kind", NAMES)
def test_a_hostile_checkpoint_is_refused(tmp_path, harm, kind):
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(checkpoints(harm)[kind])
    net = made_net()
    optimizer = torch.optim.Adam(net.parameters())
    with pytest.raises(CopdvaeError, match=r"checkpoint\.safetensors: (not a checkpoint|made by another)"):
        load_checkpoint(path, {"net": net}, {"model": optimizer})


def test_a_sound_checkpoint_passes_the_same_checks(tmp_path):
    net = made_net()
    optimizer = torch.optim.Adam(net.parameters())
    sum(weight.sum() for weight in net.parameters()).backward()
    optimizer.step()
    save_checkpoint(tmp_path / "c", {"net": net}, {"model": optimizer}, {"step": 1})
    assert load_checkpoint(tmp_path / "c", {"net": net}, {"model": optimizer}) == {"step": 1}


@pytest.mark.parametrize("kind", ["a pickle", "what torch saves", "a huge header", "a huge tensor", "overlapping tensors", "no facts"])
def test_a_hostile_cache_file_is_refused(tmp_path, harm, kind):
    path = tmp_path / "subject.safetensors"
    path.write_bytes(checkpoints(harm)[kind])
    with pytest.raises(CopdvaeError, match="delete it and ingest again"):
        load_subject(path)
    if kind != "no facts":
        with pytest.raises(CopdvaeError, match="delete it and ingest again"):
            load_metadata(path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"image": np.zeros((2, 4, 4, 4), np.float32), "lung": np.zeros((2, 4, 4, 4), np.uint8)},
        {"image": np.zeros((2, 4, 4, 4), np.int16), "lung": np.zeros((1, 4, 4, 4), np.uint8)},
        {"image": np.zeros(4, np.int16), "lung": np.zeros(4, np.uint8)},
    ],
)
def test_arrays_of_another_shape_or_type_never_reach_training(tmp_path, arrays):
    (tmp_path / "subject.safetensors").write_bytes(save(arrays))
    with pytest.raises(CopdvaeError, match="delete it and ingest again"):
        load_subject(tmp_path / "subject.safetensors")


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:pathlib.Path.touch [{harm}]", "!!python/object/apply:os.system ['touch {harm}']", "!!python/name:os.system",
        "!!python/module:os", "!!python/object/new:os.system ['touch {harm}']", "name: !!python/tuple [1, 2]", "name: !include {harm}",
        "when: 2001-99-99", "a: !!int ''", "a: !!bool maybe", "a: !!float x", "a: !!timestamp then", "? [1]\n: 2", "a: &a [*a]", "a: *b",
        "a: &a {{b: *a}}", "<<: 3", "a: [\n", "\ta: 1", "a: \x00", "%YAML 9.9\n---\na: 1", "- " * 5000, "a: " + "9" * 5000, "\ufffe",
        "a: 1e99999999999", "a: 1:99999999999999999999999999999999999999",
    ],
)  # fmt: skip
def test_a_hostile_settings_file_is_refused_or_read_as_plain_data(tmp_path, harm, text):
    path = tmp_path / "study.yaml"
    path.write_text(text.replace("{harm}", str(harm)).replace("{{", "{").replace("}}", "}"))
    try:
        found = read_yaml(path)
    except ConfigError as error:
        assert str(error).startswith(f"{path}: not a YAML file")  # noqa: PT017  either is right
    else:
        json.dumps(found, default=str)
    with pytest.raises(ConfigError):
        load_study(path)


def test_aliases_and_lists_in_lists_that_a_person_may_write_are_read(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &a [1, [2, [3]]]\nb: *a\nc: {<<: {d: 1}, e: 2}\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": [1, [2, [3]]], "b": [1, [2, [3]]], "c": {"d": 1, "e": 2}}


def test_a_wrong_value_is_shown_in_part_and_a_thousand_mistakes_are_counted():
    with pytest.raises(ConfigError) as caught:
        PhenotypesConfig.parse({"columns": "x" * 10_000} | {f"key{k}": 1 for k in range(1000)}, "study.yaml")
    assert len(str(caught.value)) < 3000
    assert "and 981 more" in str(caught.value)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"leaks": ' + "[" * 100_000, "\x00", "null", "[1]", "\ud800"])
def test_a_hostile_run_is_told_about_on_the_page_and_stops_nothing(tmp_path, content):
    folder = tmp_path / "runs" / "r"
    folder.mkdir(parents=True)
    for name in ("run.json", "config.yaml"):
        (folder / name).write_bytes(content.encode("utf-8", "surrogatepass"))
    study = read_study(tmp_path)
    assert {name for name in study.missing if name.startswith("runs/r/")} >= {"runs/r/run.json", "runs/r/config.yaml"}


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=8) | st.sampled_from(IDS))
def test_escaped_text_is_no_formula_and_comes_back(text):
    written = escape(text)
    assert unescape(written) == text
    assert not written.startswith(("=", "@", "\t", "\r", "\n"))
    if written.startswith(("+", "-")):
        float(written)


@settings(max_examples=30)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="'\""), max_size=6) | st.sampled_from(IDS),
        min_size=1,
        max_size=6,
    )
)
def test_any_id_comes_back_from_our_own_tables(tmp_path_factory, ids):
    path = tmp_path_factory.mktemp("t") / "t.csv"
    table = pd.DataFrame({"subject_id": ids, "value": np.arange(len(ids)) - 1.5, "=2+2": "x"})
    write_csv(path, table)
    back = read_csv(path, text=("subject_id", "=2+2"))
    assert back["subject_id"].tolist() == ids
    assert list(back) == list(table)
    np.testing.assert_array_equal(back["value"], table["value"])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    path = save_nifti(tmp_path_factory.mktemp("one") / "a.nii", chest(1.0))
    return path, prepare_scan(path, config=IngestConfig(grid=32))


def test_any_id_survives_from_the_manifest_to_the_tables_of_a_study(tmp_path, prepared, monkeypatch):
    """The scan is one and the same; ids, files, tables and what the study makes of them are real."""
    scan, made = prepared
    monkeypatch.setattr(module, "prepare_scan", lambda *_: made)
    (tmp_path / "ct").mkdir()
    rows = []
    for number, name in enumerate(IDS):
        (tmp_path / f"ct/{number}.nii").write_bytes(scan.read_bytes())
        rows.append({"subject_id": name, "insp_path": f"ct/{number}.nii", "site": name, "kernel": name})
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    people = {"gender": 1, "age_visit": 60, "FEV1_utah": 3.0, "FVC_utah": 4.0, "FEV1_FVC_utah": 0.75, "FEV1pp_utah": 90, "finalGold": 0}
    pd.DataFrame([{"sid": row["subject_id"]} | people for row in rows]).to_csv(tmp_path / "phenotypes.csv", index=False)

    result = ingest(tmp_path / "manifest.csv", tmp_path / "cache", IngestConfig(grid=32))
    assert sorted(result.index["subject_id"]) == sorted(IDS)
    assert {path.parent for path in tmp_path.rglob("*.safetensors")} == {tmp_path / "cache"}
    with (tmp_path / "cache/index.csv").open(newline="") as written:
        cells = {cell for row in csv.reader(written) for cell in row if cell.startswith(("=", "@", "+", "-", "\t", "\r", "\n"))}
    assert {float(cell) for cell in cells} > {-5}  # numbers alone

    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"name": "n", "methods": [{"method": {"method": "vae"}}]}))
    study = load_study(tmp_path)
    index = usable(study, phenotypes_of(study))
    assert sorted(index["subject_id"]) == sorted(IDS)
    assert sorted(index["site"]) == sorted(IDS)


@pytest.mark.parametrize("text", ["\x1b[2J\x1b]0;title\x07", "a\rb", "a\nb", "\u202egnp.exe", "\x00", "\udcf6", "\x9b1m"])
def test_nothing_that_a_terminal_obeys_is_printed(text):
    shown = printable(f"subject {text}: bad")
    assert shown.isprintable()
    assert shown.encode()


FORBIDDEN = {
    "pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "eval", "exec", "system", "popen", "read_pickle",
    "to_pickle", "unsafe_load", "full_load", "UnsafeLoader", "FullLoader",
}  # fmt: skip
MODULES = sorted(Path(copdvae.__file__).parent.rglob("*.py"))


def loads_tensors_alone(call: ast.Call) -> bool:
    """Whether this is `torch.load(..., weights_only=True)`, spelt out."""
    named = isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) and call.func.value.id == "torch"
    return named and any(word.arg == "weights_only" and getattr(word.value, "value", None) is True for word in call.keywords)


def suspects(text: str) -> set[str]:
    """Ways to run what a file says, by their names in a module."""
    found, tree = set(), ast.parse(text)
    safe = {id(call.func) for call in ast.walk(tree) if isinstance(call, ast.Call) and loads_tensors_alone(call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "pickle" and [alias.name for alias in node.names] == ["UnpicklingError"]:
            continue  # what `torch.load` raises
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found |= {part for name in names for part in name.split(".")} & FORBIDDEN
        if isinstance(node, ast.Attribute):
            if node.attr in FORBIDDEN and not (node.attr == "eval" and isinstance(node.ctx, ast.Load)):
                found.add(node.attr)
            loads = node.attr == "load" and isinstance(node.value, ast.Name) and node.value.id in ("torch", "np", "numpy")
            if loads and id(node) not in safe:
                found.add(f"{node.value.id}.load")
        if isinstance(node, ast.Name) and node.id in FORBIDDEN:
            found.add(node.id)
        if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "shell") and getattr(node.value, "value", True):
            found.add(node.arg)
        if isinstance(node, ast.keyword) and node.arg == "weights_only" and not getattr(node.value, "value", False):
            found.add(node.arg)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_module_can_load_a_pickle_or_run_what_a_file_says(path):
    assert not suspects(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "line",
    ["import pickle", "from pickle import loads", "torch.load(f)", "np.load(f)", "np.load(f, allow_pickle=True)", "pd.read_pickle(f)",
     "eval(text)", "yaml.load(f, yaml.UnsafeLoader)", "subprocess.run(c, shell=True)", "torch.load(f, weights_only=False)", "os.system(c)",
     "torch.load(f, weights_only=safe)", "np.load(f, weights_only=True)", "from pickle import UnpicklingError, loads",
     "loads = torch.load"],
)  # fmt: skip
def test_no_way_to_run_a_file_goes_unseen(line):
    assert suspects(line)


def test_tensors_alone_may_be_loaded_where_it_is_spelt_out():
    assert not suspects("from pickle import UnpicklingError\ntorch.load(f, map_location='cpu', weights_only=True)")
