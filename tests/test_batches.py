import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import STILL, made_subjects

from copdvae.batches import Batches, Prefetch
from copdvae.dataset import AugmentConfig, Images, augmented, drop_channels
from copdvae.supervision.groups import GroupsConfig, group_table
from copdvae.supervision.pairs import label_pairs
from copdvae.supervision.similarity import SimilarityConfig, fit_similarity


def made_batches(needs="image", size=4, seed=0, count=20, rows=None, augment=STILL, proportion=0.4, apart=False, **settings):
    subjects = made_subjects(count, **settings)
    rows = np.arange(count) if rows is None else rows
    measures = np.random.default_rng(1).normal(size=(len(rows), 2))
    pairs = (
        label_pairs(measures, fit_similarity(measures, SimilarityConfig()), proportion, np.random.default_rng(2))
        if needs == "pair"
        else None
    )
    labels = np.column_stack([rows, rows]).astype(float) if needs == "label" else None
    return Batches(subjects, rows, size, seed, needs, augment, pairs, labels, pairs_apart=apart)


def same(one, other):
    for a, b in zip(one.__dict__.values(), other.__dict__.values(), strict=True):
        if isinstance(a, torch.Tensor):
            assert torch.equal(a, b)
        elif isinstance(a, dict):
            assert a.keys() == b.keys()
            for key in a:
                same(a[key], b[key])
        elif isinstance(a, int):
            assert a == b
        elif a is not None:
            same(a, b)


def test_pairs_apart_are_drawn_with_replacement_each_with_two_images_of_its_own():
    batches = made_batches("pair", size=5, apart=True)
    table, drawn = batches.pairs, []
    assert table is not None
    for step in range(600):
        batch = batches(step)
        assert batch.pairs is not None
        assert len(batch.image) == 10
        assert len(set(batch.pairs.first.tolist() + batch.pairs.second.tolist())) == 10
        for i, j, y in zip(batch.pairs.first, batch.pairs.second, batch.pairs.similarity, strict=True):
            (k,) = np.flatnonzero(table.similarity == float(y))  # a pair's similarity is like no other's
            for row, member in ((i, table.first[k]), (j, table.second[k])):
                np.testing.assert_array_equal(batch.image[row], batches.source.take(batches.rows[[member]], STILL, None)[0][0])
            drawn.append(k)
    counts = np.bincount(drawn, minlength=len(table))
    assert counts.min() / counts.mean() > 0.3
    assert counts.max() / counts.mean() < 1.9  # 3,000 draws among 76 pairs, about 39 +- 6 each
    repeats = sum(len(set(drawn[at : at + 5])) < 5 for at in range(0, len(drawn), 5))
    assert repeats / 600 == pytest.approx(1 - np.prod(1 - np.arange(5) / len(table)), abs=0.05)
    (whole,) = batches.whole(64)  # everyone once, with all pairs
    assert len(whole.image) == 20
    assert len(whole.pairs.first) == len(table)


@pytest.mark.parametrize(("needs", "apart"), [("image", False), ("pair", False), ("pair", True), ("label", False)])
def test_a_batch_is_a_function_of_seed_and_step_alone(needs, apart):
    """Asked in any order, by another object, ahead in a thread: step 7 is step 7."""
    settings = {"needs": needs, "apart": apart, "augment": AugmentConfig(noise_hu=10), "channel_dropout": 0.3}
    one, other = made_batches(**settings), made_batches(**settings)
    expected = {step: one(step) for step in range(12)}
    for step in (7, 3, 11, 0):
        same(other(step), expected[step])
    ahead = Prefetch(made_batches(**settings))
    for step in (4, 5, 6, 2, 3):  # and a jump back, as no loop makes
        same(ahead(step), expected[step])
    ahead.close()
    other = made_batches(seed=1, **settings)
    assert not torch.equal(other(7).image[:2], expected[7].image[:2])
    assert any(not np.array_equal(other.places(step), one.places(step)) for step in range(4)), "other subjects, not only other noise"
    assert not torch.equal(expected[6].image[:2], expected[7].image[:2])


def test_prefetch_passes_on_what_went_wrong():
    def broken(step):
        raise OSError(f"disk gone at {step}")

    ahead = Prefetch(broken)
    with pytest.raises(OSError, match="disk gone at 3"):
        ahead(3)
    ahead.close()


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 30), st.integers(2, 12), st.integers(0, 5))
def test_an_epoch_has_no_item_twice_and_every_item_where_batches_fit(count, size, seed):
    batches = made_batches(count=count, size=size, seed=seed)
    size = min(size, count)
    steps = count // size
    epochs = [np.concatenate([batches.places(epoch * steps + k) for k in range(steps)]) for epoch in range(3)]
    for epoch in epochs:
        assert len(np.unique(epoch)) == len(epoch) == steps * size
        if count % size == 0:
            assert set(epoch) == set(range(count))
    if count > 8:
        assert not np.array_equal(epochs[0], epochs[1]), "shuffled anew"


def test_no_subject_is_favoured_in_the_long_run():
    batches = made_batches(count=10, size=3)
    counts = np.bincount(np.concatenate([batches.places(step) for step in range(900)]), minlength=10)
    assert counts.sum() == 2700
    assert counts.min() > 0.9 * 270


def test_a_pair_batch_brings_its_pairs_and_all_others_among_its_images():
    batches = made_batches("pair", size=8)
    table = batches.pairs
    seen = set()
    steps = len(table) // 4
    for step in range(steps):
        batch, places = batches(step), batches.places(step)
        assert len(places) == len(set(places)) <= 8
        assert len(batch.image) == len(places)
        found = {
            frozenset((int(places[i]), int(places[j]))): float(y)
            for i, j, y in zip(batch.pairs.first, batch.pairs.second, batch.pairs.similarity, strict=True)
        }
        known = {
            frozenset((int(i), int(j))): float(y)
            for i, j, y in zip(table.first, table.second, table.similarity, strict=True)
            if {i, j} <= set(places)
        }
        assert found == known
        drawn = table.first[batches.take(step, 4)], table.second[batches.take(step, 4)]
        assert {frozenset(pair) for pair in zip(*(part.tolist() for part in drawn), strict=True)} <= set(found)
        seen |= {frozenset(pair) for pair in zip(*(part.tolist() for part in drawn), strict=True)}
    assert len(seen) == 4 * steps


def test_rows_that_are_not_asked_for_never_appear():
    """Test subjects: their images are poisoned, and no batch shows the poison."""
    subjects = made_subjects(20)
    rows = np.array([1, 2, 3, 5, 7, 11, 13, 17])
    others = np.setdiff1d(np.arange(20), rows)
    subjects.image[others] = -1024
    for needs in ("image", "pair", "label"):
        batches = made_batches(needs, rows=rows)
        batches.source = subjects
        for step in range(20):
            assert batches(step).image[batches(step).lung].min() > 0
        assert sum(len(batch.image) for batch in batches.whole(3)) == len(rows)


def test_images_labels_and_pairs_stay_with_their_subject():
    rows = np.array([4, 9, 2, 7, 12, 15])
    batches = made_batches("label", rows=rows)
    batch, places = batches(3), batches.places(3)
    np.testing.assert_array_equal(batch.label[:, 0].numpy(), rows[places])
    for k, place in enumerate(places):
        expected = batches.source.scaled(batches.source.image[[rows[place]]])
        np.testing.assert_allclose(batch.image[k].numpy(), expected[0], atol=1e-6)


def test_whole_shows_every_subject_once_in_order_and_as_it_is():
    batches = made_batches("label", count=11, augment=AugmentConfig(noise_hu=50), channel_dropout=0.5)
    parts = batches.whole(4)
    assert [len(part.image) for part in parts] == [4, 4, 3]
    subjects = batches.source
    np.testing.assert_allclose(torch.cat([p.image for p in parts]).numpy(), subjects.scaled(subjects.image), atol=1e-6)
    np.testing.assert_array_equal(torch.cat([p.label for p in parts])[:, 0].numpy(), np.arange(11))
    assert all(part.present.all() for part in parts)


def ramp(size, channels=2, count=16):
    """Images whose voxels say their own position, and a lung that is where the ramp is even."""
    image = np.broadcast_to(np.arange(np.prod(size)).reshape(size), (count, channels, *size)).astype(np.int16).copy()
    return image, image % 2 == 0


@pytest.mark.parametrize("size", [(7, 6), (5, 4, 6)], ids=str)  # an even last side: a lung that is not turned is seen
@pytest.mark.parametrize("outside", [-1024, 32767])
def test_flips_and_shifts_move_image_and_lung_together(size, outside):
    image, lung = ramp(size)
    (moved, moved_lung), _ = augmented([image, lung], [outside, False], AugmentConfig(flip=True, shift=1), np.random.default_rng(0))
    came_from_within = moved != outside
    assert not moved_lung[~came_from_within].any()
    np.testing.assert_array_equal(moved_lung[came_from_within], moved[came_from_within] % 2 == 0)
    np.testing.assert_array_equal(moved[:, 0], moved[:, 1])  # both channels alike
    flips, shifts = set(), set()
    for k in range(len(image)):
        naive = {
            (flip, *shift): shifted(image[k, 0, ..., ::-1] if flip else image[k, 0], shift, outside)
            for flip in (False, True)
            for shift in np.ndindex(*[3] * len(size))
            for shift in [tuple(s - 1 for s in shift)]
        }
        (found,) = [name for name, picture in naive.items() if np.array_equal(picture, moved[k, 0])]
        flips.add(found[0])
        shifts.add(found[1:])
    assert flips == {False, True}
    assert len(shifts) > 5


def shifted(image, shift, outside):
    """By a loop over voxels."""
    out = np.full_like(image, outside)
    for place in np.ndindex(*image.shape):
        to = tuple(p + s for p, s in zip(place, shift, strict=True))
        if all(0 <= t < n for t, n in zip(to, image.shape, strict=True)):
            out[to] = image[place]
    return out


def test_no_augmentation_changes_nothing():
    image, lung = ramp((5, 6, 7))
    (moved, moved_lung), offset = augmented([image, lung], [0, False], STILL, np.random.default_rng(0))
    np.testing.assert_array_equal(moved, image)
    np.testing.assert_array_equal(moved_lung, lung)
    assert (offset == 0).all()


def test_the_offset_is_one_number_an_image_of_the_size_that_was_asked_for():
    image, _ = ramp((4, 4), count=4000)
    _, offset = augmented([image], [0], STILL.model_copy(update={"offset_hu": 7.0}), np.random.default_rng(0))
    assert offset.shape == (4000, 1, 1, 1)
    assert offset.std() == pytest.approx(7, rel=0.05)
    _, noisy = augmented([image[:50]], [0], STILL.model_copy(update={"noise_hu": 20.0}), np.random.default_rng(0))
    assert noisy.shape == image[:50].shape
    assert noisy.std() == pytest.approx(20, rel=0.1)


def test_an_offset_in_hu_moves_the_scaled_image_by_its_share_of_the_window():
    subjects = made_subjects(3)
    low, high = subjects.config.window_hu
    plain, lifted = (subjects.scaled(subjects.image, offset) for offset in (0.0, 10.0))
    np.testing.assert_allclose((lifted - plain)[subjects.lung], 10 / (high - low), atol=1e-5)
    np.testing.assert_array_equal(plain[~subjects.lung], 1)  # background: remove


def test_dropped_channels_leave_each_subject_at_least_one():
    present = np.ones((6000, 2), np.float32)
    present[:1000, 1] = 0  # subjects of one scan
    kept = drop_channels(present, 0.4, np.random.default_rng(0))
    assert (kept.sum(axis=1) >= 1).all()
    assert (kept <= present).all()
    np.testing.assert_array_equal(kept[:1000], present[:1000])
    both = kept[1000:]
    assert (both.sum(axis=1) == 1).mean() == pytest.approx(2 * 0.4 * 0.6, abs=0.03)
    assert both[:, 0].mean() == pytest.approx(both[:, 1].mean(), abs=0.03)


def test_a_dropped_channel_is_zero_in_the_image_and_absent_in_presence():
    batches = made_batches(size=20, channel_dropout=0.5)
    batch = batches(0)
    gone = batch.present == 0
    assert gone.any()
    assert (batch.image[gone] == 0).all()
    assert (batch.image[~gone].flatten(1).sum(1) > 0).all()


def test_the_order_of_training_batches_does_not_depend_on_the_batch_before():
    """A run that is resumed starts in the middle of an epoch."""
    batches = made_batches(count=21, size=4)
    whole = [batches.places(step) for step in range(30)]
    for step in (29, 13, 5):
        np.testing.assert_array_equal(made_batches(count=21, size=4).places(step), whole[step])


def further_batches(count=24, also=("second", "label", "group"), size=8) -> Batches:
    """A batch of images, and beside it every kind of further batch."""
    subjects, rows = made_subjects(count), np.arange(count)
    numbers = np.column_stack([rows]).astype(float)
    groups = group_table(pd.DataFrame({"gold": rows % 3}), GroupsConfig())
    streams = {
        stream: Batches(subjects, rows, size, 0, stream, STILL, None, numbers, groups if stream == "group" else None, stream=number)
        for number, stream in enumerate(also, start=1)
    }
    return Batches(subjects, rows, size, 0, "image", STILL, None, numbers, also=streams)


def test_further_batches_are_drawn_apart_and_are_functions_of_the_step_too():
    one, other = further_batches(), further_batches()
    expected = {step: one(step) for step in range(4)}
    for step in (2, 0, 3):
        same(other(step), expected[step])
    assert set(expected[0].also) == {"second", "label", "group"}
    drawn = [tuple(batch.label[:, 0].tolist()) for batch in (expected[0], *expected[0].also.values())]
    assert len(set(drawn)) == 4


def test_a_group_batch_says_whose_images_belong_together():
    batch = further_batches()(1).also["group"]
    assert batch.group.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    stages = batch.label[:, 0].numpy() % 3
    np.testing.assert_array_equal(stages[::2], stages[1::2])
    assert (batch.label[::2, 0] != batch.label[1::2, 0]).all()


def test_whole_batches_carry_further_ones_and_none_where_a_part_is_missing():
    parts = further_batches(20).whole(8)
    assert [len(part.image) for part in parts] == [8, 8, 4]
    assert all(set(part.also) == {"second", "label", "group"} for part in parts)
    groups = further_batches(20).also["group"].whole(8)
    assert sum(len(part.image) for part in groups) == 18  # 7, 7 and 6 of the three classes, in pairs
    lacking = further_batches(20)
    lacking.also["label"].rows = np.zeros(0, int)
    assert lacking.whole(8) == []


def test_a_mean_over_whole_batches_weighs_further_images_alike():
    """Fewer labelled subjects than images: were the last few a batch of their own, each would count as many times as the others."""
    batches = further_batches(32, also=("label",))
    for labelled in (3, 17, 25, 31):
        batches.also["label"].rows = np.arange(labelled)
        weight = np.zeros(labelled)
        for part in batches.whole(8):
            found = part.also["label"].label[:, 0].numpy().astype(int)
            weight[found] += len(part.image) / len(found)
        np.testing.assert_allclose(weight.sum(), 32)
        assert weight.max() < 1.6 * weight.min()


def test_every_batch_says_of_how_many_images_it_is_a_sample():
    batch = further_batches(count=24)(0)
    assert {part.drawn_from for part in (batch, *batch.also.values(), batch.to("cpu"))} == {24}
    assert {part.drawn_from for part in further_batches(20).whole(8)} == {20}


def test_moving_a_batch_moves_all_of_it():
    batch = further_batches()(0)
    moved = batch.to("meta")
    assert moved.image.is_meta
    assert moved.also["group"].group.is_meta
    assert moved.also["label"].label.is_meta


def test_pictures_come_as_numbers_from_0_to_1_and_are_not_changed():
    images = Images(np.array(["a", "b"]), np.array([[[[0, 51], [255, 102]]]] * 2, np.uint8))
    image, lung, present = images.take(np.array([1]), AugmentConfig(), np.random.default_rng(0))
    np.testing.assert_allclose(image, [[[[0, 0.2], [1, 0.4]]]], rtol=1e-6)
    assert image.dtype == np.float32
    assert lung.all()
    assert present.tolist() == [[1]]


def test_batches_made_ahead_by_several_threads_are_those_made_one_by_one():
    subjects = made_subjects(12)
    one = Batches(subjects, np.arange(12), 4, 0, "image", AugmentConfig(shift=1))
    many = Prefetch(Batches(subjects, np.arange(12), 4, 0, "image", AugmentConfig(shift=1)), threads=4)
    steps = [*range(40), 7, 8]
    try:
        assert all(torch.equal(many(step).image, one(step).image) for step in steps)
    finally:
        many.close()
