"""The measures of ``jobs.metrics`` of payments whose cards have weights, fast enough to take
them some hundred times: what does not depend on the weights is worked out once.

With all weights 1 they are those of ``jobs.metrics``. A whole weight counts a card that often.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from conf.sections import TrainSettings
from jobs.calibration import BINS, calibration_bins
from jobs.metrics import JudgedPayments, cents

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MEASURES = (
    "average_precision", "recall_at_budget", "card_precision_at_k", "precision", "recall",
    "alerts_per_day", "money_saved_usd", "money_lost_usd", "expected_calibration_error",
)  # fmt: skip
"""What ``WeightedMeasures.of`` returns. `recall_at_budget`: the share of the frauds among the
payments of highest score, `train.alerts_per_day` of them for each calendar day; the measures from
`precision` to `money_lost_usd` are those at the version's own threshold."""


@dataclass(frozen=True)
class WeightedMeasures:
    """The measures of one version."""

    ranking: "_Ranking"
    places: "_CardPlaces"
    sums: "_CardSums"
    budget: float
    calendar_days: int

    @classmethod
    def of_judged(
        cls, judged: JudgedPayments, cards: Integers, threshold: float, settings: TrainSettings
    ) -> Self:
        """Prepare the measures of n payments, at least one.

        Args:
            judged: the payments.
            cards: int64 of shape (n,), the place of each payment's card among the weights.
            threshold: the version's.
            settings: price of a look, alerts a day, cards a day.
        """
        days = judged.calendar_days
        return cls(
            ranking=_Ranking.of_judged(judged, cards),
            places=_CardPlaces.of_judged(judged, cards, settings.card_precision_k),
            sums=_CardSums.of_judged(judged, cards, threshold, cents(settings.look_cost_usd)),
            budget=settings.alerts_per_day * days,
            calendar_days=days,
        )

    def of(self, weights: Floats) -> Floats:
        """``MEASURES``, float64 of shape (9,); NaN where one has no value: without payments, and
        for precision in the ranking and recall without frauds.

        Args:
            weights: float64 of shape (cards,), whole numbers.
        """
        average_precision, recall_at_budget = self.ranking.of(weights, self.budget)
        rows, frauds, hits, found, saved, lost, calibration = self.sums.of(weights)
        if not rows:
            return np.full(len(MEASURES), np.nan)
        return np.array(
            [
                average_precision,
                recall_at_budget,
                self.places.of(weights),
                found / max(hits, 1),
                found / frauds if frauds else np.nan,
                hits / self.calendar_days,
                saved / 100,
                lost / 100,
                calibration / rows,
            ]
        )


@dataclass(frozen=True)
class _Ranking:
    """Payments from the highest score to the lowest; those of equal score are a group.

    ``cards`` has shape (n,), ``ends`` (g,): the last place of each group. Frauds alone: their cards
    (f,), in the same order, where each group that has some begins among them (h,), and the last
    place of that group (h,).
    """

    cards: Integers
    ends: Integers
    fraud_cards: Integers
    fraud_starts: Integers
    fraud_ends: Integers

    @classmethod
    def of_judged(cls, judged: JudgedPayments, cards: Integers) -> Self:
        order = np.argsort(-judged.scores, kind="stable")
        scores, labels = judged.scores[order], judged.labels[order]
        ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
        fraud_places = np.flatnonzero(labels)
        fraud_groups, starts = np.unique(np.searchsorted(ends, fraud_places), return_index=True)
        ordered = cards[order]
        return cls(ordered, ends, ordered[fraud_places], starts, ends[fraud_groups])

    def of(self, weights: Floats, budget: float) -> tuple[float, float]:
        """Average precision, and the recall in the first ``budget`` payments: of a group that the
        budget ends in, the share that it has room for.
        """
        frauds = weights[self.fraud_cards].sum()
        if not frauds:
            return float("nan"), float("nan")
        rows = np.cumsum(weights[self.cards])
        found = np.add.reduceat(weights[self.fraud_cards], self.fraud_starts)
        through = np.cumsum(found)
        precisions = through / np.maximum(rows[self.fraud_ends], 1)
        average_precision = float((found * precisions).sum() / frauds)
        if budget >= rows[-1]:
            return average_precision, 1.0
        place = int(np.searchsorted(rows, budget))
        group = int(np.searchsorted(self.ends, place))
        first, last = (int(self.ends[group - 1]) if group else -1), int(self.ends[group])
        known = np.insert(through, 0, 0.0)
        before, with_it = known[np.searchsorted(self.fraud_ends, [first, last], side="right")]
        rows_before = rows[first] if group else 0.0
        share = (budget - rows_before) / (rows[last] - rows_before)
        return average_precision, float((before + (with_it - before) * share) / frauds)


@dataclass(frozen=True)
class _CardPlaces:
    """``jobs.metrics.card_precision_at_k``: a day's cards from the most suspicious one down.

    ``cards`` and ``is_fraud`` have a place for each card and day; ``starts`` is where each group of
    equal score begins, ``day_starts`` the first group of the day that a group belongs to.
    """

    cards: Integers
    is_fraud: Floats
    starts: Integers
    day_starts: Integers
    days: int
    k: int

    @classmethod
    def of_judged(cls, judged: JudgedPayments, cards: Integers, k: int) -> Self:
        payments = pd.DataFrame(
            {"day": judged.days, "card": cards, "score": judged.scores, "is_fraud": judged.labels}
        )
        by_card = payments.groupby(["day", "card"], sort=False).max().reset_index()
        by_card = by_card.sort_values(["day", "score"], ascending=[True, False], kind="stable")
        days, scores = by_card["day"].to_numpy(), by_card["score"].to_numpy()
        is_new_day = np.append(True, days[1:] != days[:-1])
        starts = np.flatnonzero(is_new_day | np.append(True, scores[1:] != scores[:-1]))
        begins_day = is_new_day[starts]
        day_starts = np.flatnonzero(begins_day)[np.cumsum(begins_day) - 1]
        return cls(
            cards=by_card["card"].to_numpy(),
            is_fraud=by_card["is_fraud"].to_numpy(dtype=np.float64),
            starts=starts,
            day_starts=day_starts,
            days=int(begins_day.sum()),
            k=k,
        )

    def of(self, weights: Floats) -> float:
        each = weights[self.cards]
        cards = np.add.reduceat(each, self.starts)
        found = np.add.reduceat(each * self.is_fraud, self.starts)
        ahead = np.cumsum(cards) - cards
        ahead -= ahead[self.day_starts]
        within = np.clip(self.k - ahead, 0, cards)
        return float((found * within / np.maximum(cards, 1)).sum() / (self.k * self.days))


@dataclass(frozen=True)
class _CardSums:
    """What adds up over cards. ``counts`` has shape (cards, 6): payments, frauds, hits, frauds
    among the hits, cents saved, cents lost; ``gaps`` (cards, ``BINS``): frauds less those that the
    scores promise, in each bin of ``jobs.calibration``.
    """

    counts: Floats
    gaps: Floats

    @classmethod
    def of_judged(
        cls, judged: JudgedPayments, cards: Integers, threshold: float, look_cost_cents: int
    ) -> Self:
        hits, labels = judged.scores >= threshold, judged.labels
        found = hits & labels
        columns = (
            np.ones(len(labels)), labels, hits, found,
            judged.amount_cents * found - look_cost_cents * hits,
            judged.amount_cents * (labels & ~hits),
        )  # fmt: skip
        size = int(cards.max()) + 1
        cells = cards * BINS + calibration_bins(judged.scores)
        gaps = np.bincount(cells, labels - judged.scores, size * BINS)
        return cls(
            counts=np.stack([np.bincount(cards, column, size) for column in columns], axis=1),
            gaps=gaps.astype(np.float64).reshape(size, BINS),
        )

    def of(self, weights: Floats) -> tuple[float, ...]:
        """The six counts, and the sum over the bins of the absolute gaps."""
        return (*(weights @ self.counts).tolist(), float(np.abs(weights @ self.gaps).sum()))
