"""The hits of each micro-batch as messages on a Kafka topic, at least once.

They go out behind the commit to `transactions` and before the micro-batch counts as done. If a
broker is away for longer than ``kafka.timeout_seconds``, the query fails; the next start takes the
micro-batch up again, finds its rows in the table, and sends its hits again. So consumers know a
hit by its key, the `trans_num`.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from conf.settings import KafkaSettings
from ingest.topic import Message, TopicWriter

log = logging.getLogger(__name__)

HIT_COLUMNS = (
    "trans_num", "cc_num", "event_time", "amt", "merchant", "category", "city", "state",
    "fraud_score", "threshold", "model_name", "model_version", "reasons", "scored_at",
)  # fmt: skip
"""The keys of a message. Times are ISO 8601 in UTC; ``reasons`` is a list of text."""


class HitsTopic:
    """Sends the hits of a query's micro-batches.

    Args:
        writer: of the topic.
        table: reads `transactions` as it stands.
    """

    def __init__(self, writer: TopicWriter, table: Callable[[], DataFrame]) -> None:
        self._writer = writer
        self._table = table
        self._may_be_replay = True

    @classmethod
    def of(cls, kafka: KafkaSettings, table: Callable[[], DataFrame]) -> "HitsTopic":
        """The topic that the settings name."""
        return cls(TopicWriter(kafka, kafka.alerts_topic, linger_seconds=0), table)

    def after_commit(self, hits: Observation, batch: DataFrame) -> None:
        """Send the hits of a micro-batch whose rows stand in `transactions`.

        Args:
            hits: what ``observe_hits`` saw while the rows were written.
            batch: `source`, `position`, `received_at` of the micro-batch's payments.

        Raises:
            OSError: not all were acknowledged.
        """
        # The first micro-batch after a start may have been written by an earlier process, with
        # another champion: what the table says goes, and is told by nobody yet.
        if self._may_be_replay:
            rows = written_rows(self._table(), batch).where("prediction").select(*HIT_COLUMNS)
            self.send(row.asDict() for row in rows.collect())
        else:
            self.send(row.asDict() for row in hits.get["hits"])
        self._may_be_replay = False

    def send(self, hits: Iterable[Mapping[str, Any]]) -> None:
        """Send ``hits`` (keys of ``HIT_COLUMNS``), one message each; return when all are there.

        Raises:
            OSError: not all were acknowledged.
        """
        messages = [Message(str(hit["trans_num"]), hit_json(hit)) for hit in hits]
        if not messages:
            return
        failed = self._writer.write(messages).failed
        if failed:
            raise OSError(
                f"topic {self._writer.topic}: {len(failed)} of {len(messages)} hits not written, "
                f"{failed[0][1].str()}; the next start sends them again"
            )
        log.info("%d hits to topic %s", len(messages), self._writer.topic)


def written_rows(table: DataFrame, batch: DataFrame) -> DataFrame:
    """The rows of ``table`` (`transactions`) that came in ``batch``."""
    oldest = batch.agg(F.min("received_at").alias("oldest")).first()
    places = batch.select("source", "position")
    # The time of receipt tells Delta which files it need not open.
    since = table.where(F.col("ingested_at") >= F.lit(oldest["oldest"] if oldest else None))
    return since.join(places, on=["source", "position"], how="left_semi")


def observe_hits(transactions: DataFrame) -> tuple[DataFrame, Observation]:
    """The rows of `transactions`, and what tells the hits among them once they were written: as
    ``hits``, rows of ``HIT_COLUMNS``. Scoring them a second time would cost as much as the first.
    """
    told = F.struct(*HIT_COLUMNS)
    observation = Observation()
    hits = F.collect_list(F.when(F.col("prediction"), told)).alias("hits")
    return transactions.observe(observation, hits), observation


def hit_json(hit: Mapping[str, Any]) -> str:
    """A hit as JSON, with all of ``HIT_COLUMNS``; where there are no reasons, an empty list."""
    values = {name: hit.get(name) for name in HIT_COLUMNS} | {
        "reasons": list(hit.get("reasons") or ())
    }
    return json.dumps(
        {
            name: _utc(value) if isinstance(value, datetime) else value
            for name, value in values.items()
        }
    )


def _utc(moment: datetime) -> str:
    # What Spark collects is in this process's zone, and does not say so: astimezone reads it so.
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
