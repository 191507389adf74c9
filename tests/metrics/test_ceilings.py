import numpy as np
import pandas as pd
import pytest

from copdvae.metrics.ceilings import best_function, ceilings, density_probe


@pytest.fixture(scope="module")
def cohort():
    rng = np.random.default_rng(0)
    severity, other = rng.random(1600), rng.random(1600)
    truth = pd.DataFrame({"severity": severity, "other": other, "kernel": np.where(rng.random(1600) < 0.5, "soft", "sharp")})
    truth.index = pd.Index([f"S{i}" for i in range(1600)])
    noise = rng.normal(0, np.sqrt(1 / 12 * 0.25), 1600)  # a fifth of the target's variance
    targets = pd.DataFrame(
        {
            "fev1_pp": 100 - 80 * (severity + noise),
            "emphysema_pct": 10 * severity**2 + 5 * other,
            "gas_trapping_pct": rng.normal(size=1600),
            "gold": np.minimum((5 * severity).astype(int), 4),
        },
        index=truth.index,
    )
    return truth, targets


def halves(truth):
    return list(truth.index[:800]), list(truth.index[800:])


def test_noise_sets_the_ceiling_of_spirometry(cohort):
    """5-NN on the truth misses the noise, and a fifth of it again from its five neighbours: R2 = 1 - 1.2 * 0.2."""
    assert ceilings(*cohort, *halves(cohort[0]))["fev1_pp"] == pytest.approx(1 - 1.2 * 0.2, abs=0.04)


def test_functions_of_the_factors_are_bounded_by_more_than_severity(cohort):
    found = ceilings(*cohort, *halves(cohort[0]))
    assert found["emphysema_pct"] > 0.95  # severity alone explains 0.80 of it
    assert found["gas_trapping_pct"] < 0.02  # noise
    assert found["gold"] > 0.97


def test_never_smokers_and_missing_values_are_left_out(cohort):
    truth, targets = cohort
    spoilt = targets.astype(float)
    spoilt.loc[truth.index[::3], "gold"] = -2.0
    spoilt.loc[truth.index[1::3], "gold"] = np.nan
    assert ceilings(truth, spoilt, *halves(truth))["gold"] > 0.95


def test_test_subjects_do_not_shape_their_own_ceiling(cohort):
    truth, targets = cohort
    train, test = halves(truth)
    random = targets.assign(emphysema_pct=np.random.default_rng(1).normal(size=len(targets)))
    assert ceilings(truth, random, train, test)["emphysema_pct"] < 0.02


def test_training_subjects_get_codes_that_have_not_seen_their_value(cohort):
    train, test = halves(cohort[0])
    noise = np.random.default_rng(2).normal(size=len(train))
    assert abs(np.corrcoef(best_function(cohort[0], train, noise, train)[:, 0], noise)[0, 1]) < 0.12
    assert best_function(cohort[0], train, noise, test).shape == (len(test), 1)


def test_the_probe_is_least_squares():
    rng = np.random.default_rng(0)
    means = rng.normal(-800, 20, (200, 2))
    target = means @ (0.3, -0.2) + 5
    assert density_probe(means[:100], target[:100], means[100:], target[100:]) == pytest.approx(1.0)
    assert density_probe(means[:100], rng.normal(size=100), means[100:], rng.normal(size=100)) < 0.05
