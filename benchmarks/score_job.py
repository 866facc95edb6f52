"""Our score job under test: the functions of ``jobs.score``, in a Spark session of its own."""

import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

import jobs.micro_batch
import jobs.score
from benchmarks.cpu import cpu_seconds
from benchmarks.places import FILE_ROWS, Place
from benchmarks.plan import CORES, PROJECT
from conf.sections import KafkaSettings
from jobs.card_memory import KEYED_BLOCK
from jobs.lineup import FixedModels, Lineup
from jobs.resume import Resume
from jobs.scorer import Scorer
from jobs.scoring import ModelVersion
from jobs.sources import payment_source
from jobs.spark import spark_session
from jobs.task_output import collect_reports

Turn = list[dict[str, Any]]
"""Micro-batches of a system: `rows`, `seconds`, and of ours `parts` (seconds by name)."""

_FORGET_NO_PROGRESS = "10000"


@dataclass(frozen=True)
class Cluster:
    """Where tasks run if not in the driver: options of ``spark-submit``, the workers' Python."""

    options: tuple[str, ...]
    python: Path


def start_spark(
    name: str, with_kafka: bool = False, cluster: Cluster | None = None
) -> SparkSession:
    """The session of a job with the project's settings, in ``local[2]`` or on a cluster."""
    os.chdir(PROJECT)
    os.environ["SPARK_CONF_DIR"] = str(PROJECT)
    properties = "spark-kafka.conf" if with_kafka else "spark-defaults.conf"
    master = f"local[{CORES}]"
    options: Sequence[str] = (
        "--load-spark-defaults", "--properties-file", properties, "--master", master,
    )  # fmt: skip
    os.environ["PYSPARK_PYTHON"] = sys.executable
    if cluster is not None:
        options = cluster.options
        os.environ["PYSPARK_PYTHON"] = str(cluster.python)
    os.environ["PYSPARK_SUBMIT_ARGS"] = shlex.join([*options, "pyspark-shell"])
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    paths = [str(PROJECT), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    spark = spark_session(name)
    spark.conf.set("spark.sql.streaming.numRecentProgressUpdates", _FORGET_NO_PROGRESS)
    return spark


class ScoreJob:
    """The score query over landed files, from turn to turn on one checkpoint.

    Args:
        place: its files.
        name: of the folder that it writes to.
        model: the version that scores.
        rows: of a micro-batch.
        scorer: what stands in for ``jobs.scoring.Scorer``, made from the session; None: ours.
        kafka: where payments come from and hits go to, in place of the landed files.
        cluster: what its tasks run on; None: the driver.
    """

    def __init__(
        self,
        place: Place,
        name: str,
        model: ModelVersion,
        rows: int,
        scorer: Callable[[SparkSession], Any] | None = None,
        kafka: KafkaSettings | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        self.spark = start_spark(f"benchmark-{name}", kafka is not None, cluster)
        settings = place.settings(name, max_files=max(1, rows // FILE_ROWS))
        self.settings = settings.model_copy(update={"kafka": kafka})
        self._checkpoint = self.settings.warehouse.checkpoint("score")
        self._parts = _Parts()
        self._source = payment_source(self.spark, self.settings, {})
        with mock.patch.object(jobs.micro_batch, "Scorer", side_effect=scorer or Scorer) as made:
            self._write = jobs.micro_batch.BatchWriter(
                self.spark, self.settings, FixedModels(Lineup(model))
            )
        made.assert_called_once()
        past = self.spark.read.schema(KEYED_BLOCK).parquet(str(place.past))
        self._resume = Resume(written={}, past=past)

    def query(self, **trigger: Any) -> StreamingQuery:
        """Start the query; the first one puts the past into the state."""
        rows = jobs.score.remembered(self._source, self.settings, self._resume)
        self._resume = self._resume.after_first_batch()
        stream = jobs.score.score_stream(rows, self._write, self._checkpoint)
        return stream.trigger(**trigger).start()

    def turn(self, names: list[str]) -> Turn:
        """Work through what has landed since the last turn: the files ``names``."""
        before = cpu_seconds()
        with self._parts.watched():
            query = self.query(availableNow=True)
            query.awaitTermination()
        after = cpu_seconds()
        spent = {f"CPU of {name}": after[name] - before.get(name, 0.0) for name in after}
        error = query.exception()
        if error is not None:
            raise error
        # Through JSON: plain numbers and dictionaries, whatever Spark's classes are.
        told = [json.loads(progress.json) for progress in query.recentProgress]
        progress = [batch for batch in told if batch["numInputRows"]]
        parts = self._parts.taken()
        each = {name: value / len(progress) for name, value in spent.items()}
        turn = [_measured(batch, parts[batch["batchId"]] | each) for batch in progress]
        rows = sum(batch["rows"] for batch in turn)
        if rows != len(names) * FILE_ROWS:
            raise RuntimeError(f"{rows} rows in {len(names)} files of {FILE_ROWS}")
        return turn

    def stop(self) -> None:
        """End the session."""
        self.spark.stop()


def _measured(progress: dict[str, Any], parts: dict[str, float]) -> dict[str, Any]:
    milliseconds = progress["durationMs"]
    seconds = {name: value / 1000 for name, value in milliseconds.items()}
    return {
        "rows": int(parts.pop("rows")),
        "seconds": seconds.pop("triggerExecution"),
        "parts": seconds | parts,
    }


@dataclass
class _Parts:
    """Times inside of foreachBatch: the one action, in which everything runs up to the data files,
    and the commits to Delta.
    """

    _seconds: dict[int, dict[str, float]] = field(default_factory=dict)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch ``jobs.micro_batch`` meanwhile."""
        action: dict[str, float] = {}
        commit = jobs.micro_batch.commit

        def timed_collect(reports: Any) -> Any:
            started = time.perf_counter()
            collected = collect_reports(reports)
            action.update(tasks=time.perf_counter() - started, rows=collected.received)
            return collected

        def timed_commit(table: Any, files: Any, query: str, batch_id: int) -> bool:
            started = time.perf_counter()
            is_new = commit(table, files, query, batch_id)
            spent = self._seconds.setdefault(batch_id, {**action, "commits": 0.0})
            spent["commits"] += time.perf_counter() - started
            return is_new

        with (
            mock.patch.object(jobs.micro_batch, "collect_reports", timed_collect),
            mock.patch.object(jobs.micro_batch, "commit", timed_commit),
        ):
            yield

    def taken(self) -> dict[int, dict[str, float]]:
        """Seconds by name, by micro-batch, since the last call."""
        found, self._seconds = self._seconds, {}
        return found
