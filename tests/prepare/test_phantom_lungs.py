"""Lungs and densities of the phantom, which knows which voxels are lung; by `tests/benchmarks/phantom_lungs.py` of a whole study."""

import sys
from pathlib import Path

import pytest

from copdvae.phantom.study import Job, draw_people, make_scans

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from phantom_lungs import scored_scan

SEED, SIZE = 2, 64  # the demo's


@pytest.mark.parametrize("number", [303, 358, 379])
def test_pieces_of_emphysema_at_the_bases_stay_in_the_lungs_of_thick_slices(number):
    """Tens of millilitres each, with no lung below and as good as walled off, at expiration: they were once taken for gas of the belly."""
    people, diseases, _ = draw_people(SEED, range(1, number + 1), None)
    _, scans = make_scans(Job(Path(), "S", number, SEED, SIZE, "dicom", people[-1], diseases[-1], broken=False))
    found = scored_scan(*scans["exp"])
    assert found["dice"] > 0.975
    assert abs(found["laa950_pct"]) < 0.5
    assert abs(found["laa856_pct"]) < 1
    assert "gas_left_out" not in found["warnings"]
