"""Which days a look measures anew, and their rows of `model_metrics`."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from conf.settings import Settings
from jobs.day_measures import (
    DAY,
    PAYMENT_COLUMNS,
    VERSION,
    day_rows,
    drift_columns,
    has_matured,
)
from jobs.drift import CATEGORY, Drift, drift_from
from jobs.label_ledger import LabelLedger
from jobs.received import Received
from jobs.reference import SCORE
from jobs.version_facts import KnownFacts

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
SAMPLE_ROWS = 200_000
"""Payments that drift is told from, at most; PSI is then exact to 0.0001."""

SETTLED_AFTER = timedelta(days=3)
"""So long after a day its payments are scored and its mails sent or given up."""

COMMITTED_WITHIN = timedelta(hours=1)
"""So long a verdict may take from its `recorded_at` until it stands in the table."""


class DayMeasurer:
    """Measures days from the tables as they stood when this was made."""

    def __init__(self, settings: Settings, facts: KnownFacts, now: datetime) -> None:
        self._settings, self._facts, self._now = settings, facts, now
        self.transactions = Received(settings.warehouse, "transactions", "ingested_at")
        self.rejected = Received(settings.warehouse, "rejected", "received_at")
        self._alerts = Received(settings.warehouse, "alerts", "recorded_at")
        self._verdicts = LabelLedger(settings.warehouse).standing(now)

    def days(self, stored: pd.DataFrame) -> list[datetime]:
        """The UTC midnights of the days whose rows may have changed since those ``stored`` (as
        ``jobs.metrics_table.latest_metrics`` returns them): days without a row, days that were not
        settled or have matured since, and, however old, days that new verdicts are about and days
        whose drift was not known and can be told now.
        """
        maturity = self._settings.label.maturity_days
        matured = stored.loc[stored["is_matured"].astype(bool), "day"]
        since = _midnight(matured.max()) + DAY if len(matured) else BEGINNING
        computed = {
            _midnight(day): moment
            for day, moment in stored.groupby("day")["computed_at"].max().items()
        }
        young = {
            day
            for day in self.transactions.days(since, self._now)
            if computed.get(day, BEGINNING) < day + DAY + SETTLED_AFTER
            or has_matured(day, self._now, maturity)
        }
        last = max(computed.values(), default=BEGINNING)
        return sorted(young | self._judged_after(last) | self._without_drift(stored))

    def _judged_after(self, moment: datetime) -> set[datetime]:
        """The days with verdicts that were recorded after ``moment``."""
        recorded = self._verdicts["recorded_at"] > moment - COMMITTED_WITHIN
        return self.transactions.days_of(self._verdicts.index[recorded].to_list(), BEGINNING)

    def _without_drift(self, stored: pd.DataFrame) -> set[datetime]:
        """The days with rows that lack their drift, though their version has a reference and enough
        of their payments come into a sample.
        """
        of_day = stored.groupby("day")["payments"].transform("sum")
        drawn = stored["payments"] * (SAMPLE_ROWS / of_day).clip(upper=1)
        lacking = stored[stored["psi"].isna() & (drawn >= self._settings.monitor.min_rows)]
        return {
            _midnight(row["day"])
            for row in lacking.to_dict("records")
            if self._facts.of(row["model_name"], row["model_version"]).reference
        }

    def rows(self, day: datetime) -> Iterator[dict[str, Any]]:
        """The rows of a day: one a version."""
        until = min(day + DAY, self._now)
        payments = self.transactions.frames(day, until, PAYMENT_COLUMNS)
        alerts = self._alerts.rows(day, self._now, ["trans_num", "status"])
        mailed = frozenset(alerts.loc[alerts["status"] == "sent", "trans_num"])
        sample = self.sample(day, until)
        for row in day_rows(
            day, payments, self._verdicts, mailed, self.rejected.count(day, until), self._now,
            self._settings,
        ):  # fmt: skip
            name, version = row["model_name"], row["model_version"]
            own = sample[(sample[VERSION] == (name, version)).all(axis=1)]
            yield row | drift_columns(self.drift(own, name, version))

    def sample(self, since: datetime, until: datetime) -> pd.DataFrame:
        """Payments to tell drift from: features, score, category, version, `ingested_at`."""
        columns = [SCORE, CATEGORY, "ingested_at", *VERSION]
        return self.transactions.sample(since, until, columns, SAMPLE_ROWS)

    def drift(self, payments: pd.DataFrame, name: str, version: str) -> Drift | None:
        """How far ``payments`` are from the version's reference; None without a reference, or with
        fewer payments than ``monitor.min_rows``.
        """
        if len(payments) < self._settings.monitor.min_rows:
            return None
        reference = self._facts.of(name, version).reference
        return drift_from(reference, payments) if reference else None


def _midnight(day: Any) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
