"""Ada-GVAE.  Locatello et al. 2020, arXiv:2002.02886, section 4.

    L = sum over both images of a pair of  -E_q[log p(x|z)] + beta KL(q'(z|x) || N(0, I))

The pair is alike in something; which latents say it is inferred, pair by pair. With d_j = KL(q(z_j|x_1) || q(z_j|x_2)), the latents
whose d_j lies below the middle of its range over j, (min d + max d) / 2, are shared: in q' they have one posterior, the average of both,
and the others stay as they are. No gradient passes through the choice. No latents are `u`: they are ranked.

Paper: one direction of the KL; here (`fixed`): the sum of both, so that it does not matter which image comes first.
B: batch, D: latents, P: pairs. Losses are in nats per image.
"""

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.distributions import Normal

from copdvae.networks import VAE
from copdvae.objectives.base import Batch, Losses, MethodConfig, Objective
from copdvae.objectives.group_posterior import averaged, first_to_second, group_of, joined, members_of_pairs, only_pairs, pair_kl
from copdvae.objectives.terms import gaussian_kl, reconstruction
from copdvae.supervision.groups import GroupsConfig

ONE_DIRECTION = "what is shared is inferred from KL(q(z|x_1) || q(z|x_2)) alone, which depends on the order in the pair"


class AdaptiveConfig(MethodConfig):
    """Settings of both adaptive methods, which differ in how a pair's posteriors become one."""

    told: ClassVar = "pairs of training subjects of one class"
    needs: ClassVar = "group"
    groups: GroupsConfig = GroupsConfig()
    variant: Literal["fixed", "strict"] = "fixed"
    beta: float = Field(default=1.0, ge=0)  # on the KL

    _pairs = field_validator("groups")(only_pairs)

    def misfit(self, u: int, v: int) -> str:
        return "" if u + v >= 2 else "shared latents are inferred by comparing them, so there must be two or more"


class AdaGVAEConfig(AdaptiveConfig):
    method: Literal["ada_gvae"] = "ada_gvae"
    paper: ClassVar = "Locatello et al. 2020, arXiv:2002.02886, section 4, with GVAE's average"
    quirks: ClassVar = {"one_direction": ONE_DIRECTION}

    def build(self, net: VAE, targets: int) -> "AdaptiveVAE":
        return AdaptiveVAE(averaged, self.beta, self.variant == "strict")


class AdaptiveVAE(Objective):
    def __init__(self, combine: Callable[[Normal, Tensor], Normal], beta: float, one_direction: bool):
        super().__init__()
        self.combine, self.beta = combine, beta
        self.apart = first_to_second if one_direction else pair_kl

    def forward(self, net, batch: Batch, step: int) -> Losses:
        group = group_of(batch)  # (B,)
        q = net.encode(batch.image, batch.present)  # Normal, (B, D)
        shared = self.shared(q, group)  # (B, D)
        q = joined(q, self.combine(q, group), shared)
        rec, rec_lung = reconstruction(net, q.rsample(), batch)  # (B,), (B,)
        kl = gaussian_kl(q).sum(dim=1)  # (B,)

        terms = {"rec": rec.mean(), "kl": self.beta * kl.mean()}
        logs = {"rec": rec.mean(), "rec_lung": rec_lung.mean(), "kl": kl.mean(), "shared": shared.float().sum(dim=1).mean()}
        return Losses({"model": terms["rec"] + terms["kl"]}, logs, terms)

    def shared(self, q: Normal, group: Tensor) -> Tensor:
        """Which latents the pair of each image shares: bool (B, D)."""
        first, second = members_of_pairs(group)
        apart = self.apart(q, group).detach()  # (P, D)
        middle = (apart.amin(dim=1, keepdim=True) + apart.amax(dim=1, keepdim=True)) / 2
        shared = torch.zeros_like(q.loc, dtype=torch.bool)
        shared[first] = shared[second] = apart < middle
        return shared
