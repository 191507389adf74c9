import numpy as np
import pytest
from codes import labelled
from scipy.stats import norm
from sklearn.metrics import mutual_info_score

from copdvae.metrics.grouped_mig import grouped_mig, grouped_mig_interval
from copdvae.metrics.information import bins_for, cut_at_deciles, entropy, equal_width


@pytest.mark.parametrize("adjusted", [False, True])
def test_grouped_mig_of_constant_perfect_and_duplicated_codes(adjusted, rng):
    target, perfect, noise = labelled(rng, n=3_000)
    u = perfect
    assert grouped_mig(np.zeros_like(u), np.zeros_like(noise), target, adjusted=adjusted) == pytest.approx(0, abs=1e-12)
    assert grouped_mig(u, noise, target, adjusted=adjusted) == pytest.approx(1, abs=0.03)
    assert grouped_mig(u, np.hstack([noise, perfect]), target, adjusted=adjusted) == pytest.approx(0, abs=1e-12)
    assert grouped_mig(noise[:, :1], perfect, target, adjusted=adjusted) < -0.95


@pytest.mark.parametrize("adjusted", [False, True])
def test_grouped_mig_ignores_order_scale_and_shift_of_latents(adjusted, rng):
    target, perfect, noise = labelled(rng)
    u = perfect + rng.normal(size=perfect.shape)
    once = grouped_mig(u, noise, target, adjusted=adjusted)
    assert grouped_mig(4 * u + 64, noise[:, ::-1] * 0.5, target, adjusted=adjusted) == pytest.approx(once)
    assert 0.1 < once < 0.8
    order = rng.permutation(len(u))
    assert grouped_mig(u[order], noise[order], target[order], adjusted=False) == pytest.approx(
        grouped_mig(u, noise, target, adjusted=False)
    )


def test_plain_grouped_mig_is_equation_8_by_hand(rng):
    target, perfect, noise = labelled(rng, n=900)
    u = perfect + rng.normal(size=(900, 2))
    codes = equal_width(u, bins_for(900, 2))
    of_v = max(mutual_info_score(column, target) for column in equal_width(noise, 20).T)
    expected = (mutual_info_score(codes[:, 0] * 100 + codes[:, 1], target) - of_v) / entropy(target)
    assert grouped_mig(u, noise, target, adjusted=False) == pytest.approx(expected)


@pytest.mark.parametrize(("d_u", "d_v", "plain_is"), [(1, 0, "positive"), (2, 0, "positive"), (0, 8, "negative"), (2, 8, "either")])
def test_adjusted_grouped_mig_of_independent_codes_is_zero_on_average(d_u, d_v, plain_is, rng):
    """A spread of .02 over 40 studies: the mean's standard error is about .003. No dimension: a constant code."""
    found, plain = [], []
    for trial in range(40):
        u, v, target = rng.normal(size=(500, d_u)), rng.normal(size=(500, d_v)), np.arange(500) % 10
        u, v = u if d_u else np.zeros((500, 1)), v if d_v else np.zeros((500, 1))
        found.append(grouped_mig(u, v, target, seed=trial))
        plain.append(grouped_mig(u, v, target, adjusted=False))
    assert np.mean(found) == pytest.approx(0, abs=0.012)
    assert plain_is == "either" or {"positive": 1, "negative": -1}[plain_is] * np.mean(plain) > 0.05


def test_adjusting_by_permutation_leaves_a_good_code_good(rng):
    """Subtracting chance without dividing by what is left would turn a good code on few subjects into a poor one."""
    target, perfect, noise = labelled(rng, n=300, classes=10)
    assert grouped_mig(perfect, noise, target) == pytest.approx(1, abs=0.08)


def test_grouped_mig_leaves_out_subjects_without_a_target_and_an_empty_v(rng):
    target, perfect, noise = labelled(rng, n=400)
    missing = np.r_[target.astype(float), [np.nan] * 50]
    more = rng.normal(size=(50, 1))
    assert grouped_mig(np.r_[perfect, more], np.r_[noise, rng.normal(size=(50, 8))], missing) == grouped_mig(perfect, noise, target)
    assert grouped_mig(perfect, np.empty((400, 0)), target) == pytest.approx(1)
    assert np.isnan(grouped_mig(perfect, noise, np.zeros(400)))


def test_interval_holds_the_estimate_and_its_width_is_the_spread_over_studies(rng):
    found = []
    for trial in range(30):
        target, perfect, noise = labelled(rng)
        found.append(grouped_mig_interval(perfect + rng.normal(size=perfect.shape), noise, target, permutations=20, seed=trial))
    values, low, high = np.array(found).T
    assert ((low < values) & (values < high)).all()
    assert np.mean(high - low) / 2 / 2.09 == pytest.approx(values.std(), rel=0.6)
    assert found[0].value == pytest.approx(np.mean(values), abs=0.15)


def test_same_seed_same_score(rng):
    target, perfect, noise = labelled(rng)
    u = perfect + rng.normal(size=perfect.shape)
    assert grouped_mig_interval(u, noise, target, seed=4) == grouped_mig_interval(u, noise, target, seed=4)
    assert grouped_mig_interval(u, noise, target, seed=4).value == grouped_mig(u, noise, target, seed=4)


@pytest.mark.slow
@pytest.mark.parametrize("n", [500, 2_500, 10_000])
def test_adjusted_gap_of_independent_data_is_within_two_hundredths_of_zero(n):
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        found.append(grouped_mig(rng.normal(size=(n, 2)), rng.normal(size=(n, 8)), np.arange(n) % 10, seed=seed))
    assert abs(np.mean(found)) < 0.02


@pytest.mark.parametrize("arrangement", ["circle", "line", "grid"])
def test_ten_separated_clusters_of_five_hundred_subjects_score_above_95_hundredths(arrangement, rng):
    t = np.arange(500) % 10
    angle = 2 * np.pi * t / 10
    centre = {"circle": np.c_[np.cos(angle), np.sin(angle)], "line": np.c_[t, 0 * t], "grid": np.c_[t % 5, t // 5]}[arrangement]
    u, v = centre + 0.03 * rng.normal(size=(500, 2)), rng.normal(size=(500, 8))
    assert grouped_mig(u, v, t) > 0.95
    assert grouped_mig(v[:, :2], np.c_[v[:, 2:], centre[:, 0]], t) < 0


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_a_gaussian_code_of_a_gaussian_target_scores_what_its_correlation_says(rho, rng):
    """The target cut at its deciles; truth: 1 less the entropy of the tenth given the code, by quadrature, in units of log 10."""
    z = np.linspace(-8, 8, 2_001)
    below = norm.cdf((norm.ppf(np.linspace(0, 1, 11))[:, None] - rho * z) / np.sqrt(1 - rho**2))
    share = np.diff(below, axis=0)
    left = -(share * np.log(np.where(share > 0, share, 1))).sum(axis=0)
    truth = 1 - np.sum(left * norm.pdf(z)) * (z[1] - z[0]) / np.log(10)
    t, noise = rng.normal(size=(2, 20_000))
    u = rho * t + np.sqrt(1 - rho**2) * noise
    assert grouped_mig(u, np.zeros(20_000), cut_at_deciles(t, t)) == pytest.approx(truth, abs=0.015)


def test_a_code_with_noise_scores_what_its_densities_say(rng):
    """Classes on a circle with Gaussian noise of .3: I(u; t) from the true densities, averaged over 200,000 draws."""

    def draw(n):
        t = np.arange(n) % 10
        return t, centre[t] + 0.3 * rng.normal(size=(n, 2))

    angle = 2 * np.pi * np.arange(10) / 10
    centre = np.c_[np.cos(angle), np.sin(angle)]
    t, u = draw(200_000)
    log_density = -((u[:, None] - centre) ** 2).sum(axis=2) / (2 * 0.3**2)
    own = log_density[np.arange(len(t)), t]
    truth = np.mean(own - np.log(np.mean(np.exp(log_density), axis=1))) / np.log(10)
    t, u = draw(10_000)
    assert grouped_mig(u, np.zeros((10_000, 1)), t) == pytest.approx(truth, abs=0.02)
