"""The world that ``make loop-demo`` simulates: payments, holders who report fraud days later, and
analysts who look at hits and reviews. It alone knows the truth, and tells it in verdicts only.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from conf.sections import LoopSettings
from ingest.envelope import envelope_line
from ingest.payment_files import event_times
from ingest.schema import API_COLUMNS
from ingest.synthetic import FraudPlan, make_population, payments
from jobs.review import WORKLIST_COLUMNS

DAY = timedelta(days=1)
SOURCE = "payments-api"
HOLDER, ANALYST = "holder", "analyst"
_MOST_DELAY_MS = 5000
_COLUMNS = ("trans_num", "fraud", "source", "analyst")


class World:
    """Days are counted from 0, the first of the stream."""

    def __init__(self, loop: LoopSettings) -> None:
        self._loop = loop
        self._population = make_population(loop.seed, loop.cards)
        self._plan = FraudPlan(self.change, loop.burst_cycle_days)
        self._frauds: set[str] = set()
        self._reports: dict[int, list[str]] = defaultdict(list)
        self._next_position = 0

    @property
    def start(self) -> datetime:
        """The first midnight of the stream."""
        return datetime.combine(self._loop.start, time(), UTC)

    @property
    def change(self) -> datetime:
        """From when on fraud follows another pattern."""
        return self.start + self._loop.change_after_days * DAY

    def midnight(self, day: int) -> datetime:
        """The moment at which a day begins."""
        return self.start + day * DAY

    def write_training(self, path: Path) -> int:
        """Write the payments before the stream, labelled, as a CSV file; returns how many."""
        days = self._loop.training_days
        frame = payments(
            self._population, self.start - days * DAY, days, self._loop.seed, self._plan
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(path)
        return len(frame)

    def lines_of(self, day: int) -> tuple[int, list[str]]:
        """The payments of a day as ingest would land them: the first one's position, and their
        envelopes. Each is received within seconds, and on the day itself.
        """
        frame = payments(self._population, self.midnight(day), 1, self._loop.seed, self._plan)
        self._remember(day, frame)
        moments = event_times(frame)
        frame["current_time"] = moments.astype("int64") // 1000
        rng = np.random.default_rng([self._loop.seed, day, 0])
        delays = pd.to_timedelta(rng.integers(0, _MOST_DELAY_MS, len(frame)), unit="ms")
        last = pd.Timestamp(self.midnight(day + 1) - timedelta(milliseconds=1))
        received = (moments + delays).where(moments + delays < last, last).cummax()
        first = self._next_position
        self._next_position += len(frame)
        rows = frame[list(API_COLUMNS)].to_dict("records")
        return first, [
            envelope_line(SOURCE, first + number, moment.to_pydatetime(), json.dumps(row))
            for number, (moment, row) in enumerate(zip(received, rows, strict=True))
        ]

    def drop_reports(self, day: int, inbox: Path) -> int:
        """What holders report on a day, into the inbox of verdicts; returns how many."""
        reported = self._reports.pop(day, [])
        _drop(inbox / f"{day:03d}-{HOLDER}.csv", _COLUMNS, self._verdicts(reported, HOLDER))
        return len(reported)

    def drop_judged(self, day: int, trans_nums: Iterable[str], inbox: Path) -> int:
        """What analysts find out about hits on a day; returns how many they judged."""
        verdicts = self._verdicts(trans_nums, ANALYST)
        _drop(inbox / f"{day:03d}-{ANALYST}.csv", _COLUMNS, verdicts)
        return len(verdicts)

    def drop_reviewed(self, worklist: Path, inbox: Path) -> int:
        """A list of payments to review, filled in; returns how many there are on it."""
        with worklist.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        filled = [row | {"fraud": self._answer(row["trans_num"])} for row in rows]
        _drop(inbox / worklist.name, WORKLIST_COLUMNS, filled)
        return len(filled)

    def _remember(self, day: int, frame: pd.DataFrame) -> None:
        frauds = frame.loc[frame["is_fraud"] == 1, "trans_num"].tolist()
        self._frauds.update(frauds)
        rng = np.random.default_rng([self._loop.seed, day, 1])
        is_reported = rng.random(len(frauds)) < self._loop.reported_share
        later = rng.integers(1, self._loop.report_days + 1, len(frauds))
        for name, told, days in zip(frauds, is_reported, later.tolist(), strict=True):
            if told:
                self._reports[day + days].append(name)

    def _verdicts(self, trans_nums: Iterable[str], source: str) -> list[dict[str, str]]:
        return [
            {"trans_num": name, "fraud": self._answer(name), "source": source, "analyst": ""}
            for name in trans_nums
        ]

    def _answer(self, trans_num: str) -> str:
        return "yes" if trans_num in self._frauds else "no"


def _drop(path: Path, columns: Iterable[str], rows: list[dict[str, str]]) -> None:
    """Write a file of verdicts that appears whole; none without rows."""
    if not rows:
        return
    draft = path.with_name(f".{path.name}")
    with draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)
    draft.rename(path)
