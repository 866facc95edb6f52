"""From payments to a fitted model, its metrics and its threshold."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from conf.settings import TrainSettings
from jobs.metrics import Floats, JudgedPayments, evaluation, judged_payments
from training.pipeline import make_classifier, model_columns
from training.thresholds import choose_threshold


class TrainingError(ValueError):
    """There is nothing to learn from; the message says what is missing."""


@dataclass(frozen=True)
class TrainedModel:
    """The model fitted on all payments; the threshold, the metrics and the judged payments are
    those of a model that was fitted on the first part of the time and judged on the last.
    """

    model: Pipeline
    threshold: float
    metrics: dict[str, Any]
    judged: JudgedPayments
    parameters: dict[str, Any]


def train_model(payments: pd.DataFrame, settings: TrainSettings) -> TrainedModel:
    """Fit on payments with the column ``is_fraud``, taken to have arrived in the order of their
    event times.

    Raises:
        TrainingError: one part of the time split lacks frauds or genuine payments.
        training.thresholds.NoThreshold: no threshold does what the settings ask for.
    """
    ordered = payments.sort_values(["event_time", "trans_num"], ignore_index=True)
    columns, labels = model_columns(ordered), ordered["is_fraud"].to_numpy() == 1
    split = int(len(ordered) * (1 - settings.test_share))
    for part, name in ((labels[:split], "first"), (labels[split:], "last")):
        if part.all() or not part.any():
            raise TrainingError(
                f"the {name} part of the payments by time has {len(part)} rows, "
                f"{int(part.sum())} of them frauds: training needs frauds and genuine payments in "
                "both parts; give it more data"
            )
    first = make_classifier(settings.seed).fit(columns[:split], labels[:split])
    judged = judged_payments(ordered[split:], fraud_probability(first, columns[split:]))
    threshold = choose_threshold(judged, settings)
    final = make_classifier(settings.seed).fit(columns, labels)
    return TrainedModel(
        model=final,
        threshold=threshold,
        metrics=evaluation(judged, threshold, settings),
        judged=judged,
        parameters=_parameters(ordered, settings, split, final),
    )


def fraud_probability(model: Pipeline, columns: pd.DataFrame) -> Floats:
    """The model's probability of fraud of each row: float64 of shape (n,)."""
    return np.asarray(model.predict_proba(columns)[:, 1], dtype=np.float64)


def fingerprint(payments: pd.DataFrame) -> str:
    """SHA-256 over the 64-bit hashes of the rows in their order, as hexadecimal digits."""
    digest = hashlib.sha256("\n".join(payments.columns).encode())
    digest.update(pd.util.hash_pandas_object(payments, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _parameters(
    ordered: pd.DataFrame, settings: TrainSettings, split: int, model: Pipeline
) -> dict[str, Any]:
    trees = model.named_steps["trees"]
    return {
        "rows": len(ordered),
        "frauds": int((ordered["is_fraud"] == 1).sum()),
        "cards": int(ordered["cc_num"].nunique()),
        "first_event": ordered["event_time"].iloc[0].isoformat(),
        "last_event": ordered["event_time"].iloc[-1].isoformat(),
        "test_rows": len(ordered) - split,
        **settings.model_dump(),
        **{
            f"trees_{name}": getattr(trees, name)
            for name in ("max_iter", "learning_rate", "max_leaf_nodes", "l2_regularization")
        },
    }
