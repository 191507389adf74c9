import json

import numpy as np
import pytest
from chests import chest, save_nifti

from copdvae.prepare.cached import load_metadata, load_subject
from copdvae.prepare.denoise import denoised, told
from copdvae.prepare.describe import describe_ct
from copdvae.prepare.ingest import ingest
from copdvae.prepare.settings import IngestConfig


def one_scan(tmp_path):
    save_nifti(tmp_path / "a.nii", chest())
    (tmp_path / "manifest.csv").write_text("subject_id,insp_path\nP1,a.nii\n")
    return tmp_path / "manifest.csv"


def test_none_is_the_scan_itself():
    hu, labels = np.zeros((4, 4, 4), dtype=np.float32), np.ones((4, 4, 4), dtype=np.uint8)
    assert denoised(hu, labels, "none") is hu
    assert denoised(hu, np.zeros_like(labels), "median") is hu
    assert told("none") == []


def test_the_median_is_of_27_voxels_and_the_border_of_the_image_repeats():
    hu = np.random.default_rng(0).integers(-1024, 200, (7, 8, 9)).astype(np.int16)
    padded = np.pad(hu, 1, mode="edge")
    expected = [np.median(padded[z : z + 3, y : y + 3, x : x + 3]) for z, y, x in np.ndindex(hu.shape)]
    found = denoised(hu, np.ones(hu.shape, dtype=np.uint8), "median")
    np.testing.assert_array_equal(found.ravel(), np.array(expected, dtype=np.float32))


def test_the_gaussian_has_a_sigma_of_one_voxel():
    hu = np.zeros((17, 17, 17), dtype=np.float32)
    hu[8, 8, 8] = 1
    found = denoised(hu, np.ones(hu.shape, dtype=np.uint8), "gaussian")
    weights = np.exp(-0.5 * np.arange(-4, 5) ** 2)
    weights /= weights.sum()
    np.testing.assert_allclose(found[4:13, 4:13, 4:13], np.einsum("i,j,k->ijk", weights, weights, weights), atol=1e-6)


@pytest.mark.parametrize("kind", ["median", "gaussian"])
def test_inside_the_labels_a_part_is_what_the_whole_would_be_and_the_scan_is_not_changed(kind):
    hu = np.random.default_rng(0).normal(-850, 60, (24, 24, 24)).astype(np.float32)
    before = hu.copy()
    small, whole = np.zeros(hu.shape, dtype=np.uint8), np.ones(hu.shape, dtype=np.uint8)
    small[10:13, 9:14, 11:15] = 1
    inside = small > 0
    np.testing.assert_allclose(denoised(hu, small, kind)[inside], denoised(hu, whole, kind)[inside], atol=1e-3)
    np.testing.assert_array_equal(hu, before)


def test_noise_alone_makes_laa_and_a_median_takes_most_of_it_away(tmp_path):
    """-860 HU with noise has no voxel of emphysema in truth."""
    noise = np.random.default_rng(1).normal(0, 60, chest().shape)
    path = save_nifti(tmp_path / "a.nii", np.clip(chest() + noise, -1024, 3071))
    noisy, quiet = (describe_ct(path, config=IngestConfig(denoise=kind)) for kind in ("none", "median"))
    assert noisy["laa950_pct"] > 4
    assert quiet["laa950_pct"] < 0.5
    assert quiet["lung_volume_l"] == noisy["lung_volume_l"]
    assert any("[denoised]" in warning for warning in quiet["warnings"])
    assert (noisy["denoise"], quiet["denoise"]) == ("none", "median")


def test_only_figures_change_and_it_is_written_down(tmp_path):
    manifest, found = one_scan(tmp_path), {}
    for kind in ("none", "gaussian"):
        cache = tmp_path / kind
        row = ingest(manifest, cache, IngestConfig(grid=32, denoise=kind)).index.iloc[0]
        assert row["denoise"] == load_metadata(cache / row["file"])["denoise"] == kind
        found[kind] = (row, load_subject(cache / row["file"]))
    (plain, before), (quiet, after) = found["none"], found["gaussian"]
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    assert plain["insp_perc15_hu"] < quiet["insp_perc15_hu"] - 5
    assert "[denoised]" in quiet["warnings"]
    assert any("[denoised]" in text for text in json.loads(after[2]["warnings"]))
    assert "[denoised]" not in plain["warnings"]


def test_another_reference_volume_scales_the_adjusted_perc15_and_makes_another_file(tmp_path):
    manifest = one_scan(tmp_path)
    results = [ingest(manifest, tmp_path / "cache", IngestConfig(grid=32, reference_volume_l=litres)) for litres in (6, 3)]
    assert [result.made for result in results] == [1, 1]
    six, three = (result.index.iloc[0] for result in results)
    assert three["insp_perc15_adjusted_g_l"] == pytest.approx(2 * six["insp_perc15_adjusted_g_l"])
    assert six["insp_perc15_adjusted_g_l"] == pytest.approx((six["insp_perc15_hu"] + 1000) * six["insp_lung_volume_l"] / 6)
    assert (six["reference_volume_l"], three["reference_volume_l"]) == (6, 3)
