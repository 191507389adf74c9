"""Canonical frame and HU check, on arrays."""

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from ct_writers import lps_affine, stored_voxels

from copdvae.errors import ReadError
from copdvae.read.geometry import check_hu, place

PATH = Path("scan.nii")


@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
@pytest.mark.parametrize("axes", list(permutations((0, 1, 2))))
def test_any_order_and_direction_of_axes_gives_the_same_volume(axes, signs):
    affine, sizes = lps_affine(axes, signs)
    placement = place(sizes[::-1], affine, PATH)
    array, stored = placement.empty()
    stored[...] = stored_voxels(affine, sizes)
    assert placement.spacing == (5, 3, 2)
    np.testing.assert_allclose(placement.affine, np.diag([2, 3, 5, 1]), atol=1e-12)
    np.testing.assert_array_equal(array, stored_voxels(*lps_affine()))


def test_a_small_rotation_is_kept_and_noted():
    turn = np.radians(8)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([2, 3, 5])
    placement = place((6, 5, 4), affine, PATH)
    np.testing.assert_allclose(placement.affine, affine)
    assert "turned 8.0 degrees" in placement.warnings[0]


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({(0, 1): 0.1}, "sheared", "lean 1.9 degrees"),
        ({(0, 0): 0.0}, "bad_spacing", "0 x 3 x 5 mm"),
        ({(0, 0): np.nan}, "bad_spacing", "millimetres"),
        ({(0, 0): 0.002, (1, 1): 0.003, (2, 2): 0.005}, "bad_spacing", "units"),
        ({(0, 3): np.inf}, "bad_spacing", "millimetres"),
        ({(1, 1): 3.0, (2, 1): 3.0, (1, 2): -5.0, (2, 2): 5.0}, "oblique", "45 degrees"),
        ({(1, 1): 2.4, (2, 1): 1.8, (1, 2): -3.0, (2, 2): 4.0}, "oblique", "37 degrees"),
    ],
)
def test_an_affine_that_no_patient_has_is_refused(change, reason, words):
    affine = np.diag([2.0, 3, 5, 1])
    for where, value in change.items():
        affine[where] = value
    with pytest.raises(ReadError, match=words) as caught:
        place((6, 5, 4), affine, PATH)
    assert caught.value.reason == reason


def test_a_singular_affine_is_refused():
    affine = np.diag([2.0, 3, 5, 1])
    affine[:3, 2] = affine[:3, 1]
    with pytest.raises(ReadError) as caught:
        place((6, 5, 4), affine, PATH)
    assert caught.value.reason == "sheared"


@pytest.mark.parametrize(("shape", "reason"), [((1, 5, 4), "single_slice"), ((5, 4), "not_3d"), ((2**11, 2**11, 2**11), "too_large")])
def test_a_shape_that_is_no_volume_is_refused(shape, reason):
    with pytest.raises(ReadError) as caught:
        place(shape, np.diag([1.0, 1, 1, 1]), PATH)
    assert caught.value.reason == reason


def body(air: float = -1000, lung: float = -850, tissue: float = 40) -> np.ndarray:
    """A tenth air, half lung, the rest soft tissue."""
    return np.repeat([air, lung, tissue], [100, 500, 400]).astype(np.float32).reshape(10, 10, 10)


def test_hu_pass_whatever_share_is_padding():
    padded = np.full((2000, 10, 10), -1024, np.float32)
    padded[:10] = body()
    check_hu(body(), PATH)
    check_hu(padded, PATH)


@pytest.mark.parametrize(
    "values",
    [
        body(0, 0, 1),  # a mask
        body(0, 0, 237),  # 8-bit grey
        body(24, 174, 1064),  # raw values without their intercept
        np.where(body(24, 174, 1064) < 100, -1024, body(24, 174, 1064)),  # the same, and padded
        body(-1, -0.85, 0.04),  # thousandths
        body(-1000, -850, 1040),  # no soft tissue
        np.full((4, 4, 4), -1024.0),  # nothing but padding
    ],
    ids=["mask", "grey", "raw", "raw_padded", "scaled", "no_tissue", "padding"],
)
def test_values_that_are_not_hu_are_refused(values):
    with pytest.raises(ReadError, match="not HU") as caught:
        check_hu(values.astype(np.float32), PATH)
    assert caught.value.reason == "not_hu"
