"""Measure what the models do: ``python -m jobs.monitor --config conf/local.toml [--every 1h]``.

Each look writes what changed to `model_metrics` and to MLflow, makes a drift report, and mails the
limits that are passed, once. For a scheduler without ``--every``.
"""

import argparse
import logging
import os
import re
import threading
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
from jobs.tables import ensure_table
from jobs.version_facts import KnownFacts

log = logging.getLogger("jobs.monitor")

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


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


def seconds_of(text: str) -> float:
    """Seconds of ``30s``, ``10m``, ``1h`` or ``1d``.

    Raises:
        argparse.ArgumentTypeError: it is none of these, or not above 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not seconds:
        raise argparse.ArgumentTypeError(f"expected a time such as 30s, 10m or 1h, found {text!r}")
    return seconds


def watch(one_look: Callable[[], object], every_seconds: float, ended: threading.Event) -> None:
    """Look until ``ended`` is set; a look that fails is logged, and the next one tries again."""
    while not ended.is_set():
        try:
            one_look()
        except Exception:
            log.exception("this look failed; the next one is in %g s", every_seconds)
        ended.wait(every_seconds)


def main() -> int:
    """Parse arguments, look once or again and again."""
    parser = argparse.ArgumentParser(description="Measure what the models do.")
    parser.add_argument(
        "--every",
        type=seconds_of,
        metavar="TIME",
        help="look again after 30s, 10m, 1h, until ended",
    )
    settings, arguments = settings_from_arguments(parser)
    log_to_stderr()
    ended, facts, console = stop_on_signals(), KnownFacts(settings.registry), Console()

    def pause(seconds: float) -> None:
        ended.wait(seconds)

    def one_look() -> None:
        found = look_and_mail(settings, datetime.now(UTC), facts, sleep=pause)
        console.print(metrics_view(found.metrics))
        console.print(breaches_text(found.breaches), highlight=False, soft_wrap=True)

    if arguments.every is None:
        one_look()
        return 0
    log.info("monitor is running, pid %d: every %g s", os.getpid(), arguments.every)
    watch(one_look, arguments.every, ended)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
