import json
from pathlib import Path

import numpy as np
import pytest

from copdvae.errors import reason_of
from copdvae.prepare.acquisition import HEADER_KEYS, doubts, recorded
from copdvae.prepare.describe import describe_ct
from copdvae.read import read_ct

THIN = (1.0, 0.7, 0.7)


def codes(header: dict, spacing=THIN, trachea_hu=None) -> list[str]:
    return [reason_of(warning) for warning in doubts(header, spacing, trachea_hu)]


@pytest.mark.parametrize(
    ("kernel", "sharp"),
    [
        ("B31f", False), ("B45f", False), ("B50f", True), ("I70f", True), ("Br40d", False), ("Bl57d", True), ("STANDARD", False),
        ("CHEST", False), ("LUNG", True), ("BONEPLUS", True), ("B", False), ("C", False), ("YA", True), ("L", True), ("D", True),
        ("FC01", False), ("FC13", False), ("FC51", True), ("FC30", True), ("", False), ("unheard of", False),
    ],
)  # fmt: skip
def test_a_sharp_kernel_of_each_maker_is_told_and_a_soft_or_unknown_one_is_not(kernel, sharp):
    assert codes({"kernel": kernel}) == ["sharp_kernel"] * sharp


@pytest.mark.parametrize(("kvp", "told"), [(120.0, False), (100.0, True), (140.0, True)])
def test_another_voltage_than_120_is_told(kvp, told):
    assert codes({"kvp": kvp}) == ["kvp"] * told


@pytest.mark.parametrize(
    ("header", "step", "told"),
    [
        ({}, 1.5, False),
        ({}, 2.0, True),
        ({"slice_thickness_mm": 0.75}, 0.5, False),
        ({"slice_thickness_mm": 2.5}, 1.25, True),  # thick and overlapping
        ({"slice_thickness_mm": 1.0}, 10.0, True),  # thin and far apart
    ],
)
def test_slices_that_are_thick_or_apart_are_told(header, step, told):
    assert codes(header, (step, 0.7, 0.7)) == ["thick_slices"] * told


def test_contrast_and_air_that_does_not_read_as_air_are_told():
    assert codes({"contrast": "yes"}) == ["contrast"]
    assert codes({"contrast": ""}) == []
    assert [codes({}, trachea_hu=hu) for hu in (-1000.0, -930.0, -900.0, -1022.0)] == [[], [], ["trachea_hu"], ["trachea_hu"]]


def test_nothing_but_the_listed_keys_is_kept():
    header = {key: "x" for key in HEADER_KEYS} | {"patient_name": "Doe", "contrast": ""}
    assert recorded(header) == {key: "x" for key in HEADER_KEYS if key != "contrast"}


@pytest.mark.data
def test_a_real_scan_with_contrast_and_thick_slices_says_so(real_data: Path):
    found = describe_ct(real_data / "ct/opentps_4dct/inhale_phase20_dicom")
    assert "thick_slices" in {reason_of(warning) for warning in found["warnings"]}
    assert found["scanner"]["kernel"] == "C"
    header = read_ct(real_data / "ct/cip/ct-64Dicom").header
    assert json.dumps(recorded(header))
    assert np.isfinite(float(header.get("kvp", 120)))
