"""Which limits of the settings can be judged, and which of them are passed. Pure functions on what
the monitor measured.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from conf.sections import MonitorSettings
from jobs.drift import CATEGORY, Drift
from jobs.metrics_table import KEY
from jobs.reference import SCORE
from jobs.version_facts import VersionFacts

SYSTEM = ""
"""In the place of a version: a limit that is none of a version's."""


@dataclass(frozen=True)
class LastDay:
    """The service in the last 24 h: scored ``payments``, ``rejected`` payloads, and the seconds
    from receipt to score (99th percentile; None without payments). ``last_payment`` is the time of
    receipt of the last one ever (UTC), None where there was none.
    """

    payments: int
    rejected: int
    delay_p99: float | None
    last_payment: datetime | None


@dataclass(frozen=True)
class Judged:
    """A limit that was held against what came; ``name`` and ``version`` (such as ``fraud v3``) make
    it what it is, ``text`` has the numbers. What cannot be judged makes none: it is neither passed
    nor kept.
    """

    name: str
    version: str
    text: str
    is_passed: bool = True

    @property
    def label(self) -> str:
        """Name and version, for messages."""
        return f"{self.name} ({self.version})" if self.version else self.name


def passed(judged: Iterable[Judged]) -> list[Judged]:
    """The breaches: those whose limit is passed."""
    return [one for one in judged if one.is_passed]


def drift_limits_judged(drift: Drift, version: str, limits: MonitorSettings) -> Iterator[Judged]:
    """One for each feature, the score and the mix of categories: passed where it is too far from
    the version's reference, by PSI or by effect size.
    """
    for name, psi in drift.psi.items():
        effect = drift.effect_size.get(name, 0.0)
        most_psi, most_effect = drift_limits(name, limits)
        yield Judged(
            f"drift of {name}",
            version,
            f"PSI {psi:.3f} (at most {most_psi:g}), "
            f"effect size {effect:+.2f} (at most {most_effect:g})",
            psi > most_psi or abs(effect) > most_effect,
        )


def drift_limits(name: str, limits: MonitorSettings) -> tuple[float, float]:
    """The largest PSI and effect size that are allowed."""
    if name == CATEGORY:
        return limits.max_psi, limits.max_category_effect_size
    return (limits.max_psi if name == SCORE else limits.max_feature_psi), limits.max_effect_size


def accuracy_limits_judged(
    days: pd.DataFrame, version: str, facts: VersionFacts, limits: MonitorSettings
) -> Iterator[Judged]:
    """Precision, recall and average precision, over all of ``days`` together. Precision is judged
    on ``limits.min_frauds`` hits or more, the others on as many frauds; average precision where the
    version's own is known.

    Args:
        days: matured rows of `model_metrics` of one version.
    """
    hits, frauds = float(days["hits"].sum()), float(days["frauds"].sum())
    found = float((days["precision"].astype(float).fillna(0) * days["hits"]).sum())
    span = f"on {len(days)} days until {days['day'].max()}" if len(days) else ""
    if hits >= limits.min_frauds:
        yield _at_least(
            "precision", version, found / hits, limits.min_precision, "", f"{hits:.0f} hits {span}"
        )
    if frauds < limits.min_frauds:
        return
    of_frauds = f"{frauds:.0f} frauds {span}"
    yield _at_least("recall", version, found / frauds, limits.min_recall, "", of_frauds)
    average_precision, own = mean_average_precision(days), facts.average_precision
    if own is not None and not math.isnan(average_precision):
        least = own - limits.max_average_precision_drop
        why = f": it had {own:.3f} when it was trained"
        yield _at_least("average precision", version, average_precision, least, why, of_frauds)


def _at_least(name: str, version: str, found: float, least: float, why: str, among: str) -> Judged:
    text = f"{found:.3f} (at least {round(least, 3):g}{why}), {among}"
    return Judged(name, version, text, found < least)


def service_limits_judged(
    last_day: LastDay, now: datetime, limits: MonitorSettings
) -> Iterator[Judged]:
    """Pause, delay and rejected rows, of no version. A pause is judged once there was a payment,
    the delay where there are payments, rejected rows where ``limits.min_rows`` were received.
    """
    if last_day.last_payment is not None:
        hours = (now - last_day.last_payment) / timedelta(hours=1)
        yield Judged(
            "no payments",
            SYSTEM,
            f"none for {hours:,.1f} h (at most {limits.max_silence_hours:g} h), the last one at "
            f"{last_day.last_payment:%Y-%m-%d %H:%M} UTC",
            hours > limits.max_silence_hours,
        )
    if last_day.delay_p99 is not None:
        yield Judged(
            "delay",
            SYSTEM,
            f"p99 {last_day.delay_p99:,.1f} s from receipt to score (at most "
            f"{limits.max_delay_p99_seconds:g} s) in the last 24 h",
            last_day.delay_p99 > limits.max_delay_p99_seconds,
        )
    received = last_day.payments + last_day.rejected
    if received >= limits.min_rows:
        share = last_day.rejected / received
        yield Judged(
            "rejected rows",
            SYSTEM,
            f"{share:.1%} (at most {limits.max_rejected_share:.1%}): {last_day.rejected:,} of "
            f"{received:,} in the last 24 h",
            share > limits.max_rejected_share,
        )


def by_version(metrics: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Name, version and rows of each version in rows of `model_metrics`."""
    for (name, version), rows in metrics.groupby(KEY[1:], sort=True):
        yield str(name), str(version), rows


def mean_average_precision(days: pd.DataFrame) -> float:
    """Average precision of a day, as a mean over the days, weighted with their frauds: it cannot be
    had for all of them together without their payments, and differs from that little.
    """
    known = days.dropna(subset=["average_precision"])
    weights = known["frauds"].to_numpy(np.float64)
    if not weights.sum():
        return float("nan")
    return float(np.average(known["average_precision"].to_numpy(np.float64), weights=weights))
