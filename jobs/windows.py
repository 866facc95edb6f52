"""Windows over the past of each payment, for all payments of many cards in one pass.

Card and time make one sorted key, so that the bounds of every window are binary searches and sums
are differences of running sums. All sums are of integers: the same history gives the same bits,
whatever else lies in the arrays.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobs.column_arrays import Places
from jobs.history import MOST_PAYMENTS, Integers, Records, places_behind

Floats = npt.NDArray[np.float64]

SECOND = 1000
HOUR = 3600 * SECOND
DAY = 24 * HOUR

Column = Callable[[Records], Integers]
"""An integer for each remembered payment, to be summed or compared."""


@dataclass(frozen=True)
class Span:
    """Some of the earlier payments of each new one: places ``low`` to ``high`` (exclusive) in the
    past's records.
    """

    past: "Past"
    low: Places
    high: Places

    def count(self) -> Floats:
        """How many."""
        return (self.high - self.low).astype(np.float64)

    def sum(self, column: Column) -> Integers:
        """The sum of ``column``; 0 where there is none."""
        running = self.past.running_sum(column)
        return running[self.high] - running[self.low]

    def back(self, steps: int, column: Column) -> Floats:
        """``column`` of the ``steps``-th payment from the end; NaN where there are fewer."""
        place = self.high - steps
        exists = place >= self.low
        found = np.full(len(place), np.nan)
        # There are more remembered payments than new ones: the few are told before they are valued.
        found[exists] = column(self.past.records.take(place[exists]))
        return found


class Past:
    """The earlier payments of new ones whose times, card by card, do not run backwards.

    Args:
        history: what is remembered of the new payments' cards, in order.
        new: the new payments, in order.
    """

    def __init__(self, history: Records, new: Records) -> None:
        cards = new.card[new.runs()[0]]
        keys = history.sort_keys(cards)
        self._new_key = new.sort_keys(cards)
        self.place: Places = places_behind(keys, self._new_key)
        self.records = history.woven(new, self.place)
        self.new = new
        self._key = self.records.sort_keys(cards)
        self._first = self._first_remembered(history, new)
        self._spans: dict[object, Span] = {}
        self._sums: dict[Column, Integers] = {}
        self._values: dict[Column, Integers] = {}

    def _first_remembered(self, history: Records, new: Records) -> Places:
        """The place of the earliest payment that each new one still sees."""
        start = np.searchsorted(self.records.card, new.card, side="left")
        known = np.searchsorted(history.card, new.card, side="right") - np.searchsorted(
            history.card, new.card, side="left"
        )
        arrived = known + np.arange(len(new)) - np.searchsorted(new.card, new.card, side="left")
        first = start + np.maximum(arrived - MOST_PAYMENTS, 0)
        return np.asarray(np.minimum(first, self.place))

    def running_sum(self, column: Column) -> Integers:
        """Sums of ``column`` before each place, and of all at the end: int64 of shape (m + 1,)."""
        if column not in self._sums:
            self._sums[column] = np.concatenate(
                [np.zeros(1, np.int64), np.cumsum(self.values(column))]
            )
        return self._sums[column]

    def values(self, column: Column) -> Integers:
        """``column`` of all records in this pass: int64 of shape (m,)."""
        if column not in self._values:
            self._values[column] = column(self.records).astype(np.int64, copy=False)
        return self._values[column]

    def within(self, milliseconds: int) -> Span:
        """Earlier payments less than ``milliseconds`` old: event times in (t - window, t]."""

        def bounds() -> tuple[Places, Places]:
            low = np.searchsorted(self._key, self._new_key - milliseconds, side="right")
            return np.maximum(low, self._first), self.place

        return self._named(("within", milliseconds), bounds)

    def since_midnight(self, days_back: int = 0) -> Span:
        """Earlier payments of the same UTC day; or of the day ``days_back`` before, the whole."""

        def bounds() -> tuple[Places, Places]:
            midnight = self._new_key - self.new.time % DAY - days_back * DAY
            low = np.maximum(np.searchsorted(self._key, midnight, side="left"), self._first)
            if not days_back:
                return low, self.place
            end = np.searchsorted(self._key, midnight + DAY, side="left")
            return low, np.maximum(end, low)

        return self._named(("day", days_back), bounds)

    def _named(self, name: object, bounds: Callable[[], tuple[Places, Places]]) -> Span:
        if name not in self._spans:
            self._spans[name] = Span(self, *bounds())
        return self._spans[name]
