"""LaRVAE, label replacement.  Paper C, Eq. 7-9, on any of its three bases.

    L = L_base(x) + gamma_lb E_(x, y) R_s(mu_u(x), y) + tau E_(x, y) [-E_q(v|x) log p(x|u = y, v) + KL(q(v|x) || N(0, I))]

The paper's y and z are `u` and `v`. The last term decodes the true label in place of the inferred one. At tau = 0 it is
semi_supervised.py, exactly. With cross-entropy u is a logit, so the label's logit is decoded. An image with an unknown label has no
last term. Losses in nats per image, but for l2's unit.

Misprint: Eq. 9 and B.19 have a minus before the KL, which is a plus in the bound above them (and in A.11 before gamma_tc, against Eq. 1).
"""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.distributions import Normal

from copdvae.networks import VAE
from copdvae.objectives.base import Batch, Objective
from copdvae.objectives.beta_tcvae import BetaTCVAEConfig
from copdvae.objectives.beta_vae import BetaVAEConfig
from copdvae.objectives.factor_vae import FactorVAEConfig
from copdvae.objectives.label_loss import ToldLabels, as_latent
from copdvae.objectives.semi_supervised import SemiSupervised
from copdvae.objectives.terms import gaussian_kl, reconstruction

Base = Annotated[BetaVAEConfig | FactorVAEConfig | BetaTCVAEConfig, Field(discriminator="method")]


class LaRVAEConfig(ToldLabels):
    method: Literal["larvae"] = "larvae"
    paper: ClassVar = "paper C, Eq. 7-9"
    quirks: ClassVar = FactorVAEConfig.quirks  # by base.variant
    base: Base = BetaTCVAEConfig()
    tau: float = Field(default=1.0, ge=0)  # on the label replacement; C: 1, for CelebA .05

    def build(self, net: VAE, targets: int) -> "LaRVAE":
        return LaRVAE(self, self.base.build(net, targets))


class LaRVAE(SemiSupervised):
    def __init__(self, config: LaRVAEConfig, base: Objective):
        super().__init__(config, base)
        self.tau = config.tau

    def added(self, net: VAE, q: Normal, told: Batch, label: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Those of `SemiSupervised`, and the label replacement."""
        terms, logs = super().added(net, q, told, label)
        replaced = self.replacement(net, q, told, label).mean()
        return terms | {"replacement": self.tau * replaced}, logs | {"replacement": replaced}

    def replacement(self, net: VAE, q: Normal, told: Batch, label: Tensor) -> Tensor:
        """-log p(x|y, v) + KL(q(v|x) || N(0, I)) of images with all their labels, 0 of others: (B',)."""
        known = ~label.isnan().any(dim=1)
        u = as_latent(label.nan_to_num(), self.config.label_loss)
        rec, _ = reconstruction(net, torch.cat([u, q.rsample()[:, net.u :]], dim=1), told)
        return (rec + gaussian_kl(q)[:, net.u :].sum(dim=1)) * known
