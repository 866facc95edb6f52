from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jobs.first_arrival import Identifiers, first_of, taken_among

LARGE = 2**32 - 1  # the largest `low`
HORIZON = 100


def identifiers(*rows):
    """Rows of (high, low, arrived_at)."""
    columns = zip(*rows, strict=True) if rows else ([], [], [])
    types = Identifiers.types.values()
    return Identifiers(*(np.array(c, dtype=t) for c, t in zip(columns, types, strict=True)))


def rows_of(some):
    return list(zip(some.high.tolist(), some.low.tolist(), some.arrived_at.tolist(), strict=True))


def find(remembered, *new):
    """(is it there, is its `high` there with another `low`) for each new one."""
    found = remembered.sorted().find(identifiers(*new), HORIZON)
    return list(zip(*(marks.tolist() for marks in found), strict=True))


rows = st.lists(
    st.tuples(
        st.sampled_from([-(2**63), -1, 0, 2**63 - 1]),
        st.sampled_from([0, 1, LARGE]),
        st.sampled_from([0, 1, HORIZON, HORIZON + 1, LARGE]),
    ),
    max_size=30,
)


def test_an_identifier_is_remembered_to_the_second():
    remembered = identifiers((7, 1, 1000))
    ages = (0, 1, HORIZON, HORIZON + 1)
    found = find(remembered, *((7, 1, 1000 + age) for age in ages))
    assert found == [(True, False)] * 3 + [(False, False)]


def test_an_identifier_that_comes_before_its_time_is_known():
    assert find(identifiers((7, 1, 1000)), (7, 1, 0)) == [(True, False)]


def test_the_same_name_on_another_card_is_told_from_the_same_payment():
    remembered = identifiers((7, 1, 1000), (8, 2, 1000))
    assert find(remembered, (7, 2, 1000), (8, 2, 1000), (9, 2, 1000)) == [
        (False, True),
        (True, False),
        (False, False),
    ]
    assert find(remembered, (7, 2, 1001 + HORIZON)) == [(False, False)]


def test_a_name_can_be_known_of_the_card_and_of_another():
    remembered = identifiers((7, 1, 0), (7, LARGE, 90), (7, 3, 95))
    assert find(remembered, (7, LARGE, HORIZON), (7, LARGE, HORIZON + 91)) == [
        (True, True),
        (False, True),
    ]


@given(rows, rows)
def test_what_is_found_is_what_was_there_within_the_horizon(remembered, new):
    near = [[row for row in remembered if item[2] - row[2] <= HORIZON] for item in new]
    expected = [
        (
            any(row[:2] == item[:2] for row in known),
            any(row[0] == item[0] and row[1] != item[1] for row in known),
        )
        for item, known in zip(new, near, strict=True)
    ]
    assert find(identifiers(*remembered), *new) == expected


def test_the_first_of_a_batch_wins():
    new = identifiers((7, 1, 5), (8, 1, 5), (7, 1, 4), (7, LARGE, 6), (7, LARGE, 6))
    assert first_of(new, np.zeros(5, bool), HORIZON).tolist() == [True, True, False, True, False]
    known = np.array([True, False, False, False, False])
    assert first_of(new, known, HORIZON).tolist() == [False, True, True, True, False]


def test_a_name_that_another_card_of_the_batch_used_before_is_taken():
    new = identifiers((7, LARGE, 5), (8, 1, 5), (7, 1, 6), (7, LARGE, 7), (8, 1, 7), (7, 0, 8))
    assert taken_among(new, HORIZON).tolist() == [False, False, True, True, False, True]


def test_a_name_is_taken_for_as_long_as_it_is_remembered():
    moments = (0, HORIZON, HORIZON + 1, 2 * HORIZON + 2)
    new = identifiers(*((7, card, moment) for card, moment in enumerate(moments)))
    assert taken_among(new, HORIZON).tolist() == [False, True, True, False]


def test_an_empty_batch_has_no_first():
    nothing = Identifiers.empty()
    assert first_of(nothing, np.zeros(0, bool), HORIZON).shape == (0,)
    assert taken_among(nothing, HORIZON).shape == (0,)


@given(rows, st.sets(st.integers(0, 30)))
def test_batches_never_matter(stream, cuts):
    """What is new is new however the stream is cut, also where it takes longer than memory."""
    stream = sorted(stream, key=lambda row: row[2])
    accepted, expected = {}, []
    for *row, arrived_at in stream:
        last = accepted.get(tuple(row))
        expected.append(last is None or arrived_at - last > HORIZON)
        if expected[-1]:
            accepted[tuple(row)] = arrived_at
    memory, found = Identifiers.empty(), []
    bounds = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    for start, end in pairwise(bounds):
        new = identifiers(*stream[start:end])
        is_first = first_of(new, memory.find(new, HORIZON)[0], HORIZON)
        found += is_first.tolist()
        memory = Identifiers.join([memory, new.take(is_first)]).sorted()
        memory = Identifiers.from_bytes(memory.to_bytes())
    assert found == expected


@given(rows)
def test_bytes_hold_every_identifier(some):
    raw = identifiers(*some).to_bytes()
    assert rows_of(Identifiers.from_bytes(raw)) == some
    assert len(raw) == 16 * len(some)


@given(rows, st.integers(-5, LARGE))
def test_what_arrived_before_a_moment_is_dropped_and_nothing_else(some, moment):
    assert rows_of(identifiers(*some).since(moment)) == [row for row in some if row[2] >= moment]
