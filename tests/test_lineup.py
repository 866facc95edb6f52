from dataclasses import dataclass

import pytest

from jobs.lineup import LiveModels
from jobs.scoring import ModelVersion


def version(number):
    return ModelVersion("fraud", number, 0.5, (), b"")


@dataclass
class Watcher:
    """What an ``AliasWatcher`` holds."""

    current: ModelVersion | None
    previous: ModelVersion | None = None
    proven: ModelVersion | None = None

    @property
    def found(self):
        return self.current

    def has(self, version):
        return self.current is version

    def set_aside(self, version, reason):
        assert self.has(version)
        self.current, self.previous = self.previous, None

    def proved(self, version):
        self.proven = version


@pytest.fixture
def models():
    alarms = []
    models = LiveModels(
        Watcher(version("2"), version("1")),
        Watcher(version("3")),
        lambda *alarm: alarms.append(alarm),
    )
    models.alarms = alarms
    return models


def test_a_lineup_has_what_the_watchers_hold(models):
    lineup = models.lineup()
    assert [item.version for item in (lineup.champion, lineup.challenger, lineup.previous)] == [
        "2",
        "3",
        "1",
    ]
    models.proved(lineup.champion)
    assert models._champion.proven is lineup.champion


def test_a_challenger_that_was_promoted_is_not_scored_twice(models):
    models._challenger.current = version("2")
    assert models.lineup().challenger is None


def test_a_champion_that_fails_is_set_aside_with_an_alarm(models, caplog):
    models.failed(models.lineup().champion, "its output nan is no probability")
    assert models.lineup().champion.version == "1"
    assert models.lineup().challenger.version == "3"
    [(subject, text)] = models.alarms
    assert subject == "fraud v2 failed and was set aside"
    assert "its output nan is no probability" in text
    assert "fraud v1 scores from now on" in text
    assert caplog.messages == [
        "fraud v2 is set aside: its output nan is no probability; fraud v1 scores from now on"
    ]


def test_a_challenger_that_fails_leaves_the_champion_alone(models):
    models.failed(models.lineup().challenger, "it fails")
    assert models.lineup().champion.version == "2"
    assert models.lineup().challenger is None
    [(_, text)] = models.alarms
    assert "the champion is not touched" in text
