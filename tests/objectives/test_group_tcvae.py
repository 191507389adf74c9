import math
from dataclasses import replace

import pytest
import torch
from test_gvae import grouped
from test_pairwise import loss_of
from tiny import NETWORK, made_net, made_pair, run_config
from torch.distributions import Normal, kl_divergence

from copdvae.errors import ConfigError
from copdvae.objectives import group_tcvae
from copdvae.objectives.base import Batch
from copdvae.objectives.group_tcvae import GroupTCVAEConfig, part_sizes
from copdvae.objectives.vae import VAEConfig

PAIRS = [(1, 4), (2, 3), (0, 5)]  # of `grouped(2)`
FACTORS = ("groups", "groups_and_v", "all")
ESTIMATORS = ("critic", "stratified", "weighted")
EMPTY = torch.zeros(1)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("factors", FACTORS)
def test_the_model_player_at_beta_and_gamma_0_is_the_vae_exactly(factors, estimator):
    batch = grouped(2)
    plain, _ = loss_of(VAEConfig(), batch)
    ours, _ = loss_of(GroupTCVAEConfig(beta=0, gamma=0, factors=factors, total_correlation=estimator), batch)
    torch.testing.assert_close(ours.by_player["model"], plain.by_player["model"], rtol=1e-6, atol=0)
    for name in ("rec", "rec_lung", "kl"):
        assert ours.logs[name] == plain.logs[name]


@pytest.mark.parametrize(("u", "v"), [(1, 3), (2, 1), (3, 1)])
def test_a_pair_s_images_pay_both_directions_of_the_kl_of_u_between_them(u, v):
    """Eq. 3 summed over the pair has gamma [KL(q || q') + KL(q' || q)]: half of it an image. `v` is free."""
    network, batch = NETWORK.model_copy(update={"u": u, "v": v}), grouped(2)
    losses, _ = loss_of(GroupTCVAEConfig(beta=0, gamma=5), batch, network=network)
    net, _ = made_pair(GroupTCVAEConfig(), network)
    q = net.encode(batch.image)
    total = 0.0
    for i, j in PAIRS:
        for d in range(u):
            first, second = Normal(q.loc[i, d], q.scale[i, d]), Normal(q.loc[j, d], q.scale[j, d])
            total += float((kl_divergence(first, second) + kl_divergence(second, first)).detach())
    torch.testing.assert_close(losses.logs["apart"], torch.tensor(total / 6), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(losses.terms["apart"], 5 * losses.logs["apart"])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_weights_are_picked_by_the_loss_without_what_a_critic_says(estimator):
    method = GroupTCVAEConfig(total_correlation=estimator)
    losses, _ = loss_of(method, grouped(2))
    wanted = losses.by_player["model"] - (losses.terms["tc"] if estimator == "critic" else 0)
    torch.testing.assert_close(losses.logs[method.selects_by], wanted)


def test_gamma_is_a_penalty_that_draws_a_pair_s_u_together():
    """One step down the model's loss, of which this term is by far the largest part."""
    network, batch = NETWORK, grouped(2)
    net, objective = made_pair(GroupTCVAEConfig(beta=0, gamma=1e4), network)
    net.eval()
    with torch.no_grad():
        net.encoder.out.weight.mul_(30)  # far apart

    def distances():
        u = net.encode(batch.image).loc[:, 0]
        return torch.stack([(u[i] - u[j]).abs() for i, j in PAIRS])

    before = distances().detach()
    weights = list(net.encoder.out.parameters())
    gradients = torch.autograd.grad(objective(net, batch, 0).by_player["model"], weights)
    with torch.no_grad():
        for weight, gradient in zip(weights, gradients, strict=True):
            weight -= 1e-3 * gradient / torch.cat([g.flatten() for g in gradients]).norm()
    assert distances().mean() < before.mean()


@pytest.mark.parametrize(
    ("factors", "sizes"), [("groups", [2, 3]), ("groups_and_v", [2, 1, 1, 1]), ("all", [1, 1, 1, 1, 1])]
)  # fmt: skip
def test_the_three_factorisations_of_the_paper(factors, sizes):
    assert part_sizes(factors, 2, 3) == sizes


def correlated(count: int, spread: float, seed: int = 0):
    """Codes of which all pairs of latents correlate: means (N, 4) with a posterior of its own sd `spread`, and q(z)'s covariance."""
    covariance = torch.tensor([[1, 0.8, 0.6, 0.4], [0.8, 1, 0.4, 0.6], [0.6, 0.4, 1, 0.8], [0.4, 0.6, 0.8, 1]], dtype=torch.double)
    rng = torch.Generator().manual_seed(seed)
    mean = torch.randn(count, 4, generator=rng, dtype=torch.double) @ torch.linalg.cholesky(covariance).T * math.sqrt(1 - spread**2)
    z = mean + spread * torch.randn(count, 4, generator=rng, dtype=torch.double)
    return z, Normal(mean, torch.full_like(mean, spread)), (1 - spread**2) * covariance + spread**2 * torch.eye(4).double()


def truth(covariance, sizes) -> float:
    """Total correlation of a Gaussian between blocks of its dimensions."""
    blocks = [part.split(sizes, dim=1)[k] for k, part in enumerate(covariance.split(sizes))]
    return float(sum(block.logdet() for block in blocks) - covariance.logdet()) / 2


def test_the_truth_of_the_next_tests_is_the_textbook_s():
    pair = torch.tensor([[1, 0.6], [0.6, 1]], dtype=torch.double)
    assert truth(pair, [1, 1]) == pytest.approx(-math.log(1 - 0.36) / 2)


@pytest.mark.parametrize("factors", FACTORS)
@pytest.mark.parametrize("estimator", ["stratified", "weighted"])
def test_sampling_finds_the_known_total_correlation_of_each_factorisation(factors, estimator):
    """u and v of two latents each; the batch is all there is. The three truths are .13, .29 and .44 nats."""
    z, q, covariance = correlated(800, spread=0.6)
    objective = GroupTCVAEConfig(factors=factors, total_correlation=estimator).build(
        made_net(NETWORK.model_copy(update={"u": 2, "v": 2})), 4
    )
    found = objective.sampled(z, q, Batch(EMPTY, EMPTY, EMPTY, drawn_from=800)).mean()
    assert float(found) == pytest.approx(truth(covariance, objective.sizes), abs=0.06)


@pytest.mark.parametrize("factors", FACTORS)
def test_the_critic_learns_the_known_total_correlation_of_each_factorisation(factors):
    method = GroupTCVAEConfig(factors=factors, critic={"layers": 2, "width": 48})
    objective = method.build(made_net(NETWORK.model_copy(update={"u": 2, "v": 2})), 4)
    optimizer = torch.optim.Adam(objective.critic.parameters(), lr=4e-3)
    torch.manual_seed(0)
    for step in range(250):
        z = correlated(256, spread=0.3, seed=step)[0].float()
        objective.critic.loss(z, group_tcvae.permute_parts(z, objective.sizes)).backward()
        optimizer.step()
        optimizer.zero_grad()
    z, _, covariance = correlated(10_000, spread=0.3, seed=-1)
    found = objective.critic(z.float()).mean()
    assert float(found.detach()) == pytest.approx(truth(covariance, objective.sizes), abs=0.12)


def member_of(batch: Batch):
    first, second = (torch.tensor(rows) for rows in zip(*PAIRS, strict=True))
    return first, second


def test_permuted_samples_never_mix_a_pair_s_members(monkeypatch):
    """Else the partner, whose u is nearly the image's own, would count as another image."""
    seen = []
    monkeypatch.setattr(group_tcvae.Critic, "loss", lambda critic, z, permuted: seen.append((z, permuted)) or critic(z).sum() * 0)
    batch = grouped(2)
    first, second = member_of(batch)
    for seed in range(20):
        loss_of(GroupTCVAEConfig(factors="all"), batch, seed=seed)
    for z, permuted in seen:
        for rows, part in ((first, permuted[:3]), (second, permuted[3:])):
            torch.testing.assert_close(part.sort(dim=0).values, z[rows].sort(dim=0).values)
    assert any(not torch.equal(permuted[:3], z[first]) for z, permuted in seen)


def test_groups_are_permuted_as_wholes(monkeypatch):
    seen = []
    monkeypatch.setattr(group_tcvae.Critic, "loss", lambda critic, z, permuted: seen.append((z, permuted)) or critic(z).sum() * 0)
    network = NETWORK.model_copy(update={"u": 2, "v": 3})
    for seed in range(10):
        loss_of(GroupTCVAEConfig(factors="groups"), grouped(2), seed=seed, network=network)
    for z, permuted in seen:
        for part in (slice(0, 2), slice(2, 5)):
            rows = {tuple(row) for row in z[:, part].tolist()}
            assert {tuple(row) for row in permuted[:, part].tolist()} == rows


def test_sampling_takes_one_member_of_each_pair_at_a_time():
    """With two images a pair, densities are means over three images: here by hand, first and second members apart."""
    batch = replace(grouped(2), drawn_from=50)
    losses, _ = loss_of(GroupTCVAEConfig(total_correlation="stratified", factors="all"), batch)
    net, _ = made_pair(GroupTCVAEConfig())
    torch.manual_seed(5)
    q = net.encode(batch.image)
    z = q.rsample()
    values = []
    for rows in member_of(batch):
        for i in rows:
            weight = {int(j): 1 / 50 if j == i else 49 / (50 * 2) for j in rows}
            dense = {int(j): Normal(q.loc[j], q.scale[j]).log_prob(z[i]).exp().double() for j in rows}
            joint = sum(weight[j] * dense[j].prod() for j in weight)
            values.append(joint.log() - sum(weight[j] * dense[j] for j in weight).log().sum())
    torch.testing.assert_close(losses.logs["tc"].double(), torch.stack(values).mean(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(losses.terms["tc"], 10 * losses.logs["tc"])
    torch.testing.assert_close(losses.by_player["model"], sum(losses.terms.values()))
    assert set(losses.by_player) == {"model"}, "sampling needs no critic"


def test_gradients_of_the_pair_term_and_of_the_sampled_one_are_those_of_finite_differences():
    objective = GroupTCVAEConfig(total_correlation="stratified").build(made_net(NETWORK.model_copy(update={"u": 1, "v": 2})), 4)
    rng = torch.Generator().manual_seed(0)
    mean, log_scale, noise = torch.randn(3, 5, 3, generator=rng, dtype=torch.double)

    def value(mean, log_scale):
        q = Normal(mean, log_scale.exp(), validate_args=False)
        return objective.sampled(mean + log_scale.exp() * noise, q, Batch(EMPTY, EMPTY, EMPTY, drawn_from=40))

    assert torch.autograd.gradcheck(value, (mean.requires_grad_(), log_scale.requires_grad_()))


def test_without_v_there_is_nothing_that_u_could_be_independent_of():
    plain = run_config("group_tcvae").plain() | {"network": NETWORK.model_copy(update={"u": 2, "v": 0}).plain()}
    with pytest.raises(ConfigError, match=r"d\(v\) must be 1 or more.*found u = 2, v = 0"):
        type(run_config("vae")).parse(plain)


def test_the_critic_learns_with_kim_and_mnih_s_adam():
    assert GroupTCVAEConfig().build(made_net(), 4).adam() == {"critic": {"betas": (0.5, 0.9)}}
    assert GroupTCVAEConfig(total_correlation="weighted").build(made_net(), 4).adam() == {}
