"""What the simulated payments API serves: a replay of files, or endless synthetic payments."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pandas as pd

from ingest.payment_files import event_times, read_payments
from ingest.schema import API_COLUMNS
from ingest.synthetic import Population, payments
from ingest.synthetic_fraud import DEFAULT_FRAUD, FraudPlan

STORED_COLUMNS = (*(name for name in API_COLUMNS if name != "current_time"), "event_time")

Anchor = tuple[int, int]


class Source(Protocol):
    """Payments in an order that never changes, counted from 0.

    Attributes:
        name: says which payments; two sources of one name hold the same.
        anchor: a place from which a source of the same name finds later rows quickly.
    """

    name: str
    anchor: Anchor

    def rows(self, first: int, stop: int) -> pd.DataFrame:
        """Rows ``first`` to ``stop`` (exclusive), fewer where the source ends.

        Returns:
            ``STORED_COLUMNS``, typed as ``ingest.payment_files.read_payments`` types them.
        """

    def is_exhausted(self, first: int) -> bool:
        """Whether there is no row ``first``."""

    def distinct(self, stop: int) -> int:
        """How many values ``trans_num`` has in the rows before ``stop``."""


class FileSource:
    """The payments of CSV files, in the files' order."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        """Read ``paths``.

        Raises:
            PaymentFileError: see ``ingest.payment_files.read_payments``.
        """
        self._frame = read_payments(*paths)[list(STORED_COLUMNS)]
        names = ", ".join(Path(path).name for path in paths)
        self.name = f"{names} ({len(self._frame)} payments)"
        self.anchor: Anchor = (0, 0)

    def rows(self, first: int, stop: int) -> pd.DataFrame:
        """See ``Source``."""
        return self._frame.iloc[first:stop]

    def is_exhausted(self, first: int) -> bool:
        """See ``Source``."""
        return first >= len(self._frame)

    def distinct(self, stop: int) -> int:
        """See ``Source``."""
        return int(self._frame["trans_num"].iloc[:stop].nunique())


class SyntheticSource:
    """The payments that ``ingest.synthetic`` makes from ``start`` on, without end.

    Its ``anchor`` is the number of a row and of the day, from ``start`` on, that begins with it.
    """

    def __init__(
        self,
        population: Population,
        start: datetime,
        seed: int,
        anchor: Anchor = (0, 0),
        fraud: FraudPlan = DEFAULT_FRAUD,
    ) -> None:
        self._population, self._start, self._seed, self._fraud = population, start, seed, fraud
        name = (
            f"synthetic payments of {len(population.holders)} cards "
            f"from {start.astimezone(UTC):%Y-%m-%d %H:%M} on, seed {population.seed}/{seed}"
        )
        self.name = ", ".join([name, *fraud.differences()])
        self.anchor = anchor
        self._days: dict[int, pd.DataFrame] = {}

    def rows(self, first: int, stop: int) -> pd.DataFrame:
        """See ``Source``."""
        begin, day = self.anchor if first >= self.anchor[0] else (0, 0)
        parts = [self._day(0).iloc[:0]]
        while begin < stop:
            frame = self._day(day)
            parts.append(frame.iloc[max(first - begin, 0) : stop - begin])
            if begin <= first:
                self._move_anchor((begin, day))
            begin, day = begin + len(frame), day + 1
        return pd.concat(parts, ignore_index=True)

    def is_exhausted(self, first: int) -> bool:
        """See ``Source``."""
        return False

    def distinct(self, stop: int) -> int:
        """See ``Source``."""
        return stop  # 128 random bits each

    def _move_anchor(self, anchor: Anchor) -> None:
        if anchor > self.anchor:
            self.anchor = anchor
            self._days = {day: frame for day, frame in self._days.items() if day >= anchor[1]}

    def _day(self, day: int) -> pd.DataFrame:
        if day not in self._days:
            start = self._start + timedelta(days=day)
            frame = payments(self._population, start, 1, self._seed, self._fraud)
            frame["event_time"] = event_times(frame)
            kept = frame[list(STORED_COLUMNS)]
            if day < self.anchor[1]:
                return kept
            self._days[day] = kept
        return self._days[day]


def latest_payments(
    population: Population,
    stop: datetime,
    rows: int,
    seed: int,
    fraud: FraudPlan = DEFAULT_FRAUD,
) -> pd.DataFrame:
    """The ``rows`` last payments before ``stop``, as ``ingest.synthetic.payments`` gives them.

    A ``SyntheticSource`` of the same population, seed and plan of the fraud that starts at
    ``stop`` goes on after them.

    Raises:
        ValueError: so many payments would begin before 1970.
    """
    days = int(rows / population.payments_per_day.sum()) + 1
    frame = payments(population, stop - timedelta(days=days), days, seed, fraud)
    while len(frame) < rows:
        days += days // 4 + 1
        frame = payments(population, stop - timedelta(days=days), days, seed, fraud)
    return frame.tail(rows).reset_index(drop=True)
