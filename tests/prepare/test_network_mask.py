"""The mask by `lungmask`'s network.

Its published weights are not here: a stand-in for the network marks lungs by threshold and side, and all around it is the package's own.
The real network is loaded with weights that are random.
"""

import os
import pickle
import sys

import numpy as np
import pytest
import torch
from chests import SHAPE, SPACING, chest, lungs, save_nifti

from copdvae.errors import ConfigError, CopdvaeError
from copdvae.prepare import network_mask as module
from copdvae.prepare.cached import settings_digest
from copdvae.prepare.ingest import ingest
from copdvae.prepare.lungs import LEFT, RIGHT, LungError
from copdvae.prepare.network_mask import load_network, load_state, lungmask_lungs, marked
from copdvae.prepare.settings import IngestConfig
from copdvae.read.volume import Volume


def stand_in(seen: torch.Tensor) -> torch.Tensor:
    """Scores (N, 3, 256, 256) of slices (N, 1, 256, 256) in 0 to 1: 1 right lung, 2 left lung, where the slice is dark inside the body."""
    hu = seen[:, 0] * 1624 - 1024
    dark = (hu < -500) & (hu > -950)
    left = torch.arange(256) >= 128
    return torch.stack([~dark, dark & ~left, dark & left], dim=1).float()


class Evil:
    def __reduce__(self):
        return (os.system, ("touch ran",))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def volume() -> Volume:
    return Volume(chest().astype(np.float32), (SPACING,) * 3, np.diag([SPACING] * 3 + [1]))


@pytest.mark.parametrize("settings", [{"mask": "lungmask"}, {"lungmask_weights": "w.pth"}])
def test_the_mask_and_its_weights_are_named_together(settings):
    with pytest.raises(ConfigError, match="nothing is downloaded"):
        IngestConfig.parse(settings)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
def test_a_pickle_that_would_run_something_is_refused_unrun(here, old):
    torch.save({"last.bias": Evil()}, here / "evil.pth", _use_new_zipfile_serialization=not old)
    (here / "plain.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pth", "plain.pth"):
        with pytest.raises(CopdvaeError, match="nothing of it was run"):
            load_state(here / name)
    assert not (here / "ran").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "not a state dict"),
        ({}, "not a state dict"),
        ({"last.bias": 3}, "not a state dict"),
        ({"other": torch.zeros(3)}, "another network"),
        ({"last.bias": torch.zeros(3, 3)}, "another network"),
        ({"last.bias": torch.zeros(1_000_000)}, "another network"),
    ],
)
def test_what_is_not_weights_is_refused(here, content, words):
    torch.save(content, here / "w.pth")
    with pytest.raises(CopdvaeError, match=words):
        load_state(here / "w.pth")


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04", b"\x80\x02"])
def test_a_file_that_torch_did_not_save_is_refused(here, content):
    (here / "w.pth").write_bytes(content)
    with pytest.raises(CopdvaeError, match="nothing of it was run"):
        load_state(here / "w.pth")


def test_missing_weights_and_a_missing_extra_stop_the_study_with_one_line(here, monkeypatch):
    save_nifti(here / "a.nii", chest())
    (here / "manifest.csv").write_text("subject_id,insp_path\nP1,a.nii\n")
    config = IngestConfig(grid=32, mask="lungmask", lungmask_weights="w.pth")
    for name in ("lungmask", "lungmask.resunet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(CopdvaeError, match=r"pip install copdvae\[lungmask\]"):
        ingest(here / "manifest.csv", here / "cache", config)
    with pytest.raises(CopdvaeError, match="no such file"):
        load_state(here / "w.pth")
    assert not (here / "cache").exists()


def test_the_weights_count_by_what_they_hold_and_not_by_where_they_lie(here):
    digests = []
    for name, content in (("a.pth", b"1"), ("b.pth", b"1"), ("a.pth", b"22")):
        (here / name).write_bytes(content)
        digests.append(settings_digest(IngestConfig(mask="lungmask", lungmask_weights=here / name)))
    assert digests[0] == digests[1] != digests[2]
    assert settings_digest(IngestConfig()) == IngestConfig().digest()


class TestWithTheExtra:
    @pytest.fixture(autouse=True)
    def extra(self):
        pytest.importorskip("lungmask", reason="needs copdvae[lungmask]")

    def test_slices_go_through_the_package_and_come_back_in_place_with_their_sides(self):
        found = marked(volume().hu, stand_in)
        truth = lungs()
        assert (found.shape, found.dtype) == (SHAPE, np.uint8)
        for side in (RIGHT, LEFT):
            both = np.count_nonzero((found == side) & (truth == side))
            assert 2 * both / (np.count_nonzero(found == side) + np.count_nonzero(truth == side)) > 0.93

    def test_the_maker_is_recorded_and_a_rerun_gives_the_same(self, here, monkeypatch):
        monkeypatch.setattr(module, "load_network", lambda weights: stand_in)
        save_nifti(here / "a.nii", chest())
        (here / "w.pth").write_bytes(b"weights")
        (here / "manifest.csv").write_text("subject_id,insp_path\nP1,a.nii\n")
        config = IngestConfig(grid=32, mask="lungmask", lungmask_weights="w.pth")
        first, second = (ingest(here / "manifest.csv", here / cache, config).index for cache in ("one", "two"))
        assert first.loc[0, "insp_mask"] == "lungmask"
        assert first.equals(second)
        files = [here / cache / first.loc[0, "file"] for cache in ("one", "two")]
        assert files[0].read_bytes() == files[1].read_bytes()
        assert str(here).encode() not in files[0].read_bytes()

    def test_a_network_that_marks_nothing_or_one_lung_is_refused(self, monkeypatch):
        for keep, reason in (((), "empty_mask"), ((1,), "one_lung")):

            def some(seen, keep=keep):
                scores = stand_in(seen)
                for side in {1, 2} - set(keep):
                    scores[:, side] = -1
                return scores

            monkeypatch.setattr(module, "load_network", lambda weights, some=some: some)
            with pytest.raises(LungError) as caught:
                lungmask_lungs(volume(), "w.pth")
            assert caught.value.reason == reason

    def test_the_real_network_takes_weights_of_its_own_shapes_alone(self, here):
        from lungmask.resunet import UNet

        state = UNet(n_classes=3, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False).state_dict()
        torch.save(state, here / "w.pth")
        network = load_network(here / "w.pth")
        assert not network.training
        with torch.inference_mode():
            assert network(torch.zeros(1, 1, 64, 64)).shape == (1, 3, 64, 64)
        state.pop("last.weight")
        torch.save(state, here / "less.pth")
        with pytest.raises(CopdvaeError, match="another network"):
            load_network(here / "less.pth")
