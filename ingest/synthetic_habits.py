"""How card holders and thieves spend in the synthetic data: shares, hours, amounts.

The figures describe the public Sparkov training data, rounded; docs/generator.md sets the result
beside them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
WIDEST_SCORE = 4.0  # the smallest and the largest amount stand this many deviations off

SCORES = np.array(
    [-WIDEST_SCORE, *(NormalDist().inv_cdf(share) for share in QUANTILES), WIDEST_SCORE]
)
"""Standard scores at which amounts stand: smallest, the ``QUANTILES``, largest; float64 of 9."""


class Genuine(NamedTuple):
    """A card holder's payments in one category."""

    share: float  # relative to the other categories
    morning: float  # share of them from 0 to 11 o'clock
    amounts_usd: tuple[float, ...]  # at SCORES


class Fraud(NamedTuple):
    """A thief's payments in one category."""

    share: float  # relative to the other categories
    small_hours: float  # share of them from 0 to 3 o'clock
    late: float  # share of them at 22 and 23 o'clock
    amounts_usd: tuple[float, ...]  # at SCORES


@dataclass(frozen=True)
class Habit:
    """Spending in one category."""

    category: str
    genuine: Genuine
    fraud: Fraud
    women: float = 1.0  # how many times as often women pay here as men do
    card_spread: float = 0.17  # deviation of the logarithm of a card's own share
    card_level: float = 0.3  # correlation of the amounts that one card pays


HABITS = (
    Habit(
        "entertainment",
        Genuine(7.3, 0.33, (1, 2.6, 12.4, 42.7, 93, 161, 214, 326, 690)),
        Fraud(2.9, 0.36, 0.58, (318, 352, 401, 481, 515, 562, 592, 638, 671)),
    ),
    Habit(
        "food_dining",
        Genuine(7.5, 0.22, (1, 3.4, 19.9, 47.2, 83.4, 127, 156, 226, 555)),
        Fraud(1.8, 0.20, 0.50, (102, 110, 118, 121, 130, 138, 142, 145, 146)),
    ),
    Habit(
        "gas_transport",
        Genuine(8.6, 1.0, (21.9, 43.6, 56.8, 67, 77.7, 88.2, 94.6, 109, 154)),
        Fraud(9.0, 0.85, 0.0, (6.1, 7, 8.4, 9.5, 11, 13.3, 14.5, 19, 20.3)),
        women=0.72,
        card_spread=0.35,
    ),
    Habit(
        "grocery_net",
        Genuine(4.2, 1.0, (5.2, 24.6, 40.7, 55.1, 73.2, 91.3, 103, 123, 178)),
        Fraud(1.7, 0.93, 0.0, (6.1, 7.3, 8.7, 9.9, 11.1, 12.5, 13, 13.7, 13.8)),
        card_spread=0.45,
    ),
    Habit(
        "grocery_pos",
        Genuine(9.6, 0.98, (11.8, 41.2, 67.6, 94.1, 179, 207, 219, 238, 288)),
        Fraud(22.1, 0.73, 0.12, (250, 271, 289, 303, 320, 340, 351, 367, 384)),
        card_level=0.9,
    ),
    Habit(
        "health_fitness",
        Genuine(6.2, 0.0, (1, 3.6, 16.7, 39.7, 75.5, 121, 155, 238, 585)),
        Fraud(1.8, 0.0, 0.77, (15.9, 16.1, 17.9, 19.4, 20.5, 21.8, 22.1, 22.5, 22.7)),
    ),
    Habit(
        "home",
        Genuine(9.7, 0.0, (1, 6.2, 22.2, 46, 81.5, 125, 156, 228, 435)),
        Fraud(2.1, 0.0, 0.83, (206, 215, 241, 251, 273, 289, 293, 377, 420)),
    ),
    Habit(
        "kids_pets",
        Genuine(8.7, 0.0, (1, 7.3, 28.1, 53.1, 89.7, 133, 166, 230, 483)),
        Fraud(2.3, 0.0, 0.80, (15.6, 16.6, 18.3, 19.2, 20.9, 21.9, 22.6, 22.8, 23)),
        women=1.07,
    ),
    Habit(
        "misc_net",
        Genuine(4.5, 0.86, (1, 1.6, 4.7, 9.3, 65.4, 206, 336, 751, 2780)),
        Fraud(14.1, 0.21, 0.58, (614, 705, 760, 806, 859, 920, 939, 1025, 1112)),
    ),
    Habit(
        "misc_pos",
        Genuine(6.5, 0.61, (1, 1.6, 4.9, 10.6, 63.2, 183, 303, 652, 4769)),
        Fraud(3.2, 0.22, 0.67, (6.1, 6.3, 7.2, 7.8, 8.8, 9.6, 10.1, 48.8, 48.9)),
    ),
    Habit(
        "personal_care",
        Genuine(7.1, 0.0, (1, 2.5, 10.4, 29.7, 65, 111, 147, 233, 643)),
        Fraud(2.4, 0.0, 0.92, (14.7, 16.4, 19.2, 20.4, 21.4, 22.8, 51.6, 52.4, 52.5)),
        women=1.32,
    ),
    Habit(
        "shopping_net",
        Genuine(7.3, 0.27, (1, 1.5, 4.2, 8.1, 47.6, 215, 413, 1022, 6262)),
        Fraud(23.4, 0.07, 0.78, (748, 855, 935, 998, 1063, 1108, 1147, 1207, 1284)),
        women=1.23,
        card_spread=0.3,
    ),
    Habit(
        "shopping_pos",
        Genuine(9.8, 0.35, (1, 1.5, 3.8, 7, 18.2, 162, 359, 1101, 5156)),
        Fraud(11.9, 0.12, 0.69, (660, 715, 820, 906, 981, 1048, 1073, 1116, 1129)),
        women=1.14,
    ),
    Habit(
        "travel",
        Genuine(3.1, 0.0, (1, 1.5, 3.3, 5.7, 8.1, 9.7, 47, 1424, 21152)),
        Fraud(1.5, 0.0, 0.88, (8.6, 9.2, 9.7, 10, 10.8, 11.2, 11.4, 11.5, 11.6)),
        women=0.85,
    ),
)

CATEGORIES = tuple(habit.category for habit in HABITS)

WEEKDAY_WEIGHTS = np.array([9.2, 10.5, 11.4, 11.7, 17.0, 20.6, 19.7])
"""Payments by weekday, Monday first."""

MONTH_WEIGHTS = np.array([35, 36, 48, 46, 50, 57, 57, 60, 47, 46, 50, 93])
"""Payments a day by month, January first."""

BURST_SIZES = (2, 4, 8, 10, 12, 12, 14, 16, 16)
"""Payments in a burst of fraud: smallest, the ``QUANTILES``, largest."""


class ChangedFraud(NamedTuple):
    """A thief's payments in one category after the pattern of the fraud has changed."""

    share: float  # relative to the other categories
    amounts_usd: tuple[float, ...]  # at SCORES


CHANGED_FRAUD = {
    "entertainment": ChangedFraud(15, (216, 226, 239, 257, 276, 293, 303, 319, 335)),
    "health_fitness": ChangedFraud(20, (148, 161, 176, 194, 213, 230, 240, 255, 268)),
    "kids_pets": ChangedFraud(15, (158, 171, 186, 204, 223, 240, 250, 265, 278)),
    "personal_care": ChangedFraud(20, (142, 154, 169, 187, 206, 223, 233, 248, 261)),
    "travel": ChangedFraud(30, (62, 72, 84, 98, 115, 129, 138, 152, 165)),
}
"""By category, what thieves pay after the pattern has changed; nothing in the others."""

CHANGED_BURST_SIZES = (6, 8, 11, 14, 17, 20, 22, 24, 26)
"""As ``BURST_SIZES``."""

CHANGED_HOURS = (9, 16)
"""A changed burst begins from the first of these hours to before the second."""

CHANGED_PAUSE_SECONDS = 480
"""Mean time from one payment of a changed burst to the next."""


def scaled_amounts(
    tables: Sequence[tuple[float, ...]], category: NDArray[np.integer], score: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Amounts in US dollars at standard scores, log-linear between the quantiles of a category.

    Args:
        tables: for each category the amounts at ``SCORES``.
        category: numbers of categories, as in ``CATEGORIES``.
        score: standard scores, one for each category number.
    """
    # All tables side by side on one axis, far enough apart: one interpolation for every category.
    apart = 10 * WIDEST_SCORE
    knots = (np.arange(len(tables))[:, None] * apart + SCORES).ravel()
    heights = np.log(np.array(tables)).ravel()
    place = category * apart + np.clip(score, -WIDEST_SCORE, WIDEST_SCORE)
    amounts: NDArray[np.float64] = np.exp(np.interp(place, knots, heights)).round(2)
    return amounts
