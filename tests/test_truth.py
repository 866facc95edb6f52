from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa

from jobs.label_ledger import standing_verdicts
from jobs.tables import arrow_schema
from jobs.truth import known_truth

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def ledger(*rows):
    """Rows of (trans_num, label, days before now)."""
    verdicts = [
        {"trans_num": name, "label": label, "recorded_at": NOW - timedelta(days=days), "line": line}
        for line, (name, label, days) in enumerate(rows)
    ]
    return pa.Table.from_pylist(verdicts, schema=arrow_schema("labels"))


def payments(**days):
    received = [NOW - timedelta(days=some) for some in days.values()]
    return pd.DataFrame({"trans_num": list(days), "ingested_at": received})


def test_the_last_verdict_recorded_until_then_stands():
    told = ledger(("a", True, 3), ("b", True, 2), ("a", False, 1), ("b", False, 2))
    assert standing_verdicts(told)["label"].to_dict() == {"a": False, "b": False}
    until = standing_verdicts(told, NOW - timedelta(days=2))
    assert until["label"].to_dict() == {"a": True, "b": False}
    assert len(standing_verdicts(told, NOW - timedelta(days=4))) == 0


def test_a_verdict_tells_the_truth_and_else_time_does():
    told = ledger(("reported", True, 1), ("cleared", False, 1), ("old_fraud", True, 2))
    some = payments(reported=2, cleared=2, fresh=29.9, matured=30, old_fraud=50)
    truth = known_truth(some, standing_verdicts(told), NOW, 30)
    np.testing.assert_array_equal(truth, [1, 0, np.nan, 0, 1])


def test_without_any_verdict_time_alone_tells():
    truth = known_truth(payments(fresh=1, matured=31), standing_verdicts(ledger()), NOW, 30)
    np.testing.assert_array_equal(truth, [np.nan, 0])
