import pytest
import torch
from tiny import made_pair
from torch.distributions import Normal

from copdvae.objectives.ada_ml_vae import AdaMLVAEConfig


@pytest.mark.parametrize(("variant", "variance"), [("fixed", 0.8), ("strict", 1.6)])
def test_the_shared_posterior_is_the_product_and_strict_has_twice_its_variance(variant, variance):
    method = AdaMLVAEConfig(variant=variant)
    objective = method.build(made_pair(method)[0], 4)
    shared = objective.combine(Normal(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [2.0]])), torch.tensor([0, 0]))
    torch.testing.assert_close(shared.loc, torch.full((2, 1), 0.2))
    torch.testing.assert_close(shared.variance, torch.full((2, 1), variance))
