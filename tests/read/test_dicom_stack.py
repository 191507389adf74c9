"""Missing slices, uneven steps and tilted gantries: refused, or resampled where that is asked for.

The world here is linear in space, so a right resampling gives its value at every place, between slices, too.
"""

from pathlib import Path

import numpy as np
import pytest
from ct_writers import assert_reads_the_world, setting, write_series
from test_dicom import refused

from copdvae.read import check_ct, read_ct
from copdvae.read.dicom import read_volume
from copdvae.read.options import ReadConfig

GAPS, TILT = ReadConfig(allow_gaps=True), ReadConfig(resample_tilt=True)
BOTH = ReadConfig(allow_gaps=True, resample_tilt=True)
SLOPE = 1 / 64


def linear(places: np.ndarray) -> np.ndarray:
    return places @ [1.5, 4, 7.25] - 500


def stored(hu: np.ndarray) -> np.ndarray:
    """Raw values for a slope of 1/64: all but exact."""
    return np.rint((hu + 1024) / SLOPE)


def places(volume) -> np.ndarray:
    """LPS mm of every voxel, (z, y, x, 3)."""
    z, y, x = np.indices(volume.hu.shape)
    return (np.stack([x, y, z, np.ones_like(x)], axis=-1) @ volume.affine.T)[..., :3]


def write_linear(folder: Path, depths: list[float], **options) -> Path:
    return write_series(folder, depths, change=setting(RescaleSlope=SLOPE), raw=stored, world=linear, **options)


class TestGaps:
    @pytest.mark.parametrize(
        ("depths", "made_up"),
        [([0, 5, 15, 20, 30, 35], "2 of 8 slices, 5 mm apart,"), ([0, 5, 10, 15, 30, 35], "2 of 8"), ([0, 5, 10, 30], "3 of 7")],
    )
    def test_missing_slices_are_made_up_where_asked_for_and_said(self, tmp_path, depths, made_up):
        folder = write_series(tmp_path, depths)
        refused(folder, "missing_slice", "allow_gaps")
        volume = read_ct(folder, config=GAPS)
        assert_reads_the_world(volume)
        assert volume.spacing == (5, 3, 2)
        (warning,) = volume.warnings
        assert made_up in warning
        assert warning.endswith("asked for [gaps_filled]")
        assert check_ct(folder, config=GAPS)["warnings"] == [warning]

    def test_slices_that_are_there_stay_as_they_are_and_others_lie_between_their_neighbours(self, tmp_path):
        rng = np.random.default_rng(0)
        noise = rng.integers(-1024, 1000, (4, 5, 4))
        count = iter(noise)
        volume = read_ct(write_series(tmp_path, [0, 5, 20, 25], raw=lambda hu: next(count) + 1024), config=GAPS)
        np.testing.assert_array_equal(volume.hu[[0, 1, 4, 5]], noise)
        for plane, share in ((2, 1 / 3), (3, 2 / 3)):
            np.testing.assert_allclose(volume.hu[plane], (1 - share) * noise[1] + share * noise[2], atol=1e-3)

    @pytest.mark.parametrize("depths", [[0, 1, 5, 9, 16, 20], [0, 5, 10.5, 16, 21.5, 27], [0, 4, 8, 9, 16, 23, 30]])
    def test_uneven_steps_are_made_even_between_the_first_and_the_last_slice(self, tmp_path, depths):
        folder = write_linear(tmp_path, depths)
        refused(folder, "uneven_spacing", "allow_gaps")
        volume = read_volume(folder, config=GAPS)
        np.testing.assert_allclose(volume.hu, linear(places(volume)), atol=0.01)
        np.testing.assert_allclose(places(volume)[[0, -1], 0, 0, 2], [0, depths[-1]], atol=1e-9)
        assert "[gaps_filled]" in volume.warnings[0]

    def test_positions_that_are_nearly_multiples_are_not_taken_for_them(self, tmp_path):
        """Each gap is 4 % long, and in all the sixth slice is a quarter of a step late: moving it would be wrong."""
        depths = [0, 5, 10, 15.2, 20.4, 25.6, 36, 41.2]
        volume = read_volume(write_linear(tmp_path, depths), config=GAPS)
        np.testing.assert_allclose(volume.hu, linear(places(volume)), atol=0.01)

    def test_rounded_positions_with_a_gap_keep_their_slices(self, tmp_path):
        depths = [round(0.625 * number, 1) for number in range(60) if number not in (20, 21)]
        volume = read_volume(write_series(tmp_path, depths, world=lambda places: places[..., 0] * 0 + np.rint(places[..., 2])), config=GAPS)
        assert len(volume.hu) == 60
        kept = np.delete(volume.hu[:, 0, 0], (20, 21))
        np.testing.assert_array_equal(kept, np.rint(depths))

    @pytest.mark.parametrize("depths", [[0, 10, 20, 45, 55], [0, 8, 16, 40, 48], [0, 200, 205]])
    def test_wide_gaps_are_never_filled(self, tmp_path, depths):
        refused(write_series(tmp_path, depths), r"missing_slice" if depths[1] == 8 else "uneven_spacing", "gaps over 20 mm", config=GAPS)

    @pytest.mark.parametrize("depths", [[0, 10, 10, 20], [5], [7, 7, 7]])
    def test_what_no_resampling_mends_stays_refused(self, tmp_path, depths):
        refused(write_series(tmp_path, depths), "single_slice" if depths == [5] else "duplicate_position", "one slice|doubled", config=BOTH)


def tilted(degrees: float, turn: int = 0) -> tuple[list[float], list[float]]:
    """Orientation of slices tilted about their rows (turn 0) or their columns (turn 1)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return [[1, 0, 0, 0, c, -s], [c, 0, -s, 0, 1, 0]][turn], [0, 0, 1]


def assert_upright_and_right(volume, positions, orientation, sizes, spacing) -> None:
    """Wherever a slice was, the world; a pixel beyond its edge, air. By a naive look at each voxel, in each slice's own plane."""
    row, column = np.reshape(orientation, (2, 3))
    normal = np.cross(row, column)
    normal *= np.sign(normal[2])
    steps = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    np.testing.assert_allclose(steps.T @ steps, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(steps[:, 2], normal, atol=1e-9)
    inside = outside = 0
    for k, plane in enumerate(places(volume)):
        position = positions[k]
        u, v = (plane - position) @ column / spacing[0], (plane - position) @ row / spacing[1]
        within = (u > -1e-3) & (u < sizes[0] - 1 + 1e-3) & (v > -1e-3) & (v < sizes[1] - 1 + 1e-3)
        beyond = (u < -1) | (u > sizes[0]) | (v < -1) | (v > sizes[1])
        np.testing.assert_allclose(volume.hu[k][within], linear(plane[within]), atol=0.02)
        assert (volume.hu[k][beyond] == -1024).all()
        inside, outside = inside + within.sum(), outside + beyond.sum()
    assert inside >= len(positions) * (sizes[0] - 1) * (sizes[1] - 1)
    leaning = np.linalg.norm((positions[-1] - positions[0]) - (positions[-1] - positions[0]) @ normal * normal)
    assert outside > 0 or leaning < 2 * max(spacing)


class TestTilt:
    @pytest.mark.parametrize("turn", [0, 1])
    @pytest.mark.parametrize("degrees", [18.5, -18.5, 2.0, 25.0])
    def test_a_tilted_stack_is_sheared_upright_where_asked_for_and_said(self, tmp_path, degrees, turn):
        orientation, along = tilted(degrees, turn)
        folder = write_linear(tmp_path, [0, 5, 10, 15, 20], orientation=orientation, along=along, sizes=(9, 8))
        refused(folder, "tilted_gantry", f"leans {abs(degrees):.1f} degrees .*resample_tilt")
        volume = read_volume(folder, config=TILT)
        positions = np.array([[0, 0, depth] for depth in (0, 5, 10, 15, 20)])
        assert_upright_and_right(volume, positions, orientation, (9, 8), (3, 2))
        assert volume.spacing[0] == pytest.approx(5 * np.cos(np.radians(degrees)))
        assert f"leant {abs(degrees):.1f} degrees and was sheared upright" in volume.warnings[0]
        assert volume.warnings[0].endswith("[tilt_resampled]")

    @pytest.mark.parametrize("signs", [(-1, 1), (1, -1), (-1, -1)])
    def test_however_the_patient_lies(self, tmp_path, signs):
        c, s = np.cos(np.radians(15)), np.sin(np.radians(15))
        orientation = [signs[0], 0, 0, 0, signs[1] * c, -signs[1] * s]
        corner = (14 if signs[0] < 0 else 0, 24 * c if signs[1] < 0 else 0, -24 * s if signs[1] < 0 else 0)
        depths = [0, 5, 10, 15, 20]
        folder = write_linear(tmp_path, depths, orientation=orientation, along=[0, 0, 1], sizes=(9, 8), corner=corner)
        volume = read_volume(folder, config=TILT)
        positions = np.array(corner) + [[0, 0, depth] for depth in depths]
        assert_upright_and_right(volume, positions, orientation, (9, 8), (3, 2))

    def test_a_slice_moved_by_whole_pixels_keeps_every_value(self, tmp_path):
        """Each slice lies two rows further on: a shear of whole pixels, nothing between them."""
        rng = np.random.default_rng(0)
        noise = rng.integers(-1000, 1000, (3, 5, 4))
        count = iter(noise)
        folder = write_series(tmp_path, [0, 10, 20], along=[0, 0.6, 1], raw=lambda hu: next(count) + 1024)
        volume = read_ct(folder, config=TILT)
        expected = np.full((3, 9, 4), -1024.0)
        for k, plane in enumerate(noise):
            expected[k, 2 * k : 2 * k + 5] = plane
        np.testing.assert_array_equal(volume.hu, expected)

    def test_gaps_and_tilt_together(self, tmp_path):
        orientation, along = tilted(18.5)
        folder = write_linear(tmp_path, [0, 5, 10, 20, 25], orientation=orientation, along=along, sizes=(9, 8))
        refused(folder, "missing_slice", "allow_gaps", config=TILT)
        refused(folder, "tilted_gantry", "resample_tilt", config=GAPS)
        volume = read_volume(folder, config=BOTH)
        interior = np.s_[:, 3:-3, 1:-1]  # a made up slice is that where both its neighbours are
        np.testing.assert_allclose(volume.hu[interior], linear(places(volume)[interior]), atol=0.02)
        assert len(volume.hu) == 6

    def test_what_is_upright_and_even_is_not_touched(self, tmp_path):
        folder = write_series(tmp_path)
        np.testing.assert_array_equal(read_ct(folder, config=BOTH).hu, read_ct(folder).hu)
        assert read_ct(folder, config=BOTH).warnings == ()

    def test_a_bent_stack_stays_refused(self, tmp_path):
        def bend(dataset, number):
            x, y, z = map(float, dataset.ImagePositionPatient)
            dataset.ImagePositionPatient = [x, y + (3.0 if number == 2 else 0), z]

        refused(write_series(tmp_path, change=bend), "shifted_slices", "beside one line", config=BOTH)


@pytest.mark.data
def test_a_real_tilted_series_with_three_steps_is_read_where_asked_for(real_data):
    """GE, 18.5 degrees; steps of 4, 1.08 and 7 mm along the normal."""
    folder = real_data / "ct/dcm_qa_ct/GE"
    refused(folder, "tilted_gantry", "leans 18.5 degrees")
    refused(folder, "uneven_spacing", "mm apart, others 4.00; expected even steps", config=TILT)
    volume = read_ct(folder, config=BOTH)
    assert [warning.rpartition(" [")[2] for warning in volume.warnings] == ["tilt_resampled]", "gaps_filled]", "turned]"]
    assert volume.spacing[0] == pytest.approx(144.087 / 36, abs=1e-3)
    assert volume.hu.shape == (37, 512 + 99, 512)
