import math

import pytest
import torch
from pydantic import ValidationError
from scipy import integrate
from torch.distributions import Bernoulli, Laplace, Normal

from copdvae.networks.likelihood import Likelihood, LikelihoodConfig

SCALE = 0.3


def truth(kind, decoded):
    return {"gaussian": Normal(decoded, SCALE), "l1": Laplace(decoded, SCALE), "bernoulli": Bernoulli(logits=decoded)}[kind]


@pytest.mark.parametrize("kind", ["gaussian", "l1", "bernoulli"])
def test_each_voxel_costs_its_negative_log_density(kind):
    decoded, x = torch.randn(3, 2, 4, 5), torch.rand(3, 2, 4, 5)
    if kind == "bernoulli":
        x = x.round()
    found = Likelihood(LikelihoodConfig(kind=kind, scale=SCALE)).voxels(decoded, x)
    assert found.shape == x.shape
    torch.testing.assert_close(found, -truth(kind, decoded).log_prob(x))


@pytest.mark.parametrize("kind", ["gaussian", "l1"])
def test_densities_integrate_to_one(kind):
    likelihood = Likelihood(LikelihoodConfig(kind=kind, scale=SCALE)).double()

    def density(x):
        return math.exp(-float(likelihood.voxels(torch.tensor(0.4, dtype=torch.double), torch.tensor(x, dtype=torch.double))))

    assert integrate.quad(density, -9, 9, points=[0.4])[0] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", ["gaussian", "l1"])
def test_a_learned_scale_finds_the_scale_of_the_errors(kind):
    likelihood = Likelihood(LikelihoodConfig(kind=kind, scale="learned", initial=0.5))
    assert [name for name, _ in likelihood.named_parameters()] == ["log_scale"]
    errors = truth(kind, torch.zeros(20_000)).sample()
    optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        likelihood.voxels(torch.zeros(20_000), errors).mean().backward()
        optimizer.step()
    assert float(likelihood.log_scale.detach().exp()) == pytest.approx(SCALE, rel=0.05)


def test_a_fixed_scale_is_no_weight_and_bernoulli_has_none():
    assert not list(Likelihood(LikelihoodConfig()).parameters())
    assert not list(Likelihood(LikelihoodConfig(kind="bernoulli", scale="learned")).parameters())


@pytest.mark.parametrize("scale", [0, -1])
def test_a_scale_is_positive(scale):
    with pytest.raises(ValidationError, match="scale"):
        LikelihoodConfig(scale=scale)


def test_extreme_logits_and_images_cost_finite_nats():
    likelihood = Likelihood(LikelihoodConfig(kind="bernoulli"))
    decoded = torch.tensor([-1e4, 1e4, -1e4, 1e4], requires_grad=True)
    cost = likelihood.voxels(decoded, torch.tensor([0.0, 0.0, 1.0, 1.0]))
    cost.sum().backward()
    torch.testing.assert_close(cost.detach(), torch.tensor([0.0, 1e4, 1e4, 0.0]))
    assert decoded.grad.isfinite().all()
