from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import NETWORK, made_cohort, made_net, made_subjects, run_config

from copdvae.encode import encode, latent_names, posterior
from copdvae.objectives import Batch, Objective
from copdvae.objectives.parted_vae import PartedVAEConfig
from copdvae.train import load_run, train_run


def trained(tmp_path, method="pairwise", **cohort):
    made = made_cohort(**cohort)
    return made, train_run(made, run_config(method), tmp_path, lambda line: None)


@pytest.mark.parametrize(
    ("method", "names"), [("pairwise", ["u_0", "v_0", "v_8"]), ("vae", ["z_0", "z_9"]), ("supervised", ["p_0", "p_9"])]
)
def test_latents_have_a_row_a_subject_and_names_that_say_what_they_are(tmp_path, method, names):
    cohort, folder = trained(tmp_path, method)
    encode(cohort.subjects, folder, cohort.split)
    table = pd.read_parquet(folder / "latents.parquet")
    assert table["subject_id"].tolist() == cohort.subjects.ids.tolist()
    assert table["split"].tolist() == cohort.split.tolist()
    latents = latent_names(run_config(method))
    assert table.columns.tolist() == ["subject_id", "split", *latents, *[f"{name}_std" for name in latents]]
    assert set(names) <= set(latents)
    assert len(latents) == 10
    assert (table[[f"{name}_std" for name in latents]] > 0).all().all()


def test_a_latent_is_the_posterior_of_the_subject_s_own_image(tmp_path):
    """By hand, one image at a time: no batch, no augmentation, no noise."""
    cohort, folder = trained(tmp_path)
    table = encode(cohort.subjects, folder, cohort.split)
    _, net, _ = load_run(folder, cohort.subjects.image.shape[1:])
    for k in (0, 17, 39):
        image = torch.from_numpy(cohort.subjects.scaled(cohort.subjects.image[[k]]))
        with torch.no_grad():
            q = net.encode(image)
        np.testing.assert_allclose(table.loc[k, latent_names(run_config("pairwise"))].to_numpy(float), q.loc[0], atol=1e-5)
        assert table.loc[k, "u_0_std"] == pytest.approx(float(q.scale[0, 0]), abs=1e-5)


def test_a_subject_s_latents_do_not_depend_on_who_else_is_encoded():
    subjects, config = made_subjects(70), run_config("vae")
    net = made_net()
    whole, _ = posterior(subjects, config, net, Objective())
    few = replace(subjects, ids=subjects.ids[60:], image=subjects.image[60:], lung=subjects.lung[60:], present=subjects.present[60:])
    part, _ = posterior(few, config, net, Objective())
    np.testing.assert_allclose(part, whole[60:], atol=1e-5)


def test_a_channel_that_is_absent_is_told_to_the_network():
    subjects = made_subjects(4, channel_dropout=0.2)
    subjects.present[1, 1] = False
    subjects.image[1, 1] = 0
    net, config = made_net(NETWORK, presence=True), run_config("vae")
    absent, _ = posterior(subjects, config, net, Objective())
    claimed = replace(subjects, present=np.ones((4, 2), bool))
    there, _ = posterior(claimed, config, net, Objective())
    assert not np.allclose(absent[1], there[1])
    np.testing.assert_allclose(absent[[0, 2, 3]], there[[0, 2, 3]], atol=1e-6)


TWO = {"columns": ["gold", "fev1_fvc"], "kind": "class", "bins": 3}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, [f"c_gold_{k}" for k in range(6)]),
        ({"labels": TWO}, [f"c_{name}_{k}" for name in ("gold", "fev1_fvc") for k in range(3)]),
        ({"labels": None, "values": [2, 4]}, ["c_0_0", "c_0_1", "c_1_0", "c_1_1", "c_1_2", "c_1_3"]),
    ],
    ids=str,
)
def test_a_method_that_infers_classes_has_their_probabilities_beside_its_latents(tmp_path, settings, names):
    """Each subject's own, one image at a time."""
    cohort, chosen = made_cohort(), PartedVAEConfig.parse(settings)
    two = NETWORK.model_copy(update={"u": 2, "v": 8})
    config = run_config("parted_vae").model_copy(update={"method": chosen, "network": two})
    folder = train_run(cohort, config, tmp_path, lambda line: None)
    table = encode(cohort.subjects, folder, cohort.split)
    assert [name for name in table if name.startswith("c_")] == names
    assert [name for name in table if not name.startswith("c_")] == [
        "subject_id", "split", *latent_names(config), *[f"{name}_std" for name in latent_names(config)]
    ]  # fmt: skip
    _, net, objective = load_run(folder, cohort.subjects.image.shape[1:])
    for k in (0, 17, 39):
        image = torch.from_numpy(cohort.subjects.scaled(cohort.subjects.image[[k]]))
        with torch.no_grad():
            shares = objective.class_probabilities(net, Batch(image, image < 0.5, torch.ones(1, 2)))
        np.testing.assert_allclose(table.loc[k, names].to_numpy(float), torch.cat(shares, dim=1)[0], atol=1e-5)
    np.testing.assert_allclose(table[names].sum(axis=1), 1 if not settings else 2, atol=1e-5)


def test_a_subject_without_a_part_is_encoded_too(tmp_path):
    cohort, folder = trained(tmp_path)
    table = encode(cohort.subjects, folder, cohort.split.drop("S004"))
    assert table.set_index("subject_id").loc["S004", "split"] == ""
    assert table.notna().all().all()
