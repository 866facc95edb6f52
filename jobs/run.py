"""How a job runs: its log, and a clean end on SIGINT and SIGTERM."""

import logging
import os
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType

from py4j.protocol import Py4JError
from pyspark.errors import StreamingQueryException
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.streaming.readwriter import DataStreamWriter

from jobs.failure import told

log = logging.getLogger(__name__)

_BATCH_END_SECONDS = 60

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock of a job in service."""
    return datetime.now(UTC)


def log_to_stderr() -> None:
    """One line a message; of the libraries only warnings."""
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING
    )
    for ours in ("ingest", "jobs", "training", "__main__"):
        logging.getLogger(ours).setLevel(logging.INFO)
    # What a callback raises comes back as the failure of the query, which is told.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    quiet_mlflow()


def quiet_mlflow() -> None:
    """MLflow tells of its database and pages and shows bars of progress; of it only warnings."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # also where it is imported later
    logging.getLogger("mlflow").setLevel(logging.WARNING)


def stop_on_signals() -> threading.Event:
    """An event that is set by SIGINT and SIGTERM. Call it once Spark runs, which listens too."""
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    return ended


def run_until_stopped(
    stream: DataStreamWriter,
    checkpoint: str,
    ended: threading.Event,
    enough: threading.Event | None = None,
) -> int:
    """Start the query and wait for its end, or end it between two micro-batches once ``ended`` is
    set, or ``enough``, which goes without saying.

    Args:
        checkpoint: of the stream, for what is said where it cannot be read.

    Returns:
        The exit status: 0, or 1 where the query failed (its error is logged).
    """
    try:
        query = stream.start()
        while not query.awaitTermination(0.2):  # type: ignore[arg-type]
            if ended.is_set() or (enough is not None and enough.is_set()):
                _stop_between_batches(query)
                if ended.is_set():
                    log.info("%s ended on request", query.name)
                break
    except (StreamingQueryException, Py4JError, OSError) as error:
        if ended.is_set():
            log.info("ended with Spark in mid-batch; the next start takes that batch up again")
            return 0
        log.error("the query failed: %s", told(str(error), checkpoint))
        return 1
    return 0


def _stop_between_batches(query: StreamingQuery) -> None:
    patience = threading.Event()
    for _ in range(_BATCH_END_SECONDS * 20):
        if not query.status["isTriggerActive"]:
            break
        patience.wait(0.05)
    query.stop()
