"""Why a code is useless, in words: it hardly tells one subject from another, or its pair likelihood is that of a constant.

A latent whose posteriors are N(m_i, s_i^2), i a subject, tells subjects apart by

    mean_i log(1 + var(m) / s_i^2) / 2    nats a subject:

what a Gaussian channel carries whose signal spreads as the means do and whose noise is each posterior's own. It is 0 for a constant,
wherever it lies and however narrow it is, and at most the mean of KL(q || p) for any Gaussian p, so a code at its prior is found too; a
mixture prior does not hide a constant. A deterministic latent (s_i = 0) tells them apart unless it hardly varies: beside v, or beside its
own size.

This is about what the decoder was told. 5-NN on the means asks nothing of s, and may read an order even in a code that has collapsed.
N: subjects, D: latents, P: pairs.
"""

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.distributions import Normal

from copdvae.objectives.terms import gaussian_kl, pair_log_likelihood

TELLING_NATS = 0.02  # a subject: below it a latent says next to nothing; means that spread by a fifth of the posteriors' own deviation
PRIOR_NATS = 0.1  # of KL: of two such codes, the one that lies at N(0, 1)
CHANCE_NATS = 0.05  # a pair likelihood within this of the best constant one is at chance
SAME_BESIDE_V = 1e-3  # a deterministic latent that spreads by less than this share of what v does is the same for all
SAME = 1e-6  # and so is one by less than this share of its own size: float32 has seven digits


def nothing_told(q: Normal, u: int, by_place: bool) -> str | None:
    """Why no latent that is read tells subjects apart, from the posteriors of two subjects or more: Normal (N, D). None where one does.

    `by_place`: the first `u` latents are read and the others are v; else all are.
    """
    read = slice(0, u if by_place else q.loc.shape[1])
    mean, std = q.loc[:, read].double(), q.scale[:, read].double()
    which, so = ("u", "so it says next to nothing about the image") if by_place else ("every latent", "so none says anything of the image")
    unknown = int((~mean.isfinite()).any(dim=1).sum())
    if unknown:
        return f"{'u' if by_place else 'some latent'} is not a number in {unknown} of {len(mean)} subjects"
    beside = spread_of(q.loc[:, u:]) if by_place else 0.0
    nats = nats_told(mean, std, beside)
    if bool((nats >= TELLING_NATS).any()):
        return None
    kl = float(gaussian_kl(Normal(mean, std, validate_args=False)).mean(dim=0).max())
    if kl < PRIOR_NATS:
        return f"{which} stays at the prior: {'its' if by_place else 'the largest'} KL is {kl:.3f} nats a subject, {so}"
    best = int(nats.nan_to_num(0).argmax())
    spread, own = float(mean[:, best].std(correction=0)), float(std[:, best].mean())
    if own == 0:
        rest = f", those of v by {beside:.3g}" if by_place else ""
        return f"{which} is the same for all subjects: its values spread by {spread:.3g}{rest}, {so}"
    width = f"its means spread by {spread:.3g} over them, each with a standard deviation of {own:.3g}"
    return f"{which} is nearly the same for all subjects: {width} ({float(nats[best]):.3f} nats a subject), {so}"


def nats_told(mean: Tensor, std: Tensor, beside: float = 0.0) -> Tensor:
    """How far each latent tells subjects apart, see above: means and standard deviations (N, D) to (D,).

    A deterministic one is at 0 or at infinity; `beside` is the spread of v.
    """
    variance = mean.var(dim=0, correction=0)
    held = torch.log1p(variance / std.clamp_min(1e-30) ** 2).mean(dim=0) / 2
    least = (SAME * mean.abs().amax(dim=0)).clamp_min(SAME_BESIDE_V * beside)
    point = torch.where(variance.sqrt() > least, torch.inf, 0.0)
    return torch.where((std == 0).all(dim=0), point, held)


def spread_of(mean: Tensor) -> float:
    """Root mean square over latents of their standard deviation over subjects: (N, D) to a number, 0 where there is no latent."""
    return float(mean.double().var(dim=0, correction=0).mean().sqrt()) if mean.shape[1] else 0.0


def pairs_at_chance(logit: Tensor, similarity: Tensor, binary: bool = False) -> str | None:
    """Why the likelihood of pairs with these logits (P,) and told similarities (P,) is no better than a constant's. None where it is."""
    reached, chance = float(pair_log_likelihood(logit, similarity, binary).mean()), constant_likelihood(similarity, binary)
    if reached < chance + CHANCE_NATS * 0.2 and spearman(logit, similarity) < 0.1:
        place = "below" if reached < chance - CHANCE_NATS else "at"
        return f"the pair likelihood is {place} chance: {reached:.3f} nats a pair, {chance:.3f} for a constant similarity"
    return None


def constant_likelihood(y: Tensor, binary: bool = False) -> float:
    """The best mean log p(y) that one constant logit reaches, in nats a pair: log p is linear in y, so the mean of y is all it takes."""
    a = torch.linspace(-30, 30, 601)
    return float(pair_log_likelihood(a, y.mean().expand_as(a), binary).max())


def spearman(a: Tensor, b: Tensor) -> float:
    """Rank correlation, ties at their mean rank; 0 where one of the two is constant."""
    ranks = np.stack([rankdata(a), rankdata(b)])
    return float(np.corrcoef(ranks)[0, 1]) if ranks.std(axis=1).min() > 0 else 0.0
