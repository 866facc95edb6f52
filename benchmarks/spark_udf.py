"""The competitor in Spark: ``mlflow.pyfunc.spark_udf`` in place of our scoring, else the same."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import mlflow.pyfunc
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from benchmarks.trained import model_uri
from jobs.blocks import from_block
from jobs.features import FEATURE_NAMES
from jobs.lineup import Lineup
from jobs.scoring import SCORED, ModelVersion
from jobs.task_output import TASK_REPORT, Folders, gathered, report_of

_ADDED = (
    *("scored_at", "fraud_score", "prediction", "threshold", "model_name", "model_version"),
    "reasons",
)

DECODED = StructType([field for field in SCORED if field.name not in _ADDED])
"""A payment with its features, as Spark's own columns."""


class UdfScorer:
    """Scores like ``jobs.scoring.Scorer``, by a ``spark_udf`` that is made once."""

    def __init__(self, spark: SparkSession, registry: Path) -> None:
        self._udf = mlflow.pyfunc.spark_udf(
            spark, model_uri(registry), result_type="double", env_manager="local"
        )

    def reports(
        self, batch: DataFrame, lineup: Lineup, folders: Folders, tells_hits: bool
    ) -> DataFrame:
        """Payments scored and written. What a micro-batch holds beside valid payments is left out:
        the benchmark has none.
        """

        def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            with folders.writer("transactions") as writer:
                count = 0
                for rows in gathered(pa.Table.from_batches([batch]) for batch in batches):
                    writer.write(rows)
                    count += len(rows)
                counts = {"received": count, "valid": count, "invalid": 0}
                files = {"transactions": writer.finished()}
            yield report_of(counts, files, [], [])

        return self.scored(decoded(batch), lineup.champion).mapInArrow(write, TASK_REPORT)

    def scored(self, payments: DataFrame, model: ModelVersion) -> DataFrame:
        """``DECODED`` with the scores: ``SCORED``."""
        score = self.score_of(model)
        # A column that is used twice would be computed twice.
        rows = payments.withColumn("fraud_score", score).withColumns(
            {
                "scored_at": F.lit(datetime.now(UTC)),
                "threshold": F.lit(model.threshold),
                "model_name": F.lit(model.name),
                "model_version": F.lit(model.version),
                "challenger_score": F.lit(None).cast("double"),
                "challenger_version": F.lit(None).cast("string"),
                # It gives none, which saves it a call of the model on the hits.
                "reasons": F.lit(None).cast(SCORED["reasons"].dataType),
            }
        )
        is_hit = F.col("fraud_score") >= F.col("threshold")
        return rows.withColumn("prediction", is_hit).select(*SCORED.fieldNames())

    def score_of(self, model: ModelVersion):  # type: ignore[no-untyped-def]
        """The probability of fraud as a column over ``DECODED``."""
        names = [item.name for item in model.inputs]
        inputs = [
            F.col(f"features.{name}" if name in FEATURE_NAMES else name).alias(name)
            for name in names
        ]
        # Of the two probabilities a `double` takes the first: that of no fraud.
        return 1.0 - self._udf(F.struct(*inputs))


def decoded(blocks: DataFrame) -> DataFrame:
    """Blocks of payments as rows: ``DECODED``."""

    def open_blocks(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for block in batch.column(0):
                if block.is_valid:
                    rows = from_block(block.as_buffer())
                    yield from _with_features(rows).to_batches()

    return blocks.select("payments").mapInArrow(open_blocks, DECODED)


def _with_features(rows: pa.Table) -> pa.Table:
    features = [rows[name].combine_chunks() for name in FEATURE_NAMES]
    columns = {name: rows[name] for name in rows.column_names} | {
        "ingested_at": rows["received_at"],
        "features": pa.StructArray.from_arrays(features, names=list(FEATURE_NAMES)),
    }
    return pa.table({name: columns[name] for name in DECODED.names})
