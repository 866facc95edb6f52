"""Where a score job goes on: a new checkpoint starts behind what the tables hold already."""

from dataclasses import dataclass, replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StringType, StructField, StructType

from conf.settings import Settings
from jobs.parse import FOREIGN_SOURCE
from jobs.spark import path_exists
from jobs.tables import ensure_table, read_table

LAST_POSITION = 2**63 - 1

_POSITIONS = StructType([StructField("source", StringType()), StructField("position", LongType())])


@dataclass(frozen=True)
class Resume:
    """``written``: the highest position of each source that the tables held when the checkpoint was
    made. ``past``: the `trans_num`s to remember in its first batch, or None.
    """

    written: dict[str, int]
    past: DataFrame | None = None

    def skip_written(self, envelopes: DataFrame) -> DataFrame:
        """Only rows behind the highest position written."""
        if not self.written:
            return envelopes
        items = [F.lit(item) for pair in self.written.items() for item in pair]
        highest = F.element_at(F.create_map(*items), F.col("source"))
        return envelopes.where(F.coalesce(highest, F.lit(-1)) < F.col("position"))

    def after_first_batch(self) -> "Resume":
        """The same, once the past is in the state."""
        return replace(self, past=None)


def resume_point(spark: SparkSession, settings: Settings, checkpoint: str) -> Resume:
    """Read the resume point that is kept in the checkpoint, or make it for a new checkpoint."""
    kept = f"{checkpoint}/written"
    if path_exists(spark, f"{checkpoint}/metadata"):
        written = spark.read.schema(_POSITIONS).json(kept).collect()
        return Resume({row["source"]: row["position"] for row in written})
    for name in ("transactions", "rejected"):
        ensure_table(spark, settings.warehouse, name)
    positions = highest_positions(spark, settings).persist()
    positions.coalesce(1).write.mode("overwrite").json(kept)
    written = positions.collect()
    past = past_of(spark, settings) if written else None
    return Resume({row["source"]: row["position"] for row in written}, past)


def highest_positions(spark: SparkSession, settings: Settings) -> DataFrame:
    """`source`, `position`: the highest in `transactions` and `rejected`. A file without envelopes
    was read whole, so that nothing of it is behind.
    """
    both = read_table(spark, settings.warehouse, "transactions").select("source", "position")
    both = both.union(
        read_table(spark, settings.warehouse, "rejected").select("source", "position")
    )
    is_foreign = F.col("source").startswith(FOREIGN_SOURCE)
    return both.groupBy("source").agg(
        F.max(F.when(is_foreign, F.lit(LAST_POSITION)).otherwise(F.col("position"))).alias(
            "position"
        )
    )


def past_of(spark: SparkSession, settings: Settings) -> DataFrame:
    """`trans_num`, `ingested_at` of the payments in `transactions` that are still remembered."""
    payments = read_table(spark, settings.warehouse, "transactions")
    newest = payments.agg(F.max("ingested_at").alias("newest"))
    horizon = F.make_dt_interval(days=F.lit(settings.score.seen_days))
    return (
        payments.crossJoin(F.broadcast(newest))
        .where(F.col("ingested_at") >= F.col("newest") - horizon)
        .select("trans_num", "ingested_at")
    )
