"""Which version scores: looks the alias up beside the stream, and holds the last good version."""

import json
import logging
import os
import shutil
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import mlflow.artifacts
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from conf.settings import RegistrySettings
from ingest.schema import EXAMPLE_PAYMENT, check_payment
from jobs.model import ModelRefused, inputs_of, model_inputs, model_threshold
from jobs.scoring import ModelVersion, load_archive, zip_folder

log = logging.getLogger(__name__)

DEFAULT_THRESHOLD = 0.5
REGISTRY_ERRORS = (MlflowException, RequestException, SQLAlchemyError, OSError)


class NoModel(Exception):
    """No version can score: the alias is not set and none ran here before."""


@dataclass(frozen=True)
class VersionReference:
    """A version as the registry names it, with its tags."""

    name: str
    version: str
    tags: dict[str, str]

    @property
    def label(self) -> str:
        """Name and version, for messages."""
        return f"{self.name} v{self.version}"


class Registry(Protocol):
    """What the watcher asks of a model registry. Both calls raise one of ``REGISTRY_ERRORS``."""

    def aliased(self) -> VersionReference:
        """The version that the alias points to."""

    def download(self, reference: VersionReference, folder: Path) -> Path:
        """Fetch the version's files into ``folder``; return where the model lies."""


class MlflowRegistry:
    """The registry of the settings. An answer is waited for two seconds, once."""

    def __init__(self, settings: RegistrySettings) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        mlflow.set_tracking_uri(settings.tracking_uri)
        self._client = MlflowClient(settings.tracking_uri)
        self._name, self._alias = settings.model_name, settings.alias

    def aliased(self) -> VersionReference:
        """The version that the alias points to."""
        found = self._client.get_model_version_by_alias(self._name, self._alias)
        return VersionReference(found.name, str(found.version), dict(found.tags))

    def download(self, reference: VersionReference, folder: Path) -> Path:
        """Fetch the version's files into ``folder``; return where the model lies."""
        uri = f"models:/{reference.name}/{reference.version}"
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))


class ModelCache:
    """The last good version on disk, for a start while the registry is away."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._current = folder / "current.json"

    def load(self) -> ModelVersion | None:
        """The version stored last, or None."""
        if not self._current.is_file():
            return None
        reference = VersionReference(**json.loads(self._current.read_text()))
        return read_version(self._files(reference), reference)

    def fetch(self, registry: Registry, reference: VersionReference) -> ModelVersion:
        """Download a version, check it against the contract, make it the stored one.

        Raises:
            ModelRefused: it does not fit; the stored version stays.
        """
        arriving = self._folder / "arriving"
        shutil.rmtree(arriving, ignore_errors=True)
        arriving.mkdir(parents=True)
        version = read_version(registry.download(reference, arriving), reference)
        self._store(registry_files=arriving, reference=reference)
        return version

    def _store(self, registry_files: Path, reference: VersionReference) -> None:
        files = self._files(reference)
        shutil.rmtree(files, ignore_errors=True)
        registry_files.rename(files)
        draft = self._current.with_suffix(".tmp")
        draft.write_text(json.dumps(asdict(reference)))
        draft.replace(self._current)
        for other in self._folder.glob("v*"):
            if other != files:
                shutil.rmtree(other, ignore_errors=True)

    def _files(self, reference: VersionReference) -> Path:
        return self._folder / f"v{reference.version}"


def read_version(files: Path, reference: VersionReference) -> ModelVersion:
    """The version in the folder ``files``, tried on an example payment.

    Raises:
        ModelRefused: it does not fit the contract, cannot be loaded, or fails on the example.
    """
    model = next(files.rglob("MLmodel"), None)
    if model is None:
        raise ModelRefused("it has no MLmodel file")
    inputs = model_inputs(model.parent)
    version = ModelVersion(
        name=reference.name,
        version=reference.version,
        threshold=model_threshold(model.parent, reference.tags, DEFAULT_THRESHOLD),
        inputs=inputs,
        archive=zip_folder(model.parent),
    )
    try:
        load_archive(version.archive, inputs).predict(
            inputs_of(pd.DataFrame([check_payment(EXAMPLE_PAYMENT)]))
        )
    except ModelRefused:
        raise
    except Exception as error:
        raise ModelRefused(f"it fails on an example payment: {error!r}") from error
    return version


class ChampionWatcher:
    """Keeps ``current`` at the version that the alias points to, from a thread of its own.

    A version that does not fit is refused once, by name, and the current one goes on; so it does
    while the registry is away.
    """

    def __init__(self, registry: Registry, cache: ModelCache, poll_seconds: float) -> None:
        self._registry, self._cache = registry, cache
        self._poll_seconds = poll_seconds
        self._refused: VersionReference | None = None
        self._trouble = ""
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._current: ModelVersion | None = None

    @property
    def current(self) -> ModelVersion:
        """The version that scores now; waits while a new one is being loaded.

        Raises:
            NoModel: there is none.
        """
        with self._lock:
            if self._current is None:
                raise NoModel(
                    "no model to score with: the registry has no usable version under the alias, "
                    "and none ran here before. Train one: spark-submit --properties-file "
                    "spark-defaults.conf training/train.py --config … --data FILE.csv"
                    + (f" ({self._trouble})" if self._trouble else "")
                )
            return self._current

    def start(self) -> None:
        """Find the version to begin with, then watch until ``stop``."""
        self.look()
        if self._current is None:
            self._current = self._cache.load()
            if self._current is not None:
                log.warning("going on with %s from the cache", self._current.label)
        threading.Thread(target=self._watch, name="champion", daemon=True).start()

    def stop(self) -> None:
        """End the watching."""
        self._ended.set()

    def look(self) -> None:
        """Look the alias up once and take over what is new and fits."""
        try:
            reference = self._registry.aliased()
            if not self._is_new(reference):
                self._tell("")
                return
            # Held while the version loads: a micro-batch that starts meanwhile gets the new one.
            with self._lock:
                self._take_over(reference)
        except REGISTRY_ERRORS as error:
            going_on = f"; {self._current.label} goes on" if self._current else ""
            self._tell(f"no answer from the registry: {_first_line(error)}{going_on}")

    def _take_over(self, reference: VersionReference) -> None:
        try:
            self._current = self._cache.fetch(self._registry, reference)
        except ModelRefused as refusal:
            self._refused = reference
            going_on = f"; {self._current.label} goes on" if self._current else ""
            self._tell(f"{reference.label} is refused: {refusal}{going_on}")
        else:
            self._refused = None
            self._tell("")
            log.info(
                "champion is %s (threshold %.4g)", self._current.label, self._current.threshold
            )

    def _is_new(self, reference: VersionReference) -> bool:
        current = self._current
        if current and (current.name, current.version) == (reference.name, reference.version):
            return False
        return reference != self._refused

    def _tell(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.warning("%s", trouble)
        self._trouble = trouble

    def _watch(self) -> None:
        while not self._ended.wait(self._poll_seconds):
            self.look()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
