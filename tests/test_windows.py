import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs import history
from jobs.history import MOST_DAYS, MOST_PAYMENTS, Records
from jobs.windows import DAY, HOUR, Past
from tests.streams import (
    CARDS,
    END,
    EVERYTHING,
    START,
    YEAR,
    bound,
    compute,
    records,
    remembered_by_definition,
    rows_of,
    streams,
    use_features,
)

TODAY = START // DAY


def cents(some):
    return some.cents


def times(some):
    return some.time


SPANS = {
    "millisecond": lambda past: past.within(1),
    "hour": lambda past: past.within(HOUR),
    "month": lambda past: past.within(30 * DAY),
    "all": lambda past: past.within(EVERYTHING),
    "today": lambda past: past.since_midnight(),
    "yesterday": lambda past: past.since_midnight(1),
    "9 days ago": lambda past: past.since_midnight(9),
}
PREDICATES = {
    "millisecond": lambda old, new: new - 1 < old,
    "hour": lambda old, new: new - HOUR < old,
    "month": lambda old, new: new - 30 * DAY < old,
    "all": lambda old, new: True,
    "today": lambda old, new: old // DAY == new // DAY,
    "yesterday": lambda old, new: old // DAY == new // DAY - 1,
    "9 days ago": lambda old, new: old // DAY == new // DAY - 9,
}
STEPS = (1, 2, 5)


def stand_ins():
    """Each span by count and sum, and some payments back, as features."""
    computes = {}
    for name, span in SPANS.items():
        computes[f"count {name}"] = lambda p, span=span: span(p.past).count()
        computes[f"sum {name}"] = lambda p, span=span: span(p.past).sum(cents)
    for steps in STEPS:
        computes[f"back {steps}"] = lambda p, steps=steps: p.past.within(EVERYTHING).back(
            steps, times
        )
    return computes


def by_definition(stream, most_payments, most_days=MOST_DAYS):
    """The same values, payment by payment."""
    values = {name: [] for name in stand_ins()}
    before, _ = remembered_by_definition(stream, most_payments, most_days)
    for (_, now, *_), past in zip(rows_of(stream), before, strict=True):
        for name, belongs in PREDICATES.items():
            amounts = [amount for _, time, amount, *_ in past if belongs(time, now)]
            values[f"count {name}"].append(len(amounts))
            values[f"sum {name}"].append(sum(amounts))
        for steps in STEPS:
            values[f"back {steps}"].append(past[-steps][1] if steps <= len(past) else np.nan)
    return values


def assert_as_defined(stream, cuts=(), most_payments=MOST_PAYMENTS, forgetful=False):
    with pytest.MonkeyPatch.context() as patch:
        use_features(patch, **stand_ins())
        bound(patch, most_payments)
        computed, _ = compute(stream, cuts, forgetful)
    for name, expected in by_definition(stream, most_payments).items():
        np.testing.assert_array_equal(computed[name], np.array(expected, np.float64), name)


def on_one_card(*steps):
    """A payment for each (event time after the start, days after the first arrival)."""
    return records([(7, START + ms, 100 + n, 0, TODAY + d) for n, (ms, d) in enumerate(steps)])


@settings(max_examples=60, deadline=None)
@given(stream=streams(), cuts=st.sets(st.integers(0, 40)), forgetful=st.booleans())
@example(on_one_card((0, 0), (HOUR - 1, 0), (HOUR, 0), (HOUR + 1, 0)), set(), False)
@example(on_one_card((0, 0), (DAY - 1, 0), (DAY, 0), (10 * DAY - 1, 0)), set(), False)
def test_every_window_holds_what_its_definition_says(stream, cuts, forgetful):
    assert_as_defined(stream, {c for c in cuts if c <= len(stream)}, forgetful=forgetful)


@settings(max_examples=150, deadline=None)
@given(streams(), st.sets(st.integers(0, 40)), st.sampled_from([1, 2, 5]), st.booleans())
def test_a_card_over_the_bound_forgets_its_earliest_payment_first(stream, cuts, most, forgetful):
    assert_as_defined(stream, {c for c in cuts if c <= len(stream)}, most, forgetful)


def test_what_made_room_for_later_payments_does_not_come_back_when_those_are_forgotten():
    # Two of a day on which the clock ran ahead, then two of the right time, then the first two age.
    ahead = [(YEAR, 0), (YEAR + 1, 0)]
    stream = on_one_card(*ahead, (2 * DAY, 31), (2 * DAY + 1, 32), (2 * DAY + 2, 33), (3 * DAY, 34))
    for forgetful in (False, True):
        for cuts in ((), (4,), range(len(stream))):
            assert_as_defined(stream, cuts, most_payments=2, forgetful=forgetful)

    # The first two displace the third; it takes no room from the next two when they are forgotten.
    stream = on_one_card((100, 0), (101, 0), (50, 1), (40, 33), (45, 33), (60, 33))
    for cuts in ((), range(len(stream))):
        assert_as_defined(stream, cuts, most_payments=2)


def test_a_day_whose_payments_have_all_made_room_is_empty():
    stream = on_one_card((0, 0), (1, 0), (DAY, 0), (DAY + 1, 0), (DAY + 2, 0))
    assert_as_defined(stream, most_payments=1)
    assert_as_defined(stream, most_payments=2)


@pytest.mark.parametrize(("days", "seen"), [(MOST_DAYS, 1), (MOST_DAYS + 1, 0)])
def test_a_payment_is_remembered_to_the_day(days, seen):
    stream = on_one_card((0, 0), (1, days))
    for cuts in ((), (1,)):
        with pytest.MonkeyPatch.context() as patch:
            use_features(patch, count=lambda p: p.past.within(EVERYTHING).count())
            assert compute(stream, cuts, forgetful=True)[0]["count"].tolist() == [0, seen]


def test_windows_do_not_reach_into_the_card_before():
    """Not even from the first millisecond that can be into the last."""
    first, second, third = CARDS
    new = records([(first, END, 5, 0, TODAY), (second, 0, 6, 0, TODAY), (third, 0, 7, 0, TODAY)])
    past = Past(records([(first, END, 4, 0, TODAY), (third, 0, 3, 0, TODAY)]), new)
    for span in (past.within(EVERYTHING), past.since_midnight()):
        assert span.sum(cents).tolist() == [4, 0, 3]
    assert past.since_midnight(1).count().tolist() == [0, 0, 0]
    assert past.within(EVERYTHING).back(1, cents).tolist()[::2] == [4, 3]
    assert np.isnan(past.within(EVERYTHING).back(1, cents)[1])


def test_a_span_without_payments_sums_to_nothing():
    past = Past(Records.empty(), records([(7, START, 5, 0, TODAY)]))
    for span in (past.within(DAY), past.since_midnight(), past.since_midnight(2)):
        assert span.count().tolist() == [0]
        assert span.sum(cents).tolist() == [0]


def test_no_payments_have_no_past():
    past = Past(Records.empty(), Records.empty())
    span = past.within(DAY)
    for values in (span.count(), span.sum(cents), past.within(EVERYTHING).back(1, cents)):
        assert values.shape == (0,)


def test_more_cards_than_fit_a_key_are_told_so(monkeypatch):
    monkeypatch.setattr(history, "_MOST_CARDS", 2)
    new = records([(card, START, 5, 0, TODAY) for card in CARDS])
    with pytest.raises(ValueError, match="3 cards in one pass, expected at most 2"):
        Past(Records.empty(), new)


@pytest.mark.parametrize("calls", [1, 5])
def test_a_card_with_ten_thousand_payments_in_a_day_works(calls):
    # Of the first hundred each second one is late.
    late = [DAY // 2 * (n < 100 and n % 2) for n in range(10_000)]
    stream = records(
        [(7, START + DAY // 2 + 4_000 * n - ms, n, 0, TODAY) for n, ms in enumerate(late)]
    )
    with pytest.MonkeyPatch.context() as patch:
        use_features(patch, count=lambda p: p.past.within(DAY).count())
        cuts = range(0, 10_000, 10_000 // calls)
        computed, _ = compute(stream, cuts, forgetful=True)
    expected = np.minimum(np.arange(10_000), MOST_PAYMENTS)
    expected[1:100:2] //= 2
    np.testing.assert_array_equal(computed["count"], expected)
