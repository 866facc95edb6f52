"""The model that is measured: the pipeline of ``training``, trained once, through a registry."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import mlflow

from benchmarks.places import settings_for
from benchmarks.plan import PROJECT
from ingest.payment_files import read_payments
from ingest.synthetic import make_population, payments
from jobs.model_cache import ModelCache
from jobs.model_registry import MlflowRegistry
from jobs.scoring import ModelVersion
from training.fit import fingerprint, train_model
from training.registry import register

_FEATURE_MODULES = ("features", "feature_arrays", "feature_pass", "history", "windows")
CARDS, PAYMENTS_A_DAY = 500, 1_100
THRESHOLD = 0.5  # one in a hundred of the benchmark's payments is a hit at 10,000 cards


def trained_version(registry: Path, rows: int) -> ModelVersion:
    """The champion of the registry in the folder ``registry``; trained where there is none."""
    settings = settings_for(registry, registry)
    if not (registry / "champion").is_file():
        registry.mkdir(parents=True, exist_ok=True)
        data = registry / "payments.csv"
        days = max(60, rows // PAYMENTS_A_DAY)
        made = payments(make_population(1, CARDS), datetime(2024, 1, 1, tzinfo=UTC), days, seed=1)
        made.head(rows).to_csv(data, index=False)
        known = read_payments(data)
        version = register(
            train_model(known, settings.train), known, fingerprint(known), settings.registry
        )
        (registry / "champion").write_text(version)
    reference = MlflowRegistry(settings.registry).aliased()
    cache = ModelCache(settings.registry.cache, settings.registry)
    return replace(cache.fetch(MlflowRegistry(settings.registry), reference), threshold=THRESHOLD)


def fingerprint_of_training() -> str:
    """Changes with the code that a model comes from."""
    sources = [*PROJECT.glob("training/*.py"), *PROJECT.glob("ingest/synthetic*.py")]
    sources += [PROJECT / "jobs" / f"{name}.py" for name in _FEATURE_MODULES]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources)))
    return digest.hexdigest()[:10]


def model_uri(registry: Path) -> str:
    """Address of the same version for MLflow; sets the registry's address."""
    settings = settings_for(registry, registry).registry
    mlflow.set_tracking_uri(settings.tracking_uri)
    return f"models:/{settings.model_name}@{settings.alias}"
