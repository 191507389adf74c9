import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import METHODS, NAMES, NETWORK, made_batch, made_cohort, made_net, run_config
from torch.distributions import Normal, kl_divergence

from copdvae.errors import ConfigError
from copdvae.objectives.group_posterior import (
    averaged,
    first_to_second,
    group_mean,
    joined,
    members_of_pairs,
    normal_kl,
    pair_kl,
    product,
)
from copdvae.objectives.vae import VAEConfig
from copdvae.train import Run

GROUP = torch.tensor([1, 0, 1, 2, 0, 2, 1])  # of three, two and two members, in no order
PAIRS = torch.tensor([2, 0, 1, 1, 0, 2])
GROUP_METHODS = ("gvae", "ml_vae", "group_tcvae", "ada_gvae", "ada_ml_vae")
PAIR_METHODS = ("group_tcvae", "ada_gvae", "ada_ml_vae")
dims = st.integers(1, 4)


def some_normal(rows: int, dim: int, seed: int = 0) -> Normal:
    rng = torch.Generator().manual_seed(seed)
    return Normal(torch.randn(rows, dim, generator=rng).double(), torch.randn(rows, dim, generator=rng).double().exp())


def members(row: int) -> list[int]:
    return [k for k in range(len(GROUP)) if GROUP[k] == GROUP[row]]


@given(dim=dims, seed=st.integers(0, 20))
def test_averaged_is_the_mean_of_means_and_of_variances(dim, seed):
    q = some_normal(7, dim, seed)
    shared = averaged(q, GROUP)
    for row in range(7):
        for d in range(dim):
            own = members(row)
            torch.testing.assert_close(shared.loc[row, d], sum(q.loc[k, d] for k in own) / len(own))
            torch.testing.assert_close(shared.variance[row, d], sum(q.scale[k, d] ** 2 for k in own) / len(own))


@given(dim=dims, seed=st.integers(0, 20))
def test_product_is_the_density_that_is_proportional_to_the_members_product(dim, seed):
    """At any two points, the difference of log densities is the sum of the members' differences."""
    q = some_normal(7, dim, seed)
    shared = product(q, GROUP)
    one, other = some_normal(2, dim, seed + 100).loc
    for row in range(7):
        by_members = sum(Normal(q.loc[k], q.scale[k]).log_prob(one) - Normal(q.loc[k], q.scale[k]).log_prob(other) for k in members(row))
        own = Normal(shared.loc[row], shared.scale[row])
        torch.testing.assert_close(own.log_prob(one) - own.log_prob(other), by_members)


def test_product_of_two_has_their_product_over_their_sum_as_its_variance_and_not_twice_that():
    q = Normal(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [2.0]]))
    shared = product(q, torch.tensor([0, 0]))
    torch.testing.assert_close(shared.variance, torch.full((2, 1), 1 * 4 / (1 + 4)))
    torch.testing.assert_close(shared.loc, torch.full((2, 1), 0.2))  # four times as near to the surer member
    grid = torch.linspace(-12, 12, 20_001, dtype=torch.double)
    density = (Normal(0.0, 1.0).log_prob(grid) + Normal(1.0, 2.0).log_prob(grid)).exp()
    mean = (grid * density).sum() / density.sum()
    variance = ((grid - mean) ** 2 * density).sum() / density.sum()
    torch.testing.assert_close(torch.stack([mean, variance]), torch.tensor([0.2, 0.8]).double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_repeated_member_leaves_the_average_alone_and_sharpens_the_product(size):
    q = Normal(torch.full((size, 2), 0.7), torch.full((size, 2), 0.6))
    group = torch.zeros(size, dtype=torch.long)
    torch.testing.assert_close(averaged(q, group).loc, q.loc)
    torch.testing.assert_close(averaged(q, group).scale, q.scale)
    torch.testing.assert_close(product(q, group).loc, q.loc)
    torch.testing.assert_close(product(q, group).scale, q.scale / size**0.5)


@pytest.mark.parametrize("combine", [averaged, product])
def test_a_group_s_posterior_does_not_depend_on_the_order_or_number_of_its_members_rows(combine):
    q, order = some_normal(7, 3), torch.tensor([4, 6, 0, 2, 5, 1, 3])
    there = combine(Normal(q.loc[order], q.scale[order]), (GROUP + 1).remainder(3)[order])
    here = combine(q, GROUP)
    torch.testing.assert_close(there.loc, here.loc[order])
    torch.testing.assert_close(there.scale, here.scale[order])


def test_a_group_s_mean_is_as_precise_under_bf16_autocast():
    values = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    exact = group_mean(values, GROUP)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(group_mean(values, GROUP), exact, rtol=0, atol=0)


@given(dim=dims, seed=st.integers(0, 20))
def test_kl_of_a_pair_is_the_textbook_s_in_both_directions(dim, seed):
    q = some_normal(6, dim, seed)
    symmetric, one_way = pair_kl(q, PAIRS), first_to_second(q, PAIRS)
    for pair, (i, j) in enumerate([(1, 4), (2, 3), (0, 5)]):  # pairs 0, 1, 2
        first, second = Normal(q.loc[i], q.scale[i]), Normal(q.loc[j], q.scale[j])
        torch.testing.assert_close(one_way[pair], kl_divergence(first, second))
        torch.testing.assert_close(symmetric[pair], kl_divergence(first, second) + kl_divergence(second, first))


def test_kl_is_the_integral_that_defines_it():
    p, q = Normal(0.3, 0.8), Normal(-0.5, 1.7)
    grid = torch.linspace(-12, 12, 100_001, dtype=torch.double)
    integral = torch.trapezoid(p.log_prob(grid).exp() * (p.log_prob(grid) - q.log_prob(grid)), grid)
    torch.testing.assert_close(normal_kl(p, q).double(), integral, rtol=1e-5, atol=1e-6)


def test_every_image_is_one_member_of_its_pair():
    first, second = members_of_pairs(PAIRS)
    assert (PAIRS[first] == PAIRS[second]).all()
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(6))


def test_joined_takes_the_shared_posterior_only_where_it_is_told_to():
    q, shared = some_normal(3, 2), some_normal(3, 2, seed=1)
    where = torch.tensor([[True, False], [False, False], [True, True]])
    mixed = joined(q, shared, where)
    for row in range(3):
        for d in range(2):
            source = shared if where[row, d] else q
            assert (mixed.loc[row, d], mixed.scale[row, d]) == (source.loc[row, d], source.scale[row, d])


@pytest.mark.parametrize("term", ["averaged", "product", "pair_kl", "first_to_second"])
@pytest.mark.parametrize("dim", [1, 3])
def test_gradients_are_those_of_finite_differences(term, dim):
    def value(mean, log_scale):
        q = Normal(mean, log_scale.exp(), validate_args=False)
        if term in ("pair_kl", "first_to_second"):
            return (pair_kl if term == "pair_kl" else first_to_second)(q, PAIRS)
        shared = (averaged if term == "averaged" else product)(q, PAIRS)
        return torch.cat([shared.loc, shared.scale])

    q = some_normal(6, dim)
    assert torch.autograd.gradcheck(value, (q.loc.clone().requires_grad_(), q.scale.log().requires_grad_()))


@pytest.mark.parametrize("name", GROUP_METHODS)
def test_a_batch_without_groups_is_an_error_that_says_so(name):
    method = METHODS[NAMES.index(name)]()
    net = made_net(NETWORK)
    with pytest.raises(ValueError, match="needs groups, and this batch has none"):
        method.build(net, 4)(net, made_batch(VAEConfig()), 0)


@pytest.mark.parametrize("name", GROUP_METHODS)
@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("fev1_pp", "different values in .* subjects; groups need classes"),
        ("stage", "stage not in the table"),
        ("alone", "no class of alone"),
    ],
)
def test_supervision_that_says_of_nobody_who_is_alike_is_refused_before_training(name, column, words, tmp_path):
    cohort = made_cohort()
    cohort.labels["alone"] = [1.0, 2.0] + [float("nan")] * (len(cohort.labels) - 2)
    config = run_config({"method": name, "groups": {"column": column}})
    with pytest.raises(ConfigError, match=words):
        Run(cohort, config, tmp_path)


@pytest.mark.parametrize("name", GROUP_METHODS)
def test_a_group_of_one_is_refused_and_more_than_a_pair_where_only_pairs_are_defined(name):
    with pytest.raises(ConfigError, match="size"):
        run_config({"method": name, "groups": {"size": 1}})
    if name in PAIR_METHODS:
        with pytest.raises(ConfigError, match="told pairs: size must be 2, found 3"):
            run_config({"method": name, "groups": {"size": 3}})
    else:
        assert run_config({"method": name, "groups": {"size": 3}}).method.groups.size == 3


def test_an_unknown_class_is_in_no_group(tmp_path):
    """Subjects without a stage cost nothing: they are never drawn."""
    cohort = made_cohort(100)
    told = cohort.labels["gold"].where(pd.Series(range(len(cohort.labels)), index=cohort.labels.index) % 4 != 0)
    cohort.labels["gold"] = told
    run = Run(cohort, run_config("gvae"), tmp_path)
    rows = cohort.rows("train")
    drawn = {rows[k] for own in run.batches.groups.members for k in own}
    assert drawn
    assert told.iloc[sorted(drawn)].notna().all()
