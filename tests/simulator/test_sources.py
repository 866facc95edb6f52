from datetime import timedelta

import pandas as pd
import pytest

from ingest.simulator_sources import FileSource, SyntheticSource, latest_payments
from ingest.synthetic import FraudPlan, payments
from tests.simulator.simulated import START


def test_files_are_replayed_one_after_the_other(frame, tmp_path):
    frame.iloc[5:8].to_csv(tmp_path / "a.csv")
    frame.iloc[:2].to_csv(tmp_path / "b.csv")

    source = FileSource([tmp_path / "a.csv", tmp_path / "b.csv"])

    expected = frame["trans_num"].iloc[[5, 6, 7, 0, 1]].tolist()
    assert source.rows(0, 9)["trans_num"].tolist() == expected
    assert source.name == "a.csv, b.csv (5 payments)"
    assert not source.is_exhausted(4)
    assert source.is_exhausted(5)


@pytest.mark.parametrize("cuts", [[10, 300], [90, 100, 101, 330], [0, 330], [250, 60, 300]])
def test_synthetic_rows_are_the_same_however_they_are_asked(population, frame, cuts):
    source = SyntheticSource(population, START, seed=1)
    for first, stop in zip([0, *cuts], cuts, strict=False):
        found = source.rows(min(first, stop), stop)["trans_num"].tolist()
        assert found == frame["trans_num"].iloc[min(first, stop) : stop].tolist()


def test_a_synthetic_source_goes_on_from_its_anchor(population, frame):
    before = SyntheticSource(population, START, seed=1)
    before.rows(200, 210)
    anchor = before.anchor

    after = SyntheticSource(population, START, seed=1, anchor=anchor)

    assert 0 < anchor[0] <= 200
    assert anchor[1] > 0
    assert after.rows(210, 300)["trans_num"].tolist() == frame["trans_num"][210:300].tolist()
    assert after.rows(0, 5)["trans_num"].tolist() == frame["trans_num"][:5].tolist()
    assert not after.is_exhausted(10**9)


def test_a_changed_plan_of_the_fraud_is_served_and_named(population):
    plan = FraudPlan(START + timedelta(days=2), cycle_days=20)
    source = SyntheticSource(population, START, seed=1, fraud=plan)
    expected = payments(population, START, 8, 1, plan)

    assert source.rows(0, 600)["trans_num"].tolist() == expected["trans_num"].head(600).tolist()
    assert source.name.removeprefix(SyntheticSource(population, START, seed=1).name) == (
        ", fraud changes at 2024-03-03 00:00, a cycle of bursts takes 20 days"
    )
    written = latest_payments(population, START + timedelta(days=8), 600, 1, plan)
    pd.testing.assert_frame_equal(written, expected.tail(600).reset_index(drop=True))


def test_the_payments_to_train_on_end_where_those_served_begin(population):
    written = latest_payments(population, START, 300, seed=1)

    whole = payments(population, START - timedelta(days=30), 30, seed=1)
    pd.testing.assert_frame_equal(written, whole.tail(300).reset_index(drop=True))
