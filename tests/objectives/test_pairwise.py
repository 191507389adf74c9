import itertools

import pytest
import torch
from tiny import NETWORK, made_batch, made_net, made_pair

from copdvae.objectives.base import Batch, Pairs
from copdvae.objectives.beta_vae import BetaVAEConfig
from copdvae.objectives.pairwise import PairwiseConfig
from copdvae.objectives.terms import gaussian_kl
from copdvae.objectives.vae import VAEConfig

AFTER = 10**6  # a step behind any warm-up


def loss_of(method, batch, seed=5, network=NETWORK, step=AFTER):
    net, objective = made_pair(method, network)
    torch.manual_seed(seed)
    return objective(net, batch, step), net


def without_pairs(batch: Batch) -> list[Batch]:
    nothing = Pairs(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.zeros(0))
    return [Batch(batch.image, batch.lung, batch.present), Batch(batch.image, batch.lung, batch.present, nothing)]


def test_without_pairs_and_at_beta_1_it_is_the_vae_exactly():
    plain, _ = loss_of(VAEConfig(), made_batch(VAEConfig()))
    for batch, step in itertools.product(without_pairs(made_batch(PairwiseConfig())), (0, AFTER)):
        ours, net = loss_of(PairwiseConfig(beta=1), batch, step=step)
        torch.testing.assert_close(ours.by_player["model"], plain.by_player["model"], rtol=1e-6, atol=0)
        ours.by_player["model"].backward()
        assert all(weight.grad is None or weight.grad.isfinite().all() for weight in net.parameters())  # not the mean of nothing


def test_beta_vae_at_beta_1_is_the_vae_exactly_and_weighs_its_kl_otherwise():
    batch = made_batch(VAEConfig())
    plain, one, four = (loss_of(method, batch)[0] for method in (VAEConfig(), BetaVAEConfig(beta=1), BetaVAEConfig(beta=4)))
    assert one.by_player["model"] == plain.by_player["model"]
    torch.testing.assert_close(four.by_player["model"], plain.by_player["model"] + 3 * plain.logs["kl"])


@pytest.mark.parametrize(("u", "v"), [(1, 9), (3, 2), (2, 0)])
def test_the_loss_is_the_paper_s_sum_with_beta_on_u_alone(u, v):
    """Every part computed again, from what the network says of each image, with pairs in a plain loop."""
    method = PairwiseConfig(beta=7, weight=50, eta1=10, eta2=2)
    network = NETWORK.model_copy(update={"u": u, "v": v})
    batch = made_batch(method)
    losses, net = loss_of(method, batch, network=network)

    net, _ = made_pair(method, network)  # batch statistics again
    torch.manual_seed(5)
    q = net.encode(batch.image)
    z = q.loc + q.scale * torch.randn(q.loc.shape)
    kl = gaussian_kl(q)
    error = 0.5 * ((net.decode(z) - batch.image) / 0.1) ** 2
    rec = (error.flatten(1).sum(1) + batch.image[0].numel() * (torch.log(torch.tensor(0.1)) + 0.9189385)).mean()
    logs = []
    for i, j, y in zip(batch.pairs.first, batch.pairs.second, batch.pairs.similarity, strict=True):
        a = 10 * (2 - sum((z[i, d] - z[j, d]) ** 2 for d in range(u)))
        g = torch.sigmoid(a.double())
        constant = (2 * g - 1) / (g.log() - (1 - g).log())
        logs.append(y * g.log() + (1 - y) * (1 - g).log() - constant.log())
    pair = -torch.stack(logs).mean().float()
    expected = rec + 7 * kl[:, :u].sum(1).mean() + kl[:, u:].sum(1).mean() + 50 * pair
    torch.testing.assert_close(losses.by_player["model"], expected, rtol=1e-4, atol=1e-2)
    parts = {"rec": rec, "kl_u": 7 * kl[:, :u].sum(1).mean(), "kl_v": kl[:, u:].sum(1).mean(), "pair": 50 * pair}
    for name, value in parts.items():  # one by one: the reconstruction is large enough to hide the rest
        torch.testing.assert_close(losses.terms[name], value, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(losses.logs["pair_loss"], pair, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(sum(losses.terms.values()), losses.by_player["model"])


def test_alike_subjects_are_drawn_together_and_unlike_ones_apart():
    """One step down the pair term's own gradient, from two codes at the threshold."""
    objective = PairwiseConfig().build(made_net(), 4)
    for y, sign in ((0.95, -1), (0.05, 1)):
        u = torch.tensor([[0.0], [2**0.5]], requires_grad=True)
        pairs = Pairs(torch.tensor([0]), torch.tensor([1]), torch.tensor([y]))
        objective.pair_loss(u, Batch(u, u, u, pairs)).sum().backward()
        step = u.detach() - 0.01 * u.grad
        assert sign * (float((step[0] - step[1]).abs()) - 2**0.5) > 0


def test_pairs_reach_only_u():
    method = PairwiseConfig(weight=1)
    net, objective = made_pair(method, NETWORK.model_copy(update={"u": 2, "v": 3}))
    batch = made_batch(method)
    z = torch.randn(6, 5, requires_grad=True)
    objective.pair_loss(z[:, : net.u], batch).sum().backward()
    assert (z.grad[:, :2] != 0).all()
    assert (z.grad[:, 2:] == 0).all()


def test_binary_similarities_have_no_normalising_constant():
    batch = made_batch(PairwiseConfig())
    classes = Batch(batch.image, batch.lung, batch.present, Pairs(batch.pairs.first, batch.pairs.second, batch.pairs.similarity.round()))
    losses, _ = loss_of(PairwiseConfig(binary=True), classes)
    objective = PairwiseConfig(binary=True).build(made_net(), 4)
    net, _ = made_pair(PairwiseConfig())
    torch.manual_seed(5)
    a = objective.logit(net.encode(batch.image).rsample()[:, :1], classes.pairs)
    by_hand = torch.nn.functional.binary_cross_entropy_with_logits(a, classes.pairs.similarity)
    torch.testing.assert_close(losses.logs["pair_loss"], by_hand)


def test_the_warm_up_draws_u_to_the_place_that_the_pairs_give_it_and_then_lets_go():
    method = PairwiseConfig(weight=50, warm_up=400, pull=6)
    batch = made_batch(method)
    net, objective = made_pair(method)
    mean = net.encode(batch.image).loc[:, :1]
    known = [0, 2, 3, 4, 5]  # the second image is in no pair
    pull = 3 * ((mean[known] - batch.label[known]) ** 2).mean()
    for step, share in ((0, 1), (200, 1), (300, 0.5), (400, 0), (AFTER, 0)):
        losses, _ = loss_of(method, batch, step=step)
        torch.testing.assert_close(losses.terms["pair"], 50 * (share * pull + (1 - share) * losses.logs["pair_loss"]))
    net.eval()
    losses = objective(net, batch, 0)
    torch.testing.assert_close(losses.terms["pair"], 50 * losses.logs["pair_loss"])  # validation has none
    paper, _ = loss_of(PairwiseConfig(weight=50, warm_up=0), batch, step=0)
    torch.testing.assert_close(paper.terms["pair"], 50 * paper.logs["pair_loss"])
