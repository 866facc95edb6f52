"""How well scores find fraud: the field's measures, and the choice of a threshold."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

Labels = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def recall_at_precision(labels: Labels, scores: Floats, precision: float) -> float:
    """The largest share of the frauds that a threshold finds while at least ``precision`` of its
    hits are frauds; 0 where no threshold does.
    """
    precisions, recalls, _ = precision_recall_curve(labels, scores)
    return float(recalls[precisions >= precision].max(initial=0.0))


def choose_threshold(labels: Labels, scores: Floats, min_precision: float) -> float:
    """The lowest threshold that keeps ``min_precision``; where none does, that of the best F1."""
    precisions, recalls, thresholds = precision_recall_curve(labels, scores)
    precisions, recalls = precisions[:-1], recalls[:-1]
    enough = np.flatnonzero((precisions >= min_precision) & (recalls > 0))
    if len(enough):
        return float(thresholds[enough[0]])
    sums = np.maximum(precisions + recalls, np.finfo(np.float64).tiny)
    return float(thresholds[np.argmax(precisions * recalls / sums)])


def at_threshold(labels: Labels, scores: Floats, threshold: float) -> tuple[float, float]:
    """Precision and recall of the hits ``scores >= threshold``; 0 without any hit or fraud."""
    hits = scores >= threshold
    found = int((hits & labels).sum())
    return found / max(int(hits.sum()), 1), found / max(int(labels.sum()), 1)


def evaluation(labels: Labels, scores: Floats, threshold: float) -> dict[str, Any]:
    """What ``training.evaluate`` prints: rows, frauds, average_precision, roc_auc,
    recall_at_precision_90, threshold, precision, recall (both at the threshold).

    Average precision is the sum of precision times the step in recall over all thresholds, as in
    scikit-learn; without frauds, or with nothing else, the ranking measures are None.
    """
    precision, recall = at_threshold(labels, scores, threshold)
    both = bool(labels.any() and not labels.all())
    return {
        "rows": len(labels),
        "frauds": int(labels.sum()),
        "average_precision": float(average_precision_score(labels, scores)) if both else None,
        "roc_auc": float(roc_auc_score(labels, scores)) if both else None,
        "recall_at_precision_90": recall_at_precision(labels, scores, 0.9) if both else None,
        "threshold": threshold,
        "precision": precision,
        "recall": recall,
    }
