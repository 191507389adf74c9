"""The papers' networks against what their tables say, counted by hand. Shapes are worked out without memory, on torch's meta device."""

import math

import pytest
import torch
from torch import nn

from copdvae.errors import ConfigError
from copdvae.networks import VAE, NetworkConfig
from copdvae.networks.presets import PRESETS

NAMES = list(PRESETS)
IMAGES = [(28, 28), (32, 32), (64, 64), (100, 100), (218, 178)]
VOLUMES = [(32,) * 3, (48,) * 3, (64,) * 3, (96, 128, 128), (128,) * 3]


def made(kind, channels=1, size=(64, 64), device="cpu", **settings):
    with torch.device(device):
        return VAE(NetworkConfig.parse({"kind": kind, "u": 2, "v": 3} | settings), channels, size)


def weights(module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def reached(weight) -> bool:
    return weight.grad is not None and bool(weight.grad.abs().max() > 0)


def linears(module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in module.modules() if isinstance(m, nn.Linear)]


def convolutions(module) -> list[tuple[int, int, tuple[int, ...]]]:
    kinds = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    found = [m for m in module.modules() if isinstance(m, kinds)]
    assert all(set(m.stride) == {2} for m in found)
    return [(m.in_channels, m.out_channels, m.kernel_size) for m in found]


def maps(net, channels, size) -> list[tuple[int, ...]]:
    """The encoder's and the decoder's maps, in order."""
    seen = []
    for block in (*net.encoder.blocks, *net.decoder.blocks):
        block.register_forward_hook(lambda module, arguments, output: seen.append(tuple(output.shape[2:])))
    net.features(torch.zeros(1, channels, *size, device="meta"))
    net.decode(torch.zeros(1, net.latents, device="meta"))
    return seen


def refused(kind, channels, size) -> bool:
    """Five halvings of less than 32, and 1200 units on an image that makes them 1 GiB."""
    return min(size) < 32 if kind == "paper_d_celeba" else kind == "paper_b" and channels * math.prod(size) * 1200 > 2**28


@pytest.mark.parametrize("size", IMAGES + VOLUMES, ids=str)
@pytest.mark.parametrize("kind", ["conv", "resnet", *NAMES])
def test_every_network_gives_images_of_every_size_back(kind, size):
    for channels in (1, 2, 3):
        if refused(kind, channels, size):
            with pytest.raises(ConfigError):
                made(kind, channels, size, "meta")
            continue
        net, image = made(kind, channels, size, "meta").eval(), torch.zeros(2, channels, *size, device="meta")
        features = net.features(image)
        assert features.shape == (2, net.hidden)
        assert net.encoder.out(features).shape == (2, 2 * 5)
        assert net.decode(torch.zeros(2, 5, device="meta")).shape == (2, channels, *size)


@pytest.mark.parametrize("size", IMAGES + VOLUMES, ids=str)
@pytest.mark.parametrize("kind", ["conv", "resnet", *[name for name in NAMES if name != "paper_b"]])
def test_no_network_but_the_dense_one_grows_out_of_memory(kind, size):
    """200 MB of weights at most, up to 128 x 128 x 128, and no dense layer above half of it."""
    if refused(kind, 2, size):
        return
    net = made(kind, 2, size, "meta")
    assert weights(net) * 4 < 200e6
    assert max(a * b for a, b in linears(net)) * 4 < 100e6


@pytest.mark.parametrize("size", [(37, 45), (32,) * 3], ids=str)
@pytest.mark.parametrize("kind", [name for name in NAMES if name != "paper_b"])
def test_every_weight_gets_a_gradient_and_every_image_its_own_code(kind, size):
    torch.manual_seed(0)
    net, images = made(kind, 2, size), torch.rand(3, 2, *size)
    q = net.encode(images)
    net.likelihood.voxels(net.decode(q.rsample()), images).sum().backward()
    normalised = {f"encoder.blocks.{k}.conv.bias" for k in range(9)} | {f"decoder.blocks.{k}.conv.bias" for k in range(9)}
    for name, weight in net.named_parameters():
        if kind != "paper_c" or name not in normalised:  # a bias before instance normalisation has nothing to do
            assert reached(weight), name
    assert not torch.allclose(q.loc[0], q.loc[1], atol=1e-6)
    here, there = net.decode(5 * torch.randn(2, 5))
    assert not torch.allclose(here, there, atol=1e-6)


def test_paper_b_learns_from_every_pixel():
    torch.manual_seed(0)
    net, images = made("paper_b", 1, (28, 28)), torch.rand(3, 1, 28, 28)
    net.likelihood.voxels(net.decode(net.encode(images).rsample()), images).sum().backward()
    for name, weight in net.named_parameters():
        assert reached(weight), name


def test_paper_a_has_four_convolutions_and_one_dense_layer_each_way():
    net = made("paper_a", 1, (32, 32))
    assert len(convolutions(net.encoder)) == len(convolutions(net.decoder)) == 4
    assert linears(net.encoder) == [(256 * 2 * 2, 2 * 5)]
    assert linears(net.decoder) == [(5, 256 * 2 * 2)]
    assert len(convolutions(made("paper_a", 2, (64,) * 3).encoder)) == 4


def test_paper_b_has_two_dense_layers_of_1200_each_way():
    net = made("paper_b", 1, (64, 64), u=2, v=0)
    assert linears(net.encoder) == [(4096, 1200), (1200, 1200), (1200, 4)]
    assert linears(net.decoder) == [(2, 1200), (1200, 1200), (1200, 4096)]
    by_hand = (4096 * 1200 + 1200) + (1200 * 1200 + 1200) + (1200 * 4 + 4)
    assert weights(net.encoder) == by_hand == 6_362_404
    labelled = VAE(NetworkConfig(kind="paper_b", u=2, v=0), 1, (64, 64), inputs=8)
    assert linears(labelled.encoder)[0] == (4096 + 8, 1200), "labels go in beside the pixels"


def test_paper_c_is_table_d_2():
    net = made("paper_c", 3, (64, 64), u=6, v=5)
    assert convolutions(net.encoder) == [(3, 32, (4, 4)), (32, 32, (4, 4)), (32, 64, (2, 2)), (64, 64, (2, 2))]
    assert linears(net.encoder) == [(1024, 256), (256, 22)]
    assert linears(net.decoder) == [(11, 256), (256, 1024)]
    assert convolutions(net.decoder) == [(64, 64, (4, 4)), (64, 32, (4, 4)), (32, 32, (4, 4)), (32, 3, (4, 4))]
    normalised = [m for m in net.modules() if isinstance(m, nn.InstanceNorm2d)]
    assert [m.num_features for m in normalised] == [32, 32, 64, 64, 64, 32, 32]
    encoder = (3 * 32 * 16 + 32) + (32 * 32 * 16 + 32) + (32 * 64 * 4 + 64) + (64 * 64 * 4 + 64) + (1024 * 256 + 256) + (256 * 22 + 22)
    decoder = (11 * 256 + 256) + (256 * 1024 + 1024) + (64 * 64 * 16 + 64) + (64 * 32 * 16 + 32) + (32 * 32 * 16 + 32) + (32 * 3 * 16 + 3)
    assert (weights(net.encoder), weights(net.decoder)) == (encoder, decoder) == (310_742, 382_595)


def test_paper_d_s_mnist_network_is_table_3():
    net = made("paper_d_mnist", 1, (32, 32), u=10, v=6)
    assert convolutions(net.encoder) == [(1, 32, (4, 4)), (32, 64, (4, 4)), (64, 64, (4, 4))]
    assert linears(net.encoder) == [(1024, 256), (256, 32)]
    assert linears(net.decoder) == [(16, 256), (256, 1024)]
    assert convolutions(net.decoder) == [(64, 32, (4, 4)), (32, 32, (4, 4)), (32, 1, (4, 4))]
    decoder = (16 * 256 + 256) + (256 * 1024 + 1024) + (64 * 32 * 16 + 32) + (32 * 32 * 16 + 32) + (32 * 16 + 1)
    assert weights(net.decoder) == decoder == 317_249


def test_paper_d_s_dsprites_network_is_table_4_on_64_x_64():
    """Its 1,024 units fit an input of 64 x 64; the printed 32 x 32 would leave 256."""
    net = made("paper_d_dsprites", 1, (64, 64), u=1, v=5)
    assert convolutions(net.encoder) == [(1, 32, (4, 4)), (32, 32, (4, 4)), (32, 64, (4, 4)), (64, 64, (4, 4))]
    assert linears(net.encoder) == [(1024, 256), (256, 12)]
    assert linears(net.decoder) == [(6, 256), (256, 1024)]
    assert convolutions(net.decoder) == [(64, 64, (4, 4)), (64, 32, (4, 4)), (32, 32, (4, 4)), (32, 1, (4, 4))]
    assert linears(made("paper_d_dsprites", 1, (32, 32)).encoder)[0] == (256, 256)


def test_paper_d_s_celeba_network_is_table_5():
    net = made("paper_d_celeba", 3, (218, 178), "meta", u=8, v=10)
    encoder = [(3, 32), (32, 32), (32, 64), (64, 64), (64, 64)]
    decoder = [(64, 64), (64, 64), (64, 32), (32, 32), (32, 3)]
    assert convolutions(net.encoder) == [(*both, (4, 4)) for both in encoder]
    assert convolutions(net.decoder) == [(*both, (4, 4)) for both in decoder]
    assert linears(net.decoder) == [(18, 256), (256, 1600)]
    assert maps(net, 3, (218, 178))[5:] == [(12, 12), (26, 24), (54, 46), (108, 90), (218, 178)]
    steps = [m for m in net.decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [m.padding for m in steps] == [(0, 0), (0, 1), (0, 2), (1, 2), (0, 2)]
    assert {m.output_padding for m in steps} == {(0, 0)}


def test_a_volume_goes_through_the_same_layers():
    net = made("paper_c", 2, (64,) * 3, "meta")
    assert convolutions(net.encoder) == [(2, 32, (4,) * 3), (32, 32, (4,) * 3), (32, 64, (2,) * 3), (64, 64, (2,) * 3)]
    assert linears(net.encoder)[0] == (64 * 4**3, 256)


@pytest.mark.parametrize(
    ("kind", "convolved", "last"), [("paper_c", 5, 4), ("paper_d_mnist", 5, 4), ("paper_d_celeba", 5, 4), ("paper_a", 5, 4)]
)
def test_larger_images_than_the_paper_s_are_halved_more_often(kind, convolved, last):
    net = made(kind, 1, (128,) * 3, "meta")
    assert len(net.encoder.blocks) == len(net.decoder.blocks) == convolved
    assert maps(net, 1, (128,) * 3)[convolved - 1] == (last,) * 3


@pytest.mark.parametrize("kind", NAMES)
def test_a_configuration_says_what_the_paper_decides(kind):
    config = NetworkConfig.parse({"kind": kind})
    assert NetworkConfig.parse(config.plain()) == config
    assert config.norm == ("instance" if kind == "paper_c" else "none")
    widths = {"paper_c": (32, 32, 64, 64), "paper_d_mnist": (32, 64, 64), "paper_b": (1200,)}
    assert config.widths == widths.get(kind, config.widths)
    assert config.hidden == {"paper_a": 0, "paper_b": 1200}.get(kind, 256)
    for other in ({"widths": [1, 2]}, {"hidden": 7}, {"norm": "group"}, {"pooling": "mean"}, {"dropout": 0.5}):
        with pytest.raises(ConfigError, match=f"{kind} has {next(iter(other))}"):
            NetworkConfig.parse({"kind": kind} | other)


def test_a_kind_that_nobody_published_is_refused():
    with pytest.raises(ConfigError, match="paper_d_celeba"):
        NetworkConfig.parse({"kind": "paper_x"})
    with pytest.raises(ConfigError, match="kind"):
        NetworkConfig.parse({"kind": ["conv"]})


def test_one_voxel_is_not_normalised():
    """28 x 28 is 1 x 1 behind the four convolutions of paper C."""
    net = made("paper_c", 1, (28, 28)).train()
    one, other = net.encode(torch.rand(2, 1, 28, 28)).loc
    assert not torch.allclose(one, other, atol=1e-6)
