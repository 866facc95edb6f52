"""The delay from landing: to the row in Delta, and to the message on the topic of alerts.

A process lands files at a steady rate while the score query runs by its own trigger. A row has
landed when its file was written (its modification time; the rename follows once it is on the disk).
It is in Delta when the commit that names its data file was written.
"""

import json
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pyspark.sql.streaming.query import StreamingQuery

from benchmarks.places import Place
from benchmarks.plan import Plan
from benchmarks.process import Process
from benchmarks.score_job import ScoreJob
from benchmarks.trained import trained_version
from benchmarks.workload import Workload
from ingest.landing import FileLanding

log = logging.getLogger(__name__)

FILES_A_SECOND = 10
Moments = dict[int, float]
"""Position of a payment and epoch seconds."""


class LiveJob(ScoreJob):
    """The score query by its own trigger, between ``start`` and ``finish``."""

    _query: StreamingQuery

    def start(self, names: list[str]) -> None:
        """Fill the state, work through the files ``names``, then wait for more."""
        self.turn(names)
        seconds = self.settings.score.trigger_seconds
        self._query = self.query(processingTime=f"{seconds} seconds")

    def finish(self) -> str:
        """Let it work through what has landed, end it; returns the path of `transactions`."""
        self._query.processAllAvailable()
        self._query.stop()
        return self.settings.warehouse.table("transactions")


class Lander:
    """Lands payments from position ``first`` on, ``rate`` a second."""

    def __init__(self, place: Place, workload: Workload, first: int, rate: int) -> None:
        self._landing = FileLanding(place.landing)
        self._folder = place.landing
        self._workload, self._first, self._rate = workload, first, rate

    def land(self, seconds: int) -> Moments:
        """Land for so long; returns when each payment landed.

        Raises:
            RuntimeError: it could not keep up with the rate.
        """
        step = max(1, self._rate // FILES_A_SECOND)
        count = self._rate * seconds
        lines = self._workload.lines(self._first, count)
        moments: Moments = {}
        begun = time.time()
        for row in range(0, count, step):
            due = begun + (row + step) / self._rate
            time.sleep(max(0.0, due - time.time()))
            position = self._first + row
            name = self._landing.land(lines[row : row + step], position)
            written = (self._folder / name).stat().st_mtime
            moments |= dict.fromkeys(
                range(position, position + len(lines[row : row + step])), written
            )
        if time.time() > begun + seconds + 5:
            raise RuntimeError(f"{self._rate} payments a second cannot be landed here")
        return moments


def measured_delay(plan: Plan, place: Place, rate: int) -> dict[str, Any]:
    """Seconds from landing to Delta, and to the alert of hits, of payments that landed after the
    warm-up: ``p50``, ``p95``, ``p99``, ``max`` and their ``count``.
    """
    model = trained_version(place.registry, plan.training_rows)
    workload = Workload(plan.delay_cards, plan.history_per_card)
    place.begin(workload)
    warm = place.land(workload, 0, 5_000)
    logs = plan.folder / "logs"
    job = Process(logs / f"delay-{rate}.log", partial(LiveJob, place, "score", model, 1_000_000))
    lander = Process(
        logs / f"delay-{rate}-lander.log",
        partial(Lander, place, workload, len(warm) * 1_000, rate),
    )
    try:
        job.call("start", warm)
        log.info("delay at %d payments a second: landing", rate)
        landed = lander.call("land", plan.delay_warm_seconds + plan.delay_seconds)
        table = Path(job.call("finish"))
    finally:
        lander.stop()
        job.stop()
    in_delta = commit_times(table)
    if lost := landed.keys() - in_delta.keys():
        raise RuntimeError(f"{len(lost)} of {len(landed)} payments never came to Delta")
    first = min(landed.values()) + plan.delay_warm_seconds
    counted = {position: moment for position, moment in landed.items() if moment >= first}
    return {
        "delta": _delays(counted, in_delta),
        "alerts": _delays(counted, alert_times(table)),
    }


def _delays(landed: Moments, arrived: Moments | None) -> dict[str, float] | None:
    if arrived is None:
        return None
    waited = [arrived[p] - moment for p, moment in landed.items() if p in arrived]
    if not waited:
        return {"count": 0}
    found = {f"p{share}": float(np.percentile(waited, share)) for share in (50, 95, 99)}
    return found | {"max": max(waited), "count": len(waited)}


def commit_times(table: Path) -> Moments:
    """When the commit that holds each payment was written."""
    moments: Moments = {}
    for commit in sorted((table / "_delta_log").glob("*.json")):
        written = commit.stat().st_mtime
        actions = [json.loads(line) for line in commit.read_text().splitlines()]
        for action in actions:
            if "add" in action:
                positions = pq.read_table(table / action["add"]["path"], columns=["position"])
                found = np.asarray(positions["position"])
                moments |= dict.fromkeys(found.tolist(), written)
    return moments


def alert_times(table: Path) -> Moments | None:
    """When each hit was on the topic of alerts; None while nothing publishes them.

    TO WIRE: read the topic `fraud-alerts` from its beginning (``confluent_kafka.Consumer``); the
    timestamp of a message is its time, its `trans_num` leads to the position by ``table``.
    """
    return None
