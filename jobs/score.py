"""Score payments as they land: ``spark-submit … jobs/score.py --config conf/local.toml``, with
``--once`` what is there; ``--beside label maintain`` does the work of these jobs in its process.

One streaming query. Each micro-batch is parsed, goes through the stateful operator, is scored by
the champion of the registry and written to Delta: `transactions` and `rejected`. With Kafka in the
settings, payments come from a topic, and hits go to another one.
"""

import argparse
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.readwriter import DataStreamWriter

from conf.sections import RegistrySettings
from conf.settings import Settings, settings_from_arguments, stop
from ingest.payment_files import PaymentFileError
from jobs.alarm import AlarmsBeside, send_alarm
from jobs.arrivals import cut_into_buckets
from jobs.beside import add_beside, beside
from jobs.card_memory import KEYED_BLOCK, add_memory, keyed_blocks
from jobs.champion import CHALLENGER, AliasWatcher, NoModel
from jobs.lineup import LiveModels, Models
from jobs.micro_batch import BatchWriter
from jobs.model_cache import ModelCache
from jobs.model_registry import MlflowRegistry
from jobs.parse import Rules, parse_payloads
from jobs.resume import OtherLayout, Resume, behind, resume_point
from jobs.run import Clock, log_to_stderr, run_until_stopped, stop_on_signals, utc_now
from jobs.scoring import Stamp, stamped_now
from jobs.sole import sole
from jobs.sources import Source, payment_source
from jobs.spark import spark_session
from jobs.worker import settle

log = logging.getLogger("jobs.score")


def remembered(source: Source, settings: Settings, resume: Resume) -> DataFrame:
    """What came in, to the operator's output (``jobs.card_memory.OPERATOR_OUTPUT``)."""
    score = settings.score
    rules = Rules(score.optional_fields, score.max_days_ahead)
    open_rows, written, buckets = source.open, resume.written, score.buckets

    def parse(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        settle()
        for batch in batches:
            envelopes = behind(open_rows(pa.Table.from_batches([batch])), written)
            parsed = parse_payloads(envelopes, rules)
            yield keyed_blocks(list(cut_into_buckets(parsed, buckets)))

    return add_memory(source.rows.mapInArrow(parse, KEYED_BLOCK), score.seen_days, resume.past)


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
    add_beside(parser)
    settings, arguments = settings_from_arguments(parser)
    if arguments.once and arguments.beside:
        parser.error("--beside is for a job that runs on, --once ends")
    log_to_stderr()
    spark = spark_session("score")
    ended = stop_on_signals()
    with (
        sole(settings.warehouse, "score", ended),
        beside(arguments.beside, settings, ended) as others,
    ):
        status = score_with_aliases(spark, settings, arguments.once, ended)
    spark.stop()
    return 1 if others.failed else status


def score_with_aliases(
    spark: SparkSession, settings: Settings, once: bool, ended: threading.Event
) -> int:
    """Score with the versions that the registry's aliases point to.

    Ends the process with one line where there is no version, or the checkpoint does not fit.

    Returns:
        The exit status.
    """
    champion, challenger = alias_watchers(settings.registry)
    champion.start()
    challenger.start()
    try:
        log.info("scoring with %s", champion.current.label)
    except NoModel as error:
        stop(str(error))
    alarms = AlarmsBeside(partial(send_alarm, settings))
    models = LiveModels(champion, challenger, alarms)
    try:
        status = run_score(spark, settings, models, once, ended)
    except PaymentFileError as error:
        stop(f"score.history: {error}")
    except OtherLayout as error:
        stop(str(error))
    for running in (champion, challenger, alarms):
        running.stop()
    return status


def alias_watchers(settings: RegistrySettings) -> tuple[AliasWatcher, AliasWatcher]:
    """Those of champion and challenger, not started."""
    of_champion = AliasWatcher(
        MlflowRegistry(settings), ModelCache(settings.cache, settings), settings.poll_seconds
    )
    of_challenger = AliasWatcher(
        MlflowRegistry(settings, settings.challenger_alias),
        ModelCache(settings.cache / CHALLENGER, settings),
        settings.poll_seconds,
        role=CHALLENGER,
    )
    return of_champion, of_challenger


def run_score(
    spark: SparkSession,
    settings: Settings,
    models: Models,
    once: bool,
    ended: threading.Event,
    clock: Clock = utc_now,
    stamp: Stamp = stamped_now,
) -> int:
    """Run the query until it is asked to end (or, with ``once``, until all is scored).

    Args:
        clock: tells a new checkpoint when ``score.history`` counts as received.
        stamp: tells when payments are scored.

    Returns:
        The exit status.
    """
    checkpoint = settings.warehouse.checkpoint("score")
    write = BatchWriter(spark, settings, models, stamp)

    def stream(resume: Resume) -> DataStreamWriter:
        source = payment_source(spark, settings, resume.written)
        return score_stream(remembered(source, settings, resume), write, checkpoint)

    resume = resume_point(spark, settings, checkpoint, clock)
    trigger = (
        {"availableNow": True}
        if once
        else {"processingTime": f"{settings.score.trigger_seconds} seconds"}
    )
    log.info("score is running, pid %d", os.getpid())
    if resume.past is not None:
        log.info("new checkpoint: the first micro-batch remembers the past")
        first = stream(resume).trigger(**trigger)
        status = run_until_stopped(first, checkpoint, ended, enough=write.has_written)
        if status or ended.is_set() or not write.has_written.is_set():
            return _explained(spark, settings, resume, status)
        # Spark would read the initial state again for every micro-batch of the query.
        resume = resume.after_first_batch()
    status = run_until_stopped(stream(resume).trigger(**trigger), checkpoint, ended)
    return _explained(spark, settings, resume, status)


def _explained(spark: SparkSession, settings: Settings, resume: Resume, status: int) -> int:
    """``status``; where the query failed for messages that are gone, the log says which."""
    if status and settings.kafka is not None:
        payment_source(spark, settings, resume.written)  # which ends the process if so
    return status


if __name__ == "__main__":
    sys.exit(main())
