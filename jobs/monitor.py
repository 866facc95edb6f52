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
from jobs.breaches import Judged, by_version, passed
from jobs.drift_report import drift_page
from jobs.every import add_every, watch
from jobs.metrics_table import (
    Row,
    append_changed,
    frame_of,
    latest_rows,
    remove_yet_to_come,
)
from jobs.model_registry import RegistryError
from jobs.monitor_days import DayMeasurer
from jobs.monitor_limits import Window, judged_limits, label_of, recent_days, window_of
from jobs.monitor_runs import Version, log_look
from jobs.monitor_view import breaches_text, metrics_view
from jobs.run import log_to_stderr, stop_on_signals
from jobs.sole import sole
from jobs.tables import ensure_table
from jobs.version_facts import KnownFacts

log = logging.getLogger("jobs.monitor")


@dataclass(frozen=True)
class Look:
    """What a look found: the rows of `model_metrics` that count, how many of them it wrote, the
    limits that could be judged, the drift reports by version, and the versions (such as
    ``fraud v3``) that the judged days were scored by.
    """

    metrics: pd.DataFrame
    written: int
    judged: list[Judged]
    pages: dict[Version, str]
    versions: frozenset[str] = frozenset()

    @property
    def breaches(self) -> list[Judged]:
        """The limits that are passed."""
        return passed(self.judged)


def look(settings: Settings, now: datetime, facts: KnownFacts) -> Look:
    """Measure once, as of ``now`` (UTC): write `model_metrics`, log to MLflow, make the reports.
    Mails nothing.
    """
    facts.begin_look()
    table = ensure_table(settings.warehouse, "model_metrics")
    remove_yet_to_come(table, now)
    measurer = DayMeasurer(settings, facts, now)
    days = measurer.days(frame_of(latest_rows(table)))
    written = append_changed(table, (row for day in days for row in measurer.rows(day)))
    rows = latest_rows(table)
    metrics = frame_of(rows)
    recent = recent_days(metrics, settings, now)
    window = window_of(measurer, settings, now)
    judged = judged_limits(window, recent, measurer, settings, now, facts)
    pages = _pages(window, settings, now, facts)
    _log(rows, pages, now, settings, facts)
    versions = frozenset(label_of((name, version)) for name, version, _ in by_version(recent))
    return Look(metrics, len(written), judged, pages, versions)


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
    alarm.tell(found.judged, now, attachments, found.versions)
    return found


def _log(
    rows: Sequence[Row], pages: dict[Version, str], now: datetime, settings: Settings,
    facts: KnownFacts,
) -> None:  # fmt: skip
    if facts.is_away:
        return
    try:
        log_look(rows, pages, now, settings.registry)
    except RegistryError as error:
        facts.note_away(error)


def _pages(
    window: Window | None, settings: Settings, now: datetime, facts: KnownFacts
) -> dict[Version, str]:
    """The report of the version that scored last, also as a file in ``monitor.folder``."""
    reference = facts.of(*window.version).reference if window else None
    if window is None or reference is None:
        return {}
    since = now - timedelta(days=settings.monitor.window_days)
    title = (
        f"{label_of(window.version)}: payments of {since:%Y-%m-%d %H:%M} to {now:%Y-%m-%d %H:%M}"
    )
    page = drift_page(window.payments, reference, window.drift, title, settings.monitor)
    settings.monitor.folder.mkdir(parents=True, exist_ok=True)
    path = settings.monitor.folder / _page_name(window.version)
    path.write_text(page, encoding="utf-8")
    log.info("drift report: %s", path)
    return {window.version: page}


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
