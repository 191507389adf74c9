"""The list of methods says what is true of each: tried out on the configurations themselves."""

import json

import pytest
from test_cli import called
from tiny import METHODS, NAMES

from copdvae.config import read_yaml
from copdvae.errors import ConfigError
from copdvae.methods import BATCHES, U, as_text, as_yaml, methods, values_of
from copdvae.objectives.base import Stream

LISTED = {method["method"]: method for method in methods()}
every_method = pytest.mark.parametrize("kind", METHODS, ids=NAMES)


def of(kind) -> dict:
    return LISTED[kind.model_fields["method"].default]


def settings(name: str, value) -> dict:
    """A dotted setting as nested ones, beside the defaults of the model that it is in."""
    first, _, rest = name.partition(".")
    return {first: settings(rest, value)} if rest else {name: value}


def complaint(kind, name: str, value) -> str:
    """What is wrong with a method that has one setting changed; empty where it is taken."""
    plain = kind().plain()
    first, _, rest = name.partition(".")
    try:
        kind.parse(plain | {first: plain[first] | settings(rest, value) if rest else value})
    except ConfigError as error:
        return str(error)
    return ""


def test_every_method_is_listed_once_and_in_the_union_s_order():
    assert [method["method"] for method in methods()] == NAMES


@every_method
def test_a_method_is_described_as_its_configuration_is(kind):
    found, default = of(kind), kind()
    assert (found["paper"], found["told"], found["strict"]) == (kind.paper, kind.told, kind.quirks)
    assert found["u"] == U[kind.readout]
    for variant, streams in found["batches"].items():
        config = kind(variant=variant) if variant else default
        assert streams == [config.needs, *config.also]
    if "variant" in kind.model_fields:
        assert found["strict"], "what `strict` copies has names"
    for why in found["latents"]:
        assert why in {default.misfit(u, v) for u in (1, 2, 3) for v in (0, 1, 2)}


@every_method
def test_defaults_and_choices_are_the_ones_that_are_taken(kind):
    listed = {setting["name"]: setting for setting in of(kind)["settings"]}
    assert {name.partition(".")[0] for name in listed} == set(kind.model_fields) - {"method", "label"}
    for name, setting in listed.items():
        here = kind().plain()
        for part in name.split("."):
            here = here[part]
        assert setting["default"] == here, name
        for choice in setting.get("enum", ()):
            assert "Input should be" not in complaint(kind, name, choice)
        if "enum" in setting:
            assert f"{name}: Input should be" in complaint(kind, name, "zzz")


@every_method
def test_ranges_end_where_they_are_said_to_end(kind):
    for setting in of(kind)["settings"]:
        name, whole = setting["name"], "whole" in setting["values"]
        step = 1 if whole else 1e-6
        for bound, outwards, allowed in (
            ("minimum", -1, True), ("exclusiveMinimum", -1, False), ("maximum", 1, True), ("exclusiveMaximum", 1, False),
        ):  # fmt: skip
            if bound in setting:
                edge = setting[bound]
                assert f"{name}: Input should be" in complaint(kind, name, edge + outwards * step)
                assert ("Input should be" in complaint(kind, name, edge)) is not allowed
                assert "Input should be" not in complaint(kind, name, edge - outwards * step)


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
            assert f"{setting['name']} {as_yaml(setting['default'])} {setting['values']}" in words
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
    made = LISTED["vae"] | {"batches": {"fixed": ["image"], "strict": ["image", "second"]}}
    assert "a step    fixed: images; strict: images, a second batch of images" in as_text([made])
