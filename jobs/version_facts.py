"""What a model version brings along that the monitor measures it by."""

import logging
import os
from dataclasses import dataclass

import mlflow
import mlflow.models
from mlflow import MlflowClient

from conf.settings import RegistrySettings
from jobs.model_registry import RegistryError, first_line, require_registry_file
from jobs.reference import Reference

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VersionFacts:
    """The reference of a version, and its average precision on the test part of its training; None
    where it brings none.
    """

    reference: Reference | None
    average_precision: float | None


NOTHING = VersionFacts(None, None)


def read_facts(name: str, version: str, settings: RegistrySettings) -> VersionFacts:
    """The facts of a version in the registry; of its files only ``MLmodel`` is fetched.

    Raises:
        jobs.model_registry.RegistryError: the registry does not answer, or has no such version.
        ValueError: what the version brings as its reference is none.
    """
    try:
        require_registry(settings)
        info = mlflow.models.get_model_info(f"models:/{name}/{version}")
        run = MlflowClient().get_run(info.run_id) if info.run_id else None
    except Exception as error:  # below MLflow lie many libraries, each with errors of its own
        raise RegistryError(first_line(error)) from error
    return VersionFacts(
        reference=Reference.from_metadata(info.metadata),
        average_precision=run.data.metrics.get("average_precision") if run else None,
    )


def require_registry(settings: RegistrySettings) -> None:
    """Make MLflow use the tracking address of the settings, and wait for no answer longer than two
    seconds.

    Raises:
        FileNotFoundError: it is a SQLite file that is away.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    require_registry_file(settings.tracking_uri)
    mlflow.set_tracking_uri(settings.tracking_uri)


class KnownFacts:
    """Facts of versions, each read once; of those that cannot be read, one warning a look."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings
        self._known: dict[tuple[str, str], VersionFacts] = {}
        self._is_away = False

    def begin_look(self) -> None:
        """The registry may be back."""
        self._is_away = False

    def of(self, name: str, version: str) -> VersionFacts:
        """The facts of a version; ``NOTHING`` where they cannot be read now."""
        if (name, version) in self._known:
            return self._known[name, version]
        if self._is_away:
            return NOTHING
        try:
            facts = read_facts(name, version, self._settings)
        except RegistryError as error:
            self._is_away = True
            log.warning(
                "%s v%s: no reference, so no drift is told: the registry at %s: %s",
                name, version, self._settings.tracking_uri, error,
            )  # fmt: skip
            return NOTHING
        except ValueError as error:
            log.warning("%s v%s: no drift is told: %s", name, version, error)
            facts = NOTHING
        self._known[name, version] = facts
        return facts
