"""The table `alerts`: every hit once, and how its mail fared."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from conf.sections import WarehouseSettings
from jobs.outbox import Hit, Mail
from jobs.schemas import ALERTS
from jobs.tables import append, ensure_table

_OUTCOME = ("status", "attempts", "sent_at", "message_id", "recipients", "last_error")
_OUTCOME_SCHEMA = StructType([ALERTS["trans_num"], *(ALERTS[name] for name in _OUTCOME)])
_HIT_COLUMNS = tuple(item.name for item in fields(Hit))


class AlertLedger:
    """Reads and writes the table `alerts`."""

    def __init__(
        self, spark: SparkSession, warehouse: WarehouseSettings, recipients: Sequence[str]
    ) -> None:
        self._spark = spark
        self._path = ensure_table(warehouse, "alerts")
        self._recipients = ", ".join(recipients)

    def add_hits(self, transactions: DataFrame, query: str, batch_id: int) -> list[Hit]:
        """Record the hits of a micro-batch as pending, those that the ledger has not.

        Args:
            transactions: rows of `transactions`.
            query: identity of the writing query.
            batch_id: its micro-batch.
        """
        known = self._table().select("trans_num")
        found = (
            transactions.where("prediction")
            .withColumn("batch", F.lit(f"{query}/{batch_id:010d}"))
            .join(known, on="trans_num", how="left_anti")
        )
        hits = _collect(found)
        if hits:
            pending = {
                "recorded_at": datetime.now(UTC), "status": "pending", "attempts": 0,
                "recipients": self._recipients,
            }  # fmt: skip
            rows = [vars(hit) | pending for hit in hits]
            ordered = [tuple(row.get(name) for name in ALERTS.fieldNames()) for row in rows]
            append(self._spark.createDataFrame(ordered, ALERTS), self._path, query, batch_id)
        return hits

    def pending(self) -> list[Hit]:
        """Hits whose mail has neither been sent nor given up."""
        return _collect(self._table().where("status = 'pending'"))

    def sent_since(self, moment: datetime) -> list[tuple[datetime, int]]:
        """When mails went out since ``moment``, and how many hits each had."""
        rows = (
            self._table()
            .where(F.col("sent_at") > F.lit(moment))
            .groupBy("message_id")
            .agg(_micros(F.max("sent_at")).alias("sent_at"), F.count("*").alias("hits"))
            .collect()
        )
        return [(_from_micros(row["sent_at"]), row["hits"]) for row in rows]

    def record(self, mails: Sequence[Mail]) -> None:
        """Write how these mails fared to the rows of their hits."""
        rows = [
            (hit.trans_num, mail.status, mail.attempts, mail.sent_at, mail.message_id,
             self._recipients, mail.last_error)
            for mail in mails
            for hit in mail.hits
        ]  # fmt: skip
        outcomes = self._spark.createDataFrame(rows, _OUTCOME_SCHEMA).alias("outcome")
        (
            DeltaTable.forPath(self._spark, self._path)
            .alias("alert")
            .merge(outcomes, "alert.trans_num = outcome.trans_num")
            .whenMatchedUpdate(set={name: f"outcome.{name}" for name in _OUTCOME})
            .execute()
        )

    def _table(self) -> DataFrame:
        return self._spark.read.format("delta").load(self._path)


def _collect(rows: DataFrame) -> list[Hit]:
    # A collected timestamp would be in the zone of this process, without saying so.
    columns = [
        _micros(F.col(name)).alias(name) if name == "event_time" else F.col(name)
        for name in _HIT_COLUMNS
    ]
    collected = (row.asDict() for row in rows.select(*columns).collect())
    return [
        Hit(
            **row
            | {
                "event_time": _from_micros(row["event_time"]),
                "reasons": tuple(row["reasons"] or ()),
            }
        )
        for row in collected
    ]


def _micros(column: Column) -> Column:
    return F.unix_micros(column)


def _from_micros(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / 1e6, UTC)
