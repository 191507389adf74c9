import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from copdvae.objectives import embedding
from copdvae.objectives.embedding import embed_pairs
from copdvae.supervision.pairs import PairTable, label_pairs
from copdvae.supervision.similarity import SimilarityConfig, fit_similarity


def told(truth, proportion=0.4, seed=0) -> PairTable:
    similarity = fit_similarity(truth, SimilarityConfig(measures=("a",)))
    return label_pairs(truth, similarity, proportion, np.random.default_rng(seed))


@pytest.mark.parametrize("eta1", [10.0, 1000.0])
def test_pairs_alone_put_subjects_in_their_order(eta1):
    truth = np.random.default_rng(0).normal(size=(60, 1))
    found = embed_pairs(told(truth), 60, 1, eta1, 2.0, False, 0)
    assert abs(spearmanr(found[:, 0], truth[:, 0]).statistic) > 0.85
    assert found.mean() == pytest.approx(0, abs=1e-5)
    assert found.dtype == np.float32


def test_classes_become_clusters():
    stage = np.repeat([0.0, 1.0, 2.0], 12)[:, None]
    config = SimilarityConfig(kind="indicator", measures=("gold",))
    pairs = label_pairs(stage, fit_similarity(stage, config), 0.6, np.random.default_rng(0))
    found = embed_pairs(pairs, 36, 2, 10.0, 2.0, True, 0)
    apart = ((found[:, None] - found[None]) ** 2).sum(-1)
    alike = stage == stage.T
    assert ((apart < 2) == alike).mean() > 0.9


def test_subjects_that_no_pair_names_have_no_place():
    truth = np.random.default_rng(0).normal(size=(20, 1))
    truth[[3, 11]] = np.nan
    found = embed_pairs(told(truth), 20, 1, 10.0, 2.0, False, 0)
    assert np.flatnonzero(np.isnan(found[:, 0])).tolist() == [3, 11]


def test_places_are_the_same_for_the_same_seed_also_with_several_threads(monkeypatch):
    """A run that is resumed makes them anew: more pairs than torch gives to one thread."""
    monkeypatch.setattr(embedding, "STEPS", 4)
    truth, threads = np.random.default_rng(0).normal(size=(400, 1)), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        pairs = told(truth, proportion=1.0)
        assert len(pairs) > 2 * 32768
        one, same, other = (embed_pairs(pairs, 400, 1, 10.0, 2.0, False, seed) for seed in (0, 0, 1))
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
