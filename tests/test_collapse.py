"""Made posteriors whose worth is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal

from copdvae.collapse import TELLING_NATS, constant_likelihood, nats_told, nothing_told, pairs_at_chance, spread_of
from copdvae.objectives.mixture_prior import MixturePrior
from copdvae.objectives.terms import gaussian_kl, pair_logit

N = 60
LINE = torch.linspace(-1, 1, N) * math.sqrt(3 * (N - 1) / (N + 1))  # mean 0, variance 1
BODY = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))  # v of an autoencoder or a VAE


def code(u, std, v_std=0.1) -> Normal:
    """Posteriors of one u, and three latents of v that tell subjects apart."""
    u = torch.as_tensor(u, dtype=torch.float32).expand(N)[:, None]
    widths = torch.cat([torch.as_tensor(std, dtype=torch.float32).expand(N)[:, None], torch.full((N, 3), v_std)], dim=1)
    return Normal(torch.cat([u, BODY], dim=1), widths, validate_args=False)


def of_u(q: Normal) -> str | None:
    return nothing_told(q, 1, True)


@pytest.mark.parametrize(("at", "std"), [(0.0, 0.2), (3.0, 0.2), (-40.0, 1e-3), (2.0, 1.0), (0.0, 5.0)])
def test_a_constant_is_found_wherever_it_lies_and_however_narrow_it_is(at, std):
    """Its KL from N(0, 1) is large: that is no help."""
    q = code(at, std)
    assert float(gaussian_kl(q)[:, 0].mean()) > 0.5
    assert of_u(q).startswith("u is nearly the same for all subjects: its means spread by 0 over them")
    assert "(0.000 nats a subject)" in of_u(q)
    assert of_u(code(at + 0.1 * std * LINE, std)) is not None


def test_a_constant_whose_width_alone_varies_is_found():
    """5-NN read means."""
    assert "nearly the same" in of_u(code(1.0, torch.logspace(-3, 1, N)))


def test_a_code_at_the_prior_is_found_and_called_so():
    assert of_u(code(0.01 * LINE, 0.99)).startswith("u stays at the prior: its KL is 0.000 nats a subject")
    assert of_u(code(torch.zeros(N), 1.0)).endswith("so it says next to nothing about the image")


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_an_informative_code_is_left_in_peace_in_any_unit_and_at_any_place(unit):
    for place in (0.0, 7.0):
        assert of_u(code(unit * (place + LINE), 0.3 * unit)) is None
        assert of_u(code(unit * (place + LINE), 2.0 * unit)) is None, "weak, and still read"


def test_a_rare_subject_with_a_sharp_posterior_is_enough_to_be_heard():
    """Half of the subjects at N(0, 1), the others told apart to a hundredth."""
    std = torch.where(torch.arange(N) % 2 == 0, 1.0, 0.01)
    assert of_u(code(torch.where(std < 1, 0.3 * LINE, torch.zeros(N)), std)) is None


def test_one_of_two_u_is_enough():
    both = Normal(torch.stack([torch.ones(N), LINE], dim=1), torch.full((N, 2), 0.3))
    assert nothing_told(both, 2, True) is None
    assert nothing_told(Normal(both.loc[:, [0, 0]], both.scale), 2, True) is not None


def test_a_deterministic_constant_is_found():
    for at in (0.0, 3.0, -1e4):
        said = of_u(code(at, 0.0, v_std=0.0))
        assert said.startswith("u is the same for all subjects: its values spread by 0, those of v by")
    noise = 1e-5 * torch.randn(N, generator=torch.Generator().manual_seed(1))
    assert of_u(code(3 + noise, 0.0, v_std=0.0)) is not None, "what v spreads by is a hundred thousand times as much"
    alone = Normal(3 + 1e-7 * BODY, torch.zeros(N, 3), validate_args=False)
    assert nothing_told(alone, 3, True) is not None, "there is no v: float32 rounds so"


def test_a_deterministic_code_that_varies_is_left_in_peace():
    assert of_u(code(LINE, 0.0, v_std=0.0)) is None
    assert of_u(code(500 + 0.1 * LINE, 0.0, v_std=0.0)) is None, "less than v, far from 0"
    assert nothing_told(Normal(1e-3 * BODY, torch.zeros(N, 3), validate_args=False), 3, True) is None
    assert nothing_told(Normal(BODY, torch.zeros(N, 3), validate_args=False), 1, False) is None


def test_a_mixture_prior_hides_no_constant_and_accuses_no_class():
    """Subjects whose posteriors are the very priors of their classes: no KL from the mixture, and well apart; all in one class: useless."""
    prior = MixturePrior(3, 1).of_each()
    mean, std = (value.detach()[:, 0] for value in (prior.loc, prior.scale))
    classes = torch.arange(N) % 3
    assert of_u(code(mean[classes], std[classes])) is None
    for one in range(3):
        assert of_u(code(mean[one], std[one])) is not None


def test_all_latents_are_asked_where_u_has_no_place():
    silent = Normal(torch.zeros(N, 4), torch.ones(N, 4))
    assert nothing_told(silent, 1, False) == (
        "every latent stays at the prior: the largest KL is 0.000 nats a subject, so none says anything of the image"
    )
    uneven = Normal(torch.tensor([0.1, 0.3, 0.0, 0.2]).expand(N, 4), silent.scale)
    assert "the largest KL is 0.045 nats" in nothing_told(uneven, 1, False), "half the square of .3"
    assert nothing_told(Normal(silent.loc + 2, silent.scale / 4), 1, False).startswith("every latent is nearly the same for all subjects")
    heard = silent.loc.clone()
    heard[:, 3] = LINE
    assert nothing_told(Normal(heard, silent.scale), 1, False) is None
    assert nothing_told(Normal(heard, silent.scale), 1, True) is not None, "by place it is v that speaks"


def test_what_is_not_a_number_is_found():
    u = LINE.clone()
    u[:3] = torch.nan
    assert of_u(code(u, 0.1)) == "u is not a number in 3 of 60 subjects"


def test_equal_widths_carry_what_a_gaussian_channel_does():
    """Shannon: log(1 + signal / noise) / 2."""
    mean, std = torch.stack([0.5 * LINE, 2 * LINE, 0 * LINE], dim=1).double(), torch.tensor([0.5, 0.1, 3.0]).double().expand(N, 3)
    by_hand = [0.5 * math.log(1 + 1), 0.5 * math.log(1 + 400), 0]
    np.testing.assert_allclose(nats_told(mean, std), by_hand, rtol=1e-5, atol=1e-9)
    at_the_edge = 0.5 * math.log(1 + 0.2**2)
    assert at_the_edge == pytest.approx(TELLING_NATS, rel=0.05)  # "a fifth of the posteriors' own deviation"
    points = nats_told(mean, torch.tensor([0.5, 0.0, 0.0]).double().expand(N, 3))
    assert points.tolist() == [pytest.approx(by_hand[0], rel=1e-5), math.inf, 0]


@given(seed=st.integers(0, 1000), at=st.floats(-5, 5), width=st.floats(0.05, 20))
def test_no_gaussian_prior_is_nearer_than_what_is_told(seed, at, width):
    """At most KL(q || N(at, width^2)), whatever these are: after shifting and scaling, N(0, 1)."""
    rng = torch.Generator().manual_seed(seed)
    mean, std = 3 * torch.randn(20, 1, generator=rng).double(), torch.randn(20, 1, generator=rng).double().exp()
    kl = gaussian_kl(Normal((mean - at) / width, std / width)).mean()
    assert float(nats_told(mean, std)) <= float(kl) + 1e-12


def test_the_spread_of_v_is_the_root_of_its_latents_mean_variance():
    assert spread_of(torch.stack([3 * LINE, 4 * LINE + 5], dim=1)) == pytest.approx(math.sqrt(12.5), rel=1e-5)
    assert spread_of(torch.zeros(N, 0)) == 0


def test_pairs_in_the_right_order_are_not_at_chance_however_sure_they_are():
    first, second = torch.triu_indices(N, N, 1)
    apart = (LINE[first] - LINE[second]) ** 2
    y = (-apart).exp()
    for steepness in (1.0, 10.0, 100.0):
        logit = pair_logit(2 * LINE[first, None], 2 * LINE[second, None], steepness, 2.0)
        assert pairs_at_chance(logit, y) is None
    shuffled = LINE[torch.randperm(N, generator=torch.Generator().manual_seed(3))]
    logit = pair_logit(2 * shuffled[first, None], 2 * shuffled[second, None], 10.0, 2.0)
    assert "below chance" in pairs_at_chance(logit, y)
    assert "at chance" in pairs_at_chance(torch.zeros(len(y)), torch.rand(len(y), generator=torch.Generator().manual_seed(4)))
    assert constant_likelihood(torch.full((5,), 0.5)) == pytest.approx(0)
