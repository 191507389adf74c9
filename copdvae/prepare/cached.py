"""A prepared subject as a file of bytes that depend on nothing but its scans, the settings and the version.

`NAME.safetensors`: `image` int16 HU (C, D, H, W), `lung` uint8 (C, D, H, W) with 1 right lung, 2 left lung, 3 airways, and in its metadata
all that `index.csv` says and all that decides whether the file is still right: version, settings and the hash of the scans' bytes, and a
digest of the file itself (`seal`). Neither a path nor anything that names a person from a header is in it.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from copdvae import __version__
from copdvae.errors import CopdvaeError
from copdvae.files import in_order
from copdvae.prepare.scans import check_pair, prepare_named
from copdvae.prepare.seal import broken, sealed
from copdvae.prepare.settings import IngestConfig
from copdvae.prepare.task import Task, without_paths
from copdvae.read import source_hash


def identify(task: Task) -> dict[str, str]:
    """What decides whether a cached file is still right: whose it is, from which bytes, by which settings and version."""
    return {
        "subject_id": task.row["subject_id"],
        "visit": task.row["visit"],
        "copdvae_version": __version__,
        "config": settings_digest(task.config),
        "source": json.dumps({column: source_hash(path) + (task.series(column) or "") for column, path in task.paths.items()}),
    }


def settings_digest(config: IngestConfig) -> str:
    """Of the settings, with a file of weights by what it holds, wherever it lies."""
    if config.lungmask_weights is None:
        return config.digest()
    return config.model_copy(update={"lungmask_weights": Path(content_digest(config.lungmask_weights))}).digest()


def content_digest(file: Path) -> str:
    """SHA-256 of a file, read again only if it has changed since."""
    if not file.is_file():
        raise CopdvaeError(f"{file}: no such file; expected the weights that masks were made with")
    return content_of(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def content_of(file: Path, changed: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_right(file: Path, identity: dict[str, str]) -> bool:
    if not file.is_file():
        return False
    try:
        metadata = load_metadata(file)
    except CopdvaeError:  # cut short: made again
        return False
    return all(metadata.get(key) == value for key, value in identity.items()) and not broken(file)


def serialise(task: Task, identity: dict[str, str]) -> bytes:
    """The bytes of a cached file; raises where a scan or the pair of them is no good."""
    scans = {"insp": prepare_named("insp", task, "insp_path", "mask_path")}
    warnings = [f"insp: {warning}" for warning in scans["insp"].warnings]
    ratio = None
    if "exp_path" in task.paths:
        scans["exp"] = prepare_named("exp", task, "exp_path", "exp_mask_path")
        warnings += [f"exp: {warning}" for warning in scans["exp"].warnings]
        ratio, doubts = check_pair(scans["insp"], scans["exp"], task.config.allow_other_study)
        warnings += doubts
    image = np.stack([scan.scan.image for scan in scans.values()])
    lung = np.stack([scan.scan.lung for scan in scans.values()])
    metadata = {
        **identity,
        "channels": "+".join(scans),
        "grid": str(task.config.grid),
        "hu_range": "-1024 3071",
        "denoise": task.config.denoise,
        "reference_volume_l": f"{task.config.reference_volume_l:g}",
        "exp_over_insp_volume": json.dumps(ratio),
        "warnings": json.dumps([without_paths(warning, task.paths) for warning in warnings]),
    }
    for name, scan in scans.items():
        metadata |= {
            f"{name}_box": json.dumps(scan.scan.box),
            f"{name}_densities": json.dumps(scan.densities, allow_nan=False),
            f"{name}_mask": scan.mask,
            f"{name}_reader": scan.reader,
            f"{name}_header": json.dumps(scan.header, sort_keys=True),
            f"{name}_pixels": scan.pixels,
        }
    return in_order(sealed(save({"image": image, "lung": lung}, metadata=metadata)))


def load_subject(file: Path) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """`image` int16 HU (C, D, H, W), `lung` uint8 (C, D, H, W) and the metadata, where "channels" says "insp+exp" or "insp"."""
    with opened(file) as cached:
        image, lung, metadata = cached.get_tensor("image"), cached.get_tensor("lung"), cached.metadata() or {}
    if (image.dtype, lung.dtype, image.ndim) != (np.int16, np.uint8, 4) or image.shape != lung.shape:
        raise CopdvaeError(f"{file}: arrays of {image.dtype} {image.shape} and {lung.dtype} {lung.shape}; delete it and ingest again")
    return image, lung, metadata


def load_metadata(file: Path) -> dict[str, str]:
    with opened(file) as cached:
        return cached.metadata() or {}


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="numpy") as cached:
            yield cached
    except (SafetensorError, OSError):
        raise CopdvaeError(f"{file}: not a whole cached subject; delete it and ingest again") from None
