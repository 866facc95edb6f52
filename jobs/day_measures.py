"""What the table `model_metrics` says of a day: measures by what is known, estimates where nothing
is known yet. Pure functions on the payments of one UTC day of receipt.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import average_precision_score

from conf.settings import Settings
from jobs.calibration import expected_calibration_error
from jobs.drift import Drift
from jobs.metrics import card_precision_at_k, cents, money_cents
from jobs.reference import SCORE
from jobs.truth import known_truth
from jobs.windows import Floats

DAY = timedelta(days=1)

PAYMENT_COLUMNS = (
    "trans_num", "cc_num", "amt", "ingested_at", "scored_at", "fraud_score", "prediction",
    "model_name", "model_version",
)  # fmt: skip
"""Columns of `transactions` that the measures are made from."""

VERSION = ["model_name", "model_version"]

_UNKNOWN = ("average_precision", "card_precision_at_k", "expected_calibration_error")
"""What cannot be estimated without the truth."""


def has_matured(day: datetime, now: datetime, maturity_days: float) -> bool:
    """Whether the truth of every payment received on the UTC ``day`` (its midnight) counts as
    known at ``now``.
    """
    return day + DAY + timedelta(days=maturity_days) <= now


def day_rows(
    day: datetime,
    payments: Iterable[pd.DataFrame],
    verdicts: pd.DataFrame,
    mailed: frozenset[str],
    rejected: int,
    now: datetime,
    settings: Settings,
) -> Iterator[dict[str, Any]]:
    """The rows of `model_metrics` of the UTC ``day`` (its midnight), but for drift: one a version.

    Args:
        payments: the rows received that day in frames, each of n rows with ``PAYMENT_COLUMNS``;
            of a row 43 bytes are kept until all are read.
        verdicts: ``jobs.label_ledger.standing_verdicts(…, now)``.
        mailed: `trans_num` of hits whose mail went out.
        rejected: payloads received that day that are no valid payment.
    """
    maturity = settings.label.maturity_days
    is_matured = has_matured(day, now, maturity)
    kept: dict[tuple[Any, Any], list[pd.DataFrame]] = defaultdict(list)
    for frame in payments:
        known = frame.dropna(subset=["fraud_score"])
        for (name, version), group in known.groupby(VERSION, sort=False):
            kept[name, version].append(_judged(group, verdicts, mailed, now, maturity))
    for (name, version), parts in sorted(kept.items()):
        group = pd.concat(parts, ignore_index=True)
        told, truth, hits = (group[column].to_numpy() for column in ("told", "truth", "hit"))
        measures = _measured if is_matured else _estimated
        yield {
            "day": day.date(),
            "model_name": name,
            "model_version": version,
            "computed_at": now,
            "is_matured": is_matured,
            "payments": len(group),
            "hits": int(hits.sum()),
            "labelled": int(told.sum()),
            "label_coverage": float(told.mean()),
            "labelled_hits": int((told & hits).sum()),
            "verified_precision": _mean(truth[told & hits]),
            **measures(group, truth, hits, settings),
            "alerts_sent": int(group["mailed"].sum()),
            "rejected": rejected,
            **_delays(group["delay"]),
        }


def _judged(
    payments: pd.DataFrame,
    verdicts: pd.DataFrame,
    mailed: frozenset[str],
    now: datetime,
    maturity_days: float,
) -> pd.DataFrame:
    """What the measures need of payments, without their text: cards are told apart by a hash of 64
    bits, 0 where there is none.
    """
    numbers = payments["cc_num"].to_numpy(dtype=object)
    cards = pd.util.hash_array(numbers, categorize=False)
    hits = payments["prediction"].to_numpy(dtype=bool)
    return pd.DataFrame(
        {
            "card": np.where(pd.isna(numbers), np.uint64(0), cards),
            "amt": payments["amt"].to_numpy(np.float64),
            "fraud_score": payments["fraud_score"].to_numpy(np.float64),
            "truth": known_truth(payments, verdicts, now, maturity_days),
            "delay": (payments["scored_at"] - payments["ingested_at"])
            .dt.total_seconds()
            .to_numpy(np.float64),
            "told": payments["trans_num"].isin(verdicts.index).to_numpy(),
            "hit": hits,
            "mailed": hits & payments["trans_num"].isin(mailed).to_numpy(),
        }
    )


def drift_columns(drift: Drift | None) -> dict[str, Any]:
    """The columns of `model_metrics` that tell of drift."""
    if drift is None:
        return {"score_psi": None, "psi": None, "effect_size": None}
    psi = {name: value for name, value in drift.psi.items() if name != SCORE}
    return {"score_psi": drift.psi.get(SCORE), "psi": psi, "effect_size": drift.effect_size}


def _measured(
    payments: pd.DataFrame, truth: Floats, hits: npt.NDArray[np.bool_], settings: Settings
) -> dict[str, Any]:
    """By the truth, NaN nowhere."""
    frauds, scores = truth == 1, payments["fraud_score"].to_numpy(np.float64)
    both = bool(frauds.any() and not frauds.all())
    amounts = np.rint(payments["amt"].to_numpy(np.float64) * 100).astype(np.int64)
    look_cost = cents(settings.train.look_cost_usd)
    saved, lost = money_cents(frauds, amounts, hits, look_cost)
    cards = payments["card"].to_numpy()
    told = cards != 0
    return {
        "frauds": float(frauds.sum()),
        "precision": _mean(frauds[hits]),
        "recall": _mean(hits[frauds]),
        "average_precision": float(average_precision_score(frauds, scores)) if both else None,
        "card_precision_at_k": card_precision_at_k(
            cards[told],
            np.zeros(told.sum(), np.int64),
            frauds[told],
            scores[told],
            settings.train.card_precision_k,
        ),
        "expected_calibration_error": expected_calibration_error(frauds, scores),
        "money_saved_usd": saved / 100,
        "money_lost_usd": lost / 100,
    }


def _estimated(
    payments: pd.DataFrame, truth: Floats, hits: npt.NDArray[np.bool_], settings: Settings
) -> dict[str, Any]:
    """What is to be expected if the scores are the probabilities that they say they are: of n
    payments the sum of their scores is frauds. This is confidence-based performance estimation, as
    in Białek et al., "Estimating Model Performance Under Covariate Shift Without Labels" (2024); it
    does not see frauds that the model does not see. Verdicts play no part: those that come early
    are of hits, for the most part.
    """
    scores, amounts = (payments[name].to_numpy(np.float64) for name in ("fraud_score", "amt"))
    frauds, found = float(scores.sum()), float(scores[hits].sum())
    look_cost = settings.train.look_cost_usd * int(hits.sum())
    return {
        "frauds": frauds,
        "precision": _mean(scores[hits]),
        "recall": found / frauds if frauds else None,
        **dict.fromkeys(_UNKNOWN),
        "money_saved_usd": float((scores * amounts)[hits].sum()) - look_cost,
        "money_lost_usd": float((scores * amounts)[~hits].sum()),
    }


def _delays(delay: "pd.Series[float]") -> dict[str, float | None]:
    seconds = delay.dropna()
    if not len(seconds):
        return dict.fromkeys(f"delay_seconds_p{percent}" for percent in (50, 95, 99))
    return {
        f"delay_seconds_p{percent}": float(seconds.quantile(percent / 100))
        for percent in (50, 95, 99)
    }


def _mean(values: npt.NDArray[Any]) -> float | None:
    return float(values.mean()) if len(values) else None
