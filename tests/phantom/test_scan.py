"""The scan's parts against closed forms, and its lungs against what was asked for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from copdvae.phantom import anatomy, disease, people, scan, study
from copdvae.phantom.anatomy import Breath, Tubes
from copdvae.prepare.lungs import find_lungs
from copdvae.read.volume import Volume

STILL = Breath((1.0, 1.0, 1.0), 0.0)


def job(index: int = 1, size: int = 48, severity: float = 0.5) -> study.Job:
    ill = people.draw_disease(study.generator(0, index, "disease"), severity)
    person = people.draw_person(study.generator(0, index, "person"), ill)
    return study.Job(Path(), "S0001", index, 0, size, "dicom", person, ill, False)


@pytest.fixture(scope="module")
def canvas():
    scanner = scan.Scanner(0, 0, 0.0, "soft", 10.0, (3.0, 2.5, 2.5))
    return scan.Canvas(scanner, scan.Pose((4.0, -3.0, 5.0), (3.0, -2.0, 0.0)), 60, 60.0, -60.0, 0.0)


def volume_mm3(canvas, share):
    return float(share.sum() * np.prod(canvas.step))


def test_a_ball_has_its_volume_and_its_place(canvas):
    share = scan.stamp_balls(canvas, np.array([[10.0, -8.0, 5.0]]), np.array([14.0]), np.array([1.0, 0.8, 0.7]))
    assert volume_mm3(canvas, share) == pytest.approx(4 / 3 * np.pi * 14**3 * 0.56, rel=0.05)
    centre = [np.average(axis, weights=share) for axis in (canvas.x, canvas.y, canvas.z)]
    np.testing.assert_allclose(centre, (10, -8, 5), atol=0.5)


def test_wide_and_thin_tubes_have_their_volume(canvas):
    tube = Tubes(np.array([[-20.0, 0.0, -15.0]]), np.array([[20.0, 10.0, 15.0]]), np.array([6.0]))
    length = np.linalg.norm(tube.end - tube.start)
    expected = np.pi * 36 * length
    assert volume_mm3(canvas, scan.stamp_capsules(canvas, tube, STILL)) == pytest.approx(expected + 4 / 3 * np.pi * 216, rel=0.05)
    thin = scan.stamp_fine(canvas, tube, STILL, np.array([2.0]))
    assert volume_mm3(canvas, thin) == pytest.approx(2.0 * length, rel=1e-5)
    np.testing.assert_allclose([np.average(axis, weights=thin) for axis in (canvas.x, canvas.y, canvas.z)], (0, 5, 0), atol=0.01)


def test_a_pose_turns_voxels_and_points_alike(canvas):
    at = canvas.voxels(np.array([[canvas.x[7, 20, 33], canvas.y[7, 20, 33], canvas.z[7, 20, 33]]]))
    np.testing.assert_allclose(at, [[33, 20, 7]], atol=1e-3)
    np.testing.assert_allclose(canvas.turn @ canvas.turn.T, np.eye(3), atol=1e-12)
    turned = [
        np.abs(scan.Pose(angles, (0, 0, 0)).matrix() @ (1, 2, 3)).round(6).tolist() for angles in ((90, 0, 0), (0, 90, 0), (0, 0, 90))
    ]
    assert turned == [[2, 1, 3], [3, 2, 1], [1, 3, 2]]  # about z, about y, about x


def test_material_points_and_voxels_meet():
    breath = Breath((0.95, 0.8, 0.6), 70.0)
    points = np.random.default_rng(0).normal(0, 60, (50, 3))
    np.testing.assert_allclose(np.stack(breath.backward(*breath.forward(points).T), axis=1), points)
    np.testing.assert_allclose(breath.forward(np.array([[10.0, 70.0, -100.0]])), [[9.5, 70.0, -60.0]])  # the back wall stays


def test_the_diaphragm_settles_where_the_lungs_have_their_volume():
    person = job().person
    thorax = anatomy.settle_diaphragm(anatomy.draw_thorax(np.random.default_rng(3), person))
    z, y, x = np.mgrid[-330:4:4, -130:131:4, -160:161:4].astype(np.float32)
    litres = anatomy.inside(anatomy.lungs(thorax, x, y, z), 4).sum() * 64 / 1e6
    assert litres == pytest.approx(thorax.lung_volume_ml / 1000, rel=0.03)


@pytest.mark.parametrize("index", [1, 2, 3])
def test_expiration_leaves_the_asked_share_of_the_lung_and_both_lungs_are_found(index):
    truth, scans = study.make_scans(job(index))
    litres = {}
    for breath, (hu, lung, _, scanner) in scans.items():
        volume = Volume(hu.astype(np.float32), scanner.spacing, np.eye(4))
        labels = find_lungs(volume).labels
        found, made = np.isin(labels, (1, 2)), lung > 0.5
        assert 2 * (found & made).sum() / (found.sum() + made.sum()) > 0.95
        right = np.nonzero(labels == 1)[2].mean()
        assert right < np.nonzero(labels == 2)[2].mean()  # LPS: the right lung at low x
        litres[breath] = float(lung.sum()) * volume.voxel_ml / 1000
    assert litres["exp"] / litres["insp"] == pytest.approx(truth["effort"], rel=0.04)


def density(trapping: float, effort: float) -> np.ndarray:
    """Median density of a lung without holes, insp and exp, where every lobule traps as much."""
    chest = anatomy.settle_diaphragm(anatomy.draw_thorax(np.random.default_rng(0), job().person))
    emptied, breath = anatomy.exhale(chest, effort, np.random.default_rng(1))
    healthy = disease.draw_lesions(np.random.default_rng(2), chest, people.Disease(0, 0, 0, 0, 0))
    lesions = replace(healthy, lobule_trapping=np.full(len(healthy.lobule_centre), trapping))
    tissue = scan.Parenchyma(0.12, 0.0, 0.0)
    out = []
    for thorax, at, share in ((chest, Breath((1.0, 1.0, 1.0), breath.back), 1.0), (emptied, breath, effort)):
        view = scan.Canvas(scan.Scanner(0, 0, 0.0, "soft", 10.0, (6.0, 6.0, 6.0)), scan.Pose((0, 0, 0), (0, 0, 0)), 48, 20, -300, 0)
        lung = anatomy.inside(anatomy.lungs(thorax, view.x, view.y, view.z), view.edge)
        values = scan.lung_density(view, thorax, at, lesions, tissue, lung, np.zeros(view.shape), share)
        out.append(np.median(values[lung > 0.9]))
    return np.array(out)


def test_healthy_lung_conserves_its_mass_and_a_trapped_one_its_density():
    np.testing.assert_allclose(density(0.0, 0.5), [0.12, 0.24], rtol=1e-5)
    np.testing.assert_allclose(density(1.0, 0.5), [0.12, 0.12], rtol=1e-5)
    np.testing.assert_allclose(density(0.5, 0.5), [0.12, 0.18], rtol=1e-5)


def test_disease_shows_as_low_attenuation_and_leaves_body_and_scanner_alone():
    (mild, mild_scans), (severe, severe_scans) = (study.make_scans(job(4, severity=severity)) for severity in (0.05, 0.97))
    below = [
        [(hu[lung > 0.6] < threshold).mean() for (hu, lung, *_), threshold in zip(scans.values(), (-950, -856), strict=True)]
        for scans in (mild_scans, severe_scans)
    ]
    assert below[1][0] > below[0][0] + 0.08
    assert below[1][1] > below[0][1] + 0.2
    same = [key for key in mild if key.startswith(("thorax_", "scan_", "pose_")) or key in ("age", "height_cm", "effort")]
    assert len(same) > 20
    assert {key: mild[key] for key in same} == {key: severe[key] for key in same}


def test_emphysema_is_apical():
    chest = anatomy.settle_diaphragm(anatomy.draw_thorax(np.random.default_rng(0), job().person))
    heights = [
        1
        - disease.draw_lesions(np.random.default_rng(seed), chest, people.Disease(0.8, 0.8, 0.8, 0, 0)).hole_centre[:, 2].mean()
        / chest.diaphragm
        for seed in range(8)
    ]
    assert np.mean(heights) > 0.52  # 0 at the base, 1 at the apex; lungs are wider below


@pytest.mark.parametrize("kernel", ["sharp", "soft"])
def test_noise_has_the_scanners_strength(kernel):
    scanner = scan.Scanner(0, 0, 2.0, kernel, 16.0, (5.0, 5.0, 5.0))
    flat = np.zeros((40, 60, 60), dtype=np.float32)
    hu = scan.expose(np.random.default_rng(0), flat, scanner)
    assert hu.std() == pytest.approx(16.0, rel=0.02)
    assert hu.mean() == pytest.approx(2.0, abs=0.5)
