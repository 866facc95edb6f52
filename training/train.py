"""Train and register a version:

``spark-submit --properties-file spark-defaults.conf training/train.py --config conf/local.toml
--data FILE.csv [FILE.csv …]`` on files alone; with ``--from-tables`` also on what the Delta tables
hold (``training.dataset``), as known at ``--as-of``.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pandas as pd
from mlflow.exceptions import MlflowException

from conf.settings import Settings, settings_from_arguments, stop
from ingest.pan_cipher import pan_cipher
from ingest.payment_files import PaymentFileError, first_of_each, read_payments
from jobs.run import log_to_stderr
from training.dataset import (
    CHOICES,
    Dataset,
    NoExamples,
    NoMoment,
    build_dataset,
    described,
    moment_of,
)
from training.fit import TrainedModel, TrainingError, fingerprint, train_model, train_on_examples
from training.registry import register
from training.thresholds import NoThreshold

log = logging.getLogger("training.train")


def main() -> int:
    """Parse arguments, train, register."""
    parser = argparse.ArgumentParser(description="Train a model and register it.")
    parser.add_argument("--data", nargs="*", default=[], help="CSV files of payments")
    parser.add_argument(
        "--from-tables", action="store_true", help="train on what the Delta tables hold, too"
    )
    parser.add_argument("--as-of", help="with --from-tables: what was known then (default: now)")
    settings, arguments = settings_from_arguments(parser)
    if not arguments.data and not arguments.from_tables:
        parser.error("give files with --data, or --from-tables, or both")
    if arguments.as_of and not arguments.from_tables:
        parser.error("--as-of goes with --from-tables")
    log_to_stderr()
    try:
        if arguments.from_tables:
            trained, payments, data = train_from_tables(
                arguments.data, settings, moment_of(arguments.as_of)
            )
        else:
            trained, payments, data = _on_files(arguments.data, settings)
    except (PaymentFileError, NoExamples, NoMoment, TrainingError, NoThreshold) as error:
        stop(str(error))
    try:
        version = register(trained, payments, data, settings.registry)
    except MlflowException as error:
        stop(f"the model could not be registered at {settings.registry.tracking_uri}: {error}")
    log.info(
        "registered %s v%s; judged on the last part of the time: %s",
        settings.registry.model_name,
        version,
        ", ".join(
            f"{name} {_readable(value)}"
            for name, value in trained.metrics.items()
            if value is not None
        ),
    )
    return 0


_Result = tuple[TrainedModel, pd.DataFrame, str]  # the model, payments for an example, fingerprint


def _on_files(files: Sequence[str], settings: Settings) -> _Result:
    payments = first_of_each(read_payments(*files, cipher=pan_cipher(settings)))
    log.info("%d payments, %d frauds", len(payments), int(payments["is_fraud"].sum()))
    return train_model(payments, settings.train), payments, fingerprint(payments)


def train_from_tables(files: Sequence[str], settings: Settings, as_of: datetime) -> _Result:
    """Train on what was known at ``as_of`` (UTC); ``training.registry.register`` takes the rest.

    Returns:
        The model, the payments that it was trained on, and their fingerprint.

    Raises:
        ingest.payment_files.PaymentFileError, training.dataset.NoExamples,
        training.fit.TrainingError, training.thresholds.NoThreshold: there is nothing to learn from.
    """
    dataset = build_dataset(files, settings, as_of)
    told = described(dataset)
    log.info("%s", ", ".join(f"{name} {value}" for name, value in told.items()))
    return train_on_dataset(dataset, settings), dataset.payments, dataset.fingerprint


def train_on_dataset(dataset: Dataset, settings: Settings) -> TrainedModel:
    """``training.fit.train_on_examples``; the parameters also say what the set was made from.

    Raises:
        training.fit.TrainingError, training.thresholds.NoThreshold: as ``train_on_examples``.
    """
    trained = train_on_examples(dataset.payments, settings.train)
    rows = {f"rows_{origin}": count for origin, count in dataset.counts.items()}
    choices = settings.label.model_dump(include=CHOICES)
    made_from = {"as_of": dataset.as_of.isoformat(), **rows, **choices}
    return replace(trained, parameters=trained.parameters | made_from)


def _readable(value: float) -> str:
    """Counts and thousands of dollars whole, the others with three significant digits."""
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:#.3g}"


if __name__ == "__main__":
    sys.exit(main())
