"""The jobs of the system as ``make loop-demo`` runs them: each does its work when its turn comes in
simulated time, on the same tables and with the same code as in service.
"""

import logging
import threading
import time
from datetime import datetime
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession

from conf.settings import Settings
from ingest.landing import FileLanding
from jobs.alarm import send_alarm
from jobs.envelopes import MOMENT
from jobs.label import LabelJob
from jobs.lineup import LiveModels, Models
from jobs.monitor import Look, look_and_mail
from jobs.review import draw_reviews
from jobs.score import alias_watchers, run_score
from jobs.scoring import stamped_at_receipt
from jobs.version_facts import KnownFacts

log = logging.getLogger("jobs.loop")


_FAILED = "the score query failed: see the log"


class LoopError(Exception):
    """A part of the demo failed; the message says which."""


class ScoreQuery:
    """The score query, kept running beside the days: to start it takes longer than a day's work."""

    def __init__(self, spark: SparkSession, settings: Settings, models: Models) -> None:
        self._spark, self._settings, self._models = spark, settings, models
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def score_all(self, now: datetime) -> None:
        """Score what has landed, as if each payment had been scored on receipt; the first time at
        ``now`` (UTC), the time of receipt of what `score.history` names.

        Raises:
            LoopError: the query failed.
        """
        run = partial(
            run_score, self._spark, self._settings, self._models, stamp=stamped_at_receipt
        )
        if self._thread is None:
            if run(True, self._ended, lambda: now):
                raise LoopError(_FAILED)
            self._thread = threading.Thread(target=run, args=(False, self._ended), daemon=True)
            self._thread.start()
            return
        while not (queries := [q for q in self._spark.streams.active if q.name == "score"]):
            if not self._thread.is_alive():
                raise LoopError(_FAILED)
            time.sleep(0.05)
        try:
            queries[0].processAllAvailable()
        except StreamingQueryException as error:
            raise LoopError(_FAILED) from error

    def end(self) -> None:
        """End it between two micro-batches."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()


class LoopSystem:
    """All jobs; the registry has a champion. ``end`` it."""

    def __init__(self, spark: SparkSession, settings: Settings, now: datetime) -> None:
        assert settings.landing.path is not None  # conf/loop.toml has no Kafka
        self._settings, self.now = settings, now
        settings.label.inbox.mkdir(parents=True, exist_ok=True)
        self._landing = FileLanding(Path(settings.landing.path))
        self._watchers = alias_watchers(settings.registry)
        self._models = LiveModels(*self._watchers, partial(send_alarm, settings))
        self._query = ScoreQuery(spark, settings, self._models)
        self._label = LabelJob(settings, lambda: self.now)
        self._facts = KnownFacts(settings.registry)

    def score(self, first_position: int, lines: list[str]) -> str:
        """Land the payments of a day and score them; returns the versions, such as ``v1`` or
        ``v1, v2 in shadow``.

        Raises:
            LoopError: the query failed.
        """
        for watcher in self._watchers:
            watcher.look()
        lineup = self._models.lineup()
        self._landing.land(lines, first_position)
        self._query.score_all(self.now)
        shadow = f", v{lineup.challenger.version} in shadow" if lineup.challenger else ""
        return f"v{lineup.champion.version}{shadow}"

    def hits(self, since: datetime, until: datetime) -> list[str]:
        """`trans_num` of the hits received in [since, until)."""
        received = pc.field("ingested_at")
        is_asked = (received >= pa.scalar(since, MOMENT)) & (received < pa.scalar(until, MOMENT))
        table = DeltaTable(self._settings.warehouse.table("transactions")).to_pyarrow_dataset()
        hits: list[str] = table.to_table(["trans_num"], filter=is_asked & pc.field("prediction"))[
            "trans_num"
        ].to_pylist()
        return hits

    def label(self) -> None:
        """Take the verdicts in the inbox, as of ``now``."""
        self._label.look()

    def draw_reviews(self) -> Path | None:
        """The list of payments that are drawn now; None where there are none."""
        return draw_reviews(self._settings.warehouse, self._settings.label, self.now)

    def monitor(self) -> Look:
        """Measure as of ``now``, and mail what passes a limit."""
        return look_and_mail(self._settings, self.now, self._facts, sleep=lambda seconds: None)

    def end(self) -> None:
        """End the score query."""
        self._query.end()
