"""Subjects to latents: `runs/ID/latents.parquet`, one row a subject.

Columns: `subject_id`, `split`, posterior means and standard deviations. Means are `u_0 ..` and `v_0 ..` where the method places u itself,
`z_0 ..` where u is found by rank or is all of them, `p_0 ..` where the outputs are predictions; standard deviations end in `_std`.
A method that infers classes adds their probabilities, `c_gold_0 ..` for a label `gold`, or `c_0_0 ..` where its variables have no names.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from copdvae.batches import Batches
from copdvae.dataset import AugmentConfig, Subjects
from copdvae.files import write_with
from copdvae.networks import VAE
from copdvae.objectives import Batch, Objective
from copdvae.supervision.labels import LabelsConfig, class_columns, fit_labels
from copdvae.train import RunConfig, choose_device, load_run

CHUNK = 64


def encode(subjects: Subjects, folder: Path, split: pd.Series, told: pd.DataFrame | None = None) -> pd.DataFrame:
    """Encode every subject with a finished run's network; write and return the table. `split` is indexed by subject_id.

    `told` has every subject's measures, test subjects' too. Only a method that `leaks` looks at them: its scores then show the leak.
    """
    config, net, objective = load_run(folder, subjects.image.shape[1:])
    labels = labels_of(subjects, config, split, told) if config.method.leaks else None
    mean, std = posterior(subjects, config, net, objective, labels)
    names = latent_names(config)
    table = pd.DataFrame({"subject_id": subjects.ids, "split": split.reindex(subjects.ids).fillna("").to_numpy()})
    table[names] = mean
    table[[f"{name}_std" for name in names]] = std
    table = table.join(class_probabilities(subjects, config, net, objective))
    write_with(folder / "latents.parquet", lambda temporary: table.to_parquet(temporary, index=False))
    return table


def latent_names(config: RunConfig) -> list[str]:
    """Column names of the latents' means, in their order."""
    d, u = config.network.u + config.network.v, config.network.u
    if config.method.readout == "u":
        return [f"u_{i}" for i in range(u)] + [f"v_{i}" for i in range(d - u)]
    return [f"{'p' if config.method.readout == 'direct' else 'z'}_{i}" for i in range(d)]


def labels_of(subjects: Subjects, config: RunConfig, split: pd.Series, told: pd.DataFrame | None) -> np.ndarray | None:
    """The labels that the run's encoder is given: (N, T) float32, bins from training subjects. None where nothing is known."""
    settings: LabelsConfig | None = getattr(config.method, "labels", None)
    if told is None or settings is None:
        return None
    training = told.reindex(split.index[(split == "train").to_numpy()].intersection(subjects.ids))
    return fit_labels(training, settings).of(told.reindex(subjects.ids))


@torch.no_grad()
def posterior(
    subjects: Subjects, config: RunConfig, net: VAE, objective: Objective, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of q(z|x): (N, D), (N, D) float32. Images are not augmented; `labels` (N, T): see `encode`."""
    device = choose_device(config.train.device)
    net, objective = net.to(device).eval(), objective.to(device).eval()
    found = [objective.posterior(net, batch.to(device)) for batch in everyone(subjects, labels)]
    return torch.cat([q.loc for q in found]).cpu().numpy(), torch.cat([q.scale for q in found]).cpu().numpy()


@torch.no_grad()
def class_probabilities(subjects: Subjects, config: RunConfig, net: VAE, objective: Objective) -> pd.DataFrame:
    """q(c|x) of every discrete variable that the method infers, a column a class, a row a subject; no column where it infers none."""
    infer: Any = getattr(objective, "class_probabilities", None)
    if infer is None:
        return pd.DataFrame(index=range(len(subjects)))
    device = choose_device(config.train.device)
    net, objective = net.to(device).eval(), objective.to(device).eval()
    found = zip(*[infer(net, batch.to(device)) for batch in everyone(subjects, None)], strict=True)  # of each variable, its batches
    shares = [torch.cat(own).cpu().numpy() for own in found]  # (N, L_k) each
    settings: LabelsConfig | None = getattr(config.method, "labels", None)
    variables = settings.columns if settings is not None else map(str, range(len(shares)))
    tables = [pd.DataFrame(own, columns=class_columns(name, own.shape[1])) for name, own in zip(variables, shares, strict=True)]
    return pd.concat(tables, axis=1)


def everyone(subjects: Subjects, labels: np.ndarray | None) -> list[Batch]:
    """Every subject once, in order, not augmented."""
    return Batches(subjects, np.arange(len(subjects)), CHUNK, 0, "image", AugmentConfig(), labels=labels).whole(CHUNK)
