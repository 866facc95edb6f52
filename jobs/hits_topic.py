"""The hits of each micro-batch as messages on a Kafka topic, at least once.

They go out behind the commit to `transactions` and before the micro-batch counts as done. If a
broker is away for longer than ``kafka.timeout_seconds``, the query fails; the next start takes the
micro-batch up again, finds its rows in the table, and sends its hits again. So consumers know a
hit by its key, the `trans_num`.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from conf.sections import KafkaSettings
from ingest.topic import Message, TopicWriter

log = logging.getLogger(__name__)

HIT_COLUMNS = (
    "trans_num", "cc_num", "event_time", "amt", "merchant", "category", "city", "state",
    "fraud_score", "threshold", "model_name", "model_version", "reasons", "scored_at",
)  # fmt: skip
"""The keys of a message. Times are ISO 8601 in UTC; ``reasons`` is a list of text."""


class HitsTopic:
    """Sends the hits of micro-batches whose rows stand in `transactions`.

    Args:
        writer: of the topic.
    """

    def __init__(self, writer: TopicWriter) -> None:
        self._writer = writer

    @classmethod
    def of(cls, kafka: KafkaSettings) -> "HitsTopic":
        """The topic that the settings name."""
        return cls(TopicWriter(kafka, kafka.alerts_topic, linger_seconds=0))

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
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
