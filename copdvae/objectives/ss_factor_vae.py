"""SS-FactorVAE.  Paper C, Eq. 4 on `factor_vae`: semi_supervised.py."""

from typing import ClassVar, Literal

from copdvae.networks import VAE
from copdvae.objectives.factor_vae import FactorVAEConfig
from copdvae.objectives.label_loss import ToldLabels
from copdvae.objectives.semi_supervised import SemiSupervised


class SSFactorVAEConfig(ToldLabels):
    method: Literal["ss_factor_vae"] = "ss_factor_vae"
    paper: ClassVar = "paper C, Eq. 4"
    quirks: ClassVar = FactorVAEConfig.quirks  # by base.variant
    base: FactorVAEConfig = FactorVAEConfig()

    def build(self, net: VAE, targets: int) -> SemiSupervised:
        return SemiSupervised(self, self.base.build(net, targets))
