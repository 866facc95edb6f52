"""Two months of the whole loop in minutes, on synthetic payments: ``make loop-demo``.

Payments are scored day by day, verdicts come late, fraud changes, the monitor mails, a version is
trained anew, runs in shadow, and takes the champion's place. Everything lies under ``var/loop``.
"""

import argparse
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import SparkSession
from rich.console import Console

from conf.settings import Settings, settings_from_arguments, stop
from jobs.loop_steward import Steward, first_champion
from jobs.loop_story import Event, Story
from jobs.loop_system import LoopError, LoopSystem
from jobs.loop_world import World
from jobs.mail_catcher import catcher
from jobs.monitor import Look
from jobs.spark import spark_session

FOLDER = Path("var/loop")
REVIEW_DAYS = 2

console = Console()


@dataclass(frozen=True)
class DayPlayed:
    """What a day brought: numbers of it, what the monitor found in the end, what was done."""

    number: int
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

    def play(self, tell: Callable[[DayPlayed], None]) -> None:
        """All days of the settings, from the training of the first champion on.

        Raises:
            LoopError: the score query failed.
        """
        world, start = self.world, self.world.start
        world.write_training(self._training)
        self.story.events.append(first_champion(self._settings, self._training, start))
        system = LoopSystem(self._spark, self._settings, start)
        steward = Steward(self._settings, self._training, start)
        for day in range(self._settings.loop.days):
            if world.midnight(day) == world.change:
                text = "fraud follows another pattern from now on"
                self.story.events.append(Event(world.change, "change", text))
            played = self._day(day, system, steward)
            self.story.events += played.events
            tell(played)

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
        events = list(steward.act(ended, look.breaches))
        return DayPlayed(day, versions, len(lines), hits, verdicts, look, events)


def main() -> None:
    """Parse arguments, play, plot."""
    settings, _ = settings_from_arguments(argparse.ArgumentParser(description=__doc__))
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    logging.basicConfig(filename=FOLDER / "loop.log", level=logging.INFO)
    os.environ.setdefault(
        "PYSPARK_SUBMIT_ARGS", "--properties-file spark-defaults.conf pyspark-shell"
    )
    relay = catcher(FOLDER / "mails", settings.smtp.host, settings.smtp.port)
    try:
        relay.start()
    except OSError as error:
        stop(f"cannot listen on port {settings.smtp.port} ({error}): set FRAUD_SMTP__PORT", 2)
    logging.captureWarnings(True)
    spark = _quiet_spark(FOLDER / "spark.log")
    loop, t0 = Loop(spark, settings, FOLDER / "training.csv"), time.monotonic()
    try:
        loop.play(
            lambda played: print(
                f"{time.monotonic() - t0:.1f}", played.number, played.versions, played.payments,
                played.hits, played.verdicts, [b.label for b in played.look.breaches], played.events
            )
        )  # fmt: skip
    except LoopError as error:
        stop(str(error))
    finally:
        relay.stop()
        spark.stop()


def _quiet_spark(log: Path) -> SparkSession:
    """A session whose processes write what they say into a file: they take over standard error as
    it is when they start.
    """
    terminal = os.dup(2)
    try:
        with log.open("wb") as file:
            os.dup2(file.fileno(), 2)
            return spark_session("loop-demo")
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


if __name__ == "__main__":
    main()
