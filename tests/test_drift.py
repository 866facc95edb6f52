import numpy as np
import pandas as pd
import pytest

from jobs.drift import (
    CATEGORY,
    EMPTY_SHARE,
    LARGEST_EFFECT,
    category_shares,
    drift_from,
    mean_difference,
    mix_difference,
    population_stability,
)
from jobs.reference import SCORE, Histogram, Reference

RNG = np.random.default_rng(3)


def payments(rows, category="home", **changes):
    frame = pd.DataFrame({"amount": RNG.normal(50, 10, rows), SCORE: RNG.beta(1, 50, rows)})
    return frame.assign(category=category, **changes)


def reference():
    past = payments(20_000)
    return Reference.of(past[["amount"]], past[SCORE].to_numpy(), past["category"])


def test_psi_is_that_of_the_textbook():
    expected, found = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.3, 0.3])
    by_hand = -0.1 * np.log(0.4 / 0.5) + 0.1 * np.log(0.3 / 0.2)
    assert population_stability(expected, found) == pytest.approx(by_hand)
    assert population_stability(found, expected) == pytest.approx(by_hand)
    assert population_stability(found, found) == 0


def test_an_empty_bin_counts_as_nearly_empty():
    found = population_stability(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    by_hand = 0.5 * np.log(2) + (EMPTY_SHARE - 0.5) * np.log(EMPTY_SHARE / 0.5)
    assert found == pytest.approx(by_hand)


def test_cohens_d_has_a_sign_and_the_spread_of_both():
    past = Histogram((), (1.0,), 0.0, mean=10.0, std=3.0)
    values = np.array([14.0, 16.0, np.nan])  # mean 15, standard deviation 1
    assert mean_difference(past, values) == pytest.approx(5 / np.sqrt((9 + 1) / 2))
    assert mean_difference(past, values - 10) == pytest.approx(-5 / np.sqrt((9 + 1) / 2))


def test_a_constant_that_became_another_is_no_division_by_zero():
    past = Histogram((), (1.0,), 0.0, mean=1.0, std=0.0)
    assert mean_difference(past, np.array([1.0, 1.0])) == 0
    assert mean_difference(past, np.array([0.0])) == -LARGEST_EFFECT
    assert np.isnan(mean_difference(past, np.array([np.nan])))


def test_cramers_v_is_0_for_the_same_mix_and_1_for_nothing_in_common():
    mix = np.array([0.7, 0.3, 0.0])
    assert mix_difference(mix, mix) == 0
    assert mix_difference(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1
    table = np.array([[50, 50], [70, 30]])
    both = table.sum(axis=0) / 2
    chi_square = ((table - both) ** 2 / both).sum()
    found = mix_difference(table[0] / 100, table[1] / 100)
    assert found == pytest.approx(np.sqrt(chi_square / 200))


def test_categories_that_the_reference_has_not_are_others():
    names = pd.Series(["home", "home", "bitcoin", None])
    expected, found = category_shares({"home": 0.6, "travel": 0.3}, names)
    np.testing.assert_allclose(expected, [0.6, 0.3, 0.1])
    np.testing.assert_allclose(found, [0.5, 0.0, 0.5])


def test_payments_of_the_same_kind_are_near_and_others_far():
    past = reference()
    same = drift_from(past, payments(20_000))
    assert set(same.psi) == set(same.effect_size) == {"amount", SCORE, CATEGORY}
    assert max(same.psi.values()) < 0.005
    assert max(map(abs, same.effect_size.values())) < 0.05
    other = drift_from(
        past, payments(5000, category="travel").assign(amount=RNG.normal(60, 10, 5000))
    )
    assert other.psi["amount"] > 0.5
    assert other.effect_size["amount"] == pytest.approx(1, abs=0.1)
    assert other.psi[SCORE] < 0.02
    assert other.effect_size[CATEGORY] == 1


def test_values_that_went_missing_are_a_drift():
    some = payments(5000)
    some.loc[:2500, "amount"] = np.nan
    found = drift_from(reference(), some)
    assert found.psi["amount"] > 1
    assert abs(found.effect_size["amount"]) < 0.1


def test_payments_without_a_score_count_for_the_features_alone():
    some = payments(4000)
    some.loc[:3000, SCORE] = np.nan
    assert drift_from(reference(), some).psi[SCORE] < 0.05
    assert SCORE not in drift_from(reference(), some.assign(**{SCORE: np.nan})).psi
