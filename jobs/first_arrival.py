"""Which payments of a batch arrive for the first time: the memory of `trans_num`s, as arrays.

Of two payments with the same `trans_num` the first wins, whatever differs in the second. An
identifier is remembered by 128 bits of its hash: among a billion identifiers, the chance that two
differ and are taken for one is below 1e-20 (n² / 2¹²⁹).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Hashes = npt.NDArray[np.int64]
Moments = npt.NDArray[np.int64]

_BYTES_AN_ENTRY = 24


@dataclass(frozen=True)
class SeenPayments:
    """Identifiers seen before: three arrays of one length n, sorted by ``high``.

    ``high`` and ``low`` are the two halves of the hash, ``arrived_at`` is in epoch seconds.
    """

    high: Hashes
    low: Hashes
    arrived_at: Moments

    @classmethod
    def empty(cls) -> "SeenPayments":
        """Nothing seen."""
        none = np.empty(0, np.int64)
        return cls(none, none, none)

    def to_bytes(self) -> bytes:
        """24 bytes an entry: all of ``high``, then ``low``, then ``arrived_at``."""
        return self.high.tobytes() + self.low.tobytes() + self.arrived_at.tobytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> "SeenPayments":
        """The inverse of ``to_bytes``."""
        n = len(raw) // _BYTES_AN_ENTRY
        high, low, arrived_at = np.frombuffer(raw, np.int64).reshape(3, n)
        return cls(high, low, arrived_at)

    def contains(self, high: Hashes, low: Hashes) -> npt.NDArray[np.bool_]:
        """Whether each identifier was seen: bool array of the length of ``high``."""
        first = np.searchsorted(self.high, high, side="left")
        last = np.searchsorted(self.high, high, side="right")
        found = np.zeros(len(high), np.bool_)
        # Identifiers that share the first 64 bits stand side by side: rarely more than one turn.
        for step in range(int((last - first).max(initial=0))):
            candidates = np.flatnonzero(first + step < last)
            found[candidates] |= self.low[first[candidates] + step] == low[candidates]
        return found


def mark_first(
    seen: SeenPayments, high: Hashes, low: Hashes, arrived_at: Moments, horizon_seconds: int
) -> tuple[SeenPayments, npt.NDArray[np.bool_]]:
    """Which of the new identifiers are first, and the memory with them in it.

    Args:
        seen: what arrived before.
        high, low: hashes of the new identifiers, in their order of arrival.
        arrived_at: their times of receipt, in epoch seconds.
        horizon_seconds: entries older than this, counted from the newest arrival, are forgotten.
    """
    repeated = pd.DataFrame({"high": high, "low": low}).duplicated().to_numpy(np.bool_)
    is_first = ~(seen.contains(high, low) | repeated)
    return _merge(
        seen, high[is_first], low[is_first], arrived_at[is_first], horizon_seconds
    ), is_first


def _merge(
    seen: SeenPayments, high: Hashes, low: Hashes, arrived_at: Moments, horizon_seconds: int
) -> SeenPayments:
    order = np.argsort(high, kind="stable")
    place = np.searchsorted(seen.high, high[order])
    columns = (
        np.insert(seen.high, place, high[order]),
        np.insert(seen.low, place, low[order]),
        np.insert(seen.arrived_at, place, arrived_at[order]),
    )
    oldest = columns[2].max(initial=0) - horizon_seconds
    if columns[2].min(initial=oldest) < oldest:
        kept = columns[2] >= oldest
        return SeenPayments(*(column[kept] for column in columns))
    return SeenPayments(*columns)
