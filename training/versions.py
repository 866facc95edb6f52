"""A registered version, loaded for use outside the stream."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import mlflow
import mlflow.artifacts
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from conf.settings import RegistrySettings
from jobs.champion import DEFAULT_THRESHOLD
from jobs.features import Floats
from jobs.model import LoadedModel, inputs_of, model_inputs, model_threshold


class VersionNotFound(Exception):
    """The registry has no such version; the message says what it has."""


@dataclass(frozen=True)
class Judge:
    """A version and its threshold."""

    name: str
    version: str
    threshold: float
    model: LoadedModel

    def scores(self, payments: pd.DataFrame, history: pd.DataFrame | None = None) -> Floats:
        """The probability of fraud of each payment: float64 of shape (n,); the numbers that the
        stream gives.

        Args:
            payments: as ``ingest.payment_files.read_payments`` returns, in order of arrival.
            history: payments that arrived before them.
        """
        return self.model.predict(inputs_of(payments, history))


def load_judge(uri: str, settings: RegistrySettings) -> Judge:
    """The version of an address such as ``models:/fraud@champion`` or ``models:/fraud/3``.

    Raises:
        VersionNotFound: no such version or alias.
        jobs.model.ModelRefused: the version does not fit the contract.
    """
    mlflow.set_tracking_uri(settings.tracking_uri)
    found = _find(uri, settings)
    with tempfile.TemporaryDirectory() as folder:
        address = f"models:/{found.name}/{found.version}"
        files = Path(mlflow.artifacts.download_artifacts(address, dst_path=folder))
        inputs = model_inputs(files)
        return Judge(
            name=found.name,
            version=str(found.version),
            threshold=model_threshold(files, dict(found.tags), DEFAULT_THRESHOLD),
            model=LoadedModel(files, inputs),
        )


def _find(uri: str, settings: RegistrySettings) -> ModelVersion:
    client = MlflowClient()
    address = uri.removeprefix("models:/")
    try:
        if "@" in address:
            return client.get_model_version_by_alias(*address.split("@", 1))
        name, _, version = address.partition("/")
        return client.get_model_version(name, version)
    except MlflowException as error:
        raise VersionNotFound(
            f"{uri} is not in the registry at {settings.tracking_uri} ({error}); "
            "expected models:/NAME@ALIAS or models:/NAME/VERSION"
        ) from error
