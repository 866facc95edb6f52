"""The stateful operator of the score job: what it remembers of each bucket, and what it adds.

A bucket is a key of Spark's state. A payment's bucket is a hash of its `trans_num`, so that a
second payment with the same identifier meets the first one even where its card differs.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.streaming.stateful_processor import StatefulProcessor, StatefulProcessorHandle
from pyspark.sql.types import (
    BinaryType,
    BooleanType,
    DoubleType,
    StringType,
    StructField,
    StructType,
)

from jobs.features import FEATURE_INPUTS, FEATURE_NAMES, feature_frame
from jobs.first_arrival import SeenPayments, mark_first
from jobs.parse import ENVELOPE

_STATE = StructType([StructField("seen", BinaryType())])

FEATURES_STRUCT = StructType([StructField(name, DoubleType()) for name in FEATURE_NAMES])

OPERATOR_OUTPUT = StructType(
    [
        *ENVELOPE.fields,
        StructField("reason", StringType()),
        StructField("is_first", BooleanType()),
        *FEATURES_STRUCT.fields,
    ]
)
"""The envelope, why the row is rejected (or NULL), whether it arrives for the first time, and the
features of a valid first payment (NULL for the others)."""


def add_memory(
    checked: DataFrame, buckets: int, seen_days: int, past: DataFrame | None
) -> DataFrame:
    """Run the operator over checked payments.

    Args:
        checked: as ``jobs.parse.check_payments`` returns.
        buckets: number of keys; fixed for the life of a checkpoint.
        seen_days: how long a `trans_num` is remembered.
        past: `trans_num`, `ingested_at` of payments that the tables hold already, for the first
            batch of a new checkpoint; else None.

    Returns:
        The columns of ``OPERATOR_OUTPUT``.
    """
    initial = None if past is None else _keyed(_past_rows(past), buckets).groupBy("bucket")
    return (
        _keyed(_operator_input(checked), buckets)
        .groupBy("bucket")
        .transformWithStateInPandas(
            CardMemory(seen_days), OPERATOR_OUTPUT, "Append", "None", initialState=initial
        )
    )


class CardMemory(StatefulProcessor):
    """The state of a bucket: the `trans_num`s seen in the last ``seen_days`` days."""

    def __init__(self, seen_days: int) -> None:
        self._horizon_seconds = seen_days * 86400

    def init(self, handle: StatefulProcessorHandle) -> None:
        """Open the state (called by Spark)."""
        self._seen = handle.getValueState("seen", _STATE)

    def handleInputRows(  # type: ignore[override]  # noqa: N802
        self,
        key: Any,
        rows: Iterator[pd.DataFrame],
        timerValues: Any,  # noqa: N803
    ) -> Iterator[pd.DataFrame]:
        """Mark and compute one bucket's rows of a micro-batch (called by Spark)."""
        batch = pd.concat(list(rows), ignore_index=True)
        batch = batch.sort_values(["source", "position"], ignore_index=True)
        valid = batch["reason"].isna()
        known = batch["has_identity"].to_numpy(np.bool_)
        is_first = np.ones(len(batch), np.bool_)
        is_first[known] = self._mark(batch[known])
        batch["is_first"] = is_first
        batch[list(FEATURE_NAMES)] = feature_frame(batch[valid & is_first]).reindex(batch.index)
        yield batch[OPERATOR_OUTPUT.fieldNames()]

    def handleInitialState(  # type: ignore[override]  # noqa: N802
        self,
        key: Any,
        initialState: pd.DataFrame,  # noqa: N803
        timerValues: Any,  # noqa: N803
    ) -> None:
        """Remember payments that the tables hold already (called by Spark)."""
        self._mark(initialState)

    def close(self) -> None:
        """Nothing to close (called by Spark)."""

    def _mark(self, payments: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.bool_]]:
        stored = self._seen.get()
        updated, is_first = mark_first(
            SeenPayments.from_bytes(stored[0]) if stored else SeenPayments.empty(),
            payments["high"].to_numpy(np.int64),
            payments["low"].to_numpy(np.int64),
            payments["arrived_at"].to_numpy(np.int64),
            self._horizon_seconds,
        )
        self._seen.update((updated.to_bytes(),))
        return is_first


def _operator_input(checked: DataFrame) -> DataFrame:
    trans_num = F.col("trans_num")
    # A rejected row has an identity too where it has a trans_num: the same bytes served twice.
    identity = F.when(F.col("reason").isNull(), trans_num).when(
        trans_num.isNotNull(), F.concat(F.lit("rejected\n"), F.col("payload"))
    )
    return checked.select(
        *ENVELOPE.fieldNames(),
        "reason",
        identity.alias("identity"),
        F.unix_timestamp("received_at").alias("arrived_at"),
        *(F.col(f"payment.{name}") for name in FEATURE_INPUTS),
    )


def _past_rows(past: DataFrame) -> DataFrame:
    return past.select(
        F.col("trans_num").alias("identity"),
        F.unix_timestamp("ingested_at").alias("arrived_at"),
    )


def _keyed(rows: DataFrame, buckets: int) -> DataFrame:
    # Never NULL: pandas would turn 64-bit integers into floats, and hashes would lose bits.
    return rows.select(
        "*",
        F.col("identity").isNotNull().alias("has_identity"),
        F.xxhash64("identity").alias("high"),
        F.xxhash64(F.lit("low"), F.col("identity")).alias("low"),
        F.pmod(F.xxhash64("identity"), F.lit(buckets)).cast("int").alias("bucket"),
    ).drop("identity")
