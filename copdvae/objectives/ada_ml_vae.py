"""Ada-ML-VAE.  Locatello et al. 2020, arXiv:2002.02886, section 4.

As `ada_gvae`, but the shared latents' posterior is the product of both images' Gaussians, as in `ml_vae`. Losses are in nats per image.

Authors' code (disentanglement_lib): 2 v1 v2 / (v1 + v2) as the product's variance, twice what it is; `strict` has it, `fixed` does not.
"""

from typing import ClassVar, Literal

from torch import Tensor
from torch.distributions import Normal

from copdvae.networks import VAE
from copdvae.objectives.ada_gvae import ONE_DIRECTION, AdaptiveConfig, AdaptiveVAE
from copdvae.objectives.group_posterior import normal, product


class AdaMLVAEConfig(AdaptiveConfig):
    method: Literal["ada_ml_vae"] = "ada_ml_vae"
    paper: ClassVar = "Locatello et al. 2020, arXiv:2002.02886, section 4, with ML-VAE's product"
    quirks: ClassVar = {"one_direction": ONE_DIRECTION, "double_variance": "the product has twice its variance, as in the authors' code"}

    def build(self, net: VAE, targets: int) -> AdaptiveVAE:
        strict = self.variant == "strict"
        return AdaptiveVAE(doubled_product if strict else product, self.beta, strict)


def doubled_product(q: Normal, group: Tensor) -> Normal:
    """The product with twice its variance: (B, D) to (B, D)."""
    exact = product(q, group)
    return normal(exact.loc, 2 * exact.scale**2)
