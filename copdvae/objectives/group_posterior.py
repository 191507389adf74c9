"""One posterior for the members of a group, from what the encoder says of each.  Paper E, section 2.

`group` (B,) numbers the groups 0 .. G - 1; each has two members or more, in any order. What a group gives comes back once a member, (B, D):
a draw from it is then a draw an image. (ML-VAE draws once a group: the same expectation, as each image's likelihood sees one draw alone.)
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal

from copdvae.objectives.base import Batch
from copdvae.supervision.groups import GroupsConfig


def group_of(batch: Batch) -> Tensor:
    """The batch's group numbers: (B,) int64."""
    if batch.group is None:
        raise ValueError("this method needs groups, and this batch has none")
    return batch.group


def averaged(q: Normal, group: Tensor) -> Normal:
    """The mean of the members' means and the mean of their variances (Hosoya 2019): (B, D) to (B, D)."""
    return normal(group_mean(q.loc, group), group_mean(q.scale**2, group))


def product(q: Normal, group: Tensor) -> Normal:
    """The product of the members' densities (Bouchacourt et al. 2018), whose precision is the sum of theirs: (B, D) to (B, D).

    For two members the variance is v1 v2 / (v1 + v2). A widely used code has twice that, as if precisions were averaged.
    """
    precision = q.scale**-2
    variance = 1 / (group_mean(precision, group) * group_sizes(group))
    return normal(group_mean(q.loc * precision, group) / group_mean(precision, group), variance)


def normal(mean: Tensor, variance: Tensor) -> Normal:
    return Normal(mean, variance.sqrt(), validate_args=False)


def joined(q: Normal, shared: Normal, where: Tensor) -> Normal:
    """`shared` where it is said to be, `q` elsewhere: (B, D), (B, D), bool (D,) or (B, D) to (B, D)."""
    return Normal(torch.where(where, shared.loc, q.loc), torch.where(where, shared.scale, q.scale), validate_args=False)


def group_mean(values: Tensor, group: Tensor) -> Tensor:
    """The mean over the group of each row: (B, D) to (B, D)."""
    member = F.one_hot(group).to(values.dtype)  # (B, G); a product of matrices adds up in one order, indexed rows do not
    with torch.autocast(values.device.type, enabled=False):  # it would be made in bf16
        return member @ (member.T @ values) / group_sizes(group)


def group_sizes(group: Tensor) -> Tensor:
    """How many members the group of each row has: (B, 1)."""
    return group.bincount()[group].unsqueeze(1)


def members_of_pairs(group: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the first and of the second member of each pair, where groups are pairs: (P,), (P,)."""
    first, second = group.argsort(stable=True).view(-1, 2).unbind(dim=1)
    return first, second


def at(q: Normal, rows: Tensor) -> Normal:
    return Normal(q.loc[rows], q.scale[rows], validate_args=False)


def normal_kl(p: Normal, q: Normal) -> Tensor:
    """KL(p || q) of diagonal Gaussians, a value a dimension: (P, D)."""
    return q.scale.log() - p.scale.log() + (p.scale**2 + (p.loc - q.loc) ** 2) / (2 * q.scale**2) - 0.5


def first_to_second(q: Normal, group: Tensor) -> Tensor:
    """KL(q_1 || q_2) of each pair, a value a dimension: (B, D) to (P, D)."""
    first, second = members_of_pairs(group)
    return normal_kl(at(q, first), at(q, second))


def pair_kl(q: Normal, group: Tensor) -> Tensor:
    """KL(q_1 || q_2) + KL(q_2 || q_1) of each pair, a value a dimension; the order in the pair does not matter: (B, D) to (P, D)."""
    first, second = (at(q, rows) for rows in members_of_pairs(group))
    return normal_kl(first, second) + normal_kl(second, first)


def only_pairs(groups: GroupsConfig) -> GroupsConfig:
    """For methods that are defined on pairs: any other size of a group is refused."""
    if groups.size != 2:
        raise ValueError(f"this method is told pairs: size must be 2, found {groups.size}")
    return groups
