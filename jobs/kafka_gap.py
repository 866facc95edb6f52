"""Messages that a topic dropped before they were scored: which, and what to do."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Gap:
    """Offsets that a partition has no more, unread: from ``first`` to before ``behind``."""

    partition: int
    first: int
    behind: int

    def __str__(self) -> str:
        """In words."""
        return (
            f"partition {self.partition}: offsets {self.first} to {self.behind - 1} "
            f"({self.behind - self.first:,} messages)"
        )


def gaps(earliest: Mapping[int, int], wanted: Mapping[int, int]) -> list[Gap]:
    """The gaps between what is wanted next and what is there.

    Args:
        earliest: of each partition of the topic, the first offset that it has.
        wanted: of partitions that were read before, the next offset to read.
    """
    return [
        Gap(partition, wanted[partition], first)
        for partition, first in sorted(earliest.items())
        if wanted.get(partition, first) < first
    ]


def wanted_offsets(
    spark: SparkSession,
    checkpoint: str,
    done: int | None,
    topic: str,
    written: Mapping[str, int],
) -> dict[int, int]:
    """The next offset of each partition that was read before: behind the last micro-batch, else
    behind what the tables hold.

    Args:
        done: ``jobs.spark.last_commit`` of the checkpoint.
        written: the highest position of each source, ``<topic>/<partition>``.
    """
    if done is not None:
        lines = spark.read.text(f"{checkpoint}/offsets/{done}").collect()
        for (line,) in lines:
            told = json.loads(line) if line.startswith("{") else {}
            if topic in told:
                return {int(partition): offset for partition, offset in told[topic].items()}
    behind = {}
    for source, position in written.items():
        name, _, partition = source.rpartition("/")
        if name == topic and partition.isdecimal():
            behind[int(partition)] = position + 1
    return behind


def advice(topic: str, found: list[Gap], checkpoint: str) -> str:
    """What was lost, and what to do, in one line."""
    return (
        f"topic {topic} dropped messages before they were scored, {'; '.join(map(str, found))}. "
        "They are lost to this job: land them anew where the API or another system still has them. "
        f"To go on without them, move {checkpoint} away and start once with "
        "FRAUD_KAFKA__SKIP_LOST=true; what cards did before is taken from the tables. Let the "
        "topic keep its messages for longer than this job may be down (retention.ms)"
    )
