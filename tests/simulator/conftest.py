"""The payments that the simulated API serves."""

import pytest

from ingest.simulator_sources import FileSource
from ingest.synthetic import make_population, payments
from tests.simulator.simulated import START


@pytest.fixture(scope="session")
def population():
    return make_population(seed=1, cards=40)


@pytest.fixture(scope="session")
def frame(population):
    return payments(population, START, 5, seed=1)


@pytest.fixture(scope="session")
def path(frame, tmp_path_factory):
    path = tmp_path_factory.mktemp("payments") / "payments.csv"
    frame.to_csv(path)
    return path


@pytest.fixture
def source(path):
    return FileSource([path])
