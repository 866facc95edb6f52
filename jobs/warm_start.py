"""What a new checkpoint remembers from the start: the payments that `transactions` and `duplicates`
hold, and those of CSV files; and what was `rejected`, so that it is rejected once.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import reduce

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from conf.settings import Settings
from ingest.pan_cipher import pan_cipher
from ingest.payment_files import read_payments
from jobs.arrivals import cut_into_buckets, to_chunks
from jobs.blocks import join_blocks
from jobs.bucket import DAYS_OF_DOUBT
from jobs.card_memory import KEYED_BLOCK, keyed_blocks
from jobs.history import MOST_DAYS
from jobs.spark import path_exists
from jobs.tables import read_table

_FILES = ""
"""The source of payments of files, which come before all others."""

_REMEMBERED = ("source", "position", "cc_num", "trans_num", "category", "amt", "event_time")


def past_chunks(
    spark: SparkSession, settings: Settings, written: Mapping[str, int], folder: str, now: datetime
) -> DataFrame | None:
    """The past as chunks of the operator's state (``KEYED_BLOCK``), some a bucket; None where there
    is no past. They are kept in ``folder``: Spark reads an initial state with every micro-batch.

    What an earlier start that had no micro-batch put there is taken where no files are named now:
    it may have had files.

    Args:
        written: the highest position of each source when the checkpoint was made. What was written
            since is not past, but will arrive once more.
        now: the moment (UTC) at which the payments of files count as received, and that no receipt
            is later than: one that is, because a clock was wrong, makes nothing else be forgotten.

    Raises:
        ingest.payment_files.PaymentFileError: a file of ``score.history`` cannot be used.
    """
    if not settings.score.history and path_exists(spark, f"{folder}/_SUCCESS"):
        return spark.read.schema(KEYED_BLOCK).parquet(folder)
    newest = _newest(spark, settings, written, now)

    def known(table: str, moment: str) -> DataFrame:
        rows = read_table(spark, settings.warehouse, table)
        return _that_matter(rows, F.col(moment), newest, written, settings)

    past = known("transactions", "ingested_at").transform(_as_parsed, F.col("ingested_at"))
    if settings.score.history:
        past = _from_files(spark, settings, past, now)
    again = known("duplicates", "ingested_at").transform(_as_parsed, F.col("ingested_at"))
    past = past.unionByName(again).unionByName(
        known("rejected", "received_at").transform(_no_payments)
    )
    if past.isEmpty():
        return None
    buckets = settings.score.buckets

    def cut(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for key, block in cut_into_buckets(pa.Table.from_batches([batch]), buckets, True):
                yield keyed_blocks([(key, block)])

    def merge(blocks: pa.Table) -> pa.Table:
        payments = join_blocks(block.as_buffer() for block in blocks["block"])
        payments = payments.sort_by([("source", "ascending"), ("position", "ascending")])
        ordered = without_repeats(payments)
        key = blocks["bucket"][0].as_py()
        chunks = keyed_blocks([(key, chunk.to_bytes()) for chunk in to_chunks(ordered)])
        return pa.Table.from_batches([chunks])

    blocks = past.mapInArrow(cut, KEYED_BLOCK)
    chunks = blocks.groupBy("bucket").applyInArrow(merge, KEYED_BLOCK)
    chunks.write.mode("overwrite").parquet(folder)
    return spark.read.schema(KEYED_BLOCK).parquet(folder)


def without_repeats(past: pa.Table) -> pa.Table:
    """Each `trans_num` of a card once: of the payments of files, those that the tables do not hold,
    and of two the first. What the tables hold was told apart when it arrived.

    Args:
        past: rows of a bucket (``jobs.arrivals.cut_into_buckets``), in order of arrival.
    """
    from_file = pc.equal(past["source"], _FILES).to_numpy()
    order = np.argsort(from_file, kind="stable")
    names = pd.DataFrame({name: past[name].to_numpy()[order] for name in ("high", "low")})
    is_repeat = np.empty(len(past), np.bool_)
    is_repeat[order] = names.duplicated().to_numpy()
    return past.filter(pa.array(~(is_repeat & from_file)))


def _newest(
    spark: SparkSession, settings: Settings, written: Mapping[str, int], now: datetime
) -> DataFrame:
    """When the newest payment of the past was received, at most ``now``: one row, `newest`."""
    moments = reduce(
        DataFrame.unionByName,
        (
            read_table(spark, settings.warehouse, table)
            .where(_is_written(written))
            .select(F.col(moment).alias("moment"))
            for table, moment in (("transactions", "ingested_at"), ("rejected", "received_at"))
        ),
    )
    return moments.agg(F.least(F.max("moment"), F.lit(now)).alias("newest"))


def _that_matter(
    rows: DataFrame,
    moment: Column,
    newest: DataFrame,
    written: Mapping[str, int],
    settings: Settings,
) -> DataFrame:
    """The rows of the past that may still matter, counted back from the newest one, as the buckets
    of a stream that runs count.
    """
    days = max(settings.score.seen_days, MOST_DAYS) + 1 + DAYS_OF_DOUBT
    return (
        rows.crossJoin(F.broadcast(newest))
        .where(moment >= F.col("newest") - F.make_dt_interval(days=F.lit(days)))
        .where(_is_written(written))
    )


def _is_written(written: Mapping[str, int]) -> Column:
    if not written:
        return F.lit(False)
    items = [F.lit(item) for pair in written.items() for item in pair]
    highest = F.element_at(F.create_map(*items), F.col("source"))
    return F.coalesce(F.col("position") <= highest, F.lit(False))


def _from_files(
    spark: SparkSession, settings: Settings, known: DataFrame, now: datetime
) -> DataFrame:
    """The payments of the files and the known ones."""
    files = read_payments(*settings.score.history, cipher=pan_cipher(settings))
    files = files.assign(source=_FILES, position=range(len(files)))[list(_REMEMBERED)]
    earlier = spark.createDataFrame(files).transform(_as_parsed, F.lit(now))
    return earlier.unionByName(known)


def _no_payments(rejected: DataFrame) -> DataFrame:
    """Payloads of `rejected`, each once, without what they have of a payment; those that name no
    `trans_num` are rejected as often as they come.
    """
    payment = {"cc_num": "string", "trans_num": "string", "category": "string", "amt": "double"}
    nothing = [F.lit(None).cast(kind).alias(name) for name, kind in payment.items()]
    event_time = F.lit(None).cast("timestamp").alias("event_time")
    named = rejected.where(F.col("payload").contains("trans_num")).groupBy("payload")
    return named.agg(F.max(F.struct("received_at", "source", "position")).alias("last")).select(
        "last.source", "last.position", *nothing, event_time, "last.received_at", "payload",
        F.lit("rejected").alias("reason"),
    )  # fmt: skip


def _as_parsed(payments: DataFrame, received_at: Column) -> DataFrame:
    nothing = F.lit(None).cast("string")
    return payments.select(
        *_REMEMBERED,
        received_at.alias("received_at"),
        nothing.alias("payload"),
        nothing.alias("reason"),
    )
