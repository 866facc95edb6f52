"""The model as a vectorised UDF: executors get a version once, a worker process loads it once."""

import io
import logging
import os
import shutil
import tempfile
import weakref
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from ingest.schema import PAYMENT_FIELDS
from jobs.envelopes import MOMENT
from jobs.explain import reasons_of
from jobs.features import FEATURE_NAMES
from jobs.model import AVAILABLE_INPUTS, LoadedModel, ModelInput, ModelRefused
from jobs.schemas import TRANSACTIONS
from jobs.task_output import TASK_REPORT, Folders, score_and_write
from jobs.windows import Floats
from jobs.worker import settle

log = logging.getLogger("jobs.scoring")

VERSIONS_IN_A_WORKER = 3

LATER_COLUMNS = ("label", "label_source", "labelled_at")
"""Columns of `transactions` that scoring leaves NULL."""

SCORED = StructType([field for field in TRANSACTIONS if field.name not in LATER_COLUMNS])
"""A payment with its features, its score, and who gave it."""

_NUMERIC_FIELDS = {field.name for field in PAYMENT_FIELDS if field.type in ("number", "integer")}


@dataclass(frozen=True)
class ModelVersion:
    """A version that passed the contract: who it is, what it wants, and its files as a zip."""

    name: str
    version: str
    threshold: float
    inputs: tuple[ModelInput, ...]
    archive: bytes

    @property
    def label(self) -> str:
        """Name and version, for messages."""
        return f"{self.name} v{self.version}"


def zip_folder(folder: Path) -> bytes:
    """The files of ``folder`` as a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def load_archive(archive: bytes, inputs: tuple[ModelInput, ...]) -> LoadedModel:
    """The model in a zip made by ``zip_folder``, its files unpacked for as long as it lives.

    Raises:
        jobs.model.ModelRefused: it cannot be loaded.
    """
    # A worker is killed at its end; what lies in Spark's own folder goes away with Spark.
    parent = os.environ.get("SPARK_LOCAL_DIRS", "").split(",")[0]
    folder = Path(
        tempfile.mkdtemp(prefix="model-", dir=parent if os.path.isdir(parent) else None)
    ).resolve()
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as files:
            files.extractall(folder)
        loaded = LoadedModel(folder, inputs)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(loaded, shutil.rmtree, folder, ignore_errors=True)
    return loaded


class Scorer:
    """Scores micro-batches; broadcasts a version once, for as long as it is in use."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self._broadcast: tuple[ModelVersion, Broadcast[bytes]] | None = None

    def reports(
        self, batch: DataFrame, model: ModelVersion, folders: Folders, tells_hits: bool
    ) -> DataFrame:
        """Payments scored by ``model`` and written, by ``jobs.task_output.score_and_write``.

        Args:
            batch: ``jobs.card_memory.OPERATOR_OUTPUT``.
            folders: of the tables.
            tells_hits: whether the reports have the hits.

        Returns:
            ``jobs.task_output.TASK_REPORT``, a row a task.
        """
        archive = self._shared(model)
        key = (model.name, model.version, id(archive))
        known = replace(model, archive=b"")

        def judge(payments: pa.Table) -> pa.Table:
            return scored(payments, known, worker_model(key, archive, known.inputs))

        def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            return score_and_write(batches, folders, judge, tells_hits)

        return batch.mapInArrow(write, TASK_REPORT)

    def _shared(self, model: ModelVersion) -> "Broadcast[bytes]":
        if self._broadcast is None or self._broadcast[0] is not model:
            if self._broadcast is not None:
                self._broadcast[1].unpersist()
            self._broadcast = (model, self._spark.sparkContext.broadcast(model.archive))
        return self._broadcast[1]


def scored(payments: pa.Table, model: ModelVersion, loaded: LoadedModel) -> pa.Table:
    """``SCORED``, from ``jobs.arrivals.PAYMENTS``.

    Raises:
        jobs.model.ModelRefused: the model fails on them.
    """
    n = len(payments)
    scores = loaded.predict(model_columns_of(payments, [item.name for item in model.inputs]))
    features = [payments[name].combine_chunks() for name in FEATURE_NAMES]
    columns = {name: payments[name] for name in payments.column_names} | {
        "ingested_at": payments["received_at"],
        "scored_at": pa.repeat(pa.scalar(datetime.now(UTC), MOMENT), n),
        "features": pa.StructArray.from_arrays(features, names=list(FEATURE_NAMES)),
        "fraud_score": scores,
        "prediction": scores >= model.threshold,
        "threshold": np.full(n, model.threshold),
        "model_name": pa.repeat(model.name, n),
        "model_version": pa.repeat(model.version, n),
        "reasons": reasons_column(payments, scores, model, loaded),
    }
    return pa.table({name: columns[name] for name in SCORED.names})


def reasons_column(
    payments: pa.Table, scores: Floats, model: ModelVersion, loaded: LoadedModel
) -> pa.Array:
    """What speaks for fraud: a list of texts for each hit, NULL for the other rows.

    A hit without reasons, because the model fails on changed payments or for another cause, is
    still a hit: the list is empty then, and the log says so once.
    """
    is_hit = scores >= model.threshold
    asked = [item.name for item in model.inputs]

    def predict(inputs: pd.DataFrame) -> Floats:
        try:
            return loaded.predict(inputs[asked])
        except ModelRefused as error:
            _tell_once(model, error)
            raise

    told: list[list[str]] = [[]] * int(is_hit.sum())
    if told:
        try:
            inputs = model_columns_of(payments.filter(pa.array(is_hit)), AVAILABLE_INPUTS)
            told = reasons_of(inputs, scores[is_hit], predict)
        except Exception as error:  # noqa: BLE001
            _tell_once(model, error)
    waiting = iter(told)
    column = [next(waiting) if hit else None for hit in is_hit.tolist()]
    return pa.array(column, pa.list_(pa.string()))


def _tell_once(model: ModelVersion, error: Exception) -> None:
    if model.label not in _without_reasons:
        _without_reasons.add(model.label)
        log.warning("hits of %s lack reasons: %s", model.label, error, exc_info=error)


def model_columns_of(payments: pa.Table, names: Sequence[str]) -> pd.DataFrame:
    """The columns ``names`` of payments as ``jobs.model.inputs_of`` supplies them."""
    columns = {}
    for name in names:
        column = payments[name]
        if name in _NUMERIC_FIELDS:
            column = column.cast(pa.float64())
        elif name == "event_time":
            column = column.cast(pa.timestamp("us"))
        columns[name] = column.to_pandas()
    return pd.DataFrame(columns)


_without_reasons: set[str] = set()
_loaded: OrderedDict[tuple[Any, ...], LoadedModel] = OrderedDict()


def worker_model(
    key: tuple[Any, ...], archive: "Broadcast[bytes]", inputs: tuple[ModelInput, ...]
) -> LoadedModel:
    """The model of ``key`` in this worker process: loaded once, at most three versions kept."""
    if key not in _loaded:
        _loaded[key] = load_archive(archive.value, inputs)
        while len(_loaded) > VERSIONS_IN_A_WORKER:
            _loaded.popitem(last=False)
        settle(anew=True)
    _loaded.move_to_end(key)
    return _loaded[key]
