"""From payments to a fitted model, its metrics and its threshold."""

import hashlib
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

from conf.sections import TrainSettings
from jobs.feature_pass import feature_frame
from jobs.metrics import Floats, JudgedPayments, evaluation, judged_payments
from jobs.reference import Reference
from training.pipeline import MODEL_COLUMNS, make_classifier
from training.thresholds import choose_threshold

log = logging.getLogger(__name__)


class TrainingError(ValueError):
    """There is nothing to learn from; the message says what is missing."""


@dataclass(frozen=True)
class TrainedModel:
    """The model fitted on all examples; the threshold, the metrics and the judged payments are
    those of a model that was fitted on the first part of the time and judged on the last.
    """

    model: Pipeline
    threshold: float
    metrics: dict[str, Any]
    judged: JudgedPayments
    parameters: dict[str, Any]
    reference: Reference


def train_model(payments: pd.DataFrame, settings: TrainSettings) -> TrainedModel:
    """Fit on payments with the column ``is_fraud``, taken to have arrived in the order of their
    event times.

    Raises:
        TrainingError: one part of the time split lacks frauds or genuine payments.
        training.thresholds.NoThreshold: no threshold does what the settings ask for.
    """
    ordered = payments.sort_values(["event_time", "trans_num"], ignore_index=True)
    return _train(ordered, feature_frame(ordered), settings)


def train_on_examples(payments: pd.DataFrame, settings: TrainSettings) -> TrainedModel:
    """Fit on those of the payments that have a label, with their weights; features are computed
    over all of them.

    What judges is unweighted, and only as young as `is_mature` says: of younger payments, frauds
    are known before genuine ones. Where mature examples are not enough to judge by, all of them do.

    Args:
        payments: in order of arrival, with the columns of ``training.dataset.Dataset``.

    Raises:
        TrainingError, training.thresholds.NoThreshold: as ``train_model``.
    """
    features = feature_frame(payments)
    order = ["event_time", "trans_num"]
    examples = payments[payments["weight"] > 0].sort_values(order, kind="stable")
    mature = examples["is_mature"].to_numpy(np.bool_)
    try:
        _split(examples[mature], settings)
    except TrainingError as error:
        log.warning("all examples judge, for want of mature ones: %s", error)
        mature = np.ones(len(examples), np.bool_)
    return _train(examples, features.loc[examples.index], settings, mature)


def _train(
    examples: pd.DataFrame,
    features: pd.DataFrame,
    settings: TrainSettings,
    can_judge: npt.NDArray[np.bool_] | None = None,
) -> TrainedModel:
    """Fit on ``examples``, by event time; those that ``can_judge`` are split in two."""
    columns, labels = features[list(MODEL_COLUMNS)], examples["is_fraud"].to_numpy() == 1
    places = np.arange(len(examples)) if can_judge is None else np.flatnonzero(can_judge)
    split = _split(examples.iloc[places], settings)
    early, late = places[:split], places[split:]
    weights = examples["weight"].to_numpy() if "weight" in examples else np.ones(len(examples))
    first = _fitted(columns.iloc[early], labels[early], weights[early], settings.seed)
    scores = fraud_probability(first, columns.iloc[late])
    judged = judged_payments(examples.iloc[late], scores)
    threshold = choose_threshold(judged, settings)
    final = _fitted(columns, labels, weights, settings.seed)
    return TrainedModel(
        model=final,
        threshold=threshold,
        metrics=evaluation(judged, threshold, settings),
        judged=judged,
        parameters=_parameters(examples, settings, len(late), final),
        reference=Reference.of(features, scores, examples["category"]),
    )


def _split(examples: pd.DataFrame, settings: TrainSettings) -> int:
    """How many examples, by event time, are the first part.

    Raises:
        TrainingError: one part lacks frauds or genuine payments.
    """
    labels = examples["is_fraud"].to_numpy() == 1
    split = int(len(labels) * (1 - settings.test_share))
    for part, name in ((labels[:split], "first"), (labels[split:], "last")):
        if part.all() or not part.any():
            raise TrainingError(
                f"the {name} part of the payments by time has {len(part)} rows, "
                f"{int(part.sum())} of them frauds: training needs frauds and genuine payments in "
                "both parts; give it more data"
            )
    return split


def _fitted(
    columns: pd.DataFrame, labels: npt.NDArray[np.bool_], weights: Floats, seed: int
) -> Pipeline:
    """The log-odds of kinds are counted without weights, the trees take them."""
    if (weights == 1).all():
        return make_classifier(seed).fit(columns, labels)
    return make_classifier(seed).fit(columns, labels, trees__sample_weight=weights)


def fraud_probability(model: Pipeline, columns: pd.DataFrame) -> Floats:
    """The model's probability of fraud of each row: float64 of shape (n,)."""
    return np.asarray(model.predict_proba(columns)[:, 1], dtype=np.float64)


def fingerprint(payments: pd.DataFrame) -> str:
    """SHA-256 over the 64-bit hashes of the rows in their order, as hexadecimal digits."""
    digest = hashlib.sha256("\n".join(payments.columns).encode())
    digest.update(pd.util.hash_pandas_object(payments, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _parameters(
    ordered: pd.DataFrame, settings: TrainSettings, test_rows: int, model: Pipeline
) -> dict[str, Any]:
    trees = model.named_steps["trees"]
    return {
        "rows": len(ordered),
        "frauds": int((ordered["is_fraud"] == 1).sum()),
        "cards": int(ordered["cc_num"].nunique()),
        "first_event": ordered["event_time"].iloc[0].isoformat(),
        "last_event": ordered["event_time"].iloc[-1].isoformat(),
        "test_rows": test_rows,
        **settings.model_dump(),
        **{
            f"trees_{name}": getattr(trees, name)
            for name in ("max_iter", "learning_rate", "max_leaf_nodes", "l2_regularization")
        },
    }
