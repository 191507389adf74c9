"""What holds for every method, the list taken from the union: a new method is tested without a change here."""

import pytest
import torch
from tiny import METHODS, NAMES, NETWORK, made_batch, made_pair, run_config

from copdvae.errors import ConfigError
from copdvae.objectives.base import Batch, Pairs

MOMENTS = (0, 300, 10**6)  # the first step, one on the way, and one behind any warm-up
every_method = pytest.mark.parametrize("kind", METHODS, ids=NAMES)


def carried_noise(monkeypatch, order=slice(None)):
    """Each sampled latent's noise belongs to its image, and moves with it."""

    def rsample(q):
        noise = torch.randn(6, *q.loc.shape[1:], generator=torch.Generator().manual_seed(11))
        return q.loc + q.scale * noise[order]

    monkeypatch.setattr(torch.distributions.Normal, "rsample", rsample)


def reordered(batch: Batch, order: torch.Tensor) -> Batch:
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    pairs = batch.pairs and Pairs(
        place[batch.pairs.second], place[batch.pairs.first], batch.pairs.similarity
    )  # unordered: either way round
    label = None if batch.label is None else batch.label[order]
    return Batch(batch.image[order], batch.lung[order], batch.present[order], pairs, label)


def idle(net, name: str) -> bool:
    """A bias that the normalisation behind it takes away."""
    block = name.removesuffix(".conv.bias")
    return block != name and "N" in dict(net.get_submodule(block).named_modules()).get("adn", torch.nn.Module())._modules


@every_method
@pytest.mark.parametrize("step", MOMENTS)
@pytest.mark.parametrize("network", ["conv", "resnet"])
def test_every_weight_of_each_player_gets_a_gradient_from_its_own_loss(kind, network, step):
    net, objective = made_pair(method := kind(), NETWORK.model_copy(update={"kind": network}))
    players = objective.players(net)
    losses = objective(net, made_batch(method), step)
    assert set(losses.by_player) == set(players)
    names = {id(weight): name for name, weight in [*net.named_parameters(), *objective.named_parameters()]}
    for player, weights in players.items():
        gradients = torch.autograd.grad(losses.by_player[player], weights, retain_graph=True, allow_unused=True)
        idle_ones = [names[id(w)] for w, g in zip(weights, gradients, strict=True) if g is None or not g.abs().max() > 0]
        assert not [name for name in idle_ones if not idle(net, name)]
    owned = [id(weight) for weights in players.values() for weight in weights]
    assert len(owned) == len(set(owned)), "a weight belongs to one player"
    assert {id(weight) for weight in objective.parameters()} <= set(owned), "a method trains its own weights"


@every_method
@pytest.mark.parametrize("step", MOMENTS)
def test_the_loss_ignores_the_order_of_the_batch(kind, step, monkeypatch):
    method, batch, order = kind(), made_batch(kind()), torch.tensor([3, 0, 5, 1, 4, 2])
    carried_noise(monkeypatch)
    net, objective = made_pair(method)
    one = objective(net, batch, step)
    carried_noise(monkeypatch, order)
    net, objective = made_pair(method)
    other = objective(net, reordered(batch, order), step)
    for player, loss in one.by_player.items():
        torch.testing.assert_close(loss, other.by_player[player], rtol=1e-4, atol=1e-4)
    for name, value in one.logs.items():
        torch.testing.assert_close(value, other.logs[name], rtol=1e-4, atol=1e-4)


@every_method
@pytest.mark.parametrize("step", MOMENTS)
def test_losses_are_a_mean_over_images_not_a_sum(kind, step, monkeypatch):
    """Every image and every pair twice: the same loss."""
    method, batch = kind(), made_batch(kind())
    twice = Batch(
        torch.cat([batch.image] * 2), torch.cat([batch.lung] * 2), torch.cat([batch.present] * 2),
        batch.pairs and Pairs(
            torch.cat([batch.pairs.first, batch.pairs.first + 6]), torch.cat([batch.pairs.second, batch.pairs.second + 6]),
            torch.cat([batch.pairs.similarity] * 2),
        ),
        None if batch.label is None else torch.cat([batch.label] * 2),
    )  # fmt: skip
    carried_noise(monkeypatch)
    net, objective = made_pair(method)
    one = objective(net, batch, step).by_player["model"]
    carried_noise(monkeypatch, torch.arange(6).repeat(2))
    net, objective = made_pair(method)
    torch.testing.assert_close(objective(net, twice, step).by_player["model"], one, rtol=1e-4, atol=1e-4)


@every_method
def test_terms_and_logs_are_numbers_that_add_up(kind):
    net, objective = made_pair(method := kind())
    losses = objective(net, made_batch(method), 0)
    assert all(value.dim() == 0 for value in (*losses.by_player.values(), *losses.logs.values(), *losses.terms.values()))
    torch.testing.assert_close(sum(losses.terms.values()), losses.by_player["model"], rtol=1e-4, atol=1e-3)
    assert kind.selects_by == "loss" or kind.selects_by in losses.logs


def extremes(method):
    """Steep pairs, and images and labels at the ends of what is allowed."""
    steep = method.model_copy(update={"eta1": 1000.0} if "eta1" in type(method).model_fields else {})
    batch = made_batch(method)
    for image in (torch.zeros_like(batch.image), torch.ones_like(batch.image), batch.image[:1].expand_as(batch.image)):
        for y in (0.0, 0.5, 1.0):
            pairs = batch.pairs and Pairs(batch.pairs.first, batch.pairs.second, torch.full_like(batch.pairs.similarity, y))
            yield steep, Batch(image.clone(), batch.lung, batch.present, pairs, batch.label)
    if batch.label is not None:
        yield steep, Batch(batch.image, batch.lung, batch.present, batch.pairs, torch.full_like(batch.label, float("nan")))
        yield steep, Batch(batch.image, batch.lung, batch.present, batch.pairs, batch.label.sign() * 1e3 * (batch.label != batch.label[0]))


@every_method
@pytest.mark.parametrize("spread", [0.0, 1.0, 1e3])
def test_nothing_is_infinite_or_nan_at_extreme_inputs(kind, spread):
    """`spread` 0: all latents are alike, every distance is 0. 1000: latents and posterior variances far out."""
    for method, batch in extremes(kind()):
        net, objective = made_pair(method)
        with torch.no_grad():
            net.encoder.out.weight.mul_(spread)
        if batch.label is not None and "classes" in kind.model_fields:
            batch.label[:, -1].clamp_(0, method.classes - 1)
        losses = objective(net, batch, MOMENTS[-1])
        for player, loss in losses.by_player.items():
            assert loss.isfinite(), (player, losses.logs)
            for gradient in torch.autograd.grad(loss, objective.players(net)[player], retain_graph=True, allow_unused=True):
                assert gradient is None or gradient.isfinite().all()


@every_method
def test_losses_are_float32_under_bf16_autocast_and_near_those_without(kind, monkeypatch):
    method, batch = kind(), made_batch(kind())
    if "weight" in kind.model_fields:
        method = kind(weight=1)  # at 1e5 the logits' rounding would be all that is compared
    carried_noise(monkeypatch)
    net, objective = made_pair(method)
    exact = objective(net, batch, 0)
    net, objective = made_pair(method)
    with torch.autocast("cpu", torch.bfloat16):
        rough = objective(net, batch, 0)
    for name, value in {**rough.by_player, **rough.logs, **rough.terms}.items():
        assert value.dtype == torch.float32, name
    torch.testing.assert_close(rough.by_player["model"], exact.by_player["model"], rtol=0.05, atol=1)


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
    assert config.method.needs in ("image", "pair", "label")
    assert config.method.readout in ("ranked", "u", "direct")
    assert kind(label="other").name == "other"
