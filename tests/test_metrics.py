"""The measures, each against numbers found by hand, and what holds for any payments."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from conf.sections import TrainSettings
from jobs.calibration import expected_calibration_error, reliability_table
from jobs.metrics import (
    JudgedPayments,
    at_threshold,
    card_precision_at_k,
    cents,
    evaluation,
    judged_payments,
    money_cents,
    recall_at_precision,
)

EVALUATION = [
    "rows", "frauds", "average_precision", "roc_auc", "recall_at_precision_90",
    "expected_calibration_error", "card_precision_at_k", "card_precision_k", "threshold",
    "precision", "recall", "alerts_per_day", "money_saved_usd", "money_lost_usd",
]  # fmt: skip
probabilities = st.integers(0, 8).map(lambda eighths: eighths / 8)
rows_of_payments = st.lists(
    st.tuples(
        st.booleans(), probabilities, st.integers(1, 50_000), st.integers(0, 3), st.integers(0, 2)
    ),
    min_size=1,
    max_size=25,
)


def judged_of(rows):
    """``rows``: (label, score, cents, day, card) each, the later ones as far as they matter."""
    labels, scores, amounts, days, cards = zip(
        *((*row, *(100, 0, 0)[len(row) - 2 :]) for row in rows), strict=True
    )
    return JudgedPayments(
        np.array(labels, bool), np.array(scores, float), np.array(amounts, np.int64),
        np.array(days, np.int64), np.array([str(card) for card in cards], object),
    )  # fmt: skip


NO_PAYMENTS = JudgedPayments(
    np.empty(0, bool), np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64),
    np.empty(0, object),
)  # fmt: skip


# --- all of them together -------------------------------------------------------------------------


def test_the_measures_by_hand():
    judged = judged_of(
        [(0, 0.1, 1000, 7, 1), (0, 0.4, 2000, 8, 2), (1, 0.35, 3050, 8, 1), (1, 0.8, 4025, 10, 3)]
    )
    measured = evaluation(judged, 0.36, TrainSettings(look_cost_usd=1.5, card_precision_k=2))
    assert list(measured) == EVALUATION
    assert measured["rows"] == 4
    assert measured["frauds"] == 2
    assert measured["average_precision"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert measured["roc_auc"] == 0.75  # 3 of 4 pairs in the right order
    assert measured["recall_at_precision_90"] == 0.5
    # 0.35 and 0.4 lie on two sides of an edge: each of the four has a bin of its own
    assert measured["expected_calibration_error"] == pytest.approx((0.1 + 0.4 + 0.65 + 0.2) / 4)
    assert measured["card_precision_at_k"] == pytest.approx((0 + 1 / 2 + 1 / 2) / 3)
    assert measured["precision"] == 1 / 2
    assert measured["recall"] == 1 / 2
    assert measured["alerts_per_day"] == 2 / 4
    assert measured["money_saved_usd"] == 40.25 - 2 * 1.5
    assert measured["money_lost_usd"] == 30.5


@given(rows_of_payments)
def test_the_measures_are_those_of_scikit_learn_or_none(rows):
    judged = judged_of(rows)
    measured = evaluation(judged, 0.5, TrainSettings())
    if judged.labels.all() or not judged.labels.any():
        assert measured["average_precision"] is measured["roc_auc"] is None
        assert measured["recall_at_precision_90"] is None
    else:
        assert measured["average_precision"] == average_precision_score(
            judged.labels, judged.scores
        )
        assert measured["roc_auc"] == roc_auc_score(judged.labels, judged.scores)
    json.dumps(measured, allow_nan=False)


def test_no_payments_have_measures():
    measured = evaluation(NO_PAYMENTS, 0.5, TrainSettings())
    means = ("roc_auc", "expected_calibration_error", "card_precision_at_k", "alerts_per_day")
    assert [measured[name] for name in means] == [None] * 4
    assert [measured[name] for name in ("rows", "precision", "money_saved_usd")] == [0, 0, 0]
    assert np.isnan(expected_calibration_error(NO_PAYMENTS.labels, NO_PAYMENTS.scores))
    assert np.isnan(card_precision_at_k(np.empty(0), *[np.empty(0)] * 3, k=1))


def test_payments_of_a_file_are_taken_in_cents_and_utc_days():
    times = ["2024-02-28 23:59:59+00:00", "2024-02-29 00:00:00+00:00", "2024-03-01 23:30:00+00:00"]
    payments = pd.DataFrame(
        {
            "is_fraud": [0, 1, 0],
            "amt": [0.29, 1.005, 4.35],  # 0.29 * 100 is below 29 as a float
            "event_time": pd.to_datetime(times).tz_convert("Asia/Tokyo"),
            "cc_num": ["4", "04", "4"],
        }
    )
    judged = judged_payments(payments, np.array([0.1, 0.2, 0.3]))
    assert judged.labels.tolist() == [False, True, False]
    assert judged.amount_cents.tolist() == [29, 100, 435]
    assert judged.days.tolist() == [19781, 19782, 19783]
    assert judged.cards.tolist() == ["4", "04", "4"]
    assert judged.calendar_days == 3
    assert NO_PAYMENTS.calendar_days == 0


def test_a_score_at_the_threshold_is_a_hit():
    labels, scores = np.array([True, False]), np.array([0.5, 0.49])
    assert at_threshold(labels, scores, 0.5) == (1, 1)
    assert at_threshold(labels, scores, 0.6) == (0, 0)
    assert at_threshold(~labels, np.zeros(2), 0.5) == (0, 0)


@given(rows_of_payments, st.sampled_from([0.0, 0.4, 0.5, 0.9, 1.0]))
def test_recall_at_precision_is_the_largest_of_any_threshold(rows, precision):
    judged = judged_of([*rows, (True, 0.5)])
    labels, scores = judged.labels, judged.scores
    cuts = [at_threshold(labels, scores, threshold) for threshold in set(scores)]
    best = max((recall for hits, recall in cuts if hits >= precision), default=0)
    assert recall_at_precision(labels, scores, precision) == best


# --- calibration ----------------------------------------------------------------------------------


def test_the_reliability_table_by_hand():
    scores = np.array([0.0, 0.5, 1.0, 0.00005, 0.52, 0.5, 0.1])
    labels = np.array([0, 1, 1, 0, 0, 0, 1], bool)
    table = reliability_table(labels, scores)
    assert table.rows.tolist() == [2, 1, 3, 1]
    assert table.expected.tolist() == pytest.approx([0.00005, 0.1, 1.52, 1.0])
    assert table.frauds.tolist() == [0, 1, 1, 1]
    error = (0.00005 + 0.9 + 0.52 + 0) / 7
    assert expected_calibration_error(labels, scores) == pytest.approx(error)
    # two bins: below one half, and from there on
    assert reliability_table(labels, scores, bins=2).rows.tolist() == [3, 4]
    assert reliability_table(labels, scores, bins=1).rows.tolist() == [7]


def test_a_bin_is_a_factor_in_the_odds():
    """At the same factor the table is as fine next to 0 as in the middle and next to 1."""
    odds = 3.5 ** np.arange(-6.0, 7.0)
    table = reliability_table(np.zeros(13, bool), odds / (1 + odds))
    assert table.rows.tolist() == [1] * 13


@given(st.dictionaries(st.sampled_from([0, 1, 2, 5, 10, 15, 19, 20]),
                       st.integers(1, 4), min_size=1), st.integers(1, 20))  # fmt: skip
def test_there_is_no_error_where_each_score_is_the_share_of_its_frauds(groups, bins):
    scores = np.concatenate([np.full(20 * n, twentieth / 20) for twentieth, n in groups.items()])
    labels = np.concatenate(
        [np.tile(np.arange(20) < twentieth, n) for twentieth, n in groups.items()]
    )
    assert expected_calibration_error(labels, scores, bins) == pytest.approx(0, abs=1e-12)
    if scores.min() > 0 and scores.max() <= 0.5:
        twice = expected_calibration_error(labels, scores * 2, bins)
        assert twice == pytest.approx(
            scores.mean()
        )  # every score promises its whole value too much


@given(rows_of_payments, st.integers(1, 20), st.randoms(use_true_random=False))
def test_the_table_holds_every_payment_once_in_any_order(rows, bins, random):
    judged, mixed = judged_of(rows), judged_of(random.sample(rows, len(rows)))
    table = reliability_table(judged.labels, judged.scores, bins)
    assert table.rows.sum() == len(rows)
    assert (table.rows > 0).all()
    assert table.expected.sum() == pytest.approx(judged.scores.sum())
    assert table.frauds.sum() == judged.labels.sum()
    assert (np.diff(table.expected / table.rows) > 0).all()
    again = reliability_table(mixed.labels, mixed.scores, bins)
    assert (again.rows == table.rows).all()
    assert (again.frauds == table.frauds).all()
    error = expected_calibration_error(judged.labels, judged.scores, bins)
    assert abs(judged.scores.mean() - judged.labels.mean()) - 1e-12 <= error <= 1


def test_errors_in_opposite_directions_do_not_cancel_out():
    """What equally many payments a bin would hide: all the frauds would share the last one."""
    labels = np.arange(3000) < 20
    scores = np.where(np.arange(3000) < 10, 0.9, 0.0001)
    scores[10:20], scores[20:30] = 0.1, 0.9
    upside_down = expected_calibration_error(labels, scores)
    assert upside_down == pytest.approx((8 + 9 + 2970e-4) / 3000)


# --- cards ----------------------------------------------------------------------------------------


def test_card_precision_by_hand():
    payments = [  # card, day, label, score
        ("a", 1, 0, 0.9), ("a", 1, 1, 0.1),  # a fraud counts, if not the payment of the score
        ("b", 1, 0, 0.8), ("c", 1, 1, 0.7),
        ("a", 2, 1, 0.3), ("b", 2, 1, 0.2), ("c", 2, 0, 0.1),  # a again
        ("d", 4, 1, 0.5),  # no payments on day 3
    ]  # fmt: skip
    columns = [np.array(column) for column in zip(*payments, strict=True)]
    cards, days, labels, scores = columns[0], columns[1], columns[2].astype(bool), columns[3]
    measured = [card_precision_at_k(cards, days, labels, scores, k) for k in (1, 2, 3)]
    assert measured == pytest.approx(
        [(1 + 1 + 1) / 3, (1 / 2 + 2 / 2 + 1 / 2) / 3, (2 / 3 + 2 / 3 + 1 / 3) / 3]
    )


def test_cards_of_equal_score_share_the_last_place():
    cards, days, labels = np.arange(4), np.zeros(4, int), np.array([1, 0, 0, 1], bool)
    level = card_precision_at_k(cards, days, labels, np.full(4, 0.5), 2)
    assert level == 1 / 2
    scores = np.array([0.5, 0.5, 0.5, 0.9])
    assert card_precision_at_k(cards, days, labels, scores, 2) == pytest.approx((1 + 1 / 3) / 2)


@given(rows_of_payments, st.integers(1, 4))
def test_card_precision_is_that_of_the_sorted_cards(rows, k):
    judged = judged_of(rows)
    shares = []
    for day in set(judged.days):
        cards = {}
        for label, score, _, _, card in (row for row in rows if row[3] == day):
            best, any_fraud = cards.get(card, (0, False))
            cards[card] = (max(best, score), any_fraud or label)
        ranked = sorted(cards.values(), reverse=True)
        best = sum(fraud for _, fraud in ranked[:k]) / k  # frauds first among equals
        worst = sum(fraud for _, fraud in sorted(ranked, key=lambda c: (-c[0], c[1]))[:k]) / k
        shares.append((worst, best))
    measured = card_precision_at_k(judged.cards, judged.days, judged.labels, judged.scores, k)
    low, high = np.mean(shares, axis=0)
    assert low - 1e-12 <= measured <= high + 1e-12


# --- money ----------------------------------------------------------------------------------------


def test_money_by_hand():
    labels, hits = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    amounts = np.array([50_00, 7_99, 20_00, 1_00])
    assert money_cents(labels, amounts, hits, 10_00) == (50_00 - 2 * 10_00, 7_99)
    assert money_cents(labels, amounts, ~labels, 5_01) == (-2 * 5_01, 57_99)


def test_cents_are_whole():
    assert [cents(usd) for usd in (0, 0.29, 10, 1.15, 4.35)] == [0, 29, 1000, 115, 435]


@given(rows_of_payments, probabilities, st.integers(0, 100_000))
def test_saved_and_lost_money_and_looks_are_all_frauds(rows, threshold, look_cost):
    judged = judged_of(rows)
    hits = judged.scores >= threshold
    saved, lost = money_cents(judged.labels, judged.amount_cents, hits, look_cost)
    assert saved + lost + look_cost * hits.sum() == judged.amount_cents[judged.labels].sum()
