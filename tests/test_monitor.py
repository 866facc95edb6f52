import logging
import sys
from datetime import date, timedelta
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from mlflow import MlflowClient

from ingest.schema import EXAMPLE_PAYMENT
from jobs import monitor
from jobs.features import FEATURE_NAMES
from jobs.metrics_table import latest_metrics
from jobs.monitor import look, look_and_mail
from jobs.monitor_runs import numbers_of
from jobs.reference import REFERENCE_KEY, Reference
from jobs.tables import arrow_schema, ensure_table
from jobs.version_facts import NOTHING, KnownFacts
from tests.conftest import save_code_model
from tests.written_rows import NOON, scored_rows

RNG = np.random.default_rng(2)
MIDNIGHT = NOON.replace(hour=0, minute=0, second=0, microsecond=0)


def append(settings, name, rows):
    if not isinstance(rows, pa.Table):
        rows = pa.Table.from_pylist(rows, arrow_schema(name))
    write_deltalake(ensure_table(settings.warehouse, name), rows, mode="append")


def receive(settings, first, count, days_ago, **changes):
    """``count`` payments numbered from ``first`` on, received ``days_ago`` days before NOON."""
    rows = scored_rows(*range(first, first + count), **{"model_name": "fraud"} | changes)
    moments = [NOON - timedelta(days=days_ago, seconds=10 * n + 10) for n in range(count)]
    place = rows.schema.get_field_index
    for name, times in (("ingested_at", moments), ("scored_at", [m + timedelta(seconds=2) for m in moments])):  # fmt: skip
        column = pa.array(times, rows.schema.field(name).type)
        rows = rows.set_column(place(name), rows.schema.field(name), column)
    append(settings, "transactions", rows)


def receive_daily(settings, count, days_ago):
    """``count`` payments on each of these days, of version 1."""
    for day in days_ago:
        receive(settings, 100 * day, count, days_ago=day, model_version="1")


def points(registry, name="payments"):
    """The days (as steps) that MLflow holds of a metric."""
    experiment = registry.get_experiment_by_name("fraud-monitor")
    (run,) = registry.search_runs([experiment.experiment_id])
    return [point.step for point in registry.get_metric_history(run.info.run_id, name)]


@pytest.fixture
def away(settings, monkeypatch):
    """Take the registry's file away, and bring it back."""
    path = Path(settings.registry.tracking_uri.removeprefix("sqlite:///"))

    def move(is_away):
        source, target = (path, path.with_suffix(".away"))[:: 1 if is_away else -1]
        source.rename(target)

    return move


def report(settings, numbers, recorded_at, label=True):
    verdicts = [
        {"trans_num": f"{n:032x}", "label": label, "recorded_at": recorded_at, "line": n}
        for n in numbers
    ]
    append(settings, "labels", verdicts)


def limits(settings, **changes):
    changed = settings.monitor.model_copy(update={"min_rows": 20, "min_frauds": 5} | changes)
    return settings.model_copy(update={"monitor": changed})


def days(found):
    return {(row["day"], row["model_version"]): row for row in found.metrics.to_dict("records")}


@pytest.fixture
def facts(settings):
    return KnownFacts(settings.registry)


@pytest.fixture
def registry(settings, tmp_path):
    """Version 1 of `fraud`, with a reference of what ``scored_rows`` has, but for the amounts."""
    mlflow.set_tracking_uri(settings.registry.tracking_uri)
    features = pd.DataFrame(
        {name: np.full(500, place / 8) for place, name in enumerate(FEATURE_NAMES)}
    ).assign(amount_usd=RNG.normal(80, 10, 500))
    past = Reference.of(
        features, np.full(500, 0.75), pd.Series([EXAMPLE_PAYMENT["category"]] * 500)
    )
    code = save_code_model(
        tmp_path / "code" / "model", "return np.full(len(data), 0.5)", {"amount_usd": "double"},
        metadata={REFERENCE_KEY: past.to_json()},
    )  # fmt: skip
    mlflow.create_experiment("fraud", artifact_location=(tmp_path / "art").as_uri())
    mlflow.set_experiment("fraud")
    with mlflow.start_run() as run:
        mlflow.log_metric("average_precision", 0.9)
        mlflow.log_artifacts(str(code), "model")
    client = MlflowClient()
    client.create_registered_model("fraud")
    client.create_model_version("fraud", f"{run.info.artifact_uri}/model", run.info.run_id)
    return client


def test_days_are_measured_by_version_with_what_is_known_of_each(settings, facts):
    receive(settings, 0, 10, days_ago=40, model_version="1")
    receive(settings, 10, 6, days_ago=40, model_version="2", prediction=False, fraud_score=0.25)
    receive(settings, 20, 8, days_ago=1, model_version="2")
    report(settings, [0, 1, 10, 20], NOON - timedelta(hours=1))
    rejected = {"source": "api", "position": 1, "received_at": NOON - timedelta(days=40)}
    append(settings, "rejected", [rejected])
    sent = {"status": "sent", "recorded_at": NOON - timedelta(days=1)}
    append(settings, "alerts", [sent | {"trans_num": f"{n:032x}"} for n in (20, 21, 10)])
    append(settings, "alerts", [sent | {"trans_num": f"{22:032x}", "status": "failed"}])
    found = days(look(settings, NOON, facts))
    old, yesterday = (NOON - timedelta(days=40)).date(), (NOON - timedelta(days=1)).date()
    assert list(found) == [(old, "1"), (old, "2"), (yesterday, "2")]
    first, second, last = found.values()
    assert (first["is_matured"], first["precision"], first["recall"]) == (True, 0.2, 1.0)
    assert (second["hits"], second["frauds"], second["recall"]) == (0, 1, 0)
    assert (first["rejected"], second["rejected"], last["rejected"]) == (1, 1, 0)
    assert not last["is_matured"]
    assert (last["frauds"], last["precision"]) == (6.0, 0.75)
    assert (last["labelled"], last["label_coverage"], last["alerts_sent"]) == (1, 0.125, 2)
    assert last["delay_seconds_p99"] == 2.0


def test_a_look_writes_only_what_changed(settings, facts):
    receive(settings, 0, 4, days_ago=40)
    receive(settings, 10, 4, days_ago=10)
    receive(settings, 20, 4, days_ago=0)
    assert look(settings, NOON, facts).written == 3
    table = DeltaTable(settings.warehouse.table("model_metrics"))
    version = table.version()
    assert look(settings, NOON + timedelta(hours=1), facts).written == 0
    table.update_incremental()
    assert table.version() == version
    # A verdict on a day that is settled, and one on a day that has matured.
    report(settings, [11, 1], NOON + timedelta(hours=2))
    found = look(settings, NOON + timedelta(hours=3), facts)
    assert found.written == 2
    assert [row["labelled"] for row in days(found).values()] == [1, 1, 0]
    assert [row["frauds"] for row in days(found).values()] == [1, 3.0, 3.0]
    found = look(settings, NOON + timedelta(days=21), facts)
    assert [row["is_matured"] for row in days(found).values()] == [True, True, False]
    assert [row["frauds"] for row in days(found).values()] == [1, 1, 3.0]


def test_only_what_was_known_by_then_counts(settings, facts):
    receive(settings, 0, 4, days_ago=40)
    receive(settings, 10, 3, days_ago=39.4)
    receive(settings, 20, 5, days_ago=39)
    report(settings, [0], NOON - timedelta(days=38))
    found = days(look(settings, NOON - timedelta(days=39, hours=6), facts))
    assert [(row["payments"], row["labelled"]) for row in found.values()] == [(4, 0), (3, 0)]


def test_without_tables_there_is_nothing_to_tell(settings, facts):
    found = look(settings, NOON, facts)
    assert (found.written, found.breaches, found.pages) == (0, [], {})


def test_a_registry_that_is_away_is_a_warning_and_the_rows_are_written(settings, facts, caplog):
    receive(settings, 0, 30, days_ago=1)
    assert look(limits(settings), NOON, facts).written == 1
    told = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    assert "stand in model_metrics alone" in told[0]


def test_drift_is_told_mailed_and_logged(settings, facts, registry, tmp_path, monkeypatch):
    settings = limits(settings)
    receive_daily(settings, 25, range(7))
    mails = []
    monkeypatch.setattr(monitor, "send_alarm", lambda *mail, **options: mails.append(mail))
    for hours in (0, 1):
        found = look_and_mail(settings, NOON + timedelta(hours=hours), facts, sleep=lambda s: None)
    (page,) = found.pages.values()
    assert (settings.monitor.folder / "drift-fraud-v1.html").read_text() == page
    assert [breach.label for breach in found.breaches] == ["drift of amount_usd (fraud v1)"]
    ((_, subject, text, attachments),) = mails
    assert subject == "Fraud model: drift of amount_usd (fraud v1)"
    assert "effect size -" in text
    assert [attachment.name for attachment in attachments] == ["drift-fraud-v1.html"]
    row = list(days(found).values())[-1]
    assert row["psi"]["amount_usd"] > 1
    assert row["effect_size"]["amount_usd"] < -1
    assert row["psi"]["category"] == row["psi"]["age_years"] == row["score_psi"] == 0
    experiment = registry.get_experiment_by_name("fraud-monitor")
    (run,) = registry.search_runs([experiment.experiment_id])
    assert run.data.tags["model_version"] == "1"
    assert run.data.metrics["payments"] == 25
    steps = {point.step for point in registry.get_metric_history(run.info.run_id, "payments")}
    assert max(steps) == (NOON.date() - date(1970, 1, 1)).days
    assert len(steps) == 7
    (artifact,) = registry.list_artifacts(run.info.run_id, "drift")
    assert artifact.path == f"drift/{NOON:%Y-%m-%d}.html"
    assert facts.of("fraud", "1").average_precision == 0.9


def test_a_version_that_is_not_registered_is_no_registry_that_is_away(facts, registry, caplog):
    assert facts.of("fraud", "99") is NOTHING
    assert not facts.is_away
    assert "fraud v99 has no reference" in caplog.text
    assert facts.of("fraud", "1").reference is not None


def test_drift_is_not_judged_before_the_window_is_full(settings, facts, registry):
    settings = limits(settings)
    receive_daily(settings, 30, range(3))
    found = look(settings, NOON, facts)
    assert list(found.pages) == [("fraud", "1")]
    assert found.breaches == []


def test_drift_is_not_judged_on_a_window_with_a_pause(settings, facts, registry):
    settings = limits(settings)
    receive_daily(settings, 25, (0, 1, 2, 4, 5, 6))
    found = look(settings, NOON, facts)
    assert [judged.name for judged in found.judged] == ["no payments", "delay", "rejected rows"]
    assert found.breaches == []
    assert look(limits(settings, max_silence_hours=50), NOON, facts).breaches != []


def test_no_outage_makes_a_breach_over_or_new(settings, registry, away, monkeypatch):
    """Neither of the registry, nor of the payments."""
    settings = limits(settings, max_average_precision_drop=0.0)
    receive_daily(settings, 25, range(7))
    receive(settings, 1000, 20, days_ago=32, model_version="1", prediction=False)
    report(settings, range(1000, 1006), NOON - timedelta(days=20))
    subjects = []
    monkeypatch.setattr(monitor, "send_alarm", lambda _, subject, *mail, **options: subjects.append(subject))  # fmt: skip

    def tell(moment):
        """As a process of its own would."""
        return look_and_mail(settings, moment, KnownFacts(settings.registry), sleep=lambda s: None)

    tell(NOON)
    assert len(subjects) == 1
    assert {"drift of amount_usd", "average precision", "recall"} == {
        breach.name for breach in tell(NOON).breaches
    }
    away(True)
    tell(NOON + timedelta(hours=1))
    away(False)
    tell(NOON + timedelta(hours=2))
    assert len(subjects) == 1
    tell(NOON + timedelta(days=9))
    assert subjects[1:] == ["Fraud model: no payments"]


def test_what_an_outage_of_the_registry_kept_back_is_filled_in(settings, registry, away):
    settings = limits(settings)
    receive_daily(settings, 25, range(35, 38))

    def psi(moment):
        found = look(settings, moment, KnownFacts(settings.registry))
        return [bool(row["psi"]) for row in days(found).values()]

    assert psi(NOON - timedelta(days=36)) == [True, True]
    away(True)
    # The first two days mature, the third one comes.
    assert psi(NOON) == [True, True, False]
    receive_daily(settings, 25, [3])
    assert psi(NOON) == [True, True, False, False]
    away(False)
    assert psi(NOON + timedelta(days=10)) == [True] * 4
    day = (NOON.date() - date(1970, 1, 1)).days
    assert set(points(registry)) == set(points(registry, "psi/amount_usd"))
    assert set(points(registry, "precision")) == {day - 37, day - 36, day - 35}
    assert points(registry, "estimated_precision")[-1] == day - 3
    assert look(settings, NOON + timedelta(days=10), KnownFacts(settings.registry)).written == 0


def test_what_a_monitor_that_was_killed_did_not_log_is_logged_by_the_next(
    settings, facts, registry, monkeypatch
):
    receive_daily(settings, 5, range(3))

    def die(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(monitor, "log_look", die)
        with pytest.raises(KeyboardInterrupt):
            look(settings, NOON, facts)
    for hours in (1, 2):
        assert look(settings, NOON + timedelta(hours=hours), facts).written == 0
        assert len(points(registry)) == 3


def test_a_clock_that_is_set_back_makes_no_rows_again_and_again(settings, facts):
    for day in (1, 1.9, 2, 3, 40):
        receive(settings, int(100 * day), 4, days_ago=day)
    look(settings, NOON, facts)
    table = settings.warehouse.table("model_metrics")
    counts = []
    for hours in range(3):
        look(settings, NOON - timedelta(days=2, hours=-hours / 10), facts)
        counts.append(DeltaTable(table).to_pyarrow_table().num_rows)
    assert counts == [4, 4, 4]
    assert look(settings, NOON + timedelta(hours=1), facts).written == 1
    assert latest_metrics(table)["payments"].tolist() == [4, 4, 8, 4]


def test_a_clock_that_was_ahead_leaves_no_trace(settings, facts, registry):
    for day in (1, 3, 20):
        receive(settings, 100 * day, 4, days_ago=day, model_version="1")
    right = look(settings, NOON, facts).metrics
    assert look(settings, NOON + timedelta(days=365), facts).metrics["is_matured"].all()
    found = look(settings, NOON + timedelta(hours=1), facts).metrics
    assert not found["is_matured"].any()
    assert found["frauds"].tolist() == right["frauds"].tolist()
    report(settings, [300], NOON + timedelta(hours=2))
    found = look(settings, NOON + timedelta(hours=3), facts).metrics
    assert found["labelled"].tolist() == [0, 1, 0]
    assert len(points(registry, "estimated_precision")) > 3


def test_accuracy_delay_and_rejected_rows_have_limits(settings, facts):
    settings = limits(settings, max_delay_p99_seconds=1.0)
    receive(settings, 0, 10, days_ago=32, prediction=False)
    receive(settings, 20, 17, days_ago=0.5)
    report(settings, range(6), NOON - timedelta(days=20))
    rejected = {"source": "api", "received_at": NOON - timedelta(hours=2)}
    append(settings, "rejected", [rejected | {"position": n} for n in range(3)])
    found = look(settings, NOON, facts).breaches
    assert [breach.label for breach in found] == ["recall (fraud v3)", "delay", "rejected rows"]


def test_an_estimate_has_another_name_in_mlflow():
    row = {
        "is_matured": False,
        "day": MIDNIGHT.date(),
        "payments": 3,
        "precision": 0.5,
        "recall": None,
    }
    assert numbers_of(row | {"psi": {"a": 0.1}}) == {
        "payments": 3,
        "estimated_precision": 0.5,
        "psi/a": 0.1,
    }
    assert numbers_of(row | {"is_matured": True})["precision"] == 0.5


def test_the_command_prints_days_and_limits(settings, monkeypatch, capsys):
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    receive(settings, 0, 5, days_ago=(NOON - now) / timedelta(days=1) + 0.5)
    monkeypatch.setattr(sys, "argv", ["monitor", "--config", "conf/local.toml"])
    monkeypatch.setenv("COLUMNS", "200")
    assert monitor.main() == 0
    told = capsys.readouterr().out
    assert "fraud v3" in told
    assert "~0.750" in told
    assert "no limit is passed" in told
    assert len(latest_metrics(settings.warehouse.table("model_metrics"))) == 1
