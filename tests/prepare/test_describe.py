import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from chest import Chest, chest
from matplotlib.figure import Figure
from PIL import Image
from typer.testing import CliRunner

from copdvae.cli import app
from copdvae.errors import ReadError, reason_of
from copdvae.prepare.describe import as_table, describe_ct, draw_slice
from copdvae.prepare.lungs import LungError

BOTH = ("lung_volume_l", "laa950_pct", "laa910_pct", "laa856_pct", "perc15_hu", "perc15_adjusted_g_l", "mean_lung_hu")
FIGURES = {f"{name}{suffix}" for name in BOTH for suffix in ("", "_with_airways")} | {
    "left_volume_l", "right_volume_l", "upper_third_laa950_pct", "lower_third_laa950_pct", "trachea_hu"}  # fmt: skip
SETTINGS = {"denoise", "reference_volume_l"}
KEYS = {"reader", "shape", "spacing_mm", "hu_min", "hu_max", "hu_mean", "mask", "scanner", "warnings"} | FIGURES | SETTINGS


def write(path: Path, voxels: np.ndarray, real: Chest) -> Path:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing([float(gap) for gap in real.volume.spacing[::-1]])
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    real = chest()
    return write(tmp_path / "Jane_Doe.nrrd", np.rint(real.volume.hu).astype(np.int16), real)


def test_a_chest_is_described_in_json(scan: Path):
    real = chest()
    result = CliRunner().invoke(app, ["ct", str(scan), "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert set(found) == KEYS
    assert found["shape"] == list(real.volume.hu.shape)
    assert found["spacing_mm"] == [5, 5, 5]
    assert (found["hu_min"], found["hu_max"]) == (-1000, 40)
    assert found["hu_mean"] == pytest.approx(np.rint(real.volume.hu).mean(), abs=1e-3)
    assert found["lung_volume_l"] == pytest.approx(4.3, abs=0.05)
    assert found["mask"] == "threshold"
    assert [reason_of(warning) for warning in found["warnings"]] == ["gas_left_out", "thick_slices"]  # a stomach; 5 mm


def test_nothing_that_names_a_person_is_printed(scan: Path):
    shown = json.dumps(describe_ct(scan)) + as_table(describe_ct(scan))
    assert "Jane" not in shown
    assert str(scan.parent) not in shown


def test_a_given_mask_makes_the_figures(scan: Path, tmp_path: Path):
    real = chest()
    mask = write(tmp_path / "mask.nrrd", real.truth, real)
    found = json.loads(CliRunner().invoke(app, ["ct", str(scan), "--mask", str(mask), "--json"]).stdout)
    litre = real.volume.voxel_ml / 1000
    assert found["mask"] == "given"
    assert found["left_volume_l"] == pytest.approx(np.count_nonzero(real.truth == 2) * litre)
    assert found["lung_volume_l_with_airways"] == pytest.approx(np.count_nonzero(real.truth) * litre)


def test_a_mask_of_another_grid_is_refused(scan: Path, tmp_path: Path):
    real = chest()
    with pytest.raises(ReadError):
        describe_ct(scan, write(tmp_path / "mask.nrrd", real.truth[:-1], real))


def test_without_lungs_the_figures_are_null_and_a_warning_says_why(tmp_path: Path):
    real = chest(lungs=())
    scan = write(tmp_path / "legs.nrrd", np.rint(real.volume.hu).astype(np.int16), real)
    result = CliRunner().invoke(app, ["ct", str(scan), "--json", "--png", str(tmp_path / "legs.png")])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert set(found) == KEYS
    assert all(found[name] is None for name in FIGURES)
    assert found["mask"] is None
    assert any("no lungs" in warning for warning in found["warnings"])
    assert (tmp_path / "legs.png").stat().st_size > 10_000


def test_a_broken_scan_is_one_error_that_is_ours(tmp_path: Path):
    with pytest.raises(ReadError) as caught:
        describe_ct(tmp_path / "absent.nrrd")
    assert not isinstance(caught.value, LungError)
    assert "\n" not in str(caught.value)


def test_the_table_gives_every_figure_with_its_unit(scan: Path):
    lines = as_table(describe_ct(scan)).splitlines()
    volume = next(line for line in lines if line.startswith("Lung volume"))
    assert volume.split()[3::2] == ["L", "L"]
    assert float(volume.split()[2]) == pytest.approx(4.3, abs=0.05)
    assert any("(Perc15 + 1000) x lung volume / 6 L" in line for line in lines)
    assert {line.split()[0] for line in lines if line.endswith("HU")} >= {"Perc15", "Mean", "Air"}


def test_the_picture_shows_lungs_and_airways_in_their_colours(scan: Path, tmp_path: Path):
    describe_ct(scan, png=tmp_path / "chest.png")
    pixels = np.asarray(Image.open(tmp_path / "chest.png").convert("RGB")).reshape(-1, 3).astype(int)
    for colour in ((0xFF, 0x8C, 0x1A), (0x35, 0xB6, 0xFF), (0xF4, 0xF4, 0x36)):
        assert (np.abs(pixels - colour).sum(axis=1) < 30).sum() > 50
    assert [file.name for file in tmp_path.glob("*.png")] == ["chest.png"]
    assert not list(tmp_path.glob(".*"))  # no half-written file


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_has_head_up_front_up_and_the_right_lung_on_the_viewers_left(axis: int):
    real = chest((6.0, 5.0, 5.0))
    panel = Figure().subplots()
    draw_slice(panel, real.volume, real.truth, axis, real.volume.hu.shape[axis] // 2)
    image = np.asarray(panel.images[0].get_array())
    rows = real.volume.hu.shape[1] if axis == 0 else real.volume.hu.shape[0]
    expected = np.take(real.volume.hu, real.volume.hu.shape[axis] // 2, axis=axis)
    np.testing.assert_array_equal(image, expected if axis == 0 else expected[::-1])  # first row at the top: front, or head
    assert panel.yaxis_inverted()
    assert not panel.xaxis_inverted()  # first column, the patient's right, on the left
    assert image.shape[0] == rows
    assert panel.get_aspect() == pytest.approx(1.0 if axis == 0 else 6 / 5)


@pytest.mark.data
def test_dicom_and_nrrd_of_one_scan_say_the_same(real_data: Path):
    one, other = (describe_ct(real_data / "ct/cip" / name) for name in ("ct-64Dicom", "ct-64.nrrd"))
    assert one["shape"] == other["shape"]
    for name in FIGURES | {"hu_min", "hu_max", "hu_mean"}:
        assert one[name] == pytest.approx(other[name], abs=1e-3), name


@pytest.mark.data
def test_a_cropped_lung_has_no_figures_and_a_border_warning(real_data: Path):
    found = describe_ct(real_data / "ct/elastix/3DCT_lung_baseline_small.mha")
    assert found["lung_volume_l"] is None
    assert any("touch the sides" in warning for warning in found["warnings"])
