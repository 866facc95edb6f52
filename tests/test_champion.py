import json
import logging
import shutil
import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient

from conf.settings import load_settings
from jobs.champion import CHALLENGER, AliasWatcher, NoModel
from jobs.model_cache import ModelCache
from jobs.model_registry import SET_ASIDE, MlflowRegistry, NoAlias, RegistryError, VersionReference
from tests.conftest import PROJECT, save_code_model

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

AWAY = RegistryError("connection refused")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Models by version: 1, 2 and 3 fit, "unfit" does not."""
    root = tmp_path_factory.mktemp("models")
    saved = {
        version: save_code_model(
            root / version, f"return np.full(len(data), 0.{version})", {"amt": "double"}
        )
        for version in ("1", "2", "3")
    }
    saved["unfit"] = save_code_model(root / "unfit", "return data['shoe']", {"shoe": "double"})
    return saved


class FakeRegistry:
    """A registry in memory: ``alias`` is the version that it names, ``trouble`` what it raises."""

    def __init__(self, folders, alias):
        self.folders, self.alias = folders, alias
        self.tags = {}
        self.tag_trouble = None
        self.trouble = self.download_trouble = None
        self.downloads = []

    def aliased(self):
        if self.trouble:
            raise self.trouble
        if self.alias is None:
            raise NoAlias("no such alias")
        return VersionReference("fraud", self.alias, dict(self.tags))

    def set_aside(self, reference, reason):
        if self.tag_trouble:
            raise self.tag_trouble
        assert reference.version == self.alias
        self.tags = {SET_ASIDE: reason}

    def download(self, reference, folder):
        self.downloads.append(reference.version)
        if self.download_trouble:
            (Path(folder) / "MLmodel").write_text("the first half")
            raise self.download_trouble
        return Path(shutil.copytree(self.folders[reference.version], Path(folder) / "model"))


@pytest.fixture
def registry(folders):
    return FakeRegistry(folders, "1")


@pytest.fixture
def begin(tmp_path):
    """A watcher over the test's cache, started; it looks again only when a test says so."""
    watchers = []

    def started(registry, **options):
        watcher = AliasWatcher(registry, ModelCache(tmp_path / "cache"), 3600, **options)
        watchers.append(watcher)
        watcher.start()
        return watcher

    yield started
    for watcher in watchers:
        watcher.stop()


def end(watcher):
    """Stop a watcher that looks by itself, and wait for its end."""
    watcher.stop()
    for thread in threading.enumerate():
        if thread.name == "champion":
            thread.join(30)


@pytest.fixture
def told(caplog):
    """The warnings since the last call."""

    def warnings():
        said = [
            record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING
        ]
        caplog.clear()
        return said

    return warnings


def test_the_champion_scores_from_the_start(registry, begin, told):
    watcher = begin(registry)
    assert watcher.current.label == "fraud v1"
    assert told() == []


def test_a_moved_alias_takes_over_and_back(registry, begin, told):
    watcher = begin(registry)
    for version in ("2", "1", "3"):
        registry.alias = version
        watcher.look()
        assert watcher.current.version == version
    watcher.look()
    assert registry.downloads == ["1", "2", "1", "3"]
    assert told() == []


def test_the_watching_goes_on_by_itself(registry, tmp_path):
    taken = threading.Event()
    told_of = registry.aliased

    def aliased():
        if watcher._current and watcher.current.version == "2":
            taken.set()
        return told_of()

    registry.aliased = aliased
    watcher = AliasWatcher(registry, ModelCache(tmp_path), 0.001)
    watcher.start()
    registry.alias = "2"
    assert taken.wait(30)
    end(watcher)


def test_an_unforeseen_error_does_not_end_the_watching(registry, tmp_path, caplog):
    looked = threading.Semaphore(0)
    watcher = AliasWatcher(registry, ModelCache(tmp_path), 0.001)
    watcher.start()

    def fails():
        looked.release()
        raise KeyError("unforeseen")

    registry.aliased = fails
    assert all(looked.acquire(timeout=30) for _ in range(3))
    end(watcher)
    assert watcher.current.version == "1"
    assert "could not be looked up" in caplog.text


def test_a_version_that_does_not_fit_is_refused_once_and_by_name(registry, begin, told):
    watcher = begin(registry)
    registry.alias = "unfit"
    for _ in range(3):
        watcher.look()
    (warning,) = told()
    assert warning.startswith("fraud vunfit is refused: it asks for shoe, which we do not have")
    assert warning.endswith("; fraud v1 goes on")
    assert watcher.current.version == "1"
    assert registry.downloads == ["1", "unfit"]

    registry.trouble = AWAY
    watcher.look()
    registry.trouble = None
    watcher.look()
    assert [text[:12] for text in told()] == ["the registry"]

    registry.alias = "2"
    watcher.look()
    assert watcher.current.version == "2"


def test_a_refused_version_is_tried_again_once_its_tags_change(registry, begin, told):
    watcher = begin(registry)
    registry.alias, registry.tags = "2", {"threshold": "much"}
    watcher.look()
    assert "threshold is 'much'" in told()[0]
    registry.tags = {"threshold": "0.75"}
    watcher.look()
    assert (watcher.current.version, watcher.current.threshold) == ("2", 0.75)


def test_without_any_version_there_is_no_model(registry, begin):
    registry.trouble = AWAY
    with pytest.raises(NoModel, match=r"training/train\.py.*connection refused"):
        _ = begin(registry).current


def test_a_first_version_that_does_not_fit_is_named(registry, begin):
    registry.alias = "unfit"
    watcher = begin(registry)
    watcher.look()
    with pytest.raises(NoModel, match="fraud vunfit is refused: it asks for shoe"):
        _ = watcher.current


def test_a_version_that_comes_later_ends_the_wait(registry, begin):
    registry.trouble = AWAY
    watcher = begin(registry)
    registry.trouble = None
    watcher.look()
    assert watcher.current.version == "1"


def test_the_last_version_goes_on_while_the_registry_is_away(registry, begin, told):
    watcher = begin(registry)
    for trouble in (AWAY, RegistryError("Registered model alias champion not found.")):
        registry.trouble = trouble
        watcher.look()
        watcher.look()
        assert watcher.current.version == "1"
        assert told() == [f"the registry names no version: {trouble}; fraud v1 goes on"]
    registry.trouble, registry.alias = None, "2"
    watcher.look()
    assert watcher.current.version == "2"


def test_an_outage_is_told_again_when_it_comes_again(registry, begin, told):
    watcher = begin(registry)
    for _ in range(2):
        registry.trouble = AWAY
        watcher.look()
        registry.trouble = None
        watcher.look()
    assert len(told()) == 2


def test_the_cache_serves_a_start_without_registry(registry, begin, told):
    begin(registry)
    registry.alias, registry.tags = "2", {"threshold": "0.75"}
    assert begin(registry).current.version == "2"
    registry.trouble = AWAY
    told()
    again = begin(registry).current
    assert (again.label, again.threshold) == ("fraud v2", 0.75)
    assert told()[1] == "going on with fraud v2 from the cache"


def test_the_cache_serves_a_start_with_a_version_that_does_not_fit(registry, begin):
    begin(registry)
    registry.alias = "unfit"
    assert begin(registry).current.version == "1"


@pytest.mark.parametrize("trouble", [AWAY, OSError("no space left")])
def test_a_download_that_dies_spoils_nothing(registry, begin, told, trouble):
    watcher = begin(registry)
    registry.alias, registry.download_trouble = "2", trouble
    watcher.look()
    watcher.look()
    assert watcher.current.version == "1"
    assert told() == [f"fraud v2 cannot be fetched: {trouble}; fraud v1 goes on"]

    registry.trouble = AWAY
    assert begin(registry).current.version == "1"

    registry.trouble = registry.download_trouble = None
    watcher.look()
    assert watcher.current.version == "2"


@pytest.mark.parametrize("step", ["rename", "replace"])
def test_a_process_killed_while_it_stores_spoils_nothing(registry, begin, monkeypatch, step):
    begin(registry)
    registry.tags = {"round": "2"}

    def killed(path, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, step, killed)
    with pytest.raises(KeyboardInterrupt):
        begin(registry)  # fetches the same version anew
    monkeypatch.undo()
    registry.trouble = AWAY
    assert begin(registry).current.version == "1"


def test_the_cache_keeps_one_version(registry, begin, tmp_path):
    watcher = begin(registry)
    registry.alias = "2"
    watcher.look()
    names = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert len(names) == 2
    assert names[0] == "current.json"
    assert names[1].startswith("v2")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"name": "fraud"}', '{"name": 1, "files": "none", "x": 2}', "\xff"],
)
def test_a_damaged_cache_is_told_and_does_not_score(registry, begin, told, tmp_path, text):
    begin(registry)
    (tmp_path / "cache" / "current.json").write_text(text, encoding="latin-1")
    registry.trouble = AWAY
    with pytest.raises(NoModel):
        _ = begin(registry).current
    assert "the cache is of no use: " in told()[-1]
    registry.trouble = None
    assert begin(registry).current.version == "1"


def test_a_cache_whose_files_are_gone_or_cut_is_told(registry, begin, told, tmp_path):
    begin(registry)
    registry.trouble = AWAY
    stored = (
        tmp_path / "cache" / json.loads((tmp_path / "cache" / "current.json").read_text())["files"]
    )
    (stored / "model" / "MLmodel").write_text("flavors: {")
    with pytest.raises(NoModel):
        _ = begin(registry).current
    shutil.rmtree(stored)
    with pytest.raises(NoModel):
        _ = begin(registry).current
    warnings = [text for text in told() if "cache" in text]
    assert "cannot be read" in warnings[0]
    assert "no MLmodel file" in warnings[1]


@pytest.fixture
def slow(registry):
    """The registry, with downloads that stop until ``release`` is set, once ``begun`` is."""
    download = registry.download
    registry.begun, registry.release = threading.Event(), threading.Event()

    def waiting(reference, folder):
        registry.begun.set()
        assert registry.release.wait(30)
        return download(reference, folder)

    def slow_from_now():
        registry.download = waiting

    registry.slow_from_now = slow_from_now
    yield registry
    registry.release.set()


def test_a_batch_that_starts_while_a_version_loads_gets_it(slow, begin):
    watcher = begin(slow)
    slow.slow_from_now()
    slow.alias = "2"
    looking = threading.Thread(target=watcher.look)
    looking.start()
    assert slow.begun.wait(30)
    got = []
    batch = threading.Thread(target=lambda: got.append(watcher.current.version))
    batch.start()
    batch.join(0.05)
    assert batch.is_alive()
    slow.release.set()
    batch.join(30)
    looking.join(30)
    assert got == ["2"]


def test_a_batch_does_not_wait_for_ever(slow, begin, told):
    watcher = begin(slow, patience_seconds=0.001)
    slow.slow_from_now()
    slow.alias = "2"
    looking = threading.Thread(target=watcher.look)
    looking.start()
    assert slow.begun.wait(30)
    assert watcher.current.version == "1"
    assert watcher.current.version == "1"
    assert told() == ["the new champion takes long to fetch; going on without waiting for it"]
    slow.release.set()
    looking.join(30)
    assert watcher.current.version == "2"


def test_a_batch_does_not_wait_for_a_second_try(slow, begin, told):
    watcher = begin(slow, patience_seconds=0.5)
    slow.alias, slow.download_trouble = "2", AWAY
    watcher.look()
    slow.slow_from_now()
    looking = threading.Thread(target=watcher.look)
    looking.start()
    assert slow.begun.wait(30)
    told()
    assert watcher.current.version == "1"
    assert told() == []
    slow.release.set()
    looking.join(30)


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
