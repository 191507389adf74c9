import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from tiny import made_batch, made_pair

from copdvae.errors import ConfigError
from copdvae.objectives.base import Batch
from copdvae.objectives.supervised import SupervisedConfig


def loss_and_mean(label):
    batch = made_batch(SupervisedConfig())
    net, objective = made_pair(SupervisedConfig())
    net.eval()
    batch = Batch(batch.image, batch.lung, batch.present, None, label)
    with torch.no_grad():
        return objective(net, batch, 0), net.encode(batch.image).loc.numpy()


def test_known_labels_count_and_unknown_ones_do_not():
    """Squared error and cross-entropy by hand, over what is known of each subject."""
    label = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    label[:, 3] = torch.tensor([0.0, 5, 2, float("nan"), 1, 3])
    label[1, 0] = label[4, :3] = float("nan")
    losses, mean = loss_and_mean(label)
    told = label.numpy()
    squared = np.nansum(0.5 * (mean[:, :3] - told[:, :3]) ** 2, axis=1).mean()
    known = [0, 1, 2, 4, 5]
    entropy = -log_softmax(mean[:, 3:9], axis=1)[known, told[known, 3].astype(int)].sum() / 6
    assert float(losses.logs["squared_error"]) == pytest.approx(squared, rel=1e-5)
    assert float(losses.logs["cross_entropy"]) == pytest.approx(entropy, rel=1e-5)
    assert float(losses.by_player["model"]) == pytest.approx(squared + entropy, rel=1e-5)


def test_nothing_known_costs_nothing():
    losses, _ = loss_and_mean(torch.full((6, 4), float("nan")))
    assert float(losses.by_player["model"]) == 0


def test_fewer_logits_than_gold_has_classes_are_refused():
    with pytest.raises(ConfigError, match=r"classes: .*greater than or equal to 6, found 5"):
        SupervisedConfig.parse({"classes": 5})
