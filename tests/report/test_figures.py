import base64
import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from copdvae.report import figures
from copdvae.report.files import Run, Study, read_study
from copdvae.report.tables import first_scores


def run_of(readout="u", latents=None, pictures=None, about=None, log=None, seed=0) -> Run:
    facts = {"label": "pairwise", "seed": seed, "readout": readout}
    return Run("pairwise-s0", facts, {}, log, latents, pictures or {}, about or {})


def study_of(cohort, *runs) -> Study:
    return Study(None, None, None, cohort, None, {}, list(runs))


def pixels(uri: str) -> np.ndarray:
    return imread(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))), format="png")[..., :3]


def test_slices_are_as_a_radiologist_sees_them():
    """Arrays are (z, y, x), LPS: z rises to the head, y to the back, x to the patient's left."""
    volume = np.zeros((10, 10, 10))
    volume[9, :, :] = 1  # head
    assert figures.cut(volume, "coronal")[0].all()
    assert not figures.cut(volume, "coronal")[1:].any()
    volume[:], volume[:, 0, :] = 0, 1  # front
    assert figures.cut(volume, "axial")[0].all()
    volume[:], volume[:, :, 0] = 0, 1  # the patient's right
    assert figures.cut(volume, "axial")[:, 0].all()
    assert figures.cut(volume, "coronal")[:, 0].all()


def test_a_picture_holds_its_grey_values_on_one_scale():
    image = np.array([[0.0, 0.5], [1.0, 2.0]])
    grey = pixels(figures.png(image))[..., 0]
    assert grey == pytest.approx(np.array([[0, 0.5], [1, 1]]), abs=0.01)
    assert b"matplotlib" not in base64.b64decode(figures.png(image).split(",")[1])


def test_lower_density_is_red_and_higher_blue():
    red, blue, none = pixels(figures.change_png(np.array([[-1.0, 1.0, 0.0]])))[0]
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert none.min() > 0.95


@pytest.mark.parametrize(("sign", "first"), [(1, "2.0"), (-1, "−2.0")])
def test_a_traversal_goes_from_better_to_worse_lung_function(sign, first):
    """`sign`: of the correlation of u with FEV1 % predicted."""
    u = np.linspace(-2, 2, 9)
    cohort = pd.DataFrame({"fev1_pp": 80 + sign * 10 * u, "split": "test"}, index=[str(i) for i in range(9)])
    latents = pd.DataFrame({"u_0": u}, index=cohort.index)
    steps = np.array([-2.0, 0, 2])
    images = np.broadcast_to(steps[:, None, None, None, None] / 4 + 0.5, (3, 1, 4, 4, 4))
    found = figures.traversal(study_of(cohort), run_of(latents=latents, pictures={"traversal": images, "traversal_u": steps}))
    assert found["steps"][0] == first
    shown = [pixels(uri)[0, 0, 0] for uri in found["rows"][0]["images"]]
    assert shown == sorted(shown, reverse=sign > 0)
    change = pixels(found["rows"][0]["change"])[0, 0]
    assert (change[0] > change[2]) == (sign > 0)  # density falls from left to right where u falls


def test_a_traversal_follows_the_latent_that_the_pictures_name():
    cohort = pd.DataFrame({"fev1_pp": [90.0, 70, 50, 30], "split": "test"}, index=list("abcd"))
    latents = pd.DataFrame({"z_0": [1.0, 3, 2, 4], "z_5": [4.0, 3, 2, 1]}, index=cohort.index)
    assert figures.direction(study_of(cohort), run_of("ranked", latents, about={"latent": "z_5"})) == pytest.approx(1)
    assert figures.direction(study_of(cohort), run_of("ranked", latents)) is None  # it has no u_0


def test_channels_are_named_as_the_pictures_say():
    names = [name for name, _, _ in figures.views(run_of(about={"channels": "exp"}), 1)]
    assert names == ["Expiration, coronal", "Expiration, axial"]
    both = [(name, channel) for name, channel, _ in figures.views(run_of(), 2)]
    assert both[0] == ("Inspiration, coronal", 0)
    assert both[-1] == ("Expiration, axial", 1)


def test_the_scatter_takes_u_or_the_latent_that_training_subjects_choose():
    rng = np.random.default_rng(0)
    n = 400
    split = np.repeat(["train", "test"], n // 2)
    z = rng.normal(size=(n, 3))
    fev1 = np.where(split == "train", z[:, 1], z[:, 2])  # test subjects would choose another
    cohort = pd.DataFrame({"split": split, "fev1_pp": fev1}, index=[str(i) for i in range(n)])
    latents = pd.DataFrame(z, columns=["z_0", "z_1", "z_2"], index=cohort.index)
    found = figures.scatter_data(study_of(cohort, run_of("ranked", latents)))
    assert found["runs"][0]["x"]["fev1_pp"] == "z_1"
    assert abs(found["runs"][0]["rho"]["fev1_pp"]) < 0.2  # in test subjects
    latents = latents.rename(columns={"z_0": "u_0", "z_1": "v_0", "z_2": "v_1"})
    found = figures.scatter_data(study_of(cohort, run_of("u", latents)))
    assert found["runs"][0]["x"]["fev1_pp"] == "u_0"
    assert sum(found["test"]) == n // 2


def test_the_scatter_has_ids_only_where_small_cells_are_shown(whole):
    study = read_study(whole)
    assert len(figures.scatter_data(study)["ids"]) == 120
    assert figures.scatter_data(study, small=5)["ids"] is None


def test_groups_of_the_scatter_keep_their_order_and_colours(whole):
    study = read_study(whole)
    found = figures.scatter_data(study)
    gold = found["groups"]["gold"]
    assert gold["labels"][:3] == ["Never smoked", "PRISm", "GOLD 0"]
    assert gold["labels"][-1] == "unknown"
    assert len(gold["colours"]) == len(gold["labels"])
    first = study.cohort["gold"].iloc[20]
    assert gold["labels"][gold["of"][20]] == {-2: "Never smoked", -1: "PRISm"}.get(first, f"GOLD {first:.0f}")


def test_the_score_figure_draws_value_interval_and_ceiling():
    rows = [("pairwise", "0", "fev1_pp", "r2", 0.5, 0.4, 0.55, 0.8), ("mean", "", "fev1_pp", "r2", -0.01, -0.02, 0.0, 0.8)]
    scores = pd.DataFrame(rows, columns=["method", "seed", "target", "metric", "value", "low", "high", "ceiling"])
    study = Study(scores, None, None, None, None, {}, [])
    spec = figures.score_figure(study, first_scores(study))
    dot = next(trace for trace in spec["data"] if trace.get("error_x"))
    assert list(dot["x"]) == [0.5]
    assert list(dot["error_x"]["array"]) == pytest.approx([0.05])
    assert list(dot["error_x"]["arrayminus"]) == pytest.approx([0.1])
    assert [shape["x0"] for shape in spec["layout"]["shapes"]] == [0, 0.8]
    assert figures.main_method(first_scores(study)) == "pairwise"


def test_training_curves_show_each_term_of_training_and_validation():
    steps = np.arange(1000)
    log = pd.DataFrame(
        {"step": steps, "loss": 5.0 - steps / 1000, "grad_rec": 1.0, "validation_loss": np.where(steps % 10 == 0, 3.0, np.nan)}
    )
    spec = figures.training_figure([run_of(log=log)])
    assert len(spec["data"]) == 2  # one term, no gradient norms
    training, validation = spec["data"]
    assert len(training["x"]) == figures.MAX_POINTS
    assert np.mean(training["y"]) == pytest.approx(log["loss"].mean(), abs=1e-3)
    assert set(validation["y"]) == {3.0}
    assert figures.training_figure([run_of(log=log[:1])]) is None


def test_reconstructions_pair_each_input_with_its_own():
    given = np.zeros((2, 1, 4, 4, 4))
    given[1] = 1
    (coronal, axial) = figures.reconstructions(run_of(pictures={"input": given, "reconstruction": 1 - given}))
    assert [round(float(pixels(a).mean())) for pair in coronal["pairs"] for a in pair] == [0, 1, 1, 0]
    assert "axial" in axial["name"]
    assert figures.reconstructions(run_of(pictures={"input": given, "reconstruction": given[:1]})) == []


def test_plain_makes_what_json_can_hold():
    assert figures.plain({"a": np.array([1.0, np.nan]), "b": np.int64(3), "c": (np.float32(0.123456789),), "d": True}) == {
        "a": [1.0, None], "b": 3, "c": [0.12346], "d": True,
    }  # fmt: skip


def test_of_many_subjects_some_are_drawn_and_all_are_counted(monkeypatch):
    rng, n = np.random.default_rng(0), 400
    cohort = pd.DataFrame(
        {"split": np.resize(["train", "test"], n), "fev1_pp": rng.normal(70, 20, n), "sex": np.resize(["F", "M", "M"], n)}
    )
    cohort.index = pd.Index([f"{k:03d}" for k in range(n)], name="subject_id")
    latents = pd.DataFrame({"u_0": cohort["fev1_pp"] + rng.normal(0, 10, n), "v_0": 0.0}, index=cohort.index)
    study = study_of(cohort, run_of("u", latents))
    whole = figures.scatter_data(study)
    monkeypatch.setattr(figures, "MOST_DOTS", 100)
    found = figures.scatter_data(study)
    assert (whole["of"], len(whole["ids"])) == (400, 400)
    assert (found["of"], len(found["ids"])) == (400, 100)
    assert found["ids"] == sorted(set(found["ids"]))
    assert found["runs"][0]["rho"] == whole["runs"][0]["rho"]  # of all
    assert len(found["test"]) == len(found["groups"]["sex"]["of"]) == len(found["runs"][0]["codes"]["u_0"]) == 100
    for place, name in enumerate(found["ids"]):
        assert found["measures"][0]["values"].iloc[place] == cohort.loc[name, "fev1_pp"]
        assert found["runs"][0]["codes"]["u_0"].iloc[place] == latents.loc[name, "u_0"]
        assert found["groups"]["sex"]["labels"][found["groups"]["sex"]["of"][place]] == cohort.loc[name, "sex"]

    points = pd.DataFrame({"truth": cohort["fev1_pp"], "predicted": latents["u_0"]})
    spec = figures.agreement_figure(points, "fev1_pp")
    assert [len(trace["x"]) for trace in spec["data"] if trace["mode"] == "markers"] == [50, 50]
    bias = spec["layout"]["shapes"][0]["y0"]
    assert bias == pytest.approx((points["predicted"] - points["truth"]).mean())
