"""The model step alone: our UDF and ``spark_udf``, in turns, over the same cached payments."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.types import DoubleType, StructField, StructType

import jobs.score
from benchmarks.places import Place
from benchmarks.score_job import start_spark
from benchmarks.spark_udf import UdfScorer, decoded
from jobs.blocks import from_block
from jobs.card_memory import KEYED_BLOCK
from jobs.lineup import Lineup
from jobs.resume import Resume
from jobs.scorer import Scorer
from jobs.scoring import ModelVersion, model_columns_of, worker_model
from jobs.sources import payment_source
from jobs.task_output import Folders

REPEATS = 7
UNSTEADY = 2
_SCORE = StructType([StructField("fraud_score", DoubleType())])


class ModelStep:
    """Both ways from the operator's output of one micro-batch on.

    "rows" is the whole step, from blocks to the rows in data files; "score" is the model alone,
    where ``spark_udf`` finds its inputs as columns already, and ours opens its blocks.
    """

    def __init__(self, place: Place, model: ModelVersion, rows: int) -> None:
        self._spark = start_spark("benchmark-step")
        self._model = model
        self._archive = self._spark.sparkContext.broadcast(model.archive)
        self._ours = Scorer(self._spark)
        self._theirs = UdfScorer(self._spark, place.registry)
        self._rows = rows
        self._folders = Folders(str(place.of("step")), str(place.of("step")))
        self._blocks = self._operator_output(place).persist()
        self._payments = decoded(self._blocks).persist()
        found = self._payments.count()
        if found != rows:
            raise RuntimeError(f"{found} payments, expected {rows}")

    def measured(self) -> dict[str, list[float]]:
        """Microseconds a row, once a repeat; the ways take turns."""
        step = (self._blocks, Lineup(self._model), self._folders, False)
        ways: dict[str, Callable[[], DataFrame]] = {
            "ours, rows": lambda: self._ours.reports(*step),
            "spark_udf, rows": lambda: self._theirs.reports(*step),
            "ours, score": self._our_score,
            "spark_udf, score": self._their_score,
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for repeat in range(UNSTEADY + REPEATS):
            for name, way in ways.items():
                started = time.perf_counter()
                way().write.format("noop").mode("overwrite").save()
                spent = time.perf_counter() - started
                if repeat >= UNSTEADY:
                    found[name].append(spent * 1e6 / self._rows)
        return found

    def _operator_output(self, place: Place) -> DataFrame:
        """What the stateful operator hands to foreachBatch, through a checkpoint of its own."""
        settings = place.settings("step", max_files=1_000_000)
        source = payment_source(self._spark, settings, {})
        past = self._spark.read.schema(KEYED_BLOCK).parquet(str(place.past))
        rows = jobs.score.remembered(source, settings, Resume({}, past))
        stored = str(place.of("step") / "blocks")

        def keep(batch: DataFrame, batch_id: int) -> None:
            batch.write.mode("append").parquet(stored)

        checkpoint = settings.warehouse.checkpoint("score")
        query = jobs.score.score_stream(rows, keep, checkpoint).trigger(availableNow=True).start()
        query.awaitTermination()
        return self._spark.read.parquet(stored).where("payments IS NOT NULL").repartition(2)

    def _our_score(self) -> DataFrame:
        scores = partial(_scores, self._archive, self._model.inputs)
        return self._blocks.select("payments").mapInArrow(scores, _SCORE)

    def _their_score(self) -> DataFrame:
        score = self._theirs.score_of(self._model)
        return self._payments.select(score.alias("fraud_score"))


def _scores(
    archive: Any, inputs: Any, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """The scores alone, by the parts of ``jobs.scoring``."""
    loaded = worker_model(("benchmark",), archive, inputs)
    names = [item.name for item in inputs]
    blocks = [from_block(block.as_buffer()) for batch in batches for block in batch.column(0)]
    if blocks:
        scores = loaded.predict(model_columns_of(pa.concat_tables(blocks), names))
        yield pa.record_batch([pa.array(scores)], ["fraud_score"])
