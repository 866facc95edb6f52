"""What a training run leaves in MLflow: the run, the registered version, the alias."""

from pathlib import Path

import mlflow
import mlflow.sklearn
import pandas as pd
import sklearn
import skops
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature

from conf.settings import RegistrySettings
from jobs.features import FEATURE_NAMES
from jobs.metrics import cents
from jobs.model import THRESHOLD_KEY
from training.fit import TrainedModel, fraud_probability
from training.pipeline import TRUSTED_TYPES, model_columns
from training.plots import plots

EXAMPLE_ROWS = 5


def open_experiment(settings: RegistrySettings) -> None:
    """Make MLflow use the tracking address and the experiment of the settings."""
    if settings.tracking_uri.startswith("sqlite:///"):
        Path(settings.tracking_uri.removeprefix("sqlite:///")).parent.mkdir(
            parents=True, exist_ok=True
        )
    mlflow.set_tracking_uri(settings.tracking_uri)
    if mlflow.get_experiment_by_name(settings.experiment) is None:
        artifacts = settings.artifacts
        if artifacts and "://" not in artifacts:
            artifacts = Path(artifacts).absolute().as_uri()
        mlflow.create_experiment(settings.experiment, artifact_location=artifacts)
    mlflow.set_experiment(settings.experiment)


def register(
    trained: TrainedModel, payments: pd.DataFrame, fingerprint: str, settings: RegistrySettings
) -> str:
    """Log the run and register its model; the first version becomes champion.

    Returns:
        The version.
    """
    open_experiment(settings)
    with mlflow.start_run():
        mlflow.log_params(trained.parameters | {"data_fingerprint": fingerprint})
        mlflow.log_metrics({k: v for k, v in trained.metrics.items() if v is not None})
        _log_plots(trained)
        version = _log_model(trained, payments, fingerprint, settings)
    client = MlflowClient()
    if not has_alias(client, settings):
        client.set_registered_model_alias(settings.model_name, settings.alias, version)
    return version


def has_alias(client: MlflowClient, settings: RegistrySettings) -> bool:
    """Whether the alias of the settings points to a version."""
    try:
        return settings.alias in client.get_registered_model(settings.model_name).aliases
    except MlflowException:
        return False


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
        skops_trusted_types=TRUSTED_TYPES,
        registered_model_name=settings.model_name,
        # Inferring these would load the model in a process of its own.
        pip_requirements=[f"scikit-learn=={sklearn.__version__}", f"skops=={skops.__version__}"],
        metadata={
            THRESHOLD_KEY: trained.threshold,
            "features": list(FEATURE_NAMES),
            "first_event": trained.parameters["first_event"],
            "last_event": trained.parameters["last_event"],
            "data_fingerprint": fingerprint,
        },
    )
    return str(logged.registered_model_version)


def _log_plots(trained: TrainedModel) -> None:
    look_cost = cents(trained.parameters["look_cost_usd"])
    for name, figure in plots(trained.judged, trained.threshold, look_cost):
        mlflow.log_figure(figure, f"plots/{name}.png", save_kwargs={"dpi": 120})
