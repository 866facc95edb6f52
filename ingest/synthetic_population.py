"""The people, cards and merchants behind the synthetic payments."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ingest.synthetic_habits import HABITS
from ingest.synthetic_names import (
    JOBS,
    MEN,
    MERCHANT_ENDINGS,
    MERCHANT_STEMS,
    STREET_KINDS,
    STREETS,
    SURNAMES,
    TOWNS,
    WOMEN,
)

MERCHANTS_PER_CATEGORY = len(MERCHANT_STEMS)
BORN_BEFORE = np.datetime64("2025-01-01")
SHARE_OF_WOMEN = 0.53
YOUNGEST, OLDEST = 14, 90
HOME_SPREAD_DEGREES = 0.05
PAYMENTS_PER_DAY_MEAN, PAYMENTS_PER_DAY_DEVIATION = 2.2, 1.6
FEWEST_PAYMENTS_PER_DAY = 0.1
# No payment card begins with 8, so that no number made up here can be a real one.
CARD_PREFIX, ACCOUNT_DIGITS = 8, 14

HOLDER_COLUMNS = (
    *("cc_num", "first", "last", "gender", "street", "city", "state", "zip", "lat", "long"),
    *("city_pop", "job", "dob"),
)


@dataclass(frozen=True, eq=False)
class Population:
    """Card holders and merchants; one card a holder. Made by ``make_population``.

    Attributes:
        seed: what it was made from.
        holders: ``HOLDER_COLUMNS``, a row a card, typed as ``ingest.payment_files`` types them.
        merchants: ``merchant`` and ``category`` (str), 50 of each category, in the order of
            ``HABITS``.
        payments_per_day: mean of each card, float64.
        category_limits: cumulated shares of the categories by card, float64, (cards, categories).
        amount_levels: how high a card's amounts are, as a standard score by category, float64,
            (cards, categories).
    """

    seed: int
    holders: pd.DataFrame = field(repr=False)
    merchants: pd.DataFrame = field(repr=False)
    payments_per_day: NDArray[np.float64] = field(repr=False)
    category_limits: NDArray[np.float64] = field(repr=False)
    amount_levels: NDArray[np.float64] = field(repr=False)


def make_population(seed: int, cards: int) -> Population:
    """The population of ``cards`` card holders that belongs to ``seed``.

    Raises:
        ValueError: ``seed`` is negative or ``cards`` less than 1.
    """
    if seed < 0 or cards < 1:
        raise ValueError(f"expected seed >= 0 and cards >= 1, found {seed} and {cards}")
    rng = np.random.default_rng([seed, cards])
    is_woman = rng.random(cards) < SHARE_OF_WOMEN
    merchants = [
        (f"fraud_{stem} {MERCHANT_ENDINGS[habit.category]}", habit.category)
        for habit in HABITS
        for stem in MERCHANT_STEMS
    ]
    shape = (PAYMENTS_PER_DAY_MEAN / PAYMENTS_PER_DAY_DEVIATION) ** 2
    per_day = rng.gamma(shape, PAYMENTS_PER_DAY_MEAN / shape, cards)
    return Population(
        seed=seed,
        holders=_holders(rng, is_woman),
        merchants=pd.DataFrame(merchants, columns=["merchant", "category"]),
        payments_per_day=np.maximum(per_day, FEWEST_PAYMENTS_PER_DAY),
        category_limits=_category_limits(rng, is_woman),
        amount_levels=rng.standard_normal((cards, len(HABITS))),
    )


def _holders(rng: np.random.Generator, is_woman: NDArray[np.bool_]) -> pd.DataFrame:
    cards = len(is_woman)
    town = rng.integers(len(TOWNS), size=cards)
    names, states, latitudes, longitudes, inhabitants, postal_codes = zip(*TOWNS, strict=True)
    postal_code = np.array(postal_codes)[town] + rng.integers(20, size=cards)
    house = rng.integers(1, 9999, size=cards)
    street, kind = _pick(rng, STREETS, cards), _pick(rng, STREET_KINDS, cards)
    age_years = YOUNGEST + (OLDEST - YOUNGEST) * rng.beta(1.6, 2.2, cards)
    born = BORN_BEFORE - np.ceil(age_years * 365.25).astype("timedelta64[D]")
    return pd.DataFrame(
        {
            "cc_num": _card_numbers(rng, cards),
            "first": np.where(is_woman, _pick(rng, WOMEN, cards), _pick(rng, MEN, cards)),
            "last": _pick(rng, SURNAMES, cards),
            "gender": np.where(is_woman, "F", "M").astype(object),
            "street": [f"{a} {b} {c}" for a, b, c in zip(house, street, kind, strict=True)],
            "city": np.array(names, dtype=object)[town],
            "state": np.array(states, dtype=object)[town],
            "zip": [f"{code:05d}" for code in postal_code],
            "lat": _near(rng, np.array(latitudes)[town]),
            "long": _near(rng, np.array(longitudes)[town]),
            "city_pop": np.array(inhabitants, dtype=np.int64)[town],
            "job": _pick(rng, JOBS, cards),
            "dob": np.datetime_as_string(born).astype(object),
        }
    )


def _pick(rng: np.random.Generator, names: tuple[str, ...], size: int) -> NDArray[np.object_]:
    return np.array(names, dtype=object)[rng.integers(len(names), size=size)]


def _near(rng: np.random.Generator, degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = rng.uniform(-HOME_SPREAD_DEGREES, HOME_SPREAD_DEGREES, len(degrees))
    return np.round(degrees + spread, 4)


def _card_numbers(rng: np.random.Generator, cards: int) -> list[str]:
    """16 digits each, no two alike, the last one Luhn's check digit."""
    slot = 10**ACCOUNT_DIGITS // cards
    account = rng.permutation(cards) * slot + rng.integers(slot, size=cards)
    number = CARD_PREFIX * 10**ACCOUNT_DIGITS + account
    digits = number[:, None] // 10 ** np.arange(ACCOUNT_DIGITS + 1) % 10
    digits[:, ::2] *= 2  # from the right, beginning beside the check digit
    total = (digits // 10 + digits % 10).sum(axis=1)
    return [str(value) for value in number * 10 + -total % 10]


def _category_limits(rng: np.random.Generator, is_woman: NDArray[np.bool_]) -> NDArray[np.float64]:
    shares = np.array([habit.genuine.share for habit in HABITS])
    spreads = np.array([habit.card_spread for habit in HABITS])
    women = np.array([habit.women for habit in HABITS])
    noise = rng.standard_normal((len(is_woman), len(HABITS)))
    men = 1 / (1 + SHARE_OF_WOMEN * (women - 1))  # so that both together keep the shares
    weights = shares * np.exp(spreads * noise) * np.where(is_woman[:, None], women * men, men)
    limits: NDArray[np.float64] = np.cumsum(weights, axis=1)
    return limits / limits[:, -1:]
