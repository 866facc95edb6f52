"""Reasons of hits: their words, their changes against recomputed features, their weights."""

import logging
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from threadpoolctl import threadpool_limits

import jobs.scoring
from ingest.schema import check_payment
from ingest.synthetic import make_population
from ingest.synthetic import payments as synthetic_payments
from jobs.arrivals import PAYMENTS
from jobs.explain import (
    LEAST_WEIGHT,
    MOST_CALLS,
    MOST_REASONS,
    changed_inputs,
    log_odds,
    reasons_of,
    weights_of,
)
from jobs.features import FEATURES, NO_WINDOW
from jobs.model import AVAILABLE_INPUTS, ModelInput, ModelRefused, inputs_of
from jobs.reasons import REASONS, Reason
from jobs.scoring import ModelVersion, scored
from tests.conftest import payment
from training.pipeline import MODEL_COLUMNS, make_classifier, model_columns

BY_NAME = {reason.name: reason for reason in REASONS}
ITSELF = [feature.name for feature in FEATURES if feature.window == NO_WINDOW]
NAN = float("nan")

ROW = {
    "amt": 912.33, "category": "shopping_net", "event_time": pd.Timestamp("2024-06-02 23:14:05"),
    "hour_of_day": 23.0, "age_years": 87.9, "dob": date(1936, 7, 10), "home_to_merchant_km": 1234.4,
    "amount_usd_mean_by_card_30d": 65.0, "seconds_since_previous_by_card": 185.0,
    "payment_count_by_card_24h": 6.0, "amount_usd_sum_by_card_24h": 3120.5,
    "payment_count_by_card_yesterday": 2.0, "payment_count_at_night_by_card_48h": 4.0,
}  # fmt: skip


WORDS = [
    ("amount", {}, "912.33 is 14 times this card's 30-day mean"),
    ("amount", {"amt": 1300.5}, "1,300.50 is 20 times this card's 30-day mean"),
    ("amount", {"amt": 130.0}, "130.00 is 2.0 times this card's 30-day mean"),
    ("amount", {"amt": 646.8}, "646.80 is 10 times this card's 30-day mean"),
    ("amount", {"amt": 81.2}, "81.20 at shopping_net, against this card's 30-day mean of 65.00"),
    ("amount", {"amt": 81.2, "category": None}, "81.20, against this card's 30-day mean of 65.00"),
    ("amount", {"amt": 7.71}, "7.71 at shopping_net, far below this card's 30-day mean of 65.00"),
    ("amount", {"amount_usd_mean_by_card_30d": NAN}, "912.33 at shopping_net, and no earlier payment of this card in 30 days"),
    ("amount", {"amt": NAN}, None),
    ("hour", {}, "at 23:14, between 22:00 and 04:00"),
    ("hour", {"hour_of_day": 4.0, "event_time": pd.Timestamp("2024-06-02 04:00:59")}, "at 04:00 UTC"),
    ("category", {}, "category shopping_net"),
    ("category", {"category": None}, None),
    ("age", {}, "card holder aged 87"),
    ("age", {"age_years": 22.998, "dob": date(2001, 6, 2)}, "card holder aged 23"),
    ("age", {"age_years": 22.995, "dob": date(2001, 6, 3)}, "card holder aged 22"),
    ("age", {"age_years": 24.257, "dob": date(2000, 2, 29)}, "card holder aged 24"),
    ("age", {"age_years": NAN, "dob": None}, None),
    ("distance", {}, "merchant 1,234 km from the card holder's home"),
    ("distance", {"home_to_merchant_km": NAN}, None),
    ("pause", {}, "3 min after this card's previous payment"),
    ("pause", {"seconds_since_previous_by_card": 0.0}, "0 s after this card's previous payment"),
    ("pause", {"seconds_since_previous_by_card": 5400.0}, "90 min after this card's previous payment"),
    ("pause", {"seconds_since_previous_by_card": 7201.0}, "2 h after this card's previous payment"),
    ("pause", {"seconds_since_previous_by_card": 12.5 * 86400}, "12 days after this card's previous payment"),
    ("pause", {"seconds_since_previous_by_card": NAN}, "no earlier payment of this card in 30 days"),
    ("payments_in_24h", {}, "6 earlier payments in 24 h, 3,120.50 USD together"),
    ("payments_in_24h", {"payment_count_by_card_24h": 1.0, "amount_usd_sum_by_card_24h": 9.0}, "1 earlier payment in 24 h, 9.00 USD"),
    ("payments_in_24h", {"payment_count_by_card_24h": 0.0}, None),
    ("payments_yesterday", {}, "2 earlier payments on the day before"),
    ("payments_yesterday", {"payment_count_by_card_yesterday": 0.0}, None),
    ("payments_at_night", {}, "4 earlier payments between 22:00 and 04:00 in 48 h"),
    ("payments_at_night", {"payment_count_at_night_by_card_48h": 0.0}, None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "words"), WORDS)
def test_words(name, values, words):
    assert BY_NAME[name].words(ROW | values) == words


def test_each_reason_has_words_above():
    assert {name for name, _, _ in WORDS} == set(BY_NAME)


# --- changes --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def synthetic():
    """60 cards in 50 days, in order of event time."""
    drawn = synthetic_payments(make_population(5, 60), datetime(2024, 1, 1, tzinfo=UTC), 50, seed=5)
    checked = pd.DataFrame([check_payment(row) for row in drawn.to_dict("records")])
    return checked.sort_values(["event_time", "trans_num"], ignore_index=True)


@pytest.fixture(scope="module")
def inputs(synthetic):
    return inputs_of(synthetic)[list(AVAILABLE_INPUTS)]


def changed(inputs, name):
    return changed_inputs(inputs, [BY_NAME[name]])


def test_what_is_not_changed_stays_as_it_is_to_the_last_bit(inputs):
    nothing = Reason("nothing", lambda arrays: {}, lambda row: None)
    again = changed_inputs(inputs, [nothing])
    pd.testing.assert_frame_equal(again, inputs, check_exact=True)


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("amount", lambda row: {"amt": round(row["amount_usd_mean_by_card_30d"], 2)}),
        (
            "hour",
            lambda row: {"event_time": row["event_time"].replace(hour=12, minute=0, second=0)},
        ),
        ("category", lambda row: {"category": "food_dining"}),
        ("distance", lambda row: {"merch_lat": row["lat"], "merch_long": row["long"]}),
    ],
)
def test_a_changed_payment_has_the_features_of_a_payment_like_that(
    synthetic, inputs, name, columns
):
    for place in [n for n in range(3000, 3040) if inputs["hour_of_day"][n] != 12]:
        row = inputs.iloc[place]
        other = inputs_of(synthetic.iloc[[place]].assign(**columns(row)))
        found = changed(inputs.iloc[[place]], name)
        expected = inputs.iloc[[place]].assign(
            **columns(row), **{n: other[n].to_numpy() for n in ITSELF}
        )
        expected = expected.astype({"event_time": "datetime64[us]"}).reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected)


def test_a_card_without_a_past_has_an_ordinary_amount():
    (row,) = changed(
        inputs_of(pd.DataFrame([check_payment(payment(1, amt=900))])), "amount"
    ).to_dict("records")
    assert (row["amt"], row["amount_usd"]) == (50.0, 50.0)


def test_noon_stays_as_it_is_and_ages_become_ordinary():
    payments = [
        payment(1, current_time=..., trans_date_trans_time="2024-06-02 12:34:56", dob="1930-02-03")
    ]
    rows = inputs_of(pd.DataFrame([check_payment(item) for item in payments]))
    assert changed(rows, "hour")["event_time"].tolist() == rows["event_time"].tolist()
    assert changed(rows, "age")["dob"].tolist() == [date(1979, 6, 3)]
    assert changed(rows, "age")["age_years"].tolist() == pytest.approx([45.0], abs=0.01)


def last_payments(synthetic, inputs):
    """Payments of busy cards, each with its card's past: all before it."""
    busy = inputs[
        (inputs["payment_count_by_card_24h"] > 2) & (inputs["payment_count_by_card_yesterday"] > 0)
    ]
    for place in busy.index[-60:]:
        past = synthetic.iloc[:place]
        past = past[past["cc_num"] == synthetic["cc_num"][place]]
        yield synthetic.iloc[[place]], past, inputs.iloc[[place]]


@pytest.mark.parametrize(
    ("name", "gone", "bounded"),
    [
        ("payments_in_24h", lambda age, days: age < pd.Timedelta("24h"), ["payment_count_at_night_by_card_48h"]),
        ("payments_yesterday", lambda age, days: days == 1, ["payment_count_at_night_by_card_48h", "amount_usd_sum_by_card_24h", "amount_usd_mean_by_card_30d"]),
    ],
)  # fmt: skip
def test_without_some_payments_the_past_is_what_it_would_have_been(
    synthetic, inputs, name, gone, bounded
):
    kinds = [column for column in inputs if column.startswith("payment_kind_by")]
    seen = 0
    for own, past, before in last_payments(synthetic, inputs):
        moment = own["event_time"].iloc[0]
        days = (moment.normalize() - past["event_time"].dt.normalize()).dt.days
        left = past[~gone(moment - past["event_time"], days)]
        expected, found = inputs_of(own, left).iloc[0], changed(before, name).iloc[0]
        for column in AVAILABLE_INPUTS[: len(FEATURES)]:
            if column == "seconds_since_previous_by_card":
                assert (
                    before[column].iloc[0] < found[column] <= expected[column]
                    or found[column] == expected[column]
                )
            elif column not in (*bounded, *kinds):
                assert found[column] == pytest.approx(expected[column], nan_ok=True), column
        missing = found[kinds].isna() | (found[kinds] == before[kinds].iloc[0])
        assert missing.all()
        seen += len(left) < len(past)
    assert seen > 20


def test_without_payments_at_night_no_kind_is_one_of_the_night(inputs):
    found = changed(inputs, "payments_at_night")
    kinds = [column for column in inputs if column.startswith("payment_kind_by")]
    assert (inputs[kinds] % 2 == 1).any(axis=None)
    assert not (found[kinds] % 2 == 1).any(axis=None)
    by_day = inputs[kinds] % 2 == 0
    assert (found[kinds][by_day] == inputs[kinds][by_day]).sum().sum() == by_day.sum().sum()
    assert (found["payment_count_at_night_by_card_48h"] == 0).all()
    taken = (inputs[kinds] % 2 == 1).sum(axis=1)
    counts = [f"payment_count_by_card_{day}" for day in ("today", "yesterday")]
    assert (inputs[counts].sum(axis=1) - found[counts].sum(axis=1) == taken).all()


# --- weights, with a model ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def predict(synthetic):
    with threadpool_limits(1):
        model = make_classifier(1).fit(model_columns(synthetic), synthetic["is_fraud"] == 1)
        yield lambda rows: model.predict_proba(rows[list(MODEL_COLUMNS)])[:, 1]


@pytest.fixture(scope="module")
def hits(inputs, predict):
    """Inputs and scores of hits."""
    scores = predict(inputs)
    is_hit = scores >= 0.3
    return inputs[is_hit].reset_index(drop=True), scores[is_hit]


def test_each_told_reason_lowers_the_score_by_its_weight_once_its_change_is_made(hits, predict):
    rows, scores = hits
    told, weights = reasons_of(rows, scores, predict), weights_of(rows, scores, predict)
    assert len(told) == len(rows) > 50
    assert sum(map(bool, told)) > 0.95 * len(told)
    for place, reasons in enumerate(told):
        one = rows.iloc[[place]]
        falls = []
        for words in reasons:
            (number,) = [n for n, item in enumerate(REASONS) if item.words(one.iloc[0]) == words]
            after = predict(changed_inputs(one, [REASONS[number]]))
            falls.append(float(log_odds(scores[[place]])[0] - log_odds(after)[0]))
            assert falls[-1] == pytest.approx(weights[place, number], abs=1e-12)
        assert len(falls) <= MOST_REASONS
        assert falls == sorted(falls, reverse=True)
        assert all(fall >= LEAST_WEIGHT for fall in falls)


def test_reasons_do_not_depend_on_the_other_hits(hits, predict):
    rows, scores = hits
    alone = [reasons_of(rows[n : n + 1], scores[n : n + 1], predict)[0] for n in range(30)]
    assert alone == reasons_of(rows, scores, predict)[:30]


def test_no_hits_have_no_reasons(hits, predict):
    assert reasons_of(hits[0][:0], hits[1][:0], predict) == []


def test_an_input_on_which_the_model_fails_costs_one_reason(hits, predict):
    rows, scores = hits
    whole = weights_of(rows, scores, predict)
    amounts, calls = rows["amount_usd_mean_by_card_30d"].round(2), []

    def picky(changed):
        calls.append(len(changed))
        if ((changed["trans_num"] == rows["trans_num"][7]) & (changed["amt"] == amounts[7])).any():
            raise ModelRefused("not this one")
        return predict(changed)

    found = weights_of(rows, scores, picky)
    assert np.isnan(found[7, 0])
    assert np.isnan(found).sum() == 1
    np.testing.assert_array_equal(found[~np.isnan(found)], whole[~np.isnan(found)])
    assert len(calls) < MOST_CALLS


def test_a_model_that_always_fails_is_not_called_for_ever(hits):
    calls = []

    def failing(changed):
        calls.append(len(changed))
        raise ModelRefused("no")

    assert reasons_of(*hits, failing) == [[]] * len(hits[0])
    assert len(calls) == MOST_CALLS


# --- in the score job's pass ----------------------------------------------------------------------

MODEL = ModelVersion("stub", "1", 0.5, (ModelInput("amount_usd", "double"),), b"")


class Stub:
    """A model: amounts from 500 on are fraud. What it was asked stands in ``calls``."""

    def __init__(self, failure=None):
        self.calls, self.failure = [], failure

    def predict(self, columns):
        self.calls.append(list(columns["amount_usd"]))
        if self.failure and len(self.calls) > 1:
            raise self.failure
        return np.where(columns["amount_usd"] >= 500, 0.9, 0.1)


@pytest.fixture
def table(monkeypatch):
    """Payments as the stream has them: one of 1, 600 and 2 dollars, and one of 700 on a new card."""
    monkeypatch.setattr(jobs.scoring, "_without_reasons", set())
    cards = ["4222111133334444"] * 3 + ["4999000011112222"]
    amounts = [1, 600, 2, 700]
    rows = inputs_of(pd.DataFrame([
        check_payment(payment(n, amt=amounts[n], cc_num=cards[n], current_time=1_717_245_296_000 + n))
        for n in range(4)
    ]))  # fmt: skip
    rows["event_time"] = rows["event_time"].dt.tz_localize("UTC")
    rows = rows.assign(source="api", position=range(4), received_at=rows["event_time"])
    return pa.table(
        {
            field.name: pa.array(rows.get(field.name, [None] * 4), field.type, from_pandas=True)
            for field in PAYMENTS
        }
    )


def test_only_hits_pay_for_reasons_and_in_one_call(table):
    model = Stub()
    found = scored(table, MODEL, model)
    assert found["prediction"].to_pylist() == [False, True, False, True]
    assert found["reasons"].to_pylist() == [
        None,
        ["600.00 is 600 times this card's 30-day mean"],
        None,
        ["700.00 at shopping_net, and no earlier payment of this card in 30 days"],
    ]
    assert [len(call) for call in model.calls] == [4, 2 * len(REASONS)]
    assert model.calls[1].count(1.0) == model.calls[1].count(50.0) == 1


def test_no_hits_no_call(table):
    model = Stub()
    found = scored(table, replace(MODEL, threshold=0.95), model)
    assert found["reasons"].to_pylist() == [None] * 4
    assert len(model.calls) == 1


@pytest.mark.parametrize(
    "failure", [ModelRefused("it fails: no"), RuntimeError("no"), KeyError("amt")]
)
def test_a_model_that_fails_on_changed_payments_leaves_hits_and_tells_once(table, caplog, failure):
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            found = scored(table, MODEL, Stub(failure))
            assert found["prediction"].to_pylist() == [False, True, False, True]
            assert found["reasons"].to_pylist() == [None, [], None, []]
    (line,) = [record.message for record in caplog.records if record.name == "jobs.scoring"]
    assert line.startswith("hits of stub v1 lack reasons: ")


def test_a_reason_that_fails_costs_no_hit(table, monkeypatch):
    def broken(inputs):
        raise ZeroDivisionError

    monkeypatch.setattr("jobs.explain.REASONS", [Reason("broken", broken, str)])
    assert scored(table, MODEL, Stub())["reasons"].to_pylist() == [None, [], None, []]
