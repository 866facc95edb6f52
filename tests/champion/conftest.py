"""What the tests of champion and challenger share: versions, a registry in memory, watchers."""

from functools import partial

import pytest

from tests.registries import FakeRegistry, saved_versions, warnings_told, watchers


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return saved_versions(tmp_path_factory.mktemp("models"))


@pytest.fixture
def registry(folders):
    return FakeRegistry(folders, "1")


@pytest.fixture
def begin(tmp_path):
    with watchers(tmp_path / "cache") as started:
        yield started


@pytest.fixture
def told(caplog):
    """The warnings since the last call."""
    return partial(warnings_told, caplog)
