from dataclasses import replace

import pytest
import torch
from test_gvae import grouped
from test_pairwise import loss_of
from tiny import NETWORK, made_pair, run_config
from torch.distributions import Normal, kl_divergence

from copdvae.errors import ConfigError
from copdvae.objectives.ada_gvae import AdaGVAEConfig
from copdvae.objectives.ada_ml_vae import AdaMLVAEConfig
from copdvae.objectives.vae import VAEConfig

KINDS = [AdaGVAEConfig, AdaMLVAEConfig]
PAIRS = [(1, 4), (2, 3), (0, 5)]  # of `grouped(2)`
both = pytest.mark.parametrize("kind", KINDS)


def objective_of(kind, **settings):
    method = kind(**settings)
    return method.build(made_pair(method)[0], 4)


def by_hand(q: Normal, directions: int) -> torch.Tensor:
    """Which latents each pair shares, in plain loops: bool (6, D)."""
    shared = torch.zeros(q.loc.shape, dtype=torch.bool)
    for i, j in PAIRS:
        apart = []
        for d in range(q.loc.shape[1]):
            first, second = Normal(q.loc[i, d], q.scale[i, d]), Normal(q.loc[j, d], q.scale[j, d])
            both_ways = kl_divergence(first, second) + (kl_divergence(second, first) if directions == 2 else 0)
            apart.append(float(both_ways.detach()))
        for d, value in enumerate(apart):
            shared[i, d] = shared[j, d] = value < (min(apart) + max(apart)) / 2
    return shared


@both
@pytest.mark.parametrize(("variant", "directions"), [("fixed", 2), ("strict", 1)])
@pytest.mark.parametrize("dim", [2, 3, 4])
def test_shared_are_the_latents_whose_kl_is_below_the_middle_of_its_range(kind, variant, directions, dim):
    rng = torch.Generator().manual_seed(dim)
    for _ in range(10):
        q = Normal(torch.randn(6, dim, generator=rng), torch.randn(6, dim, generator=rng).exp())
        found = objective_of(kind, variant=variant).shared(q, grouped(2).group)
        assert torch.equal(found, by_hand(q, directions))
        assert found.any(dim=1).all(), "the nearest latent is shared"
        assert not found.all(dim=1).any(), "and the farthest is not"


def test_a_known_pair_shares_what_it_is_said_to():
    """Distances 0, 1, 4, 25 of four latents: the middle of the range is 12.5."""
    q = Normal(torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 2.0, 5.0]]), torch.ones(2, 4))
    shared = objective_of(AdaGVAEConfig).shared(q, torch.tensor([0, 0]))
    assert shared.tolist() == [[True, True, True, False]] * 2


def test_which_image_comes_first_matters_to_strict_alone():
    q = Normal(torch.tensor([[0.0, 0.0, 0.0], [0.0, 3.0, 2.0]]), torch.tensor([[1.0, 1.0, 1.0], [1.0, 2.0, 0.5]]))
    turned = Normal(q.loc.flip(0), q.scale.flip(0))
    group = torch.tensor([0, 0])
    for variant, same in (("fixed", True), ("strict", False)):
        objective = objective_of(AdaGVAEConfig, variant=variant)
        assert torch.equal(objective.shared(q, group), objective.shared(turned, group)) is same


@both
@pytest.mark.parametrize("variant", ["fixed", "strict"])
@pytest.mark.parametrize("latents", [(1, 3), (2, 0)])
def test_the_loss_is_the_bound_with_shared_latents_combined(kind, variant, latents):
    method, network = kind(beta=3, variant=variant), NETWORK.model_copy(update={"u": latents[0], "v": latents[1]})
    batch = grouped(2)
    losses, _ = loss_of(method, batch, network=network)

    net, _ = made_pair(method, network)
    torch.manual_seed(5)
    q = net.encode(batch.image)
    shared, mean, variance = by_hand(q, 1 if variant == "strict" else 2), q.loc.clone(), q.scale**2
    for i, j in PAIRS:
        for d in range(net.latents):
            if shared[i, d]:
                (m1, m2), (v1, v2) = q.loc[[i, j], d], q.scale[[i, j], d] ** 2
                average, exact = ((m1 + m2) / 2, (v1 + v2) / 2), ((m1 * v2 + m2 * v1) / (v1 + v2), v1 * v2 / (v1 + v2))
                mean[i, d] = mean[j, d] = (average if kind is AdaGVAEConfig else exact)[0]
                doubled = 2 if variant == "strict" else 1
                variance[i, d] = variance[j, d] = average[1] if kind is AdaGVAEConfig else doubled * exact[1]
    kl = 0.5 * (mean**2 + variance - 1 - variance.log()).sum() / 6
    z = mean + variance.sqrt() * torch.randn(mean.shape)
    rec = net.likelihood.voxels(net.decode(z), batch.image).sum() / 6
    torch.testing.assert_close(losses.terms["kl"], 3 * kl, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses.terms["rec"], rec, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses.by_player["model"], rec + 3 * kl, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(losses.logs["shared"], shared.float().sum(dim=1).mean())


@both
def test_on_a_repeated_image_no_latent_stands_out_and_it_is_the_vae_exactly(kind):
    """All distances are 0: none is below the middle of its range."""
    batch = grouped(2, repeated=True)
    plain, _ = loss_of(VAEConfig(), batch)
    ours, _ = loss_of(kind(), batch)
    torch.testing.assert_close(ours.by_player["model"], plain.by_player["model"], rtol=1e-6, atol=0)
    assert ours.logs["shared"] == 0


@both
def test_no_gradient_passes_through_the_choice(kind):
    """The loss's gradient is that of a loss whose choice was written down before."""
    batch, objective = grouped(2), objective_of(kind)
    net, _ = made_pair(kind())
    chosen = objective.shared(net.encode(batch.image), batch.group)
    gradients = []
    for shared in (objective.shared, lambda q, group: chosen):
        net, objective = made_pair(kind())
        objective.shared = shared
        torch.manual_seed(0)
        loss = objective(net, replace(batch), 0).by_player["model"]
        gradients.append(torch.autograd.grad(loss, list(net.encoder.out.parameters())))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@both
def test_a_single_latent_has_nothing_to_be_compared_with(kind):
    name = kind().name
    plain = run_config(name).plain() | {"network": NETWORK.model_copy(update={"u": 1, "v": 0}).plain()}
    with pytest.raises(ConfigError, match=f"{name}: shared latents are inferred by comparing them.*found u = 1, v = 0"):
        type(run_config(name)).parse(plain)


def test_strict_names_its_quirks():
    assert set(AdaGVAEConfig.quirks) == {"one_direction"}
    assert set(AdaMLVAEConfig.quirks) == {"one_direction", "double_variance"}
