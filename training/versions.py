"""A registered version, loaded for use outside the stream."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import mlflow
import mlflow.artifacts
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from conf.sections import RegistrySettings
from jobs.model import LoadedModel, ModelRefused, inputs_of
from jobs.model_cache import read_version
from jobs.model_registry import VersionReference
from jobs.scoring import load_archive
from jobs.windows import Floats


class VersionNotFound(Exception):
    """The registry has no such version, or does not answer; the message says which."""


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

        Raises:
            jobs.model.ModelRefused: the model fails on them.
        """
        return self.scores_of(inputs_of(payments, history))

    def scores_of(self, inputs: pd.DataFrame) -> Floats:
        """The same from what ``jobs.model.inputs_of`` returns."""
        try:
            return self.model.predict(inputs)
        except ModelRefused as refusal:
            raise ModelRefused(f"{self.name} v{self.version}: {refusal}") from refusal


def load_judge(uri: str, settings: RegistrySettings) -> Judge:
    """The version of an address such as ``models:/fraud@champion`` or ``models:/fraud/3``.

    Raises:
        VersionNotFound: no such version or alias.
        jobs.model.ModelRefused: the version does not fit the contract.
    """
    mlflow.set_tracking_uri(settings.tracking_uri)
    found = _find(uri, settings)
    reference = VersionReference(found.name, str(found.version), dict(found.tags))
    with tempfile.TemporaryDirectory() as folder:
        address = f"models:/{found.name}/{found.version}"
        try:
            files = Path(mlflow.artifacts.download_artifacts(address, dst_path=folder))
        except Exception as error:
            raise VersionNotFound(f"{address} cannot be fetched: {error}") from error
        try:
            version = read_version(files, reference, settings)
        except ModelRefused as refusal:
            raise ModelRefused(f"{reference.label} is refused: {refusal}") from refusal
    model = load_archive(version.archive, version.inputs)
    return Judge(version.name, version.version, version.threshold, model)


def _find(uri: str, settings: RegistrySettings) -> ModelVersion:
    address = uri.removeprefix("models:/")
    try:
        client = MlflowClient()
        if "@" in address:
            return client.get_model_version_by_alias(*address.split("@", 1))
        name, _, version = address.partition("/")
        return client.get_model_version(name, version)
    except Exception as error:
        raise VersionNotFound(
            f"{uri} is not in the registry at {settings.tracking_uri} ({error}); "
            "expected models:/NAME@ALIAS or models:/NAME/VERSION"
        ) from error
