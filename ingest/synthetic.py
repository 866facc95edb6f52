"""Synthetic card payments: seeded, endless, the same however time is cut.

A day's payments depend on the population, the seed, the plan of the fraud and the day alone, so
that a stream can go on at any day without what came before. ``python -m ingest.synthetic
--describe`` measures them.
"""

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from conf.settings import stop
from ingest.payment_files import PaymentFileError, read_payments
from ingest.synthetic_description import category_table, overall_table
from ingest.synthetic_draws import (
    DAY_SECONDS,
    DRAWN,
    EPOCH,
    GENUINE,
    Drawn,
    draw_payments,
    generator,
)
from ingest.synthetic_fraud import (
    DEFAULT_FRAUD,
    FRAUD_AMOUNTS,
    GENUINE_AMOUNTS,
    Bursts,
    FraudPlan,
    parse_moment,
)
from ingest.synthetic_habits import HABITS, MONTH_WEIGHTS, WEEKDAY_WEIGHTS, scaled_amounts
from ingest.synthetic_population import HOLDER_COLUMNS, Population, make_population

__all__ = ["COLUMNS", "FraudPlan", "Population", "make_population", "payments"]

COLUMNS = (
    *("trans_date_trans_time", "cc_num", "merchant", "category", "amt", "first", "last", "gender"),
    *("street", "city", "state", "zip", "lat", "long", "city_pop", "job", "dob", "trans_num"),
    *("unix_time", "merch_lat", "merch_long", "is_fraud"),
)
"""Columns of the public training files, in their order."""

UNUSUAL_SHARE = 0.0005  # of the genuine payments, with amounts as thieves pay them

_MORNING = np.array([habit.genuine.morning for habit in HABITS])
_LEVEL = np.array([habit.card_level for habit in HABITS])


def payments(
    population: Population,
    start: datetime,
    days: int,
    seed: int,
    fraud: FraudPlan = DEFAULT_FRAUD,
) -> pd.DataFrame:
    """The payments from ``start`` on for ``days`` days, in the order of time.

    Two periods that follow one another hold together exactly what the whole holds; a burst of
    fraud that has begun in one goes on in the next. Time is UTC and not before 1970.

    Args:
        population: who pays.
        start: first moment.
        days: how many, of 24 hours.
        seed: of everything that is drawn.
        fraud: how often there is fraud and when it changes. Genuine payments are the same with
            any plan, and so is all before the change.

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
    bursts = Bursts(population, seed, fraud)
    parts = [np.empty(0, dtype=DRAWN)]
    for day in range(first // DAY_SECONDS, -(-stop // DAY_SECONDS) if days else 0):
        genuine = _genuine(population, day, generator(population, seed, day, GENUINE))
        joined = np.concatenate([genuine, *bursts.of_day(day)])
        parts.append(joined[np.argsort(joined["second"], kind="stable")])
    whole = np.concatenate(parts)
    return _frame(population, whole[(whole["second"] >= first) & (whole["second"] < stop)])


def _genuine(population: Population, day: int, rng: np.random.Generator) -> Drawn:
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
        scaled_amounts(FRAUD_AMOUNTS, category, score),
        scaled_amounts(GENUINE_AMOUNTS, category, score),
    )
    return draw_payments(rng, day * DAY_SECONDS + second, card, category, amount, is_fraud=0)


def _busyness(day: int) -> float:
    moment = EPOCH + timedelta(days=day)
    weekday = WEEKDAY_WEIGHTS[moment.weekday()] / WEEKDAY_WEIGHTS.mean()
    return float(weekday * MONTH_WEIGHTS[moment.month - 1] / MONTH_WEIGHTS.mean())


def _frame(population: Population, drawn: Drawn) -> pd.DataFrame:
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
    parser.add_argument("--fraud-changes-at", help="moment from which fraud is another one")
    arguments = parser.parse_args()
    try:
        population = make_population(arguments.seed, arguments.cards)
        start = datetime(2024, 1, 1, tzinfo=UTC)
        fraud = FraudPlan(parse_moment(arguments.fraud_changes_at))
        sets = {"synthetic": payments(population, start, arguments.days, arguments.seed, fraud)}
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
