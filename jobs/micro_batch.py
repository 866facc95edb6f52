"""A micro-batch of operator output, written to the tables: what foreachBatch calls."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from conf.settings import Settings
from jobs.blocks import from_block
from jobs.hits_topic import HitsTopic, observe_hits
from jobs.scoring import LATER_COLUMNS, Address, ModelVersion, Scorer, joined_blocks, only_at
from jobs.tables import (
    ADDRESSES,
    DUPLICATES,
    REJECTED,
    TRANSACTIONS,
    WRITTEN_TABLES,
    append,
    ensure_table,
    read_table,
)

log = logging.getLogger("jobs.score")

_FEW_ROWS = 5_000


class BatchWriter:
    """Scores each micro-batch and writes it to the tables, once.

    ``has_written`` is set once a micro-batch was written.
    """

    def __init__(
        self, spark: SparkSession, settings: Settings, champion: Callable[[], ModelVersion]
    ) -> None:
        self._spark, self._champion = spark, champion
        self._paths = {
            name: ensure_table(spark, settings.warehouse, name) for name in WRITTEN_TABLES
        }
        self._scorer = Scorer(spark)
        self._hits_topic = settings.kafka and HitsTopic.of(
            settings.kafka, lambda: read_table(spark, settings.warehouse, "transactions")
        )
        self.has_written = threading.Event()

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        """Write ``batch``, columns ``jobs.card_memory.OPERATOR_OUTPUT`` (called by Spark)."""
        started = time.perf_counter()
        model = self._champion()
        batch.persist()
        try:
            counts = count_kinds(batch)
            self._write(batch, batch_id, counts, model)
        finally:
            batch.unpersist()
        self.has_written.set()
        scored = counts.valid - len(counts.duplicates)
        log.info(
            "batch %d: %d received, %d scored by %s, %d rejected, %d seen before, %.2f s",
            batch_id, counts.received, scored, model.label, counts.invalid,
            counts.received - scored - counts.invalid, time.perf_counter() - started,
        )  # fmt: skip

    def _write(
        self, batch: DataFrame, batch_id: int, counts: "Counts", model: ModelVersion
    ) -> None:
        # The query's identity lives in its checkpoint: a new checkpoint writes as somebody new.
        query = str(self._spark.sparkContext.getLocalProperty("sql.streaming.queryId"))
        # A few rows are not worth a task, a file and a Python worker for each partition.
        blocks = batch.coalesce(1) if counts.valid <= _FEW_ROWS else batch
        rows = transactions_of(blocks, model, self._scorer, counts.duplicates)
        if self._hits_topic:
            rows, hits = observe_hits(rows)
        if counts.valid:
            append(rows, self._paths["transactions"], query, batch_id)
        if counts.duplicates:
            elsewhere = duplicates_of(batch, counts.duplicates)
            append(elsewhere, self._paths["duplicates"], query, batch_id)
        if counts.invalid:
            append(rejected_of(batch), self._paths["rejected"], query, batch_id)
        if self._hits_topic and counts.valid:
            self._hits_topic.after_commit(hits, addresses_of(batch))


def transactions_of(
    batch: DataFrame, model: ModelVersion, scorer: Scorer, duplicates: Collection[Address]
) -> DataFrame:
    """The rows of `transactions` in a micro-batch of operator output."""
    missing = {name: F.lit(None).cast(TRANSACTIONS[name].dataType) for name in LATER_COLUMNS}
    scored = scorer.score(batch, model, duplicates)
    return scored.withColumns(missing).select(*TRANSACTIONS.fieldNames())


def rejected_of(batch: DataFrame) -> DataFrame:
    """The rows of `rejected` in a micro-batch of operator output."""
    return _opened(batch, "rejected", REJECTED)


def addresses_of(batch: DataFrame) -> DataFrame:
    """`source`, `position`, `received_at` of the payments in a micro-batch of operator output."""
    return _opened(batch, "payments", ADDRESSES)


def _opened(batch: DataFrame, blocks: str, schema: StructType) -> DataFrame:
    names = schema.fieldNames()

    def open_blocks(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for block in batch.column(0):
                yield from from_block(block.as_buffer()).select(names).to_batches()

    return batch.where(F.col(blocks).isNotNull()).select(blocks).mapInArrow(open_blocks, schema)


def duplicates_of(batch: DataFrame, duplicates: Collection[Address]) -> DataFrame:
    """The rows of `duplicates` in a micro-batch of operator output: first arrivals on their cards
    at these addresses.
    """

    def select(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for payments in joined_blocks(batches):
            rows = only_at(payments, duplicates)
            rows = rows.append_column("ingested_at", rows["received_at"])
            yield from rows.select(DUPLICATES.names).to_batches()

    return batch.select("payments").mapInArrow(select, DUPLICATES)


@dataclass(frozen=True)
class Counts:
    """What is in a micro-batch: rows received, valid and invalid first arrivals on their cards, and
    the addresses of those valid ones whose `trans_num` another card used before.
    """

    received: int
    valid: int
    invalid: int
    duplicates: frozenset[Address]


def count_kinds(batch: DataFrame) -> Counts:
    """Count a micro-batch of operator output."""
    rows = batch.select("received", "valid", "invalid", "duplicates").collect()
    addresses = [
        (address["source"], address["position"])
        for row in rows
        if row["duplicates"] is not None
        for address in from_block(bytes(row["duplicates"])).to_pylist()
    ]
    received, valid, invalid = (
        sum(row[name] for row in rows) for name in ("received", "valid", "invalid")
    )
    return Counts(received, valid, invalid, frozenset(addresses))
