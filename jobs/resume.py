"""Where a score job goes on: a new checkpoint starts behind what the tables hold already."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StringType, StructField, StructType

from conf.settings import Settings
from jobs.envelopes import FOREIGN_SOURCE
from jobs.run import Clock, utc_now
from jobs.schemas import WRITTEN_TABLES
from jobs.spark import last_commit, make_folder, names_in, path_exists
from jobs.tables import ensure_table, read_table
from jobs.warm_start import past_chunks

log = logging.getLogger("jobs.resume")

LAST_POSITION = 2**63 - 1
_LOWEST = -(2**63)
_LAYOUT = 3  # of the state: changes with jobs.bucket, jobs.bucket_keys and how Spark keeps it

_POSITIONS = StructType([StructField("source", StringType()), StructField("position", LongType())])


@dataclass(frozen=True)
class Resume:
    """``written``: the highest position of each source that the tables held when the checkpoint was
    made. ``past``: what to remember in its first batch (see ``jobs.warm_start``), or None.
    """

    written: dict[str, int]
    past: DataFrame | None = None

    def after_first_batch(self) -> "Resume":
        """The same, once the past is in the state."""
        return replace(self, past=None)


class OtherLayout(Exception):
    """The checkpoint's state is laid out otherwise; the message says what to do."""


def resume_point(
    spark: SparkSession, settings: Settings, checkpoint: str, clock: Clock = utc_now
) -> Resume:
    """Read the resume point that is kept in the checkpoint, or make it for a new checkpoint, at the
    time of ``clock``.

    Raises:
        ingest.payment_files.PaymentFileError: a file of ``score.history`` cannot be used.
        OtherLayout: the checkpoint was made with another number of buckets, or by an earlier
            version of this job.
    """
    kept = f"{checkpoint}/written"
    for name in WRITTEN_TABLES:
        ensure_table(settings.warehouse, name)
    # Spark drops the oldest commits, so any will do.
    has_run = last_commit(spark, checkpoint) is not None
    _check_layout(spark, settings.score.buckets, checkpoint, has_run)
    if not path_exists(spark, f"{kept}/_SUCCESS"):
        positions = highest_positions(spark, settings).coalesce(1)
        positions.write.mode("overwrite").json(kept)
    rows = spark.read.schema(_POSITIONS).json(kept).collect()
    written = {row["source"]: row["position"] for row in rows}
    if has_run:
        if settings.score.history:
            log.info("score.history is of no effect: only a new checkpoint reads it")
        return Resume(written)
    # Also where the first batch died: the state is as empty as before, whatever it has written.
    return Resume(written, past_chunks(spark, settings, written, f"{checkpoint}/past", clock()))


def _check_layout(spark: SparkSession, buckets: int, checkpoint: str, has_run: bool) -> None:
    layout = f"{checkpoint}/layout"
    wanted = f"v{_LAYOUT}-buckets-{buckets}"
    found = names_in(spark, layout)
    if found == [wanted]:
        return
    if found or has_run:
        told = ", ".join(found) or "of an earlier version"
        raise OtherLayout(
            f"the checkpoint {checkpoint} has the layout {told}, expected {wanted}: set "
            "score.buckets back, or move the checkpoint away and start again; a new one takes the "
            "history from the tables"
        )
    make_folder(spark, f"{layout}/{wanted}")


def highest_positions(spark: SparkSession, settings: Settings) -> DataFrame:
    """`source`, `position`: the highest in the tables. A file without envelopes was read whole, so
    that nothing of it is behind.
    """
    tables = (
        read_table(spark, settings.warehouse, name).select("source", "position")
        for name in WRITTEN_TABLES
    )
    written = reduce(DataFrame.unionByName, tables)
    is_foreign = F.col("source").startswith(FOREIGN_SOURCE)
    return written.groupBy("source").agg(
        F.max(F.when(is_foreign, F.lit(LAST_POSITION)).otherwise(F.col("position"))).alias(
            "position"
        )
    )


def behind(envelopes: pa.Table, written: Mapping[str, int]) -> pa.Table:
    """Only envelopes behind the highest position written of their source."""
    if not written:
        return envelopes
    sources = envelopes["source"].combine_chunks().dictionary_encode()
    floors = [written.get(source, _LOWEST) for source in sources.dictionary.to_pylist()]
    floor = pa.array(floors, pa.int64()).take(sources.indices)
    return envelopes.filter(pc.greater(envelopes["position"].combine_chunks(), floor))
