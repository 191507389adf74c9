"""The list of methods says what is true of each: tried out on the configurations themselves."""

import json
import re

import pytest
from test_cli import called
from tiny import METHODS, NAMES

from copdvae.config import read_yaml
from copdvae.errors import ConfigError
from copdvae.methods import BATCHES, U, as_text, as_yaml, methods, values_of, words_of
from copdvae.objectives.base import Stream

LISTED = {method["method"]: method for method in methods()}
every_method = pytest.mark.parametrize("kind", METHODS, ids=NAMES)


def of(kind) -> dict:
    return LISTED[kind.model_fields["method"].default]


def settings(name: str, value) -> dict:
    """A dotted setting as nested ones, beside the defaults of the model that it is in."""
    first, _, rest = name.partition(".")
    return {first: settings(rest, value)} if rest else {name: value}


def plain_with(kind, setting: dict) -> dict:
    """A method's defaults; on the base that a setting belongs to."""
    plain, first = kind().plain(), setting["name"].partition(".")[0]
    if setting.get("with", "") != (plain[first].get("method", "") if isinstance(plain[first], dict) and "with" in setting else ""):
        plain[first] = METHODS[NAMES.index(setting["with"])]().plain()
    return plain


def complaint(kind, setting: dict, value) -> str:
    """What is wrong with a method that has one setting changed; empty where it is taken."""
    plain, name = plain_with(kind, setting), setting["name"]
    first, _, rest = name.partition(".")
    try:
        kind.parse(plain | {first: plain[first] | settings(rest, value) if rest else value})
    except ConfigError as error:
        return str(error)
    return ""


def ends(setting: dict) -> str:
    """How the place of a setting ends in a complaint; of a union's tag it is the union's."""
    return setting["name"].removesuffix(".method").rpartition(".")[2] + ": "


def test_every_method_is_listed_once_and_in_the_union_s_order():
    assert [method["method"] for method in methods()] == NAMES


@every_method
def test_a_method_is_described_as_its_configuration_is(kind):
    found, default = of(kind), kind()
    assert (found["paper"], found["told"], found["strict"]) == (kind.paper, kind.told, kind.quirks)
    assert found["u"] == U[kind.readout]
    assert found["batches"][""] == [default.needs, *default.also]
    if "variant" in kind.model_fields:
        strict = kind(variant="strict")
        assert found["batches"].get("strict", found["batches"][""]) == [strict.needs, *strict.also]
    if any(setting["name"].endswith("variant") for setting in found["settings"]):
        assert found["strict"], "what `strict` copies has names"
    for why in found["latents"]:
        assert why in {default.misfit(u, v) for u in (1, 2, 3) for v in (0, 1, 2)}


@every_method
def test_defaults_and_choices_are_the_ones_that_are_taken(kind):
    listed = of(kind)["settings"]
    assert {setting["name"].partition(".")[0] for setting in listed} == set(kind.model_fields) - {"method", "label"}
    for setting in listed:
        here = plain_with(kind, setting)
        for part in setting["name"].split("."):
            here = here[part]
        assert setting["default"] == here, setting["name"]
        for choice in setting.get("enum", ()):
            assert "Input should be" not in complaint(kind, setting, choice)
        if "enum" in setting:
            assert re.search(rf"{ends(setting)}Input .*{setting['enum'][-1]}", complaint(kind, setting, "zzz"))


@every_method
def test_ranges_end_where_they_are_said_to_end(kind):
    for setting in of(kind)["settings"]:
        step = 1 if "whole" in setting["values"] else 1e-6
        for bound, outwards, allowed in (
            ("minimum", -1, True), ("exclusiveMinimum", -1, False), ("maximum", 1, True), ("exclusiveMaximum", 1, False),
        ):  # fmt: skip
            if bound in setting:
                edge = setting[bound]
                assert f"{ends(setting)}Input should be" in complaint(kind, setting, edge + outwards * step)
                assert ("Input should be" in complaint(kind, setting, edge)) is not allowed
                assert "Input should be" not in complaint(kind, setting, edge - outwards * step)


def test_unbounded_numbers_are_few_and_bounded_ones_are_said_so():
    assert {s["name"]: s for s in LISTED["pairwise"]["settings"]}["eta1"] == {
        "name": "eta1", "default": 10.0, "values": "number > 0", "exclusiveMinimum": 0,
    }  # fmt: skip


def test_every_stream_has_words():
    assert set(BATCHES) == set(Stream.__args__)


def test_the_command_prints_the_list_and_the_same_as_json():
    text, plain = called("methods"), called("methods", "--json")
    assert (text.exit_code, plain.exit_code) == (0, 0)
    assert json.loads(plain.stdout) == json.loads(json.dumps(methods()))
    for method in methods():
        assert method["method"] in text.stdout.splitlines()
        words = " ".join(text.stdout.split())
        for setting in method["settings"]:
            assert f"{setting['name']} {as_yaml(setting['default'])} {words_of(setting)}" in words
        for quirk, meaning in method["strict"].items():
            assert f"{quirk}: {' '.join(meaning.split())}" in words
    assert max(map(len, text.stdout.splitlines())) <= 120


@pytest.mark.parametrize("value", [None, True, False, 3, 0.5, "gold", [-2.0], [[0.0, 1.0], ["a", "b"]], []])
def test_a_default_is_shown_as_a_study_file_would_have_it(tmp_path, value):
    (tmp_path / "x.yaml").write_text(f"x: {as_yaml(value)}")
    assert read_yaml(tmp_path / "x.yaml") == {"x": value}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1}, "whole number >= 1"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "number > 0 <= 1"),
        ({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": "learned"}]}, "number > 0 or learned"),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, "true | false or nothing"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, "list of a | b"),
        ({"type": "array", "prefixItems": [{"type": "number"}, {"type": "number"}]}, "list of number"),
    ],
)
def test_what_a_setting_may_be_is_said_in_words(schema, words):
    assert values_of(schema, {}) == words


def test_variants_that_take_other_batches_are_told_apart():
    assert LISTED["factor_vae"]["batches"] == {"": ["image"], "strict": ["image", "second"]}
    assert "a step    images; strict: images, a second batch of images" in as_text([LISTED["factor_vae"]])
    assert LISTED["parted_vae"]["batches"] == {"": ["image", "label"], "labels null": ["image"]}
    assert LISTED["larvae"]["batches"] == {"": ["image", "label"], "factor_vae, strict": ["image", "second", "label"]}


def test_settings_of_the_base_that_a_method_is_built_on_are_told_apart():
    found = {(setting["name"], setting.get("with")): setting for setting in LISTED["larvae"]["settings"]}
    assert found["base.method", None]["enum"] == ["beta_vae", "factor_vae", "beta_tcvae"]
    assert found["base.beta", "beta_vae"]["default"] == 4
    assert found["base.beta", "beta_tcvae"]["default"] == 6
    assert "base.label" not in {name for name, _ in found}
