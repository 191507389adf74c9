"""Pairwise similarities.  Paper A, Eq. 2-7.

    L = -E_q[log p(x|z)] + beta KL(q(u|x) || N(0, I)) + KL(q(v|x) || N(0, I)) - w E_pairs[log p(y_ij | u_i, u_j)]

`u` is the first d(u) latents, `v` the others. B: batch, P: pairs of its images. Losses in nats per image.

Paper: eta1 = 1000, with images and pairs from separate batches; here: every member of a pair is an image of the batch too, all labelled
pairs among the batch's images are used, and eta1 is 10, because at 1000 a graded similarity is a threshold (the most likely squared
distance is 2.01 for y = .1 and 1.99 for y = .9).
"""

from typing import ClassVar, Literal

from pydantic import Field

from copdvae.objectives.base import Batch, Losses, MethodConfig, Objective, Pairs
from copdvae.objectives.terms import gaussian_kl, pair_log_likelihood, pair_logit, reconstruction


class PairwiseConfig(MethodConfig):
    method: Literal["pairwise"] = "pairwise"
    needs: ClassVar = "pair"
    selects_by: ClassVar = "pair_loss"
    readout: ClassVar = "u"
    beta: float = Field(default=4.0, ge=0)  # on the KL of u (A, Eq. 6)
    weight: float = Field(default=1e5, ge=0)  # w: a reconstruction summed over voxels needs a large one, chosen on validation pairs
    eta1: float = Field(default=10.0, gt=0)  # steepness
    eta2: float = Field(default=2.0, gt=0)  # threshold
    binary: bool = False  # the similarities are classes, not real numbers

    def build(self, latents: int, targets: int) -> "Pairwise":
        return Pairwise(self)


class Pairwise(Objective):
    def __init__(self, config: PairwiseConfig):
        super().__init__()
        self.config = config

    def forward(self, net, batch: Batch, step: int) -> Losses:
        config = self.config
        q = net.encode(batch.image, batch.present)  # Normal, (B, D)
        z = q.rsample()  # (B, D)
        rec, rec_lung = reconstruction(net, z, batch)  # (B,), (B,)
        kl = gaussian_kl(q)  # (B, D)
        kl_u, kl_v = kl[:, : net.u].sum(dim=1), kl[:, net.u :].sum(dim=1)  # (B,), (B,)
        pair = self.pair_loss(z[:, : net.u], batch)  # (P,)

        terms = {"rec": rec.mean(), "kl_u": config.beta * kl_u.mean(), "kl_v": kl_v.mean(), "pair": config.weight * mean_or_zero(pair)}
        logs = {"rec": rec.mean(), "rec_lung": rec_lung.mean(), "kl_u": kl_u.mean(), "kl_v": kl_v.mean(), "pair_loss": mean_or_zero(pair)}
        return Losses({"model": sum(terms.values())}, logs, terms)

    def pair_loss(self, u, batch: Batch):
        """-log p(y_ij | u_i, u_j) of the batch's pairs: (P,), empty where there are none."""
        if batch.pairs is None:
            return u.new_zeros(0)
        return -pair_log_likelihood(self.logit(u, batch.pairs), batch.pairs.similarity, self.config.binary)

    def logit(self, u, pairs: Pairs):
        """The logit of each pair's similarity, from u (B, d(u)): (P,)."""
        return pair_logit(u[pairs.first], u[pairs.second], self.config.eta1, self.config.eta2)


def mean_or_zero(pair):
    """No pair at all makes the term 0 (with a gradient of 0), not the mean of nothing."""
    return pair.mean() if len(pair) else pair.sum()
