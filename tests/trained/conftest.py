"""What the tests of training share: payments, a model trained on them, a registry that has it."""

import sys
from datetime import UTC, datetime

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.models import Model
from threadpoolctl import threadpool_limits

import training.train
from conf.sections import TrainSettings
from conf.settings import load_settings
from ingest.payment_files import read_payments
from ingest.synthetic import make_population
from ingest.synthetic import payments as synthetic_payments
from tests.conftest import PROJECT
from training.fit import fingerprint, train_model
from training.registry import register


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Threads that wait for one another spin: many times slower where a core is busy."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Two CSV files: the payments of 60 cards in 50 days, and of the next 10."""
    root = tmp_path_factory.mktemp("payments")
    population = make_population(5, 60)
    paths = []
    for name, start, days in (("train.csv", datetime(2024, 1, 1, tzinfo=UTC), 50),
                              ("later.csv", datetime(2024, 2, 20, tzinfo=UTC), 10)):  # fmt: skip
        synthetic_payments(population, start, days, seed=5).to_csv(root / name)
        paths.append(root / name)
    return paths


@pytest.fixture(scope="session")
def payments(files):
    return read_payments(files[0])


@pytest.fixture(scope="session")
def trained(payments):
    return train_model(payments, TrainSettings())


@pytest.fixture(scope="session")
def run_main():
    """Run a module's ``main`` as its command does."""

    def run(module, *arguments, config=PROJECT / "conf" / "local.toml"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["command", "--config", str(config), *map(str, arguments)])
            return module.main()

    return run


@pytest.fixture(scope="session")
def registered(tmp_path_factory, files, payments, trained, run_main):
    """The registry's settings, with version 1 (by the command) and version 2 (by hand)."""
    root = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAUD_REGISTRY__TRACKING_URI", f"sqlite:///{root}/deep/mlflow.db")
        patch.setenv("FRAUD_REGISTRY__ARTIFACTS", str(root / "artifacts"))
        settings = load_settings(PROJECT / "conf" / "local.toml").registry
        assert run_main(training.train, "--data", files[0]) == 0
        assert register(trained, payments, fingerprint(payments), settings) == "2"
    return settings


@pytest.fixture
def registry(registered, monkeypatch):
    """The registry's settings, which the commands find too."""
    monkeypatch.setenv("FRAUD_REGISTRY__TRACKING_URI", registered.tracking_uri)
    monkeypatch.setenv("FRAUD_REGISTRY__ARTIFACTS", registered.artifacts)
    mlflow.set_tracking_uri(registered.tracking_uri)
    return registered


@pytest.fixture(scope="session")
def client(registered):
    return MlflowClient(registered.tracking_uri)


@pytest.fixture(scope="session")
def described(registered, client):
    """The first version's run, and the description of its model."""
    mlflow.set_tracking_uri(registered.tracking_uri)
    version = client.get_model_version("fraud", "1")
    return client.get_run(version.run_id), Model.load("models:/fraud/1")
