"""The monitor's numbers in MLflow: one run for each model version, in the experiment
``<experiment>-monitor``, so that a metric is a curve over the days.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric

from conf.sections import RegistrySettings
from jobs.model_registry import RegistryError, first_line, use_registry

ESTIMATES = ("frauds", "precision", "recall", "money_saved_usd", "money_lost_usd")
"""Columns of `model_metrics` that are estimates where a day is not matured."""

_EPOCH = date(1970, 1, 1)

Version = tuple[str, str]
"""Name and version."""


def log_look(
    rows: Sequence[Mapping[str, Any]],
    pages: Mapping[Version, str],
    now: datetime,
    settings: RegistrySettings,
) -> None:
    """Log changed rows of `model_metrics`, the step being the day (counted from 1970-01-01), and
    drift reports as ``drift/<day>.html``, the day's last one. An estimate's name begins with
    ``estimated_``.

    Raises:
        jobs.model_registry.RegistryError: the registry is away, or does not take them.
    """
    try:
        use_registry(settings.tracking_uri)
        client, experiment = MlflowClient(), _experiment(settings)
        for version in sorted({*map(_version, rows), *pages}):
            run_id = _run(client, experiment, version)
            for row in rows:
                if _version(row) == version:
                    client.log_batch(run_id, metrics=_metrics(row, now))
            if version in pages:
                client.log_text(run_id, pages[version], f"drift/{now:%Y-%m-%d}.html")
    except Exception as error:  # below MLflow lie many libraries, each with errors of its own
        raise RegistryError(f"{type(error).__name__}: {first_line(error)}") from error


def numbers_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a row of `model_metrics`, by the names that they have in MLflow."""
    numbers: dict[str, float] = {}
    for name, value in row.items():
        if name in ("psi", "effect_size"):
            numbers |= {f"{name}/{feature}": size for feature, size in (value or {}).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            is_estimate = name in ESTIMATES and not row["is_matured"]
            numbers[f"estimated_{name}" if is_estimate else name] = float(value)
    return numbers


def _metrics(row: Mapping[str, Any], now: datetime) -> list[Metric]:
    step, milliseconds = (row["day"] - _EPOCH).days, int(now.timestamp() * 1000)
    return [Metric(name, value, milliseconds, step) for name, value in numbers_of(row).items()]


def _experiment(settings: RegistrySettings) -> str:
    name = f"{settings.experiment}-monitor"
    found = mlflow.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    artifacts = settings.artifacts
    if artifacts and "://" not in artifacts:
        artifacts = Path(artifacts).absolute().as_uri()
    return mlflow.create_experiment(name, artifact_location=artifacts)


def _run(client: MlflowClient, experiment: str, version: Version) -> str:
    """The version's run, made where it is missing."""
    tags = {"model_name": version[0], "model_version": version[1]}
    query = " and ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
    for run in client.search_runs([experiment], query, max_results=1):
        return str(run.info.run_id)
    made = client.create_run(experiment, tags=tags, run_name=f"{version[0]} v{version[1]}")
    client.set_terminated(made.info.run_id)
    return str(made.info.run_id)


def _version(row: Mapping[str, Any]) -> Version:
    return row["model_name"], row["model_version"]
