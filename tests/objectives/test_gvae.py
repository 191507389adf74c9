import itertools
from dataclasses import replace

import pytest
import torch
from test_pairwise import loss_of
from tiny import NETWORK, made_batch, made_pair

from copdvae.objectives.gvae import GVAEConfig
from copdvae.objectives.ml_vae import MLVAEConfig
from copdvae.objectives.vae import VAEConfig

LAYOUTS = {2: [2, 0, 1, 1, 0, 2], 3: [0, 1, 1, 0, 1, 0]}


def grouped(size: int, repeated: bool = False):
    """Six images in groups of `size`, in no order; `repeated`: a group's members are one image."""
    batch = made_batch(VAEConfig())
    group = torch.tensor(LAYOUTS[size])
    image = batch.image[group] if repeated else batch.image
    return replace(batch, image=image, lung=image < 0.5, group=group)


def posterior_of_group(kind, means, variances):
    """Means and variances of a group's members, combined by the textbook: two numbers."""
    if kind is GVAEConfig:
        return sum(means) / len(means), sum(variances) / len(variances)
    precision = sum(1 / v for v in variances)
    return sum(m / v for m, v in zip(means, variances, strict=True)) / precision, 1 / precision


@pytest.mark.parametrize("kind", [GVAEConfig, MLVAEConfig])
@pytest.mark.parametrize(("u", "v"), [(1, 3), (2, 1), (3, 0)])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("group_kl", ["image", "group"])
def test_the_loss_is_the_paper_s_sum_in_plain_loops(kind, u, v, size, group_kl):
    method = kind(beta=3, group_kl=group_kl)
    network, batch = NETWORK.model_copy(update={"u": u, "v": v}), grouped(size)
    losses, _ = loss_of(method, batch, network=network)

    net, _ = made_pair(method, network)
    torch.manual_seed(5)
    q = net.encode(batch.image)
    mean, variance = q.loc.clone(), q.scale**2
    for i, d in itertools.product(range(6), range(u)):
        own = [k for k in range(6) if batch.group[k] == batch.group[i]]
        mean[i, d], variance[i, d] = posterior_of_group(kind, [q.loc[k, d] for k in own], [q.scale[k, d] ** 2 for k in own])
    kl = 0.5 * (mean**2 + variance - 1 - variance.log())
    kl_u = kl[:, :u].sum() / 6 if group_kl == "image" else sum(kl[LAYOUTS[size].index(g), :u].sum() for g in range(6 // size)) / 6
    z = mean + variance.sqrt() * torch.randn(mean.shape)
    rec = net.likelihood.voxels(net.decode(z), batch.image).sum() / 6
    expected = {"rec": rec, "kl_u": 3 * kl_u, "kl_v": 3 * kl[:, u:].sum() / 6}
    for name, value in expected.items():
        torch.testing.assert_close(losses.terms[name], value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses.by_player["model"], sum(expected.values()), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("u", [1, 4, 10])
@pytest.mark.parametrize("size", [2, 3])
def test_on_a_repeated_image_with_the_group_s_kl_counted_an_image_it_is_the_vae_exactly(u, size):
    batch, network = grouped(size, repeated=True), NETWORK.model_copy(update={"u": u, "v": 10 - u})
    plain, _ = loss_of(VAEConfig(), batch, network=network)
    ours, _ = loss_of(GVAEConfig(), batch, network=network)
    torch.testing.assert_close(ours.by_player["model"], plain.by_player["model"], rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.logs["kl_u"] + ours.logs["kl_v"], plain.logs["kl"], rtol=1e-5, atol=0)


@pytest.mark.parametrize("size", [2, 3])
def test_counted_once_a_group_the_group_s_kl_costs_each_image_its_share(size):
    batch = grouped(size)
    image, _ = loss_of(GVAEConfig(group_kl="image"), batch)
    group, _ = loss_of(GVAEConfig(group_kl="group"), batch)
    torch.testing.assert_close(group.terms["kl_u"], image.terms["kl_u"] / size)
    for same in ("rec", "kl_v"):
        assert group.terms[same] == image.terms[same]


def test_scores_take_each_image_by_itself():
    batch = grouped(2)
    net, objective = made_pair(GVAEConfig())
    net.eval()
    q = net.encode(batch.image, batch.present)
    torch.testing.assert_close(objective.posterior(net, batch).loc, q.loc)
    assert not torch.equal(q.loc[batch.group == 0][0], q.loc[batch.group == 0][1])
