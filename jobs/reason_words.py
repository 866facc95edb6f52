"""The words of reasons: from the values of one payment to a phrase, None where it says nothing."""

import math
from collections.abc import Mapping
from typing import Any

from jobs.features import NIGHT_BEGINS, NIGHT_ENDS

Row = Mapping[Any, Any]
"""``jobs.model.AVAILABLE_INPUTS`` of one payment; numbers that are missing are NaN."""

NIGHT = f"between {NIGHT_BEGINS:02}:00 and {NIGHT_ENDS:02}:00"

_UNITS = ((86400, "days"), (3600, "h"), (60, "min"), (1, "s"))


def amount_in_words(row: Row) -> str | None:
    """The amount against the card's mean; the category too, where the amount alone is not odd."""
    paid, mean = row["amt"], row["amount_usd_mean_by_card_30d"]
    if math.isnan(paid):
        return None
    at = f"{paid:,.2f}" + (f" at {row['category']}" if row["category"] else "")
    if math.isnan(mean):
        return f"{at}, and no earlier payment of this card in 30 days"
    if mean > 0 and paid / mean >= 2:
        times = paid / mean
        return (
            f"{paid:,.2f} is {times:,.{0 if times >= 9.95 else 1}f} times this card's 30-day mean"
        )
    far = "far below " if paid <= mean / 2 else "against "
    return f"{at}, {far}this card's 30-day mean of {mean:,.2f}"


def hour_in_words(row: Row) -> str:
    """The time of day (UTC)."""
    at_night = row["hour_of_day"] >= NIGHT_BEGINS or row["hour_of_day"] < NIGHT_ENDS
    return f"at {row['event_time']:%H:%M}" + (f", {NIGHT}" if at_night else " UTC")


def category_in_words(row: Row) -> str | None:
    """The category."""
    return f"category {row['category']}" if row["category"] else None


def age_in_words(row: Row) -> str | None:
    """The age in whole years, by the calendar: the feature's years are a mean of leap years."""
    if math.isnan(row["age_years"]):
        return None
    born, today = row["dob"], row["event_time"]
    before_birthday = (today.month, today.day) < (born.month, born.day)
    return f"card holder aged {today.year - born.year - before_birthday}"


def distance_in_words(row: Row) -> str | None:
    """The distance."""
    km = row["home_to_merchant_km"]
    return None if math.isnan(km) else f"merchant {km:,.0f} km from the card holder's home"


def pause_in_words(row: Row) -> str:
    """The time since the previous payment, in the largest unit of which it has two."""
    seconds = row["seconds_since_previous_by_card"]
    if math.isnan(seconds):
        return "no earlier payment of this card in 30 days"
    size, unit = next(((s, u) for s, u in _UNITS if seconds >= 2 * s), _UNITS[-1])
    return f"{seconds // size:,.0f} {unit} after this card's previous payment"


def last_day_in_words(row: Row) -> str | None:
    """How many payments in 24 hours, and how much."""
    count = row["payment_count_by_card_24h"]
    if not count:
        return None
    cost = f"{row['amount_usd_sum_by_card_24h']:,.2f} USD"
    return f"{payments(count)} in 24 h, {cost}{' together' if count > 1 else ''}"


def day_before_in_words(row: Row) -> str | None:
    """How many payments the day before."""
    count = row["payment_count_by_card_yesterday"]
    return f"{payments(count)} on the day before" if count else None


def nights_in_words(row: Row) -> str | None:
    """How many payments at night in 48 hours."""
    count = row["payment_count_at_night_by_card_48h"]
    return f"{payments(count)} {NIGHT} in 48 h" if count else None


def payments(count: float) -> str:
    """So many payments."""
    return f"{count:,.0f} earlier payment{'' if count == 1 else 's'}"
