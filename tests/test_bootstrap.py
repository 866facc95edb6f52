"""Intervals by resampling cards, and measures whose cards have weights."""

import numpy as np
import pytest

from conf.sections import TrainSettings
from jobs.metrics import JudgedPayments, evaluation
from training.bootstrap import card_weights, percentile_interval, resampled
from training.weighted_measures import MEASURES, WeightedMeasures

SETTINGS = TrainSettings(alerts_per_day=1.5, card_precision_k=2)
THRESHOLD = 0.4


def judged(seed=0, n=400, cards=25):
    """Payments with many ties among the scores."""
    generator = np.random.default_rng(seed)
    labels = generator.random(n) < 0.15
    return JudgedPayments(
        labels=labels,
        scores=np.clip(np.round(generator.normal(0.3 + 0.3 * labels, 0.2), 1), 0, 1),
        amount_cents=generator.integers(100, 90_000, n),
        days=generator.integers(0, 12, n),
        cards=generator.integers(0, cards, n).astype(object),
    )


def measures_of(some, settings=SETTINGS):
    return WeightedMeasures.of_judged(some, some.cards.astype(np.int64), THRESHOLD, settings)


def copied(some, weights):
    """The payments, each as often as its card counts; a copy of a card is a card of its own."""
    times = weights[some.cards.astype(int)].astype(int)
    rows = np.repeat(np.arange(len(times)), times)
    copy = np.concatenate([np.arange(count) for count in times])
    return JudgedPayments(
        some.labels[rows], some.scores[rows], some.amount_cents[rows], some.days[rows],
        some.cards[rows] + 1000 * copy,
    )  # fmt: skip


# --- draws ----------------------------------------------------------------------------------------


def test_a_draw_has_as_many_cards_as_there_are_and_its_seed():
    weights = [card_weights(40, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert all(some.sum() == 40 for some in weights)
    assert (weights[0] == weights[1]).all()
    assert (weights[0] != weights[2]).any()


def test_the_same_seed_gives_the_same_samples():
    values = np.random.default_rng(5).normal(size=30)
    samples = [resampled(lambda w: np.array([w @ values]), 30, 50, seed) for seed in (1, 1, 2)]
    assert samples[0].shape == (50, 1)
    assert (samples[0] == samples[1]).all()
    assert (samples[0] != samples[2]).any()


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """The mean of 60 numbers, where the truth is known; 300 times over."""
    generator, within = np.random.default_rng(3), 0
    for seed in range(300):
        values = generator.normal(size=60)
        samples = resampled(lambda w, v=values: np.array([w @ v / w.sum()]), 60, 200, seed)
        low, high = percentile_interval(samples, 0.9)
        within += low[0] <= 0 <= high[0]
    assert 0.84 <= within / 300 <= 0.94


def test_cards_and_not_rows_are_drawn():
    """Ten payments of one card that are all alike tell no more than one: the interval stays."""
    values = np.random.default_rng(3).normal(size=30)
    many = np.repeat(values, 10).reshape(30, 10)
    one = resampled(lambda w: np.array([w @ values / w.sum()]), 30, 100, 1)
    ten = resampled(lambda w: np.array([w @ many.sum(1) / (10 * w.sum())]), 30, 100, 1)
    np.testing.assert_allclose(*(percentile_interval(some, 0.9) for some in (one, ten)))


def test_draws_without_a_value_are_left_out():
    samples = np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, np.nan]])
    low, high = percentile_interval(samples, 0.5)
    assert (low[0], high[0]) == (1.5, 2.5)
    assert np.isnan([low[1], high[1]]).all()


def test_what_is_alike_differs_by_exactly_nothing():
    one, same = measures_of(judged()), measures_of(judged())
    samples = resampled(lambda w: same.of(w) - one.of(w), 25, 50, 1)
    assert (samples == 0).all()


def test_a_pair_on_the_same_cards_is_surer_than_each_alone():
    some = judged()
    other = JudgedPayments(
        some.labels, np.clip(some.scores + 0.1 * some.labels, 0, 1), some.amount_cents, some.days,
        some.cards,
    )  # fmt: skip
    pair = measures_of(some), measures_of(other)
    samples = resampled(lambda w: np.array([who.of(w)[0] for who in pair]), 25, 200, 1)
    assert np.std(samples[:, 1] - samples[:, 0]) < 0.5 * np.std(samples[:, 0])


# --- measures -------------------------------------------------------------------------------------


def recall_at_budget(some, budget):
    """Row by row: payments of equal score have an equal share of the places that are left."""
    found, left = 0.0, budget
    for score in np.unique(some.scores)[::-1]:
        level = some.scores == score
        found += some.labels[level].mean() * min(left, level.sum())
        left -= min(left, level.sum())
    return found / some.labels.sum()


@pytest.mark.parametrize("seed", range(6))
def test_a_weighted_card_counts_that_often(seed):
    """Also weight 0; all weights 1 the first time. The mean over days is over those of all cards."""
    some = judged(seed)
    weights = np.ones(25) if seed == 0 else card_weights(25, np.random.default_rng(seed))
    told = dict(zip(MEASURES, measures_of(some).of(weights), strict=True))
    rows = copied(some, weights)
    assert rows.calendar_days == 12
    expected = evaluation(rows, THRESHOLD, SETTINGS)
    expected["recall_at_budget"] = recall_at_budget(rows, 1.5 * 12)
    for name, value in told.items():
        assert value == pytest.approx(expected[name], abs=1e-12), name


def test_a_budget_for_all_payments_finds_all_frauds():
    settings = TrainSettings(alerts_per_day=1000)
    told = measures_of(judged(), settings).of(np.ones(25))
    assert told[MEASURES.index("recall_at_budget")] == 1


def test_without_frauds_or_payments_there_is_no_recall():
    some = judged()
    genuine = JudgedPayments(
        np.zeros(400, bool), some.scores, some.amount_cents, some.days, some.cards
    )
    told = dict(zip(MEASURES, measures_of(genuine).of(np.ones(25)), strict=True))
    nothing = ("average_precision", "recall_at_budget", "recall")
    assert {name for name, value in told.items() if np.isnan(value)} == set(nothing)
    assert np.isnan(measures_of(some).of(np.zeros(25))).all()
