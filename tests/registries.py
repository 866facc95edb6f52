"""A registry in memory, versions for it, and watchers of its aliases."""

import logging
import shutil
from contextlib import contextmanager
from pathlib import Path

from jobs.champion import AliasWatcher
from jobs.model_cache import ModelCache
from jobs.model_registry import SET_ASIDE, NoAlias, RegistryError, VersionReference
from tests.conftest import REGISTRY, save_code_model

AWAY = RegistryError("connection refused")


def saved_versions(root):
    """Folders of models by version: 1, 2 and 3 fit, "unfit" does not."""
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


@contextmanager
def watchers(cache):
    """Makes watchers over a cache, started; they look again only when a test says so."""
    running = []

    def started(registry, settings=REGISTRY, **options):
        watcher = AliasWatcher(registry, ModelCache(cache, settings), 3600, **options)
        running.append(watcher)
        watcher.start()
        return watcher

    yield started
    for watcher in running:
        watcher.stop()


def warnings_told(caplog):
    """The warnings since the last call."""
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    caplog.clear()
    return said
