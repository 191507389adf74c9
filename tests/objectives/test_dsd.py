import math

import numpy as np
import pytest
import torch
from flat import FlatVAE, fixed_noise
from tiny import made_batch, made_cohort, made_pair, run_config
from torch.distributions import Normal

from copdvae.errors import ConfigError
from copdvae.objectives.base import Batch
from copdvae.objectives.dsd import DSD, DSDConfig, partner, with_u_of
from copdvae.objectives.vae import VAEConfig
from copdvae.train import Run


def images(count: int, pixels: int = 5, seed: int = 0, group: torch.Tensor | None = None, also=None) -> Batch:
    x = torch.rand(count, 1, pixels, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    return Batch(x, x > 2, torch.ones(count, 1, dtype=torch.double), group=group, also=also or {})


def with_pairs(count: int, pixels: int = 5, pairs: int = 2) -> Batch:
    group = torch.arange(pairs).repeat(2)  # the members of a pair lie apart
    return images(count, pixels, also={"group": images(2 * pairs, pixels, seed=1, group=group)})


def cost(x: torch.Tensor, code: torch.Tensor, net: FlatVAE) -> float:
    """-log N(x; decoded, 1), pixel by pixel."""
    rebuilt = code @ net.back
    return sum(0.5 * (a.item() - b.item()) ** 2 + 0.5 * math.log(2 * math.pi) for a, b in zip(x.flatten(), rebuilt, strict=True))


@pytest.mark.parametrize(("u", "latents"), [(1, 2), (1, 3), (2, 3), (3, 4)])
@pytest.mark.parametrize("count", [4, 5, 1])
def test_the_loss_is_four_reconstructions_done_one_image_at_a_time(u, latents, count):
    """The strict loss in plain loops: for an even batch, image i and image i + B / 2 swap."""
    net, batch = FlatVAE(u, latents), with_pairs(count)
    losses = DSD(DSDConfig(variant="strict", swap=3, dual=0.5))(net, batch, 0)
    similar = batch.also["group"]

    def code(x):
        return (x.flatten() @ net.into @ net.read)[:latents]

    def mixed(of_u, of_v):
        return torch.cat([of_u[:u], of_v[u:]])

    plain = [cost(x, code(x), net) for x in batch.image]
    labelled = [cost(x, code(x), net) for x in similar.image]
    swapped = []
    for i in range(4):
        (other,) = [j for j in range(4) if j != i and similar.group[j] == similar.group[i]]
        swapped.append(cost(similar.image[i], mixed(code(similar.image[other]), code(similar.image[i])), net))
    dual = []
    z = [code(x) for x in batch.image]
    made = {}  # (whose u, whose v): the code of the image that they make together
    for i in range(count):
        giver = (i - count // 2) % count
        made[giver, i] = code(mixed(z[giver], z[i]) @ net.back)
    for i in range(count):
        (with_my_u,) = [c for (giver, _), c in made.items() if giver == i]
        (with_my_v,) = [c for (_, taker), c in made.items() if taker == i]
        dual.append(cost(batch.image[i], mixed(with_my_u, with_my_v), net))

    wanted = {"rec": np.mean(plain), "labelled": np.mean(labelled), "swap": 3 * np.mean(swapped), "dual": 0.5 * np.mean(dual)}
    assert {name: term.item() for name, term in losses.terms.items()} == pytest.approx(wanted, rel=1e-9)
    assert float(losses.by_player["model"]) == pytest.approx(sum(wanted.values()), rel=1e-9)
    assert float(losses.logs["reconstruction"]) == pytest.approx(sum(wanted.values()), rel=1e-9)


def test_without_swaps_it_is_the_vae_on_both_batches_exactly(monkeypatch):
    monkeypatch.setattr(Normal, "rsample", lambda q, shape=(): q.loc + 0.3 * q.scale)
    method = DSDConfig(swap=0, dual=0)
    net, objective = made_pair(method)
    net.eval()  # the batch norm's statistics are those of no batch
    batch = made_batch(method)
    ours = objective(net, batch, 0).by_player["model"]
    vae = VAEConfig().build(net, 0)
    alone = [vae(net, part, 0).by_player["model"] for part in (batch, batch.also["group"])]
    torch.testing.assert_close(ours, sum(alone), rtol=1e-6, atol=0)


def test_the_kl_has_its_weight_in_fixed_and_is_no_part_of_strict():
    batch = with_pairs(4)
    losses = DSD(DSDConfig(beta=7))(FlatVAE(1, 3), batch, 0)
    torch.testing.assert_close(losses.terms["kl"], 7 * losses.logs["kl"])
    net = FlatVAE(1, 3)
    by_hand = [
        0.5 * (m**2 + s**2 - 1) - s.log() for part in (batch, batch.also["group"])
        for q in (net.encode(part.image),) for m, s in ((q.loc, q.scale),)
    ]  # fmt: skip
    torch.testing.assert_close(losses.logs["kl"], sum(kl.sum() / len(kl) for kl in by_hand))
    assert "kl" not in DSD(DSDConfig(variant="strict", beta=7))(FlatVAE(1, 3), batch, 0).terms


def test_swapping_costs_nothing_between_images_with_one_u_and_something_otherwise():
    """Where the code is the image: similar images that agree in u are rebuilt as they are."""
    net = FlatVAE(2, 5, identity=True)
    alike = images(4, group=torch.tensor([0, 0, 1, 1]))
    alike.image[1, :, :2], alike.image[3, :, :2] = alike.image[0, :, :2], alike.image[2, :, :2]
    other = images(4, group=torch.tensor([0, 1, 0, 1]))
    other.image.copy_(alike.image)
    objective = DSD(DSDConfig(variant="strict", swap=1, dual=1))
    same, apart = (objective(net, images(4, seed=3, also={"group": part}), 0) for part in (alike, other))
    torch.testing.assert_close(same.terms["swap"], same.terms["labelled"])
    assert apart.terms["swap"] > apart.terms["labelled"] + 0.01
    torch.testing.assert_close(same.terms["dual"], same.terms["rec"])  # a perfect autoencoder survives any two swaps


def test_u_is_taken_from_the_named_row_and_v_stays():
    z = torch.arange(12.0).view(4, 3)
    swapped = with_u_of(torch.tensor([2, 3, 0, 1]), z, 1)
    assert swapped.tolist() == [[6, 1, 2], [9, 4, 5], [0, 7, 8], [3, 10, 11]]
    assert partner(torch.tensor([0, 1, 1, 0, 2, 2])).tolist() == [3, 2, 1, 0, 5, 4]


def test_which_images_share_a_half_matters_and_their_order_in_it_does_not():
    """The order of pairs and of a pair's two ends, in place of the order of images."""
    net, batch = FlatVAE(1, 3), with_pairs(6)
    objective = DSD(DSDConfig(variant="strict"))

    def dual(order):
        return float(objective(net, Batch(batch.image[order], batch.lung[order], batch.present, also=batch.also), 0).terms["dual"])

    assert dual([2, 0, 1, 5, 3, 4]) == pytest.approx(dual([0, 1, 2, 3, 4, 5]), rel=1e-12)
    assert dual([3, 4, 5, 0, 1, 2]) == pytest.approx(dual([0, 1, 2, 3, 4, 5]), rel=1e-12)
    assert dual([1, 0, 2, 3, 4, 5]) != pytest.approx(dual([0, 1, 2, 3, 4, 5]), rel=1e-6)


@pytest.mark.parametrize(("u", "latents"), [(1, 2), (2, 4)])
@pytest.mark.parametrize("variant", ["fixed", "strict"])
def test_its_gradient_is_that_of_finite_differences(monkeypatch, u, latents, variant):
    fixed_noise(monkeypatch)
    batch, objective = with_pairs(4, pixels=3), DSD(DSDConfig(variant=variant, swap=2, dual=3))

    def loss(into, read, back):
        net = FlatVAE(u, latents, pixels=3)
        for name, value in (("into", into), ("read", read), ("back", back)):
            delattr(net, name)
            setattr(net, name, value)
        return objective(net, batch, 0).by_player["model"]

    weights = [weight.detach().clone().requires_grad_() for weight in FlatVAE(u, latents, pixels=3, seed=4).parameters()][:3]
    assert torch.autograd.gradcheck(loss, weights)


def test_strict_is_deterministic_its_codes_have_no_spread():
    method = DSDConfig(variant="strict")
    net, objective = made_pair(method)
    batch = made_batch(method)
    torch.manual_seed(0)
    one = objective(net, batch, 0).by_player["model"]
    again, objective = made_pair(method)
    torch.manual_seed(1)
    assert objective(again, batch, 0).by_player["model"] == one
    q = objective.posterior(net, batch)
    assert (q.scale == 0).all()
    torch.testing.assert_close(q.loc, net.encode(batch.image).loc)
    one.backward()
    unread = net.encoder.out.weight.grad[net.latents :]
    assert float(unread.abs().max()) == 0  # the log-variance head
    assert float(net.encoder.out.weight.grad[: net.latents].abs().max()) > 0


def test_a_channel_that_was_not_scanned_stays_away_from_the_mixed_image():
    method = DSDConfig(variant="strict")
    net, objective = made_pair(method)
    net.eval()
    batch = made_batch(method)
    batch.present[:, 1], batch.image[:, 1] = 0, 0
    seen = []
    net.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    objective(net, batch, 0)
    assert len(seen) == 3
    assert float(seen[2][:, 1].abs().max()) == 0
    assert float(seen[2][:, 0].abs().max()) > 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"groups": {"column": "fev1_pp"}}, "groups need classes"),
        ({"groups": {"column": "nothing"}}, "not in the table"),
        ({"groups": {"size": 1}}, "greater than or equal to 2"),
        ({"groups": {"size": 3}}, "size must be 2, found 3"),
    ],
)
def test_supervision_that_does_not_fit_is_refused(tmp_path, settings, words):
    with pytest.raises(ConfigError, match=words):
        Run(made_cohort(), run_config({"method": "dsd"} | settings), tmp_path, print)


def test_without_a_v_there_is_nothing_to_keep():
    with pytest.raises(ConfigError, match="d\\(v\\) must be at least 1"):
        run_config("dsd").parse(run_config("dsd").plain() | {"network": {"u": 3, "v": 0}})
