"""The one training loop. An objective returns a loss a player; the loop knows nothing else about methods."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from copdvae import processes
from copdvae.errors import CopdvaeError, Stopped
from copdvae.networks import VAE
from copdvae.objectives.base import Batch, Losses, Objective


@dataclass(frozen=True)
class Every:
    """How often, in steps."""

    log: int
    save: int


def train(
    net: VAE,
    objective: Objective,
    batches: Callable[[int], Batch],
    *,
    lr: float,
    steps: int,
    seed: int,
    every: Every,
    log: Callable[[int, dict[str, float]], None],
    save: Callable[[int, dict[str, torch.optim.Optimizer]], None],
    restore: Callable[[dict[str, torch.optim.Optimizer]], int] = lambda optimizers: 0,
    stop: Callable[[], bool] = lambda: False,
    device: str = "cpu",
    bf16: bool = False,
    weight_decay: float = 0.0,
    schedule: Callable[[int], float] = lambda step: 1.0,
) -> dict[str, float]:
    """Train to `steps`, or raise `Stopped` with a checkpoint saved. Returns seconds a step and the share of them spent waiting for data."""
    net, objective = net.to(device), objective.to(device)
    players = objective.players(net)
    settings: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
    optimizers: dict[str, torch.optim.Optimizer] = {
        name: torch.optim.Adam(weights, **(settings | objective.adam().get(name, {}))) for name, weights in players.items()
    }
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in optimizers.items()}
    first = restore(optimizers)
    waited = worked = 0.0

    net.train()
    for step in range(first, steps):
        start = time.perf_counter()
        batch = batches(step).to(device)
        ready = time.perf_counter()

        torch.manual_seed(step_seed(seed, step, processes.rank()))  # the noise, like the batch, is a function of the step
        logging = step % every.log == 0 or step + 1 == steps
        measuring = logging and (step % every.save < every.log or step + 1 == steps)  # once a checkpoint: norms cost a backward pass a term
        rate, logs, norms = schedule(step), dict[str, Tensor](), dict[str, float]()
        for losses_of in (objective.before, objective):  # a method's pre-step is a true step of its own
            with torch.autocast(torch.device(device).type, torch.bfloat16) if bf16 else nullcontext():
                losses: Losses | None = losses_of(net, batch, step)
            if losses is None:
                continue
            if measuring:
                norms |= gradient_norms(losses.terms, players["model"])
            descend(losses, players, optimizers, {name: base * rate for name, base in rates.items()})
            logs |= named(losses)

        stopping = processes.anywhere(stop())
        saving = (step + 1) % every.save == 0 or step + 1 == steps or stopping
        numbers = finite(logs, step) if logging or saving else {}  # what is not a number is never saved
        if logging:
            log(step, numbers | norms)
        waited, worked = waited + ready - start, worked + time.perf_counter() - ready
        if saving:
            save(step + 1, optimizers)
            net.train()
        if stopping and step + 1 < steps:
            raise Stopped(f"stopped at step {step + 1} of {steps}; run the same command again to go on")
    done = max(steps - first, 1)
    return {"seconds_a_step": (waited + worked) / done, "data_share": waited / max(waited + worked, 1e-9)}


def descend(
    losses: Losses, players: dict[str, list[nn.Parameter]], optimizers: dict[str, torch.optim.Optimizer], rates: dict[str, float]
) -> None:
    """One step of every player that has a loss: all go backward, each into its own weights, before any steps."""
    for name, loss in losses.by_player.items():
        loss.backward(inputs=players[name], retain_graph=len(losses.by_player) > 1)
    moved = [weight for name in losses.by_player for weight in players[name]]
    processes.average([weight.grad for weight in moved if weight.grad is not None])
    for name in losses.by_player:
        for group in optimizers[name].param_groups:
            group["lr"] = rates[name]  # a function of the step alone, so resuming is exact
        optimizers[name].step()
        optimizers[name].zero_grad()


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """One 63-bit seed a (seed, step), and a process of several that train together."""
    return ((seed * 1_000_003 + rank) * 1_000_000_007 + step) % (2**63 - 1)


def gradient_norms(terms: dict[str, Tensor], weights: list[nn.Parameter]) -> dict[str, float]:
    """The norm of each weighted term's gradient, to see which term rules: `grad_<term>`."""
    norms = {}
    for name, term in terms.items():
        if term.requires_grad:
            gradients = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
            norms[f"grad_{name}"] = float(torch.stack([g.norm() for g in gradients if g is not None]).norm())
    return norms


def named(losses: Losses) -> dict[str, Tensor]:
    """Each player's loss by its name (`loss` for a lone model's), and the logs."""
    alone = set(losses.by_player) == {"model"}
    return {"loss" if alone else name: loss for name, loss in losses.by_player.items()} | losses.logs


def finite(logs: dict[str, Tensor], step: int) -> dict[str, float]:
    """Losses and logs as numbers; raises with the step and every value if one is not finite."""
    numbers = {name: float(value.detach()) for name, value in logs.items()}
    if not all(abs(number) < float("inf") for number in numbers.values()):
        listed = ", ".join(f"{name} {number:.6g}" for name, number in numbers.items())
        raise CopdvaeError(f"training diverged at step {step}: {listed}. Try a smaller learning rate or pair weight")
    return numbers
