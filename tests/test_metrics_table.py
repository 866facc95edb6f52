from datetime import UTC, date, datetime, timedelta

import pytest
from deltalake import DeltaTable

from jobs.metrics_table import append_changed, latest_metrics, remove_yet_to_come
from jobs.tables import arrow_schema, ensure_table

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)


def row(day=1, version="3", later=0, **values):
    key = {"day": date(2026, 1, day), "model_name": "fraud", "model_version": version}
    empty = dict.fromkeys(arrow_schema("model_metrics").names)
    return empty | key | {"computed_at": NOW + timedelta(hours=later), "is_matured": False} | values


@pytest.fixture
def table(settings):
    return ensure_table(settings.warehouse, "model_metrics")


def stored(table):
    return DeltaTable(table).to_pyarrow_table().num_rows


def test_the_last_row_of_a_day_and_version_counts(table):
    append_changed(table, [row(2, payments=5), row(1, payments=1), row(1, "4", payments=7)])
    append_changed(table, [row(1, later=1, payments=2, is_matured=True)])
    found = latest_metrics(table)
    assert found[["day", "model_version", "payments"]].to_numpy().tolist() == [
        [date(2026, 1, 1), "3", 2], [date(2026, 1, 1), "4", 7], [date(2026, 1, 2), "3", 5],
    ]  # fmt: skip
    assert found["is_matured"].tolist() == [True, False, False]


def test_what_did_not_change_is_not_written_again(table):
    values = {"payments": 5, "recall": 0.1 + 0.2, "precision": None, "psi": {"a": 0.5, "b": 0.1}}
    assert len(append_changed(table, [row(**values)])) == 1
    version = DeltaTable(table).version()
    assert append_changed(table, [row(later=1, **values | {"recall": 0.3})]) == []
    assert DeltaTable(table).version() == version
    changes = ({"recall": 0.31}, {"precision": 0.0}, {"psi": {"a": 0.5}})
    for hour, change in enumerate(changes):
        assert len(append_changed(table, [row(later=2 * hour + 2, **values | change)])) == 1
        append_changed(table, [row(later=2 * hour + 3, **values)])
    assert stored(table) == 7


def test_drift_comes_back_by_name(table):
    append_changed(table, [row(psi={"a": 0.5}, effect_size={"a": -1.0}), row(2)])
    assert latest_metrics(table)["psi"].tolist() == [{"a": 0.5}, None]
    assert latest_metrics(table)["effect_size"][0] == {"a": -1.0}


def test_a_known_drift_is_never_replaced_by_none(table):
    known = {"score_psi": 0.2, "psi": {"a": 0.5}, "effect_size": {"a": -1.0}}
    append_changed(table, [row(payments=5, **known)])
    assert append_changed(table, [row(later=1, payments=5)]) == []
    append_changed(table, [row(later=2, payments=6)])
    found = latest_metrics(table).iloc[0]
    assert found["payments"] == 6
    assert {name: found[name] for name in known} == known
    append_changed(table, [row(later=3, payments=6, **known | {"score_psi": None})])
    assert latest_metrics(table).iloc[0].isna()["score_psi"]


def test_rows_that_are_dated_ahead_are_removed_but_for_days_to_come(table, caplog):
    append_changed(table, [row(1, payments=1), row(10, later=5, payments=2), row(11, later=30)])
    append_changed(table, [row(1, later=24 * 365, payments=9)])
    assert remove_yet_to_come(table, NOW + timedelta(hours=5)) == 1
    assert "1 rows of model_metrics" in caplog.text
    assert latest_metrics(table)["payments"].tolist()[:2] == [1, 2]
    assert len(latest_metrics(table)) == 3
    version = DeltaTable(table).version()
    assert remove_yet_to_come(table, NOW + timedelta(hours=5)) == 0
    assert DeltaTable(table).version() == version


def test_without_a_table_there_are_no_rows(tmp_path):
    found = latest_metrics(str(tmp_path / "none"))
    assert len(found) == 0
    assert list(found.columns) == arrow_schema("model_metrics").names
