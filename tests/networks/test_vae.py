import itertools
import math

import pytest
import torch
from tiny import NETWORK, made_net
from torch import nn

from copdvae.networks import VAE, NetworkConfig
from copdvae.networks.likelihood import LikelihoodConfig
from copdvae.networks.vae import LOG_VARIANCE_RANGE

SIZES = [(28, 28), (33, 28), (17, 40), (9,), (8, 9, 10), (15, 16, 17)]
KINDS = list(itertools.product(["conv", "resnet"], ["batch", "group", "instance"], ["flatten", "mean"]))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", ["conv", "resnet"])
def test_an_image_comes_back_in_its_own_size(kind, size):
    net = VAE(NETWORK.model_copy(update={"kind": kind, "widths": (4, 6, 8)}), 3, size)
    q = net.encode(torch.rand(2, 3, *size))
    assert q.loc.shape == q.scale.shape == (2, 10)
    assert net.decode(q.loc).shape == (2, 3, *size)


@pytest.mark.parametrize("grid", [32, pytest.param(48, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["conv", "resnet"])
def test_a_volume_comes_back_in_its_own_size(kind, grid):
    net = VAE(NetworkConfig(kind=kind), 2, (grid,) * 3).eval()
    with torch.no_grad():
        assert net.decode(net.encode(torch.rand(1, 2, *(grid,) * 3)).loc).shape == (1, 2, grid, grid, grid)


@pytest.mark.parametrize(("kind", "norm", "pooling"), KINDS)
def test_every_combination_of_settings_is_a_network_that_uses_its_input(kind, norm, pooling):
    config = NETWORK.model_copy(update={"kind": kind, "norm": norm, "pooling": pooling})
    net = made_net(config).eval()
    one, other = net.encode(torch.rand(2, 2, 8, 8, 8)).loc
    assert not torch.allclose(one, other, atol=1e-6)
    here, there = net.decode(torch.randn(2, 10))
    assert not torch.allclose(here, there, atol=1e-6)


def test_expected_images_are_between_0_and_1():
    for kind in ("gaussian", "bernoulli", "l1"):
        net = made_net(NETWORK.model_copy(update={"likelihood": LikelihoodConfig(kind=kind)}))
        images = net.images(10 * torch.randn(4, 10))
        assert images.min() >= 0
        assert images.max() <= 1


def density_seen(norm: str) -> float:
    """How far the latents move when a uniform image (of no texture) becomes lighter, in their own unit."""
    net = made_net(NETWORK.model_copy(update={"norm": norm}), size=(16, 16, 16), seed=1).requires_grad_(False)
    texture = 0.05 * torch.randn(16, 2, 16, 16, 16)
    for _ in range(50):  # running statistics of batch normalisation
        net.encode(0.3 + 0.4 * torch.rand(16, 1, 1, 1, 1) + texture)
    net.eval()
    # The inside alone: at the border, padding with zeros shows how dense the image is.
    features = [net.encoder.blocks[0](level + texture)[..., 1:-1, 1:-1, 1:-1].flatten(1) for level in (0.3, 0.7)]
    return float((features[0] - features[1]).abs().mean() / features[0].std())


def test_instance_normalisation_hides_density_and_the_default_does_not():
    assert NetworkConfig().norm == "batch"
    assert density_seen("batch") > 0.2
    assert density_seen("instance") < 0.1 * density_seen("batch")


def test_the_posterior_stays_within_bounds_and_finite_for_wild_weights():
    net = made_net()
    nn.init.normal_(net.encoder.out.weight, std=1e4)
    q = net.encode(torch.rand(4, 2, 8, 8, 8))
    low, high = (math.exp(bound / 2) for bound in LOG_VARIANCE_RANGE)
    assert q.scale.min() >= 0.999 * low
    assert q.scale.max() <= 1.001 * high
    assert q.loc.isfinite().all()


def test_latents_keep_the_digits_of_float32_under_bf16_autocast():
    """bf16 has steps of .016 near 2.5: at eta1 = 1000 that would move the logit of a pair by 8 and more."""
    net, images = made_net(), torch.rand(64, 2, 8, 8, 8)
    nn.init.normal_(net.encoder.out.weight, std=2)
    with torch.autocast("cpu", torch.bfloat16):
        q, decoded = net.encode(images), net.decode(torch.randn(2, 10))
    for values in (q.loc, q.scale):
        assert values.dtype == torch.float32
        assert (values != values.bfloat16().float()).float().mean() > 0.9
    assert decoded.dtype == torch.float32


def test_a_presence_input_says_which_channels_are_there():
    """An absent channel is zero; the network must be able to tell that from a black one."""
    net = made_net(presence=True).eval()
    images = torch.rand(2, 2, 8, 8, 8)
    images[:, 1] = 0
    absent = net.encode(images, torch.tensor([[1.0, 0.0], [1.0, 0.0]])).loc
    black = net.encode(images, torch.ones(2, 2)).loc
    assert not torch.allclose(absent, black)
    torch.testing.assert_close(net.encode(images).loc, black)
    blind = made_net().eval()
    torch.testing.assert_close(blind.encode(images, torch.tensor([[1.0, 0.0], [1.0, 0.0]])).loc, blind.encode(images).loc)


def test_mean_pooling_forgets_where_a_finding_is_and_flattening_does_not():
    """A dark spot in one corner or in the other, far from the border of the last feature map."""
    images = torch.full((2, 2, 64, 64), 0.5)
    images[0, :, 16:24, 16:24], images[1, :, 40:48, 40:48] = 0, 0
    moved = {}
    for pooling in ("mean", "flatten"):
        net = made_net(NETWORK.model_copy(update={"pooling": pooling}), size=(64, 64)).eval()
        here, there = net.encode(images).loc.detach()
        moved[pooling] = float((here - there).abs().max())
    assert 1000 * moved["mean"] < moved["flatten"]


def test_dropout_is_off_in_evaluation():
    net = made_net(NETWORK.model_copy(update={"dropout": 0.5}))
    images = torch.rand(2, 2, 8, 8, 8)
    assert not torch.equal(net.encode(images).loc, net.encode(images).loc)
    net.eval()
    assert torch.equal(net.encode(images).loc, net.encode(images).loc)
