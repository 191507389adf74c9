import itertools
import math

import pytest
import torch
from flat import FlatVAE, fixed_noise
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


# strict


def strict_batch(count: int = 4, pairs: int = 6, pixels: int = 5) -> Batch:
    """`count` images, and `pairs` pairs with two images each of their own."""
    rng = torch.Generator().manual_seed(3)
    x, ends = (torch.rand(n, 1, pixels, generator=rng, dtype=torch.double) for n in (count, 2 * pairs))
    images, present = Batch(x, x > 2, torch.ones(count, 1)), torch.ones(2 * pairs, 1)
    first, similarity = torch.arange(pairs), torch.rand(pairs, generator=rng)
    return Batch(ends, ends > 2, present, Pairs(first, first + pairs, similarity), also={"image": images})


def strict_losses(batch: Batch, net: FlatVAE, step: int, training: bool = True, **settings):
    return PairwiseConfig(variant="strict", **settings).build(net, 4)(net.train(training), batch, step)  # type: ignore[arg-type]


@pytest.mark.parametrize(("u", "latents"), [(1, 3), (2, 3), (3, 3)])
@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_strict_is_squared_errors_of_the_images_and_the_likelihood_of_other_images_pairs(monkeypatch, u, latents, scale):
    """One image, one pair at a time; what the study's likelihood is does not matter."""
    fixed_noise(monkeypatch)
    net, batch = FlatVAE(u, latents, scale=scale), strict_batch()
    losses = strict_losses(batch, net, AFTER, eta1=3.0)

    def code(x, row, rows):
        mean, log_variance = (x.flatten() @ net.into @ net.read).chunk(2)
        noise = torch.randn(rows, latents, generator=torch.Generator().manual_seed(0), dtype=torch.double)[row]
        kl = [0.5 * (m**2 + math.exp(w) - 1 - w) for m, w in zip(mean.tolist(), log_variance.tolist(), strict=True)]
        return mean + (log_variance / 2).exp() * noise, kl

    rec = kl_u = kl_v = pair = 0.0
    for row, x in enumerate(batch.also["image"].image):
        z, kl = code(x, row, 4)
        rec += sum((a - b) ** 2 for a, b in zip(x.flatten().tolist(), (z @ net.back).tolist(), strict=True)) / 4
        kl_u, kl_v = kl_u + sum(kl[:u]) / 4, kl_v + sum(kl[u:]) / 4
    for i in range(6):
        (one, _), (other, _) = (code(batch.image[row], row, 12) for row in (i, i + 6))
        a = 3 * (2 - sum((one[d].item() - other[d].item()) ** 2 for d in range(u)))
        g, y = 1 / (1 + math.exp(-a)), batch.pairs.similarity[i].item()
        constant = (2 * g - 1) / (math.log(g) - math.log(1 - g))
        pair -= (y * math.log(g) + (1 - y) * math.log(1 - g) - math.log(constant)) / 6
    wanted = {"rec": rec, "kl_u": 10 * kl_u, "kl_v": kl_v, "pair": pair}
    assert {name: term.item() for name, term in losses.terms.items()} == pytest.approx(wanted, rel=1e-4)
    assert losses.by_player["model"].item() == pytest.approx(sum(wanted.values()), rel=1e-4)
    assert losses.logs["pair_loss"].item() == pytest.approx(pair, rel=1e-4)


def test_in_strict_pair_members_are_in_the_pair_term_alone_and_images_in_the_others():
    net, batch = FlatVAE(1, 3), strict_batch()
    losses = strict_losses(batch, net, AFTER, training=False)
    for term, of_pairs in (("rec", False), ("kl_u", False), ("kl_v", False), ("pair", True)):
        gradients = torch.autograd.grad(losses.terms[term], net.parameters(), retain_graph=True, allow_unused=True)
        assert any(g is not None and g.abs().max() > 0 for g in gradients)
        for part, is_pairs in ((batch, True), (batch.also["image"], False)):
            part.image.requires_grad_()
            term_now = strict_losses(batch, net, AFTER, training=False).terms[term]
            (moved,) = torch.autograd.grad(term_now, part.image, allow_unused=True)
            assert (moved is not None and bool(moved.abs().max() > 0)) == (is_pairs == of_pairs), term


def test_in_strict_the_reconstruction_comes_late_in_training_and_is_whole_in_validation():
    net, batch = FlatVAE(1, 3), strict_batch()
    for settings, weights in (
        ({}, {0: 0, 2500: 0, 2501: 1 / 2500, 3750: 0.5, 5000: 1, AFTER: 1}), ({"onset": 8}, {0: 0, 4: 0, 5: 0.25, 7: 0.75, 8: 1}),
        ({"onset": 0}, {0: 1}), ({"onset": 1}, {0: 0, 1: 1}),
    ):  # fmt: skip
        for step, weight in weights.items():
            losses = strict_losses(batch, net, step, **settings)
            assert losses.terms["rec"].item() == pytest.approx(weight * losses.logs["rec"].item(), rel=1e-6, abs=1e-12)
            rest = sum(losses.terms[name] for name in ("kl_u", "kl_v", "pair"))
            torch.testing.assert_close(losses.by_player["model"], weight * losses.logs["rec"] + rest)
        whole = strict_losses(batch, net, 0, training=False, **settings)
        assert whole.terms["rec"] == whole.logs["rec"] > 0
    assert loss_of(PairwiseConfig(), made_batch(PairwiseConfig()), step=0)[0].terms["rec"] != 0, "in fixed it is there from the start"


def test_strict_has_defaults_of_its_own_and_what_is_given_wins():
    fixed, strict = PairwiseConfig(), PairwiseConfig(variant="strict")
    assert (fixed.eta1, fixed.weight, fixed.beta, fixed.warm_up, fixed.onset) == (10, 1e5, 4, 400, 0)
    assert (strict.eta1, strict.eta2, strict.weight, strict.beta, strict.warm_up, strict.onset) == (1000, 2, 1, 10, 0, 5000)
    given = {"eta1": 7.0, "weight": 3.0, "beta": 2.0, "warm_up": 5, "onset": 1200}
    for settings in ({name: value} for name, value in given.items()):
        assert PairwiseConfig.parse({"variant": "strict"} | settings) == strict.model_copy(update=settings)
    for config in (fixed, strict, PairwiseConfig(variant="strict", **given)):  # type: ignore[arg-type]
        assert PairwiseConfig.parse(config.plain()) == config
    assert (fixed.also, strict.also) == ((), ("image",))


@pytest.mark.parametrize("binary", [False, True])
def test_the_steep_pair_term_and_its_gradient_are_right_in_float32(binary):
    """At eta1 = 1000, in nats of up to a billion: against double precision, at one place, at the threshold and far from both."""
    objective = PairwiseConfig(variant="strict", binary=binary).build(made_net(), 4)
    gaps = torch.tensor([0.0, 1e-6, 1e-3, 0.5, 1.4, 2**0.5, 1.41421, 1.4143, 1.5, 3.0, 30.0, 1e3])
    similarity = torch.tensor([0.0, 1.0] if binary else [0.0, 0.1, 0.5, 0.9, 1.0])
    gap, y = (grid.flatten() for grid in torch.meshgrid(gaps, similarity, indexing="ij"))
    u = torch.stack([torch.zeros_like(gap), gap], dim=1).view(-1, 1).requires_grad_()
    pairs = Pairs(torch.arange(0, len(u), 2), torch.arange(1, len(u), 2), y)
    found = objective.pair_loss(u, Batch(u, u, u, pairs))
    (slope,) = torch.autograd.grad(found.sum(), u)
    assert found.isfinite().all()
    assert slope.isfinite().all()

    exact = gap.double().requires_grad_()
    a = 1000 * (2 - exact**2)
    size = a.abs().clamp_min(1e-9)  # the constant is even in a; log sigmoid by softplus, log tanh by its exponentials
    log_c = torch.log(-torch.expm1(-size)) - torch.log1p(torch.exp(-size)) - size.log()
    softplus = torch.nn.functional.softplus
    wanted = y * softplus(-a) + (1 - y) * softplus(a) + (0 if binary else log_c)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=2e-3)
    (expected,) = torch.autograd.grad(wanted.sum(), exact)
    torch.testing.assert_close(slope.view(-1, 2)[:, 1].double(), expected, rtol=1e-3, atol=1.0)


def test_the_gradient_of_strict_is_finite_where_all_images_are_one_and_where_they_are_far_apart():
    method = PairwiseConfig(variant="strict")
    for spread in (0.0, 1.0, 1e3):
        net, objective = made_pair(method)
        with torch.no_grad():
            net.encoder.out.weight.mul_(spread)
        objective(net, made_batch(method), AFTER).by_player["model"].backward()
        assert all(weight.grad is None or weight.grad.isfinite().all() for weight in net.parameters())
