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
from collections.abc import Callable

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.readwriter import DataStreamWriter

from conf.settings import Settings, settings_from_arguments, stop
from jobs.card_memory import add_memory
from jobs.champion import ChampionWatcher, MlflowRegistry, ModelCache, NoModel
from jobs.features import FEATURE_NAMES
from jobs.hits_topic import HitsTopic
from jobs.parse import check_payments, parse_payload, payment_columns
from jobs.resume import Resume, resume_point
from jobs.run import log_to_stderr, run_until_stopped, stop_on_signals
from jobs.scoring import ModelVersion, Scorer
from jobs.sources import payment_envelopes
from jobs.spark import spark_session
from jobs.tables import REJECTED, TRANSACTIONS, append, ensure_table, read_table

log = logging.getLogger("jobs.score")


def remembered(envelopes: DataFrame, settings: Settings, resume: Resume) -> DataFrame:
    """Envelopes to the operator's output (``jobs.card_memory.OPERATOR_OUTPUT``)."""
    score = settings.score
    envelopes = envelopes.transform(resume.skip_written)
    checked = check_payments(envelopes, score.optional_fields, score.max_days_ahead)
    return add_memory(checked, score.buckets, score.seen_days, resume.past)


def valid_payments(batch: DataFrame) -> DataFrame:
    """First arrivals that are valid payments: ``payment`` (struct), the envelope, the features."""
    return parse_payload(batch.where("reason IS NULL AND is_first")).withColumn(
        "payment", F.struct(*payment_columns())
    )


def transactions_of(batch: DataFrame, model: ModelVersion, scorer: Scorer) -> DataFrame:
    """The rows of `transactions` in a micro-batch of operator output."""
    scored = scorer.add_score(valid_payments(batch), model)
    return scored.select(
        "payment.*",
        "source",
        "position",
        F.col("received_at").alias("ingested_at"),
        F.current_timestamp().alias("scored_at"),
        F.struct(*FEATURE_NAMES).alias("features"),
        "fraud_score",
        (F.col("fraud_score") >= model.threshold).alias("prediction"),
        F.lit(model.threshold).alias("threshold"),
        F.lit(model.name).alias("model_name"),
        F.lit(model.version).alias("model_version"),
        F.lit(None).cast("boolean").alias("label"),
        F.lit(None).cast("string").alias("label_source"),
        F.lit(None).cast("timestamp").alias("labelled_at"),
    ).select(*TRANSACTIONS.fieldNames())


def rejected_of(batch: DataFrame) -> DataFrame:
    """The rows of `rejected` in a micro-batch of operator output."""
    return batch.where("reason IS NOT NULL AND is_first").select(*REJECTED.fieldNames())


def batch_writer(
    spark: SparkSession, settings: Settings, champion: Callable[[], ModelVersion]
) -> Callable[[DataFrame, int], None]:
    """What foreachBatch calls: writes both tables, each micro-batch once."""
    paths = {
        name: ensure_table(spark, settings.warehouse, name) for name in ("transactions", "rejected")
    }
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
            scored = transactions_of(batch, model, scorer)
            if hits_topic:
                scored.persist()  # scored once, for the table and for the topic
            if counts["valid"]:
                append(scored, paths["transactions"], query, batch_id)
            if counts["rejected"]:
                append(rejected_of(batch), paths["rejected"], query, batch_id)
            if hits_topic and counts["valid"]:
                hits_topic.after_commit(scored, batch)
            scored.unpersist()
        finally:
            batch.unpersist()
        log.info(
            "batch %d: %d received, %d scored by %s, %d rejected, %d seen before, %.2f s",
            batch_id, counts["received"], counts["valid"], model.label, counts["rejected"],
            counts["received"] - counts["valid"] - counts["rejected"],
            time.perf_counter() - started,
        )  # fmt: skip

    return write


def count_kinds(batch: DataFrame) -> dict[str, int]:
    """How many rows of operator output are received, valid (and first), rejected (and first)."""
    row = batch.agg(
        F.count("*").alias("received"),
        F.count_if(F.col("reason").isNull() & F.col("is_first")).alias("valid"),
        F.count_if(F.col("reason").isNotNull() & F.col("is_first")).alias("rejected"),
    ).first()
    return {name: int(count) for name, count in row.asDict().items()} if row else {}


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
        envelopes = payment_envelopes(spark, settings, resume.written)
        return score_stream(remembered(envelopes, settings, resume), write, checkpoint)

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
