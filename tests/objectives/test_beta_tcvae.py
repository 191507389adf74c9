from dataclasses import replace

import pytest
import torch
from tiny import NETWORK, made_batch, made_pair
from torch.distributions import Normal

from copdvae.objectives.beta_tcvae import BetaTCVAEConfig
from copdvae.objectives.terms import gaussian_kl, reconstruction
from copdvae.objectives.vae import VAEConfig


def losses_of(method, batch, seed=5):
    net, objective = made_pair(method, NETWORK)
    torch.manual_seed(seed)
    return objective(net, batch, 0), net


@pytest.mark.parametrize("sampling", ["stratified", "weighted"])
def test_at_beta_1_it_is_the_vae_exactly(sampling):
    batch = replace(made_batch(VAEConfig()), drawn_from=500)
    (plain, plain_net), (ours, net) = (losses_of(method, batch) for method in (VAEConfig(), BetaTCVAEConfig(beta=1, sampling=sampling)))
    assert ours.by_player["model"] == plain.by_player["model"]
    ours.by_player["model"].backward()
    plain.by_player["model"].backward()
    for one, other in zip(net.parameters(), plain_net.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize("images", [6, 500])
@pytest.mark.parametrize("sampling", ["stratified", "weighted"])
def test_the_loss_is_the_sum_of_its_parts_with_beta_less_1_on_the_total_correlation(images, sampling):
    """Densities of the batch's samples by a plain loop in float64."""
    batch = replace(made_batch(VAEConfig()), drawn_from=images)
    losses, _ = losses_of(BetaTCVAEConfig(beta=5, sampling=sampling), batch)
    net, _ = made_pair(VAEConfig(), NETWORK)
    torch.manual_seed(5)
    q = net.encode(batch.image)
    z = q.rsample()
    tc = []
    for i in range(6):
        joint, products = torch.zeros((), dtype=torch.double), torch.zeros(10, dtype=torch.double)
        for j in range(6):
            own, others = (1 / images, (images - 1) / (5 * images)) if sampling == "stratified" else (1 / 6, 1 / 6)
            density = Normal(q.loc[j].double(), q.scale[j].double()).log_prob(z[i].double()).exp()
            joint += (own if i == j else others) * density.prod()
            products += (own if i == j else others) * density
        tc.append(joint.log() - products.log().sum())
    value = torch.stack(tc).mean().float()
    parts = {"rec": reconstruction(net, z, batch)[0].mean(), "kl": gaussian_kl(q).sum(dim=1).mean(), "tc": 4 * value}
    for name, part in parts.items():
        torch.testing.assert_close(losses.terms[name], part, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(losses.by_player["model"], sum(parts.values()))


def test_the_loss_ignores_the_order_of_a_batch_that_is_a_sample_of_many_images():
    batch, order = replace(made_batch(VAEConfig()), drawn_from=500), torch.tensor([3, 0, 5, 1, 4, 2])
    other = replace(batch, image=batch.image[order], lung=batch.lung[order])
    net, objective = made_pair(BetaTCVAEConfig(beta=20), NETWORK)
    net.eval()
    noise = torch.randn(6, 10)
    found = []
    for own, rows in ((batch, torch.arange(6)), (other, order)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Normal, "rsample", lambda q, shape=(), rows=rows: q.loc + q.scale * noise[rows])
            found.append(objective(net, own, 0).by_player["model"])
    torch.testing.assert_close(*found)
