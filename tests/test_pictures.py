import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from tiny import NAMES, made_cohort, run_config

from copdvae.encode import encode
from copdvae.pictures import STEPS, draw_run, examples, rank_correlations
from copdvae.train import load_run, train_run


@pytest.mark.parametrize("method", NAMES)
def test_every_run_is_drawn_or_says_why_not(tmp_path, method):
    """Against the network itself: the walk's images, and each example's own reconstruction."""
    cohort, config = made_cohort(), run_config(method)
    folder = train_run(cohort, config, tmp_path, lambda line: None)
    table = encode(cohort.subjects, folder, cohort.split)
    severity = cohort.labels["fev1_pp"]
    path = draw_run(cohort.subjects, folder, cohort.split, severity)
    drawn = load_file(path)
    with safe_open(path, "numpy") as file:
        about = file.metadata()
    if config.method.readout == "direct":
        assert (drawn, about) == ({}, {"none": "this method trains no decoder"})
        return
    _, net, _ = load_run(folder, cohort.subjects.image.shape[1:])
    latents = [name for name in table if name[:2] in ("u_", "v_", "z_") and not name.endswith("_std")]
    codes, training = table[latents].to_numpy(), (table["split"] == "train").to_numpy()
    if config.method.readout == "u":
        assert about["latent"] == "u_0"
    else:
        best = np.abs(rank_correlations(codes[training], severity.to_numpy()[training])).argmax()
        assert about["latent"] == f"z_{best}"
    walk = latents.index(about["latent"])
    points = np.tile(codes[training].mean(axis=0), (STEPS, 1))
    points[:, walk] = np.linspace(*np.percentile(codes[training, walk], [2, 98]), STEPS)
    with torch.no_grad():
        np.testing.assert_allclose(drawn["traversal"], net.images(torch.tensor(points, dtype=torch.float32)), atol=1e-4)
        rows = examples(cohort.subjects, cohort.split, severity.to_numpy())
        rebuilt = net.images(torch.tensor(codes[rows], dtype=torch.float32))
    np.testing.assert_allclose(drawn["traversal_u"], points[:, walk], atol=1e-5)
    np.testing.assert_allclose(drawn["reconstruction"], rebuilt, atol=1e-4)
    assert drawn["input"].shape == drawn["reconstruction"].shape == (4, 2, 8, 8, 8)


def test_a_method_that_leaks_is_drawn_with_its_labels_as_it_is_scored(tmp_path):
    """Its encoder without them is another one, and draws other images."""
    cohort, config = made_cohort(), run_config({"method": "wela_vae", "variant": "strict"})
    folder = train_run(cohort, config, tmp_path, lambda line: None)
    _, net, _ = load_run(folder, cohort.subjects.image.shape[1:])
    severity, told = cohort.labels["fev1_pp"], cohort.labels
    table = encode(cohort.subjects, folder, cohort.split, told)
    codes = table[[f"z_{i}" for i in range(net.latents)]].to_numpy(np.float32)
    drawn = load_file(draw_run(cohort.subjects, folder, cohort.split, severity, told))
    rows = examples(cohort.subjects, cohort.split, severity.to_numpy())
    with torch.no_grad():
        np.testing.assert_allclose(drawn["reconstruction"], net.images(torch.tensor(codes[rows])), atol=1e-4)
    training = (table["split"] == "train").to_numpy()
    best = np.abs(rank_correlations(codes[training], severity.to_numpy()[training])).argmax()
    np.testing.assert_allclose(drawn["traversal_u"][[0, -1]], np.percentile(codes[training, best], [2, 98]), atol=1e-5)
    without = load_file(draw_run(cohort.subjects, folder, cohort.split, severity))
    assert not np.allclose(without["traversal_u"], drawn["traversal_u"], atol=1e-3), "otherwise this test shows nothing"


def test_a_method_that_does_not_leak_is_drawn_alike_whatever_is_told(tmp_path):
    cohort = made_cohort()
    folder = train_run(cohort, run_config("wela_vae"), tmp_path, lambda line: None)
    drawn = [load_file(draw_run(cohort.subjects, folder, cohort.split, cohort.labels["fev1_pp"], told)) for told in (None, cohort.labels)]
    assert all(np.array_equal(drawn[0][name], drawn[1][name]) for name in drawn[0])


def test_examples_are_test_subjects_from_the_least_to_the_most_ill():
    cohort = made_cohort()
    severity = cohort.labels["fev1_pp"].to_numpy().copy()
    test = np.flatnonzero(cohort.split == "test")
    severity[test[0]] = np.nan  # not known: never an example
    rows = examples(cohort.subjects, cohort.split, severity)
    assert set(rows) < set(test[1:])
    assert list(severity[rows]) == sorted(severity[rows], reverse=True)
    assert severity[rows[0]] == np.nanmax(severity[test])
    assert severity[rows[-1]] == np.nanmin(severity[test])
    nobody = pd.Series("train", index=cohort.split.index)
    assert list(examples(cohort.subjects, nobody, severity)) == [0, 1, 2, 3]
