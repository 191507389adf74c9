"""Pairwise similarities.  Paper A, Eq. 2-7.

    L = -E_q[log p(x|z)] + beta KL(q(u|x) || N(0, I)) + KL(q(v|x) || N(0, I)) - w E_pairs[log p(y_ij | u_i, u_j)]

`u` is the first d(u) latents, `v` the others. B: batch, P: pairs of its images. Losses in nats per image.

Paper: no warm-up. Here: in the first `warm_up` steps u is drawn to where the pairs alone would put each subject (`embedding.py`), at full
strength for half of them, then less and less, because severity begins at a saddle of the pair term: with a fresh encoder every pair lies
too close together, so all push apart, along whatever varies most in the images. On a synthetic study 2,000 steps without a warm-up left a
rank correlation with FEV1 % predicted of .04 in training subjects; 600 steps with one reached .87. Only the labelled pairs are used.

Paper: eta1 = 1000, with images and pairs from separate batches; here: every member of a pair is an image of the batch too, all labelled
pairs among the batch's images are used, and eta1 is 10, because at 1000 a graded similarity is a threshold (the most likely squared
distance is 2.01 for y = .1 and 1.99 for y = .9). `strict` has the paper's, and what its authors' code adds: see `quirks`. Its pairs are the
same labelled ones, of which each step draws as many as it has images; the first term of L grows with the steps, and ends as it is above.
"""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from copdvae.networks import VAE
from copdvae.objectives.base import Batch, Losses, MethodConfig, Objective, Pairs, Stream
from copdvae.objectives.embedding import embed_pairs
from copdvae.objectives.pairwise_strict import DEFAULTS, QUIRKS
from copdvae.objectives.terms import gaussian_kl, pair_log_likelihood, pair_logit, reconstruction, squared_error
from copdvae.supervision.pairs import PairTable


class PairwiseConfig(MethodConfig):
    method: Literal["pairwise"] = "pairwise"
    paper: ClassVar = "paper A, Eq. 2-7"
    told: ClassVar = "similarities of a proportion of the pairs of training subjects"
    quirks: ClassVar = QUIRKS
    needs: ClassVar = "pair"
    selects_by: ClassVar = "pair_loss"
    readout: ClassVar = "u"
    variant: Literal["fixed", "strict"] = "fixed"
    beta: float = Field(default=4.0, ge=0)  # on the KL of u (A, Eq. 6)
    weight: float = Field(default=1e5, ge=0)  # w: a reconstruction summed over voxels needs a large one, chosen on validation pairs
    eta1: float = Field(default=10.0, gt=0)  # steepness
    eta2: float = Field(default=2.0, gt=0)  # threshold
    binary: bool = False  # the similarities are classes, not real numbers
    warm_up: int = Field(default=400, ge=0)  # steps; 0: the paper's own start
    pull: float = Field(default=10.0, gt=0)  # strength of the warm-up, nats a unit of squared distance and pair
    onset: int = Field(default=0, ge=0)  # steps until the reconstruction counts in full; for half of them not at all

    @model_validator(mode="before")
    @classmethod
    def _as_published(cls, settings: Any) -> Any:
        """`strict` has defaults of its own."""
        return DEFAULTS | settings if isinstance(settings, dict) and settings.get("variant") == "strict" else settings

    @property
    def also(self) -> tuple[Stream, ...]:
        return ("image",) if self.variant == "strict" else ()

    @property
    def pairs_apart(self) -> bool:
        return self.variant == "strict"

    def build(self, net: VAE, targets: int) -> "Pairwise":
        return Pairwise(self)

    def place(self, pairs: PairTable, subjects: int, u: int, seed: int) -> np.ndarray | None:
        """Where the pairs alone put the training subjects: (N, d(u)), for the warm-up."""
        return embed_pairs(pairs, subjects, u, self.eta1, self.eta2, self.binary, seed) if self.warm_up else None


class Pairwise(Objective):
    def __init__(self, config: PairwiseConfig):
        super().__init__()
        self.config, self.strict = config, config.variant == "strict"

    def forward(self, net, batch: Batch, step: int) -> Losses:
        config = self.config
        images = batch.also["image"] if self.strict else batch
        q = net.encode(images.image, images.present)  # Normal, (B, D)
        z = q.rsample()  # (B, D)
        rec, rec_lung = (squared_error if self.strict else reconstruction)(net, z, images)  # (B,), (B,)
        kl = gaussian_kl(q)  # (B, D)
        kl_u, kl_v = kl[:, : net.u].sum(dim=1), kl[:, net.u :].sum(dim=1)  # (B,), (B,)
        if self.strict:  # the pairs' members, (2 P, D), have a batch of their own
            q = net.encode(batch.image, batch.present)
            z = q.rsample()
        pair = mean_or_zero(self.pair_loss(z[:, : net.u], batch))  # scalar, from (P,)
        share, missing = (fading(step, steps) if net.training else 0.0 for steps in (config.warm_up, config.onset))
        told = (1 - share) * pair + share * self.pull(q.loc[:, : net.u], batch)

        terms = {"rec": (1 - missing) * rec.mean(), "kl_u": config.beta * kl_u.mean(), "kl_v": kl_v.mean(), "pair": config.weight * told}
        logs = {"rec": rec.mean(), "rec_lung": rec_lung.mean(), "kl_u": kl_u.mean(), "kl_v": kl_v.mean(), "pair_loss": pair}
        return Losses({"model": sum(terms.values(), rec.new_zeros(()))}, logs, terms)

    def pair_loss(self, u, batch: Batch):
        """-log p(y_ij | u_i, u_j) of the batch's pairs: (P,), empty where there are none."""
        if batch.pairs is None:
            return u.new_zeros(0)
        return -pair_log_likelihood(self.logit(u, batch.pairs), batch.pairs.similarity, self.config.binary)

    def pull(self, mean, batch: Batch):
        """Mean squared distance of u's means (B, d(u)) from the pairs' own embedding, over the images that have a place in it."""
        if batch.label is None:
            return mean.sum() * 0
        known = ~batch.label.isnan().any(dim=1)
        squared = ((mean[known] - batch.label[known]) ** 2).sum(dim=1)
        return self.config.pull / 2 * mean_or_zero(squared)

    def logit(self, u, pairs: Pairs):
        """The logit of each pair's similarity, from u (B, d(u)): (P,)."""
        return pair_logit(u[pairs.first], u[pairs.second], self.config.eta1, self.config.eta2)


def fading(step: int, steps: int) -> float:
    """1 for the first half of the steps, then down to 0."""
    return min(1.0, max(0.0, 2 - 2 * step / steps)) if steps else 0.0


def mean_or_zero(values):
    """No pair at all makes the term 0 (with a gradient of 0), not the mean of nothing."""
    return values.mean() if len(values) else values.sum()
