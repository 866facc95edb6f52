import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jobs.first_arrival import SeenPayments, mark_first

DAY = 86400
identifiers = st.tuples(st.integers(-3, 3), st.integers(-2, 2))


def mark(seen, arrivals, horizon=30 * DAY):
    """``arrivals``: (high, low, arrived_at) each."""
    high, low, at = (np.array(column, np.int64) for column in zip(*arrivals, strict=True))
    return mark_first(seen, high, low, at, horizon)


def test_the_first_of_a_batch_wins():
    _, is_first = mark(SeenPayments.empty(), [(5, 1, 0), (5, 1, 0), (4, 1, 0), (5, 2, 0)])
    assert is_first.tolist() == [True, False, True, True]


def test_what_came_before_is_remembered_through_bytes():
    seen, _ = mark(SeenPayments.empty(), [(2**62, -1, 10), (-(2**62), 7, 10)])
    seen = SeenPayments.from_bytes(seen.to_bytes())
    _, is_first = mark(seen, [(-(2**62), 7, 20), (2**62, 7, 20)])
    assert is_first.tolist() == [False, True]


def test_what_is_older_than_the_horizon_is_forgotten():
    seen, _ = mark(SeenPayments.empty(), [(1, 1, 0), (2, 2, 5 * DAY)])
    seen, _ = mark(seen, [(3, 3, 30 * DAY + 1)])
    assert seen.high.tolist() == [2, 3]
    _, is_first = mark(seen, [(1, 1, 30 * DAY + 2), (2, 2, 30 * DAY + 2)])
    assert is_first.tolist() == [True, False]


@given(st.lists(st.lists(identifiers, min_size=1, max_size=8), max_size=8))
def test_batches_never_matter(batches):
    seen, marked = SeenPayments.empty(), []
    for batch in batches:
        seen, is_first = mark(seen, [(high, low, 1) for high, low in batch])
        marked += is_first.tolist()
    known: set[tuple[int, int]] = set()
    arrivals = [item for batch in batches for item in batch]
    expected = [item not in known and not known.add(item) for item in arrivals]
    assert marked == expected
    assert sorted(zip(seen.high.tolist(), seen.low.tolist(), strict=True)) == sorted(known)
