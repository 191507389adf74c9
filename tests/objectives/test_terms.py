import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, optimize
from tiny import NETWORK, made_batch, made_net
from torch.distributions import Normal

from copdvae.networks.likelihood import LikelihoodConfig
from copdvae.objectives.base import Batch
from copdvae.objectives.terms import (
    gaussian_kl,
    log_continuous_bernoulli_constant,
    pair_log_likelihood,
    pair_logit,
    reconstruction,
    squared_error,
)
from copdvae.objectives.vae import VAEConfig

finite = st.floats(-5, 5)


@given(mean=finite, log_std=finite, dim=st.integers(1, 4))
def test_gaussian_kl_is_the_textbook_formula(mean, log_std, dim):
    mean = torch.full((2, dim), mean, dtype=torch.double)
    std = torch.full_like(mean, log_std).exp()
    by_hand = 0.5 * (std**2 + mean**2 - 1) - std.log()
    torch.testing.assert_close(gaussian_kl(Normal(mean, std)), by_hand)
    torch.testing.assert_close(gaussian_kl(Normal(mean, std)), torch.distributions.kl_divergence(Normal(mean, std), Normal(0, 1)))


def test_gaussian_kl_is_the_mean_log_ratio_of_a_large_sample():
    q, prior = Normal(torch.tensor([0.7, -1.0]), torch.tensor([0.4, 1.5])), Normal(0.0, 1.0)
    torch.manual_seed(0)
    z = q.sample((200_000,))
    torch.testing.assert_close(gaussian_kl(q), (q.log_prob(z) - prior.log_prob(z)).mean(dim=0), atol=0.02, rtol=0)


def test_gaussian_kl_is_0_at_the_prior_and_finite_at_the_ends_of_the_range():
    assert float(gaussian_kl(Normal(torch.zeros(1, 1), torch.ones(1, 1)))) == 0
    far = gaussian_kl(Normal(torch.tensor([[1e4, -1e4]]), torch.tensor([[math.exp(-6), math.exp(3)]])))
    assert far.isfinite().all()


LOGITS = [0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.0999, 0.1, 0.1001, 0.5, 1, 3, 10, 30, 50]


@pytest.mark.parametrize("a", [*LOGITS, *[-a for a in LOGITS[1:]]])
def test_the_pair_density_integrates_to_one(a):
    """Eq. 3 and 4 by numeric integration over y in [0, 1]."""

    def density(y):
        return float(pair_log_likelihood(torch.tensor([a], dtype=torch.double), torch.tensor([y], dtype=torch.double)).exp())

    assert integrate.quad(density, 0, 1, limit=200, epsabs=1e-12)[0] == pytest.approx(1, abs=1e-7)


@given(st.floats(-15, 15), st.floats(0, 1))
def test_the_pair_density_is_equation_3_and_4(a, y):
    g = 1 / (1 + math.exp(-a))
    constant = (2 * g - 1) / (math.log(g) - math.log1p(-g)) if abs(a) > 1e-3 else 0.5  # Eq. 4; its limit where it is 0 / 0
    by_hand = -y * math.log1p(math.exp(-a)) - (1 - y) * math.log1p(math.exp(a)) - math.log(constant)
    found = float(pair_log_likelihood(torch.tensor([a], dtype=torch.double), torch.tensor([y], dtype=torch.double)))
    assert found == pytest.approx(by_hand, abs=1e-6)


def test_binary_similarities_have_probabilities_that_sum_to_one():
    a = torch.linspace(-40, 40, 81)
    ends = [pair_log_likelihood(a, torch.full_like(a, y), binary=True).exp() for y in (0.0, 1.0)]
    torch.testing.assert_close(ends[0] + ends[1], torch.ones_like(a))
    torch.testing.assert_close(ends[1], torch.sigmoid(a))


@pytest.mark.parametrize("a", [1e-6, -1e-6, 1e-4, -1e-4, 0.0999, 0.1001, 1.0, -7.0])
def test_the_gradient_in_float32_is_that_of_high_precision(a):
    """d log C / da = 1 / sinh(a) - 1 / a; near 0: -a / 6. The quotient of Eq. 4 has a gradient of 1e5 there in float32."""
    exact = 1 / np.sinh(np.longdouble(a)) - 1 / np.longdouble(a) if abs(a) > 1e-2 else -a / 6 + 7 * a**3 / 360
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([a], dtype=dtype, requires_grad=True)
        log_continuous_bernoulli_constant(x).sum().backward()
        assert float(x.grad) == pytest.approx(float(exact), rel=1e-4 if dtype == torch.float64 else 2e-3)


@pytest.mark.parametrize("y", [0.0, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("a", [1e-6, -1e-6, 1e-4, -1e-4])
def test_the_whole_pair_term_has_the_gradient_of_float64_near_a_logit_of_0(a, y):
    """d log p / da = y - sigmoid(a) - (1 / sinh(a) - 1 / a), whose last part is -a / 6; at y = 1/2 all but a twelfth of `a` cancels."""
    exact = y - 1 / (1 + math.exp(-a)) + a / 6 - 7 * a**3 / 360
    for dtype, tolerance in ((torch.float32, 1e-7), (torch.float64, 1e-14)):
        x = torch.tensor([a], dtype=dtype, requires_grad=True)
        pair_log_likelihood(x, torch.tensor([y], dtype=dtype)).sum().backward()
        assert float(x.grad) == pytest.approx(exact, abs=tolerance)


def test_series_and_closed_form_meet_at_their_border():
    a = torch.linspace(0.09, 0.11, 201, dtype=torch.double)
    torch.testing.assert_close(log_continuous_bernoulli_constant(a), torch.log(torch.tanh(a / 2) / a), atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("eta1", "y", "squared_distance"), [(1000, 0.1, 2.01), (1000, 0.9, 1.99), (10, 0.1, 3.0), (10, 0.5, 2.0), (10, 0.9, 1.0)]
)
def test_the_most_likely_squared_distance_is_known(eta1, y, squared_distance):
    def cost(squared):
        u = torch.tensor([[math.sqrt(squared)]], dtype=torch.double)
        return -float(pair_log_likelihood(pair_logit(u, 0 * u, eta1, 2.0).double(), torch.tensor([y], dtype=torch.double)))

    best = optimize.minimize_scalar(cost, bounds=(0, 4), method="bounded", options={"xatol": 1e-6}).x
    assert best == pytest.approx(squared_distance, abs=0.005 if eta1 == 1000 else 0.01)


def test_the_logit_falls_with_the_distance_over_all_dimensions_of_u():
    first, second = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[4.0, 6.0], [0.0, 0.0]])
    torch.testing.assert_close(pair_logit(first, second, eta1=10, eta2=2), torch.tensor([10 * (2 - 25.0), 20.0]))
    torch.testing.assert_close(pair_logit(second, first, eta1=10, eta2=2), pair_logit(first, second, eta1=10, eta2=2))


@pytest.mark.parametrize("binary", [False, True])
def test_extreme_pairs_have_finite_likelihoods_and_gradients(binary):
    u = torch.tensor([[0.0], [0.0], [1e-8], [math.sqrt(2)], [1e3], [-1e3]], requires_grad=True)
    first, second = torch.cartesian_prod(torch.arange(6), torch.arange(6)).unbind(1)
    for y in (0.0, 0.5, 1.0):
        a = pair_logit(u[first], u[second], eta1=1000, eta2=2)
        value = pair_log_likelihood(a, torch.full_like(a, y), binary)
        (gradient,) = torch.autograd.grad(value.sum(), u)
        assert value.isfinite().all()
        assert gradient.isfinite().all()


def test_pair_terms_are_float32_under_bf16_autocast():
    u = torch.tensor([[2.0], [0.59]])
    with torch.autocast("cpu", torch.bfloat16):
        a = pair_logit(u[:1], u[1:], eta1=1000, eta2=2)
        value = pair_log_likelihood(a, torch.tensor([0.4]))
    assert a.dtype == value.dtype == torch.float32
    assert float(a) == pytest.approx(1000 * (2 - 1.41**2), abs=0.01)


def closed_form(kind, decoded, x):
    if kind == "gaussian":
        return 0.5 * ((x - decoded) / 0.1) ** 2 + math.log(0.1) + 0.5 * math.log(2 * math.pi)
    if kind == "l1":
        return (x - decoded).abs() / 0.1 + math.log(2 * 0.1)
    return -(x * torch.sigmoid(decoded).log() + (1 - x) * torch.sigmoid(-decoded).log())


@pytest.mark.parametrize("kind", ["gaussian", "l1", "bernoulli"])
def test_reconstruction_is_a_sum_over_voxels_an_image(kind):
    net = made_net(NETWORK.model_copy(update={"likelihood": LikelihoodConfig(kind=kind, scale=0.1)})).eval()
    batch, z = made_batch(VAEConfig()), torch.randn(6, 10)
    rec, rec_lung = reconstruction(net, z, batch)
    voxels = closed_form(kind, net.decode(z), batch.image)
    assert rec.shape == rec_lung.shape == (6,)
    torch.testing.assert_close(rec, torch.stack([image.sum() for image in voxels]), rtol=1e-4, atol=1e-2)
    inside = torch.stack([image[lung].sum() for image, lung in zip(voxels, batch.lung, strict=True)])
    torch.testing.assert_close(rec_lung, inside, rtol=1e-4, atol=1e-2)


def test_a_channel_that_was_not_scanned_costs_nothing():
    net, z, batch = made_net().eval(), torch.randn(6, 10), made_batch(VAEConfig())
    present = torch.ones(6, 2)
    present[2, 1] = 0
    absent = Batch(batch.image, batch.lung, present)
    other = batch.image.clone()
    other[2, 1] = 123.0
    whole, part = reconstruction(net, z, batch)[0], reconstruction(net, z, absent)[0]
    torch.testing.assert_close(reconstruction(net, z, Batch(other, batch.lung, present))[0], part)
    torch.testing.assert_close(part[torch.arange(6) != 2], whole[torch.arange(6) != 2])
    first_alone = closed_form("gaussian", net.decode(z), batch.image)[2, 0].sum()
    torch.testing.assert_close(part[2], first_alone, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("config", [{}, {"kind": "l1"}, {"scale": "learned"}, {"kind": "bernoulli"}], ids=str)
def test_the_squared_error_is_a_gaussian_s_nats_but_for_a_constant_whatever_the_likelihood_is(config):
    """A standard deviation of 1 / sqrt(2); a channel that was not scanned costs nothing; inside the lungs, too."""
    batch, z = made_batch(VAEConfig()), torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    present = torch.ones(6, 2)
    present[2, 1] = 0
    batch = Batch(batch.image, batch.lung, present)
    net = made_net(NETWORK.model_copy(update={"likelihood": LikelihoodConfig.parse(config)}))
    plain = made_net(NETWORK.model_copy(update={"likelihood": LikelihoodConfig(scale=0.5**0.5)}))  # the same weights
    if config.get("kind") == "bernoulli":
        decode = plain.decode
        plain.decode = lambda z: decode(z).sigmoid()
    for found, nats, voxels in zip(
        squared_error(net, z, batch), reconstruction(plain, z, batch),
        ((present.sum(dim=1) * 512), (batch.lung.flatten(2).sum(dim=2) * present).sum(dim=1)), strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(found, nats - voxels * 0.5 * math.log(math.pi), rtol=1e-4, atol=1e-2)
