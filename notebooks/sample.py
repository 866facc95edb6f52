"""What happens in the tables that the notebooks look at: payments, and what people say of them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from deltalake import DeltaTable

from conf.settings import Settings
from ingest.envelope import envelope_line
from ingest.schema import API_COLUMNS
from ingest.synthetic import FraudPlan, make_population, payments

CALL_SECONDS = 12
"""The API is asked so often: a payment is received at the next call."""

WEEK_DAYS = 7
_DAY = timedelta(days=1)
_REPORTED_SHARE = 0.9
_REPORT_DAYS = 3.0  # mean, from a fraud that was let pass to its holder's report
_LOOK_HOURS = 5.0  # mean, from a hit to an analyst's verdict


@dataclass(frozen=True)
class Plan:
    """How much there is to look at.

    Attributes:
        cards: how many pay.
        history_days: that the first version is trained on, before ``start``.
        days: whole weeks of the stream, from ``start`` on (UTC). After a quarter of them fraud
            follows another pattern.
        cycle_days: as in ``ingest.synthetic.FraudPlan``.
        seed: of everything that is drawn.
    """

    cards: int = 500
    history_days: int = 90
    days: int = 42
    cycle_days: int = 240
    start: datetime = datetime(2025, 6, 1, tzinfo=UTC)
    seed: int = 7

    def __post_init__(self) -> None:
        if self.days < 4 * WEEK_DAYS or self.days % WEEK_DAYS:
            raise ValueError(f"expected whole weeks, at least 4 of them, found {self.days} days")

    @property
    def fraud(self) -> FraudPlan:
        """How often there is fraud, and when it changes."""
        return FraudPlan(self.start + timedelta(days=self.days // 4), self.cycle_days)

    def payments(self, start: datetime, days: int) -> pd.DataFrame:
        """``ingest.synthetic.payments`` of this plan."""
        population = make_population(self.seed, self.cards)
        return payments(population, start, days, self.seed, self.fraud)

    def history(self) -> pd.DataFrame:
        """The payments that the first version is trained on."""
        return self.payments(self.start - self.history_days * _DAY, self.history_days)


def history_file(settings: Settings) -> Path:
    """The CSV file of the payments that the first version was trained on."""
    return Path(settings.warehouse.path).parent / "training.csv"


def present(settings: Settings) -> datetime:
    """The present of the tables (UTC): the midnight after the last payment. Of tables in service it
    is ``datetime.now(UTC)``.
    """
    table = DeltaTable(settings.warehouse.table("transactions")).to_pandas(columns=["event_time"])
    moment: datetime = table["event_time"].max().ceil("D").to_pydatetime()
    return moment


def envelopes(frame: pd.DataFrame, source: str, first_position: int) -> list[str]:
    """The lines that ingest lands for payments, as if it had asked every ``CALL_SECONDS``."""
    told = frame.assign(current_time=frame["unix_time"] * 1000)[list(API_COLUMNS)]
    lines = []
    for number, row in enumerate(told.to_dict("records")):
        second = row["current_time"] // 1000 // CALL_SECONDS * CALL_SECONDS + CALL_SECONDS
        received_at = datetime.fromtimestamp(second, UTC)
        lines.append(envelope_line(source, first_position + number, received_at, json.dumps(row)))
    return lines


def verdicts(scored: pd.DataFrame, truth: "pd.Series[bool]", seed: int) -> pd.DataFrame:
    """What people find out by themselves: analysts look at each hit, within hours; of the frauds
    that were let pass, holders report nine in ten, after days.

    Args:
        scored: n payments with `trans_num`, `ingested_at` and `prediction`.
        truth: whether each is a fraud, by `trans_num`.

    Returns:
        Columns of a file of verdicts: `trans_num`, `fraud`, `source`, `verified_at` (UTC),
        `analyst`.
    """
    rng = np.random.default_rng(seed)
    scored = scored.sort_values("trans_num", ignore_index=True)
    is_hit = scored["prediction"].to_numpy(dtype=bool)
    is_fraud = scored["trans_num"].map(truth).to_numpy(dtype=bool)
    is_reported = ~is_hit & is_fraud & (rng.random(len(scored)) < _REPORTED_SHARE)
    mean_hours = np.where(is_hit, _LOOK_HOURS, 24 * _REPORT_DAYS)
    late = pd.to_timedelta(rng.exponential(mean_hours), unit="h").floor("s")
    told = pd.DataFrame(
        {
            "trans_num": scored["trans_num"],
            "fraud": np.where(is_fraud, "yes", "no"),
            "source": np.where(is_hit, "analyst", "holder"),
            "verified_at": scored["ingested_at"] + late,
            "analyst": pd.Series(is_hit).map({True: "ada"}),
        }
    )
    return told[is_hit | is_reported]


def filled_in(worklist: Path, truth: "pd.Series[bool]", now: datetime) -> pd.DataFrame:
    """A list of ``jobs.review`` as an analyst hands it back at ``now`` (UTC)."""
    rows = pd.read_csv(worklist, dtype=str, keep_default_na=False)
    answers = rows["trans_num"].map(truth).map({True: "yes", False: "no"})
    return rows.assign(fraud=answers, analyst="grace", verified_at=now.isoformat())


def weeks(plan: Plan) -> Iterator[tuple[list[pd.DataFrame], datetime]]:
    """The stream's weeks: the payments of each of their days, and the moment at which the week is
    over.
    """
    for first in range(0, plan.days, WEEK_DAYS):
        start = plan.start + first * _DAY
        days = [plan.payments(start + day * _DAY, 1) for day in range(WEEK_DAYS)]
        yield days, start + WEEK_DAYS * _DAY
