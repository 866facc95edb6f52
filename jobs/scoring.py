"""The model as a pandas UDF: a version is handed to the executors once, a worker loads it once."""

import io
import os
import shutil
import tempfile
import weakref
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark import Broadcast
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf
from pyspark.sql.types import DoubleType

from ingest.schema import PAYMENT_FIELDS
from jobs.features import FEATURE_NAMES
from jobs.model import LoadedModel, ModelInput

VERSIONS_IN_A_WORKER = 3

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
    """Adds scores to micro-batches; broadcasts a version once, for as long as it is in use."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self._broadcast: tuple[ModelVersion, Broadcast[bytes]] | None = None

    def add_score(self, payments: DataFrame, model: ModelVersion) -> DataFrame:
        """Add ``fraud_score`` (double) by ``model``.

        Args:
            payments: a column ``payment`` (struct of the payment's columns and `event_time`) and
                the features at the top level.
        """
        inputs = [_model_input(item.name).alias(item.name) for item in model.inputs]
        return payments.withColumn("fraud_score", self._udf(model)(F.struct(*inputs)))

    def _udf(self, model: ModelVersion) -> Callable[..., Column]:
        archive = self._shared(model)
        key = (model.name, model.version, id(archive))
        inputs = model.inputs

        def predict(batches: Iterator[pd.DataFrame]) -> Iterator[pd.Series]:
            loaded = worker_model(key, archive, inputs)
            for columns in batches:
                yield pd.Series(loaded.predict(columns))

        return pandas_udf(predict, DoubleType())  # type: ignore[call-overload,no-any-return]

    def _shared(self, model: ModelVersion) -> "Broadcast[bytes]":
        if self._broadcast is None or self._broadcast[0] is not model:
            if self._broadcast is not None:
                self._broadcast[1].unpersist()
            self._broadcast = (model, self._spark.sparkContext.broadcast(model.archive))
        return self._broadcast[1]


_loaded: OrderedDict[tuple[Any, ...], LoadedModel] = OrderedDict()


def worker_model(
    key: tuple[Any, ...], archive: "Broadcast[bytes]", inputs: tuple[ModelInput, ...]
) -> LoadedModel:
    """The model of ``key`` in this worker process: loaded once, at most three versions kept."""
    if key not in _loaded:
        _loaded[key] = load_archive(archive.value, inputs)
        while len(_loaded) > VERSIONS_IN_A_WORKER:
            _loaded.popitem(last=False)
    _loaded.move_to_end(key)
    return _loaded[key]


def _model_input(name: str) -> Column:
    if name in FEATURE_NAMES:
        return F.col(name)
    column = F.col(f"payment.{name}")
    # Nullable integers would come as int in one batch and as float in the next.
    return column.cast("double") if name in _NUMERIC_FIELDS else column
