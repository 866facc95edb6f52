"""Two months of the whole loop in minutes, on synthetic payments: ``make loop-demo``.

Payments are scored day by day, verdicts come late, fraud changes, the monitor mails, a version is
trained anew, runs in shadow, and takes the champion's place. Everything lies under ``var/loop``,
which each run begins by emptying; the plot is ``var/loop/accuracy.png``.
"""

import argparse
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pandas as pd
from mlflow.utils import logging_utils
from pyspark.sql import SparkSession
from rich.console import Console

from conf.interrupt import INTERRUPTED
from conf.settings import Settings, settings_from_arguments, stop
from jobs.loop_day import Loop
from jobs.loop_plot import accuracy_plot
from jobs.loop_system import LoopError
from jobs.loop_view import print_day, print_summary
from jobs.mail_catcher import catcher
from jobs.metrics_table import latest_metrics
from jobs.run import stop_on_signals
from jobs.spark import spark_session
from jobs.version_facts import KnownFacts

FOLDER = Path("var/loop")
MAILS, TRAINING, PLOT = FOLDER / "mails", FOLDER / "training.csv", FOLDER / "accuracy.png"
LOG = FOLDER / "loop.log"

console = Console()


def run(settings: Settings, spark: SparkSession) -> None:
    """Play all days; then print the summary and draw the plot.

    Raises:
        jobs.loop_system.LoopError: the score query failed.
    """
    began, loop = time.monotonic(), Loop(spark, settings, TRAINING)
    days, change = settings.loop.days, loop.world.change
    console.print(
        f"{days} days from {loop.world.start:%B %-d, %Y} on, {settings.loop.cards:,} cards; fraud "
        f"changes on {change:%B %-d}. First a champion is trained …",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    ended = stop_on_signals()
    loop.play(partial(print_day, console), ended)
    if ended.is_set():
        stop("ended before the last day", status=INTERRUPTED)
    metrics = latest_metrics(settings.warehouse.table("model_metrics"))
    print_summary(console, loop.story, metrics, change, MAILS)
    figure = accuracy_plot(
        metrics, loop.story, loop.world.midnight(days), _limits(settings, metrics)
    )
    figure.savefig(PLOT, dpi=150)
    minutes = (time.monotonic() - began) / 60
    console.print(f"plot: {PLOT} ({days} days in {minutes:.1f} minutes)", highlight=False)


def main() -> None:
    """Parse arguments, start Spark and a mail catcher, run."""
    settings, _ = settings_from_arguments(argparse.ArgumentParser(description=__doc__))
    # Made-up payments land here without ingest: their numbers stay, in files as in the stream.
    settings = settings.model_copy(update={"pan_key": None})
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    _log_to(LOG)
    with _relay(settings):
        with console.status("starting Spark …"):
            spark = _quiet_spark(FOLDER / "spark.log")
        try:
            run(settings, spark)
        except LoopError as error:
            stop(str(error))
        finally:
            spark.stop()


def _limits(settings: Settings, metrics: pd.DataFrame) -> dict[str, float]:
    """By version, the average precision below which the monitor mails."""
    facts, model = KnownFacts(settings.registry), settings.registry.model_name
    own = {version: facts.of(model, version) for version in metrics["model_version"].unique()}
    drop = settings.monitor.max_average_precision_drop
    return {
        version: known.average_precision - drop
        for version, known in own.items()
        if known.average_precision is not None
    }


def _log_to(path: Path) -> None:
    logging.basicConfig(
        filename=path,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        level=logging.WARNING,
    )
    for ours in ("jobs", "training"):
        logging.getLogger(ours).setLevel(logging.INFO)
    logging.captureWarnings(True)
    # What MLflow says of versions and downloads goes to the terminal, whatever the log is.
    logging_utils.disable_logging()  # type: ignore[no-untyped-call]
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


@contextmanager
def _relay(settings: Settings) -> Iterator[None]:
    """A mail catcher as long as the block runs."""
    relay = catcher(MAILS, settings.smtp.host, settings.smtp.port)
    try:
        relay.start()
    except OSError as error:
        stop(f"port {settings.smtp.port}: {error.strerror}; set FRAUD_SMTP__PORT", status=2)
    try:
        yield
    finally:
        relay.stop()


def _quiet_spark(log: Path) -> SparkSession:
    """A session whose processes write what they say into a file: they take over standard error as
    it is when they start.
    """
    os.environ.setdefault(
        "PYSPARK_SUBMIT_ARGS", "--properties-file spark-defaults.conf pyspark-shell"
    )
    terminal = os.dup(2)
    try:
        with log.open("wb") as file:
            os.dup2(file.fileno(), 2)
            return spark_session("loop-demo")
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


if __name__ == "__main__":
    main()
