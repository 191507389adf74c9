"""A lung mask by the U-Net of the package `lungmask` (its R231 or lobes), an optional extra, with weights that the user has.

Nothing is downloaded, and of a file of weights only tensors are read: `weights_only=True` runs nothing of what it says. The network runs on
the CPU, so that a scan gives the same mask each time. Arrays are (z, y, x), frame LPS, HU.
"""

from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np

from copdvae.errors import CopdvaeError
from copdvae.prepare.lungs import Lungs, given_lungs
from copdvae.read.volume import Volume

MOST_BYTES = 1 << 30  # published weights have .13 GB
SIDE = 256  # pixels of a slice, cut to the body, that the network sees
BATCH = 4
HU_RANGE = (-1024.0, 600.0)
MOST_CLASSES = 16


def lungmask_lungs(volume: Volume, weights: Path) -> Lungs:
    """Both lungs of a CT; raise `LungError` where what the network marks cannot be those of a whole chest."""
    return given_lungs(marked(volume.hu, load_network(weights)), volume, "lungmask")


def marked(hu: np.ndarray, network: Any) -> np.ndarray:
    """The network's labels, uint8, slice by slice; then `lungmask`'s own clean-up of the whole."""
    import torch
    from lungmask import utils  # pyright: ignore  # an extra

    slices, boxes = utils.preprocess(np.asarray(hu, dtype=np.float32), resolution=[SIDE, SIDE])
    low, high = HU_RANGE
    seen = torch.as_tensor((np.clip(slices, low, high) - low) / (high - low), dtype=torch.float32)[:, None]
    with torch.inference_mode():
        found = torch.cat([network(seen[k : k + BATCH]).argmax(dim=1).to(torch.uint8) for k in range(0, len(seen), BATCH)]).numpy()
    whole = utils.postprocessing(found, disable_tqdm=True)
    return np.stack([utils.reshape_mask(plane, box, hu.shape[1:]) for plane, box in zip(whole, boxes, strict=True)]).astype(np.uint8)


def load_network(weights: Path) -> Any:
    """The network with the weights of a file. Raises `CopdvaeError` where the extra or the file is missing, or is something else."""
    return network_of(weights, weights.stat().st_mtime_ns if weights.is_file() else 0)


@lru_cache(maxsize=1)
def network_of(weights: Path, changed: int) -> Any:
    try:
        from lungmask.resunet import UNet  # pyright: ignore
    except ImportError:
        raise CopdvaeError("mask: lungmask needs the extra: pip install copdvae[lungmask]") from None
    state = load_state(weights)
    classes = len(state["last.bias"])
    network = UNet(n_classes=classes, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CopdvaeError(f"{weights}: weights of another network ({str(error).splitlines()[0]}); expected lungmask's U-Net") from None
    return network.eval()


def load_state(weights: Path) -> dict[str, Any]:
    """The tensors of a file of weights, by name."""
    import torch

    if not weights.is_file():
        raise CopdvaeError(f"{weights}: no such file; lungmask_weights names weights that you have (nothing is downloaded)")
    if weights.stat().st_size > MOST_BYTES:
        raise CopdvaeError(f"{weights}: over {MOST_BYTES >> 30} GiB; expected lungmask's weights, which have .13")
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, MemoryError):
        raise CopdvaeError(f"{weights}: not a file of tensors alone that torch saved; nothing of it was run") from None
    if not isinstance(state, dict) or not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CopdvaeError(f"{weights}: not a state dict of tensors; expected lungmask's weights")
    last = state.get("last.bias")
    if last is None or last.ndim != 1 or not 2 <= len(last) <= MOST_CLASSES:
        raise CopdvaeError(f"{weights}: weights of another network (no last.bias of 2 to {MOST_CLASSES} classes)")
    return state
