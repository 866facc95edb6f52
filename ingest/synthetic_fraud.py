"""Fraud among the synthetic payments: which cards are robbed when, and what thieves then pay."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

import numpy as np
from numpy.typing import NDArray

from ingest.synthetic_draws import (
    BURST,
    CHANGED_BURST,
    CYCLE,
    DAY_SECONDS,
    Drawn,
    draw_payments,
    generator,
)
from ingest.synthetic_habits import (
    BURST_SIZES,
    CHANGED_BURST_SIZES,
    CHANGED_FRAUD,
    CHANGED_HOURS,
    CHANGED_PAUSE_SECONDS,
    HABITS,
    SCORES,
    scaled_amounts,
)
from ingest.synthetic_population import Population

BURST_CYCLE_DAYS = 730
BURST_SHARE = 0.9  # of the cards that are robbed in a cycle, once
BLEND_IN_SHARE = 0.05  # of the fraudulent payments, with amounts as card holders pay them

GENUINE_AMOUNTS = [habit.genuine.amounts_usd for habit in HABITS]
FRAUD_AMOUNTS = [habit.fraud.amounts_usd for habit in HABITS]
_FRAUD_LIMITS = np.cumsum([habit.fraud.share for habit in HABITS])
_SMALL_HOURS = np.array([habit.fraud.small_hours for habit in HABITS])
_LATE = np.array([habit.fraud.late for habit in HABITS])
_CHANGED = [CHANGED_FRAUD.get(habit.category) for habit in HABITS]
_CHANGED_LIMITS = np.cumsum([changed.share if changed else 0 for changed in _CHANGED])
_CHANGED_AMOUNTS = [
    changed.amounts_usd if changed else habit.fraud.amounts_usd
    for habit, changed in zip(HABITS, _CHANGED, strict=True)
]


@dataclass(frozen=True)
class FraudPlan:
    """How often there is fraud and when it changes; genuine payments are the same with any plan.

    Attributes:
        pattern_change: a burst follows the changed pattern if the UTC day on which it begins
            starts at this moment or later; None: it never changes.
        cycle_days: 90 % of the cards are robbed once in so many days.

    Raises:
        ValueError: ``pattern_change`` is without time zone, or ``cycle_days`` less than 1.
    """

    pattern_change: datetime | None = None
    cycle_days: int = BURST_CYCLE_DAYS

    def __post_init__(self) -> None:
        if self.pattern_change and self.pattern_change.tzinfo is None:
            raise ValueError(
                "expected a change of the fraud with its time zone, such as 2025-07-01T00:00Z, "
                f"found {self.pattern_change.isoformat()}"
            )
        if self.cycle_days < 1:
            raise ValueError(f"expected a cycle of at least 1 day, found {self.cycle_days}")

    def differences(self) -> list[str]:
        """What differs from the default, in words."""
        told = []
        if self.pattern_change:
            told.append(f"fraud changes at {self.pattern_change.astimezone(UTC):%Y-%m-%d %H:%M}")
        if self.cycle_days != BURST_CYCLE_DAYS:
            told.append(f"a cycle of bursts takes {self.cycle_days} days")
        return told


DEFAULT_FRAUD = FraudPlan()


def parse_moment(text: str | None) -> datetime | None:
    """The moment that ``text`` tells in ISO 8601: with its zone, or a day, which begins in UTC;
    None where there is no text.

    Raises:
        ValueError: it tells none, or none with its zone.
    """
    if text is None:
        return None
    with suppress(ValueError):
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment
    raise ValueError(
        "expected a day such as 2025-07-01 or a moment with its zone such as 2025-07-01T00:00Z, "
        f"found {text!r}"
    )


class Bursts:
    """The bursts of fraud among the payments of a population and a seed."""

    def __init__(self, population: Population, seed: int, plan: FraudPlan) -> None:
        self._population, self._seed, self._cycle_days = population, seed, plan.cycle_days
        self._change = plan.pattern_change.timestamp() if plan.pattern_change else np.inf
        self._robbed_on: dict[int, NDArray[np.int64]] = {}

    def of_day(self, day: int) -> list[Drawn]:
        """The fraudulent payments of a day of the epoch, by the day on which their burst began."""
        begun = [self._begun_on(day - 1), self._begun_on(day)]
        return [burst[burst["second"] // DAY_SECONDS == day] for burst in begun]

    def _begun_on(self, day: int) -> Drawn:
        robbed = np.flatnonzero(self._robbed_in(day // self._cycle_days) == day)
        is_changed = day * DAY_SECONDS >= self._change
        stream, burst = (CHANGED_BURST, _changed_burst) if is_changed else (BURST, _burst)
        return burst(day, robbed, generator(self._population, self._seed, day, stream))

    def _robbed_in(self, cycle: int) -> NDArray[np.int64]:
        """For each card the day of the epoch on which its burst in ``cycle`` begins."""
        if cycle not in self._robbed_on:
            rng = generator(self._population, self._seed, cycle, CYCLE)
            draws = rng.random(len(self._population.holders))
            begun = np.floor(draws * self._cycle_days / BURST_SHARE).astype(np.int64)
            self._robbed_on[cycle] = np.where(
                begun < self._cycle_days, cycle * self._cycle_days + begun, -2
            )
        return self._robbed_on[cycle]


def _burst(day: int, robbed: NDArray[np.intp], rng: np.random.Generator) -> Drawn:
    """The bursts that begin on ``day``: mostly large payments late on two days and early on both.

    The card holder goes on paying meanwhile.
    """
    card = np.repeat(robbed, _sizes(BURST_SIZES, len(robbed), rng))
    category = np.searchsorted(_FRAUD_LIMITS, rng.random(len(card)) * _FRAUD_LIMITS[-1])
    draws = rng.random(len(card))
    is_early = draws < _SMALL_HOURS[category]
    is_late = draws >= 1 - _LATE[category]
    hour = rng.integers(
        np.select([is_early, is_late], [0, 22], 4), np.select([is_early, is_late], [4, 24], 22)
    )
    second = hour * 3600 + rng.integers(3600, size=len(card))
    second += DAY_SECONDS * rng.integers(2, size=len(card))
    amount = _amounts(FRAUD_AMOUNTS, category, rng)
    return draw_payments(rng, day * DAY_SECONDS + second, card, category, amount, is_fraud=1)


def _changed_burst(day: int, robbed: NDArray[np.intp], rng: np.random.Generator) -> Drawn:
    """The bursts of the changed pattern: many middling payments within some hours of ``day``."""
    sizes = _sizes(CHANGED_BURST_SIZES, len(robbed), rng)
    begin, end = CHANGED_HOURS
    first = np.repeat(rng.integers(begin * 3600, end * 3600, size=len(robbed)), sizes)
    span = np.repeat(sizes * CHANGED_PAUSE_SECONDS, sizes)
    card = np.repeat(robbed, sizes)
    second = first + rng.integers(span)
    category = np.searchsorted(_CHANGED_LIMITS, rng.random(len(card)) * _CHANGED_LIMITS[-1])
    amount = _amounts(_CHANGED_AMOUNTS, category, rng)
    return draw_payments(rng, day * DAY_SECONDS + second, card, category, amount, is_fraud=1)


def _sizes(table: tuple[int, ...], bursts: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.interp(rng.standard_normal(bursts), SCORES, table).round().astype(np.int64)


def _amounts(
    tables: list[tuple[float, ...]], category: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float64]:
    score = rng.standard_normal(len(category))
    return np.where(
        rng.random(len(category)) < BLEND_IN_SHARE,
        scaled_amounts(GENUINE_AMOUNTS, category, score),
        scaled_amounts(tables, category, score),
    )
