"""How well scores find fraud: the field's measures, on arrays of one length n.

Scores are probabilities from 0 to 1, labels the truth. A hit is a payment whose score is at the
threshold or above it, as in the score job. Money is counted in integer cents.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from conf.sections import TrainSettings
from jobs.calibration import expected_calibration_error

Labels = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class JudgedPayments:
    """Payments with a score and the truth: arrays of shape (n,), in any order.

    Attributes:
        labels: bool, whether it is a fraud.
        scores: float64, the probability of fraud.
        amount_cents: int64, US cents.
        days: int64, UTC calendar day of the event time, counted from 1970-01-01.
        cards: str.
    """

    labels: Labels
    scores: Floats
    amount_cents: Integers
    days: Integers
    cards: npt.NDArray[np.object_]

    @property
    def calendar_days(self) -> int:
        """UTC days from the first payment's to the last one's, both counted; 0 without any."""
        return int(self.days.max() - self.days.min()) + 1 if len(self.days) else 0


def judged_payments(payments: pd.DataFrame, scores: Floats) -> JudgedPayments:
    """Payments and their scores, float64 of shape (n,), as the measures take them.

    Args:
        payments: n rows with ``is_fraud`` (1: fraud), ``amt`` (US dollars), ``event_time`` (UTC)
            and ``cc_num``.
    """
    moments = payments["event_time"].dt.tz_convert("UTC").dt.tz_localize(None)
    return JudgedPayments(
        labels=payments["is_fraud"].to_numpy() == 1,
        scores=scores,
        amount_cents=np.rint(payments["amt"].to_numpy() * 100).astype(np.int64),
        days=moments.to_numpy().astype("datetime64[D]").astype(np.int64),
        cards=payments["cc_num"].to_numpy(dtype=object),
    )


def recall_at_precision(labels: Labels, scores: Floats, precision: float) -> float:
    """The largest share of the frauds that a threshold finds while at least ``precision`` of its
    hits are frauds; 0 where no threshold does.
    """
    precisions, recalls, _ = precision_recall_curve(labels, scores)
    return float(recalls[precisions >= precision].max(initial=0.0))


def at_threshold(labels: Labels, scores: Floats, threshold: float) -> tuple[float, float]:
    """Precision and recall of the hits ``scores >= threshold``; 0 without any hit or fraud."""
    hits = scores >= threshold
    found = int((hits & labels).sum())
    return found / max(int(hits.sum()), 1), found / max(int(labels.sum()), 1)


def card_precision_at_k(
    cards: npt.NDArray[Any], days: Integers, labels: Labels, scores: Floats, k: int
) -> float:
    """The share of frauds among the ``k`` most suspicious cards of a day, as a mean over the days
    that have payments.

    On each day the cards are ranked by their highest score of that day; a card counts as found if
    any of its payments of that day is a fraud. A day's share is always of ``k``, also where it has
    fewer cards, so that a day with fewer than ``k`` defrauded cards stays below 1. Cards of equal
    score at the last place count with the share of them that are found: the mean over every order
    they could stand in.

    The definition is the card precision top-k of Le Borgne, Siblini, Lebichot and Bontempi,
    "Reproducible Machine Learning for Credit Card Fraud Detection: Practical Handbook" (2022),
    chapter "Precision top-k metrics", with one difference: there a card that was found is left out
    of the days after. Here it stays in, because a hit blocks no card in this system.

    Args:
        cards: of shape (n,), anything that can be compared.
        days: int64 of shape (n,), a number for each day.
        labels: bool of shape (n,).
        scores: float64 of shape (n,).
        k: places, at least 1.

    Returns:
        From 0 to 1; NaN without payments.
    """
    payments = pd.DataFrame({"day": days, "card": cards, "score": scores, "is_fraud": labels})
    by_card = payments.groupby(["day", "card"], sort=False).max()
    shares = [
        _found_in_top(day["score"].to_numpy(), day["is_fraud"].to_numpy(dtype=bool), k) / k
        for _, day in by_card.groupby("day")
    ]
    return float(np.mean(shares)) if shares else float("nan")


def _found_in_top(scores: Floats, labels: Labels, k: int) -> float:
    if len(scores) <= k:
        return float(labels.sum())
    last = np.partition(scores, -k)[-k]
    above, level = scores > last, scores == last
    return float(labels[above].sum() + (k - above.sum()) * labels[level].mean())


def money_cents(
    labels: Labels, amount_cents: Integers, hits: Labels, look_cost_cents: int
) -> tuple[int, int]:
    """Money saved and money lost, in US cents.

    Saved are the amounts of the frauds that were hits, less ``look_cost_cents`` for every hit, so
    that it can be negative; lost are the amounts of the frauds that were none. This is example-
    dependent cost with the amount as the cost of a miss, after Elkan, "The Foundations of
    Cost-Sensitive Learning" (2001), and Bahnsen et al., "Cost sensitive credit card fraud detection
    using Bayes minimum risk" (2013).

    Args:
        labels: bool of shape (n,).
        amount_cents: int64 of shape (n,).
        hits: bool of shape (n,).
        look_cost_cents: the price of looking at one hit.
    """
    found = int(amount_cents[labels & hits].sum())
    return found - look_cost_cents * int(hits.sum()), int(amount_cents[labels & ~hits].sum())


def cents(usd: float) -> int:
    """US dollars as the nearest whole number of cents."""
    return round(usd * 100)


def evaluation(judged: JudgedPayments, threshold: float, settings: TrainSettings) -> dict[str, Any]:
    """What ``training.evaluate`` prints: rows, frauds; average_precision, roc_auc,
    recall_at_precision_90, expected_calibration_error, card_precision_at_k with its
    card_precision_k; threshold, and at the threshold precision, recall, alerts_per_day (hits a
    calendar day), money_saved_usd, money_lost_usd.

    Average precision is the sum of precision times the step in recall over all thresholds, as in
    scikit-learn; without frauds, or with nothing else, the ranking measures are None. What is a
    mean over payments or days is None without payments.
    """
    labels, scores = judged.labels, judged.scores
    hits, k = scores >= threshold, settings.card_precision_k
    precision, recall = at_threshold(labels, scores, threshold)
    look_cost = cents(settings.look_cost_usd)
    saved, lost = money_cents(labels, judged.amount_cents, hits, look_cost)
    both, any_rows = bool(labels.any() and not labels.all()), len(labels) > 0
    return {
        "rows": len(labels),
        "frauds": int(labels.sum()),
        "average_precision": float(average_precision_score(labels, scores)) if both else None,
        "roc_auc": float(roc_auc_score(labels, scores)) if both else None,
        "recall_at_precision_90": recall_at_precision(labels, scores, 0.9) if both else None,
        "expected_calibration_error": (
            expected_calibration_error(labels, scores) if any_rows else None
        ),
        "card_precision_at_k": (
            card_precision_at_k(judged.cards, judged.days, labels, scores, k) if any_rows else None
        ),
        "card_precision_k": k,
        "threshold": threshold,
        "precision": precision,
        "recall": recall,
        "alerts_per_day": int(hits.sum()) / judged.calendar_days if any_rows else None,
        "money_saved_usd": saved / 100,
        "money_lost_usd": lost / 100,
    }
