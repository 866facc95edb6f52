"""Reasons for a hit: changes of a payment, or of its card's past, to what is ordinary, each with
the words for what it changes.

Changes and words know features and columns of the payment only, so that any model can be explained;
``jobs.explain`` weighs them with the model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from jobs.features import DAYS_A_YEAR, is_kind_at_night
from jobs.reason_words import (
    Row,
    age_in_words,
    amount_in_words,
    category_in_words,
    day_before_in_words,
    distance_in_words,
    hour_in_words,
    last_day_in_words,
    nights_in_words,
    pause_in_words,
)
from jobs.windows import Floats

ORDINARY_AMOUNT_USD = 50.0
ORDINARY_CATEGORY = "food_dining"
ORDINARY_HOUR = 12
ORDINARY_AGE_YEARS = 45
ORDINARY_PAUSE_SECONDS = 12 * 3600.0

DAY_SECONDS = 86400.0
_KINDS = [f"payment_kind_by_card_today_{n}" for n in (1, 2, 3)]
_KINDS += [f"payment_kind_by_card_yesterday_{n}" for n in (1, 2)]

Arrays = Mapping[str, npt.NDArray[Any]]
Changes = dict[str, npt.NDArray[Any]]
Change = Callable[[Arrays], Changes]
Words = Callable[[Row], str | None]


@dataclass(frozen=True)
class Reason:
    """A change and its words.

    ``change`` takes ``jobs.model.AVAILABLE_INPUTS`` as arrays of one length and returns the columns
    that differ then, of the payment itself its own columns and not the features that follow from
    them. ``words`` takes those of one payment as it is; None where there is nothing to say.
    """

    name: str
    change: Change
    words: Words


REASONS: list[Reason] = []


def _reason(words: Words) -> Callable[[Change], Change]:
    def register(change: Change) -> Change:
        REASONS.append(Reason(change.__name__, change, words))
        return change

    return register


@_reason(amount_in_words)
def amount(inputs: Arrays) -> Changes:
    """The amount is the card's 30-day mean; where there is none, an ordinary amount."""
    mean = np.round(inputs["amount_usd_mean_by_card_30d"], 2)
    ordinary = np.where(mean > 0, mean, ORDINARY_AMOUNT_USD)
    return {"amt": np.where(np.isnan(inputs["amt"]), np.nan, ordinary)}


@_reason(hour_in_words)
def hour(inputs: Arrays) -> Changes:
    """The payment is made at noon of its day; the other columns that tell a time stay."""
    time, day = inputs["event_time"], _day(inputs)
    is_noon = time.astype("datetime64[h]") == day + ORDINARY_HOUR
    return {"event_time": np.where(is_noon, time, (day + ORDINARY_HOUR).astype(time.dtype))}


@_reason(category_in_words)
def category(inputs: Arrays) -> Changes:
    """The payment is of an ordinary category."""
    return {"category": np.full(len(inputs["category"]), ORDINARY_CATEGORY, object)}


@_reason(age_in_words)
def age(inputs: Arrays) -> Changes:
    """The card holder is of middle age."""
    born = _day(inputs).astype("datetime64[D]") - round(ORDINARY_AGE_YEARS * DAYS_A_YEAR)
    dates = born.astype(object)
    dates[pd.isna(inputs["dob"])] = None
    return {"dob": dates}


@_reason(distance_in_words)
def distance(inputs: Arrays) -> Changes:
    """The merchant is where the card holder lives."""
    return {"merch_lat": inputs["lat"], "merch_long": inputs["long"]}


@_reason(pause_in_words)
def pause(inputs: Arrays) -> Changes:
    """The card's previous payment was half a day before."""
    known = inputs["seconds_since_previous_by_card"]
    return {"seconds_since_previous_by_card": np.full(len(known), ORDINARY_PAUSE_SECONDS)}


@_reason(last_day_in_words)
def payments_in_24h(inputs: Arrays) -> Changes:
    """The card's payments of the last 24 hours were not made."""
    count, today = inputs["payment_count_by_card_24h"], inputs["payment_count_by_card_today"]
    gone = np.stack([today > n for n in range(3)] + [count - today > n for n in range(2)], axis=1)
    mean, of_30d = inputs["amount_usd_mean_by_card_30d"], inputs["payment_count_by_card_30d"]
    left, total = of_30d - count, mean * of_30d - inputs["amount_usd_sum_by_card_24h"]
    mean_left = np.where(left > 0, np.maximum(total, 0) / np.maximum(left, 1), np.nan)
    return {
        **_without(inputs, gone, today, count - today, count - today),
        "amount_usd_sum_by_card_24h": np.zeros(len(count)),
        "amount_usd_mean_by_card_30d": np.where(count > 0, mean_left, mean),
        **_longer_pause(inputs, count > 0, DAY_SECONDS),
    }


@_reason(day_before_in_words)
def payments_yesterday(inputs: Arrays) -> Changes:
    """The card's payments of the day before were not made."""
    count, today = inputs["payment_count_by_card_yesterday"], inputs["payment_count_by_card_today"]
    gone = np.isin(_KINDS, _KINDS[3:]) & (count > 0)[:, None]
    seconds = (inputs["event_time"] - _day(inputs)) / np.timedelta64(1, "s") + DAY_SECONDS
    return {
        **_without(inputs, gone, 0 * count, count, inputs["payment_count_by_card_24h"] - today),
        **_longer_pause(inputs, (today == 0) & (count > 0), seconds),
    }


@_reason(nights_in_words)
def payments_at_night(inputs: Arrays) -> Changes:
    """The card's payments between 22:00 and 04:00 were not made, as far as kinds are known."""
    gone = is_kind_at_night(_kinds(inputs))
    in_24h = inputs["payment_count_by_card_24h"] - inputs["payment_count_by_card_today"]
    latest = gone[:, 3:] & (in_24h[:, None] > np.arange(2))
    counts = (part.sum(axis=1) for part in (gone[:, :3], gone[:, 3:], latest))
    return {
        **_without(inputs, gone, *counts),
        "payment_count_at_night_by_card_48h": np.zeros(len(gone)),
    }


def _day(inputs: Arrays) -> npt.NDArray[np.datetime64]:
    return inputs["event_time"].astype("datetime64[D]").astype("datetime64[h]")


def _kinds(inputs: Arrays) -> Floats:
    return np.stack([inputs[name] for name in _KINDS], axis=1)


def _without(
    inputs: Arrays,
    gone: npt.NDArray[np.bool_],
    today: Floats,
    yesterday: Floats,
    yesterday_in_24h: Floats,
) -> Changes:
    """What the past is without some payments: the kinds ``gone`` (shape (n, 5)), and so many of
    today, of yesterday, and of those of yesterday in the last 24 hours. The sum falls as the count.
    """
    kinds, in_24h = _kinds(inputs), inputs["payment_count_by_card_24h"]
    left = np.maximum(in_24h - today - yesterday_in_24h, 0)
    share = np.where(in_24h > 0, left / np.maximum(in_24h, 1), 1.0)
    fewer = {
        "payment_count_by_card_today": today,
        "payment_count_by_card_yesterday": yesterday,
        "payment_count_by_card_30d": today + yesterday,
        "payment_count_at_night_by_card_48h": (gone & is_kind_at_night(kinds)).sum(axis=1),
    }
    return {
        **dict(zip(_KINDS, np.where(gone, np.nan, kinds).T, strict=True)),
        **{name: np.maximum(inputs[name] - count, 0) for name, count in fewer.items()},
        "payment_count_by_card_24h": left,
        "amount_usd_sum_by_card_24h": inputs["amount_usd_sum_by_card_24h"] * share,
    }


def _longer_pause(inputs: Arrays, where: npt.NDArray[np.bool_], seconds: Floats | float) -> Changes:
    known = inputs["seconds_since_previous_by_card"]
    longer = np.where(where, np.maximum(known, seconds), known)
    return {"seconds_since_previous_by_card": longer}
