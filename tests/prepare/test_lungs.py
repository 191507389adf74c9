from pathlib import Path

import numpy as np
import pytest
from chest import Chest, chest, dice

from copdvae.errors import reason_of
from copdvae.prepare.lungs import AIRWAYS, LEFT, RIGHT, LungError, Lungs, find_lungs, given_lungs, parenchyma
from copdvae.read import read_ct, read_labels
from copdvae.read.volume import Volume

FINE = (4.0, 1.5, 1.5)  # made coarse along two axes: the border is drawn again on the scan's own grid


def check_lungs(found: Lungs, real: Chest, least: float = 0.98) -> None:
    for side in (RIGHT, LEFT):
        assert dice(found.labels == side, real.truth == side) > least
    litres, truth = (np.count_nonzero(parenchyma(labels)) * real.volume.voxel_ml / 1000 for labels in (found.labels, real.truth))
    assert litres == pytest.approx(truth, rel=0.015)
    assert not found.labels[real.table].any()
    assert not found.labels[real.stomach].any()


@pytest.mark.parametrize("spacing", [(5.0, 5.0, 5.0), (6.0, 5.0, 5.0), (4.0, 4.0, 4.0), FINE])
def test_both_lungs_are_found_without_airways_table_and_stomach(spacing):
    real = chest(spacing)
    found = find_lungs(real.volume)
    check_lungs(found, real)
    assert dice(found.labels == AIRWAYS, real.truth == AIRWAYS) > 0.9
    assert found.trachea_hu == pytest.approx(-995)
    assert found.maker == "threshold"
    assert found.labels.dtype == np.uint8
    assert {reason_of(warning) for warning in found.warnings} <= {"gas_left_out"}  # 200 ml of stomach, 9 mm below


@pytest.mark.parametrize("spacing", [(5.0, 5.0, 5.0), FINE])
def test_lungs_that_touch_in_front_are_told_apart(spacing):
    real = chest(spacing, touching=True)
    check_lungs(find_lungs(real.volume), real)


@pytest.mark.parametrize(
    ("lung_hu", "noise", "spacing"),
    [
        (-930.0, 60.0, (5.0, 5.0, 5.0)),
        (-955.0, 25.0, (5.0, 5.0, 5.0)),
        (-955.0, 40.0, FINE),
        (-600.0, 40.0, (5.0, 5.0, 5.0)),
        (-850.0, 150.0, FINE),
    ],
    ids=["noisy emphysema", "emphysema", "fine emphysema", "full expiration", "low dose"],
)
def test_the_mask_holds_in_emphysema_in_expiration_and_in_noise(lung_hu, noise, spacing):
    real = chest(spacing, lung_hu=lung_hu, noise=noise)
    found = find_lungs(real.volume)
    check_lungs(found, real)
    assert dice(found.labels == AIRWAYS, real.truth == AIRWAYS) > 0.85  # nothing leaks where the bronchi open into the lungs


def test_vessels_belong_to_the_lung():
    real = chest(FINE)
    inner = real.vessels & (real.truth > 0)
    assert (find_lungs(real.volume).labels[inner] > 0).mean() > 0.93  # what is missing is the hilum


def test_vessels_count_where_a_threshold_would_lose_them():
    real = chest((4.0, 4.0, 4.0))
    threshold_only = real.volume.hu < -400
    found = parenchyma(find_lungs(real.volume).labels)
    lost = real.vessels & parenchyma(real.truth) & ~threshold_only
    assert lost.sum() > 200
    assert found[lost].mean() > 0.9


def test_a_thick_fissure_that_cuts_a_lung_through_belongs_to_it():
    real = chest((4.0, 4.0, 4.0))
    z, y, _ = np.indices(real.truth.shape) * 4.0
    fissure = (np.abs(z - 190 + 0.4 * (y - 150)) < 4) & (real.truth == LEFT)
    hu = np.where(fissure, 40, real.volume.hu)
    found = find_lungs(Volume(hu, real.volume.spacing, real.volume.affine)).labels
    assert (found[fissure] == LEFT).mean() > 0.8
    assert dice(found == LEFT, real.truth == LEFT) > 0.98


@pytest.mark.parametrize("spacing", [(5.0, 5.0, 5.0), FINE])
def test_a_full_stomach_under_the_left_lung_is_not_lung(spacing):
    real = chest(spacing, stomach_mm=65.0)  # 1.1 L of gas
    check_lungs(find_lungs(real.volume), real)


def test_a_drain_in_the_chest_wall_is_not_taken_for_the_trachea():
    real = chest()
    _, y, x = np.indices(real.truth.shape) * 5.0
    drain = (y - 150) ** 2 + (x - 57) ** 2 < 8**2  # full height, 148 mm to the right of the middle
    hu = np.where(drain, -1000, real.volume.hu)
    found = find_lungs(Volume(hu, real.volume.spacing, real.volume.affine))
    assert dice(found.labels == AIRWAYS, real.truth == AIRWAYS) > 0.9


def test_the_border_lies_half_way_between_parenchyma_and_tissue():
    """A blurred edge keeps its area only at the half step, so volume must not depend on density or resolution."""
    from scipy.ndimage import gaussian_filter

    for lung_hu in (-900.0, -700.0):
        real = chest((4.0, 4.0, 4.0), lung_hu=lung_hu)
        blurred = Volume(gaussian_filter(real.volume.hu, 1.0), real.volume.spacing, real.volume.affine)
        found = find_lungs(blurred)
        litres, truth = (np.count_nonzero(parenchyma(labels)) * real.volume.voxel_ml / 1000 for labels in (found.labels, real.truth))
        assert litres == pytest.approx(truth, rel=0.02)


def test_a_mirrored_chest_gives_mirrored_sides():
    """The sides follow from the place in the body, nothing else: x grows to the patient's left."""
    real = chest(touching=True)
    mirrored = Volume(np.ascontiguousarray(real.volume.hu[:, :, ::-1]), real.volume.spacing, real.volume.affine)
    there, back = find_lungs(real.volume).labels, find_lungs(mirrored).labels[:, :, ::-1]
    assert dice(there == RIGHT, back == LEFT) > 0.99
    assert dice(there == LEFT, back == RIGHT) > 0.99


def test_the_same_scan_gives_the_same_bytes_and_is_not_changed():
    volume = chest(FINE, noise=30).volume
    before = volume.hu.copy()
    assert find_lungs(volume).labels.tobytes() == find_lungs(volume).labels.tobytes()
    np.testing.assert_array_equal(volume.hu, before)


def test_whole_numbers_make_the_same_mask_as_floats():
    volume = chest(FINE, noise=30).volume
    rounded = np.rint(volume.hu)
    as_float, as_int = (Volume(rounded.astype(kind), volume.spacing, volume.affine) for kind in (np.float32, np.int16))
    np.testing.assert_array_equal(find_lungs(as_float).labels, find_lungs(as_int).labels)


def test_without_a_trachea_the_lungs_are_found_and_a_warning_tells():
    real = chest()
    hu = real.volume.hu.copy()
    hu[real.truth == AIRWAYS] = 40
    found = find_lungs(Volume(hu, real.volume.spacing, real.volume.affine))
    check_lungs(found, real)
    assert found.trachea_hu is None
    assert any("no trachea" in warning for warning in found.warnings)


def scaled(factor: float) -> Volume:
    volume = chest().volume
    return Volume(volume.hu, tuple(gap * factor for gap in volume.spacing), volume.affine)


def water() -> Volume:
    return Volume(np.zeros((20, 40, 40), dtype=np.float32), (5, 5, 5), np.eye(4))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: chest(lungs=("left",)).volume, "one_lung"),
        (lambda: chest(lungs=("right",)).volume, "one_lung"),
        (lambda: chest(lungs=()).volume, "no_lungs"),
        (water, "no_lungs"),
        (lambda: Volume(np.full((20, 40, 40), -1000, dtype=np.float32), (5, 5, 5), np.eye(4)), "no_lungs"),
        (lambda: Volume(chest().volume.hu[:2], (0.5, 5, 5), np.eye(4)), "no_lungs"),
        (lambda: chest(bottom=-40).volume, "lung_at_border"),
        (lambda: chest(half_width=100).volume, "lung_at_border"),
        (lambda: scaled(0.6), "lung_volume"),
        (lambda: scaled(1.45), "lung_volume"),
        (lambda: chest(lung_hu=-450).volume, "lung_density"),
    ],
    ids=["left_alone", "right_alone", "none", "water", "air", "two_slices", "cut_below", "cut_at_the_sides", "small", "huge", "dense"],
)
def test_what_cannot_be_a_whole_chest_is_refused_with_a_reason(make, reason):
    with pytest.raises(LungError) as caught:
        find_lungs(make())
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


def test_a_given_mask_of_ones_is_split_into_sides():
    real = chest(FINE, touching=True)
    found = given_lungs(parenchyma(real.truth).astype(np.uint8), real.volume)
    for side in (RIGHT, LEFT):
        assert dice(found.labels == side, real.truth == side) > 0.99
    np.testing.assert_array_equal(found.labels > 0, parenchyma(real.truth))
    assert found.maker == "given"
    assert found.trachea_hu == pytest.approx(-995)


def test_a_given_mask_with_sides_is_kept_voxel_for_voxel():
    real = chest(touching=True)
    sides = np.where(parenchyma(real.truth), real.truth, 0)
    np.testing.assert_array_equal(given_lungs(sides, real.volume).labels, sides)


def test_our_own_labels_come_back_as_they_were():
    real = chest()
    np.testing.assert_array_equal(given_lungs(real.truth, real.volume).labels, real.truth)


def test_swapped_sides_are_put_right_and_told():
    real = chest()
    swapped = np.choose(real.truth, [0, LEFT, RIGHT, 0])
    found = given_lungs(swapped, real.volume)
    np.testing.assert_array_equal(found.labels, np.where(parenchyma(real.truth), real.truth, 0))
    assert any("other side" in warning for warning in found.warnings)


def test_lobes_keep_their_side_and_are_all_lung():
    real = chest()
    upper = np.arange(len(real.truth))[:, None, None] > 40
    lobes = np.where(parenchyma(real.truth), 2 * real.truth + upper + 9, 0)  # 11, 12 right, 13, 14 left
    np.testing.assert_array_equal(given_lungs(lobes, real.volume).labels, np.where(parenchyma(real.truth), real.truth, 0))


def test_two_byte_codes_take_airways_and_vessels_out_of_the_parenchyma_alone():
    """Region in the low byte, type in the high byte: 2 airway, 3 vessel; a trachea in no region counts nowhere."""
    real = chest()
    lung = parenchyma(real.truth)
    region = np.where(lung, real.truth + 1, 0).astype(np.uint16)  # 2 right lung, 3 left lung
    codes = region + 256 * np.where(real.vessels, 3, 0).astype(np.uint16) + 256 * np.where(real.truth == AIRWAYS, 2, 0).astype(np.uint16)
    found = given_lungs(codes, real.volume).labels
    np.testing.assert_array_equal(found > 0, lung)
    np.testing.assert_array_equal(found == AIRWAYS, lung & real.vessels)
    np.testing.assert_array_equal(found == RIGHT, (real.truth == RIGHT) & ~real.vessels)


def test_an_empty_map_is_refused_and_a_doubtful_one_is_only_doubted():
    real = chest()
    with pytest.raises(LungError, match="no lung"):
        given_lungs(np.zeros(real.truth.shape, dtype=np.uint8), real.volume)
    left_only = (real.truth == LEFT).astype(np.uint8)
    found = given_lungs(left_only, real.volume)
    np.testing.assert_array_equal(found.labels > 0, left_only > 0)
    assert any("both are needed" in warning for warning in found.warnings)


@pytest.mark.data
@pytest.mark.parametrize(
    ("path", "litres"),
    [
        ("ct/lidc_idri_0001_2mm.nii.gz", 3.7),
        ("ct/lidc_idri_0002_2mm.nii.gz", 5.2),
        ("ct/lidc_idri_0003_2mm.nii.gz", 5.8),
        ("ct/opentps_4dct/inhale_phase20_dicom", 5.44),
        ("ct/opentps_4dct/exhale_phase60_dicom", 4.98),
        ("ct/cip/ct-64.nrrd", 4.5542),
        ("ct/cip/ct-64Dicom", 4.5542),
    ],
)
def test_real_lungs_have_their_known_volume(real_data: Path, path: str, litres: float):
    volume = read_ct(real_data / path)
    found = find_lungs(volume)
    assert np.count_nonzero(found.labels) * volume.voxel_ml / 1000 == pytest.approx(litres, abs=0.35)
    airways = np.count_nonzero(found.labels == AIRWAYS) * volume.voxel_ml
    assert 15 < airways < 90  # ml: trachea and main bronchi, and no more


@pytest.mark.data
def test_the_mask_of_a_real_emphysematous_chest_agrees_with_its_label_map(real_data: Path):
    volume = read_ct(real_data / "ct/cip/ct-64.nrrd")
    codes = read_labels(real_data / "ct/cip/lm-64.nrrd", like=volume)
    found = find_lungs(volume).labels
    assert dice(found > 0, codes & 255 > 0) > 0.975
    assert dice(found == RIGHT, np.isin(codes & 255, (12, 13, 14))) > 0.975
    assert dice(found == LEFT, np.isin(codes & 255, (9, 10, 11))) > 0.975


@pytest.mark.data
def test_one_cropped_real_lung_is_refused(real_data: Path):
    with pytest.raises(LungError) as caught:
        find_lungs(read_ct(real_data / "ct/elastix/3DCT_lung_baseline_small.mha"))
    assert caught.value.reason == "lung_at_border"
