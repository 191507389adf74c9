"""p(u|c) of PartedVAE: a Gaussian a class, all of it learned, that the classes should not share.  Paper D, sections 3.2, 4.2 and 4.4.

L: classes, d: d(u) of one discrete variable, B: batch. In nats.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal

from copdvae.objectives.group_posterior import normal_kl


class MixturePrior(nn.Module):
    """Log-variances 2 tanh(x) - 1 stay within (-3, 1).

    Paper: silent on where the means start. Here: one apart along the first dimension, in the classes' order, and at a draw of N(0, 1) along
    others. Alike, no gradient of the overlap would part them; at random on a line, classes stay stuck behind one another.
    """

    def __init__(self, classes: int, dims: int):
        super().__init__()
        start = torch.randn(classes, dims)
        start[:, 0] = torch.arange(classes) - (classes - 1) / 2
        self.mean = nn.Parameter(start)
        self.spread = nn.Parameter(torch.zeros(classes, dims))

    @property
    def log_variance(self) -> Tensor:
        return 2 * self.spread.tanh() - 1

    def of_each(self) -> Normal:
        """p(u | c = i) for every class i: Normal, (L, d)."""
        return Normal(self.mean, (self.log_variance / 2).exp(), validate_args=False)

    def kl(self, q: Normal) -> Tensor:
        """KL(q(u | c = i, x) || p(u | c = i)): Normal (B, L, d) to (B, L)."""
        return normal_kl(q, self.of_each()).sum(dim=2)

    def overlap(self, tolerance: float) -> Tensor:
        """sum over pairs i < j of max(BC_ij - tolerance, 0), a scalar. Paper: from j = i on, where BC is 1; here: without that constant."""
        first, second = torch.triu_indices(len(self.mean), len(self.mean), 1, device=self.mean.device)
        return (bhattacharyya(self.mean, self.log_variance)[first, second] - tolerance).clamp_min(0).sum()


def bhattacharyya(mean: Tensor, log_variance: Tensor) -> Tensor:
    """BC_ij, the integral of sqrt(p_i p_j) of diagonal Gaussians (D, A.1): (L, d), (L, d) to (L, L), 1 on the diagonal."""
    variance = log_variance.exp()
    middle = (variance[:, None] + variance[None]) / 2  # (L, L, d)
    apart = (mean[:, None] - mean[None]) ** 2 / middle / 8
    unlike = (middle.log() - (log_variance[:, None] + log_variance[None]) / 2) / 2
    return (-(apart + unlike).sum(dim=2)).exp()


def gumbel_softmax(logits: Tensor, temperature: float) -> Tensor:
    """A relaxed draw of one class a row: (B, L) to (B, L), rows sum to 1."""
    gumbel = -(-torch.rand_like(logits).clamp_min(1e-20).log()).log()
    return ((logits + gumbel) / temperature).softmax(dim=1)


def entropy(logits: Tensor) -> Tensor:
    """H(q(c|x)): (B, L) to (B,)."""
    return -(logits.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1)


def kl_to_uniform(logits: Tensor) -> Tensor:
    """KL(q(c) || uniform), q(c) the mean of q(c|x) over the batch: (B, L) to a scalar, a function of that mean and not of single images."""
    share = logits.softmax(dim=1).mean(dim=0)
    return (share * (share.clamp_min(1e-12) * len(share)).log()).sum()


def most_likely(logits: Tensor) -> Tensor:
    """The one-hot of each row's largest: (B, L) to (B, L)."""
    return F.one_hot(logits.argmax(dim=1), logits.shape[1]).to(logits.dtype)
