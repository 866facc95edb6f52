"""Which version scores: looks the alias up beside the stream, and holds the last good version."""

import json
import logging
import os
import shutil
import threading
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import mlflow.artifacts
import pandas as pd
from mlflow import MlflowClient

from conf.settings import RegistrySettings
from ingest.schema import EXAMPLE_PAYMENT, check_payment
from jobs.model import ModelRefused, inputs_of, model_inputs, model_threshold
from jobs.scoring import ModelVersion, load_archive, zip_folder

log = logging.getLogger(__name__)

DEFAULT_THRESHOLD = 0.5
PATIENCE_SECONDS = 30.0


class RegistryError(Exception):
    """The registry does not answer, or has not what was asked for."""


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
    """What the watcher asks of a model registry. Both calls raise ``RegistryError``."""

    def aliased(self) -> VersionReference:
        """The version that the alias points to."""

    def download(self, reference: VersionReference, folder: Path) -> Path:
        """Fetch the version's files into ``folder``; return where the model lies."""


class MlflowRegistry:
    """The registry of the settings. An answer is waited for two seconds, once."""

    def __init__(self, settings: RegistrySettings) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        self._address = settings.tracking_uri
        self._name, self._alias = settings.model_name, settings.alias

    # Below MLflow lie SQLAlchemy, requests, boto3 and whatever else stores artifacts, each with
    # errors of its own.

    def aliased(self) -> VersionReference:
        """The version that the alias points to."""
        try:
            require_registry_file(self._address)
            mlflow.set_tracking_uri(self._address)
            client = MlflowClient(self._address)
            found = client.get_model_version_by_alias(self._name, self._alias)
        except Exception as error:
            raise RegistryError(_first_line(error)) from error
        return VersionReference(found.name, str(found.version), dict(found.tags))

    def download(self, reference: VersionReference, folder: Path) -> Path:
        """Fetch the version's files into ``folder``; return where the model lies."""
        uri = f"models:/{reference.name}/{reference.version}"
        try:
            files = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))
        except Exception as error:
            raise RegistryError(_first_line(error)) from error
        # MLflow does not mind a folder of artifacts that is away.
        if not any(files.rglob("MLmodel")):
            raise RegistryError("it has no MLmodel file")
        return files


def require_registry_file(address: str) -> None:
    """Raise ``FileNotFoundError`` where a SQLite registry is away: MLflow would make an empty one
    in its place.
    """
    path = address.removeprefix("sqlite:///")
    if path != address and not Path(path).is_file():
        raise FileNotFoundError(f"no registry at {path}")


class ModelCache:
    """The last good version on disk, for a start while the registry is away."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._current = folder / "current.json"

    def load(self) -> ModelVersion | None:
        """The version stored last, or None.

        Raises:
            ModelRefused: what is stored is damaged.
        """
        if not self._current.is_file():
            return None
        try:
            stored = json.loads(self._current.read_text())
            files = self._folder / stored.pop("files")
            reference = VersionReference(**stored)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelRefused(f"{self._current} is damaged: {error!r}") from error
        return read_version(files, reference)

    def fetch(self, registry: Registry, reference: VersionReference) -> ModelVersion:
        """Download a version, check it against the contract, make it the stored one.

        Raises:
            ModelRefused: it does not fit; the stored version stays.
            RegistryError: it cannot be had; the stored version stays.
            OSError: it cannot be stored; the stored version stays.
        """
        arriving = self._folder / "arriving"
        shutil.rmtree(arriving, ignore_errors=True)
        arriving.mkdir(parents=True)
        version = read_version(registry.download(reference, arriving), reference)
        self._store(arriving, reference)
        return version

    def _store(self, arriving: Path, reference: VersionReference) -> None:
        # A name of its own: the same version may lie there already, and stays until the switch.
        files = self._folder / f"v{reference.version}-{uuid.uuid4().hex[:8]}"
        arriving.rename(files)
        draft = self._current.with_suffix(".tmp")
        draft.write_text(json.dumps(asdict(reference) | {"files": files.name}))
        draft.replace(self._current)
        for other in self._folder.glob("v*"):
            if other != files:
                shutil.rmtree(other, ignore_errors=True)


def read_version(files: Path, reference: VersionReference) -> ModelVersion:
    """The version in the folder ``files``, tried on an example payment.

    Raises:
        ModelRefused: it does not fit the contract, cannot be loaded, or fails on the example.
    """
    # A model may hold other models among its artifacts.
    model = min(files.rglob("MLmodel"), key=lambda path: len(path.parts), default=None)
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
    # Two rows: an output of one value, whatever came in, must not pass.
    example = inputs_of(pd.DataFrame([check_payment(EXAMPLE_PAYMENT)] * 2))
    try:
        load_archive(version.archive, inputs).predict(example)
    except ModelRefused as refusal:
        raise ModelRefused(f"tried on an example payment: {refusal}") from refusal
    return version


class ChampionWatcher:
    """Keeps ``current`` at the version that the alias points to, from a thread of its own.

    A version that does not fit is refused once, by name, and the current one goes on; so it does
    while the registry is away.
    """

    def __init__(
        self,
        registry: Registry,
        cache: ModelCache,
        poll_seconds: float,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._registry, self._cache = registry, cache
        self._poll_seconds, self._patience_seconds = poll_seconds, patience_seconds
        self._refused: VersionReference | None = None
        self._refusal = ""
        self._delayed: VersionReference | None = None
        self._trouble = ""
        self._ended = threading.Event()
        self._settled = threading.Event()
        self._settled.set()
        self._current: ModelVersion | None = None

    @property
    def current(self) -> ModelVersion:
        """The version that scores now; waits up to ``patience_seconds`` for one that is being
        fetched, once.

        Raises:
            NoModel: there is none.
        """
        if not self._settled.wait(self._patience_seconds):
            log.warning("the new champion takes long to fetch; going on without waiting for it")
            self._settled.set()
        current = self._current
        if current is None:
            raise NoModel(
                "no model to score with: the registry has no usable version under the alias, "
                "and none ran here before. Train one: spark-submit --properties-file "
                "spark-defaults.conf training/train.py --config … --data FILE.csv"
                + (f" ({self._trouble})" if self._trouble else "")
            )
        return current

    def start(self) -> None:
        """Find the version to begin with, then watch until ``stop``."""
        self.look()
        if self._current is None:
            try:
                self._current = self._cache.load()
            except ModelRefused as refusal:
                log.warning("the cache is of no use: %s", refusal)
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
        except RegistryError as error:
            self._tell(f"the registry names no version: {error}")
            return
        if not self._is_new(reference):
            self._trouble = self._refusal if reference == self._refused else ""
            return
        # A micro-batch that starts while the version loads gets the new one; it does not wait for
        # the second try of a version that could not be fetched.
        if reference != self._delayed:
            self._settled.clear()
        try:
            self._take_over(reference)
        finally:
            self._settled.set()

    def _take_over(self, reference: VersionReference) -> None:
        try:
            self._current = self._cache.fetch(self._registry, reference)
        except ModelRefused as refusal:
            self._refused, self._refusal = reference, f"{reference.label} is refused: {refusal}"
            self._tell(self._refusal)
        except (RegistryError, OSError) as error:
            self._delayed = reference
            self._tell(f"{reference.label} cannot be fetched: {_first_line(error)}")
        else:
            self._refused = self._delayed = None
            self._trouble = ""
            log.info(
                "champion is %s (threshold %.4g)", self._current.label, self._current.threshold
            )

    def _is_new(self, reference: VersionReference) -> bool:
        current = self._current
        if current and (current.name, current.version) == (reference.name, reference.version):
            return False
        return reference != self._refused

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            going_on = f"; {self._current.label} goes on" if self._current else ""
            log.warning("%s%s", trouble, going_on)
        self._trouble = trouble

    def _watch(self) -> None:
        while not self._ended.wait(self._poll_seconds):
            try:
                self.look()
            except Exception:
                log.exception("the alias could not be looked up")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
