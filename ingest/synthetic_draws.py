"""What is drawn for a synthetic payment, and from which random numbers."""

from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from ingest.synthetic_population import MERCHANTS_PER_CATEGORY, Population

MERCHANT_SPREAD_DEGREES = 1.0
DAY_SECONDS = 86_400
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

CYCLE, GENUINE, BURST, CHANGED_BURST = range(4)
"""Independent streams of random numbers."""

DRAWN = np.dtype(
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
Drawn = NDArray[np.void]  # of DRAWN: what is drawn for a payment


def generator(population: Population, seed: int, day: int, stream: int) -> np.random.Generator:
    """The random numbers of one day (or cycle), counted from the epoch on, -1 or later."""
    # The day before 1970 is asked for its bursts, and a seed must not be negative.
    key = [population.seed, len(population.holders), seed, stream, day + 1]
    return np.random.default_rng(key)


def draw_payments(
    rng: np.random.Generator,
    second: NDArray[np.int64],
    card: NDArray[np.int64],
    category: NDArray[np.int64],
    amount: NDArray[np.float64],
    is_fraud: int,
) -> Drawn:
    """Payments as ``DRAWN``: what is given, and merchant, place and number drawn from ``rng``.

    Args:
        rng: where to draw from.
        second: of the epoch, shape (n,), as are the next ones.
        card: rows of ``Population.holders``.
        category: numbers of categories, as in ``ingest.synthetic_habits.CATEGORIES``.
        amount: US dollars.
        is_fraud: 1 or 0, of all of them.
    """
    drawn = np.empty(len(card), dtype=DRAWN)
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
