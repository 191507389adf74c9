"""What a trained network draws, for every method of the union."""

import pytest
import torch
from tiny import METHODS, NAMES, made_batch, made_pair
from torch.distributions import Normal

from copdvae.errors import ConfigError
from copdvae.generate import decode, drawing, sample_class, swap, traverse

every_method = pytest.mark.parametrize("kind", METHODS, ids=NAMES)
DRAW = [kind for kind in METHODS if kind.readout != "direct"]
every_decoder = pytest.mark.parametrize("kind", DRAW, ids=[NAMES[METHODS.index(kind)] for kind in DRAW])


def made(kind):
    """A network whose batch normalisation has seen images, in training mode as the loop leaves it."""
    net, objective = made_pair(kind())
    batch, other = made_batch(kind(), seed=1), made_batch(kind(), seed=2)
    for _ in range(30):
        objective.posterior(net, batch)
        net.decode(torch.randn(8, net.latents))
    return net, objective, batch, other


@every_decoder
def test_latents_are_decoded_one_by_one(kind):
    """As the network draws each by itself, whatever else is asked for, and in evaluation mode."""
    net, objective, _, _ = made(kind)
    z = torch.randn(70, net.latents)  # more than a chunk
    drawn = decode(net, objective, z)
    assert drawn.shape == (70, 2, 8, 8, 8)
    assert not drawn.requires_grad
    assert net.training
    assert objective.training
    net.eval()
    for k in (0, 63, 64, 69):
        torch.testing.assert_close(drawn[k], net.images(z[[k]])[0].detach(), atol=1e-5, rtol=1e-4)


@every_decoder
def test_a_traversal_moves_one_latent_and_leaves_the_others(kind):
    net, objective, _, _ = made(kind)
    z, values = torch.randn(net.latents), torch.tensor([-2.0, 0.5, 3.0])
    for latent in {0, net.u - 1, net.latents - 1}:  # of u and of v
        walked = traverse(net, objective, z, latent, values)
        by_hand = torch.stack([torch.cat([z[:latent], value[None], z[latent + 1 :]]) for value in values])
        torch.testing.assert_close(walked, decode(net, objective, by_hand))
        assert not torch.equal(walked[0], walked[2])
    for beyond in (-1, net.latents):
        with pytest.raises(ConfigError, match=f"there are {net.latents}"):
            traverse(net, objective, z, beyond, values)


@every_decoder
def test_swapping_gives_each_image_the_other_s_u_and_keeps_its_v(kind):
    net, objective, one, other = made(kind)
    net.eval()
    objective.eval()
    ours, theirs = (objective.posterior(net, batch).loc.detach() for batch in (one, other))
    first, second = swap(net, objective, one, other)
    torch.testing.assert_close(first, decode(net, objective, torch.cat([theirs[:, : net.u], ours[:, net.u :]], dim=1)))
    torch.testing.assert_close(second, decode(net, objective, torch.cat([ours[:, : net.u], theirs[:, net.u :]], dim=1)))
    same, _ = swap(net, objective, one, one)
    torch.testing.assert_close(same, decode(net, objective, ours))
    everything, _ = swap(net, objective, one, other, range(net.latents))
    torch.testing.assert_close(everything, decode(net, objective, theirs))


@every_decoder
def test_a_class_can_be_drawn_where_the_method_has_any(kind):
    """One class a discrete variable; other classes are other images, and the generator decides the rest."""
    net, objective, _, _ = made(kind)
    sizes = getattr(getattr(kind(), "labels", None), "sizes", ())
    classes = torch.zeros(3, max(1, len(sizes)), dtype=torch.long)
    if objective.class_prior(net, classes) is None:
        with pytest.raises(ConfigError, match="no classes"):
            sample_class(net, objective, classes, torch.Generator())
        return
    drawn, again = (sample_class(net, objective, classes, torch.Generator().manual_seed(1)) for _ in range(2))
    assert drawn.shape == (3, 2, 8, 8, 8)
    torch.testing.assert_close(drawn, again)
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn, sample_class(net, objective, classes + 1, torch.Generator().manual_seed(1)))


def test_a_class_is_drawn_from_its_own_place(monkeypatch):
    """A method of two classes whose latents lie at 3 and at -3, .1 wide."""
    net, objective, _, _ = made(METHODS[NAMES.index("vae")])

    def class_prior(net, classes):
        middle = torch.where(classes == 0, 3.0, -3.0).expand(-1, net.latents)
        return Normal(middle, torch.full_like(middle, 0.1))

    monkeypatch.setattr(objective, "class_prior", class_prior)
    seen = []
    monkeypatch.setattr(net, "images", lambda z: seen.append(z) or torch.zeros(len(z), 1))
    sample_class(net, objective, torch.tensor([[0], [1]]).repeat(200, 1), torch.Generator().manual_seed(0))
    z = torch.cat(seen)
    torch.testing.assert_close(z[::2].mean(dim=0), torch.full((net.latents,), 3.0), atol=0.05, rtol=0)
    torch.testing.assert_close(z[1::2].mean(dim=0), torch.full((net.latents,), -3.0), atol=0.05, rtol=0)
    assert float(z[::2].std(dim=0).mean()) == pytest.approx(0.1, abs=0.02)


@every_method
def test_a_method_that_trains_no_decoder_draws_nothing(kind):
    net, objective, one, other = made(kind)
    if kind.readout != "direct":
        with drawing(net, objective):
            return
    z = torch.zeros(1, net.latents)
    for draw in (
        lambda: decode(net, objective, z), lambda: traverse(net, objective, z[0], 0, z[0]), lambda: swap(net, objective, one, other),
        lambda: sample_class(net, objective, torch.zeros(1, 1, dtype=torch.long), torch.Generator()),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="trains no decoder"):
            draw()
