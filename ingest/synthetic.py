"""Synthetic card payments: seeded, endless, the same however time is cut.

A day's payments depend on the population, the seed and the day alone, so that a stream can go on
at any day without what came before. ``python -m ingest.synthetic --describe`` measures them.
"""

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console

from conf.settings import stop
from ingest.payment_files import PaymentFileError, read_payments
from ingest.synthetic_description import category_table, overall_table
from ingest.synthetic_habits import (
    BURST_SIZES,
    HABITS,
    MONTH_WEIGHTS,
    SCORES,
    WEEKDAY_WEIGHTS,
    scaled_amounts,
)
from ingest.synthetic_population import (
    HOLDER_COLUMNS,
    MERCHANTS_PER_CATEGORY,
    Population,
    make_population,
)

__all__ = ["COLUMNS", "Population", "make_population", "payments"]

COLUMNS = (
    *("trans_date_trans_time", "cc_num", "merchant", "category", "amt", "first", "last", "gender"),
    *("street", "city", "state", "zip", "lat", "long", "city_pop", "job", "dob", "trans_num"),
    *("unix_time", "merch_lat", "merch_long", "is_fraud"),
)
"""Columns of the public training files, in their order."""

BURST_CYCLE_DAYS = 730
BURST_SHARE = 0.9  # of the cards that are robbed in a cycle, once
BLEND_IN_SHARE = 0.05  # of the fraudulent payments, with amounts as card holders pay them
UNUSUAL_SHARE = 0.0005  # of the genuine payments, with amounts as thieves pay them
MERCHANT_SPREAD_DEGREES = 1.0

DAY_SECONDS = 86_400
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CYCLE, _GENUINE, _BURST = range(3)  # independent streams of random numbers

_GENUINE_AMOUNTS = [habit.genuine.amounts_usd for habit in HABITS]
_FRAUD_AMOUNTS = [habit.fraud.amounts_usd for habit in HABITS]
_MORNING = np.array([habit.genuine.morning for habit in HABITS])
_LEVEL = np.array([habit.card_level for habit in HABITS])
_FRAUD_LIMITS = np.cumsum([habit.fraud.share for habit in HABITS])
_SMALL_HOURS = np.array([habit.fraud.small_hours for habit in HABITS])
_LATE = np.array([habit.fraud.late for habit in HABITS])


_DRAWN = np.dtype(
    [
        ("second", "i8"),  # of the epoch
        ("card", "i8"),
        ("merchant", "i8"),
        ("amount", "f8"),
        ("north", "f8"),  # degrees from the home to the merchant
        ("east", "f8"),
        ("number", "V16"),  # random
        ("is_fraud", "i8"),
    ]
)
_Drawn = NDArray[np.void]  # of _DRAWN: what is drawn for a payment


def payments(population: Population, start: datetime, days: int, seed: int) -> pd.DataFrame:
    """The payments from ``start`` on for ``days`` days, in the order of time.

    Two periods that follow one another hold together exactly what the whole holds; a burst of
    fraud that has begun in one goes on in the next. Time is UTC and not before 1970.

    Returns:
        ``COLUMNS``, typed as ``ingest.payment_files.read_payments`` types them (``unix_time``:
        ``int64``, the date's own seconds). ``trans_num`` is 32 hexadecimal digits, distinct across
        populations, seeds and days (128 random bits). The index counts from 0.

    Raises:
        ValueError: ``start`` is without time zone or before 1970, ``days`` or ``seed`` negative.
    """
    if start.tzinfo is None or start < EPOCH or days < 0 or seed < 0:
        raise ValueError(
            "expected a start with time zone from 1970 on, days >= 0 and seed >= 0, "
            f"found {start}, {days} and {seed}"
        )
    first = (start - EPOCH) // timedelta(seconds=1)
    stop = first + days * DAY_SECONDS
    parts = [np.empty(0, dtype=_DRAWN)]
    robbed_on: dict[int, NDArray[np.int64]] = {}
    for day in range(first // DAY_SECONDS, -(-stop // DAY_SECONDS) if days else 0):
        cycle = day // BURST_CYCLE_DAYS
        for needed in (cycle, (day - 1) // BURST_CYCLE_DAYS):
            if needed not in robbed_on:
                robbed_on[needed] = _robbed_on(population, seed, needed)
        parts.append(_payments_of_day(population, seed, day, robbed_on))
    whole = np.concatenate(parts)
    return _frame(population, whole[(whole["second"] >= first) & (whole["second"] < stop)])


def _payments_of_day(
    population: Population, seed: int, day: int, robbed_on: dict[int, NDArray[np.int64]]
) -> _Drawn:
    parts = [_genuine(population, day, _rng(population, seed, day, _GENUINE))]
    for begun in (day - 1, day):
        cards = np.flatnonzero(robbed_on[begun // BURST_CYCLE_DAYS] == begun)
        if len(cards):
            burst = _burst(population, begun, cards, _rng(population, seed, begun, _BURST))
            parts.append(burst[burst["second"] // DAY_SECONDS == day])
    joined = np.concatenate(parts)
    return joined[np.argsort(joined["second"], kind="stable")]


def _rng(population: Population, seed: int, day: int, purpose: int) -> np.random.Generator:
    # The day before 1970 is asked for its bursts, and a seed must not be negative.
    key = [population.seed, len(population.holders), seed, purpose, day + 1]
    return np.random.default_rng(key)


def _robbed_on(population: Population, seed: int, cycle: int) -> NDArray[np.int64]:
    """For each card the day of the epoch on which its burst in ``cycle`` begins."""
    draws = _rng(population, seed, cycle, _CYCLE).random(len(population.holders))
    begun = np.floor(draws * BURST_CYCLE_DAYS / BURST_SHARE).astype(np.int64)
    return np.where(begun < BURST_CYCLE_DAYS, cycle * BURST_CYCLE_DAYS + begun, -2)


def _genuine(population: Population, day: int, rng: np.random.Generator) -> _Drawn:
    mean = population.payments_per_day * _busyness(day)
    card = np.repeat(np.arange(len(mean)), rng.poisson(mean))
    draws = rng.random((len(card), 1))
    category = (draws > population.category_limits[card]).sum(axis=1)
    is_morning = rng.random(len(card)) < _MORNING[category]
    second = rng.integers(DAY_SECONDS // 2, size=len(card))
    second += np.where(is_morning, 0, DAY_SECONDS // 2)
    level = _LEVEL[category]
    score = np.sqrt(level) * population.amount_levels[card, category]
    score += np.sqrt(1 - level) * rng.standard_normal(len(card))
    is_unusual = rng.random(len(card)) < UNUSUAL_SHARE
    amount = np.where(
        is_unusual,
        scaled_amounts(_FRAUD_AMOUNTS, category, score),
        scaled_amounts(_GENUINE_AMOUNTS, category, score),
    )
    return _drawn(rng, day * DAY_SECONDS + second, card, category, amount, is_fraud=0)


def _busyness(day: int) -> float:
    moment = EPOCH + timedelta(days=day)
    weekday = WEEKDAY_WEIGHTS[moment.weekday()] / WEEKDAY_WEIGHTS.mean()
    return float(weekday * MONTH_WEIGHTS[moment.month - 1] / MONTH_WEIGHTS.mean())


def _burst(
    population: Population, day: int, robbed: NDArray[np.intp], rng: np.random.Generator
) -> _Drawn:
    """The bursts that begin on ``day``: mostly large payments late on two days and early on both.

    The card holder goes on paying meanwhile.
    """
    sizes = np.interp(rng.standard_normal(len(robbed)), SCORES, BURST_SIZES).round().astype(int)
    card = np.repeat(robbed, sizes)
    category = np.searchsorted(_FRAUD_LIMITS, rng.random(len(card)) * _FRAUD_LIMITS[-1])
    draws = rng.random(len(card))
    is_early = draws < _SMALL_HOURS[category]
    is_late = draws >= 1 - _LATE[category]
    hour = rng.integers(
        np.select([is_early, is_late], [0, 22], 4), np.select([is_early, is_late], [4, 24], 22)
    )
    second = hour * 3600 + rng.integers(3600, size=len(card))
    second += DAY_SECONDS * rng.integers(2, size=len(card))
    score = rng.standard_normal(len(card))
    amount = np.where(
        rng.random(len(card)) < BLEND_IN_SHARE,
        scaled_amounts(_GENUINE_AMOUNTS, category, score),
        scaled_amounts(_FRAUD_AMOUNTS, category, score),
    )
    return _drawn(rng, day * DAY_SECONDS + second, card, category, amount, is_fraud=1)


def _drawn(
    rng: np.random.Generator,
    second: NDArray[np.int64],
    card: NDArray[np.int64],
    category: NDArray[np.int64],
    amount: NDArray[np.float64],
    is_fraud: int,
) -> _Drawn:
    drawn = np.empty(len(card), dtype=_DRAWN)
    drawn["second"] = second
    drawn["card"] = card
    drawn["merchant"] = category * MERCHANTS_PER_CATEGORY
    drawn["merchant"] += rng.integers(MERCHANTS_PER_CATEGORY, size=len(card))
    drawn["amount"] = amount
    for way in ("north", "east"):
        drawn[way] = rng.uniform(-MERCHANT_SPREAD_DEGREES, MERCHANT_SPREAD_DEGREES, len(card))
    drawn["number"] = np.frombuffer(rng.bytes(16 * len(card)), dtype="V16")
    drawn["is_fraud"] = is_fraud
    return drawn


def _frame(population: Population, drawn: _Drawn) -> pd.DataFrame:
    holders = {name: population.holders[name].to_numpy()[drawn["card"]] for name in HOLDER_COLUMNS}
    shop = {
        name: population.merchants[name].to_numpy()[drawn["merchant"]]
        for name in ("merchant", "category")
    }
    times = np.datetime_as_string(drawn["second"].astype("datetime64[s]"), unit="s").astype("U19")
    times.view("U1").reshape(-1, 19)[:, 10] = " "
    hexadecimal = np.frombuffer(drawn["number"].tobytes().hex().encode(), dtype="S32").astype("U32")
    columns = {
        **holders,
        **shop,
        "trans_date_trans_time": times.astype(object),
        "amt": drawn["amount"],
        "trans_num": hexadecimal.astype(object),
        "unix_time": drawn["second"],
        "merch_lat": np.round(holders["lat"] + drawn["north"], 6),
        "merch_long": np.round(holders["long"] + drawn["east"], 6),
        "is_fraud": drawn["is_fraud"],
    }
    return pd.DataFrame({name: columns[name] for name in COLUMNS})


def main() -> None:
    """Print the statistics of the generator, and of a file beside them."""
    parser = argparse.ArgumentParser(prog="python -m ingest.synthetic", description=main.__doc__)
    parser.add_argument("--describe", action="store_true", required=True)
    parser.add_argument("--against", nargs="*", default=[], help="CSV files of payments, as one")
    parser.add_argument("--cards", type=int, default=600)
    parser.add_argument("--days", type=int, default=366, help="from 2024-01-01 on")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    try:
        population = make_population(arguments.seed, arguments.cards)
        start = datetime(2024, 1, 1, tzinfo=UTC)
        sets = {"synthetic": payments(population, start, arguments.days, arguments.seed)}
        if arguments.against:
            sets[Path(arguments.against[0]).name] = read_payments(*arguments.against)
    except (ValueError, PaymentFileError) as error:
        stop(str(error), status=2)
    # Wide enough for whole rows, also into a file.
    console = Console(width=140)
    console.print(overall_table(sets))
    console.print(category_table(sets))


if __name__ == "__main__":
    main()
