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
    write_with(path, lambda temporary: save_file(plain, temporary, metadata={"facts": json.dumps(facts, sort_keys=True)}))


def load_checkpoint(
    path: Path, modules: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer] | None = None
) -> dict[str, Any]:
    """Put a checkpoint's state into modules and optimizers; return its facts. Raises `CopdvaeError` where it does not fit."""
    try:
        with safe_open(path, framework="pt") as stored:
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118  not a dict
            facts = json.loads((stored.metadata() or {})["facts"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CopdvaeError(f"{path.name}: not a checkpoint of copdvae ({error}); delete it to train again from the start") from None
    for name, module in modules.items():
        try:
            module.load_state_dict(within(tensors, name))
        except RuntimeError as error:
            raise CopdvaeError(f"{path.name}: made by another network ({str(error).splitlines()[0]})") from None
    for name, optimizer in (optimizers or {}).items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in within(tensors, f"adam/{name}").items():
            number, slot = key.split("/")
            state.setdefault(int(number), {})[slot] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return facts


def within(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(name + "/")}
