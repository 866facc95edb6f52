"""What a team does about alarms in ``make loop-demo``: it trains anew on what the tables hold, lets
the new version run in shadow, compares, and promotes it where the rule holds.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from conf.settings import Settings
from jobs.breaches import Judged
from jobs.loop_story import Event
from training.alias_moves import PROMOTION
from training.aliases import Aliases
from training.promote import assess
from training.promotion_report import Assessment, log_page, page, write_page
from training.registry import register
from training.train import train_from_tables

WHO = "loop-demo"


def first_champion(settings: Settings, training: Path, now: datetime) -> Event:
    """Train on a file and register; there is no champion yet."""
    trained, payments, data = train_from_tables([str(training)], settings, now)
    version = register(trained, payments, data, settings.registry)
    text = f"v{version} trained on {len(payments):,} payments, {_own(trained.metrics)}"
    return Event(now, "champion", text, version)


class Steward:
    """Acts once a day; ``training`` is the file of the first champion."""

    def __init__(self, settings: Settings, training: Path, now: datetime) -> None:
        self._settings, self._training, self._now = settings, training, now
        self._aliases = Aliases(settings, lambda: self._now)
        self._alarmed_at: datetime | None = None
        self._trial: tuple[str, datetime] | None = None
        self._compared_at = now

    def act(self, now: datetime, breaches: Sequence[Judged]) -> Iterator[Event]:
        """Do what is due at ``now``, and tell of it."""
        self._now = now
        champion = self._aliases.champion()
        found = [b for b in breaches if b.version == f"{self._model} v{champion}"]
        if found and self._alarmed_at is None:
            self._alarmed_at = now
            yield Event(now, "alarm", _told(found), champion)
        if self._trial is not None:
            yield from self._judge(champion, *self._trial)
        elif self._alarmed_at is not None and self._is_past(self._alarmed_at, self._gather):
            yield self._retrain(now)

    def _judge(self, champion: str, challenger: str, since: datetime) -> Iterator[Event]:
        loop = self._settings.loop
        due = max(since + timedelta(days=self._settings.label.maturity_days), self._compared_at)
        if self._is_past(due, loop.compare_every_days):
            self._compared_at = self._now
            yield self._compare(champion, challenger)
        if self._trial is not None and self._is_past(since, loop.trial_days):
            yield self._retrain(self._now)

    def _compare(self, champion: str, challenger: str) -> Event:
        settings, now = self._settings, self._now
        found = assess(settings, self._aliases, champion, challenger, now)
        told = _outcome(found)
        why = "the rule holds" if found.holds else "the rule does not hold"
        html = page(found, told, WHO, why, settings)
        write_page(html, found.comparison, settings.promote.reports)
        run_id = log_page(html, found, settings)
        if not found.holds:
            return Event(now, "compared", told, challenger)
        self._aliases.promote(challenger, champion, PROMOTION, WHO, why, run_id)
        self._trial = self._alarmed_at = None
        return Event(now, "promoted", told, challenger)

    def _retrain(self, now: datetime) -> Event:
        trained, payments, data = train_from_tables([str(self._training)], self._settings, now)
        version = register(trained, payments, data, self._settings.registry)
        self._trial, self._compared_at = (version, now), now
        verified = trained.parameters["rows_verified"] + trained.parameters["rows_review"]
        text = (
            f"v{version} trained on {trained.parameters['rows']:,} payments, {verified:,} of them "
            f"with a verdict; it is challenger from now on"
        )
        return Event(now, "retrained", text, version)

    @property
    def _model(self) -> str:
        return self._settings.registry.model_name

    @property
    def _gather(self) -> int:
        return self._settings.loop.gather_days

    def _is_past(self, moment: datetime, days: float) -> bool:
        return self._now >= moment + timedelta(days=days)


def _told(breaches: Sequence[Judged]) -> str:
    return "; ".join(f"{breach.label}: {breach.text}" for breach in breaches)


def _own(metrics: dict[str, float]) -> str:
    return f"average precision {metrics['average_precision']:.3f} on the last part of their time"


def _outcome(found: Assessment) -> str:
    comparison = found.comparison
    old, new = comparison.champion.contender, comparison.challenger.contender
    measure = found.figures.measures["average_precision"]
    failed = [f"{clause.asked}: {clause.found}" for clause in found.clauses if not clause.holds]
    judged = (
        f"average precision {measure.challenger.value:.3f} against {measure.champion.value:.3f} on "
        f"{comparison.payments:,} payments with {comparison.frauds:,} frauds"
    )
    if failed:
        return f"{new.label} does not win: {judged}; {'; '.join(failed)}"
    return f"{new.label} takes the place of {old.label}: {judged}"
