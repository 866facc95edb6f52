"""Score payments as they land: ``spark-submit … jobs/score.py --config conf/local.toml [--once]``.

One streaming query. Each micro-batch is parsed, goes through the stateful operator, is scored by
the champion of the registry and written to Delta: `transactions` and `rejected`. With Kafka in the
settings, payments come from a topic, and hits go to another one.
"""

import argparse
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.readwriter import DataStreamWriter
from pyspark.sql.types import StructType

from conf.settings import Settings, settings_from_arguments, stop
from jobs.arrivals import cut_into_buckets
from jobs.blocks import from_block
from jobs.card_memory import KEYED_BLOCK, add_memory, keyed_blocks
from jobs.champion import ChampionWatcher, MlflowRegistry, ModelCache, NoModel
from jobs.hits_topic import HitsTopic, observe_hits
from jobs.parse import Rules, parse_payloads
from jobs.resume import Resume, behind, resume_point
from jobs.run import log_to_stderr, run_until_stopped, stop_on_signals
from jobs.scoring import LATER_COLUMNS, Address, ModelVersion, Scorer, joined_blocks, only_at
from jobs.sources import Source, payment_source
from jobs.spark import spark_session
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


def remembered(source: Source, settings: Settings, resume: Resume) -> DataFrame:
    """What came in, to the operator's output (``jobs.card_memory.OPERATOR_OUTPUT``)."""
    score = settings.score
    rules = Rules(score.optional_fields, score.max_days_ahead)
    open_rows, written, buckets = source.open, resume.written, score.buckets

    def parse(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            envelopes = behind(open_rows(pa.Table.from_batches([batch])), written)
            parsed = parse_payloads(envelopes, rules)
            yield keyed_blocks(list(cut_into_buckets(parsed, buckets)))

    return add_memory(source.rows.mapInArrow(parse, KEYED_BLOCK), score.seen_days, resume.past)


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


def batch_writer(
    spark: SparkSession, settings: Settings, champion: Callable[[], ModelVersion]
) -> Callable[[DataFrame, int], None]:
    """What foreachBatch calls: writes the tables, each micro-batch once."""
    paths = {name: ensure_table(spark, settings.warehouse, name) for name in WRITTEN_TABLES}
    scorer = Scorer(spark)
    hits_topic = settings.kafka and HitsTopic.of(
        settings.kafka, lambda: read_table(spark, settings.warehouse, "transactions")
    )

    def write(batch: DataFrame, batch_id: int) -> None:
        started = time.perf_counter()
        model = champion()
        # The query's identity lives in its checkpoint: a new checkpoint writes as somebody new.
        query = str(spark.sparkContext.getLocalProperty("sql.streaming.queryId"))
        batch.persist()
        try:
            counts = count_kinds(batch)
            valid = counts.valid - len(counts.duplicates)
            rows, hits = observe_hits(transactions_of(batch, model, scorer, counts.duplicates))
            if valid:
                append(rows, paths["transactions"], query, batch_id)
            if counts.duplicates:
                elsewhere = duplicates_of(batch, counts.duplicates)
                append(elsewhere, paths["duplicates"], query, batch_id)
            if counts.invalid:
                append(rejected_of(batch), paths["rejected"], query, batch_id)
            if hits_topic and valid:
                hits_topic.after_commit(hits, addresses_of(batch))
        finally:
            batch.unpersist()
        log.info(
            "batch %d: %d received, %d scored by %s, %d rejected, %d seen before, %.2f s",
            batch_id, counts.received, valid, model.label, counts.invalid,
            counts.received - valid - counts.invalid, time.perf_counter() - started,
        )  # fmt: skip

    return write


@dataclass(frozen=True)
class Counts:
    """What is in a micro-batch: rows received, valid and invalid first arrivals on their cards, and
    the addresses of payments whose `trans_num` another card used before, first arrivals or not.
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


def score_stream(
    rows: DataFrame, write: Callable[[DataFrame, int], None], checkpoint: str
) -> DataStreamWriter:
    """The query, not started."""
    return (
        rows.writeStream.queryName("score")
        .option("checkpointLocation", checkpoint)
        .foreachBatch(write)
    )


def main() -> int:
    """Parse arguments, wire, run."""
    parser = argparse.ArgumentParser(description="Score payments as they land.")
    parser.add_argument("--once", action="store_true", help="work through what is there, then end")
    settings, arguments = settings_from_arguments(parser)
    log_to_stderr()
    spark = spark_session("score")
    ended = stop_on_signals()
    watcher = ChampionWatcher(
        MlflowRegistry(settings.registry),
        ModelCache(settings.registry.cache),
        settings.registry.poll_seconds,
    )
    watcher.start()
    try:
        log.info("scoring with %s", watcher.current.label)
    except NoModel as error:
        stop(str(error))
    status = run_score(spark, settings, lambda: watcher.current, arguments.once, ended)
    watcher.stop()
    spark.stop()
    return status


def run_score(
    spark: SparkSession,
    settings: Settings,
    champion: Callable[[], ModelVersion],
    once: bool,
    ended: threading.Event,
) -> int:
    """Run the query until it is asked to end (or, with ``once``, until all is scored).

    Returns:
        The exit status.
    """
    checkpoint = settings.warehouse.checkpoint("score")
    write = batch_writer(spark, settings, champion)

    def stream(resume: Resume) -> DataStreamWriter:
        source = payment_source(spark, settings, resume.written)
        return score_stream(remembered(source, settings, resume), write, checkpoint)

    resume = resume_point(spark, settings, checkpoint)
    if resume.past is not None:
        # Spark reads an initial state again for every batch of the query that began with it.
        log.info("new checkpoint: starting behind what the tables hold")
        status = run_until_stopped(stream(resume).trigger(availableNow=True).start(), ended)
        if status or ended.is_set():
            return status
        resume = resume.after_first_batch()
    trigger = (
        {"availableNow": True}
        if once
        else {"processingTime": f"{settings.score.trigger_seconds} seconds"}
    )
    log.info("score is running, pid %d", os.getpid())
    return run_until_stopped(stream(resume).trigger(**trigger).start(), ended)


if __name__ == "__main__":
    sys.exit(main())
