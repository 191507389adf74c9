"""ML-VAE.  Bouchacourt et al. 2018; paper E, Eq. 1, with the product of the members' Gaussians.

As `gvae`, but for the group's posterior: a product gets narrower with every member, so that a repeated image has half the variance of
`u`, and the method is not `vae` there. Scores take the posterior of each image by itself. Losses are in nats per image.
"""

from typing import ClassVar, Literal

from pydantic import Field

from copdvae.networks import VAE
from copdvae.objectives.base import MethodConfig
from copdvae.objectives.group_posterior import product
from copdvae.objectives.gvae import GroupVAE
from copdvae.supervision.groups import GroupsConfig


class MLVAEConfig(MethodConfig):
    method: Literal["ml_vae"] = "ml_vae"
    paper: ClassVar = "Bouchacourt et al. 2018; paper E, Eq. 1"
    told: ClassVar = "groups of training subjects of one class"
    needs: ClassVar = "group"
    readout: ClassVar = "u"
    groups: GroupsConfig = GroupsConfig()
    beta: float = Field(default=1.0, ge=0)  # on both KL
    group_kl: Literal["image", "group"] = "image"  # how often the group's KL counts: once each image (E), or once a group (its own paper)

    def build(self, net: VAE, targets: int) -> GroupVAE:
        return GroupVAE(product, self.beta, self.group_kl == "group")
