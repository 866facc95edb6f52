"""Confidence intervals by resampling cards.

Payments of one card are no independent observations: a stolen card brings several frauds.
So whole cards are drawn with replacement, as many as there are (Davison and Hinkley, "Bootstrap
Methods and their Application" (1997), section 3.8, on hierarchical data). No row is copied: a draw
is a weight for each card, the number of times that it was drawn.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def card_weights(cards: int, generator: np.random.Generator) -> Floats:
    """How often each card comes in one draw of as many: float64 of shape (cards,)."""
    drawn = generator.integers(0, cards, cards)
    return np.bincount(drawn, minlength=cards).astype(np.float64)


def resampled(measure: Callable[[Floats], Floats], cards: int, resamples: int, seed: int) -> Floats:
    """What ``measure`` says of each draw. What it measures of two models in one call is paired:
    both see the same cards.

    Args:
        measure: from weights, float64 of shape (cards,), to an array of any one shape.
        cards: how many there are, at least 1.
        resamples: draws, at least 1.
        seed: the same seed gives the same draws.

    Returns:
        float64 of shape (resamples, …).
    """
    generator = np.random.default_rng(seed)
    return np.stack([measure(card_weights(cards, generator)) for _ in range(resamples)])


def percentile_interval(samples: Floats, confidence: float) -> tuple[Floats, Floats]:
    """The two-sided interval of each measure, by the percentiles of its draws.

    Args:
        samples: (resamples, …), as ``resampled`` returns it. Draws in which a measure has no value
            (NaN: no fraud among them) are left out.
        confidence: share of the draws within, above 0 and below 1.

    Returns:
        The ends, each of shape (…); NaN for a measure that has no value in any draw.
    """
    flat = samples.reshape(len(samples), -1)
    ends = np.full((2, flat.shape[1]), np.nan)
    is_told = ~np.isnan(flat).all(axis=0)
    tail = (1 - confidence) / 2
    ends[:, is_told] = np.nanquantile(flat[:, is_told], [tail, 1 - tail], axis=0)
    low, high = ends.reshape(2, *samples.shape[1:])
    return low, high
