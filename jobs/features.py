"""Every feature, defined once: the score job and training call the same functions.

A feature is a function from the arrays of some payments to a float64 array of the same length. Its
name is the feature's name, its docstring says what it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Arrays = Mapping[str, npt.NDArray[np.generic]]

EARTH_RADIUS_KM = 6371.0088  # mean radius R1, IUGG
DAYS_A_YEAR = 365.2425  # mean length of a Gregorian year

FEATURE_INPUTS = ("event_time", "amt", "dob", "lat", "long", "merch_lat", "merch_long")
"""Columns that features are made from: `event_time` and `dob` datetime64, the others float64."""


@dataclass(frozen=True)
class Feature:
    """A feature's name, unit and the function that computes it."""

    name: str
    unit: str
    compute: Callable[[Arrays], Floats]

    @property
    def meaning(self) -> str:
        """The first line of the definition's docstring."""
        return (self.compute.__doc__ or "").strip().splitlines()[0]


FEATURES: list[Feature] = []


def _feature(unit: str) -> Callable[[Callable[[Arrays], Floats]], Callable[[Arrays], Floats]]:
    def register(compute: Callable[[Arrays], Floats]) -> Callable[[Arrays], Floats]:
        FEATURES.append(Feature(compute.__name__, unit, compute))
        return compute

    return register


@_feature(unit="US dollars")
def amount_usd(payments: Arrays) -> Floats:
    """Amount of the payment."""
    return payments["amt"].astype(np.float64)


@_feature(unit="hours, 0 to 23")
def hour_of_day(payments: Arrays) -> Floats:
    """Hour of the event time (UTC)."""
    hours = payments["event_time"].astype("datetime64[h]").astype(np.int64)
    return (hours % 24).astype(np.float64)


@_feature(unit="days, 0 to 6, Monday is 0")
def day_of_week(payments: Arrays) -> Floats:
    """Weekday of the event time (UTC)."""
    days = payments["event_time"].astype("datetime64[D]").astype(np.int64)
    return ((days + 3) % 7).astype(np.float64)  # 1970-01-01 was a Thursday


@_feature(unit="years")
def age_years(payments: Arrays) -> Floats:
    """Age of the card holder on the day of the payment."""
    days = payments["event_time"].astype("datetime64[D]") - payments["dob"].astype("datetime64[D]")
    return np.asarray(days.astype(np.int64) / DAYS_A_YEAR)


@_feature(unit="kilometres")
def home_to_merchant_km(payments: Arrays) -> Floats:
    """Great-circle distance from the card holder's home to the merchant (haversine formula)."""
    latitude, longitude, merchant_latitude, merchant_longitude = (
        np.radians(payments[name].astype(np.float64))
        for name in ("lat", "long", "merch_lat", "merch_long")
    )
    chord = (
        np.sin((merchant_latitude - latitude) / 2) ** 2
        + np.cos(latitude)
        * np.cos(merchant_latitude)
        * np.sin((merchant_longitude - longitude) / 2) ** 2
    )
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(chord, 1.0))))


FEATURE_NAMES = tuple(feature.name for feature in FEATURES)


def compute_features(payments: Arrays) -> dict[str, Floats]:
    """Every feature of the payments, by name.

    Args:
        payments: ``FEATURE_INPUTS``, arrays of one length n.

    Returns:
        float64 arrays of length n, in the order of ``FEATURE_NAMES``.
    """
    return {feature.name: feature.compute(payments) for feature in FEATURES}


def feature_frame(payments: pd.DataFrame, history: pd.DataFrame | None = None) -> pd.DataFrame:
    """``compute_features`` on a frame with the columns ``FEATURE_INPUTS``: float64 columns
    ``FEATURE_NAMES``, the index of ``payments``.

    Args:
        payments: in their order of arrival.
        history: payments that arrived before them.
    """
    arrived = payments if history is None else pd.concat([history, payments])
    computed = compute_features(arrays_of(arrived))
    before = len(arrived) - len(payments)
    return pd.DataFrame(
        {name: values[before:] for name, values in computed.items()}, index=payments.index
    )


def arrays_of(payments: pd.DataFrame) -> dict[str, npt.NDArray[np.generic]]:
    """The columns ``FEATURE_INPUTS`` of a frame as arrays; times become UTC without a zone."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for name in FEATURE_INPUTS:
        if name in ("event_time", "dob"):
            moments = pd.to_datetime(payments[name], utc=True).dt.tz_localize(None)
            arrays[name] = moments.to_numpy(dtype="datetime64[us]")
        else:
            arrays[name] = payments[name].to_numpy(dtype=np.float64)
    return arrays
