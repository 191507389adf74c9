import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from safetensors.numpy import save_file

from copdvae.dataset import AugmentConfig, InputConfig, Subjects, load_subjects
from copdvae.errors import ConfigError

SIZE = (4, 4, 4)


def write_cache(folder, channels):
    """Subjects A, B, ..: inspiration is -800 HU plus their number, expiration -600; labels 0 none, 1 right, 2 left, 3 airways."""
    rows = []
    for number, names in enumerate(channels):
        image = np.stack([np.full(SIZE, {"insp": -800, "exp": -600}[name] + number, np.int16) for name in names.split("+")])
        lung = np.broadcast_to(np.arange(4, dtype=np.uint8), image.shape).copy()
        subject = "ABCDEFG"[number]
        save_file({"image": image, "lung": lung}, folder / f"{subject}.safetensors", metadata={"channels": names})
        rows.append({"subject_id": subject, "file": f"{subject}.safetensors", "channels": names})
    return pd.DataFrame(rows)


def test_channels_come_in_the_order_that_the_configuration_names(tmp_path):
    index = write_cache(tmp_path, ["insp+exp", "insp+exp"])
    for channels, hu in ((("insp", "exp"), [-800, -600]), (("exp", "insp"), [-600, -800]), (("exp",), [-600]), (("insp",), [-800])):
        subjects, left_out = load_subjects(tmp_path, index, InputConfig(channels=channels))
        assert subjects.image[:, :, 0, 0, 1].tolist() == [hu, [value + 1 for value in hu]]
        assert subjects.present.all()
        assert left_out == []


def test_airways_are_no_lung(tmp_path):
    subjects, _ = load_subjects(tmp_path, write_cache(tmp_path, ["insp+exp"]), InputConfig())
    assert subjects.lung[0, 0, 0, 0].tolist() == [False, True, True, False]


def test_a_missing_channel_is_an_error_that_names_subject_and_channel(tmp_path):
    index = write_cache(tmp_path, ["insp+exp", "insp", "insp+exp", "insp"])
    with pytest.raises(ConfigError, match=r"2 of 4 subjects.*B \(no exp\), D \(no exp\).*channels: \[insp\].*channel_dropout"):
        load_subjects(tmp_path, index, InputConfig())
    assert len(load_subjects(tmp_path, index, InputConfig(channels=("insp",)))[0]) == 4


def test_incomplete_subjects_can_be_left_out_and_are_then_listed(tmp_path):
    index = write_cache(tmp_path, ["insp+exp", "insp", "insp+exp"])
    subjects, left_out = load_subjects(tmp_path, index, InputConfig(incomplete="exclude"))
    assert subjects.ids.tolist() == ["A", "C"]
    assert left_out == ["B"]


def test_with_channel_dropout_a_missing_channel_is_taken_as_absent(tmp_path):
    index = write_cache(tmp_path, ["insp+exp", "insp", "exp"])
    subjects, left_out = load_subjects(tmp_path, index, InputConfig(channel_dropout=0.2))
    assert subjects.present.tolist() == [[True, True], [True, False], [False, True]]
    assert (subjects.take(np.arange(3), AugmentConfig(), None)[0][~subjects.present] == 0).all()
    assert not subjects.lung[1, 1].any()
    assert subjects.image[2, 1, 0, 0, 1] == -598
    assert left_out == []
    alone, left_out = load_subjects(tmp_path, index, InputConfig(channels=("exp",), channel_dropout=0.2))
    assert alone.ids.tolist() == ["A", "C"]
    assert left_out == ["B"]


def test_a_cohort_without_one_usable_subject_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no ingested subject"):
        load_subjects(tmp_path, write_cache(tmp_path, ["insp"]), InputConfig(incomplete="exclude"))


def test_rows_of_subjects_are_found_in_the_order_asked_for(tmp_path):
    subjects, _ = load_subjects(tmp_path, write_cache(tmp_path, ["insp+exp"] * 3), InputConfig())
    assert subjects.rows(["C", "A"]).tolist() == [2, 0]


@pytest.mark.parametrize("background", ["keep", "remove"])
@pytest.mark.parametrize("augment", [None, AugmentConfig(flip=True, shift=1, offset_hu=30, noise_hu=0)], ids=["as it is", "augmented"])
def test_where_the_background_is_removed_only_lungs_are_seen_and_they_move_with_the_image(background, augment):
    """The lung is at a HU of its own, everything else at another."""
    rng = np.random.default_rng(0)
    lung = rng.random((40, 2, 4, 5, 6)) < 0.4
    image = np.where(lung, -800, -900).astype(np.int16)
    subjects = Subjects(np.arange(40).astype(str), image, lung.copy(), np.ones((40, 2), bool), InputConfig(background=background))
    found, found_lung, _ = subjects.take(np.arange(40), augment or AugmentConfig(), np.random.default_rng(1) if augment else None)
    if augment is None:
        np.testing.assert_array_equal(found_lung, lung)
    inside = found[found_lung] * 724 - 1024
    assert len(inside) > 0.6 * lung.sum()
    if background == "remove":
        assert (found[~found_lung] == 1).all()
    else:
        assert (found[~found_lung] < found[found_lung].max()).all()
    if augment is None:
        np.testing.assert_allclose(inside, -800, atol=1e-3)
    else:  # one offset an image
        for k in range(40):
            own = found[k][found_lung[k]] * 724 - 1024
            np.testing.assert_allclose(own, own[0], atol=1e-3)


@pytest.mark.parametrize(("hu", "scaled"), [(-1024, 0), (-662, 0.5), (-300, 1), (-2000, 0), (500, 1)])  # of a window from -1024 to -300
def test_hounsfield_units_become_shares_of_the_window(tmp_path, hu, scaled):
    subjects, _ = load_subjects(tmp_path, write_cache(tmp_path, ["insp+exp"]), InputConfig(background="keep"))
    image = np.full((1, 2, *SIZE), hu, np.int16)
    found = subjects.scaled(image)
    np.testing.assert_allclose(found, scaled, atol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    "settings",
    [{"channels": ()}, {"channels": ("insp", "insp")}, {"window_hu": (0, -100)}, {"window_hu": (0, 4000)}, {"channels": ("insp", "mid")}],
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValidationError):
        InputConfig(**settings)
