"""What the monitor's limits are held against: the window of payments that drift is judged by, the
days that accuracy is judged by, and the service's last 24 h.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from conf.settings import Settings
from jobs.breaches import (
    Judged,
    LastDay,
    accuracy_limits_judged,
    by_version,
    drift_limits_judged,
    service_limits_judged,
)
from jobs.day_measures import DAY, VERSION
from jobs.drift import Drift
from jobs.monitor_days import DayMeasurer
from jobs.monitor_runs import Version
from jobs.reference import SCORE
from jobs.version_facts import KnownFacts


@dataclass(frozen=True)
class Window:
    """The payments that drift is judged by, those of other versions without score. ``is_whole``
    says that no pause in them is longer than ``monitor.max_silence_hours``.
    """

    payments: pd.DataFrame
    version: Version
    drift: Drift
    is_whole: bool


def window_of(measurer: DayMeasurer, settings: Settings, now: datetime) -> Window | None:
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
    is_whole = _longest_pause(payments["ingested_at"], since, now) <= timedelta(
        hours=settings.monitor.max_silence_hours
    )
    return Window(payments, version, drift, is_whole)


def _longest_pause(received: "pd.Series[pd.Timestamp]", since: datetime, until: datetime) -> Any:
    """The longest time without a payment in [since, until), as a timedelta."""
    between = received.sort_values().diff().max()  # NaT of one payment, which max leaves out
    return pd.Series([received.min() - since, between, until - received.max()]).max()


def judged_limits(
    window: Window | None,
    recent: pd.DataFrame,
    measurer: DayMeasurer,
    settings: Settings,
    now: datetime,
    facts: KnownFacts,
) -> list[Judged]:
    """All limits that can be judged at ``now``; ``recent`` as ``recent_days`` returns it."""
    return [
        *_drift_judged(window, settings),
        *_accuracy_judged(recent, settings, facts),
        *service_limits_judged(_last_day(measurer, now), now, settings.monitor),
    ]


def recent_days(metrics: pd.DataFrame, settings: Settings, now: datetime) -> pd.DataFrame:
    """The rows of the days that accuracy is judged by, and of those that are not matured yet."""
    days = settings.label.maturity_days + settings.monitor.window_days
    return metrics[metrics["day"] >= (now - timedelta(days=days)).date()]


def _drift_judged(window: Window | None, settings: Settings) -> Iterator[Judged]:
    # A window with a pause has other weekdays and hours than the reference.
    if window and window.is_whole:
        yield from drift_limits_judged(window.drift, label_of(window.version), settings.monitor)


def _accuracy_judged(
    recent: pd.DataFrame, settings: Settings, facts: KnownFacts
) -> Iterator[Judged]:
    for name, version, rows in by_version(recent[recent["is_matured"].astype(bool)]):
        own = facts.of(name, version)
        yield from accuracy_limits_judged(rows, label_of((name, version)), own, settings.monitor)


def _last_day(measurer: DayMeasurer, now: datetime) -> LastDay:
    scored = measurer.transactions.rows(now - DAY, now, ["ingested_at", "scored_at"])
    delays = (scored["scored_at"] - scored["ingested_at"]).dt.total_seconds()
    return LastDay(
        payments=len(scored),
        rejected=measurer.rejected.count(now - DAY, now),
        delay_p99=float(delays.quantile(0.99)) if len(delays) else None,
        last_payment=measurer.transactions.last(now),
    )


def label_of(version: Version) -> str:
    """Such as ``fraud v3``."""
    return f"{version[0]} v{version[1]}"
