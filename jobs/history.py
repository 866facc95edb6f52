"""What is remembered of each card's payments: compact records, as arrays over many cards at once.

A payment's history is what arrived before it on the same card with an event time not later than
its own, of that the latest ``MOST_PAYMENTS`` by event time, and of that what arrived at most
``MOST_DAYS`` days (by the calendar, UTC) before it.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from jobs.column_arrays import ColumnArrays, Places

Integers = npt.NDArray[np.int64]

MOST_PAYMENTS = 1000
"""Payments of one card that are remembered: the latest by event time."""

MOST_DAYS = 32
"""Days since its arrival that a payment is remembered: the longest window, and two for the late."""


@dataclass(frozen=True)
class Records(ColumnArrays):
    """Payments as they are remembered: arrays of one length n.

    ``card`` is a 64-bit hash of the card number, ``time`` the event time in epoch milliseconds,
    ``cents`` the amount, ``category`` a 16-bit hash of the category, ``day`` the day of arrival
    (days since 1970).
    """

    types: ClassVar = {
        "card": np.dtype("<i8"),
        "time": np.dtype("<i8"),
        "cents": np.dtype("<i8"),
        "category": np.dtype("<i2"),
        "day": np.dtype("<u2"),
    }

    card: Integers
    time: Integers
    cents: Integers
    category: npt.NDArray[np.int16]
    day: npt.NDArray[np.uint16]

    def in_order(self) -> "Records":
        """Sorted by card and event time; of equal ones, what came first stays first."""
        return self.take(np.lexsort((self.time, self.card)))

    def of_cards(self, cards: Integers) -> "Records":
        """The payments of ``cards`` (sorted), from records that are in order."""
        first = np.searchsorted(self.card, cards, side="left")
        count = np.searchsorted(self.card, cards, side="right") - first
        return self.take(_ranges(first, count))


def _ranges(first: Places, count: Places) -> Places:
    """``first[0], first[0]+1, … first[0]+count[0]-1, first[1], …``."""
    ends = np.cumsum(count)
    places: Places = np.arange(ends[-1] if len(ends) else 0)
    places += np.repeat(first - (ends - count), count)
    return places


def forget(history: Records, today: npt.NDArray[np.uint16] | int) -> Records:
    """What is still remembered of records that are in order.

    Args:
        today: the day of arrival that counts, one for all or one a payment.
    """
    kept = history.day.astype(np.int64) + MOST_DAYS >= np.asarray(today, dtype=np.int64)
    history = history if kept.all() else history.take(kept)
    if len(history) <= MOST_PAYMENTS:
        return history
    last = np.searchsorted(history.card, history.card, side="right")
    latest = last - np.arange(len(history)) <= MOST_PAYMENTS
    return history if latest.all() else history.take(latest)
