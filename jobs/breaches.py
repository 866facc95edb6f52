"""Which limits of the settings are passed. Pure functions on what the monitor measured."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from conf.sections import MonitorSettings
from jobs.drift import CATEGORY, Drift
from jobs.metrics_table import KEY
from jobs.reference import SCORE
from jobs.version_facts import VersionFacts

SYSTEM = ""
"""In the place of a version: a breach that is none of a version's."""


@dataclass(frozen=True)
class Breach:
    """A limit that is passed; ``name`` and ``version`` (such as ``fraud v3``) make it what it is,
    ``text`` has the numbers.
    """

    name: str
    version: str
    text: str

    @property
    def label(self) -> str:
        """Name and version, for messages."""
        return f"{self.name} ({self.version})" if self.version else self.name


def drift_breaches(drift: Drift, version: str, limits: MonitorSettings) -> Iterator[Breach]:
    """One for each feature, the score or the mix of categories that is too far from the version's
    reference, by PSI or by effect size.
    """
    for name, psi in drift.psi.items():
        effect = drift.effect_size.get(name, 0.0)
        most_psi, most_effect = drift_limits(name, limits)
        if psi > most_psi or abs(effect) > most_effect:
            yield Breach(
                f"drift of {name}",
                version,
                f"PSI {psi:.3f} (at most {most_psi:g}), "
                f"effect size {effect:+.2f} (at most {most_effect:g})",
            )


def drift_limits(name: str, limits: MonitorSettings) -> tuple[float, float]:
    """The largest PSI and effect size that are allowed."""
    if name == CATEGORY:
        return limits.max_psi, limits.max_category_effect_size
    return (limits.max_psi if name == SCORE else limits.max_feature_psi), limits.max_effect_size


def accuracy_breaches(
    days: pd.DataFrame, version: str, facts: VersionFacts, limits: MonitorSettings
) -> Iterator[Breach]:
    """Precision, recall and average precision that are too low, over all of ``days`` together.

    Args:
        days: matured rows of `model_metrics` of one version.
    """
    hits, frauds = float(days["hits"].sum()), float(days["frauds"].sum())
    found = float((days["precision"].astype(float).fillna(0) * days["hits"]).sum())
    span = f"on {len(days)} days until {days['day'].max()}" if len(days) else ""
    if hits >= limits.min_frauds and found / hits < limits.min_precision:
        yield Breach(
            "precision",
            version,
            f"{found / hits:.3f} (at least {limits.min_precision:g}), {hits:.0f} hits {span}",
        )
    if frauds < limits.min_frauds:
        return
    of_frauds = f"{frauds:.0f} frauds {span}"
    if found / frauds < limits.min_recall:
        yield Breach(
            "recall",
            version,
            f"{found / frauds:.3f} (at least {limits.min_recall:g}), {of_frauds}",
        )
    average_precision = mean_average_precision(days)
    if facts.average_precision is None or math.isnan(average_precision):
        return
    least = facts.average_precision - limits.max_average_precision_drop
    if average_precision < least:
        yield Breach(
            "average precision",
            version,
            f"{average_precision:.3f} (at least {least:.3f}: it had {facts.average_precision:.3f} "
            f"when it was trained), {of_frauds}",
        )


def system_breaches(
    delay_p99: float | None, payments: int, rejected: int, limits: MonitorSettings
) -> Iterator[Breach]:
    """Delay and rejected rows that are too many, in the last 24 h.

    Args:
        delay_p99: seconds from receipt to score; None without payments.
        payments: scored ones.
        rejected: payloads that are no valid payment.
    """
    if delay_p99 is not None and delay_p99 > limits.max_delay_p99_seconds:
        yield Breach(
            "delay",
            SYSTEM,
            f"p99 {delay_p99:,.1f} s from receipt to score (at most "
            f"{limits.max_delay_p99_seconds:g} s) in the last 24 h",
        )
    share = rejected / max(payments + rejected, 1)
    if share > limits.max_rejected_share:
        yield Breach(
            "rejected rows",
            SYSTEM,
            f"{share:.1%} (at most {limits.max_rejected_share:.1%}): {rejected:,} of "
            f"{payments + rejected:,} in the last 24 h",
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
