"""Which payments of a batch arrive for the first time: the memory of identifiers, as arrays.

Of two payments with the same `trans_num` the first wins, whatever differs in the second. An
identifier is remembered by two hashes: ``high`` of the `trans_num` alone, 64 bits, and ``low`` of
`trans_num` and card, 32 bits. Two payments are the same where both agree (among a billion that are
remembered for one bucket of cards, a chance of 1e-11 for each new one to be taken for another);
where only ``high`` agrees, another card used the `trans_num` before.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from jobs.column_arrays import ColumnArrays, Marks


@dataclass(frozen=True)
class Identifiers(ColumnArrays):
    """Arrays of one length n; ``arrived_at`` is in epoch seconds."""

    types: ClassVar = {
        "high": np.dtype("<i8"),
        "low": np.dtype("<u4"),
        "arrived_at": np.dtype("<u4"),
    }

    high: npt.NDArray[np.int64]
    low: npt.NDArray[np.uint32]
    arrived_at: npt.NDArray[np.uint32]

    def sorted(self) -> "Identifiers":
        """Sorted by ``high``."""
        return self.take(np.argsort(self.high, kind="stable"))

    def since(self, moment: int) -> "Identifiers":
        """Those that arrived at ``moment`` or later."""
        kept = self.arrived_at >= moment
        return self if kept.all() else self.take(kept)

    def find(self, new: "Identifiers", horizon_seconds: int) -> tuple[Marks, Marks]:
        """For each new identifier, whether it is in here (sorted by ``high``), and whether its
        ``high`` is in here with another ``low``; what arrived more than ``horizon_seconds`` before
        it is passed over.
        """
        first = np.searchsorted(self.high, new.high, side="left")
        last = np.searchsorted(self.high, new.high, side="right")
        same, other = np.zeros((2, len(new)), np.bool_)
        # Entries that share the first 64 bits stand side by side: rarely more than one turn.
        for step in range(int((last - first).max(initial=0))):
            some = np.flatnonzero(first + step < last)
            place = first[some] + step
            age = new.arrived_at[some].astype(np.int64) - self.arrived_at[place]
            is_same = self.low[place] == new.low[some]
            same[some] |= is_same & (age <= horizon_seconds)
            other[some] |= ~is_same & (age <= horizon_seconds)
        return same, other


def first_of(new: Identifiers, known: Marks, horizon_seconds: int) -> Marks:
    """Which of the new ones, in order of arrival, are the first of their kind.

    Args:
        known: those that memory knows, as ``Identifiers.find`` tells.
        horizon_seconds: how long an identifier is remembered, also among the new ones.
    """
    is_first = ~known
    unknown = new.take(is_first)
    repeated = pd.DataFrame({"high": unknown.high, "low": unknown.low}).duplicated()
    is_first[is_first] = ~repeated.to_numpy(np.bool_)
    arrived_at = new.arrived_at.astype(np.int64)
    if repeated.any() and np.ptp(arrived_at) > horizon_seconds:
        is_first = ~known & _first_one_by_one(new, known, horizon_seconds)
    return is_first


def _first_one_by_one(new: Identifiers, known: Marks, horizon_seconds: int) -> Marks:
    # Only where the new ones arrived in more time than an identifier is remembered.
    remembered: dict[tuple[int, int], int] = {}
    is_first = np.zeros(len(new), np.bool_)
    columns = zip(new.high.tolist(), new.low.tolist(), new.arrived_at.tolist(), strict=True)
    for place, (high, low, arrived_at) in enumerate(columns):
        last = remembered.get((high, low))
        if not known[place] and (last is None or arrived_at - last > horizon_seconds):
            is_first[place] = True
            remembered[high, low] = arrived_at
    return is_first


def taken_among(new: Identifiers, horizon_seconds: int) -> Marks:
    """Which of the new ones, in order of arrival, share ``high`` with another ``low`` that came
    before them, not more than ``horizon_seconds``.
    """
    is_taken = np.zeros(len(new), np.bool_)
    cards = pd.Series(new.low).groupby(new.high)
    # Rarely any: a trans_num belongs to one card.
    shared = np.flatnonzero(cards.transform("nunique").to_numpy() > 1)
    last: dict[int, dict[int, int]] = {}
    for place in shared.tolist():
        low, now = int(new.low[place]), int(new.arrived_at[place])
        used = last.setdefault(int(new.high[place]), {})
        is_taken[place] = any(
            other != low and now - moment <= horizon_seconds for other, moment in used.items()
        )
        used[low] = now
    return is_taken
