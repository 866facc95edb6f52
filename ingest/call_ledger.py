"""The ledger of ingest: which calls were made, and which positions were given.

A SQLite file. It is written before a call is made and before a file is landed, so that the limit
on calls holds across restarts and no position is ever given twice.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from conf.lock import Locked, locked

LANDED = "landed"
PRINTED = "printed"

_WINDOW_SECONDS = 60.0
_MARGIN_SECONDS = 0.5  # the API's clock and its idea of a minute need not be exactly ours

_TABLES = """
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY,
    started_at REAL NOT NULL,
    finished_at REAL,
    outcome TEXT,
    rows INTEGER NOT NULL DEFAULT 0,
    file TEXT
);
CREATE INDEX IF NOT EXISTS calls_by_start ON calls (started_at);
CREATE TABLE IF NOT EXISTS positions (source TEXT PRIMARY KEY, next INTEGER NOT NULL);
"""


class LedgerError(Exception):
    """The ledger cannot be used; the message says which file, why, and what to do."""


class AlreadyRunning(Exception):
    """Another process ingests here."""


@dataclass(frozen=True)
class Pace:
    """How often the API may be called, and how long one call can take (in seconds)."""

    calls_per_minute: int
    timeout_seconds: float

    @property
    def period_seconds(self) -> float:
        """The time from one call to the next."""
        return _WINDOW_SECONDS / self.calls_per_minute


class Slot(NamedTuple):
    """Leave to make one call (``call`` is its number), or None and the seconds to wait."""

    call: int | None
    wait_seconds: float


class Call(NamedTuple):
    """One try of a call. Times are seconds since the epoch.

    ``outcome`` is ``landed``, ``printed``, the kind of failure, or None where no end is known.
    """

    started_at: float
    outcome: str | None


class CallLedger:
    """Calls and positions; all methods are single transactions, safe between processes."""

    def __init__(self, path: Path, pace: Pace) -> None:
        """Open the ledger, and make it where it is missing.

        Raises:
            LedgerError: the file cannot be opened, or is something else.
        """
        self._path = path
        self._pace = pace
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=10, isolation_level=None)
            self._connection.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(
                f"cannot use {path} as ledger: {error}. Check landing.ledger; if the file is "
                "damaged, move it away: positions then go on behind the landed files"
            ) from error

    def take_slot(self, now: float) -> Slot:
        """Record the start of a call at ``now`` if the limit allows one, else say how long to wait.

        Calls start one period apart. A call reaches the API between its start and its end, so the
        window of a minute is counted from the *end* of the earlier call (for one without a known
        end: from when it would have timed out) to the start of the next.

        Raises:
            LedgerError: the ledger cannot be written.
        """
        with self._transaction() as connection:
            # Starts ahead of now: the clock was set back. Taken for just made, they keep the limit.
            connection.execute(
                "UPDATE calls SET started_at = :now, finished_at = min(finished_at, :now)"
                " WHERE started_at > :now",
                {"now": now},
            )
            wait_seconds = self._free_at(connection, now) - now
            if wait_seconds > 0:
                return Slot(None, wait_seconds)
            call = connection.execute("INSERT INTO calls (started_at) VALUES (?)", (now,)).lastrowid
            return Slot(call, 0.0)

    def _free_at(self, connection: sqlite3.Connection, now: float) -> float:
        limit, timeout = self._pace.calls_per_minute, self._pace.timeout_seconds
        latest = connection.execute(
            "SELECT started_at, max(started_at, coalesce(finished_at, started_at + ?)) FROM calls"
            " ORDER BY id DESC LIMIT ?",
            (timeout, 2 * limit),
        ).fetchall()
        if not latest:
            return now
        free_at: float = latest[0][0] + self._pace.period_seconds
        if len(latest) >= limit:
            ended = sorted((ended for _, ended in latest), reverse=True)[limit - 1]
            free_at = max(free_at, min(ended, now + timeout) + _WINDOW_SECONDS + _MARGIN_SECONDS)
        return free_at

    def finish_call(
        self, call: int, now: float, outcome: str, rows: int = 0, file: str | None = None
    ) -> None:
        """Record how ``call`` ended: ``landed``, ``printed`` or the kind of failure.

        Raises:
            LedgerError: the ledger cannot be written.
        """
        with self._transaction() as connection:
            connection.execute(
                "UPDATE calls SET finished_at = ?, outcome = ?, rows = ?, file = ? WHERE id = ?",
                (now, outcome, rows, file, call),
            )

    def reserve_positions(self, source: str, count: int, at_least: int = 0) -> int:
        """The first of ``count`` positions that nothing else of ``source`` will ever get.

        Args:
            at_least: positions below this one are taken, whatever the ledger says.

        Raises:
            LedgerError: the ledger cannot be written.
        """
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT next FROM positions WHERE source = ?", (source,)
            ).fetchone()
            first = max(row[0] if row else 0, at_least)
            connection.execute(
                "INSERT INTO positions (source, next) VALUES (?, ?)"
                " ON CONFLICT (source) DO UPDATE SET next = excluded.next",
                (source, first + count),
            )
            return first

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                yield self._connection
        except sqlite3.Error as error:
            raise LedgerError(f"cannot write the ledger {self._path}: {error}") from error


def read_calls(path: Path) -> list[Call]:
    """Every call in the ledger ``path``, in order; none where there is no ledger yet.

    Raises:
        LedgerError: the file cannot be read, or is something else.
    """
    if not path.exists():
        return []
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)
        try:
            rows = connection.execute("SELECT started_at, outcome FROM calls ORDER BY id")
            return [Call(*row) for row in rows]
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise LedgerError(f"cannot read {path} as ledger: {error}. Check landing.ledger") from error


@contextmanager
def exclusive(ledger: Path, folder: Path | None) -> Iterator[None]:
    """Keep every other process that asks for ``ledger`` or ``folder`` out, until the block ends.

    Args:
        folder: the landing folder, where there is one.

    Raises:
        AlreadyRunning: another process has one of them.
        OSError: the lock file or the folder cannot be made.
    """
    ledger.parent.mkdir(parents=True, exist_ok=True)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for path in (ledger.with_name(ledger.name + ".lock"), folder):
            if path is not None:
                try:
                    stack.enter_context(locked(path))
                except Locked as error:
                    raise AlreadyRunning(
                        f"another ingest runs here (it holds {path}): end it first, or use another "
                        "landing.ledger and landing.path"
                    ) from error
        yield
