"""The table `alerts`: every hit once, and how its mail fared."""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from conf.sections import WarehouseSettings
from jobs.commits import committed
from jobs.envelopes import MOMENT
from jobs.outbox import Hit, Mail
from jobs.tables import arrow_schema, ensure_table, rows_where

_OUTCOME = ("status", "attempts", "sent_at", "message_id", "recipients", "last_error")
_HIT_COLUMNS = tuple(item.name for item in fields(Hit))


class AlertLedger:
    """Reads and writes the table `alerts`. One process writes it at a time; its threads take turns,
    as what one appends would be in conflict with what another merges.
    """

    def __init__(self, warehouse: WarehouseSettings, recipients: Sequence[str]) -> None:
        self._table = DeltaTable(ensure_table(warehouse, "alerts"))
        self._recipients = ", ".join(recipients)
        self._turn = threading.Lock()
        known = self._table.to_pyarrow_dataset().to_table(["trans_num"])
        self._known: set[str] = set(known["trans_num"].to_pylist())

    def add_hits(self, hits: pa.Table, query: str, batch_id: int) -> list[Hit]:
        """Record the hits of a micro-batch as pending, those that the ledger has not.

        Args:
            hits: rows of `transactions`.
            query: identity of the writing query.
            batch_id: its micro-batch.
        """
        batch = f"{query}/{batch_id:010d}"
        found = {
            row["trans_num"]: _hit(row | {"batch": batch})
            for row in hits.to_pylist()
            if row["trans_num"] not in self._known
        }
        new = list(found.values())
        if new:
            pending = {
                "recorded_at": datetime.now(UTC), "status": "pending", "attempts": 0,
                "recipients": self._recipients,
            }  # fmt: skip
            with self._turn:
                rows = [vars(hit) | pending for hit in new]
                committed(lambda: self._append(rows, query, batch_id))
            self._known |= found.keys()
        return new

    def _append(self, rows: Sequence[Mapping[str, Any]], query: str, batch_id: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        self._table.update_incremental()
        write_deltalake(
            self._table,
            pa.Table.from_pylist(rows, arrow_schema("alerts")),
            mode="append",
            commit_properties=CommitProperties(
                app_transactions=[Transaction(query, batch_id, now_ms)]
            ),
        )

    def pending(self) -> list[Hit]:
        """Hits whose mail has neither been sent nor given up."""
        columns = [*_HIT_COLUMNS, "status"]
        rows = self._rows(columns, pc.field("status") == "pending")
        return [_hit(row) for row in rows.to_pylist()]

    def sent_since(self, moment: datetime) -> list[tuple[datetime, int]]:
        """When mails went out since ``moment``, and how many hits each had."""
        rows = self._rows(
            ["message_id", "sent_at"], pc.field("sent_at") > pa.scalar(moment, MOMENT)
        )
        mails = rows.group_by("message_id").aggregate([("sent_at", "max"), ("sent_at", "count")])
        return [(mail["sent_at_max"], mail["sent_at_count"]) for mail in mails.to_pylist()]

    def record(self, mails: Sequence[Mail]) -> None:
        """Write how these mails fared to the rows of their hits."""
        rows = [
            {name: getattr(mail, name, None) for name in _OUTCOME}
            | {"trans_num": hit.trans_num, "recipients": self._recipients}
            for mail in mails
            for hit in mail.hits
        ]
        schema = arrow_schema("alerts")
        columns = pa.schema([schema.field(name) for name in ("trans_num", *_OUTCOME)])
        with self._turn:
            self._table.update_incremental()
            self._table.merge(
                pa.Table.from_pylist(rows, columns),
                "alert.trans_num = outcome.trans_num",
                source_alias="outcome",
                target_alias="alert",
            ).when_matched_update({name: f"outcome.{name}" for name in _OUTCOME}).execute()

    def _rows(self, columns: Iterable[str], asked: pc.Expression) -> pa.Table:
        with self._turn:
            self._table.update_incremental()
            return rows_where(self._table.to_pyarrow_dataset(), list(columns), asked)


def _hit(row: Mapping[str, Any]) -> Hit:
    values = {name: row[name] for name in _HIT_COLUMNS}
    return Hit(**values | {"reasons": tuple(row["reasons"] or ())})
