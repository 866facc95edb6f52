"""Aliases in MLflow's own registry, and versions that are set aside there."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from conf.settings import load_settings
from jobs.champion import CHALLENGER, NoModel
from jobs.model_registry import SET_ASIDE, MlflowRegistry, NoAlias, RegistryError, VersionReference
from tests.conftest import PROJECT
from tests.registries import AWAY

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def registry_settings(tmp_path_factory):
    """Of MLflow's own registry, on SQLite."""
    address = f"sqlite:///{tmp_path_factory.mktemp('registry')}/mlflow.db"
    local = load_settings(PROJECT / "conf" / "local.toml").registry
    return local.model_copy(update={"tracking_uri": address})


@pytest.fixture
def client(registry_settings, folders):
    client = MlflowClient(registry_settings.tracking_uri)
    client.create_registered_model(registry_settings.model_name)
    for version in ("1", "2", "unfit"):
        client.create_model_version(registry_settings.model_name, str(folders[version]))
    client.set_registered_model_alias(registry_settings.model_name, registry_settings.alias, "1")
    yield client
    client.delete_registered_model(registry_settings.model_name)


def test_life_of_an_alias(registry_settings, client, begin, told):
    watcher = begin(MlflowRegistry(registry_settings))
    assert watcher.current.label == "fraud v1"

    client.set_registered_model_alias("fraud", "champion", "2")
    watcher.look()
    assert watcher.current.version == "2"

    client.set_registered_model_alias("fraud", "champion", "3")
    watcher.look()
    assert told()[0].startswith("fraud v3 is refused: it asks for shoe")

    client.delete_registered_model_alias("fraud", "champion")
    watcher.look()
    assert "alias champion not found" in told()[0]

    client.set_registered_model_alias("fraud", "champion", "1")
    watcher.look()
    assert watcher.current.version == "1"

    client.delete_model_version("fraud", "1")
    watcher.look()
    assert "the registry names no version" in told()[0]
    assert watcher.current.version == "1"


def test_a_version_that_goes_while_it_is_fetched(registry_settings, client, tmp_path):
    with pytest.raises(RegistryError, match="version=99"):
        MlflowRegistry(registry_settings).download(VersionReference("fraud", "99", {}), tmp_path)


def test_files_that_are_away_for_a_while(registry_settings, client, begin, told, folders, tmp_path):
    watcher = begin(MlflowRegistry(registry_settings))
    files = shutil.copytree(folders["2"], tmp_path / "soon gone")
    lost = client.create_model_version("fraud", str(files))
    files.rename(tmp_path / "elsewhere")
    client.set_registered_model_alias("fraud", "champion", lost.version)
    watcher.look()
    assert told()[0].startswith(f"fraud v{lost.version} cannot be fetched: ")
    assert watcher.current.version == "1"

    (tmp_path / "elsewhere").rename(files)
    watcher.look()
    assert watcher.current.version == str(lost.version)


def test_tags_and_threshold(registry_settings, client, begin):
    client.set_model_version_tag("fraud", "1", "threshold", "0.875")
    assert begin(MlflowRegistry(registry_settings)).current.threshold == 0.875


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:9", "sqlite:///{}/no database.db", "postgresql://u:p@127.0.0.1:9/db"],
)
def test_a_registry_that_is_away_at_the_start(
    registry_settings, client, begin, told, tmp_path, address
):
    (tmp_path / "no database.db").write_text("no database " * 500)
    away = MlflowRegistry(
        registry_settings.model_copy(update={"tracking_uri": address.format(tmp_path)})
    )
    with pytest.raises(NoModel, match="the registry names no version: "):
        _ = begin(away).current
    begin(MlflowRegistry(registry_settings))
    assert begin(away).current.label == "fraud v1"
    assert told()[-1] == "going on with fraud v1 from the cache"


def test_a_registry_file_that_is_away_is_not_made_anew(registry_settings, begin, tmp_path):
    away = registry_settings.model_copy(update={"tracking_uri": f"sqlite:///{tmp_path}/away.db"})
    with pytest.raises(NoModel, match="no registry at"):
        _ = begin(MlflowRegistry(away)).current
    assert not (tmp_path / "away.db").exists()


def test_a_registry_file_that_is_moved_and_restored_is_read_again(
    registry_settings, client, begin, tmp_path
):
    watcher = begin(MlflowRegistry(registry_settings))
    file = Path(registry_settings.tracking_uri.removeprefix("sqlite:///"))
    file.rename(tmp_path / "backup.db")
    watcher.look()
    assert watcher.current.version == "1"
    shutil.copy(tmp_path / "backup.db", file)
    client.set_registered_model_alias("fraud", "champion", "2")
    watcher.look()
    assert watcher.current.version == "2"


def moved(watcher, registry, alias):
    registry.alias, registry.tags = alias, {}
    watcher.look()
    return watcher


def test_a_version_that_fails_is_set_aside_for_the_one_that_scored_before(registry, begin, told):
    watcher = begin(registry)
    watcher.proved(watcher.current)
    assert watcher.previous is None
    moved(watcher, registry, "2")
    assert watcher.previous.version == "1"
    watcher.set_aside(watcher.current, "it answers NaN")
    assert (watcher.current.version, watcher.previous) == ("1", None)
    watcher.look()
    assert registry.tags == {SET_ASIDE: "it answers NaN"}
    watcher.look()
    assert registry.downloads == ["1", "2"]
    assert told() == ["fraud v2 is refused: it was set aside: it answers NaN; fraud v1 goes on"]
    # Without the tag it is tried again.
    assert moved(watcher, registry, "2").current.version == "2"
    assert watcher.previous.version == "1"


def test_what_was_set_aside_is_not_taken_after_a_start(registry, begin):
    watcher = begin(registry)
    watcher.proved(watcher.current)
    moved(watcher, registry, "2").set_aside(watcher.current, "it fails")
    watcher.look()
    assert begin(registry).current.version == "1"
    registry.trouble = AWAY
    assert begin(registry).current.version == "1"


def test_a_version_that_never_scored_is_none_to_fall_back_on(registry, begin):
    watcher = moved(begin(registry), registry, "2")
    assert watcher.previous is None
    watcher.proved(watcher.current)
    assert moved(watcher, registry, "3").previous.version == "2"
    assert moved(watcher, registry, "1").previous.version == "2"


def test_what_to_fall_back_on_outlives_the_process(registry, begin):
    watcher = begin(registry)
    watcher.proved(watcher.current)
    moved(watcher, registry, "2").proved(watcher.current)
    assert begin(registry).previous.version == "1"
    registry.trouble = AWAY
    again = begin(registry)
    assert (again.current.version, again.previous.version) == ("2", "1")
    again.set_aside(again.current, "it fails")
    assert begin(registry).current.version == "1"


def test_the_registry_is_told_of_what_was_set_aside_once_it_answers(registry, begin, told):
    watcher = begin(registry)
    watcher.proved(watcher.current)
    moved(watcher, registry, "2")
    registry.tag_trouble = AWAY
    watcher.set_aside(watcher.current, "it fails")
    watcher.look()
    assert told() == [
        "the registry cannot be told what was set aside: connection refused; fraud v1 goes on"
    ]
    registry.tag_trouble = None
    watcher.look()
    assert registry.tags == {SET_ASIDE: "it fails"}


def test_the_registry_is_told_of_what_was_set_aside_before_the_end(registry, begin):
    watcher = begin(registry)
    watcher.proved(watcher.current)
    moved(watcher, registry, "2")
    watcher.set_aside(watcher.current, "it fails")
    watcher.stop()
    assert registry.tags == {SET_ASIDE: "it fails"}


def test_a_version_is_set_aside_once(registry, begin):
    watcher = begin(registry)
    first = watcher.current
    watcher.proved(first)
    second = moved(watcher, registry, "2").current
    for _ in range(2):
        watcher.set_aside(second, "it fails")
    assert watcher.current.version == "1"


def test_a_challenger_comes_and_goes(registry, begin, told):
    registry.alias = None
    watcher = begin(registry, role=CHALLENGER)
    assert watcher.found is None
    assert moved(watcher, registry, "2").found.version == "2"
    registry.trouble = AWAY
    watcher.look()
    assert watcher.found.version == "2"
    registry.trouble = None
    assert moved(watcher, registry, None).found is None
    moved(watcher, registry, "3").set_aside(watcher.found, "it fails")
    assert watcher.found is None
    watcher.look()
    assert registry.tags == {SET_ASIDE: "it fails"}
    assert told() == ["fraud v3 is refused: it was set aside: it fails"]


def test_the_real_registry_tells_a_missing_alias_and_takes_the_tag(registry_settings, client):
    challenger = MlflowRegistry(registry_settings, "challenger")
    with pytest.raises(NoAlias):
        challenger.aliased()
    client.set_registered_model_alias("fraud", "challenger", "2")
    reference = challenger.aliased()
    assert reference.version == "2"
    challenger.set_aside(reference, "x" * 10_000)
    assert set(challenger.aliased().tags[SET_ASIDE]) == {"x"}
    client.delete_model_version_tag("fraud", "2", SET_ASIDE)
    client.delete_registered_model_alias("fraud", "challenger")
