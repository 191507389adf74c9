"""beta-VAE.  Higgins et al. 2017; paper A, Eq. 1.

    L = -E_q[log p(x|z)] + beta KL(q(z|x) || N(0, I))

At beta = 1 it is `vae`, exactly. Losses are in nats per image (summed over voxels and latents, mean over B).
"""

from typing import ClassVar, Literal

from pydantic import Field

from copdvae.networks import VAE
from copdvae.objectives.base import MethodConfig
from copdvae.objectives.vae import PlainVAE


class BetaVAEConfig(MethodConfig):
    method: Literal["beta_vae"] = "beta_vae"
    paper: ClassVar = "Higgins et al. 2017; paper A, Eq. 1"
    beta: float = Field(default=4.0, ge=0)

    def build(self, net: VAE, targets: int) -> PlainVAE:
        return PlainVAE(self.beta)
