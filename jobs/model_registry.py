"""The MLflow registry, as a job asks it: which version an alias points to, and its files."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from conf.sections import RegistrySettings

SET_ASIDE = "set_aside"
"""Tag of a version that failed in the stream: why. Without it the version is tried again."""

LONGEST_TAG = 1000
_NO_ALIAS = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


class RegistryError(Exception):
    """The registry does not answer, or has not what was asked for."""


class NoAlias(RegistryError):
    """The registry answers that the alias points to no version."""


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
    """What the watcher asks of a model registry. All calls raise ``RegistryError``."""

    def aliased(self) -> VersionReference:
        """The version that the alias points to; ``NoAlias`` where there is none."""

    def set_aside(self, reference: VersionReference, reason: str) -> None:
        """Tag a version that failed in the stream."""

    def download(self, reference: VersionReference, folder: Path) -> Path:
        """Fetch the version's files into ``folder``; return where the model lies."""


class MlflowRegistry:
    """The registry of the settings. An answer is waited for two seconds, once."""

    def __init__(self, settings: RegistrySettings, alias: str | None = None) -> None:
        self._address = settings.tracking_uri
        self._name, self._alias = settings.model_name, alias or settings.alias

    # Below MLflow lie SQLAlchemy, requests, boto3 and whatever else stores artifacts, each with
    # errors of its own.

    def aliased(self) -> VersionReference:
        """The version that the alias points to; ``NoAlias`` where there is none."""
        try:
            use_registry(self._address)
            client = MlflowClient(self._address)
            found = client.get_model_version_by_alias(self._name, self._alias)
        except Exception as error:
            is_known = isinstance(error, MlflowException) and error.error_code in _NO_ALIAS
            raise (NoAlias if is_known else RegistryError)(first_line(error)) from error
        return VersionReference(found.name, str(found.version), dict(found.tags))

    def set_aside(self, reference: VersionReference, reason: str) -> None:
        """Tag a version that failed in the stream."""
        try:
            use_registry(self._address)
            client = MlflowClient(self._address)
            client.set_model_version_tag(
                reference.name, reference.version, SET_ASIDE, reason[:LONGEST_TAG]
            )
        except Exception as error:
            raise RegistryError(first_line(error)) from error

    def download(self, reference: VersionReference, folder: Path) -> Path:
        """Fetch the version's files into ``folder``; return where the model lies."""
        uri = f"models:/{reference.name}/{reference.version}"
        try:
            files = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))
        except Exception as error:
            raise RegistryError(first_line(error)) from error
        # MLflow does not mind a folder of artifacts that is away.
        if not any(files.rglob("MLmodel")):
            raise RegistryError("it has no MLmodel file")
        return files


def use_registry(address: str) -> None:
    """Make MLflow use the tracking ``address``, and wait for no answer longer than two seconds.

    Raises:
        FileNotFoundError: it is a SQLite file that is away.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    require_registry_file(address)
    mlflow.set_tracking_uri(address)


def require_registry_file(address: str) -> None:
    """Raise ``FileNotFoundError`` where a SQLite registry is away: MLflow would make an empty one
    in its place.
    """
    path = address.removeprefix("sqlite:///")
    if path != address and not Path(path).is_file():
        raise FileNotFoundError(f"no registry at {path}")


def first_line(error: Exception) -> str:
    """An error in one line."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
