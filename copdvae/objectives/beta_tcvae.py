"""beta-TCVAE.  Chen et al. 2018, arXiv:1802.04942, Eq. 4.

    L = -E_q[log p(x|z)] + KL(q(z|x) || N(0, I)) + (beta - 1) TC,   TC = E_q[log q(z) - sum_d log q(z_d)]

Paper: the KL in three sampled parts, of which beta weighs TC; here: the whole KL in closed form and beta - 1 times TC, which is the same
where q(z) is exact, has less noise, and is `vae`, exactly, at beta = 1. Paper: weighted sampling for q(z) throughout; here, by
default, stratified, because weighted sampling hardly notices dependence (docs/ESTIMATORS.md). Losses in nats per image.
"""

from typing import ClassVar, Literal

from pydantic import Field

from copdvae.networks import VAE
from copdvae.objectives.base import Batch, Losses, MethodConfig, Objective
from copdvae.objectives.terms import gaussian_kl, reconstruction
from copdvae.objectives.total_correlation import Sampling, sampled_total_correlation


class BetaTCVAEConfig(MethodConfig):
    method: Literal["beta_tcvae"] = "beta_tcvae"
    paper: ClassVar = "Chen et al. 2018, arXiv:1802.04942, Eq. 4"
    beta: float = Field(default=6.0, ge=0)  # on the total correlation; the KL's own is the first of it
    sampling: Sampling = "stratified"

    def build(self, net: VAE, targets: int) -> "BetaTCVAE":
        return BetaTCVAE(self)


class BetaTCVAE(Objective):
    def __init__(self, config: BetaTCVAEConfig):
        super().__init__()
        self.config = config

    def forward(self, net, batch: Batch, step: int) -> Losses:
        q = net.encode(batch.image, batch.present)  # Normal, (B, D)
        z = q.rsample()  # (B, D)
        rec, rec_lung = reconstruction(net, z, batch)  # (B,), (B,)
        kl = gaussian_kl(q).sum(dim=1)  # (B,)
        tc = sampled_total_correlation(z, q, batch.drawn_from or len(z), self.config.sampling)  # (B,)

        terms = {"rec": rec.mean(), "kl": kl.mean(), "tc": (self.config.beta - 1) * tc.mean()}
        logs = {"rec": rec.mean(), "rec_lung": rec_lung.mean(), "kl": kl.mean(), "tc": tc.mean()}
        return Losses({"model": terms["rec"] + terms["kl"] + terms["tc"]}, logs, terms)
