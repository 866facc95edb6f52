"""The pass that computes every feature: the score job and training call the same functions."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from jobs.feature_arrays import arrays_of, records_of
from jobs.features import FEATURE_NAMES, FEATURES, Arrays, Payments
from jobs.history import Records, forget
from jobs.windows import Floats, Past


def compute_features(arrived: Arrays, history: Records) -> tuple[dict[str, Floats], Records]:
    """Every feature of payments, and the payments as they are to be remembered.

    How a stream is cut into calls makes no difference: what a call returns as records is history
    for the next.

    Args:
        arrived: arrays of one length n, in order of arrival: those of ``arrays_of``.
        history: what is remembered of these cards, in order.

    Returns:
        float64 arrays of length n, in the order of ``FEATURE_NAMES``; n records, in order of
        arrival.
    """
    records = records_of(arrived)
    computed = {name: np.empty(len(records)) for name in FEATURE_NAMES}
    runs = _forward_runs(records)
    for run in range(int(runs.max(initial=-1)) + 1):
        places = np.flatnonzero(runs == run)
        new = records.take(places)
        order = np.lexsort((new.time, new.card))
        places, new = places[order], new.take(order)
        past = Past(_still_remembered(history, new), new)
        now = {name: values[places] for name, values in arrived.items()}
        for feature in FEATURES:
            computed[feature.name][places] = feature.compute(Payments(now, past))
        if run < runs.max():
            more = np.unique(records.card[runs > run])
            history = history.merged(new).of_cards(more)
    return computed, records


def _still_remembered(history: Records, new: Records) -> Records:
    """The history of the new payments' cards, as it is on the day that they arrive."""
    first, _ = new.runs()
    cards, days = new.card[first], new.day[first]
    begins, count = history.runs()
    if not np.array_equal(history.card[begins], cards):
        history = history.of_cards(cards)
        begins, count = history.runs()
    if len(days) and (days == days[0]).all():
        return forget(history, int(days[0]))
    return forget(history, np.repeat(days[np.searchsorted(cards, history.card[begins])], count))


def _forward_runs(records: Records) -> npt.NDArray[np.int64]:
    """The number of the run of each payment: within a run a card's event times do not go back and
    the day of arrival stays, so that what comes first by event time arrived first.
    """
    order = np.argsort(records.card, kind="stable")
    card, time, day = (getattr(records, name)[order] for name in ("card", "time", "day"))
    if len(card) == 0:
        return np.empty(0, np.int64)
    same_card = card[1:] == card[:-1]
    breaks = same_card & ((time[1:] < time[:-1]) | (day[1:] != day[:-1]))
    counted = np.concatenate([[0], np.cumsum(breaks)])
    first = np.flatnonzero(np.concatenate([[True], ~same_card]))
    lengths = np.diff(np.append(first, len(card)))
    runs = np.empty(len(card), np.int64)
    runs[order] = counted - np.repeat(counted[first], lengths)
    return runs


def feature_frame(payments: pd.DataFrame, history: pd.DataFrame | None = None) -> pd.DataFrame:
    """``compute_features`` on a frame with the columns ``FEATURE_INPUTS``: float64 columns
    ``FEATURE_NAMES``, the index of ``payments``.

    Args:
        payments: in their order of arrival. With `ingested_at`, a card forgets what arrived more
            than ``jobs.history.MOST_DAYS`` days before, as in the stream.
        history: payments that arrived before them; where it has no `ingested_at`, on the day of
            the first of them, which is how a new checkpoint takes files.
    """
    arrived = arrays_of(payments)
    remembered = Records.empty()
    if history is not None:
        earlier = arrays_of(history)
        if "ingested_at" not in history:
            first = arrived["day"][0] if len(payments) else 0
            earlier["day"] = np.full(len(history), first, np.uint16)
        remembered = records_of(earlier).in_order()
    computed, _ = compute_features(arrived, remembered)
    return pd.DataFrame(computed, index=payments.index, columns=list(FEATURE_NAMES))
