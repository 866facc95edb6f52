"""What a training run leaves in MLflow: the run, the registered version, the alias."""

import os
from collections.abc import Mapping
from pathlib import Path

import mlflow
import mlflow.sklearn
import pandas as pd
import sklearn
import skops
from mlflow import MlflowClient
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.environment_variables import MLFLOW_RUN_ID
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature

from conf.sections import TRUSTED_TYPES, RegistrySettings
from jobs.features import FEATURE_NAMES
from jobs.metrics import cents
from jobs.model import THRESHOLD_KEY
from jobs.reference import REFERENCE_KEY
from training.fit import TrainedModel, fraud_probability
from training.pipeline import model_columns
from training.plots import plots

EXAMPLE_ROWS = 5

WINDOW = ("first_event", "last_event", "as_of")
"""What the model's metadata tell of the payments that it learned from: event times, and when the
labels were known (not where files alone were given)."""


def open_experiment(settings: RegistrySettings) -> str:
    """Make MLflow use the tracking address and the experiment of the settings; return the id of the
    experiment.
    """
    if settings.tracking_uri.startswith("sqlite:///"):
        Path(settings.tracking_uri.removeprefix("sqlite:///")).parent.mkdir(
            parents=True, exist_ok=True
        )
    mlflow.set_tracking_uri(settings.tracking_uri)
    if mlflow.get_experiment_by_name(settings.experiment) is None:
        mlflow.create_experiment(settings.experiment, artifact_location=settings.artifact_root)
    return str(mlflow.set_experiment(settings.experiment).experiment_id)


def register(
    trained: TrainedModel, payments: pd.DataFrame, fingerprint: str, settings: RegistrySettings
) -> str:
    """Log the run and register its model; the only version becomes champion, any other one
    challenger, also where the champion is gone. A run that ``mlflow run`` has opened in this
    registry's experiment is used.

    Args:
        payments: the first of them are the model's input example.

    Returns:
        The version.
    """
    experiment_id = open_experiment(settings)
    with mlflow.start_run(run_id=opened_run(experiment_id)) as run:
        given = run.data.params
        mlflow.log_params(
            logged_beside(given, trained.parameters | {"data_fingerprint": fingerprint})
        )
        mlflow.log_metrics({k: v for k, v in trained.metrics.items() if v is not None})
        mlflow.log_input(_described_data(trained, fingerprint), context="training")
        _log_plots(trained)
        version = _log_model(trained, payments, fingerprint, settings)
    client = MlflowClient()
    is_first = not has_alias(client, settings) and is_only_version(client, settings)
    alias = settings.alias if is_first else settings.challenger_alias
    client.set_registered_model_alias(settings.model_name, alias, version)
    return version


def has_alias(client: MlflowClient, settings: RegistrySettings) -> bool:
    """Whether the alias of the settings points to a version."""
    try:
        return settings.alias in client.get_registered_model(settings.model_name).aliases
    except MlflowException:
        return False


def is_only_version(client: MlflowClient, settings: RegistrySettings) -> bool:
    """Whether the settings' model has one version."""
    return len(client.search_model_versions(f"name='{settings.model_name}'", max_results=2)) == 1


def logged_beside(given: Mapping[str, str], parameters: Mapping[str, object]) -> dict[str, object]:
    """``parameters`` as they can be logged to a run that ``mlflow run`` was ``given`` some of: they
    never change there, so that what became of one is logged as ``resolved_…``.
    """
    return {
        name if given.get(name, str(value)) == str(value) else f"resolved_{name}": value
        for name, value in parameters.items()
    }


def opened_run(experiment_id: str) -> str | None:
    """The run that ``mlflow run`` opened for this process; None where it is none of the experiment
    in this registry. ``MLFLOW_RUN_ID`` is unset, because MLflow insists on it.
    """
    run_id = os.environ.pop(MLFLOW_RUN_ID.name, None)
    if run_id is None:
        return None
    try:
        run = MlflowClient().get_run(run_id)
    except MlflowException:
        return None
    return run_id if run.info.experiment_id == experiment_id else None


def _described_data(trained: TrainedModel, fingerprint: str) -> MetaDataset:
    # A digest has at most 36 characters.
    source = CodeDatasetSource(
        {name: str(trained.parameters[name]) for name in WINDOW if name in trained.parameters}
    )
    return MetaDataset(source, name="payments", digest=fingerprint[:36])  # type: ignore[abstract]


def _log_model(
    trained: TrainedModel, payments: pd.DataFrame, fingerprint: str, settings: RegistrySettings
) -> str:
    example = model_columns(payments.head(EXAMPLE_ROWS))
    logged = mlflow.sklearn.log_model(
        trained.model,
        name="model",
        signature=infer_signature(example, fraud_probability(trained.model, example)),
        input_example=example,
        pyfunc_predict_fn="predict_proba",
        skops_trusted_types=list(TRUSTED_TYPES),
        registered_model_name=settings.model_name,
        # Inferring these would load the model in a process of its own.
        pip_requirements=[f"scikit-learn=={sklearn.__version__}", f"skops=={skops.__version__}"],
        metadata={
            THRESHOLD_KEY: trained.threshold,
            "features": list(FEATURE_NAMES),
            "data_fingerprint": fingerprint,
            REFERENCE_KEY: trained.reference.to_json(),
            **{name: trained.parameters[name] for name in WINDOW if name in trained.parameters},
        },
    )
    return str(logged.registered_model_version)


def _log_plots(trained: TrainedModel) -> None:
    look_cost = cents(trained.parameters["look_cost_usd"])
    for name, figure in plots(trained.judged, trained.threshold, look_cost):
        mlflow.log_figure(figure, f"plots/{name}.png", save_kwargs={"dpi": 120})
