"""The model as a vectorised UDF: executors get a version once, a worker process loads it once."""

import io
import logging
import os
import shutil
import tempfile
import weakref
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql.types import StructType

from ingest.schema import PAYMENT_FIELDS
from jobs.arrivals import PAYMENTS
from jobs.envelopes import MOMENT
from jobs.explain import reasons_of
from jobs.features import FEATURE_NAMES
from jobs.model import AVAILABLE_INPUTS, LoadedModel, ModelInput, ModelRefused
from jobs.schemas import TRANSACTIONS
from jobs.windows import Floats
from jobs.worker import settle

log = logging.getLogger("jobs.scoring")

VERSIONS_IN_A_WORKER = 4

LATER_COLUMNS = ("label", "label_source", "labelled_at")
"""Columns of `transactions` that scoring leaves NULL."""

SCORED = StructType([field for field in TRANSACTIONS if field.name not in LATER_COLUMNS])
"""A payment with its features, its score, and who gave it."""

Stamp = Callable[[pa.Table], pa.Array]
"""`scored_at` (UTC) of payments, ``jobs.arrivals.PAYMENTS``. Tasks call it: a function of a module.
"""

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


def stamped_now(payments: pa.Table) -> pa.Array:
    """The clock's time, as in service."""
    return pa.repeat(pa.scalar(datetime.now(UTC), MOMENT), len(payments))


def stamped_at_receipt(payments: pa.Table) -> pa.Array:
    """The time of receipt: where that is simulated, so is the time of scoring."""
    return payments["received_at"]


def scored(
    payments: pa.Table, model: ModelVersion, loaded: LoadedModel, stamp: Stamp = stamped_now
) -> pa.Table:
    """``SCORED``, from ``jobs.arrivals.PAYMENTS``; without a challenger.

    Raises:
        jobs.model.ModelRefused: the model fails on them.
    """
    n = len(payments)
    scores = scores_of(payments, model, loaded)
    features = [payments[name].combine_chunks() for name in FEATURE_NAMES]
    columns = {name: payments[name] for name in payments.column_names} | {
        "ingested_at": payments["received_at"],
        "scored_at": stamp(payments),
        "features": pa.StructArray.from_arrays(features, names=list(FEATURE_NAMES)),
        "fraud_score": scores,
        "prediction": scores >= model.threshold,
        "threshold": np.full(n, model.threshold),
        "model_name": pa.repeat(model.name, n),
        "model_version": pa.repeat(model.version, n),
        "challenger_score": pa.nulls(n, pa.float64()),
        "challenger_version": pa.nulls(n, pa.string()),
        "reasons": reasons_column(payments, scores, model, loaded),
    }
    return pa.table({name: columns[name] for name in SCORED.names})


def scores_of(payments: pa.Table, model: ModelVersion, loaded: LoadedModel) -> Floats:
    """The probability of fraud of each payment: float64 of shape (n,).

    Raises:
        jobs.model.ModelRefused: the model fails on them.
    """
    return loaded.predict(model_columns_of(payments, [item.name for item in model.inputs]))


def with_challenger(rows: pa.Table, scores: Floats, version: str) -> pa.Table:
    """``rows`` (``SCORED``) with the scores of a challenger, float64 of shape (n,)."""
    columns = {"challenger_score": scores, "challenger_version": pa.repeat(version, len(rows))}
    for name, values in columns.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(values))
    return rows


def scored_anew(
    rows: pa.Table, model: ModelVersion, loaded: LoadedModel, stamp: Stamp = stamped_now
) -> pa.Table:
    """``SCORED`` again, by another version; the challenger's scores stay.

    Raises:
        jobs.model.ModelRefused: the model fails on them.
    """
    features = rows["features"].combine_chunks()
    payments = {name: features.field(name) for name in FEATURE_NAMES}
    payments |= {name: rows[name] for name in rows.column_names} | {
        "received_at": rows["ingested_at"]
    }
    table = pa.table({name: payments[name] for name in PAYMENTS.names})
    again = scored(table, model, loaded, stamp)
    for name in ("challenger_score", "challenger_version"):
        again = again.set_column(again.schema.get_field_index(name), name, rows[name])
    return again


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
    """The model of ``key`` in this worker process: loaded once, at most four versions kept."""
    if key not in _loaded:
        _loaded[key] = load_archive(archive.value, inputs)
        while len(_loaded) > VERSIONS_IN_A_WORKER:
            _loaded.popitem(last=False)
        settle(anew=True)
    _loaded.move_to_end(key)
    return _loaded[key]
