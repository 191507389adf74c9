import math

import pytest
import torch
from test_gvae import grouped
from test_pairwise import loss_of
from tiny import NETWORK, made_pair

from copdvae.objectives.ml_vae import MLVAEConfig
from copdvae.objectives.vae import VAEConfig


@pytest.mark.parametrize("u", [1, 4])
@pytest.mark.parametrize("size", [2, 3])
def test_on_a_repeated_image_the_posterior_of_u_sharpens_by_the_members_number_and_it_is_not_the_vae(u, size):
    """s^2 becomes s^2 / n, and the KL of each latent of u changes by s^2 (1/n - 1) / 2 + log(n) / 2."""
    batch, network = grouped(size, repeated=True), NETWORK.model_copy(update={"u": u, "v": 10 - u})
    plain, _ = loss_of(VAEConfig(), batch, network=network)
    ours, _ = loss_of(MLVAEConfig(), batch, network=network)
    net, _ = made_pair(MLVAEConfig(), network)
    variance = net.encode(batch.image).scale[:, :u] ** 2
    change = (variance * (1 / size - 1) / 2 + math.log(size) / 2).sum(dim=1).mean()
    torch.testing.assert_close(ours.logs["kl_u"] + ours.logs["kl_v"], plain.logs["kl"] + change, rtol=1e-5, atol=1e-5)
    assert abs(ours.by_player["model"] - plain.by_player["model"]) > 1e-3


def test_the_defaults_are_paper_e_s():
    """Eq. 1 counts the group's KL once an image."""
    assert (MLVAEConfig().group_kl, MLVAEConfig().beta, MLVAEConfig().groups.size) == ("image", 1, 2)


def test_an_image_of_which_the_encoder_is_sure_decides_for_its_group():
    from torch.distributions import Normal

    objective = MLVAEConfig().build(made_pair(MLVAEConfig())[0], 4)
    q = Normal(torch.tensor([[0.0], [1.0]]), torch.tensor([[1e-3], [1.0]]))
    shared = objective.combine(q, torch.tensor([0, 0]))
    torch.testing.assert_close(shared.loc, torch.zeros(2, 1), rtol=0, atol=1e-5)
