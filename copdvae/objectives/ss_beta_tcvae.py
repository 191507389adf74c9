"""SS-beta-TCVAE.  Paper C, Eq. 4 on `beta_tcvae`: semi_supervised.py."""

from typing import ClassVar, Literal

from copdvae.networks import VAE
from copdvae.objectives.beta_tcvae import BetaTCVAEConfig
from copdvae.objectives.label_loss import ToldLabels
from copdvae.objectives.semi_supervised import SemiSupervised


class SSBetaTCVAEConfig(ToldLabels):
    method: Literal["ss_beta_tcvae"] = "ss_beta_tcvae"
    paper: ClassVar = "paper C, Eq. 4"
    base: BetaTCVAEConfig = BetaTCVAEConfig()

    def build(self, net: VAE, targets: int) -> SemiSupervised:
        return SemiSupervised(self, self.base.build(net, targets))
