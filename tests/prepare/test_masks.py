"""Oracle: scipy's own morphology, which is slower."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from copdvae.prepare.lung_border import closing
from copdvae.prepare.masks import CROSS, box_around, filled, grown, opened, worn

masks = arrays(bool, (6, 7, 8))
BALL = (np.indices((5, 3, 5)) - np.array([2, 1, 2])[:, None, None, None]).__pow__(2).sum(axis=0) <= 4


@settings(max_examples=40, deadline=None)
@given(mask=masks, structure=st.sampled_from([CROSS, BALL]))
def test_masks_grow_and_wear_as_by_definition(mask, structure):
    np.testing.assert_array_equal(grown(mask, structure), ndimage.binary_dilation(mask, structure))
    np.testing.assert_array_equal(worn(mask, structure), ndimage.binary_erosion(mask, structure, border_value=1))


@settings(max_examples=40, deadline=None)
@given(mask=masks, sides=st.tuples(*[st.integers(1, 3)] * 3))
def test_an_opening_keeps_what_holds_the_box(mask, sides):
    boxes = np.lib.stride_tricks.sliding_window_view(mask, sides).all(axis=(3, 4, 5))
    expected = np.zeros_like(mask)
    for corner in np.argwhere(boxes):
        expected[tuple(slice(first, first + side) for first, side in zip(corner, sides, strict=True))] = True
    np.testing.assert_array_equal(opened(mask, list(sides)), expected)


@settings(max_examples=40, deadline=None)
@given(mask=masks)
def test_what_a_mask_encloses_is_filled(mask):
    mask = np.pad(mask, 1)
    np.testing.assert_array_equal(filled(mask), ndimage.binary_fill_holes(mask))


@pytest.mark.parametrize("spacing", [(2.5, 3.5, 3.5), (4.0, 3.9, 3.9), (10.0, 2.0, 2.0)])
def test_closing_is_by_an_ellipsoid_of_seven_millimetres(spacing):
    """A gap under 14 mm between two blocks closes, one over 14 mm stays: as far as voxels tell."""
    part = np.zeros((40, 40, 60), dtype=bool)
    narrow, wide = int(9 // spacing[2]), int(20 // spacing[2]) + 1
    part[10:30, 10:30, 10:20] = part[10:30, 10:30, 20 + narrow : 30 + narrow] = True
    part[10:30, 10:30, 30 + narrow + wide : 40 + narrow + wide] = True
    closed = closing(part, np.array(spacing))
    assert closed[20, 20, 10 : 30 + narrow].all()
    assert not closed[20, 20, 30 + narrow : 30 + narrow + wide].any()
    assert (closed | ~part).all()


def test_the_box_around_a_mask_is_the_smallest():
    mask = np.zeros((5, 6, 7), dtype=bool)
    mask[1, 2, 6] = mask[3, 4, 2] = True
    assert box_around(mask) == (slice(1, 4), slice(2, 5), slice(2, 7))
