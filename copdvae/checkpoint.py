"""Checkpoints without pickles: one safetensors file, its tensors named by where they belong, plain data in the metadata."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from copdvae.errors import CopdvaeError
from copdvae.files import write_with


def save_checkpoint(path: Path, modules: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer], facts: dict[str, Any]) -> None:
    """Write weights, buffers, optimizer states and plain facts (step, scores) as one file, atomically."""
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        for number, state in optimizer.state_dict()["state"].items():
            tensors |= {f"adam/{name}/{number}/{key}": value for key, value in state.items()}
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    try:
        write_with(path, lambda temporary: save_file(plain, temporary, metadata={"facts": json.dumps(facts, sort_keys=True)}))
    except SafetensorError as error:  # a full disk, said in the library's own way
        raise CopdvaeError(f"{path.name} cannot be written ({error}); what was there before is still there") from None


def load_checkpoint(
    path: Path, modules: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer] | None = None
) -> dict[str, Any]:
    """Put a checkpoint's state into modules and optimizers; return its facts. Raises `CopdvaeError` where it does not fit."""
    try:
        with safe_open(path, framework="pt") as stored:
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118  not a dict
            facts = json.loads((stored.metadata() or {})["facts"])
        if not isinstance(facts, dict):
            raise ValueError("no facts")
        states = {name: optimizer_state(tensors, name) for name in optimizers or {}}
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise CopdvaeError(f"{path.name}: not a checkpoint of copdvae ({error}); delete it to train again from the start") from None
    for name, module in modules.items():
        try:
            module.load_state_dict(within(tensors, name))
        except RuntimeError as error:
            raise CopdvaeError(f"{path.name}: made by another network ({str(error).splitlines()[0]})") from None
    for name, optimizer in (optimizers or {}).items():
        if strange := misfit(states[name], optimizer):
            raise CopdvaeError(f"{path.name}: made by another network or optimizer ({strange})")
        optimizer.load_state_dict({"state": states[name], "param_groups": optimizer.state_dict()["param_groups"]})
    return facts


def optimizer_state(tensors: dict[str, Tensor], name: str) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in within(tensors, f"adam/{name}").items():
        number, slot = key.split("/")
        state.setdefault(int(number), {})[slot] = value
    return state


def misfit(state: dict[int, dict[str, Tensor]], optimizer: torch.optim.Optimizer) -> str:
    """What of an optimizer's state does not belong to its weights, "" for nothing: PyTorch would take it and fail, or not, in a step."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for number, slots in state.items():
        if not 0 <= number < len(weights) or set(slots) != {"exp_avg", "exp_avg_sq", "step"}:
            return f"state {number} of {len(weights)} weights"
        if any(slots[slot].shape != weights[number].shape for slot in ("exp_avg", "exp_avg_sq")) or slots["step"].numel() != 1:
            return f"state {number} of another shape"
    return ""


def within(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(name + "/")}
