"""Each method learns what it is told, and nothing where what it is told has nothing to do with the images."""

import numpy as np
import pytest
import torch
from learning import Taught, teach
from tiny import METHODS, NAMES
from torch.distributions import Normal

from copdvae.supervision.groups import GroupsConfig, group_table

STEPS = {"kind": "class", "columns": ["step"], "categories": [[0, 1, 2, 3, 4]]}

# Settings that suit 16 x 16 images, and of the latents. `told`: kappa of u must reach .8 and the VAE's + .4. Others must reconstruct.
LEARNS: dict[str, dict] = {
    "vae": {"method": {}},
    "beta_vae": {"method": {"beta": 2.0}},
    "factor_vae": {"method": {"gamma": 2.0, "critic": {"layers": 2, "width": 64}}},
    "beta_tcvae": {"method": {"beta": 3.0}},
    "ss_beta_vae": {"method": {"gamma_lb": 1e3, "labels": {"columns": ("total",)}}, "told": True},
    "ss_factor_vae": {
        "method": {"gamma_lb": 1e3, "labels": {"columns": ("total",)}, "base": {"gamma": 2.0, "critic": {"layers": 2, "width": 64}}},
        "told": True,
    },
    "ss_beta_tcvae": {"method": {"gamma_lb": 1e3, "labels": {"columns": ("total",)}, "base": {"beta": 3.0}}, "told": True},
    "larvae": {"method": {"gamma_lb": 1e3, "labels": {"columns": ("total",)}, "base": {"method": "beta_tcvae", "beta": 3.0}}, "told": True},
    "pairwise": {"method": {"weight": 1e3, "warm_up": 200}, "told": True},
    "gvae": {"method": {"groups": {"column": "step", "size": 4}, "beta": 2.0}, "told": True},
    "ml_vae": {"method": {"groups": {"column": "step", "size": 4}}, "told": True},
    "group_tcvae": {"method": {"groups": {"column": "step"}, "beta": 1.0, "gamma": 4.0}, "told": True},
    "ada_gvae": {"method": {"groups": {"column": "step"}}},
    "ada_ml_vae": {"method": {"groups": {"column": "step"}}},
    "dsd": {"method": {"groups": {"column": "step"}}, "told": True},
    "wela_vae": {"method": {"labels": STEPS, "beta": 4.0, "gamma": 300.0}, "told": True},
    "parted_vae": {
        "method": {"labels": STEPS | {"fraction": 0.3}, "capacity_u": 1.0, "capacity_z": 5.0, "gamma_bc": 100.0, "overlap": 0.05},
        "told": True,
    },
}
NOT_HERE = {"supervised": "is told several targets at once and has no u: tests/test_train.py"}


def taught(name: str, folder, **changes) -> Taught:
    chosen = LEARNS[name]
    method = METHODS[NAMES.index(name)](**chosen["method"])
    return teach(method, folder, **{key: value for key, value in chosen.items() if key not in ("method", "told")} | changes)


def u_columns(result: Taught) -> list[int]:
    """The columns of u, by place; for ranked methods the one that says most about the classes in training."""
    readout, config = result.run.config.method.readout, result.run.config.network
    if readout == "u":
        return list(range(config.u))
    if readout == "all":
        return list(range(config.u + config.v))
    return [int(np.argmax([result.kappa([k]) for k in range(config.u + config.v)]))]


@pytest.fixture(scope="session")
def untold(tmp_path_factory) -> float:
    """What the VAE reaches: the best of its latents."""
    result = taught("vae", tmp_path_factory.mktemp("vae"))
    return result.kappa(u_columns(result))


def test_every_method_is_taught_or_says_why_not():
    assert set(NAMES) == set(LEARNS) | set(NOT_HERE)


@pytest.mark.parametrize("name", [name for name in NAMES if LEARNS.get(name, {}).get("told")])
def test_u_learns_what_the_method_is_told(name, tmp_path, untold):
    result = taught(name, tmp_path)
    assert result.kappa(u_columns(result)) > max(0.8, untold + 0.4)


@pytest.mark.parametrize("name", [name for name in NAMES if name in LEARNS and not LEARNS[name].get("told")])
def test_a_method_that_is_told_nothing_reconstructs(name, tmp_path):
    assert taught(name, tmp_path).reconstruction() > 0.6


@pytest.mark.parametrize("name", [name for name in NAMES if LEARNS.get(name, {}).get("told")])
def test_labels_that_have_nothing_to_do_with_the_images_are_not_learned(name, tmp_path):
    result = taught(name, tmp_path, related=False)
    assert abs(result.kappa(u_columns(result))) < 0.12  # three standard deviations of kappa on 240 images


@pytest.mark.parametrize("name", ["ada_gvae", "ada_ml_vae"])
def test_the_latent_that_pairs_of_one_class_are_found_to_share_tells_the_class(name, tmp_path, untold):
    """No latent is named in advance: the one inferred as shared in most test pairs knows far more of the class than any of the VAE's."""
    result = taught(name, tmp_path)
    test = np.flatnonzero(result.split == "test")
    pairs = group_table(result.truth.iloc[test], GroupsConfig(column="step"), training=False).draw(200, np.random.default_rng(0))
    mean = torch.from_numpy(result.latents[test[pairs.ravel()]])
    shared = result.run.objective.shared(Normal(mean, torch.full_like(mean, 0.1)), torch.arange(200).repeat_interleave(2))
    often = shared.float().mean(dim=0)
    assert often.max() > 0.8
    assert result.kappa([int(often.argmax())]) > untold + 0.3


@pytest.mark.parametrize("name", ["ada_gvae", "ada_ml_vae"])
def test_pairs_that_have_nothing_to_do_with_the_images_raise_no_latent(name, tmp_path):
    result = taught(name, tmp_path, related=False)
    assert max(abs(result.kappa([k])) for k in range(result.latents.shape[1])) < 0.15
