"""ML-VAE.  Bouchacourt et al. 2018; paper E, Eq. 1, with the product of the members' Gaussians.

As `gvae`, but for the group's posterior: a product gets narrower with every member, so that a repeated image has half the variance of
`u`, and the method is not `vae` there. Scores take the posterior of each image by itself. Losses are in nats per image.
"""

from typing import ClassVar, Literal

from copdvae.networks import VAE
from copdvae.objectives.group_posterior import product
from copdvae.objectives.gvae import GroupVAE, GroupVAEConfig


class MLVAEConfig(GroupVAEConfig):
    method: Literal["ml_vae"] = "ml_vae"
    paper: ClassVar = "Bouchacourt et al. 2018; paper E, Eq. 1"

    def build(self, net: VAE, targets: int) -> GroupVAE:
        return GroupVAE(product, self.beta, self.group_kl == "group")
