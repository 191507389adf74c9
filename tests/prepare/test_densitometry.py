import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chest import chest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from copdvae.prepare.densitometry import densitometry
from copdvae.prepare.lungs import Lungs, given_lungs
from copdvae.read import read_ct, read_labels

SPACING = (2.0, 0.5, 3.0)
hus = arrays(np.int16, (5, 3, 4), elements=st.integers(-1024, 200))
maps = arrays(np.uint8, (5, 3, 4), elements=st.integers(0, 3))


def by_hand(hu, labels, spacing):
    """The definitions, one voxel at a time."""
    voxels = [(z, float(value), label) for (z, _, _), value, label in zip(np.ndindex(hu.shape), hu.ravel(), labels.ravel(), strict=True)]
    litre = math.prod(spacing) / 1e6
    figures = {}
    for suffix, kept in (("", (1, 2)), ("_with_airways", (1, 2, 3))):
        values = sorted(value for _, value, label in voxels if label in kept)
        figures[f"lung_volume_l{suffix}"] = len(values) * litre
        for name in (950, 910, 856):
            figures[f"laa{name}_pct{suffix}"] = 100 * sum(value < -name for value in values) / len(values) if values else None
        figures[f"mean_lung_hu{suffix}"] = math.fsum(values) / len(values) if values else None
        place = 0.15 * (len(values) - 1)
        low, high = (values[math.floor(place)], values[math.ceil(place)]) if values else (0, 0)
        perc15 = low + (place - math.floor(place)) * (high - low) if values else None
        figures[f"perc15_hu{suffix}"] = perc15
        figures[f"perc15_adjusted_g_l{suffix}"] = None if perc15 is None else (perc15 + 1000) * len(values) * litre / 6
    for name, side in (("right", 1), ("left", 2)):
        figures[f"{name}_volume_l"] = sum(label == side for *_, label in voxels) * litre
    heights = [z for z, _, label in voxels if label in (1, 2)]
    third = (max(heights) + 1 - min(heights)) / 3 if heights else 1
    for name, low, high in (("lower", 0, 1), ("upper", 2, 3)):
        part = [value for z, value, label in voxels if label in (1, 2) and low <= (z + 0.5 - min(heights)) / third < high]
        figures[f"{name}_third_laa950_pct"] = 100 * sum(value < -950 for value in part) / len(part) if part else None
    return figures | {"trachea_hu": None}


@settings(max_examples=60, deadline=None)
@given(hu=hus, labels=maps)
def test_every_figure_is_its_definition(hu, labels):
    found = densitometry(hu, Lungs(labels, "given"), SPACING)
    expected = by_hand(hu, labels, SPACING)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == (None if value is None else pytest.approx(value, rel=1e-6, abs=1e-9)), name


@pytest.mark.parametrize(("name", "threshold"), [("laa950_pct", -950), ("laa910_pct", -910), ("laa856_pct", -856)])
def test_a_voxel_at_the_threshold_does_not_count(name, threshold):
    hu = np.array([threshold - 1, threshold, threshold + 1, threshold - 1], dtype=np.float32).reshape(4, 1, 1)
    assert densitometry(hu, Lungs(np.ones((4, 1, 1), dtype=np.uint8), "given"), (1, 1, 1))[name] == 50


def test_an_empty_mask_gives_none_and_never_zero_percent():
    figures = densitometry(np.zeros((2, 2, 2)), Lungs(np.zeros((2, 2, 2), dtype=np.uint8), "given"), (1, 1, 1))
    volumes = {name for name in figures if name.split("_")[1] == "volume"}
    assert all(figures[name] == 0 for name in volumes)
    assert all(value is None for name, value in figures.items() if name not in volumes)


def test_the_thirds_are_of_the_height_and_upper_is_towards_the_head():
    hu = np.full((8, 2, 2), -800.0)  # z grows to the head
    labels = np.ones(hu.shape, dtype=np.uint8)
    labels[[0, 7]] = 0  # slices 1 and 2 are the lower third, 5 and 6 the upper one
    hu[[1, 2, 4, 6]] = -990
    figures = densitometry(hu, Lungs(labels, "given"), (1, 1, 1))
    assert (figures["upper_third_laa950_pct"], figures["lower_third_laa950_pct"]) == (50, 100)


def test_airways_count_only_where_the_name_says_so():
    real = chest()
    lungs = Lungs(real.truth, "given", trachea_hu=-995.0)
    figures = densitometry(real.volume.hu, lungs, real.volume.spacing)
    airways = np.count_nonzero(real.truth == 3)
    assert figures["laa950_pct"] == 0  # parenchyma is -850 HU, vessels are tissue
    assert figures["laa950_pct_with_airways"] == pytest.approx(100 * airways / np.count_nonzero(real.truth))
    assert figures["lung_volume_l_with_airways"] - figures["lung_volume_l"] == pytest.approx(airways * real.volume.voxel_ml / 1000)
    assert figures["trachea_hu"] == -995
    without = densitometry(real.volume.hu, replace(lungs, labels=np.where(real.truth == 3, 0, real.truth)), real.volume.spacing)
    assert without["laa950_pct_with_airways"] == 0


@pytest.mark.parametrize("reference", [6.0, 4.5])
def test_a_sponge_that_is_stretched_keeps_its_adjusted_perc15(reference):
    """The same tissue in `stretch` times the volume is `stretch` times less dense: Perc15 moves, the adjusted one does not."""
    density = np.linspace(60, 400, 1000).reshape(10, 10, 10)  # g/L
    ones = Lungs(np.ones(density.shape, dtype=np.uint8), "given")
    found = [densitometry(density / stretch - 1000, ones, (10.0 * stretch, 10.0, 10.0), reference) for stretch in (1.0, 1.6)]
    assert found[0]["perc15_adjusted_g_l"] == pytest.approx(found[1]["perc15_adjusted_g_l"])
    assert found[0]["perc15_adjusted_g_l"] == pytest.approx((60 + 0.15 * 340) / reference)  # 1 litre
    assert found[0]["perc15_hu"] - found[1]["perc15_hu"] > 30


@pytest.mark.data
def test_a_real_chest_has_its_known_figures(real_data: Path):
    """With airways and vessels: where the region is not 0. Without: where the type is 0 as well."""
    volume = read_ct(real_data / "ct/cip/ct-64.nrrd")
    lungs = given_lungs(read_labels(real_data / "ct/cip/lm-64.nrrd", like=volume), volume)
    figures = densitometry(volume.hu, lungs, volume.spacing)
    assert np.count_nonzero(lungs.labels) == 65_624
    assert figures["lung_volume_l_with_airways"] == pytest.approx(4.5542, abs=5e-5)
    assert figures["laa950_pct_with_airways"] == pytest.approx(19.6620, abs=5e-5)
    assert figures["perc15_hu_with_airways"] == -955
    assert figures["mean_lung_hu_with_airways"] == pytest.approx(-873.81, abs=5e-3)
    assert figures["lung_volume_l"] == pytest.approx(4.1784, abs=5e-5)
    assert figures["laa950_pct"] == pytest.approx(21.4267, abs=5e-5)
    assert figures["perc15_hu"] == -956
