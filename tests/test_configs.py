"""Every study file that comes with copdvae loads, and forgives no misspelling."""

from pathlib import Path

import pytest

from copdvae.config import read_yaml
from copdvae.errors import ConfigError
from copdvae.objectives import MethodConfig
from copdvae.study import Study, load_study, packaged_config

FILES = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def places(content, above=()):
    """Every (path to a dictionary, key in it) of plain data."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield above, key
            yield from places(value, (*above, key))
    if isinstance(content, list):
        for number, value in enumerate(content):
            yield from places(value, (*above, number))


def misspelt(path, above, key, wrong):
    content = read_yaml(path)
    here = content
    for part in above:
        here = here[part]
    here[wrong] = here.pop(key)
    return content


def free_keys(path):
    """Places whose keys are settings' names (and not, as a table's columns are, the user's own words)."""
    for above, key in places(read_yaml(path)):
        try:
            Study.parse(misspelt(path, above, key, "zzzzzzzz"))
        except ConfigError as error:
            if "zzzzzzzz: unknown key" in str(error):
                yield above, key


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_study_file_that_comes_with_copdvae_loads(path):
    study = load_study(path)
    assert study.root.is_absolute()
    assert all(isinstance(run.method, MethodConfig) for run in study.methods)
    assert Study.parse(study.plain()) == study  # what is saved with the results is the same study
    assert packaged_config(path.name) == path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_any_misspelt_key_is_an_error_that_names_the_nearest_key(path):
    found = list(free_keys(path))
    assert len(found) > 20
    for above, key in found:
        wrong = key[0] + key  # a letter typed twice
        with pytest.raises(ConfigError) as caught:
            Study.parse(misspelt(path, above, key, wrong), path.name)
        message = str(caught.value)
        assert message.startswith(f"{path.name}: ")
        if key != "method":  # without its `method` a method is not known at all: the error says which there are
            assert f"{wrong}: unknown key; did you mean {key!r}?" in message


def test_an_unknown_method_is_an_error_that_lists_the_methods():
    content = read_yaml(FILES[0])
    content["methods"][0]["method"] = {"method": "pairwize"}
    with pytest.raises(ConfigError, match=r"methods\.0\.method.*'pairwise'.*found"):
        Study.parse(content)


def test_two_runs_of_one_method_need_labels():
    content = read_yaml(FILES[0]) | {"methods": [{"method": {"method": "vae"}}, {"method": {"method": "vae"}}]}
    with pytest.raises(ConfigError, match="label"):
        Study.parse(content)
    content["methods"][1]["method"]["label"] = "again"
    assert [run.method.name for run in Study.parse(content).methods] == ["vae", "again"]


def test_a_method_that_the_study_does_not_have_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"pairwize: no such method in demo; it has .*pairwise"):
        load_study(packaged_config("demo.yaml")).only("pairwize")
