"""What is remembered of each card's payments: compact records, as arrays over many cards at once.

A card's memory takes each of its payments as it arrives. What arrived more than ``MOST_DAYS`` days
(by the calendar, UTC) before the newest is forgotten, and of the rest all but the latest
``MOST_PAYMENTS`` by event time: for good. A payment's history is what its card's memory holds when
it arrives, and of that what has an event time not later than its own.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from jobs.column_arrays import ColumnArrays, Marks, Places

Integers = npt.NDArray[np.int64]

MOST_PAYMENTS = 1000
"""Payments of one card that are remembered: the latest by event time."""

MOST_DAYS = 32
"""Days since its arrival that a payment is remembered: the longest window, and two for the late."""

TIME_BITS = 43  # milliseconds until 2200 take 43 bits, which leaves room for a million cards
_MOST_CARDS = 2 ** (63 - TIME_BITS)


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

    def merged(self, later: "Records") -> "Records":
        """These and ``later`` ones, both in order, in order: of equal ones these come first."""
        if not len(self) or not len(later):
            return self if len(self) else later
        cards = np.union1d(self.card[self.runs()[0]], later.card[later.runs()[0]])
        keys = [part.sort_keys(cards) for part in (self, later)]
        return self.woven(later, places_behind(*keys))

    def woven(self, later: "Records", places: Places) -> "Records":
        """These and ``later`` ones, which come to stand at ``places`` (ascending)."""
        is_here = np.ones(len(self) + len(later), np.bool_)
        is_here[places] = False
        columns = []
        for name, dtype in self.types.items():
            column = np.empty(len(is_here), dtype)
            column[is_here] = getattr(self, name)
            column[places] = getattr(later, name)
            columns.append(column)
        return Records(*columns)

    def runs(self) -> tuple[Places, Places]:
        """Of records that are in order: where each card begins, and how many records it has."""
        begins = np.ones(len(self), np.bool_)
        begins[1:] = self.card[1:] != self.card[:-1]
        first = np.flatnonzero(begins)
        return first, np.diff(np.append(first, len(self)))

    def sort_keys(self, cards: Integers) -> Integers:
        """Card and time as one number, ascending where the records are in order.

        Args:
            cards: sorted, among them every card of these records.

        Raises:
            ValueError: there are more cards than numbers have room for.
        """
        if len(cards) > _MOST_CARDS:
            raise ValueError(f"{len(cards)} cards in one pass, expected at most {_MOST_CARDS}")
        first, count = self.runs()
        rank = np.repeat(np.searchsorted(cards, self.card[first]), count)
        return np.asarray((rank << TIME_BITS) + self.time)

    def of_cards(self, cards: Integers) -> "Records":
        """The payments of ``cards`` (sorted), from records that are in order."""
        first = np.searchsorted(self.card, cards, side="left")
        count = np.searchsorted(self.card, cards, side="right") - first
        return self.take(_ranges(first, count))


def places_behind(keys: Integers, later: Integers) -> Places:
    """Where ``later`` ones come to stand when they are merged into ``keys`` (both sorted): behind
    what is equal.
    """
    return np.searchsorted(keys, later, side="right") + np.arange(len(later))


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
    if len(history) > MOST_PAYMENTS:
        kept &= ~_displaced(history)
    return history if kept.all() else history.take(kept)


def _displaced(history: Records) -> Marks:
    """Which records made room for later ones, on the day that they did: that these are forgotten
    themselves by now does not bring the others back.
    """
    displaced = np.zeros(len(history), np.bool_)
    places = np.flatnonzero(_on_crowded_cards(history))
    card, day = history.card[places], history.day[places].astype(np.int64)
    for today in np.unique(day):
        known = ~displaced[places] & (day <= today) & (day + MOST_DAYS >= today)
        from_latest = _places_from_end(card[known])
        displaced[places[known][from_latest > MOST_PAYMENTS]] = True
    return displaced


def _on_crowded_cards(history: Records) -> Marks:
    """Which records are of cards with more than ``MOST_PAYMENTS`` arrivals within ``MOST_DAYS``."""
    many = np.flatnonzero(_places_from_end(history.card) > MOST_PAYMENTS)
    if len(many) == 0:
        return np.zeros(len(history), np.bool_)
    busy = history.of_cards(np.unique(history.card[many]))
    cards, rank = np.unique(busy.card, return_inverse=True)
    key = np.sort((rank.astype(np.int64) << 17) + busy.day)  # a day has 16 bits
    arrived = np.arange(1, len(key) + 1) - np.searchsorted(key, key - MOST_DAYS, side="left")
    crowded = cards[np.unique(key[arrived > MOST_PAYMENTS] >> 17)]
    return np.isin(history.card, crowded)


def _places_from_end(card: Integers) -> Integers:
    """How many records of the same card there are from each on, itself among them."""
    return np.asarray(np.searchsorted(card, card, side="right") - np.arange(len(card)))
