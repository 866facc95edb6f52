"""The delay of the score job on Kafka: from a payment's message to its row in Delta, and to the
message of a hit on the topic of alerts.

A process sends payments at a steady rate to a broker on this machine, which shares its cores with
it. A payment has landed when its message was sent; a row is in Delta when the commit that names its
data file was written; a hit is told at its message's time.
"""

import json
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from confluent_kafka import Consumer, Message, TopicPartition
from pyspark.sql.streaming.query import StreamingQuery

from benchmarks.commits import read_commits
from benchmarks.places import Place
from benchmarks.plan import Plan
from benchmarks.process import Process
from benchmarks.score_job import ScoreJob
from benchmarks.trained import trained_version
from benchmarks.workload import Workload
from conf.sections import KafkaSettings
from ingest.kafka_landing import KafkaLanding
from ingest.topic import TopicWriter
from tests.conftest import free_port
from tests.kafka_broker import running_broker

log = logging.getLogger(__name__)

SENDS_A_SECOND = 20
WARM_PAYMENTS = 5_000
Moments = dict[int, float]
"""Position of a payment (the offset of its message) and epoch seconds."""


class LiveJob(ScoreJob):
    """The score query by its own trigger, between ``start`` and ``finish``."""

    _query: StreamingQuery

    def start(self) -> None:
        """Fill the state, work through what the topic has, then wait for more."""
        self.query(availableNow=True).awaitTermination()
        seconds = self.settings.score.trigger_seconds
        self._query = self.query(processingTime=f"{seconds} seconds")

    def finish(self) -> str:
        """Let it work through what was sent, end it; returns the path of `transactions`."""
        self._query.processAllAvailable()
        self._query.stop()
        return self.settings.warehouse.table("transactions")


class Sender:
    """Sends payments from position ``first`` on."""

    def __init__(
        self, kafka: KafkaSettings, too_long: Path, workload: Workload, first: int, rate: int
    ) -> None:
        self._landing = KafkaLanding(TopicWriter(kafka, kafka.payments_topic), too_long)
        self._workload, self._first, self._rate = workload, first, rate

    def send_all(self, count: int) -> None:
        """Send so many at once."""
        self._landing.land(self._workload.lines(self._first, count), self._first)

    def send(self, seconds: int) -> Moments:
        """Send for so long at the rate; returns when each payment was sent.

        Raises:
            RuntimeError: it could not keep up with the rate.
        """
        step = max(1, self._rate // SENDS_A_SECOND)
        count = self._rate * seconds
        lines = self._workload.lines(self._first, count)
        moments: Moments = {}
        begun = time.time()
        for row in range(0, count, step):
            due = begun + (row + step) / self._rate
            time.sleep(max(0.0, due - time.time()))
            position, some = self._first + row, lines[row : row + step]
            moments |= dict.fromkeys(range(position, position + len(some)), time.time())
            self._landing.land(some, position)
        if time.time() > begun + seconds + 5:
            raise RuntimeError(f"{self._rate} payments a second cannot be sent here")
        return moments


def measured_delay(plan: Plan, place: Place, rate: int) -> dict[str, Any]:
    """Seconds from landing to Delta, and to the alert of hits, of payments that landed after the
    warm-up: ``p50``, ``p95``, ``p99``, ``max`` and their ``count``.
    """
    place.begin(Workload(plan.delay_cards, plan.history_per_card))
    topics = {"payments": 1, "fraud-alerts": 1}
    with running_broker(plan.folder / f"broker-{rate}", free_port(), topics) as servers:
        kafka = KafkaSettings(bootstrap_servers=servers)
        landed, table = _streamed(plan, place, rate, kafka)
        alerts = alert_times(table, kafka)
    in_delta = commit_times(table)
    if lost := landed.keys() - in_delta.keys():
        raise RuntimeError(f"{len(lost)} of {len(landed)} payments never came to Delta")
    first = min(landed.values()) + plan.delay_warm_seconds
    counted = {position: moment for position, moment in landed.items() if moment >= first}
    return {"delta": _delays(counted, in_delta), "alerts": _delays(counted, alerts)}


def _streamed(plan: Plan, place: Place, rate: int, kafka: KafkaSettings) -> tuple[Moments, Path]:
    model = trained_version(place.registry, plan.training_rows)
    workload = Workload(plan.delay_cards, plan.history_per_card)
    make_sender = partial(Sender, kafka, plan.folder / "too-long", workload)
    make_sender(0, rate).send_all(WARM_PAYMENTS)
    logs = plan.folder / "logs"
    make_job = partial(LiveJob, place, "score", model, 1_000_000, None, kafka)
    job = Process(logs / f"delay-{rate}.log", make_job)
    sender = Process(logs / f"delay-{rate}-sender.log", partial(make_sender, WARM_PAYMENTS, rate))
    try:
        job.call("start")
        log.info("delay at %d payments a second: sending", rate)
        landed = sender.call("send", plan.delay_warm_seconds + plan.delay_seconds)
        return landed, Path(job.call("finish"))
    finally:
        sender.stop()
        job.stop()


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
    for commit in read_commits(table):
        for file in commit.added:
            positions = pq.read_table(table / file["path"], columns=["position"])
            found = np.asarray(positions["position"])
            moments |= dict.fromkeys(found.tolist(), commit.written)
    return moments


def alert_times(table: Path, kafka: KafkaSettings) -> Moments:
    """When each hit was sent to the topic of alerts, the first time."""
    positions: dict[str, int] = {}
    for file in table.glob("*.parquet"):
        rows = pq.read_table(file, columns=["trans_num", "position"])
        positions |= dict(zip(*(column.to_pylist() for column in rows.columns), strict=True))
    moments: Moments = {}
    for message in _messages(kafka):
        told = json.loads(message.value() or b"{}")["trans_num"]
        moments.setdefault(positions[told], message.timestamp()[1] / 1000)
    return moments


def _messages(kafka: KafkaSettings) -> list[Message]:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "benchmark"})
    partition = TopicPartition(kafka.alerts_topic, 0, 0)
    _, end = consumer.get_watermark_offsets(partition, timeout=10)
    consumer.assign([partition])
    messages: list[Message] = []
    while len(messages) < end:
        messages += consumer.consume(end - len(messages), timeout=10)
    consumer.close()
    return messages
