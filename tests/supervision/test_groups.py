import numpy as np
import pandas as pd
import pytest

from copdvae.errors import ConfigError
from copdvae.supervision.groups import GroupsConfig, group_table


def people(stages) -> pd.DataFrame:
    return pd.DataFrame({"gold": np.array(stages, float)})


STAGES = [0] * 30 + [1] * 10 + [2] * 3 + [3] + [-2] * 5 + [np.nan] * 4


@pytest.mark.parametrize("size", [2, 3])
def test_members_of_a_group_are_distinct_and_of_one_known_class(size):
    table = people(STAGES)
    drawn = group_table(table, GroupsConfig(size=size)).draw(500, np.random.default_rng(0))
    assert drawn.shape == (500, size)
    stages = table["gold"].to_numpy()[drawn]
    assert (stages == stages[:, :1]).all()
    assert set(stages.ravel()) == {0.0, 1.0, 2.0}, "a lone subject, never-smokers and unknowns are in no group"
    assert all(len(set(group)) == size for group in drawn)


def test_classes_are_drawn_as_often_as_they_have_members():
    drawn = group_table(people(STAGES), GroupsConfig()).draw(20_000, np.random.default_rng(0))
    counts = np.bincount(drawn.ravel(), minlength=43)[:43]
    assert counts.min() > 0.85 * counts.mean()
    assert counts.max() < 1.15 * counts.mean()


def test_all_groups_hold_everyone_once_but_for_a_class_s_remainder():
    table = group_table(people(STAGES), GroupsConfig())
    found = table.all()
    assert found.shape == (15 + 5 + 1, 2)
    assert len(np.unique(found)) == found.size
    np.testing.assert_array_equal(found, table.all())


@pytest.mark.parametrize(
    ("table", "settings", "words"),
    [
        (people(STAGES), {"column": "stage"}, "stage not in the table; it has gold"),
        (people(np.random.default_rng(0).normal(size=40)), {}, "40 different values in 40 subjects; groups need classes"),
        (people([0, 1, 2, 3]), {}, "4 different values in 4 subjects|no class of gold has 2 subjects"),
        (people([0, 1, 2, 0, 1, 2]), {"size": 3}, "no class of gold has 3 subjects among 6"),
        (pd.DataFrame({"gold": ["mild", "mild"]}), {}, "holds words"),
    ],
)
def test_a_column_that_cannot_say_who_is_alike_is_refused(table, settings, words):
    with pytest.raises(ConfigError, match=words):
        group_table(table, GroupsConfig(**settings))


@pytest.mark.parametrize("subjects", [60, 360, 20_000])
def test_whole_numbers_that_measure_something_are_no_classes_however_many_subjects_there_are(subjects):
    """Age in years: in a large study many share each."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"age": rng.integers(45, 81, subjects), "decade": rng.integers(4, 9, subjects)})
    different = table["age"].nunique()
    words = f"groups.column: age has {different} different values in {subjects} subjects; groups need classes, 20 at most.*cut into classes"
    with pytest.raises(ConfigError, match=words):
        group_table(table, GroupsConfig(column="age"))
    assert len(group_table(table, GroupsConfig(column="decade")).members) == 5


def test_twenty_classes_are_groups_and_one_more_is_none():
    table = pd.DataFrame({"stage": np.arange(20).repeat(5), "more": np.arange(100) % 21})
    assert len(group_table(table, GroupsConfig(column="stage")).members) == 20
    with pytest.raises(ConfigError, match="21 different values"):
        group_table(table, GroupsConfig(column="more"))


def test_a_group_of_one_is_refused():
    with pytest.raises(ConfigError, match="size"):
        GroupsConfig.parse({"size": 1})


def test_validation_subjects_that_fill_no_group_are_no_error():
    for stages in ([0, 1], [0, 1, 2, 3, 4, 4]):  # few subjects, most of them of different classes
        assert group_table(people(stages), GroupsConfig(), training=False).all().shape == (stages.count(4) // 2, 2)
