"""What holds for every method, the list taken from the union: a new method is tested without a change here."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from exempt import ASLEEP, COUNTS_BATCH, UNORDERED
from tiny import CONFIGS, METHODS, NAMES, latents_of, made_batch, made_pair, run_config
from torch.distributions import Normal

from copdvae.config import models_in
from copdvae.errors import ConfigError
from copdvae.loop import descend
from copdvae.objectives.base import Batch, Losses, Pairs, Stream

MOMENTS = (0, 300, 10**6)  # the first step, one on the way, and one behind any warm-up
every_method = pytest.mark.parametrize("kind", METHODS, ids=NAMES)
every_variant = pytest.mark.parametrize("method", CONFIGS.values(), ids=CONFIGS)


def carried_noise(monkeypatch, order=None):
    """Each sampled latent's noise belongs to its image, and moves with it: the k-th draw of a step is always the same table of noise."""
    draws = iter(range(1000))

    def noise(shape):
        rows = 6 if shape[0] in (6, 12) else shape[0]
        table = torch.randn(rows, *shape[1:], generator=torch.Generator().manual_seed(next(draws)))
        return table if order is None or rows != 6 else table[order]

    def uniform(like):
        return torch.distributions.Normal(0, 1).cdf(noise(like.shape)).to(like)

    monkeypatch.setattr(torch, "rand_like", uniform)  # of masks and Gumbel's
    monkeypatch.setattr(torch.distributions.Normal, "rsample", lambda q, shape=(): q.loc + q.scale * noise(q.loc.shape))


def reordered(batch: Batch, order: torch.Tensor) -> Batch:
    """The same batch with its images in another order; a pair's two ends change places."""
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    pairs = batch.pairs and Pairs(place[batch.pairs.second], place[batch.pairs.first], batch.pairs.similarity)

    def moved(tensor):
        return None if tensor is None else tensor[order]

    also = {stream: reordered(further, order) for stream, further in batch.also.items()}
    return Batch(batch.image[order], batch.lung[order], batch.present[order], pairs, moved(batch.label), moved(batch.group), also)


def doubled(batch: Batch) -> Batch:
    """Every image, pair and group twice."""

    def twice(tensor):
        return None if tensor is None else torch.cat([tensor, tensor])

    pairs = batch.pairs and Pairs(
        torch.cat([batch.pairs.first, batch.pairs.first + 6]), torch.cat([batch.pairs.second, batch.pairs.second + 6]),
        twice(batch.pairs.similarity),
    )  # fmt: skip
    group = None if batch.group is None else torch.cat([batch.group, batch.group + batch.group.max() + 1])
    also = {stream: doubled(further) for stream, further in batch.also.items()}
    return Batch(twice(batch.image), twice(batch.lung), twice(batch.present), pairs, twice(batch.label), group, also)


def every_loss(net, objective, batch, step):
    """What the loop goes down from, in its order: the pre-step's losses, where there are any, and the step's."""
    return [losses for losses in (objective.before(net, batch, step), objective(net, batch, step)) if losses is not None]


def idle(net, name: str) -> bool:
    """A bias that the normalisation behind it takes away."""
    block = name.removesuffix(".conv.bias")
    return block != name and "N" in dict(net.get_submodule(block).named_modules()).get("adn", torch.nn.Module())._modules


@every_variant
@pytest.mark.parametrize("step", MOMENTS)
@pytest.mark.parametrize("network", ["conv", "resnet", "dense"])
def test_every_weight_of_each_player_gets_a_gradient_from_its_own_loss(method, network, step):
    net, objective = made_pair(method, latents_of(method).model_copy(update={"kind": network}))
    players, batch = objective.players(net), made_batch(method)
    asleep = tuple(start for start, until in ASLEEP.get(method.name, {}).items() if step < getattr(method, until) / 2)
    stages = every_loss(net, objective, batch, step)
    assert {player for losses in stages for player in losses.by_player} == set(players)
    names = {id(weight): name for name, weight in [*net.named_parameters(), *objective.named_parameters()]}
    for losses in stages:
        for player, loss in losses.by_player.items():
            gradients = torch.autograd.grad(loss, players[player], retain_graph=True, allow_unused=True)
            idle_ones = [names[id(w)] for w, g in zip(players[player], gradients, strict=True) if g is None or not g.abs().max() > 0]
            assert not [name for name in idle_ones if not idle(net, name) and not name.startswith(asleep)]
    owned = [id(weight) for player in stages[-1].by_player for weight in players[player]]
    assert len(owned) == len(set(owned)), "a weight belongs to one player of a step"
    everyone = {id(weight) for weights in players.values() for weight in weights}
    assert {id(weight) for weight in objective.parameters()} <= everyone, "a method trains its own weights"


@every_variant
def test_no_player_s_step_moves_weights_that_are_not_its_own(method):
    """Through the loop's own descent, one player at a time."""
    net, objective = made_pair(method)
    for stage, player in [
        (k, name) for k, losses in enumerate(every_loss(net, objective, made_batch(method), 0)) for name in losses.by_player
    ]:
        net, objective = made_pair(method)
        players = objective.players(net)
        own = {id(weight) for weight in players[player]}
        others = [weight for weight in (*net.parameters(), *objective.parameters()) if id(weight) not in own]
        before = [weight.detach().clone() for weight in others]
        losses = every_loss(net, objective, made_batch(method), 0)[stage]
        optimizer = torch.optim.Adam(players[player], lr=0.01)
        descend(Losses({player: losses.by_player[player]}, {}), players, {player: optimizer}, {player: 0.01})
        assert all(weight.grad is None and torch.equal(weight, old) for weight, old in zip(others, before, strict=True))


@every_variant
@pytest.mark.parametrize("step", MOMENTS)
def test_the_loss_ignores_the_order_of_the_batch(method, step, monkeypatch):
    """Groups stay whole and in their order."""
    exempt = UNORDERED.get(method.name, set())
    batch = made_batch(method)
    order = torch.tensor([3, 2, 0, 1, 5, 4] if "group" in (method.needs, *method.also) else [3, 0, 5, 1, 4, 2])
    carried_noise(monkeypatch)
    net, objective = made_pair(method)
    torch.manual_seed(0)
    one = every_loss(net, objective, batch, step)
    carried_noise(monkeypatch, order)
    net, objective = made_pair(method)
    torch.manual_seed(0)
    other = every_loss(net, objective, reordered(batch, order), step)
    for ours, theirs in zip(one, other, strict=True):
        for player, loss in ours.by_player.items():
            if player not in exempt:
                torch.testing.assert_close(loss, theirs.by_player[player], rtol=1e-4, atol=1e-4)
        for name, value in ours.logs.items():
            if name not in exempt:
                torch.testing.assert_close(value, theirs.logs[name], rtol=1e-4, atol=1e-4)


@every_variant
@pytest.mark.parametrize("step", MOMENTS)
def test_losses_are_a_mean_over_images_not_a_sum(method, step, monkeypatch):
    """Every image, pair and group twice: the same loss, but for terms that count the batch as a sample of all images."""
    if method.name in COUNTS_BATCH:
        pytest.skip(COUNTS_BATCH[method.name])
    batch = made_batch(method)
    carried_noise(monkeypatch)
    net, objective = made_pair(method)
    one = every_loss(net, objective, batch, step)
    carried_noise(monkeypatch, torch.arange(6).repeat(2))
    net, objective = made_pair(method)
    for ours, theirs in zip(one, every_loss(net, objective, doubled(batch), step), strict=True):
        player = next(iter(ours.by_player))
        torch.testing.assert_close(theirs.by_player[player], ours.by_player[player], rtol=1e-4, atol=1e-4)


@every_variant
def test_terms_and_logs_are_numbers_that_add_up(method):
    net, objective = made_pair(method)
    with torch.no_grad():
        net.encoder.out.weight.mul_(30)  # far from the prior: the reconstruction must not hide the rest
    losses = objective(net, made_batch(method), 0)
    assert all(value.dim() == 0 for value in (*losses.by_player.values(), *losses.logs.values(), *losses.terms.values()))
    torch.testing.assert_close(sum(losses.terms.values()), losses.by_player["model"], rtol=1e-4, atol=1e-3)
    net.eval()
    assert {"loss", *objective(net, made_batch(method), 0).logs} >= {method.selects_by}


@every_method
def test_a_critic_s_state_does_not_move_what_weights_are_picked_by(kind):
    """One network, two critics, on each base: the model's loss differs, what compares looks at validation subjects does not."""
    bases = models_in(kind.model_fields["base"].annotation) if "base" in kind.model_fields else []
    for method in (kind(), *[kind(base=base()) for base in bases]):
        net, objective = made_pair(method)
        if "critic" not in objective.players(net):
            continue
        net.eval()
        found = []
        for shift in (0.0, 1.0):
            with torch.no_grad():
                for weight in objective.players(net)["critic"]:
                    weight += shift * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
            torch.manual_seed(0)
            losses = objective(net, made_batch(method), 0)
            found.append((losses.by_player["model"], losses.logs[kind.selects_by]))
        (one, picked), (other, again) = found
        assert one != other
        assert picked == again
        weights = list(net.parameters())
        assert any(g is not None and g.abs().max() > 0 for g in torch.autograd.grad(picked, weights, allow_unused=True))


def extremes(method):
    """Steep pairs, and images and labels at the ends of what is allowed."""
    steep = method.model_copy(update={"eta1": 1000.0} if "eta1" in type(method).model_fields else {})
    batch = made_batch(method)
    for image in (torch.zeros_like(batch.image), torch.ones_like(batch.image), batch.image[:1].expand_as(batch.image)):
        for y in (0.0, 0.5, 1.0):
            pairs = batch.pairs and Pairs(batch.pairs.first, batch.pairs.second, torch.full_like(batch.pairs.similarity, y))
            yield steep, replace(batch, image=image.clone(), pairs=pairs)
    yield steep, with_labels(batch, lambda label: torch.full_like(label, float("nan")))
    labels = getattr(method, "labels", None)
    if labels is not None and labels.kind == "unit":
        for y in (0.0, 0.5, 1.0):
            yield steep, with_labels(batch, lambda label, y=y: torch.full_like(label, y))
    elif labels is not None and labels.kind == "class":
        yield steep, with_labels(batch, torch.zeros_like)
    else:
        yield steep, with_labels(batch, lambda label: label.sign() * 1e3 * (label != label[0]))


def with_labels(batch: Batch, change) -> Batch:
    """The batch and its further ones with other labels, where they have any."""
    label = None if batch.label is None else change(batch.label)
    return replace(batch, label=label, also={stream: with_labels(further, change) for stream, further in batch.also.items()})


@every_variant
@pytest.mark.parametrize("spread", [0.0, 1.0, 1e3])
def test_nothing_is_infinite_or_nan_at_extreme_inputs(method, spread):
    """`spread` 0: all latents are alike, every distance is 0. 1000: latents and posterior variances far out."""
    for steep, batch in extremes(method):
        net, objective = made_pair(steep)
        with torch.no_grad():
            net.encoder.out.weight.mul_(spread)
        if hasattr(method, "classes") and batch.label is not None:
            batch.label[:, -1].clamp_(0, method.classes - 1)
        for losses in every_loss(net, objective, batch, MOMENTS[-1]):
            for player, loss in losses.by_player.items():
                assert loss.isfinite(), (player, losses.logs)
                for gradient in torch.autograd.grad(loss, objective.players(net)[player], retain_graph=True, allow_unused=True):
                    assert gradient is None or gradient.isfinite().all()


@every_variant
def test_losses_are_float32_under_bf16_autocast_and_near_those_without(method, monkeypatch):
    batch = made_batch(method)
    if hasattr(method, "weight"):  # at 1e5, or with steep pairs, the logits' rounding would be all that is compared
        method = method.model_copy(update={"weight": 1.0, "eta1": 1.0})
    carried_noise(monkeypatch)
    net, objective = made_pair(method)
    exact = objective(net, batch, 0)
    net, objective = made_pair(method)
    with torch.autocast("cpu", torch.bfloat16):
        rough = objective(net, batch, 0)
    for name, value in {**rough.by_player, **rough.logs, **rough.terms}.items():
        assert value.dtype == torch.float32, name
    torch.testing.assert_close(rough.by_player["model"], exact.by_player["model"], rtol=0.05, atol=1)


@every_variant
def test_latents_and_pair_terms_are_float32_under_bf16_autocast(method, monkeypatch):
    """Every posterior that a step makes, every draw from one, every pair's logit and loss; bf16 has steps of .016 near 2."""
    batch, seen = made_batch(method), set()
    net, objective = made_pair(method)

    def watched(original):
        def function(*arguments, **settings):
            found = original(*arguments, **settings)
            seen.update({found.loc.dtype, found.scale.dtype} if isinstance(found, Normal) else {found.dtype})
            return found

        return function

    for owner, name in [(net, "encode"), (net, "latent"), (Normal, "rsample"), (objective, "logit"), (objective, "pair_loss")]:
        if hasattr(owner, name):
            monkeypatch.setattr(owner, name, watched(getattr(owner, name)))
    with torch.autocast("cpu", torch.bfloat16):
        every_loss(net, objective, batch, MOMENTS[-1])
        objective.posterior(net, batch)
    assert seen == {torch.float32}


@every_variant
@pytest.mark.parametrize("network", ["conv", "paper_c"])
def test_each_player_goes_down_on_grey_images_of_two_dimensions_too(method, network):
    """16 x 16 of one channel: a short step of each player, by itself, makes its own loss less."""
    size = 16, 16
    batch = made_batch(method, size=size, channels=1)

    def made():
        return made_pair(method, latents_of(method).model_copy(update={"kind": network}), size=size, channels=1)

    def losses_now(net, objective):
        torch.manual_seed(3)
        return every_loss(net, objective, batch, 0)

    for stage, player in [(k, name) for k, losses in enumerate(losses_now(*made())) for name in losses.by_player]:
        net, objective = made()
        weights = objective.players(net)[player]
        loss = losses_now(net, objective)[stage].by_player[player]
        gradients = torch.autograd.grad(loss, weights, materialize_grads=True, allow_unused=True)
        length = torch.stack([gradient.norm() for gradient in gradients]).norm()
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= 1e-3 * gradient / length
        assert losses_now(net, objective)[stage].by_player[player] < loss
        assert objective.posterior(net, batch).loc.shape == (6, net.latents)


@every_method
def test_a_misspelt_setting_is_refused_with_the_right_one(kind):
    name = kind.model_fields["method"].default
    settings = [field for field in kind.model_fields if field != "method"]
    for field in settings:
        with pytest.raises(ConfigError, match=f"{field[0] + field}: unknown key; did you mean '{field}'"):
            run_config({"method": name, field[0] + field: 1})


@every_method
def test_a_configuration_says_its_method_and_builds_from_defaults(kind):
    config = run_config(kind.model_fields["method"].default)
    assert config.method == kind()
    assert config.method.name == kind.model_fields["method"].default
    assert {config.method.needs, *config.method.also} <= set(get_args(Stream))
    assert config.method.readout in ("ranked", "u", "all", "direct")
    assert config.method.paper, "where it is from"
    assert config.method.told != "nothing" or (config.method.needs, config.method.also) in (("image", ()), ("image", ("second",)))
    assert kind(label="other").name == "other"
