from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest

from conf.sections import MonitorSettings
from jobs.breaches import (
    LastDay,
    accuracy_limits_judged,
    drift_limits_judged,
    passed,
    service_limits_judged,
)
from jobs.drift import Drift
from jobs.version_facts import NOTHING, VersionFacts

LIMITS = MonitorSettings(
    max_psi=0.25, max_feature_psi=0.6, max_effect_size=0.8, max_category_effect_size=0.3,
    min_precision=0.4, min_recall=0.6, max_average_precision_drop=0.1, min_frauds=20,
    max_delay_p99_seconds=60, max_rejected_share=0.1,
    min_rows=20, max_silence_hours=24,
)  # fmt: skip


def days(*rows):
    """Rows of (hits, precision, frauds, recall, average precision)."""
    columns = ["hits", "precision", "frauds", "recall", "average_precision"]
    return pd.DataFrame(rows, columns=columns).assign(day=date(2026, 1, 3))


NOW = datetime(2026, 1, 4, 12, tzinfo=UTC)


def names(judged):
    """Of the limits that are passed."""
    return [breach.name for breach in passed(judged)]


def service(payments, rejected, delay=None, silence_hours=0.5):
    last = None if silence_hours is None else NOW - timedelta(hours=silence_hours)
    return list(service_limits_judged(LastDay(payments, rejected, delay, last), NOW, LIMITS))


@pytest.mark.parametrize(
    ("name", "psi", "effect", "is_beyond"),
    [
        ("amount_usd", 0.59, 0.79, False),
        ("amount_usd", 0.61, 0.0, True),
        ("amount_usd", 0.0, -0.81, True),
        ("fraud_score", 0.26, 0.0, True),
        ("category", 0.26, 0.0, True),
        ("category", 0.0, 0.31, True),
        ("category", 0.2, 0.29, False),
    ],
)
def test_drift_has_limits_by_psi_and_by_effect_size(name, psi, effect, is_beyond):
    found = list(drift_limits_judged(Drift({name: psi}, {name: effect}), "fraud v3", LIMITS))
    assert names(found) == ([f"drift of {name}"] if is_beyond else [])
    assert len(found) == 1
    if is_beyond:
        assert found[0].label == f"drift of {name} (fraud v3)"
        assert f"PSI {psi:.3f}" in found[0].text


def test_accuracy_is_that_of_all_days_together():
    some = days((30, 0.9, 40, 0.675, 0.9), (30, 0.1, 10, 0.3, 0.9), (0, None, 0, None, None))
    assert names(accuracy_limits_judged(some, "fraud v3", NOTHING, LIMITS)) == []
    some = days((30, 0.6, 40, 0.45, 0.9), (30, 0.1, 10, 0.3, 0.9))
    assert names(accuracy_limits_judged(some, "fraud v3", NOTHING, LIMITS)) == [
        "precision",
        "recall",
    ]


def test_average_precision_is_held_against_the_versions_own():
    some = days((20, 0.9, 30, 0.6, 0.9), (20, 0.9, 10, 1.0, 0.5), (0, None, 0, None, None))
    for own, expected in ((0.89, []), (0.91, ["average precision"])):
        found = accuracy_limits_judged(some, "fraud v3", VersionFacts(None, own), LIMITS)
        assert names(found) == expected


def test_few_frauds_or_hits_are_not_judged():
    some = days((19, 0.0, 19, 0.0, 0.1))
    assert list(accuracy_limits_judged(some, "fraud v3", VersionFacts(None, 1.0), LIMITS)) == []
    assert list(accuracy_limits_judged(some[:0], "fraud v3", NOTHING, LIMITS)) == []


def test_average_precision_is_not_judged_without_the_versions_own():
    some = days((20, 0.9, 30, 0.6, 0.1))
    found = accuracy_limits_judged(some, "fraud v3", NOTHING, LIMITS)
    assert [judged.name for judged in found] == ["precision", "recall"]


def test_delay_and_rejected_rows_are_the_services():
    assert names(service(90, 10, 59.0)) == []
    assert len(service(90, 10, 59.0)) == 3
    found = passed(service(80, 10, 61.0))
    assert [breach.label for breach in found] == ["delay", "rejected rows"]
    assert "10 of 90" in found[1].text


@pytest.mark.parametrize(("hours", "is_beyond"), [(23.9, False), (24.1, True), (700, True)])
def test_payments_that_stop_are_a_breach(hours, is_beyond):
    found = service(0, 0, silence_hours=hours)
    assert names(found) == (["no payments"] if is_beyond else [])
    assert [judged.label for judged in found] == ["no payments"]


def test_without_what_they_are_about_limits_are_not_judged():
    assert service(0, 0, silence_hours=None) == []
    names_of = [judged.name for judged in service(0, 19, silence_hours=1)]
    assert names_of == ["no payments"]
    assert names(service(0, 20, silence_hours=1)) == ["rejected rows"]
