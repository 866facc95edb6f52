"""What a model version brings along that the monitor measures it by."""

import logging
from dataclasses import dataclass

import mlflow.models
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from conf.sections import RegistrySettings
from jobs.model_registry import RegistryError, first_line, use_registry
from jobs.reference import Reference

log = logging.getLogger(__name__)

_MISSING = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class VersionFacts:
    """The reference of a version, and its average precision on the test part of its training; None
    where it brings none.
    """

    reference: Reference | None
    average_precision: float | None


NOTHING = VersionFacts(None, None)


class NoFacts(Exception):
    """The version is not in the registry, or what it brings as its reference is none."""


def read_facts(name: str, version: str, settings: RegistrySettings) -> VersionFacts:
    """The facts of a version in the registry; of its files only ``MLmodel`` is fetched.

    Raises:
        NoFacts: there is no such version, or its reference is damaged.
        jobs.model_registry.RegistryError: the registry does not answer.
    """
    try:
        use_registry(settings.tracking_uri)
        info = mlflow.models.get_model_info(f"models:/{name}/{version}")
        client = MlflowClient()
        run_id = client.get_model_version(name, version).run_id
        run = client.get_run(run_id) if run_id else None
    except MlflowException as error:
        kind = NoFacts if error.error_code in _MISSING else RegistryError
        raise kind(first_line(error)) from error
    except Exception as error:  # below MLflow lie many libraries, each with errors of its own
        raise RegistryError(first_line(error)) from error
    try:
        reference = Reference.from_metadata(info.metadata)
    except ValueError as error:
        raise NoFacts(str(error)) from error
    return VersionFacts(
        reference=reference,
        average_precision=run.data.metrics.get("average_precision") if run else None,
    )


class KnownFacts:
    """Facts of versions, each read once. ``is_away`` says that the registry did not answer in this
    look: one warning, and it is not asked again until the next.
    """

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings
        self._known: dict[tuple[str, str], VersionFacts] = {}
        self.is_away = False

    def begin_look(self) -> None:
        """The registry may be back."""
        self.is_away = False

    def of(self, name: str, version: str) -> VersionFacts:
        """The facts of a version; ``NOTHING`` where they cannot be read now."""
        if (name, version) in self._known or self.is_away:
            return self._known.get((name, version), NOTHING)
        try:
            facts = read_facts(name, version, self._settings)
        except NoFacts as error:
            log.warning(
                "%s v%s has no reference, so its drift is not told: %s", name, version, error
            )
            facts = NOTHING
        except RegistryError as error:
            self.note_away(error)
            return NOTHING
        self._known[name, version] = facts
        return facts

    def note_away(self, error: RegistryError) -> None:
        """The registry does not answer: say so, once a look."""
        if not self.is_away:
            log.warning(
                "the registry at %s is away: this look's numbers stand in model_metrics alone, "
                "without the drift of versions whose reference was not read before: %s",
                self._settings.tracking_uri, error,
            )  # fmt: skip
        self.is_away = True
