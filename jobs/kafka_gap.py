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


def gaps(kept: Mapping[int, range], wanted: Mapping[int, int]) -> list[Gap]:
    """The gaps between what is wanted next and what is there.

    Args:
        kept: of each partition of the topic, the offsets that it has.
        wanted: of partitions that were read before, the next offset to read.
    """
    return [
        Gap(partition, wanted[partition], offsets.start)
        for partition, offsets in sorted(kept.items())
        if wanted.get(partition, offsets.start) < offsets.start
    ]


def begun_anew(kept: Mapping[int, range], wanted: Mapping[int, int]) -> list[int]:
    """The partitions that end before what is wanted next; arguments as those of ``gaps``."""
    return [
        partition
        for partition, offsets in sorted(kept.items())
        if wanted.get(partition, offsets.stop) > offsets.stop
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


def advice_to_rename(topic: str, partitions: list[int]) -> str:
    """What to do where offsets began anew, in one line."""
    return (
        f"topic {topic} ends before what was scored of it (partition "
        f"{', '.join(map(str, partitions))}): it was made anew, or its brokers lost messages. Its "
        "offsets would be taken for those that were scored: make a topic of another name, produce "
        "to it, and name it in kafka.payments_topic; this job then reads it from its start"
    )


def advice(topic: str, found: list[Gap], checkpoint: str) -> str:
    """What was lost, and what to do, in one line."""
    return (
        f"topic {topic} dropped messages before they were scored, {'; '.join(map(str, found))}. "
        "They are lost to this job: land them anew where the API or another system still has them. "
        f"To go on without them, move {checkpoint} away and start once with "
        "FRAUD_KAFKA__SKIP_LOST=true; what cards did before is taken from the tables. Let the "
        "topic keep its messages for longer than this job may be down (retention.ms)"
    )
