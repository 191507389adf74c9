import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from copdvae.metrics.chen_mig import chen_draws, chen_mig, densities, entropies_without, information_without, posterior_std
from copdvae.metrics.information import entropy

NO_BLOCK = -1  # the last row: nothing left out


@pytest.fixture
def rng():
    return np.random.default_rng(21)


def blocks(n):
    return np.arange(n) % 20


def mixture_information(centres, std):
    """I(z; t) of equally frequent classes N(centre, std^2), by quadrature."""
    z = np.linspace(min(centres) - 9 * std, max(centres) + 9 * std, 200_001)
    of_class = np.array([norm.pdf(z, c, std) for c in centres])
    q = of_class.mean(axis=0)
    return np.sum(np.mean(of_class * np.log(np.where(of_class > 0, of_class, 1) / np.where(of_class > 0, q, 1)), axis=0)) * (z[1] - z[0])


def test_densities_are_the_normal_ones_up_to_a_constant(rng):
    z, mean, std = rng.normal(size=(4, 2)), rng.normal(size=(3, 2)), rng.uniform(0.2, 2, (3, 2))
    by_hand = np.array([[multivariate_normal.pdf(a, m, np.diag(s**2)) for m, s in zip(mean, std, strict=True)] for a in z])
    np.testing.assert_allclose(densities(z, mean, std), by_hand * 2 * np.pi)


def test_information_is_chens_sum_by_hand_also_without_a_block(rng):
    n = 60
    mean, std, label = rng.normal(size=(n, 2)), rng.uniform(0.2, 0.6, (n, 2)), rng.integers(0, 3, n)
    other, draws, block = rng.permutation(label), chen_draws(n, 2, seed=3), blocks(n)
    found = information_without(mean, std, np.column_stack([label, other]), draws, block)
    for left_out in (NO_BLOCK, 0, 7, 19):
        for column, t in enumerate((label, other)):
            total, kept = [], [j for j in range(n) if block[j] != left_out]
            for i, noise in zip(draws.row, draws.noise, strict=True):
                if i not in kept:
                    continue
                density = {j: norm.pdf(mean[i] + std[i] * noise, mean[j], std[j]).prod() for j in kept}
                total.append(np.log(np.mean([density[j] for j in kept if t[j] == t[i]]) / np.mean(list(density.values()))))
            assert found[left_out, column] == pytest.approx(np.mean(total), abs=1e-12)


@pytest.mark.parametrize("std", [0.2, 0.5, 1.5])
def test_information_of_a_gaussian_mixture_is_that_of_quadrature(std, rng):
    """Every subject of a class has the same posterior, so q(z|t) is known exactly and nothing is biased."""
    label = np.arange(4_000) % 4
    found = information_without(label[:, None] * 1.0, np.full((4_000, 1), std), label[:, None], chen_draws(4_000, 1), blocks(4_000))
    assert found[NO_BLOCK, 0] == pytest.approx(mixture_information([0, 1, 2, 3], std), abs=0.05)


def test_posteriors_that_tell_classes_apart_hold_all_of_the_entropy_and_equal_ones_nothing():
    label = np.arange(500) % 10
    apart = chen_mig(label * 1.0, np.full(500, 0.01), np.zeros((500, 3)), np.ones((500, 3)), label)
    assert apart.plain.value == pytest.approx(1)
    assert apart.adjusted.value == pytest.approx(1)
    constant = chen_mig(np.zeros(500), np.ones(500), np.zeros((500, 3)), np.ones((500, 3)), label)
    assert constant.plain.value == pytest.approx(0, abs=1e-12)
    assert constant.adjusted.value == pytest.approx(0, abs=1e-12)


def test_a_copy_of_u_in_v_takes_the_gap_away_and_u_in_v_alone_turns_it_round(rng):
    label = np.arange(400) % 4
    u, u_std, idle = label + 0.3 * rng.normal(size=400), np.full(400, 0.4), np.zeros(400)
    ones = np.ones(400)
    alone = chen_mig(u, u_std, idle, ones, label)
    doubled = chen_mig(u, u_std, np.column_stack([idle, u]), np.column_stack([ones, u_std]), label)
    turned = chen_mig(idle, ones, u, u_std, label)
    assert alone.adjusted.value > 0.4
    assert doubled.adjusted.value == pytest.approx(0, abs=0.06)  # its own noise: the copy is drawn anew
    assert turned.adjusted.value == pytest.approx(-alone.adjusted.value, abs=0.06)
    twice = chen_mig(u, u_std, np.column_stack([u, u]), np.column_stack([u_std, u_std]), label)
    assert twice.adjusted.value == pytest.approx(0, abs=0.06), "the best of v counts, not their sum"


def test_order_of_v_shift_and_scale_do_not_matter(rng):
    label = np.arange(300) % 3
    mean, std = rng.normal(size=(300, 3)) + label[:, None] * [1, 0, 0.3], rng.uniform(0.2, 0.5, (300, 3))
    once = chen_mig(mean[:, 0], std[:, 0], mean[:, 1:], std[:, 1:], label)
    scaled = chen_mig(8 * mean[:, 0] + 3, 8 * std[:, 0], mean[:, 1:] / 4, std[:, 1:] / 4, label)
    assert scaled.plain == pytest.approx(once.plain)
    assert scaled.adjusted == pytest.approx(once.adjusted)
    assert scaled.posterior_std == pytest.approx(once.posterior_std)
    turned = chen_mig(mean[:, 0], std[:, 0], mean[:, :0:-1], std[:, :0:-1], label)
    assert turned.adjusted.value == pytest.approx(once.adjusted.value, abs=0.05)  # other noise for each latent


def test_narrow_posteriors_find_information_in_noise_and_adjusting_takes_it_off(rng):
    """Ten classes, d(u) = 2, posterior standard deviation .1 of a code that knows nothing, 500 subjects: about .4 of H."""
    found = []
    for seed in range(20):
        u, std = np.sqrt(1 - 0.1**2) * rng.normal(size=(500, 2)), np.full((500, 2), 0.1)
        found.append(chen_mig(u, std, np.zeros(500), np.ones(500), np.arange(500) % 10, seed=seed))
    assert np.mean([f.plain.value for f in found]) == pytest.approx(0.41, abs=0.05)
    assert abs(np.mean([f.adjusted.value for f in found])) < 0.02
    assert found[0].posterior_std == pytest.approx(0.1, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("n", [2_500, 10_000])
def test_adjusted_gap_of_independent_posteriors_is_within_two_hundredths_of_zero(n):
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        u, v = 0.95 * rng.normal(size=(n, 2)), 0.95 * rng.normal(size=n)
        found.append(chen_mig(u, np.full((n, 2), 0.3), v, np.full(n, 0.3), np.arange(n) % 10, permutations=3, seed=seed))
    assert abs(np.mean([f.adjusted.value for f in found])) < 0.02


def test_a_posterior_so_narrow_that_chance_tells_everything_has_no_adjusted_gap(rng):
    narrow = chen_mig(rng.normal(size=200), np.full(200, 1e-5), np.zeros(200), np.ones(200), np.arange(200) % 10)
    assert narrow.plain.value > 0.95
    assert np.isnan(narrow.adjusted.value)


def test_ten_separated_clusters_of_five_hundred_subjects_score_above_95_hundredths(rng):
    t = np.arange(500) % 10
    u = np.column_stack([t % 5, t // 5]) + 0.05 * rng.normal(size=(500, 2))
    v, v_std = 0.9 * rng.normal(size=(500, 4)), np.full((500, 4), 0.4)
    assert chen_mig(u, np.full((500, 2), 0.1), v, v_std, t).adjusted.value > 0.95


def test_interval_holds_the_score_and_its_width_is_the_spread_over_studies(rng):
    found = []
    for seed in range(30):
        label = np.arange(400) % 4
        u = label + rng.normal(size=400)
        v = rng.normal(size=(400, 2))
        found.append(chen_mig(u, np.full(400, 0.5), v, np.full((400, 2), 0.5), label, permutations=5, seed=seed).adjusted)
    values, low, high = np.array(found).T
    assert ((low < values) & (values < high)).all()
    assert np.mean(high - low) / 2 / 2.09 == pytest.approx(values.std(), rel=0.6)


def test_subjects_without_a_target_are_left_out_and_one_class_has_no_gap(rng):
    label, u, std = np.arange(100) % 4 * 1.0, rng.normal(size=100), np.full(100, 0.5)
    once = chen_mig(u, std, u, std, label)
    more = [np.append(a, a[:3]) for a in (u, std, u, std)]
    assert chen_mig(*more, np.append(label, [np.nan] * 3)) == once
    assert np.isnan(chen_mig(u, std, u, std, np.zeros(100)).plain.value)
    assert np.isnan(chen_mig(u[:30], std[:30], u[:30], std[:30], label[:30]).plain.low), "too few subjects for blocks of two"


def test_entropies_without_blocks_are_those_of_the_rest():
    label, block = np.array([0, 0, 1, 2] * 20), blocks(80)
    found = entropies_without(label, block)
    assert found[NO_BLOCK] == pytest.approx(entropy(label))
    assert found[3] == pytest.approx(entropy(label[block != 3]))


def test_posterior_standard_deviation_is_in_units_of_the_whole_code(rng):
    mean = rng.normal(size=(2_000, 2)) * [3, 4]
    assert posterior_std(mean, np.full((2_000, 2), [4.0, 3.0])) == pytest.approx((0.8 + 0.6) / 2, abs=0.02)
