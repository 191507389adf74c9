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
from copdvae.objectives.base import Batch, Losses, Objective


@dataclass(frozen=True)
class Every:
    """How often, in steps."""

    log: int
    save: int


def train(
    net: nn.Module,
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
    players = objective.players(net)  # type: ignore[arg-type]
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
        with torch.autocast(torch.device(device).type, torch.bfloat16) if bf16 else nullcontext():
            losses: Losses = objective(net, batch, step)
        logging = step % every.log == 0 or step + 1 == steps
        norms = gradient_norms(losses.terms, players["model"]) if logging else {}
        for name, loss in losses.by_player.items():
            loss.backward(inputs=players[name], retain_graph=len(losses.by_player) > 1)
        processes.average([weight.grad for weights in players.values() for weight in weights if weight.grad is not None])
        for name, optimizer in optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = rates[name] * schedule(step)  # a function of the step alone, so resuming is exact
            optimizer.step()
            optimizer.zero_grad()

        stopping = processes.anywhere(stop())
        saving = (step + 1) % every.save == 0 or step + 1 == steps or stopping
        numbers = finite(losses, step) if logging or saving else {}  # what is not a number is never saved
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


def finite(losses: Losses, step: int) -> dict[str, float]:
    """Losses and logs as numbers; raises with the step and every value if one is not finite."""
    values: dict[str, Any] = {name if len(losses.by_player) > 1 else "loss": loss for name, loss in losses.by_player.items()} | losses.logs
    numbers = {name: float(value.detach()) for name, value in values.items()}
    if not all(abs(number) < float("inf") for number in numbers.values()):
        listed = ", ".join(f"{name} {number:.6g}" for name, number in numbers.items())
        raise CopdvaeError(f"training diverged at step {step}: {listed}. Try a smaller learning rate or pair weight")
    return numbers
