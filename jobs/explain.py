"""Why a payment is a hit: what the model would say of it, had one thing been ordinary.

Each reason's change (``jobs.reasons``) is put to the model; the reason weighs what the log-odds of
fraud fall by. The heaviest are told.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from jobs.feature_arrays import arrays_of, records_of
from jobs.features import FEATURE_INPUTS, FEATURES, NO_WINDOW, Payments
from jobs.history import Records
from jobs.model import AVAILABLE_INPUTS, ModelRefused
from jobs.reasons import REASONS, Reason
from jobs.windows import Floats, Past

MOST_REASONS = 3
LEAST_WEIGHT = 0.5
"""Log-odds that a reason must account for: the odds of fraud are 1.65 times what they were without
it."""

MOST_CALLS = 64
"""Calls of a model that fails on changed inputs, for one set of hits."""

Predict = Callable[[pd.DataFrame], Floats]


def changed_inputs(inputs: pd.DataFrame, reasons: Sequence[Reason]) -> pd.DataFrame:
    """A model's inputs with the change of each of ``reasons``, one after the other; the features of
    the payment itself are those that follow from the change.

    Args:
        inputs: ``jobs.model.AVAILABLE_INPUTS`` of n payments, as ``jobs.model.inputs_of`` has them.
    """
    arrays = {name: inputs[name].to_numpy() for name in AVAILABLE_INPUTS}
    changes = [reason.change(arrays) for reason in reasons]
    changed = {
        name: np.concatenate([change.get(name, array) for change in changes])
        for name, array in arrays.items()
    }
    now = arrays_of(pd.DataFrame({name: changed[name] for name in FEATURE_INPUTS}))
    # A card of its own for each: what a payment itself tells does not depend on the others.
    new = replace(records_of(now), card=np.arange(len(now["amt"])))
    payments = Payments(now, Past(Records.empty(), new))
    follow = {f.name: f.compute(payments) for f in FEATURES if f.window == NO_WINDOW}
    return pd.DataFrame(changed | follow)


def weights_of(inputs: pd.DataFrame, scores: Floats, predict: Predict) -> Floats:
    """How far the log-odds fall by each change: float64 of shape (n, number of ``REASONS``), NaN
    where the model has no answer.

    Args:
        inputs: as for ``changed_inputs``.
        scores: the model's probabilities for them, shape (n,).
        predict: the model: probabilities of rows like those of ``inputs``. Called once, unless it
            fails.
    """
    changed = changed_inputs(inputs, REASONS)
    answers = np.full(len(changed), np.nan)
    for start, answer in _answers(changed, predict):
        answers[start : start + len(answer)] = answer
    return log_odds(scores)[:, None] - log_odds(answers).reshape(len(REASONS), len(inputs)).T


def _answers(inputs: pd.DataFrame, predict: Predict) -> Iterator[tuple[int, Floats]]:
    """The model's answers, each with the place of its first row; rows on which it fails are left
    out, by halves.
    """
    waiting = [(0, len(inputs))]
    for _ in range(MOST_CALLS):
        if not waiting:
            return
        start, end = waiting.pop(0)
        try:
            yield start, predict(inputs.iloc[start:end])
        except ModelRefused:
            middle = (start + end) // 2
            if end - start > 1:
                waiting += [(start, middle), (middle, end)]


def log_odds(probabilities: Floats) -> Floats:
    """``log(p / (1 - p))``, of p cut to 1e-9 from 0 and from 1."""
    kept = np.clip(probabilities, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def reasons_of(inputs: pd.DataFrame, scores: Floats, predict: Predict) -> list[list[str]]:
    """Up to ``MOST_REASONS`` for each of n hits, the weightiest first.

    Args: as for ``weights_of``.
    """
    if not len(inputs):
        return []
    weights = weights_of(inputs, scores, predict)
    told = []
    for row, weight in zip(inputs.to_dict("records"), weights, strict=True):
        heavy = [n for n in np.argsort(-weight, kind="stable") if weight[n] >= LEAST_WEIGHT]
        found = (REASONS[n].words(row) for n in heavy)
        told.append([words for words in found if words][:MOST_REASONS])
    return told
