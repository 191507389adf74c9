"""Where the labelled pairs alone would put each subject.  The maximum of paper A's Eq. 3-5 over free points, with A's prior on them.

    u* = argmax  mean over pairs of log p(y_ij | u_i, u_j)  -  small |u|^2 / 2,      one point u_i a subject, no image and no encoder

Nothing but the pairs is used: what comes out is arbitrary up to shifts, rotations and mirror images, and says nothing about subjects that
no pair names. N: subjects, P: pairs, d: d(u).
"""

import numpy as np
import torch
from scipy import sparse

from copdvae.objectives.terms import pair_log_likelihood, pair_logit
from copdvae.supervision.pairs import PairTable

STARTS, STEPS = 2, 250
SOFTEST = 1.0  # eta1 to begin with: at the paper's 1000, points that start on the wrong side of each other never pass
PRIOR = 1e-3


def embed_pairs(pairs: PairTable, subjects: int, dims: int, eta1: float, eta2: float, binary: bool, seed: int) -> np.ndarray:
    """The best of a few starts: (N, d) float32, centred; NaN for subjects that are in no pair."""
    count, y = len(pairs), torch.from_numpy(pairs.similarity)
    # u_i - u_j as a product with a sparse matrix: torch adds up the gradients of indexed rows in whatever order its threads finish.
    ends = (np.tile(np.arange(count), 2), np.concatenate([pairs.first, pairs.second]))
    incidence = sparse.csr_matrix((np.repeat(np.array([1, -1], np.float32), count), ends), shape=(count, subjects))
    back = incidence.T.tocsr()
    generator = torch.Generator().manual_seed(seed)
    best, points = float("inf"), torch.zeros(subjects, dims)
    for _ in range(STARTS):
        u = torch.randn(subjects, dims, generator=generator).mul_(0.5).requires_grad_()
        optimizer = torch.optim.Adam([u], lr=0.05)
        loss = torch.tensor(float("inf"))
        for step in range(STEPS):
            steepness = min(eta1, SOFTEST) * (max(eta1 / SOFTEST, 1.0)) ** min(1.0, 2 * step / STEPS)
            gap = torch.from_numpy(incidence @ u.detach().numpy()).requires_grad_()  # (P, d)
            pair = -pair_log_likelihood(pair_logit(gap, torch.zeros_like(gap), steepness, eta2), y, binary).mean()
            (slope,) = torch.autograd.grad(pair, gap)
            loss = PRIOR * (u.detach() ** 2).sum(dim=1).mean() / 2 + pair.detach()
            u.grad = torch.from_numpy(back @ slope.numpy()) + PRIOR * u.detach() / subjects
            optimizer.step()
        if float(loss) < best:
            best, points = float(loss), u.detach()
    named = np.zeros(subjects, bool)
    named[pairs.first], named[pairs.second] = True, True
    points = (points - points[torch.from_numpy(named)].mean(dim=0)).numpy()
    points[~named] = np.nan
    return points
