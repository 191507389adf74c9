"""VAE.  Kingma & Welling 2013, arXiv:1312.6114, Eq. 3; paper A's Eq. 1 with beta = 1.

    L = -E_q[log p(x|z)] + KL(q(z|x) || N(0, I))

Losses are in nats per image (summed over voxels and latents, mean over B).
"""

from typing import ClassVar, Literal

from copdvae.networks import VAE
from copdvae.objectives.base import Batch, Losses, MethodConfig, Objective
from copdvae.objectives.terms import gaussian_kl, reconstruction


class VAEConfig(MethodConfig):
    method: Literal["vae"] = "vae"
    paper: ClassVar = "Kingma & Welling 2013, arXiv:1312.6114, Eq. 3"

    def build(self, net: VAE, targets: int) -> "PlainVAE":
        return PlainVAE()


class PlainVAE(Objective):
    def __init__(self, beta: float = 1.0):
        super().__init__()
        self.beta = beta  # on the KL

    def forward(self, net, batch: Batch, step: int) -> Losses:
        q = net.encode(batch.image, batch.present)  # Normal, (B, D)
        rec, rec_lung = reconstruction(net, q.rsample(), batch)  # (B,), (B,)
        kl = gaussian_kl(q).sum(dim=1)  # (B,)

        terms = {"rec": rec.mean(), "kl": self.beta * kl.mean()}
        logs = {"rec": rec.mean(), "rec_lung": rec_lung.mean(), "kl": kl.mean()}
        return Losses({"model": terms["rec"] + terms["kl"]}, logs, terms)
