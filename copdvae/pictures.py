"""What a run's network draws: `runs/ID/pictures.safetensors`, images (C, D, H, W) in [0, 1] for the report.

`traversal` (K, C, D, H, W): decoded along the latent of interest, at `traversal_u` (K,), the other latents at their training mean;
`input`, `reconstruction` (M, C, D, H, W): test subjects from the least to the most ill. None where a method trains no decoder.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import save

from copdvae.batches import Batches
from copdvae.dataset import AugmentConfig, Subjects
from copdvae.encode import labels_of, posterior
from copdvae.files import in_order, write_with
from copdvae.generate import decode, traverse
from copdvae.train import load_run

STEPS, EXAMPLES = 7, 4


def draw_run(subjects: Subjects, folder: Path, split: pd.Series, severity: pd.Series, told: pd.DataFrame | None = None) -> Path:
    """Draw a finished run's pictures, from the latents that are scored: a method that `leaks` is given `told` as `encode` does.

    `severity` (FEV1 % predicted, indexed by subject_id) orders the examples; where a method does not place u itself, it also picks the
    latent to walk along: the one that ranks training subjects most like it.
    """
    config, net, objective = load_run(folder, subjects.image.shape[1:])
    path = folder / "pictures.safetensors"
    if config.method.readout == "direct":
        write_with(path, lambda temporary: temporary.write_bytes(save({}, metadata={"none": "this method trains no decoder"})))
        return path
    labels = labels_of(subjects, config, split, told) if config.method.leaks else None
    mean, _ = posterior(subjects, config, net, objective, labels)
    values = severity.reindex(subjects.ids).to_numpy(float)
    training = (split.reindex(subjects.ids) == "train").to_numpy() & ~np.isnan(values)
    walk = 0 if config.method.readout == "u" else int(np.argmax(np.abs(rank_correlations(mean[training], values[training]))))

    low, high = np.percentile(mean[training, walk], [2, 98])
    steps, middle = torch.linspace(float(low), float(high), STEPS), torch.from_numpy(mean[training].mean(axis=0))
    traversal = traverse(net, objective, middle, walk, steps).numpy()

    rows = examples(subjects, split, values)
    batch = Batches(subjects, rows, len(rows), 0, "image", AugmentConfig()).gather(np.arange(len(rows)), None)
    rebuilt = decode(net, objective, torch.from_numpy(mean[rows])).numpy()
    arrays = {"traversal": traversal, "traversal_u": steps.numpy(), "input": batch.image.numpy(), "reconstruction": rebuilt}
    name = f"u_{walk}" if config.method.readout == "u" else f"z_{walk}"
    channels = "+".join(config.input.channels)
    content = in_order(save(arrays, metadata={"latent": name, "channels": channels}))
    write_with(path, lambda temporary: temporary.write_bytes(content))
    return path


def examples(subjects: Subjects, split: pd.Series, severity: np.ndarray) -> np.ndarray:
    """Rows of a few test subjects, evenly spread over the severity of all of them: (M,)."""
    test = np.flatnonzero((split.reindex(subjects.ids) == "test").to_numpy() & ~np.isnan(severity))
    if not len(test):
        return np.arange(min(EXAMPLES, len(subjects)))
    ordered = test[np.argsort(-severity[test], kind="stable")]
    return ordered[np.linspace(0, len(ordered) - 1, min(EXAMPLES, len(ordered))).round().astype(int)]


def rank_correlations(codes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each column of codes (n, D) with values (n,): (D,)."""
    ranked = np.column_stack([pd.Series(column).rank().to_numpy() for column in (*codes.T, values)])
    return np.nan_to_num(np.corrcoef(ranked, rowvar=False)[-1, :-1])
