import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from copdvae.errors import ConfigError
from copdvae.prepare.split import SplitConfig, split, write_split

GOLDS = [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, np.nan]

cohorts = st.builds(
    lambda n, sites, seed: cohort(n, sites, seed), n=st.integers(10, 120), sites=st.integers(1, 4), seed=st.integers(0, 10_000)
)


def cohort(n, sites=3, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({
        "subject_id": [f"P{i:04d}" for i in range(n)],
        "gold": rng.choice(GOLDS, n, p=[0.05, 0.1, 0.3, 0.1, 0.2, 0.1, 0.05, 0.1]),
        "site": rng.choice([f"site {i}" for i in range(sites)], n),
    })  # fmt: skip


def sizes(made):
    return {part: int((made["split"] == part).sum()) for part in ("train", "validation", "test")}


@given(table=cohorts, seed=st.integers(0, 99), shuffle=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_every_subject_is_on_one_side_whatever_the_rows_order(table, seed, shuffle):
    config = SplitConfig(seed=seed)
    made = split(table, config)
    assert sorted(made["subject_id"]) == sorted(table["subject_id"])
    pd.testing.assert_frame_equal(made, split(table.sample(frac=1, random_state=shuffle), config))


@given(table=cohorts, seed=st.integers(0, 99), train=st.floats(0.2, 0.7), validation=st.floats(0, 0.3))
@settings(max_examples=60, deadline=None)
def test_each_stage_and_each_site_in_it_is_split_in_proportion(table, seed, train, validation):
    config = SplitConfig(train=train, validation=validation, test="rest", seed=seed)
    made = split(table, config).set_index("subject_id")["split"]
    total = sizes(split(table, config))
    assert total["train"] == pytest.approx(train * len(table), abs=1)
    assert total["validation"] == pytest.approx(validation * len(table), abs=1)
    table = table.assign(split=made.loc[table["subject_id"]].to_numpy(), gold=table["gold"].fillna(99))
    for level in (["gold"], ["gold", "site"]):
        for _, stratum in table.groupby(level):
            for part, count in total.items():
                assert abs((stratum["split"] == part).sum() - count / len(table) * len(stratum)) <= 2


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_numbers_of_subjects_are_exact(seed):
    table = cohort(600, seed=seed)
    assert sizes(split(table, SplitConfig(train=240, validation=60, test=300, seed=seed))) == {"train": 240, "validation": 60, "test": 300}
    assert sizes(split(table, SplitConfig(train="rest", validation=0.1, test=300, seed=seed))) == {
        "train": 240, "validation": 60, "test": 300,
    }  # fmt: skip


def test_two_visits_of_a_subject_stay_together_and_count_once():
    table = cohort(50)
    later = table.assign(visit="2", gold=4.0)
    made = split(pd.concat([later, table.assign(visit="1")]), SplitConfig(seed=3))
    pd.testing.assert_frame_equal(made, split(table, SplitConfig(seed=3)))


@pytest.mark.parametrize("gold", [0, range(100)], ids=["all of one stage", "each of its own"])
def test_another_seed_gives_another_split_of_the_same_sizes(gold):
    table = cohort(100).assign(gold=gold, site="a")
    first, second = split(table, SplitConfig(seed=1)), split(table, SplitConfig(seed=2))
    assert sizes(first) == sizes(second)
    assert 20 < (first["split"] != second["split"]).sum() < 80


def test_the_smallest_strata_do_not_always_train():
    """A stage of one subject lands in the test part about as often as others do."""
    table = cohort(40).assign(gold=0.0, site="a")
    table.loc[7, "gold"] = 4.0
    parts = [split(table, SplitConfig(train=0.5, test=0.5, validation=0.0, seed=seed)).loc[7, "split"] for seed in range(60)]
    assert 15 <= parts.count("test") <= 45


def test_held_out_sites_are_the_test_part_and_nobody_else():
    table = cohort(120, sites=3)
    made = split(table, SplitConfig(train=0.7, validation=0.1, test=0.2, held_out_sites=("site 1",)))
    away = set(table.loc[table["site"] == "site 1", "subject_id"])
    assert set(made.loc[made["split"] == "test", "subject_id"]) == away
    left = 120 - len(away)
    assert sizes(made)["train"] == pytest.approx(left * 7 / 8, abs=1)
    with pytest.raises(ConfigError, match="no subject is from site 9"):
        split(table, SplitConfig(held_out_sites=("site 9",)))


def test_a_subject_seen_at_a_held_out_site_once_is_held_out():
    table = pd.concat([cohort(30, sites=1).assign(visit="1"), pd.DataFrame([{"subject_id": "P0003", "site": "B", "visit": "2"}])])
    made = split(table, SplitConfig(held_out_sites=("B",)))
    assert list(made.loc[made["split"] == "test", "subject_id"]) == ["P0003"]


def test_gold_read_from_a_file_or_computed_counts_the_same():
    table = cohort(60)
    as_text = table.assign(gold=[("" if np.isnan(gold) else str(int(gold))) for gold in table["gold"]])
    pd.testing.assert_frame_equal(split(table, SplitConfig()), split(as_text, SplitConfig()))


@pytest.mark.parametrize(
    "settings",
    [
        {"train": "rest", "test": "rest"},
        {"train": 0.5, "validation": 0.1, "test": 0.1},
        {"train": 0.9, "validation": 0.2},
        {"train": -3},
        {"train": 1.5},
        {"tran": 0.5},
    ],
)
def test_settings_that_do_not_add_up_are_refused(settings):
    with pytest.raises(ValidationError):
        SplitConfig(**settings)


@pytest.mark.parametrize("shares", [{"train": 20, "validation": 5, "test": 10}, {"train": 30, "test": 40}, {"train": 0}])
def test_numbers_that_do_not_fit_the_cohort_are_refused(shares):
    with pytest.raises(ConfigError, match=r"fit 40 subjects|none of 40"):
        split(cohort(40), SplitConfig(**shares))


def test_a_saved_split_stays_and_says_its_hash(tmp_path):
    table, path = cohort(40), tmp_path / "split.csv"
    made = write_split(table, SplitConfig(seed=4), path)
    before, note = path.read_bytes(), json.loads((tmp_path / "split.json").read_text())
    assert note["config"]["seed"] == 4
    assert note["subjects"] == sizes(made)
    again = write_split(table.assign(gold=0.0), SplitConfig(seed=4), path)  # a grade was corrected: nobody changes sides
    pd.testing.assert_frame_equal(again, made)
    assert path.read_bytes() == before
    assert json.loads((tmp_path / "split.json").read_text()) == note


def test_other_settings_split_anew(tmp_path):
    table, path = cohort(40), tmp_path / "split.csv"
    write_split(table, SplitConfig(seed=4), path)
    pd.testing.assert_frame_equal(write_split(table, SplitConfig(seed=5), path), split(table, SplitConfig(seed=5)))


def test_subjects_that_came_or_went_are_an_error_that_names_them(tmp_path):
    table, path = cohort(40), tmp_path / "split.csv"
    write_split(table, SplitConfig(), path)
    with pytest.raises(ConfigError, match=r"1 gone \(P0000\)"):
        write_split(table.iloc[1:], SplitConfig(), path)
    with pytest.raises(ConfigError, match=r"2 new \(P0040, P0041\)"):
        write_split(cohort(42), SplitConfig(), path)


def test_a_split_made_by_hand_is_used_as_it_is(tmp_path):
    table, path = cohort(4), tmp_path / "split.csv"
    path.write_text("subject_id,split\nP0003,train\nP0001,train\nP0002,validation\nP0000,test\n")
    made = write_split(table, SplitConfig(), path)
    assert dict(made.itertuples(index=False)) == {"P0000": "test", "P0001": "train", "P0002": "validation", "P0003": "train"}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("P0000,train\nP0000,test\nP0001,test", "more than one row"),
        ("P0000,train\nP0001,testing", "'testing'; expected train"),
        ("P0000,train", "1 new"),
    ],
)
def test_a_bad_split_made_by_hand_is_refused(tmp_path, rows, words):
    (tmp_path / "split.csv").write_text(f"subject_id,split\n{rows}\n")
    with pytest.raises(ConfigError, match=words):
        write_split(cohort(2), SplitConfig(), tmp_path / "split.csv")
