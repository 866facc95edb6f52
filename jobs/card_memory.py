"""The stateful operator of the score job: blocks of parsed payments in, blocks with features out.

A key of Spark's state is a bucket of cards, or of identifiers. The payments of a card go to its
bucket, which tells the first arrivals and computes their features from what it remembers of the
card. Each payment's `trans_num` also goes to a bucket of identifiers, which knows whether another
card has used it before; such a payment is a duplicate, though its own card remembers it.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, Row
from pyspark.sql.streaming.stateful_processor import StatefulProcessor, StatefulProcessorHandle
from pyspark.sql.types import (
    BinaryType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
)

from jobs.arrivals import judge_cards, judge_identifiers
from jobs.blocks import join_blocks
from jobs.bucket import Chunk, append_chunk, keep_bucket, load_bucket
from jobs.worker import settle

KEYED_BLOCK = StructType([StructField("bucket", IntegerType()), StructField("block", BinaryType())])
"""A block and the key of the state that it goes to: from 0 on buckets of cards, below 0 buckets of
identifiers."""

OPERATOR_OUTPUT = StructType(
    [
        StructField("bucket", IntegerType()),
        StructField("received", LongType()),
        StructField("valid", LongType()),
        StructField("invalid", LongType()),
        StructField("payments", BinaryType()),
        StructField("rejected", BinaryType()),
        StructField("duplicates", BinaryType()),
    ]
)
"""A bucket's part of a micro-batch: how many rows it received, how many of them are valid and
invalid payments that arrive for the first time, and those as blocks (NULL where there are none):
``jobs.arrivals.PAYMENTS`` and ``REJECTED``. ``duplicates`` are ``DUPLICATES``: payments whose
`trans_num` another card used before."""


CHUNK_NAMES = StructType([StructField("names", StringType())])
CHUNK_NAME = StructType([StructField("name", StringType())])
CHUNK_BYTES = StructType([StructField("bytes", BinaryType())])


def keyed_blocks(items: list[tuple[int, bytes]]) -> pa.RecordBatch:
    """Buckets and blocks as a batch of ``KEYED_BLOCK``."""
    keys, blocks = zip(*items, strict=True) if items else ((), ())
    return pa.record_batch(
        [pa.array(keys, pa.int32()), pa.array(blocks, pa.binary())], KEYED_BLOCK.names
    )


class CardMemory(StatefulProcessor):
    """The state of a bucket: ``jobs.bucket``'s chunks, and their names in order."""

    def __init__(self, seen_days: int) -> None:
        self._horizon_seconds = seen_days * 86400

    def init(self, handle: StatefulProcessorHandle) -> None:
        """Open the state (called by Spark)."""
        settle()
        self._names = handle.getValueState("names", CHUNK_NAMES)
        self._chunks = handle.getMapState("chunks", CHUNK_NAME, CHUNK_BYTES)

    def handleInputRows(  # type: ignore[override]  # noqa: N802
        self,
        key: Any,
        rows: Iterator[Row],
        timerValues: Any,  # noqa: N803
    ) -> Iterator[Row]:
        """One bucket's blocks of a micro-batch (called by Spark)."""
        (number,) = key
        arrived = join_blocks(bytes(row["block"]) for row in rows)
        arrived = arrived.sort_by([("source", "ascending"), ("position", "ascending")])
        bucket = load_bucket(number, self)
        if number >= 0:
            output, chunk = judge_cards(arrived, bucket, self._horizon_seconds)
        else:
            output, chunk = judge_identifiers(arrived, bucket, self._horizon_seconds)
        append_chunk(bucket, chunk, self, self._horizon_seconds, time.time())
        keep_bucket(number, bucket)
        if output:
            yield Row(**dict.fromkeys(OPERATOR_OUTPUT.names) | output | {"bucket": number})

    def handleInitialState(  # type: ignore[override]  # noqa: N802
        self,
        key: Any,
        initialState: Row,  # noqa: N803
        timerValues: Any,  # noqa: N803
    ) -> None:
        """A chunk of payments that came before this checkpoint (called by Spark)."""
        (number,) = key
        bucket = load_bucket(number, self)
        chunk = Chunk.from_bytes(bytes(initialState["block"]))
        append_chunk(bucket, chunk, self, self._horizon_seconds, time.time())
        keep_bucket(number, bucket)

    def close(self) -> None:
        """Nothing to close (called by Spark)."""

    def read_names(self) -> list[str]:
        """As ``jobs.bucket.Storage`` says, over the current key of the state; so the next four."""
        stored = self._names.get()
        return [] if stored is None else list(json.loads(stored[0]))

    def write_names(self, names: list[str]) -> None:
        """Replace the names."""
        self._names.update((json.dumps(names),))

    def read(self, name: str) -> bytes:
        """The piece of that name."""
        stored = self._chunks.getValue((name,))
        if stored is None:
            raise KeyError(f"the state names a piece {name} that it does not hold")
        return bytes(stored[0])

    def write(self, name: str, piece: bytes) -> None:
        """Store a piece."""
        self._chunks.updateValue((name,), (piece,))

    def remove(self, name: str) -> None:
        """Forget a piece."""
        self._chunks.removeKey((name,))


def add_memory(blocks: DataFrame, seen_days: int, past: DataFrame | None) -> DataFrame:
    """Run the operator.

    Args:
        blocks: ``KEYED_BLOCK``, as ``cut_into_buckets`` makes them.
        seen_days: how long a `trans_num` is remembered.
        past: ``KEYED_BLOCK`` whose blocks are chunks of ``jobs.bucket``, for the first batch of a
            new checkpoint; else None.

    Returns:
        The columns of ``OPERATOR_OUTPUT``.
    """
    with _workers_of_their_own(blocks):
        return blocks.groupBy("bucket").transformWithState(
            CardMemory(seen_days),
            OPERATOR_OUTPUT,
            "Append",
            "None",
            initialState=None if past is None else past.groupBy("bucket"),
        )


@contextmanager
def _workers_of_their_own(frame: DataFrame) -> Iterator[None]:
    """Python functions that are made meanwhile run in workers that no other function gets: Spark
    hands an idle worker to the next task whose environment is the same. So two workers a core hold
    the buckets in memory, not all that there are.
    """
    environment = frame.sparkSession.sparkContext.environment
    environment["FRAUD_WORKER"] = "card memory"
    try:
        yield
    finally:
        del environment["FRAUD_WORKER"]
