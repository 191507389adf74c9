"""Pairs of subjects with a similarity: drawn once, unordered, no subject with itself, none twice."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from copdvae.supervision.similarity import Similarity, add_noise


@dataclass(frozen=True)
class PairTable:
    """P labelled pairs of N subjects."""

    first: np.ndarray  # (P,) int64, rows of subjects; first < second
    second: np.ndarray  # (P,) int64
    similarity: np.ndarray  # (P,) float32 in [0, 1]
    number: sparse.csr_matrix  # (N, N): 1 + the pair's place in the arrays above, 0 where not labelled

    def __len__(self) -> int:
        return len(self.first)

    def among(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All labelled pairs between the distinct `rows` (B,): places in `rows` (p,), (p,), and similarities (p,)."""
        block = self.number[rows][:, rows].tocoo()
        return block.row.astype(np.int64), block.col.astype(np.int64), self.similarity[block.data - 1]


def draw_pairs(subjects: int, proportion: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A proportion of the n (n - 1) / 2 unordered pairs, without repeats: (P,), (P,) with first < second. At least one pair."""
    possible = subjects * (subjects - 1) // 2
    wanted = min(possible, max(1, round(proportion * possible)))
    place = np.arange(possible) if wanted == possible else np.sort(rng.choice(possible, size=wanted, replace=False, shuffle=False))
    # Pairs counted column by column: pair (i, j), i < j, is number j (j - 1) / 2 + i.
    second = np.floor((1 + np.sqrt(1 + 8 * place.astype(float))) / 2).astype(np.int64)
    second -= second * (second - 1) // 2 > place  # the square root's rounding
    second += second * (second + 1) // 2 <= place
    return place - second * (second - 1) // 2, second


def label_pairs(measures: np.ndarray, similarity: Similarity, proportion: float, rng: np.random.Generator) -> PairTable:
    """Label a proportion of the pairs of subjects; `measures` (N, M), rows with a NaN belong to no pair."""
    known = np.flatnonzero(~np.isnan(measures).any(axis=1))
    first, second = (known[place] for place in draw_pairs(len(known), proportion, rng))
    labels = add_noise(similarity.between(measures[first], measures[second]), similarity.config, rng)
    number = sparse.csr_matrix((np.arange(1, len(first) + 1), (first, second)), shape=(len(measures), len(measures)))
    return PairTable(first, second, labels, number)
