"""What all image sets share: rows, cyclic differences, splits by object, and room in memory."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from copdvae.errors import ReadError
from copdvae.read.images import ImageSet, cyclic_difference, factor_classes
from copdvae.read.images.image_set import empty_images, gather, last_objects, rows_to_keep

angle = st.floats(-1000, 1000)


def test_the_paper_says_that_350_and_20_degrees_are_30_apart():
    assert cyclic_difference(np.array([350.0, 20.0, 10.0]), np.array([20.0, 350.0, 190.0]), 360.0).tolist() == [30, 30, 180]


@given(angle, angle, st.floats(0.1, 400))
def test_a_cyclic_difference_is_the_angle_between_two_arrows(first, second, period):
    arrows = np.exp(2j * np.pi * np.array([first, second]) / period)
    between = abs(np.angle(arrows[0] / arrows[1])) * period / (2 * np.pi)
    np.testing.assert_allclose(cyclic_difference(np.array([first]), np.array([second]), period), [between], atol=1e-6 * period)


def test_factors_become_places_among_their_sorted_values():
    factors = np.array([[0.5, 7.0], [2.0, -1.0], [0.5, -1.0], [1.0, 7.0]])
    assert factor_classes(factors).tolist() == [[0, 1], [2, 0], [0, 0], [1, 1]]


def test_the_last_objects_are_held_out_with_all_their_images_and_only_from_a_whole_set():
    group = np.array([5, 1, 9, 5, 9, 2])
    assert last_objects(group, 2, 4).tolist() == [True, False, True, True, True, False]
    assert last_objects(group, 2, 5) is None


def test_taking_rows_cuts_everything_alike():
    whole = ImageSet(
        "x", np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1), np.arange(4.0)[:, None], ("f",), (4,), {}, np.arange(4), np.arange(4) > 1
    )
    for rows in (np.array([3, 1]), np.array([False, True, False, True])):
        cut = whole.take(rows)
        expected = np.arange(4)[rows]
        for part in (cut.image[:, 0, 0, 0], cut.factors[:, 0], cut.group):
            assert part is not None
            assert part.tolist() == expected.tolist()
        assert cut.held_out is not None
        assert cut.held_out.tolist() == (expected > 1).tolist()
    assert ImageSet("x", whole.image, whole.factors, ("f",), (4,)).take(np.array([0])).group is None


def test_more_than_the_machine_has_is_refused_before_it_is_taken():
    with pytest.raises(ReadError, match=r"P0042: 1,000,000,000 images of 3 x 512 x 512 take 786432.0 GB") as caught:
        empty_images(Path("P0042"), 10**9, 3, 512, 512)
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize("rows", [[-1], [4], [[0, 1]], [0.5], ["a"]])
def test_rows_that_are_not_there_are_refused(rows):
    with pytest.raises(ReadError, match="from 0 to 3"):
        rows_to_keep(Path("P0042"), np.array(rows), 4)


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 10))
def test_rows_are_gathered_in_their_order_whatever_the_blocks(rows, block):
    table = np.arange(100, 110)
    out = np.zeros(len(rows), int)
    gather([(first, table[first : first + block]) for first in range(0, 10, block)], np.array(rows, dtype=int), out)
    assert out.tolist() == [100 + row for row in rows]
