import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.features import FEATURE_NAMES
from jobs.history import MOST_DAYS, MOST_PAYMENTS, Records, forget
from jobs.windows import DAY
from tests.streams import (
    CARDS,
    START,
    bound,
    compute,
    records,
    remembered_by_definition,
    rows_of,
    streams,
)

TODAY = 20_000
CUTS = st.sets(st.integers(0, 40))
# A payment of the right time finds no room beside one from ahead, until that one is forgotten.
CLOCK_AHEAD = records(
    [(1, START + ms, 5, 0, TODAY + day) for ms, day in [(9 * DAY, 0), (0, 32), (1, 33)]]
)


def bits(computed):
    return {name: values.tobytes() for name, values in computed.items()}


def forgotten(some, today):
    return rows_of(forget(some.in_order(), today))


@settings(max_examples=60, deadline=None)
@given(streams(), CUTS, st.booleans(), st.sampled_from([1, 3, MOST_PAYMENTS]))
@example(CLOCK_AHEAD, {2}, True, 1)
def test_how_a_stream_is_cut_into_calls_never_changes_a_bit(stream, cuts, forgetful, most):
    cuts = {cut for cut in cuts if cut <= len(stream)}
    with pytest.MonkeyPatch.context() as patch:
        bound(patch, most)
        whole, _ = compute(stream)
        parts, _ = compute(stream, cuts, forgetful)
    assert tuple(whole) == FEATURE_NAMES
    assert bits(parts) == bits(whole)


@settings(max_examples=60, deadline=None)
@given(streams(), st.integers(0, 40), st.sampled_from([2, MOST_PAYMENTS]))
def test_what_comes_after_never_changes_what_was_computed(stream, until, most):
    past = stream.take(slice(until))
    with pytest.MonkeyPatch.context() as patch:
        bound(patch, most)
        before, _ = compute(past)
        after, _ = compute(stream)
    for name in FEATURE_NAMES:
        assert after[name][: len(past)].tobytes() == before[name].tobytes()


@settings(max_examples=60, deadline=None)
@given(streams(), CUTS, st.sampled_from([1, 2, 5, MOST_PAYMENTS]), st.booleans())
def test_what_is_remembered_is_what_the_definition_keeps(stream, cuts, most, often):
    cuts = {cut for cut in cuts if cut <= len(stream)}
    with pytest.MonkeyPatch.context() as patch:
        bound(patch, most)
        _, kept = compute(stream, cuts, forgetful=often)
        _, memory = remembered_by_definition(stream, most, MOST_DAYS)
        for card, expected in memory.items():
            today = int(stream.day.max())
            expected = [row for row in expected if row[4] + MOST_DAYS >= today]
            known = kept.of_cards(np.array([card]))
            assert rows_of(forget(known, today)) == expected


@given(streams())
def test_equal_times_stay_in_order_of_arrival(stream):
    expected = sorted(rows_of(stream), key=lambda row: row[:2])
    assert rows_of(stream.in_order()) == expected


@given(streams(), streams())
@example(records([]), CLOCK_AHEAD)
@example(CLOCK_AHEAD, CLOCK_AHEAD)
def test_merging_is_sorting_what_stands_one_after_the_other(some, later):
    merged = some.in_order().merged(later.in_order())
    expected = Records.join([some.in_order(), later.in_order()])
    expected = expected.take(np.lexsort((expected.time, expected.card)))
    assert rows_of(merged) == rows_of(expected)
    assert merged.to_bytes() == expected.to_bytes()


@given(streams(), st.sets(st.sampled_from([*CARDS, 5, 2**63 - 1])))
def test_cards_are_found_whether_they_are_there_or_not(stream, cards):
    ordered = stream.in_order()
    found = ordered.of_cards(np.array(sorted(cards), np.int64))
    assert rows_of(found) == [row for row in rows_of(ordered) if row[0] in cards]


@given(streams())
def test_bytes_hold_every_record(stream):
    raw = stream.to_bytes()
    assert rows_of(Records.from_bytes(raw)) == rows_of(stream)
    assert len(raw) == stream.size == 28 * len(stream)


def test_every_column_keeps_its_extremes_through_bytes():
    rows = [(-(2**63), 0, -1, -(2**15), 0), (2**63 - 1, 2**42, 10**12, 2**15 - 1, 2**16 - 1)]
    assert rows_of(Records.from_bytes(records(rows).to_bytes())) == rows


def test_records_are_forgotten_by_each_payments_own_day():
    some = records([(1, START, 5, 0, 100), (1, START, 6, 0, 100), (2, START, 7, 0, 100)])
    assert forgotten(some, 100 + MOST_DAYS) == rows_of(some)
    assert forgotten(some, 101 + MOST_DAYS) == []
    some_days = np.array([101, 100, 100]) + MOST_DAYS
    assert forgotten(some, some_days) == rows_of(some)[1:]


def test_no_card_makes_room_for_another(monkeypatch):
    bound(monkeypatch, 2)
    rows = [(card, START + n, n, 0, TODAY) for card in CARDS for n in range(4)]
    rows = [row for row in rows if row[0] != CARDS[1] or row[2] < 2]
    kept = [row for row in rows if row[2] >= 2 or row[0] == CARDS[1]]
    assert forgotten(records(rows), TODAY) == kept


def test_a_card_that_is_not_crowded_in_any_span_of_days_keeps_all_of_each(monkeypatch):
    bound(monkeypatch, 2)
    far = MOST_DAYS + 1
    rows = [(1, START + n, n, 0, TODAY + day) for n, day in enumerate([0, 0, far, far])]
    assert forgotten(records(rows), TODAY) == rows
    assert forgotten(records(rows), TODAY + far) == rows[2:]


def test_forgetting_twice_forgets_no_more(monkeypatch):
    bound(monkeypatch, 3)
    rows = [(1, START - n % 7, n, 0, TODAY + n) for n in range(90)]
    once = forget(records(rows).in_order(), TODAY + 80)
    assert 0 < len(once) < 40
    assert rows_of(forget(once, TODAY + 80)) == rows_of(once)
