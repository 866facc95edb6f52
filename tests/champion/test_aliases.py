"""Aliases are watched: what takes over, what goes on where the registry or a version fails."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from jobs.champion import AliasWatcher, NoModel
from jobs.model_cache import ModelCache
from jobs.model_registry import RegistryError
from tests.conftest import REGISTRY
from tests.registries import AWAY

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def end(watcher):
    """Stop a watcher that looks by itself, and wait for its end."""
    watcher.stop()
    for thread in threading.enumerate():
        if thread.name == "champion":
            thread.join(30)


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
    watcher = AliasWatcher(registry, ModelCache(tmp_path, REGISTRY), 0.001)
    watcher.start()
    registry.alias = "2"
    assert taken.wait(30)
    end(watcher)


def test_an_unforeseen_error_does_not_end_the_watching(registry, tmp_path, caplog):
    looked = threading.Semaphore(0)
    watcher = AliasWatcher(registry, ModelCache(tmp_path, REGISTRY), 0.001)
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


def test_a_version_in_the_cache_is_refused_once_pickle_is_not_allowed(
    registry, begin, told, folders, tmp_path
):
    registry.folders = {"1": Path(shutil.copytree(folders["1"], tmp_path / "pickled"))}
    (tmp_path / "pickled" / "more.pkl").touch()
    begin(registry, REGISTRY.model_copy(update={"allow_pickle": True}))
    with pytest.raises(NoModel, match="stored as pickle"):
        _ = begin(registry).current
    registry.trouble = AWAY
    with pytest.raises(NoModel):
        _ = begin(registry).current
    assert [text for text in told() if "the cache is of no use: it may be stored as pickle" in text]


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
