import pytest
from pydantic import Field, ValidationError

from copdvae.config import Config, read_yaml
from copdvae.errors import ConfigError


class Inner(Config):
    seeds: int = 0
    weight: float = Field(default=1.0, ge=0)


class Outer(Config):
    seed: int = 0
    inner: Inner = Inner()
    several: tuple[Inner, ...] = ()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sede": 1}, "sede: unknown key; did you mean 'seed'"),
        ({"inner": {"wieght": 1}}, "inner.wieght: unknown key; did you mean 'weight'"),
        ({"several": [{}, {"seedz": 1}]}, "several.1.seedz: unknown key; did you mean 'seeds'"),  # not `seed`, which belongs elsewhere
        ({"weight": 1}, "weight: unknown key; did you mean 'inner.weight'"),
        ({"xyz": 1}, "xyz: unknown key$"),
        ({"inner": {"weight": -1}}, "inner.weight: .*greater than or equal to 0, found -1"),
        ({"inner": {"weight": float("inf")}}, "inner.weight: .*finite"),
        ({"seed": "many"}, "seed: .*integer.*'many'"),
        ([1], "dictionary"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_nearest_key(settings, words):
    with pytest.raises(ConfigError, match=words) as caught:
        Outer.parse(settings, "study.yaml")
    assert str(caught.value).startswith("study.yaml: ")


def test_all_mistakes_are_named_at_once():
    with pytest.raises(ConfigError, match=r"inner\.weight.*sede"):
        Outer.parse({"sede": 1, "inner": {"weight": -1}})


def test_a_configuration_does_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        Inner().seeds = 3  # type: ignore[misc]


def test_the_digest_changes_with_any_setting_and_survives_a_round_trip():
    one, other = Outer(), Outer(inner=Inner(weight=1.5))
    assert one.digest() != other.digest()
    assert Outer.parse(other.plain()) == other
    assert Outer.parse(other.plain()).digest() == other.digest()


@pytest.mark.parametrize(
    ("content", "words"), [(b"a: [1", "not a YAML"), (b"\xff\xfe\x00", "not a YAML"), (b"!!python/object:os.system {}", "not a YAML")]
)
def test_a_file_that_is_not_plain_yaml_is_refused_by_name(tmp_path, content, words):
    (tmp_path / "odd.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        read_yaml(tmp_path / "odd.yaml")
    assert "odd.yaml" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        read_yaml(tmp_path / "none.yaml")
