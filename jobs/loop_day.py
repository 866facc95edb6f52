"""The schedule of ``make loop-demo``: what is done on a day, and what every day brought."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pyspark.sql import SparkSession

from conf.settings import Settings
from jobs.loop_steward import Steward, first_champion
from jobs.loop_story import Event, Story
from jobs.loop_system import LoopSystem
from jobs.loop_world import World
from jobs.monitor import Look

REVIEW_DAYS = 2


@dataclass(frozen=True)
class DayPlayed:
    """What a day brought: when it began (UTC), the versions, numbers of it, what the monitor found
    in the end, and what happened.
    """

    began: datetime
    versions: str
    payments: int
    hits: int
    verdicts: int
    look: Look
    events: list[Event]


class Loop:
    """Plays day by day; ``training`` is a file to be written, of the first champion's payments."""

    def __init__(self, spark: SparkSession, settings: Settings, training: Path) -> None:
        self._settings, self._spark, self._training = settings, spark, training
        self.world, self.story = World(settings.loop), Story()
        self._worklists: dict[int, Path] = {}

    def play(self, tell: Callable[[DayPlayed], None], ended: threading.Event) -> None:
        """All days of the settings, from the training of the first champion on; no more of them
        once ``ended`` is set.

        Raises:
            LoopError: the score query failed.
        """
        world, start = self.world, self.world.start
        world.write_training(self._training)
        self.story.events.append(first_champion(self._settings, self._training, start))
        system = LoopSystem(self._spark, self._settings, start)
        steward = Steward(self._settings, self._training, start)
        try:
            for day in range(self._settings.loop.days):
                if ended.is_set():
                    break
                played = self._day(day, system, steward)
                self.story.events += played.events
                tell(played)
        finally:
            system.end()

    def _day(self, day: int, system: LoopSystem, steward: Steward) -> DayPlayed:
        world, inbox = self.world, self._settings.label.inbox
        began, ended = world.midnight(day), world.midnight(day + 1)
        first, lines = world.lines_of(day)
        versions = system.score(first, lines)
        system.now = ended
        verdicts = world.drop_reports(day, inbox)
        yesterday = system.hits(world.midnight(day - 1), began)
        verdicts += world.drop_judged(day, yesterday, inbox)
        if (worklist := self._worklists.pop(day - REVIEW_DAYS, None)) is not None:
            verdicts += world.drop_reviewed(worklist, inbox)
        system.label()
        if (drawn := system.draw_reviews()) is not None:
            self._worklists[day] = drawn
        look = system.monitor()
        hits = len(system.hits(began, ended))
        events = []
        if began == world.change:
            events.append(Event(began, "change", "fraud follows another pattern from now on"))
        events += steward.act(ended, look.breaches)
        return DayPlayed(began, versions, len(lines), hits, verdicts, look, events)
