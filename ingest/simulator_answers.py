"""The simulated payments API without HTTP: which rows are due, the limit on calls, the faults."""

import json
import math
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ingest.schema import API_COLUMNS
from ingest.simulator_faults import Faults, corrupted
from ingest.simulator_sources import Source

LIMIT_SECONDS = 60.0
JSON_TYPE = "application/json"
_NUMBER_LIKE = ("cc_num", "zip")  # text here, a number in the API where that loses nothing
_ERRORS = {
    "429": (429, "Too Many Requests"),
    "429-bare": (429, "Too Many Requests"),
    "500": (500, "Internal Server Error"),
    "503": (503, "Service Unavailable"),
    "timeout": (504, "Gateway Timeout"),
}


@dataclass(frozen=True)
class Behavior:
    """How the simulated API behaves.

    Attributes:
        rate: payments that become due in a second.
        calls_per_minute: calls allowed in any 60 s.
        overlap: rows at the end of an answer that the next one repeats.
        is_told_now: ``current_time`` is the moment a payment became due, not its event time.
        faults: what goes wrong, and how often.
        hold_seconds: how long the fault ``timeout`` holds an answer.
        seed: of the corrupt rows.
    """

    rate: float = 20.0
    calls_per_minute: int = 5
    overlap: int = 3
    is_told_now: bool = False
    faults: Faults = field(default_factory=lambda: Faults({}))
    hold_seconds: float = 30.0
    seed: int = 1

    @property
    def interval_seconds(self) -> float:
        """Time between two calls that use the limit up."""
        return LIMIT_SECONDS / self.calls_per_minute


@dataclass(frozen=True)
class Answer:
    """What to send: ``body`` after ``hold_seconds``, and only half of it where ``is_cut``.

    ``is_delivered`` says that the rows in it count as delivered.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    hold_seconds: float = 0.0
    is_cut: bool = False
    is_delivered: bool = False


@dataclass
class Progress:
    """How far the API got: the next row, and what good answers have delivered so far."""

    next_row: int = 0
    answers: int = 0
    rows: int = 0


class CallLimit:
    """At most ``calls`` calls in any 60 s."""

    def __init__(self, calls: int) -> None:
        self._calls = calls
        self._allowed_at: deque[float] = deque()

    def seconds_to_wait(self, now: float) -> float:
        """0 where a call at ``now`` (s) is allowed, which then counts; else the time to wait."""
        while self._allowed_at and now - self._allowed_at[0] >= LIMIT_SECONDS:
            self._allowed_at.popleft()
        if len(self._allowed_at) >= self._calls:
            return self._allowed_at[0] + LIMIT_SECONDS - now
        self._allowed_at.append(now)
        return 0.0


class CurrentTransactions:
    """The call ``/current-transactions`` on a source of payments."""

    def __init__(
        self,
        source: Source,
        behavior: Behavior,
        *,
        clock: Callable[[], float],
        rng: random.Random,
        progress: Progress | None = None,
    ) -> None:
        """Begin with the row that ``progress`` says.

        Args:
            clock: epoch seconds; only its differences decide what is due.
            rng: decides on the faults of calls and on the form of the body.
        """
        self._source, self._behavior, self._clock, self._rng = source, behavior, clock, rng
        self.progress = progress or Progress()
        self._base = self.progress.next_row
        self._first_call_at: float | None = None
        self._limit = CallLimit(behavior.calls_per_minute)

    def answer(self) -> Answer:
        """The answer to a call made now."""
        now = self._clock()
        wait_seconds = self._limit.seconds_to_wait(now)
        if wait_seconds > 0:
            return _error("429", retry_after_seconds=wait_seconds)
        if self._first_call_at is None:
            self._first_call_at = now
        fault = self._behavior.faults.of_call(self._rng.random())
        is_text, place = self._rng.random() < 0.5, self._rng.random()
        if fault == "timeout":
            return _error(fault, hold_seconds=self._behavior.hold_seconds)
        if fault in _ERRORS:
            retry = self._behavior.interval_seconds if fault == "429" else None
            return _error(fault, retry_after_seconds=retry)
        first, stop = self._due(now)
        rows = self._rows(first, stop)
        body = _body(rows, is_text)
        if fault == "drop":
            return Answer(200, body, is_cut=True)
        if fault == "malformed":
            return Answer(200, _malformed(body, place))
        # The source may have ended before `stop`.
        self.progress.next_row = first + len(rows)
        self.progress.answers += 1
        self.progress.rows += len(rows)
        return Answer(200, body, is_delivered=True)

    def served(self, with_list: bool = False) -> dict[str, Any]:
        """What good answers have delivered since the first start.

        Returns:
            ``answers``; ``rows``, repeated ones included; ``distinct`` values of ``trans_num``;
            ``corrupted`` rows, each counted once. With ``with_list`` also ``trans_nums``, the
            sorted distinct ones of sound rows, and ``corrupted_trans_nums``, those that the
            corrupt rows would have.
        """
        stop = self.progress.next_row
        is_corrupt = self._is_corrupt(0, stop)
        counts: dict[str, Any] = {
            "answers": self.progress.answers,
            "rows": self.progress.rows,
            "distinct": self._source.distinct(stop),
            "corrupted": int(is_corrupt.sum()),
        }
        if not with_list:
            return counts
        pairs = list(zip(self._source.rows(0, stop)["trans_num"], is_corrupt, strict=True))
        return counts | {
            "trans_nums": sorted({name for name, is_bad in pairs if not is_bad}),
            "corrupted_trans_nums": sorted({name for name, is_bad in pairs if is_bad}),
        }

    def _due(self, now: float) -> tuple[int, int]:
        """The rows to serve; none where the source is exhausted."""
        delivered = self.progress.next_row
        if self._source.is_exhausted(delivered):
            return delivered, delivered
        assert self._first_call_at is not None
        seconds = self._behavior.interval_seconds + now - self._first_call_at
        due = self._base + math.floor(self._behavior.rate * seconds + 1e-6)
        first = max(delivered - self._behavior.overlap, self._base)
        return first, max(due, delivered)

    def _rows(self, first: int, stop: int) -> list[list[Any]]:
        frame = self._source.rows(first, stop)
        columns = {name: frame[name].tolist() for name in API_COLUMNS if name in frame}
        for name in _NUMBER_LIKE:
            columns[name] = [_as_number(text) for text in columns[name]]
        columns["current_time"] = self._times(first, frame)
        rows = [list(row) for row in zip(*(columns[name] for name in API_COLUMNS), strict=True)]
        for at in self._is_corrupt(first, first + len(rows)).nonzero()[0].tolist():
            values = dict(zip(API_COLUMNS, rows[at], strict=True))
            rows[at] = list(corrupted(self._behavior.seed, first + at, values).values())
        return rows

    def _is_corrupt(self, first: int, stop: int) -> NDArray[np.bool_]:
        return self._behavior.faults.is_corrupt(self._behavior.seed, first, stop)

    def _times(self, first: int, frame: pd.DataFrame) -> list[int]:
        """Epoch milliseconds."""
        if not self._behavior.is_told_now:
            return (frame["event_time"].astype("int64") // 1000).tolist()
        assert self._first_call_at is not None
        begin = self._first_call_at - self._behavior.interval_seconds
        return [
            round(1000 * (begin + (number - self._base + 1) / self._behavior.rate))
            for number in range(first, first + len(frame))
        ]


def _error(
    name: str, retry_after_seconds: float | None = None, hold_seconds: float = 0.0
) -> Answer:
    status, reason = _ERRORS[name]
    headers = {}
    if retry_after_seconds is not None:
        headers["Retry-After"] = str(math.ceil(retry_after_seconds))
    body = json.dumps({"detail": reason}).encode()
    return Answer(status, body, headers, hold_seconds=hold_seconds)


def _body(rows: list[list[Any]], is_text: bool) -> bytes:
    index = list(range(len(rows)))
    text = json.dumps({"columns": list(API_COLUMNS), "index": index, "data": rows})
    return (json.dumps(text) if is_text else text).encode()


def _malformed(body: bytes, place: float) -> bytes:
    """``body`` without its end, or with a byte in it that no UTF-8 text has."""
    at = 1 + int(place * (len(body) - 2))
    return body[:at] if at % 2 else body[:at] + b"\xff" + body[at:]


def _as_number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and str(int(text)) == text else text
