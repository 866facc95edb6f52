"""What the mailer did, before the ledger knows: an answer of the relay is on disk at once, while a
commit to the Delta table takes a second in which the process may die."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from jobs.outbox import Hit, Mail

_TABLE = """
CREATE TABLE IF NOT EXISTS mails (
    message_id TEXT PRIMARY KEY, hits TEXT NOT NULL, is_digest INTEGER NOT NULL,
    planned_at TEXT NOT NULL, next_try_at TEXT NOT NULL, attempts INTEGER NOT NULL,
    status TEXT NOT NULL, sent_at TEXT, last_error TEXT)
"""


class MailJournal:
    """A SQLite file of the mails whose outcome does not stand in the ledger yet."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The mailer's thread writes what the main thread opened; never both at once.
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute(_TABLE)
        self._database.commit()

    def save(self, mail: Mail) -> None:
        """Write the mail as it stands; on disk when this returns."""
        row = (
            mail.message_id,
            json.dumps([_hit_to_json(hit) for hit in mail.hits]),
            int(mail.is_digest),
            mail.planned_at.isoformat(),
            mail.next_try_at.isoformat(),
            mail.attempts,
            mail.status,
            mail.sent_at.isoformat() if mail.sent_at else None,
            mail.last_error,
        )
        with self._database:
            self._database.execute(
                "INSERT OR REPLACE INTO mails VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row
            )

    def load(self) -> list[Mail]:
        """Every mail in the journal."""
        return [
            Mail(
                message_id=message_id,
                hits=tuple(_hit_from_json(hit) for hit in json.loads(hits)),
                is_digest=bool(is_digest),
                planned_at=datetime.fromisoformat(planned_at),
                next_try_at=datetime.fromisoformat(next_try_at),
                attempts=attempts,
                status=status,
                sent_at=datetime.fromisoformat(sent_at) if sent_at else None,
                last_error=last_error,
            )
            for (
                message_id, hits, is_digest, planned_at, next_try_at,
                attempts, status, sent_at, last_error,
            ) in self._database.execute("SELECT * FROM mails ORDER BY planned_at")
        ]  # fmt: skip

    def forget(self, mail: Mail) -> None:
        """Drop a mail whose outcome stands in the ledger."""
        with self._database:
            self._database.execute("DELETE FROM mails WHERE message_id = ?", (mail.message_id,))


def _hit_to_json(hit: Hit) -> dict[str, object]:
    return asdict(hit) | {"event_time": hit.event_time.isoformat()}


def _hit_from_json(values: Mapping[str, Any]) -> Hit:
    moment = datetime.fromisoformat(values["event_time"])
    # Journals of the time before reasons have none.
    return Hit(**{**values, "event_time": moment, "reasons": tuple(values.get("reasons", ()))})
