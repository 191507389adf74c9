"""group-tcVAE.  Paper E, Eq. 2-3.

    L = sum over both images x of a pair of  -E_q[log p(x|z)] + KL(q(z|x) || N(0, I)) + beta TC(z) + gamma KL(q(u|x) || q(u|x'))

    TC = KL(q(z) || qbar(z)),    qbar:  groups        q(u) q(v)
                                        groups_and_v  q(u) prod_j q(v_j)
                                        all           prod_j q(z_j)

The pair (x, x') is alike in what `u`, the first d(u) latents, stands for. Each image keeps its own posterior of `u`; the last term, whose
sum over the pair has both directions of the KL, draws the two together. TC by a critic, or by sampling (total_correlation.py).

Misprint: Eq. 3 has a minus before gamma's term inside a subtracted bracket, and so rewards it; trained so it grows without bound. Here it
is a penalty. E's grid of "lambda" is this gamma.

Pairs are not exchangeable: the partner of an image has nearly its `u`. Permuted samples and sampled densities are therefore made among the
pairs' first members, and among their second ones, never across. B: batch, P: pairs, D: latents. Losses are in nats per image.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.distributions import Normal

from copdvae.networks import VAE
from copdvae.objectives.base import Batch, Losses, MethodConfig, Objective
from copdvae.objectives.group_posterior import at, group_of, members_of_pairs, only_pairs, pair_kl
from copdvae.objectives.terms import gaussian_kl, reconstruction
from copdvae.objectives.total_correlation import CRITIC_ADAM, Critic, CriticConfig, permute_parts, sampled_total_correlation
from copdvae.supervision.groups import GroupsConfig

Factors = Literal["groups", "groups_and_v", "all"]


class GroupTCVAEConfig(MethodConfig):
    method: Literal["group_tcvae"] = "group_tcvae"
    paper: ClassVar = "paper E, Eq. 2-3"
    told: ClassVar = "pairs of training subjects of one class"
    needs: ClassVar = "group"
    selects_by: ClassVar = "selection"
    readout: ClassVar = "u"
    groups: GroupsConfig = GroupsConfig()
    beta: float = Field(default=10.0, ge=0)  # on the total correlation; E tried 10 to 100
    gamma: float = Field(default=8.0, ge=0)  # on the KL within a pair; E tried 1 to 64
    factors: Factors = "groups"  # what qbar is a product of
    total_correlation: Literal["critic", "stratified", "weighted"] = "critic"
    critic: CriticConfig = CriticConfig()

    _pairs = field_validator("groups")(only_pairs)

    def misfit(self, u: int, v: int) -> str:
        return "" if v else "d(v) must be 1 or more: the total correlation is between u and v"

    def build(self, net: VAE, targets: int) -> "GroupTCVAE":
        return GroupTCVAE(self, part_sizes(self.factors, net.u, net.latents - net.u))


def part_sizes(factors: Factors, u: int, v: int) -> list[int]:
    """How many latents, in their order, each factor of qbar holds."""
    return {"groups": [u, v], "groups_and_v": [u] + [1] * v, "all": [1] * (u + v)}[factors]


class GroupTCVAE(Objective):
    def __init__(self, config: GroupTCVAEConfig, sizes: list[int]):
        super().__init__()
        self.config, self.sizes = config, sizes
        self.critic = Critic(config.critic, sum(sizes)) if config.total_correlation == "critic" else None

    def players(self, net):
        return super().players(net) | ({"critic": list(self.critic.parameters())} if self.critic else {})

    def adam(self):
        return {"critic": CRITIC_ADAM} if self.critic else {}

    def forward(self, net, batch: Batch, step: int) -> Losses:
        group = group_of(batch)
        q = net.encode(batch.image, batch.present)  # Normal, (B, D)
        z = q.rsample()  # (B, D)
        rec, rec_lung = reconstruction(net, z, batch)  # (B,), (B,)
        kl = gaussian_kl(q).sum(dim=1)  # (B,)
        u = Normal(q.loc[:, : net.u], q.scale[:, : net.u], validate_args=False)
        apart = pair_kl(u, group).sum(dim=1) / 2  # (P,), an image's share: one direction of the two
        members = members_of_pairs(group)
        tc = self.critic(z) if self.critic else torch.cat([self.sampled(z[rows], at(q, rows), batch) for rows in members])  # (B,)

        terms = {"rec": rec.mean(), "kl": kl.mean(), "tc": self.config.beta * tc.mean(), "apart": self.config.gamma * apart.mean()}
        losses = {"model": sum(terms.values(), rec.new_zeros(()))}
        if self.critic:
            losses["critic"] = self.critic.loss(z, torch.cat([permute_parts(z[rows], self.sizes) for rows in members]))
        logs = {"rec": rec.mean(), "rec_lung": rec_lung.mean(), "kl": kl.mean(), "tc": tc.mean(), "apart": apart.mean()}
        steady = [term for name, term in terms.items() if not (self.critic and name == "tc")]
        logs["selection"] = sum(steady, rec.new_zeros(()))
        return Losses(losses, logs, terms)

    def sampled(self, z: Tensor, q: Normal, batch: Batch) -> Tensor:
        """Total correlation by sampling, from one member of each pair: (P, D) to (P,)."""
        sampling = "weighted" if self.config.total_correlation == "weighted" else "stratified"
        return sampled_total_correlation(z, q, batch.drawn_from or len(z), sampling, self.sizes)
