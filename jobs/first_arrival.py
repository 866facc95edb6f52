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


def first_in(new: Identifiers) -> Marks:
    """Which are the first of their kind among the new ones, which are in order of arrival."""
    return ~pd.DataFrame({"high": new.high, "low": new.low}).duplicated().to_numpy(np.bool_)


def first_card_in(new: Identifiers) -> Marks:
    """Which have the ``low`` of the first new one with the same ``high``."""
    lows = pd.Series(new.low).groupby(new.high).transform("first")
    return np.asarray(lows.to_numpy() == new.low)
