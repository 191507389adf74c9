import math
from dataclasses import replace

import pytest
import torch
from tiny import NETWORK, made_batch, made_net, made_pair

from copdvae.objectives.factor_vae import FactorVAEConfig
from copdvae.objectives.terms import gaussian_kl, reconstruction
from copdvae.objectives.total_correlation import CriticConfig, permute_parts
from copdvae.objectives.vae import VAEConfig

SMALL = CriticConfig(layers=2, width=16)


def losses_of(method, batch=None, seed=5):
    net, objective = made_pair(method, NETWORK)
    torch.manual_seed(seed)
    return objective(net, made_batch(method) if batch is None else batch, 0), net, objective


@pytest.mark.parametrize("variant", ["fixed", "strict"])
def test_at_gamma_0_it_is_the_vae_exactly(variant):
    batch = made_batch(FactorVAEConfig(variant=variant))
    plain, plain_net, _ = losses_of(VAEConfig(), batch)
    ours, net, _ = losses_of(FactorVAEConfig(gamma=0, variant=variant, critic=SMALL), batch)
    assert ours.by_player["model"] == plain.by_player["model"]
    ours.by_player["model"].backward(inputs=list(net.parameters()))
    plain.by_player["model"].backward(inputs=list(plain_net.parameters()))
    for one, other in zip(net.parameters(), plain_net.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_the_loss_is_the_sum_of_its_parts_with_gamma_on_the_critic_s_log_ratio():
    method = FactorVAEConfig(gamma=7, critic=SMALL)
    batch = made_batch(method)
    losses, _, objective = losses_of(method, batch)
    net, _ = made_pair(method, NETWORK)  # batch statistics again
    torch.manual_seed(5)
    q = net.encode(batch.image)
    z = q.rsample()
    logits = objective.critic.logits(z)
    tc = (logits[:, 0] - logits[:, 1]).mean()
    parts = {"rec": reconstruction(net, z, batch)[0].mean(), "kl": gaussian_kl(q).sum(dim=1).mean(), "tc": 7 * tc}
    for name, value in parts.items():
        torch.testing.assert_close(losses.terms[name], value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses.by_player["model"], sum(parts.values()))
    torch.testing.assert_close(losses.logs["tc"], tc)


@pytest.mark.parametrize("variant", ["fixed", "strict"])
def test_weights_are_picked_by_the_bound_without_what_the_critic_says(variant):
    method = FactorVAEConfig(gamma=7, variant=variant, critic=SMALL)
    losses, _, _ = losses_of(method)
    assert losses.logs[method.selects_by] == losses.terms["rec"] + losses.terms["kl"] != losses.by_player["model"]


@pytest.mark.parametrize("variant", ["fixed", "strict"])
def test_the_critic_s_permuted_half_is_of_the_batch_or_in_strict_of_the_second_one(variant):
    method = FactorVAEConfig(variant=variant, critic=SMALL)
    assert method.also == (("second",) if variant == "strict" else ())
    batch = made_batch(FactorVAEConfig(variant="strict"))
    losses, _, objective = losses_of(method, batch)
    net, _ = made_pair(method, NETWORK)
    torch.manual_seed(5)
    z = net.encode(batch.image).rsample()
    other = z if variant == "fixed" else net.encode(batch.also["second"].image).rsample()
    torch.testing.assert_close(losses.by_player["critic"], objective.critic.loss(z, permute_parts(other)))
    changed = replace(batch, also={"second": replace(batch.also["second"], image=1 - batch.also["second"].image)})
    moved = losses_of(method, changed)[0].by_player["critic"] != losses.by_player["critic"]
    assert bool(moved) == (variant == "strict")


def test_the_critic_has_the_paper_s_adam_and_the_model_the_study_s():
    assert FactorVAEConfig().build(made_net(), 4).adam() == {"critic": {"betas": (0.5, 0.9)}}


def test_trained_critic_and_model_pull_opposite_ways():
    """Latents that depend on each other: the critic's steps raise the estimate, the model's gradient lowers it."""
    torch.manual_seed(0)
    objective = FactorVAEConfig(critic=CriticConfig(layers=2, width=64)).build(made_net(NETWORK.model_copy(update={"v": 1})), 4)

    def draw(r):
        first, other = torch.randn(2, 256)
        return torch.stack([first, r * first + torch.sqrt(1 - r * r) * other], dim=1)

    optimizer = torch.optim.Adam(objective.critic.parameters(), lr=2e-3, **objective.adam()["critic"])
    for _ in range(300):
        optimizer.zero_grad()
        z = draw(torch.tensor(0.8))
        objective.critic.loss(z, permute_parts(z)).backward()
        optimizer.step()
    r = torch.tensor(0.8, requires_grad=True)
    torch.manual_seed(1)
    value = torch.stack([objective.critic(draw(r)).mean() for _ in range(20)]).mean()
    assert float(value.detach()) == pytest.approx(-0.5 * math.log(1 - 0.8**2), abs=0.15)
    assert float(torch.autograd.grad(value, r)[0]) > 0  # less dependence is a smaller loss
