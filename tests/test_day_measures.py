from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest

from jobs.day_measures import day_rows, has_matured
from jobs.label_ledger import standing_verdicts
from tests.test_truth import ledger

DAY = datetime(2026, 1, 10, tzinfo=UTC)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
YOUNG = DAY + timedelta(days=2)


def payments(*rows, version="3", delay=2.0):
    """Rows of (trans_num, score, is a hit, amount)."""
    received = DAY + timedelta(hours=9)
    return pd.DataFrame(
        {
            "trans_num": [row[0] for row in rows],
            "cc_num": [f"card of {row[0]}" for row in rows],
            "fraud_score": [row[1] for row in rows],
            "prediction": [row[2] for row in rows],
            "amt": [row[3] for row in rows],
            "ingested_at": received,
            "scored_at": received + timedelta(seconds=delay),
            "model_name": "fraud",
            "model_version": version,
        }
    )


FOUR = (("a", 0.9, True, 200.0), ("b", 0.8, True, 50.0), ("c", 0.25, False, 300.0), ("d", 0.05, False, 10.0))  # fmt: skip
TOLD = ledger(("a", True, 3), ("c", True, 2), ("d", False, 1))


def rows(settings, payments, now, told=TOLD, mailed=("a",), rejected=5):
    verdicts = standing_verdicts(told)
    frames = [payments] if isinstance(payments, pd.DataFrame) else payments
    return list(day_rows(DAY, frames, verdicts, frozenset(mailed), rejected, now, settings))


def test_a_matured_day_is_measured_by_the_truth(settings):
    (row,) = rows(settings, payments(*FOUR), NOW)
    assert (row["day"], row["model_name"], row["model_version"]) == (
        date(2026, 1, 10),
        "fraud",
        "3",
    )
    assert row["is_matured"]
    assert (row["payments"], row["hits"], row["frauds"]) == (4, 2, 2)
    assert (row["precision"], row["recall"]) == (0.5, 0.5)
    assert row["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert row["card_precision_at_k"] == 2 / settings.train.card_precision_k
    assert row["money_saved_usd"] == 200 - 2 * settings.train.look_cost_usd
    assert row["money_lost_usd"] == 300
    assert row["expected_calibration_error"] > 0


def test_a_day_that_is_not_matured_is_estimated_from_the_scores(settings):
    (row,) = rows(settings, payments(*FOUR), YOUNG)
    assert not row["is_matured"]
    assert row["frauds"] == pytest.approx(2.0)
    assert row["precision"] == pytest.approx(0.85)
    assert row["recall"] == pytest.approx(1.7 / 2.0)
    assert row["money_saved_usd"] == pytest.approx(0.9 * 200 + 0.8 * 50 - 20)
    assert row["money_lost_usd"] == pytest.approx(0.25 * 300 + 0.05 * 10)
    for name in ("average_precision", "card_precision_at_k", "expected_calibration_error"):
        assert row[name] is None


def test_coverage_counts_verdicts_and_those_on_hits(settings):
    (row,) = rows(settings, payments(*FOUR), YOUNG)
    assert (row["labelled"], row["label_coverage"], row["labelled_hits"]) == (3, 0.75, 1)
    assert row["verified_precision"] == 1
    (row,) = rows(settings, payments(*FOUR), YOUNG, told=ledger())
    assert (row["labelled"], row["labelled_hits"], row["verified_precision"]) == (0, 0, None)


def test_mails_rejected_rows_and_delays_stand_beside(settings):
    frame = pd.concat([payments(*FOUR[:2], delay=1.0), payments(*FOUR[2:], delay=3.0)])
    (row,) = rows(settings, frame, YOUNG)
    assert (row["alerts_sent"], row["rejected"]) == (1, 5)
    assert row["delay_seconds_p50"] == 2.0
    assert row["delay_seconds_p99"] == pytest.approx(3.0)


def test_each_version_has_a_row_of_its_own(settings):
    frame = pd.concat([payments(*FOUR[:1]), payments(*FOUR[1:], version="4")])
    first, second = rows(settings, frame, NOW)
    assert [first["model_version"], second["model_version"]] == ["3", "4"]
    assert (first["frauds"], second["frauds"]) == (1, 1)
    assert second["precision"] == 0


@pytest.mark.parametrize("now", [NOW, YOUNG])
def test_it_does_not_matter_in_which_frames_a_day_is_read(settings, now):
    whole = pd.concat(
        [payments(*FOUR), payments(*FOUR[:3], version="4", delay=5.0), payments(FOUR[2], FOUR[3])],
        ignore_index=True,
    )
    parts = [whole[:1], whole[1:1], whole[1:6], whole[6:]]
    assert rows(settings, iter(parts), now) == rows(settings, whole, now)
    assert len(rows(settings, whole, now)) == 2


def test_payments_without_a_card_are_no_card(settings):
    nobody = payments(("e", 0.99, True, 1.0), ("f", 0.99, True, 1.0)).assign(cc_num=None)
    (row,) = rows(
        settings, pd.concat([payments(*FOUR), nobody]), NOW, ledger(("a", True, 3), ("e", True, 3))
    )
    assert row["card_precision_at_k"] == 1 / settings.train.card_precision_k
    (row,) = rows(settings, nobody, NOW, ledger(("e", True, 3)))
    assert row["frauds"] == 1


def test_what_has_no_value_is_none_and_not_0(settings):
    (row,) = rows(settings, payments(("x", 0.1, False, 5.0)), NOW)
    assert (row["precision"], row["recall"], row["average_precision"]) == (None, None, None)


def test_a_day_has_matured_when_its_last_payment_has():
    assert has_matured(DAY, DAY + timedelta(days=31), 30)
    assert not has_matured(DAY, DAY + timedelta(days=31) - timedelta(microseconds=1), 30)
