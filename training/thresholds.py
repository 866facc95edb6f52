"""The choice of a threshold, by one of three rules: `train.threshold_rule` in the settings.

A threshold divides the payments between two scores, so payments of equal score are hits together or
not at all.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from conf.sections import TrainSettings
from jobs.metrics import Floats, JudgedPayments, cents

Integers = npt.NDArray[np.int64]


class NoThreshold(ValueError):
    """No threshold from 0 to 1 does what the rule asks for; the message says why."""


@dataclass(frozen=True)
class Cuts:
    """Every division of payments into hits and others, from the highest threshold to the lowest:
    arrays of shape (c,).

    Attributes:
        thresholds: float64, falling, from 0 to 1.
        hits: int64, rising, payments at the threshold or above it.
        found: int64, frauds among the hits.
        found_cents: int64, the amounts of those frauds, US cents.
    """

    thresholds: Floats
    hits: Integers
    found: Integers
    found_cents: Integers

    def saved_cents(self, look_cost_cents: int) -> Integers:
        """``jobs.metrics.money_cents``, the money saved, of every cut: int64 of shape (c,)."""
        return self.found_cents - look_cost_cents * self.hits


def every_cut(judged: JudgedPayments) -> Cuts:
    """All divisions of at least one payment: no hits, then one more distinct score each.

    A threshold lies in the middle between the lowest score of the hits and the highest of the
    others. Without hits it lies between the highest score and 1, and is left out where that score
    is 1; with all payments as hits it is the lowest score.
    """
    distinct, group = np.unique(judged.scores, return_inverse=True)
    counts = np.bincount(group)
    found = np.bincount(group[judged.labels], minlength=len(distinct))
    found_cents = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(found_cents, group[judged.labels], judged.amount_cents[judged.labels])
    upper = np.insert(distinct[::-1], 0, 1.0)
    lower = np.append(distinct[::-1], distinct[0])
    middles = lower + (upper - lower) / 2
    middles = np.where(middles > lower, middles, upper)  # between neighbouring floats there is none
    first = 1 if distinct[-1] >= 1 else 0
    hits, found, found_cents = (
        np.insert(np.cumsum(values[::-1]), 0, 0)[first:] for values in (counts, found, found_cents)
    )
    return Cuts(middles[first:], hits, found, found_cents)


def choose_threshold(judged: JudgedPayments, settings: TrainSettings) -> float:
    """The threshold that ``settings.threshold_rule`` finds best on at least one payment.

    Raises:
        NoThreshold: see ``lowest_within_budget``.
    """
    cuts = every_cut(judged)
    match settings.threshold_rule:
        case "alerts_per_day":
            chosen = lowest_within_budget(cuts, judged.calendar_days, settings.alerts_per_day)
        case "costs":
            chosen = cheapest(cuts, cents(settings.look_cost_usd))
        case "precision":
            chosen = lowest_that_keeps_precision(cuts, settings.min_precision)
    return float(cuts.thresholds[chosen])


def lowest_within_budget(cuts: Cuts, calendar_days: int, alerts_per_day: float) -> int:
    """The cut with the most hits that are not more than ``alerts_per_day``, as a mean over
    ``calendar_days``: none where the payments of highest score are already too many, all where the
    budget is larger than everything.

    Raises:
        NoThreshold: more payments than the budget have a score of 1; no threshold keeps them out.
    """
    within = np.flatnonzero(cuts.hits / calendar_days <= alerts_per_day)
    if not len(within):
        raise NoThreshold(
            f"{cuts.hits[0]:,} payments in {calendar_days:,} days have a score of 1, that is "
            f"{cuts.hits[0] / calendar_days:.3g} a day where train.alerts_per_day is "
            f"{alerts_per_day:g}: raise it, or choose another train.threshold_rule"
        )
    return int(within[-1])


def cheapest(cuts: Cuts, look_cost_cents: int) -> int:
    """The cut of the least cost, which is the amounts of the missed frauds and ``look_cost_cents``
    for every hit; of several the one with the fewest hits.

    The least cost is the most money saved: both add up to the amounts of all frauds.
    """
    return int(np.argmax(cuts.saved_cents(look_cost_cents)))


def lowest_that_keeps_precision(cuts: Cuts, min_precision: float) -> int:
    """The lowest cut that finds fraud and of whose hits at least ``min_precision`` are frauds;
    where none does, the highest of the best F1, the harmonic mean of precision and recall.
    """
    precisions = cuts.found / np.maximum(cuts.hits, 1)
    enough = np.flatnonzero((precisions >= min_precision) & (cuts.found > 0))
    if len(enough):
        return int(enough[-1])
    return int(np.argmax(2 * cuts.found / np.maximum(cuts.hits + cuts.found[-1], 1)))
