"""SS-beta-VAE.  Paper C, Eq. 4 on `beta_vae`: semi_supervised.py."""

from typing import ClassVar, Literal

from copdvae.networks import VAE
from copdvae.objectives.beta_vae import BetaVAEConfig
from copdvae.objectives.label_loss import ToldLabels
from copdvae.objectives.semi_supervised import SemiSupervised


class SSBetaVAEConfig(ToldLabels):
    method: Literal["ss_beta_vae"] = "ss_beta_vae"
    paper: ClassVar = "paper C, Eq. 4"
    base: BetaVAEConfig = BetaVAEConfig()

    def build(self, net: VAE, targets: int) -> SemiSupervised:
        return SemiSupervised(self, self.base.build(net, targets))
