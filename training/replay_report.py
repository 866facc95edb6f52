"""The comparison of two tables of scored payments, and what it says."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier

from jobs.features import FEATURE_NAMES
from training.versions import Judge

SHOWN_EXAMPLES = 5
TOLERANCE = 1e-12
"""How far the scores of a model other than trees may lie apart."""

_TREES = (
    DecisionTreeClassifier, ExtraTreesClassifier, GradientBoostingClassifier,
    HistGradientBoostingClassifier, RandomForestClassifier,
)  # fmt: skip

Marks = npt.NDArray[np.bool_]
Values = npt.NDArray[Any]
Version = tuple[str, str]
"""A model's name and version."""


@dataclass(frozen=True)
class Difference:
    """Where stream and training differ: a column (or the presence of a row), in how many rows, and
    of the first few `trans_num`, what was expected and what was found.
    """

    what: str
    count: int
    examples: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Report:
    """Rows compared, with how many features each; rows that landed but are not scored yet; rows
    by version; differences.
    """

    compared: int
    features: int
    not_scored_yet: int
    versions: Mapping[Version, int]
    differences: tuple[Difference, ...]


def compare(expected: pd.DataFrame, found: pd.DataFrame, judges: Mapping[Version, Judge]) -> Report:
    """Compare what training computes with what the stream wrote.

    A payment that is expected and not found is not scored yet where it lies behind all scored ones
    of its source, else missing. Features have the same bits, or are missing in both; so have scores
    of trees, others differ by ``TOLERANCE`` at most.

    Args:
        expected: `source`, `position` and the columns of ``jobs.model.inputs_of``.
        found: `source`, `position`, `trans_num`, ``FEATURE_NAMES``, `fraud_score`, `prediction`,
            `threshold`, `model_name`, `model_version`.
        judges: of each version in ``found``.

    Raises:
        jobs.model.ModelRefused: a version fails on the payments.
    """
    address = ["source", "position"]
    is_double = found.duplicated(address).to_numpy()
    rows = _by_address(found[~is_double])
    wanted = _by_address(expected)
    is_there = wanted.index.isin(rows.index)
    highest = found.groupby("source")["position"].max().reindex(wanted["source"]).to_numpy()
    is_behind = ~is_there & ~(wanted["position"].to_numpy() <= highest)
    missing = wanted[~is_there & ~is_behind]
    extra = rows[~rows.index.isin(wanted.index)]
    differences = [
        _presence("missing in transactions", missing, "one row", "none"),
        _presence("in transactions, not expected", extra, "no row", "one"),
        _presence("more than once in transactions", found[is_double], "one row", "another"),
    ]
    wanted = wanted[is_there]
    rows = rows.loc[wanted.index]
    names = rows["trans_num"].to_numpy()
    for name in ("trans_num", *FEATURE_NAMES):
        differences.append(_values(name, names, wanted[name].to_numpy(), rows[name].to_numpy()))
    for version, judge in judges.items():
        differences += _judged(version, judge, wanted, rows)
    return Report(
        compared=len(rows),
        features=len(FEATURE_NAMES),
        not_scored_yet=int(is_behind.sum()),
        versions=Counter(zip(rows["model_name"], rows["model_version"], strict=True)),
        differences=tuple(item for item in differences if item.count),
    )


def _by_address(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.set_index(pd.MultiIndex.from_frame(rows[["source", "position"]]))


def _presence(what: str, rows: pd.DataFrame, expected: str, found: str) -> Difference:
    shown = rows[:SHOWN_EXAMPLES]
    told = [
        (str(name), f"{expected} ({source}, {position})", found)
        for name, source, position in zip(
            shown["trans_num"], shown["source"], shown["position"], strict=True
        )
    ]
    return Difference(what, len(rows), tuple(told))


def _judged(
    version: Version, judge: Judge, wanted: pd.DataFrame, rows: pd.DataFrame
) -> list[Difference]:
    """The differences in score, threshold and prediction of one version's rows."""
    is_its = ((rows["model_name"] == version[0]) & (rows["model_version"] == version[1])).to_numpy()
    wanted, rows = wanted[is_its], rows[is_its]
    names, label = rows["trans_num"].to_numpy(), f"{version[0]} v{version[1]}"
    scores, found = judge.scores_of(wanted), rows["fraud_score"].to_numpy()
    is_near = np.abs(scores - found) <= (0.0 if is_of_trees(judge.model.estimator) else TOLERANCE)
    thresholds = np.full(len(rows), judge.threshold)
    hits = found >= judge.threshold
    return [
        _values(f"fraud_score by {label}", names, scores, found, is_near),
        _values(f"threshold of {label}", names, thresholds, rows["threshold"].to_numpy()),
        _values(f"prediction by {label}", names, hits, rows["prediction"].to_numpy()),
    ]


def is_of_trees(estimator: object) -> bool:
    """Whether a scikit-learn classifier, or the last step of a pipeline, adds up trees in a fixed
    order, so that the same features give the same bits. One that adds in parallel does not.
    """
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    return isinstance(last, _TREES) and getattr(last, "n_jobs", None) in (None, 1)


def _values(
    what: str, names: Values, expected: Values, found: Values, is_near: Marks | None = None
) -> Difference:
    """The difference in one column; ``is_near`` marks what may differ in bits."""
    same = _same(expected, found)
    places = np.flatnonzero(~(same if is_near is None else same | is_near))
    told = [
        (str(names[place]), repr(expected[place].item()), repr(found[place].item()))
        if isinstance(expected[place], np.generic) and isinstance(found[place], np.generic)
        else (str(names[place]), repr(expected[place]), repr(found[place]))
        for place in places[:SHOWN_EXAMPLES]
    ]
    return Difference(what, len(places), tuple(told))


def _same(expected: Values, found: Values) -> Marks:
    """Equal bit for bit; NaN equals NaN."""
    if expected.dtype == np.float64 and found.dtype == np.float64:
        bits = expected.view(np.int64) == found.view(np.int64)
        return np.asarray(bits | (np.isnan(expected) & np.isnan(found)), np.bool_)
    return np.asarray(expected == found, np.bool_)


def lines_of(report: Report) -> list[str]:
    """The report in words; a payment's line holds its whole `trans_num`, to be copied."""
    versions = ", ".join(
        f"{name} v{version} ({count:,})" for (name, version), count in report.versions.items()
    )
    lines = [
        f"compared {report.compared:,} payments, {report.features} features each; "
        f"scored by {versions or 'none'}"
    ]
    if report.not_scored_yet:
        lines.append(f"not scored yet: {report.not_scored_yet:,}")
    if not report.differences:
        return [*lines, "no differences"]
    for item in report.differences:
        lines.append(f"different: {item.what}, {item.count:,} rows, such as")
        lines += [
            f"  {name}: expected {expected}, found {found}"
            for name, expected, found in item.examples
        ]
    return lines
