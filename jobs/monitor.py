"""Measure what the models do: ``python -m jobs.monitor --config conf/local.toml [--every 1h]``.

Each look writes what changed to `model_metrics` and to MLflow, makes a drift report, and mails the
limits that are passed, once. For a scheduler without ``--every``.
"""

import argparse
import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pandas as pd
from rich.console import Console

from conf.settings import Settings, settings_from_arguments
from jobs.alarm import Attachment, send_alarm
from jobs.breach_alarm import BreachAlarm
from jobs.breaches import Breach, accuracy_breaches, by_version, drift_breaches, system_breaches
from jobs.day_measures import DAY, VERSION
from jobs.drift import Drift
from jobs.drift_report import drift_page
from jobs.every import add_every, watch
from jobs.metrics_table import append_changed, latest_metrics
from jobs.model_registry import RegistryError
from jobs.monitor_days import BEGINNING, DayMeasurer
from jobs.monitor_runs import Version, log_look
from jobs.monitor_view import breaches_text, metrics_view
from jobs.reference import SCORE
from jobs.run import log_to_stderr, stop_on_signals
from jobs.sole import sole
from jobs.tables import ensure_table
from jobs.version_facts import KnownFacts

log = logging.getLogger("jobs.monitor")


@dataclass(frozen=True)
class Look:
    """What a look found: the rows of `model_metrics` that count, how many of them it wrote, the
    breaches, and the drift reports by version.
    """

    metrics: pd.DataFrame
    written: int
    breaches: list[Breach]
    pages: dict[Version, str]


@dataclass(frozen=True)
class _Window:
    """The payments that drift is judged by, those of other versions without score."""

    payments: pd.DataFrame
    version: Version
    drift: Drift
    is_full: bool


def look(settings: Settings, now: datetime, facts: KnownFacts) -> Look:
    """Measure once, as of ``now`` (UTC): write `model_metrics`, log to MLflow, make the reports.
    Mails nothing.
    """
    facts.begin_look()
    table = ensure_table(settings.warehouse, "model_metrics")
    measurer = DayMeasurer(settings, facts, now)
    days = measurer.days(latest_metrics(table))
    written = append_changed(table, (row for day in days for row in measurer.rows(day)))
    metrics = latest_metrics(table)
    window = _window(measurer, settings, now)
    breaches = _breaches(metrics, window, measurer, settings, now, facts)
    pages = _pages(window, settings, now, facts)
    if not facts.is_away:
        try:
            log_look(written, pages, now, settings.registry)
        except RegistryError as error:
            facts.note_away(error)
    return Look(metrics, len(written), breaches, pages)


def look_and_mail(
    settings: Settings, now: datetime, facts: KnownFacts, sleep: Callable[[float], None]
) -> Look:
    """``look``; then mail the breaches if they changed, with the reports. ``sleep`` takes seconds:
    the pauses between the tries of a mail.
    """

    def send(subject: str, text: str, attachments: Sequence[Attachment]) -> None:
        send_alarm(settings, subject, text, attachments, moment=now, sleep=sleep)

    found = look(settings, now, facts)
    attachments = [
        Attachment(_page_name(version), page.encode()) for version, page in found.pages.items()
    ]
    alarm = BreachAlarm(settings.monitor.folder / "state.json", send)
    alarm.tell(found.breaches, now, attachments)
    return found


def _window(measurer: DayMeasurer, settings: Settings, now: datetime) -> _Window | None:
    """None where drift cannot be told."""
    since = now - timedelta(days=settings.monitor.window_days)
    payments = measurer.sample(since, now)
    if payments.empty:
        return None
    last = int(payments["ingested_at"].argmax())
    version = (str(payments["model_name"].iloc[last]), str(payments["model_version"].iloc[last]))
    own = (payments[VERSION] == version).all(axis=1)
    enough = own.sum() >= settings.monitor.min_rows
    payments[SCORE] = payments[SCORE].where(own & enough)
    drift = measurer.drift(payments, *version)
    if drift is None:
        return None
    # A window that is not full yet has other weekdays and hours than the reference.
    is_full = measurer.transactions.count(BEGINNING, since + DAY) > 0
    return _Window(payments, version, drift, is_full)


def _breaches(
    metrics: pd.DataFrame,
    window: _Window | None,
    measurer: DayMeasurer,
    settings: Settings,
    now: datetime,
    facts: KnownFacts,
) -> list[Breach]:
    limits = settings.monitor
    found: list[Breach] = []
    if window and window.is_full:
        found += drift_breaches(window.drift, _label(window.version), limits)
    begin = now - timedelta(days=settings.label.maturity_days + limits.window_days)
    lately = metrics["is_matured"].astype(bool) & (metrics["day"] >= begin.date())
    for name, version, rows in by_version(metrics[lately]):
        own = facts.of(name, version)
        found += accuracy_breaches(rows, _label((name, version)), own, limits)
    scored = measurer.transactions.rows(now - DAY, now, ["ingested_at", "scored_at"])
    delays = (scored["scored_at"] - scored["ingested_at"]).dt.total_seconds()
    p99 = float(delays.quantile(0.99)) if len(delays) else None
    rejected = measurer.rejected.count(now - DAY, now)
    return [*found, *system_breaches(p99, len(scored), rejected, limits)]


def _pages(
    window: _Window | None, settings: Settings, now: datetime, facts: KnownFacts
) -> dict[Version, str]:
    """The report of the version that scored last, also as a file in ``monitor.folder``."""
    reference = facts.of(*window.version).reference if window else None
    if window is None or reference is None:
        return {}
    since = now - timedelta(days=settings.monitor.window_days)
    title = f"{_label(window.version)}: payments of {since:%Y-%m-%d %H:%M} to {now:%Y-%m-%d %H:%M}"
    page = drift_page(window.payments, reference, window.drift, title, settings.monitor)
    settings.monitor.folder.mkdir(parents=True, exist_ok=True)
    path = settings.monitor.folder / _page_name(window.version)
    path.write_text(page, encoding="utf-8")
    log.info("drift report: %s", path)
    return {window.version: page}


def _label(version: Version) -> str:
    return f"{version[0]} v{version[1]}"


def _page_name(version: Version) -> str:
    return re.sub(r"[^\w.-]", "_", f"drift-{version[0]}-v{version[1]}.html")


def main() -> int:
    """Parse arguments, look once or again and again."""
    parser = argparse.ArgumentParser(description="Measure what the models do.")
    add_every(parser)
    settings, arguments = settings_from_arguments(parser)
    log_to_stderr()
    ended, facts, console = stop_on_signals(), KnownFacts(settings.registry), Console()

    def pause(seconds: float) -> None:
        ended.wait(seconds)

    def one_look() -> None:
        found = look_and_mail(settings, datetime.now(UTC), facts, sleep=pause)
        console.print(metrics_view(found.metrics))
        console.print(breaches_text(found.breaches), highlight=False, soft_wrap=True)

    with sole(settings.warehouse, "monitor", ended):
        if arguments.every is None:
            one_look()
            return 0
        log.info("monitor is running, pid %d: every %g s", os.getpid(), arguments.every)
        watch(one_look, arguments.every, ended)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
