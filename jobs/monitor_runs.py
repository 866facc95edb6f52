"""The monitor's numbers in MLflow: one run for each model version, in the experiment
``<experiment>-monitor``, so that a metric is a curve over the days.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from mlflow.store.tracking import SEARCH_MAX_RESULTS_THRESHOLD

from conf.sections import RegistrySettings
from jobs.model_registry import RegistryError, first_line, use_registry

ESTIMATES = ("frauds", "precision", "recall", "money_saved_usd", "money_lost_usd")
"""Columns of `model_metrics` that are estimates where a day is not matured."""

LOGGED_UNTIL = "logged_until"
"""Tag of a run: the last `computed_at` of the rows that it holds, an ISO time."""

_EPOCH = date(1970, 1, 1)

Version = tuple[str, str]
"""Name and version."""


def log_look(
    rows: Sequence[Mapping[str, Any]],
    pages: Mapping[Version, str],
    now: datetime,
    settings: RegistrySettings,
) -> None:
    """Log those rows of `model_metrics` that MLflow has not yet, the step being the day (counted
    from 1970-01-01), and drift reports as ``drift/<day>.html``, the day's last one. An estimate's
    name begins with ``estimated_``. What a look could not log, a later one does: the tag
    ``LOGGED_UNTIL`` of a run says how far it came.

    Args:
        rows: all that count.

    Raises:
        jobs.model_registry.RegistryError: the registry is away, or does not take them.
    """
    try:
        use_registry(settings.tracking_uri)
        client, experiment = MlflowClient(), _experiment(settings)
        runs = _runs(client, experiment)
        for version in sorted({*map(_version, rows), *pages}):
            run = runs.get(version) or _new_run(client, experiment, version)
            _log_rows(client, run, [row for row in rows if _version(row) == version], now)
            if version in pages:
                client.log_text(run.info.run_id, pages[version], f"drift/{now:%Y-%m-%d}.html")
    except Exception as error:  # below MLflow lie many libraries, each with errors of its own
        raise RegistryError(f"{type(error).__name__}: {first_line(error)}") from error


def _log_rows(
    client: MlflowClient, run: Run, rows: Sequence[Mapping[str, Any]], now: datetime
) -> None:
    told = run.data.tags.get(LOGGED_UNTIL)
    until = datetime.fromisoformat(told) if told else None
    if until is not None and until > now:  # written by a clock that was wrong
        until = None
    new = [row for row in rows if until is None or row["computed_at"] > until]
    for row in new:
        client.log_batch(run.info.run_id, metrics=_metrics(row))
    if new:
        latest = max(row["computed_at"] for row in new)
        client.set_tag(run.info.run_id, LOGGED_UNTIL, latest.isoformat())


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


def _metrics(row: Mapping[str, Any]) -> list[Metric]:
    """Points that are the same whenever they are logged, so that a second time adds none."""
    step, milliseconds = (row["day"] - _EPOCH).days, int(row["computed_at"].timestamp() * 1000)
    return [Metric(name, value, milliseconds, step) for name, value in numbers_of(row).items()]


def _experiment(settings: RegistrySettings) -> str:
    name = f"{settings.experiment}-monitor"
    found = mlflow.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    return mlflow.create_experiment(name, artifact_location=settings.artifact_root)


def _runs(client: MlflowClient, experiment: str) -> dict[Version, Run]:
    """The run of each version that has one."""
    found = client.search_runs([experiment], max_results=SEARCH_MAX_RESULTS_THRESHOLD)
    return {
        (run.data.tags.get("model_name", ""), run.data.tags.get("model_version", "")): run
        for run in found
    }


def _new_run(client: MlflowClient, experiment: str, version: Version) -> Run:
    tags = {"model_name": version[0], "model_version": version[1]}
    made = client.create_run(experiment, tags=tags, run_name=f"{version[0]} v{version[1]}")
    client.set_terminated(made.info.run_id)
    return made


def _version(row: Mapping[str, Any]) -> Version:
    return row["model_name"], row["model_version"]
