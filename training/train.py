"""Train and register a version:

``spark-submit --properties-file spark-defaults.conf training/train.py --config conf/local.toml
--data FILE.csv [FILE.csv …]``.
"""

import argparse
import logging
import sys

from mlflow.exceptions import MlflowException

from conf.settings import settings_from_arguments, stop
from ingest.payment_files import PaymentFileError, first_of_each, read_payments
from jobs.run import log_to_stderr
from training.fit import TrainingError, fingerprint, train_model
from training.registry import register
from training.thresholds import NoThreshold

log = logging.getLogger("training.train")


def main() -> int:
    """Parse arguments, train, register."""
    parser = argparse.ArgumentParser(description="Train a model and register it.")
    parser.add_argument("--data", nargs="+", required=True, help="CSV files of payments")
    settings, arguments = settings_from_arguments(parser)
    log_to_stderr()
    try:
        payments = first_of_each(read_payments(*arguments.data))
        log.info("%d payments, %d frauds", len(payments), int(payments["is_fraud"].sum()))
        trained = train_model(payments, settings.train)
    except (PaymentFileError, TrainingError, NoThreshold) as error:
        stop(str(error))
    try:
        version = register(trained, payments, fingerprint(payments), settings.registry)
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


def _readable(value: float) -> str:
    """Counts and thousands of dollars whole, the others with three significant digits."""
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:#.3g}"


if __name__ == "__main__":
    sys.exit(main())
