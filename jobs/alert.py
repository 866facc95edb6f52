"""Mail the fraud hits: ``spark-submit … jobs/alert.py --config conf/local.toml [--once]``.

A stream over `transactions` records each hit in `alerts` as pending; a timer of its own mails what
is pending and tries again, also while no new payment comes.
"""

import argparse
import logging
import os
import sys
import threading
from datetime import UTC, datetime, timedelta

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.readwriter import DataStreamWriter

from conf.sections import AlertSettings
from conf.settings import Settings, settings_from_arguments
from jobs.alert_ledger import AlertLedger
from jobs.mail import compose, deliver
from jobs.mail_journal import MailJournal
from jobs.mailer import Mailer, run_on_timer
from jobs.outbox import Mail, Outbox, OutboxRules
from jobs.run import log_to_stderr, run_until_stopped, stop_on_signals
from jobs.sole import sole
from jobs.spark import spark_session
from jobs.tables import ensure_table

log = logging.getLogger("jobs.alert")


def hits_stream(
    spark: SparkSession, settings: Settings, ledger: AlertLedger, mailer: Mailer
) -> DataStreamWriter:
    """The query that records hits as pending and tells the mailer of them; not started."""

    def record(batch: DataFrame, batch_id: int) -> None:
        query = str(spark.sparkContext.getLocalProperty("sql.streaming.queryId"))
        hits = ledger.add_hits(batch.where("prediction").toArrow(), query, batch_id)
        if hits:
            log.info("batch %d: %d hits", batch_id, len(hits))
            mailer.add(hits)

    transactions = (
        spark.readStream.format("delta")
        # Labels are merged into the table: what is rewritten then is no new payment.
        .option("skipChangeCommits", "true")
        .load(ensure_table(settings.warehouse, "transactions"))
    )
    return (
        transactions.writeStream.queryName("alert")
        .option("checkpointLocation", settings.warehouse.checkpoint("alert"))
        .foreachBatch(record)
    )


def make_mailer(settings: Settings, ledger: AlertLedger) -> Mailer:
    """The mailer over relay, journal and ledger, with what an earlier process left."""
    alert = settings.alert

    def send(mail: Mail) -> dict[str, str]:
        return deliver(compose(mail, alert.sender, alert.recipients), settings.smtp)

    mailer = Mailer(
        Outbox(outbox_rules(alert)),
        MailJournal(alert.journal),
        ledger,
        send,
        clock=lambda: datetime.now(UTC),
    )
    mailer.begin()
    return mailer


def outbox_rules(alert: AlertSettings) -> OutboxRules:
    """The settings that the outbox goes by."""
    return OutboxRules(
        window=timedelta(seconds=alert.window_seconds),
        max_hits_in_window=alert.max_hits_in_window,
        retry_max=timedelta(seconds=alert.retry_max_seconds),
        give_up_after=timedelta(hours=alert.give_up_hours),
    )


def main() -> int:
    """Parse arguments, wire, run."""
    parser = argparse.ArgumentParser(description="Mail the fraud hits.")
    parser.add_argument(
        "--once", action="store_true", help="record and try what is there, then end"
    )
    settings, arguments = settings_from_arguments(parser)
    log_to_stderr()
    spark = spark_session("alert")
    ended = stop_on_signals()
    with sole(settings.warehouse, "alert", ended):
        status = run_alert(spark, settings, arguments.once, ended)
    spark.stop()
    return status


def run_alert(spark: SparkSession, settings: Settings, once: bool, ended: threading.Event) -> int:
    """Run stream and mailer until asked to end (with ``once``: until each mail was tried).

    Returns:
        The exit status: with ``once``, 1 where a mail still waits.
    """
    ledger = AlertLedger(settings.warehouse, settings.alert.recipients)
    mailer = make_mailer(settings, ledger)
    stream = hits_stream(spark, settings, ledger, mailer)
    checkpoint = settings.warehouse.checkpoint("alert")
    recipients = ", ".join(settings.alert.recipients)
    log.info("alert is running, pid %d: mails go to %s", os.getpid(), recipients)
    if once:
        status = run_until_stopped(stream.trigger(availableNow=True), checkpoint, ended)
        mailer.tick()
        return status or int(not mailer.is_idle)
    timer = run_on_timer(mailer, settings.alert.tick_seconds, ended)
    every = f"{settings.alert.trigger_seconds} seconds"
    status = run_until_stopped(stream.trigger(processingTime=every), checkpoint, ended)
    ended.set()
    timer.join(timeout=2 * settings.smtp.timeout_seconds)
    return status or int(mailer.has_failed)


if __name__ == "__main__":
    sys.exit(main())
