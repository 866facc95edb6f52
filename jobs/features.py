"""Every feature, defined once: the score job and training call the same functions.

A feature is a function from payments and their cards' past to a float64 array of the same length.
Its name is the feature's name, its docstring says what it is; ``docs/features.md`` is made from
these definitions (``python -m jobs.describe_features``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobs.history import Integers, Records
from jobs.windows import DAY, HOUR, SECOND, Floats, Past

Arrays = Mapping[str, npt.NDArray[np.generic]]

EARTH_RADIUS_KM = 6371.0088  # mean radius R1, IUGG
DAYS_A_YEAR = 365.2425  # mean length of a Gregorian year
NIGHT_BEGINS, NIGHT_ENDS = 22, 4  # hours, UTC
_SIZES_CENTS = np.rint(100 * np.exp(np.linspace(0, np.log(3000), 28))).astype(np.int64)

FEATURE_INPUTS = (
    "cc_num", "category", "event_time", "amt", "dob", "lat", "long", "merch_lat", "merch_long",
)  # fmt: skip
"""Columns that features are made from: `cc_num` and `category` text, `event_time` and `dob`
datetimes, the others float64."""


@dataclass(frozen=True)
class Payments:
    """Payments to compute features of: ``now`` holds their own ``FEATURE_INPUTS`` (but the text),
    ``past`` what their cards did before. Arrays of one length n, sorted by card and event time.
    """

    now: Arrays
    past: Past


Compute = Callable[[Payments], Floats]


@dataclass(frozen=True)
class Feature:
    """A feature's name, unit, window and the function that computes it."""

    name: str
    unit: str
    window: str
    compute: Compute

    @property
    def meaning(self) -> str:
        """The first line of the definition's docstring."""
        return (self.compute.__doc__ or "").strip().splitlines()[0]


FEATURES: list[Feature] = []

NO_WINDOW = "the payment itself"


def _feature(unit: str, window: str = NO_WINDOW) -> Callable[[Compute], Compute]:
    def register(compute: Compute) -> Compute:
        FEATURES.append(Feature(compute.__name__, unit, window, compute))
        return compute

    return register


@_feature(unit="US dollars")
def amount_usd(payments: Payments) -> Floats:
    """Amount of the payment."""
    return payments.now["amt"].astype(np.float64)


@_feature(unit="hours, 0 to 23")
def hour_of_day(payments: Payments) -> Floats:
    """Hour of the event time (UTC)."""
    hours = payments.now["event_time"].astype("datetime64[h]").astype(np.int64)
    return (hours % 24).astype(np.float64)


@_feature(unit="days, 0 to 6, Monday is 0")
def day_of_week(payments: Payments) -> Floats:
    """Weekday of the event time (UTC)."""
    days = payments.now["event_time"].astype("datetime64[D]").astype(np.int64)
    return ((days + 3) % 7).astype(np.float64)  # 1970-01-01 was a Thursday


@_feature(unit="years")
def age_years(payments: Payments) -> Floats:
    """Age of the card holder on the day of the payment."""
    born = payments.now["dob"].astype("datetime64[D]")
    days = (payments.now["event_time"].astype("datetime64[D]") - born).astype(np.int64)
    return np.where(np.isnat(born), np.nan, days / DAYS_A_YEAR)


@_feature(unit="kilometres")
def home_to_merchant_km(payments: Payments) -> Floats:
    """Great-circle distance from the card holder's home to the merchant (haversine formula)."""
    latitude, longitude, merchant_latitude, merchant_longitude = (
        np.radians(payments.now[name].astype(np.float64))
        for name in ("lat", "long", "merch_lat", "merch_long")
    )
    chord = (
        np.sin((merchant_latitude - latitude) / 2) ** 2
        + np.cos(latitude)
        * np.cos(merchant_latitude)
        * np.sin((merchant_longitude - longitude) / 2) ** 2
    )
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(chord, 1.0))))


@_feature(unit="kind (a code)")
def payment_kind(payments: Payments) -> Floats:
    """Category, size of the amount and part of the day as one code; a model learns what it means.

    The code is 64 times the category's, plus twice the number of the amount's class (28 bounds
    from 1 to 3,000 US dollars, each 1.35 times the one before), plus 1 between 22:00 and 04:00.
    """
    return kind_of(payments.past.new).astype(np.float64)


@_feature(unit="payments", window="today (UTC)")
def payment_count_by_card_today(payments: Payments) -> Floats:
    """Earlier payments of the card on the same day."""
    return payments.past.since_midnight().count()


@_feature(unit="payments", window="yesterday (UTC)")
def payment_count_by_card_yesterday(payments: Payments) -> Floats:
    """Payments of the card on the day before."""
    return payments.past.since_midnight(days_back=1).count()


@_feature(unit="kind (a code)", window="today (UTC)")
def payment_kind_by_card_today_1(payments: Payments) -> Floats:
    """Kind of the card's last payment of the same day; missing where there is none."""
    return payments.past.since_midnight().back(1, kind_of)


@_feature(unit="kind (a code)", window="today (UTC)")
def payment_kind_by_card_today_2(payments: Payments) -> Floats:
    """Kind of the card's last payment but one of the same day; missing where there is none."""
    return payments.past.since_midnight().back(2, kind_of)


@_feature(unit="kind (a code)", window="today (UTC)")
def payment_kind_by_card_today_3(payments: Payments) -> Floats:
    """Kind of the card's last payment but two of the same day; missing where there is none."""
    return payments.past.since_midnight().back(3, kind_of)


@_feature(unit="kind (a code)", window="yesterday (UTC)")
def payment_kind_by_card_yesterday_1(payments: Payments) -> Floats:
    """Kind of the card's last payment of the day before; missing where there is none."""
    return payments.past.since_midnight(days_back=1).back(1, kind_of)


@_feature(unit="kind (a code)", window="yesterday (UTC)")
def payment_kind_by_card_yesterday_2(payments: Payments) -> Floats:
    """Kind of the card's last payment but one of the day before; missing where there is none."""
    return payments.past.since_midnight(days_back=1).back(2, kind_of)


@_feature(unit="seconds", window="30 days")
def seconds_since_previous_by_card(payments: Payments) -> Floats:
    """Time since the card's previous payment; missing where there is none."""
    return (payments.past.new.time - payments.past.within(30 * DAY).back(1, _time)) / SECOND


@_feature(unit="payments", window="24 h")
def payment_count_by_card_24h(payments: Payments) -> Floats:
    """Earlier payments of the card."""
    return payments.past.within(24 * HOUR).count()


@_feature(unit="US dollars", window="24 h")
def amount_usd_sum_by_card_24h(payments: Payments) -> Floats:
    """Sum of the amounts of the card's earlier payments."""
    return payments.past.within(24 * HOUR).sum(_cents) / 100


@_feature(unit="payments", window="48 h")
def payment_count_at_night_by_card_48h(payments: Payments) -> Floats:
    """Earlier payments of the card between 22:00 and 04:00."""
    return payments.past.within(48 * HOUR).sum(is_at_night).astype(np.float64)


@_feature(unit="payments", window="30 days")
def payment_count_by_card_30d(payments: Payments) -> Floats:
    """Earlier payments of the card."""
    return payments.past.within(30 * DAY).count()


@_feature(unit="US dollars", window="30 days")
def amount_usd_mean_by_card_30d(payments: Payments) -> Floats:
    """Mean amount of the card's earlier payments; missing where there are none."""
    span = payments.past.within(30 * DAY)
    count = span.count()
    return np.where(count > 0, span.sum(_cents) / np.maximum(count, 1), np.nan) / 100


def _cents(records: Records) -> Integers:
    return records.cents


def _time(records: Records) -> Integers:
    return records.time


def is_at_night(records: Records) -> Integers:
    """1 between 22:00 and 04:00 (UTC), else 0: int64 of shape (n,)."""
    hour = records.time // HOUR % 24
    return ((hour >= NIGHT_BEGINS) | (hour < NIGHT_ENDS)).astype(np.int64)


def kind_of(records: Records) -> Integers:
    """``payment_kind`` of each: int64 of shape (n,)."""
    size = np.searchsorted(_SIZES_CENTS, records.cents, side="right")
    return records.category.astype(np.int64) * 64 + size * 2 + is_at_night(records)


def is_kind_at_night(kinds: Floats) -> npt.NDArray[np.bool_]:
    """Whether ``payment_kind`` is one of 22:00 to 04:00; not where it is missing."""
    return np.asarray(kinds % 2 == 1)


FEATURE_NAMES = tuple(feature.name for feature in FEATURES)
