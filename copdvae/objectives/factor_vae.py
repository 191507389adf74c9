"""FactorVAE.  Kim & Mnih 2018, arXiv:1802.05983, Eq. 2 and Algorithm 2.

    L = -E_q[log p(x|z)] + KL(q(z|x) || N(0, I)) + gamma TC,   TC = E_q[log q(z) - sum_d log q(z_d)] as the critic sees it
    critic: cross-entropy of telling z from z with each latent permuted among the images

At gamma = 0 it is `vae`, exactly. Paper: the permuted half comes from a second batch; here, in `fixed`: from the same one, which saves
encoding another and made no visible difference. Losses in nats per image.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field

from copdvae.networks import VAE
from copdvae.objectives.base import Batch, Losses, MethodConfig, Objective, Stream
from copdvae.objectives.terms import gaussian_kl, reconstruction
from copdvae.objectives.total_correlation import CRITIC_ADAM, Critic, CriticConfig, permute_parts


class FactorVAEConfig(MethodConfig):
    method: Literal["factor_vae"] = "factor_vae"
    paper: ClassVar = "Kim & Mnih 2018, arXiv:1802.05983, Eq. 2 and Algorithm 2"
    quirks: ClassVar = {"second_batch": "the critic's permuted half comes from a second batch"}
    selects_by: ClassVar = "selection"
    variant: Literal["fixed", "strict"] = "fixed"
    gamma: float = Field(default=10.0, ge=0)  # on the total correlation
    critic: CriticConfig = CriticConfig()

    @property
    def also(self) -> tuple[Stream, ...]:
        return ("second",) if self.variant == "strict" else ()

    def build(self, net: VAE, targets: int) -> "FactorVAE":
        return FactorVAE(self, net.latents)


class FactorVAE(Objective):
    def __init__(self, config: FactorVAEConfig, latents: int):
        super().__init__()
        self.gamma = config.gamma
        self.strict = config.variant == "strict"
        self.critic = Critic(config.critic, latents)

    def players(self, net):
        return {"model": list(net.parameters()), "critic": list(self.critic.parameters())}

    def adam(self):
        return {"critic": CRITIC_ADAM}

    def forward(self, net, batch: Batch, step: int) -> Losses:
        q = net.encode(batch.image, batch.present)  # Normal, (B, D)
        z = q.rsample()  # (B, D)
        rec, rec_lung = reconstruction(net, z, batch)  # (B,), (B,)
        kl = gaussian_kl(q).sum(dim=1)  # (B,)
        tc = self.critic(z)  # (B,)

        critic = self.critic.loss(z, permute_parts(self.second(net, batch) if self.strict else z))
        terms = {"rec": rec.mean(), "kl": kl.mean(), "tc": self.gamma * tc.mean()}
        logs = {"rec": rec.mean(), "rec_lung": rec_lung.mean(), "kl": kl.mean(), "tc": tc.mean()}
        logs["selection"] = terms["rec"] + terms["kl"]
        return Losses({"model": terms["rec"] + terms["kl"] + terms["tc"], "critic": critic}, logs, terms)

    @torch.no_grad()
    def second(self, net, batch: Batch):
        """Samples of the second batch, for the critic alone: (B', D)."""
        other = batch.also["second"]
        return net.encode(other.image, other.present).rsample()
