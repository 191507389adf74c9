"""A task that every method is taught: what is asked for lies oblique to how the image is made, so that no method finds it by itself.

16 x 16 images of a blob on a square. It lies at a from left to right and at b, half as far, from top to bottom, so that an autoencoder
takes a and b apart by their size. What is told is a + b: as a real number, as 5 classes, as groups of one class. What is left, a - b, is
one number, and d(v) is exactly that. Images are noisy; 400 for training, 80 for validation, 240 for the test.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from copdvae.batches import Batches
from copdvae.dataset import AugmentConfig, Images
from copdvae.metrics.neighbours import kappa, knn_classification
from copdvae.networks import NetworkConfig
from copdvae.objectives import MethodConfig
from copdvae.supervision.similarity import SimilarityConfig
from copdvae.train import Cohort, Run, RunConfig, TrainConfig

PARTS = {"train": 400, "validation": 80, "test": 240}
CLASSES = 5


@dataclass(frozen=True)
class Taught:
    """A trained method's codes of all images, and what was true of them."""

    run: Run
    latents: np.ndarray  # (N, D)
    split: np.ndarray  # (N,)
    truth: pd.DataFrame  # a, b, total, step (0 .. 4)

    def kappa(self, columns: list[int], of: str = "step") -> float:
        """Cohen's kappa of 5-NN on some latents, neighbours from training images, on the test images."""
        train, test = self.split == "train", self.split == "test"
        labels = self.truth[of].to_numpy()
        found = knn_classification(self.latents[train][:, columns], labels[train], self.latents[test][:, columns], 5, tuple(range(CLASSES)))
        return kappa(labels[test], found)

    def reconstruction(self) -> float:
        """Share of the test images' variance that the decoded means explain."""
        run, rows = self.run, np.flatnonzero(self.split == "test")
        batch = Batches(run.cohort.subjects, rows, len(rows), 0, "image", AugmentConfig()).gather(np.arange(len(rows)), None)
        run.net.eval()
        rebuilt = run.net.images(run.objective.posterior(run.net, batch).loc).detach().numpy()
        image = batch.image.numpy()
        return float(1 - ((image - rebuilt) ** 2).mean() / ((image - image.mean(axis=0)) ** 2).mean())


def blobs(seed: int = 0, related: bool = True) -> Cohort:
    """The images and their labels; unrelated labels belong to other images."""
    rng = np.random.default_rng(seed)
    count = sum(PARTS.values())
    a, b = rng.uniform(-1, 1, (2, count))
    x, y = 7.5 + 4 * a, 7.5 + 2 * b
    row, column = np.mgrid[:16, :16]
    square = np.where((np.abs(row - 7.5) < 6) & (np.abs(column - 7.5) < 6), 0.25, 0.0)
    blob = np.exp(-((row - y[:, None, None]) ** 2 + (column - x[:, None, None]) ** 2) / (2 * 1.8**2))
    image = square + 0.7 * blob + rng.normal(0, 0.02, (count, 16, 16))
    ids = np.array([f"B{k:04d}" for k in range(count)])
    split = np.repeat(list(PARTS), list(PARTS.values()))
    told = np.arange(count)
    if not related:
        for part in PARTS:
            told[split == part] = rng.permutation(np.flatnonzero(split == part))
    total = (a + b)[told]
    step = np.searchsorted(np.quantile(a + b, np.arange(1, CLASSES) / CLASSES), total)
    labels = pd.DataFrame({"a": a, "b": b, "total": total, "step": step.astype(float)}, index=ids)
    images = Images(ids, np.round(255 * image.clip(0, 1)).astype(np.uint8)[:, None])
    return Cohort(images, pd.Series(split, index=ids), labels)  # type: ignore[arg-type]


def teach(method: MethodConfig, folder, u: int = 1, v: int = 1, steps: int = 1000, seed: int = 0, related: bool = True, **train) -> Taught:
    """Train a method on the blobs through the loop that everybody uses, and encode every image."""
    cohort = blobs(seed, related)
    settings = {"steps": steps, "batch": 64, "lr": 2e-3, "log_every": 250, "save_every": 250, "device": "cpu", "threads": 1} | train
    config = RunConfig.parse({
        "study": "blobs", "data": "0", "seed": seed, "grid": 16, "method": method, "train": TrainConfig.parse(settings),
        "network": NetworkConfig(widths=(8, 16), hidden=64, u=u, v=v),
        "similarity": SimilarityConfig(measures=("total",), proportion=0.5),
    })  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(cohort, config, folder, lambda line: None)
    run.train(lambda: False)
    run.net.eval()
    run.objective.eval()
    everyone = Batches(cohort.subjects, np.arange(len(cohort.subjects)), 200, 0, "image", AugmentConfig()).whole(200)
    latents = np.concatenate([run.objective.posterior(run.net, batch).loc.detach().numpy() for batch in everyone])
    return Taught(run, latents, cohort.split.to_numpy(), cohort.labels)
