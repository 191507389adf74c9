"""GVAE.  Hosoya 2019; paper E, Eq. 1, with the average of the members' means and variances.

    L = sum over the images x of a group of  -E_q[log p(x | u, v_x)] + beta [KL(q(u|group) || N(0, I)) + KL(q(v|x) || N(0, I))]

Groups of two images or more are alike in what `u`, the first d(u) latents, stands for: `u` has one posterior a group, `v` one an image.
E counts the group's KL once an image. As the bound of ML-VAE's paper is on the likelihood of a group with one `u`, it is there once a
group: `group_kl` says which. With a repeated image and the KL counted an image it is `vae` for any d(u) at beta 1.
B: batch, D: latents. Losses are in nats per image.
"""

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.distributions import Normal

from copdvae.networks import VAE
from copdvae.objectives.base import Batch, Losses, MethodConfig, Objective
from copdvae.objectives.group_posterior import averaged, group_of, group_sizes, joined
from copdvae.objectives.terms import gaussian_kl, reconstruction
from copdvae.supervision.groups import GroupsConfig


class GroupVAEConfig(MethodConfig):
    """Settings of `gvae` and `ml_vae`, which differ in how the members' posteriors become one."""

    told: ClassVar = "groups of training subjects of one class"
    needs: ClassVar = "group"
    readout: ClassVar = "u"
    groups: GroupsConfig = GroupsConfig()
    beta: float = Field(default=1.0, ge=0)  # on both KL
    group_kl: Literal["image", "group"] = "image"  # how often the group's KL counts: once each image (E), or once a group (ML-VAE's paper)


class GVAEConfig(GroupVAEConfig):
    method: Literal["gvae"] = "gvae"
    paper: ClassVar = "Hosoya 2019; paper E, Eq. 1"

    def build(self, net: VAE, targets: int) -> "GroupVAE":
        return GroupVAE(averaged, self.beta, self.group_kl == "group")


class GroupVAE(Objective):
    def __init__(self, combine: Callable[[Normal, Tensor], Normal], beta: float, once: bool):
        super().__init__()
        self.combine, self.beta, self.once = combine, beta, once

    def forward(self, net, batch: Batch, step: int) -> Losses:
        group = group_of(batch)  # (B,)
        q = net.encode(batch.image, batch.present)  # Normal, (B, D)
        is_u = torch.arange(net.latents, device=group.device) < net.u  # (D,)
        q = joined(q, self.combine(q, group), is_u)
        rec, rec_lung = reconstruction(net, q.rsample(), batch)  # (B,), (B,)
        kl = gaussian_kl(q)  # (B, D)
        kl_u, kl_v = kl[:, : net.u].sum(dim=1), kl[:, net.u :].sum(dim=1)  # (B,), (B,)
        counted = kl_u / group_sizes(group).squeeze(1) if self.once else kl_u

        terms = {"rec": rec.mean(), "kl_u": self.beta * counted.mean(), "kl_v": self.beta * kl_v.mean()}
        logs = {"rec": rec.mean(), "rec_lung": rec_lung.mean(), "kl_u": kl_u.mean(), "kl_v": kl_v.mean()}
        return Losses({"model": terms["rec"] + terms["kl_u"] + terms["kl_v"]}, logs, terms)
