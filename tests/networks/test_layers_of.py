import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from copdvae.errors import ConfigError
from copdvae.networks import VAE, NetworkConfig
from copdvae.networks.layers import LARGEST_DENSE, halvings, padding_and_extra


@given(st.lists(st.integers(1, 200), min_size=1, max_size=3), st.integers(0, 6))
def test_kernels_of_3_halve_and_round_up(size, levels):
    sizes = halvings(tuple(size), (3,) * levels)
    assert len(sizes) == levels + 1
    for level, here in enumerate(sizes):
        assert here == tuple(math.ceil(n / 2**level) for n in size)


@given(st.lists(st.integers(64, 300), min_size=1, max_size=3), st.lists(st.sampled_from([2, 4]), max_size=6))
def test_even_kernels_halve_and_round_down(size, kernels):
    for level, here in enumerate(halvings(tuple(size), tuple(kernels))):
        assert here == tuple(n // 2**level for n in size)


@given(st.integers(2, 90), st.sampled_from([2, 3, 4]))
def test_maps_have_the_sizes_that_torch_gives_them(n, kernel):
    (_, half) = halvings((n,), (kernel,))
    made = nn.Conv1d(1, 1, kernel, stride=2, padding=(kernel - 1) // 2)(torch.zeros(1, 1, n))
    assert made.shape[2:] == half


@given(st.integers(1, 60), st.integers(-2, 3), st.sampled_from([3, 4]))
def test_a_transposed_convolution_reaches_the_size_that_is_asked_for(small, more, kernel):
    large = max(1, 2 * small + more)
    if 2 * (small - 1) + kernel < large - 1:
        return  # beyond its reach
    padding, extra = padding_and_extra((small,), (large,), kernel)
    made = nn.ConvTranspose1d(1, 1, kernel, stride=2, padding=padding, output_padding=extra)(torch.zeros(1, 1, small))
    assert made.shape[2] == large


def test_halving_to_nothing_is_refused_with_the_size_that_is_needed():
    with pytest.raises(ConfigError, match=r"4 halvings leave nothing of 8 x 28; it takes images of 16 a side or more"):
        VAE(NetworkConfig(kind="paper_c"), 1, (8, 28))


@pytest.mark.parametrize("size", [(64,) * 3, (128,) * 3])
def test_dense_layers_on_a_large_volume_are_refused_before_they_are_allocated(size):
    """1200 units on two channels of 128 x 128 x 128: 19 GiB in one layer."""
    with pytest.raises(ConfigError, match=rf"{size[0]} x {size[0]} x {size[0]} would need a dense layer of {2 * size[0] ** 3:,} x 1,200"):
        VAE(NetworkConfig(kind="paper_b"), 2, size)
    assert 2 * 32**3 * 1200 < LARGEST_DENSE < 2 * 64**3 * 1200


def test_too_few_halvings_are_refused_for_the_decoder_too():
    with pytest.raises(ConfigError, match=r"dense layer of 4,194,304 x 128 weights, 2.0 GiB; halve them more often"):
        VAE(NetworkConfig(widths=(16,)), 1, (128,) * 3)
    with pytest.raises(ConfigError, match=r"dense layer of 128 x 4,194,304"):
        VAE(NetworkConfig(widths=(16,), pooling="mean"), 1, (128,) * 3)


def test_a_dense_network_has_the_layers_that_it_was_told():
    net = VAE(NetworkConfig(kind="dense", widths=(7, 6), hidden=5, u=1, v=3), 2, (4, 3), presence=True, inputs=2)
    encoder = [m for m in net.encoder.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in encoder] == [(24 + 2 + 2, 7), (7, 6), (6, 5), (5, 8)]
    decoder = [m for m in net.decoder.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in decoder] == [(4, 5), (5, 6), (6, 7), (7, 24)]
    assert net.hidden == 5
    z = torch.randn(500, 4)
    before = nn.Sequential(*list(net.decoder.hidden)[: list(net.decoder.hidden).index(decoder[-1])])
    torch.testing.assert_close(net.decode(z).flatten(1), decoder[-1](before(z)))  # nothing behind logits and means


@pytest.mark.parametrize("kind", ["conv", "dense", "resnet"])
def test_without_hidden_units_the_latents_are_read_from_the_last_map(kind):
    net = VAE(NetworkConfig(kind=kind, widths=(3, 5), hidden=0, u=1, v=1), 1, (8, 8))
    assert net.hidden == (5 if kind == "dense" else 5 * 2 * 2)
    assert net.features(torch.rand(2, 1, 8, 8)).shape == (2, net.hidden)
    assert net.decode(net.encode(torch.rand(2, 1, 8, 8)).loc).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("kind", ["conv", "resnet"])
def test_without_normalisation_images_do_not_see_each_other(kind):
    net = VAE(NetworkConfig(kind=kind, widths=(3, 5), norm="none"), 1, (8, 8)).train()
    images = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(net.encode(images).loc[:2], net.encode(images[:2]).loc)
