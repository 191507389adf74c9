"""The loop by itself, on players made for the purpose."""

import copy
import math
import time

import pytest
import torch
from tiny import made_batch, made_pair
from torch import nn

from copdvae.errors import CopdvaeError, Stopped
from copdvae.loop import Every, gradient_norms, step_seed, train
from copdvae.objectives.base import Losses, Objective
from copdvae.objectives.pairwise import PairwiseConfig
from copdvae.objectives.vae import VAEConfig


class Duel(Objective):
    """The model pulls its weight up; the critic pulls it, and its own, down: neither may move the other's."""

    def __init__(self):
        super().__init__()
        self.critic = nn.Parameter(torch.zeros(3))

    def players(self, net):
        return {"model": list(net.parameters()), "critic": [self.critic]}

    def adam(self):
        return {"critic": {"lr": 0.5}}

    def forward(self, net, batch, step):
        both = net.weight.sum() + self.critic.sum()
        return Losses({"model": -both, "critic": both}, {"both": both}, {"up": -2 * both})


class Noisy(Objective):
    """A loss that is all chance: what the weights become shows every draw."""

    def __init__(self):
        super().__init__()
        self.drawn = []

    def forward(self, net, batch, step):
        self.drawn.append(tuple(torch.randn(3).tolist()))
        loss = (net.weight * torch.tensor(self.drawn[-1])).sum()
        return Losses({"model": loss}, {})


class Diverging(Objective):
    def __init__(self, at):
        super().__init__()
        self.at = at

    def forward(self, net, batch, step):
        loss = net.weight.sum() * (math.nan if step >= self.at else 1)
        return Losses({"model": loss}, {"rec": loss})


def line():
    torch.manual_seed(0)
    return nn.Linear(3, 1, bias=False)


def one_batch(step):
    return made_batch(VAEConfig(), count=2, size=(2, 2))


def run(net, objective, **settings):
    logged, saved = [], []
    arguments = {"lr": 0.01, "steps": 4, "seed": 0, "every": Every(1, 100)} | settings
    result = train(
        net, objective, settings.get("batches", one_batch),
        log=lambda step, values: logged.append((step, values)), save=lambda step, _: saved.append((step, copy.deepcopy(net.state_dict()))),
        **{key: value for key, value in arguments.items() if key != "batches"},
    )  # fmt: skip
    return result, logged, saved


def test_each_loss_moves_its_own_player_and_no_other():
    net, objective = line(), Duel()
    before = net.weight.detach().clone()
    run(net, objective, steps=3)
    torch.testing.assert_close(net.weight.detach(), before + 0.03)  # Adam's first steps are its learning rate
    torch.testing.assert_close(objective.critic.detach(), torch.full((3,), -1.5))  # at a rate of its own


class Prepared(Objective):
    """Before each step, a step of another player on the same weight, which the main loss then sees."""

    def __init__(self, when=lambda step: True):
        super().__init__()
        self.seen, self.when = [], when

    def players(self, net):
        return {"model": [net.weight], "early": [net.weight]}

    def adam(self):
        return {"early": {"lr": 1.0}}

    def before(self, net, batch, step):
        return Losses({"early": net.weight.sum()}, {"early_weight": net.weight.mean()}) if self.when(step) else None

    def forward(self, net, batch, step):
        self.seen.append(float(net.weight.detach()[0, 0]))
        return Losses({"model": -net.weight.sum()}, {})


def test_a_pre_step_is_a_true_step_that_the_main_one_sees():
    net, objective = line(), Prepared()
    start, mean = float(net.weight.detach()[0, 0]), float(net.weight.detach().mean())
    _, logged, _ = run(net, objective, steps=1)
    assert objective.seen == [pytest.approx(start - 1)]
    torch.testing.assert_close(net.weight.detach()[0, 0], torch.tensor(start - 1 + 0.01))
    assert set(logged[0][1]) == {"loss", "early", "early_weight"}
    assert logged[0][1]["early_weight"] == pytest.approx(mean)


def test_a_step_without_its_pre_step_moves_the_model_alone():
    net, objective = line(), Prepared(when=lambda step: step == 1)
    start = float(net.weight.detach()[0, 0])
    run(net, objective, steps=2)
    assert objective.seen == [pytest.approx(start), pytest.approx(start + 0.01 - 1)]


def test_what_competes_is_logged_as_gradient_norms_of_the_model():
    _, logged, _ = run(line(), Duel(), steps=1)
    assert logged[0][1]["grad_up"] == pytest.approx(2 * math.sqrt(3))
    assert set(logged[0][1]) == {"model", "critic", "both", "grad_up"}
    _, logged, _ = run(line(), Noisy(), steps=1)
    assert set(logged[0][1]) == {"loss"}


def test_gradient_norms_are_those_of_each_weighted_term():
    net, objective = made_pair(method := PairwiseConfig(beta=3, weight=100))
    losses = objective(net, made_batch(method), 0)
    norms = gradient_norms(losses.terms, list(net.parameters()))
    assert set(norms) == {"grad_rec", "grad_kl_u", "grad_kl_v", "grad_pair"}
    parts = {}
    for name, term in losses.terms.items():
        net.zero_grad()
        term.backward(retain_graph=True)
        parts[name] = torch.cat([(torch.zeros_like(w) if w.grad is None else w.grad).flatten() for w in net.parameters()])
        assert norms[f"grad_{name}"] == pytest.approx(float(parts[name].norm()), rel=1e-4)
    net.zero_grad()
    losses.by_player["model"].backward()
    whole = torch.cat([w.grad.flatten() for w in net.parameters()])
    torch.testing.assert_close(whole, sum(parts.values()), rtol=1e-3, atol=1e-4 * float(whole.norm()))


def test_logs_come_at_the_first_every_so_many_and_the_last_step():
    _, logged, saved = run(line(), Noisy(), steps=8, every=Every(3, 5))
    assert [step for step, _ in logged] == [0, 3, 6, 7]
    assert [step for step, _ in saved] == [5, 8]


def test_the_noise_is_a_function_of_seed_and_step():
    net, noisy = line(), Noisy()
    run(net, noisy, steps=6)
    assert len(set(noisy.drawn)) == 6, "other noise in every step"
    same, other = line(), line()
    torch.manual_seed(99)  # whatever was drawn before does not matter
    run(same, Noisy(), steps=6)
    run(other, Noisy(), steps=6, seed=1)
    assert torch.equal(net.weight, same.weight)
    assert not torch.equal(net.weight, other.weight)
    assert len({step_seed(seed, step) for seed in range(20) for step in range(500)}) == 10_000
    assert all(0 <= step_seed(seed, step) < 2**63 for seed in (0, 2**31, 2**62) for step in (0, 2**31))


@pytest.mark.parametrize("every", [1, 3])
def test_a_diverging_loss_stops_at_once_with_step_and_values_and_is_not_saved(every):
    with pytest.raises(CopdvaeError, match=r"diverged at step 6: loss nan, rec nan"):
        run(line(), Diverging(at=6), steps=20, every=Every(every, 100))
    saved = []
    with pytest.raises(CopdvaeError, match="diverged at step 7"):  # not a step that is logged: one that is saved
        train(
            line(), Diverging(at=5), one_batch, lr=0.1, steps=20, seed=0, every=Every(100, 8),
            log=lambda *_: None, save=lambda step, _: saved.append(step),
        )  # fmt: skip
    assert saved == []


def test_a_wish_to_stop_saves_and_says_how_to_go_on():
    wishes = iter([False, False, True])
    saved = []
    with pytest.raises(Stopped, match=r"stopped at step 3 of 10; run the same command again"):
        train(
            line(), Noisy(), one_batch, lr=0.1, steps=10, seed=0, every=Every(100, 100),
            log=lambda *_: None, save=lambda step, _: saved.append(step), stop=lambda: next(wishes),
        )  # fmt: skip
    assert saved == [3]


def test_a_wish_to_stop_at_the_last_step_is_too_late_to_matter():
    result, _, saved = run(line(), Noisy(), steps=1, stop=lambda: True)
    assert [step for step, _ in saved] == [1]
    assert "data_share" in result


def test_the_share_of_time_spent_waiting_for_data_is_told():
    def slow(step):
        time.sleep(0.02)
        return one_batch(step)

    waiting, _, _ = run(line(), Noisy(), batches=slow, steps=10)
    ready = one_batch(0)
    busy, _, _ = run(line(), Noisy(), batches=lambda step: ready, steps=10)
    assert waiting["seconds_a_step"] > 0.02
    assert waiting["data_share"] > 0.5 > busy["data_share"]


def test_training_mode_holds_in_training_whatever_saving_does():
    net, modes = made_pair(VAEConfig())[0], []

    class Watching(Objective):
        def forward(self, net, batch, step):
            modes.append(net.training)
            return Losses({"model": net.encode(batch.image).loc.sum()}, {})

    def save(step, optimizers):
        net.eval()

    batch = made_batch(VAEConfig())
    train(net, Watching(), lambda step: batch, lr=0.1, steps=4, seed=0, every=Every(1, 2), log=lambda *_: None, save=save)
    assert modes == [True] * 4
