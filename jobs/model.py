"""A model version, from the registry's artifacts to a vector of probabilities.

Any MLflow model with a signature fits: its inputs are feature names or transaction columns, its
output is one probability a row.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.models import Model
from threadpoolctl import ThreadpoolController, threadpool_limits

from ingest.schema import PAYMENT_FIELDS
from jobs.feature_pass import feature_frame
from jobs.features import FEATURE_NAMES
from jobs.windows import Floats

THRESHOLD_KEY = "threshold"
"""Key of the decision threshold in the metadata of the logged model, or in the version's tags."""

TRUTH = "is_fraud"
"""The simulated truth: no model may ask for it."""

AVAILABLE_INPUTS = (
    *FEATURE_NAMES,
    *(field.name for field in PAYMENT_FIELDS if field.name != TRUTH),
    "event_time",
)
"""What a model may ask for."""

_NUMPY_TYPE = {
    "double": np.float64,
    "float": np.float32,
    "long": np.int64,
    "integer": np.int32,
    "boolean": np.bool_,
}


_NO_NUMBERS = "cUSmM"
"""Kinds of NumPy types that would become numbers all the same: complex numbers, text, times."""


class ModelRefused(Exception):
    """The model does not fit the contract; the message says why."""


@dataclass(frozen=True)
class ModelInput:
    """One column that a model asks for, and its MLflow type, such as ``double``."""

    name: str
    type: str


class _Predicts(Protocol):
    def predict(self, data: pd.DataFrame) -> Any: ...


def model_inputs(path: Path) -> tuple[ModelInput, ...]:
    """The inputs in the signature of the MLflow model in the folder ``path``.

    Raises:
        ModelRefused: no signature, no named columns, or columns that we do not have; the message
            lists what is missing and what exists.
    """
    signature = _description(path).signature
    if signature is None or signature.inputs is None:
        raise ModelRefused("it has no signature: log it with `signature=` or `input_example=`")
    columns = signature.inputs.inputs
    if not all(getattr(column, "name", None) for column in columns):
        raise ModelRefused("its signature names no columns: log it with a DataFrame as example")
    missing = [column.name for column in columns if column.name not in AVAILABLE_INPUTS]
    if missing:
        raise ModelRefused(
            f"it asks for {', '.join(missing)}, which we do not have; "
            f"there is {', '.join(AVAILABLE_INPUTS)}"
        )
    return tuple(
        ModelInput(column.name, str(getattr(column.type, "name", column.type)).lower())
        for column in columns
    )


def model_threshold(path: Path, tags: Mapping[str, str], default: float) -> float:
    """The decision threshold that travels with the version: in the model's metadata, else in the
    version's tags, else ``default``.

    Raises:
        ModelRefused: it is no number from 0 to 1.
    """
    metadata = _description(path).metadata or {}
    raw = metadata.get(THRESHOLD_KEY, tags.get(THRESHOLD_KEY, default))
    try:
        threshold = float(raw)
    except (TypeError, ValueError):
        threshold = float("nan")
    if not 0 <= threshold <= 1:
        raise ModelRefused(f"its threshold is {raw!r}, expected a number from 0 to 1")
    return threshold


def inputs_of(payments: pd.DataFrame, history: pd.DataFrame | None = None) -> pd.DataFrame:
    """``AVAILABLE_INPUTS`` as the score job supplies them: text, float64 for numbers (integers
    too), ``date`` for ``dob``, datetime64 in UTC without a zone for ``event_time``.

    Args:
        payments: in their order of arrival, as ``ingest.payment_files.read_payments`` returns them
            (fields that are not there stay NULL), or with `ingested_at` beside it.
        history: payments that arrived before them.
    """
    columns = payments.reindex(columns=list(AVAILABLE_INPUTS[len(FEATURE_NAMES) :])).copy()
    for field in PAYMENT_FIELDS:
        if field.name in columns and field.type in ("number", "integer"):
            columns[field.name] = columns[field.name].astype(np.float64)
        elif field.type == "date":
            columns[field.name] = pd.to_datetime(columns[field.name]).dt.date
        elif field.name in columns:
            texts = columns[field.name].astype(object)
            columns[field.name] = texts.where(texts.notna(), None)
    moments = pd.to_datetime(columns["event_time"], utc=True)
    columns["event_time"] = moments.dt.tz_localize(None).astype("datetime64[us]")
    return columns.join(feature_frame(payments, history))


def _description(path: Path) -> Model:
    try:
        return Model.load(str(path))
    except Exception as error:
        raise ModelRefused(f"its MLmodel file cannot be read: {error!r}") from error


class LoadedModel:
    """A model in memory. One thread: the executor already keeps every core busy.

    Its folder must stay: a model may read its files, or import its code, as late as in `predict`.

    Raises:
        ModelRefused: it cannot be loaded, or is a classifier of other classes than 0 and 1.
    """

    def __init__(self, path: Path, inputs: tuple[ModelInput, ...]) -> None:
        self._inputs = inputs
        self._code = _OwnCode(path)
        self._threads: ThreadpoolController | None = None
        model: Any = None
        try:
            with threadpool_limits(1), self._code.importable():
                if "sklearn" in Model.load(str(path)).flavors:
                    model = mlflow.sklearn.load_model(str(path))
                other = model if model is not None else mlflow.pyfunc.load_model(str(path))
        except (Exception, SystemExit) as error:
            raise ModelRefused(f"it cannot be loaded: {error!r}") from error
        self._classifier = model if hasattr(model, "predict_proba") else None
        self._model: _Predicts = other
        classes = np.asarray(getattr(self._classifier, "classes_", (0, 1))).tolist()
        # The last column would be the probability of something else.
        if len(classes) != 2 or classes[1] != 1:
            raise ModelRefused(f"its classes are {classes}, expected 0 and 1 (fraud)")

    @property
    def input_names(self) -> tuple[str, ...]:
        """The columns that ``predict`` asks for."""
        return tuple(item.name for item in self._inputs)

    @property
    def estimator(self) -> Any:
        """The scikit-learn classifier; None where the model is another one."""
        return self._classifier

    def predict(self, columns: pd.DataFrame) -> Floats:
        """The probability of fraud of each row: float64 of shape (n,), from 0 to 1.

        Args:
            columns: the model's inputs, by name.

        Raises:
            ModelRefused: it fails, or its output has another shape or is no probability.
        """
        if len(columns) == 0:
            return np.empty(0)
        try:
            data = self._typed(columns)
            # To look for libraries with threads takes longer than to score a small micro-batch.
            # All are loaded once a first prediction was made.
            threads = self._threads or ThreadpoolController()
            with threads.limit(limits=1), self._code.importable():
                if self._classifier is not None:
                    raw = self._classifier.predict_proba(data)
                else:
                    raw = self._model.predict(data)
            self._threads = self._threads or ThreadpoolController()
        except (Exception, SystemExit) as error:
            raise ModelRefused(f"it fails: {error!r}") from error
        return probabilities(raw, len(columns))

    def _typed(self, columns: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(
            {
                item.name: columns[item.name].astype(_NUMPY_TYPE[item.type])
                if item.type in _NUMPY_TYPE
                else columns[item.name]
                for item in self._inputs
            }
        )


class _OwnCode:
    """The modules that a model brings along (`code_paths`), kept to that model.

    The next version may bring other modules of the same names, and both live in one process.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._paths: list[str] = []
        self._modules: dict[str, ModuleType] = {}

    @contextmanager
    def importable(self) -> Iterator[None]:
        """The model's own modules can be imported, and are gone afterwards."""
        paths, before = list(sys.path), set(sys.modules)
        sys.path[:0] = self._paths
        sys.modules.update(self._modules)
        try:
            yield
        finally:
            self._paths = [path for path in sys.path if path.startswith(self._folder)]
            sys.path[:] = paths
            for name in set(sys.modules) - before:
                if self._holds(sys.modules[name]):
                    self._modules[name] = sys.modules.pop(name)

    def _holds(self, module: ModuleType) -> bool:
        places = [vars(module).get("__file__"), *vars(module).get("__path__", ())]
        return any(str(place).startswith(self._folder) for place in places)


def probabilities(raw: Any, rows: int) -> Floats:
    """A model's output as probabilities: shape (n,), or the last of the columns of (n, k).

    Raises:
        ModelRefused: no numbers, another shape, or a value that is not from 0 to 1.
    """
    try:
        scores = np.asarray(raw)
        if scores.dtype.kind in _NO_NUMBERS:
            raise TypeError(f"it has the type {scores.dtype}")
        scores = scores.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ModelRefused(f"its output is no array of numbers: {error}") from error
    if scores.ndim == 2 and scores.shape[1]:
        scores = scores[:, -1]
    if scores.shape != (rows,):
        raise ModelRefused(f"its output has the shape {scores.shape}, expected ({rows},)")
    wrong = scores[~((scores >= 0) & (scores <= 1))]
    if len(wrong):
        raise ModelRefused(f"its output {wrong[0]} is no probability (0 to 1)")
    return scores
