"""Streams of payments for tests of the history, and their history by definition: slow and plain."""

from collections import defaultdict
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from jobs import feature_pass, history, windows
from jobs.feature_pass import compute_features
from jobs.features import Feature
from jobs.history import Records, forget
from jobs.windows import DAY, HOUR

YEAR = 365 * DAY
START = 20_000 * DAY  # in October 2024
END = 80_000 * DAY

EVERYTHING = 300 * YEAR

CARDS = [-(2**63), -1, 2**62]  # the hash of a card number is any 64 bits

_payment = st.tuples(
    st.sampled_from(CARDS),
    st.sampled_from([0, 0, 1, 999, HOUR, DAY - 1, DAY, 9 * DAY, -HOUR, 5 * YEAR, -5 * YEAR]),
    st.sampled_from([0, 0, 0, 1, HOUR - 1, HOUR, DAY, 30 * DAY]),
    st.sampled_from([0, 0, 0, 0, 1, 2, 31, 32, 33]),
    st.integers(0, 10**12),
)


@st.composite
def streams(draw, largest=40):
    """Payments in order of arrival: the clock goes on or jumps, some come late, days pass."""
    clock, day, rows = START, 20_000, []
    for card, tick, late, days, cents in draw(st.lists(_payment, max_size=largest)):
        clock = min(max(clock + tick, 0), END)
        day += days
        rows.append((card, max(clock - late, 0), cents, cents % 3, day))
    return records(rows)


def records(rows):
    """Rows of (card, time, cents, category, day)."""
    columns = zip(*rows, strict=True) if rows else [[]] * len(Records.types)
    types = Records.types.values()
    return Records(*(np.array(c, dtype=t) for c, t in zip(columns, types, strict=True)))


def rows_of(some):
    return list(zip(*(getattr(some, name).tolist() for name in Records.types), strict=True))


def remembered_by_definition(stream, most_payments, most_days):
    """What the payment's card remembers when each arrives, sorted; what all cards do at the end."""
    memory, before = defaultdict(list), []
    for row in rows_of(stream):
        card, time, _, _, today = row
        known = [old for old in memory[card] if old[4] + most_days >= today]
        before.append([old for old in known if old[1] <= time])
        memory[card] = sorted([*known, row], key=lambda old: old[1])[-most_payments:]
    return before, memory


def arrived(stream):
    """What ``compute_features`` takes; places on the globe are made up from time and amount."""
    latitude, longitude = stream.time / 7 % 179 - 89, stream.cents / 7 % 359 - 179
    return {
        "card": stream.card,
        "category": stream.category,
        "event_time": stream.time.astype("datetime64[ms]").astype("datetime64[us]"),
        "day": stream.day,
        "amt": stream.cents / 100,
        "dob": np.full(len(stream), "1960-02-29", "datetime64[D]"),
        "lat": latitude, "long": longitude, "merch_lat": -latitude, "merch_long": longitude / 3,
    }  # fmt: skip


def compute(stream, cuts=(), forgetful=False):
    """``compute_features``, the stream cut before each of ``cuts``, and what is remembered at the
    end; between the calls the history takes the way through bytes.
    """
    kept, parts = Records.empty(), []
    bounds = [0, *sorted(cuts), len(stream)]
    for start, end in pairwise(bounds):
        part = stream.take(slice(start, end))
        computed, new = compute_features(arrived(part), kept)
        assert rows_of(new) == rows_of(part)
        parts.append(computed)
        kept = Records.join([kept, new]).in_order()
        if forgetful:
            kept = forget(kept, int(kept.day.max(initial=0)))
        kept = Records.from_bytes(kept.to_bytes())
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, kept


def use_features(patch, **computes):
    """Replace the product's features by functions of ``Payments``."""
    patch.setattr(feature_pass, "FEATURES", [Feature(n, "", "", f) for n, f in computes.items()])
    patch.setattr(feature_pass, "FEATURE_NAMES", tuple(computes))


def bound(patch, most_payments):
    """Bound each card's memory."""
    patch.setattr(history, "MOST_PAYMENTS", most_payments)
    patch.setattr(windows, "MOST_PAYMENTS", most_payments)
