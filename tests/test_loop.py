"""The loop closes: fraud changes, the monitor notices, a version that learned it takes over."""

import io
import re
import threading
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pandas as pd
import pytest
from deltalake import DeltaTable
from rich.console import Console

import jobs.monitor
from conf.settings import load_settings
from ingest.payment_files import read_payments
from jobs.breaches import mean_average_precision
from jobs.loop_day import Loop
from jobs.loop_plot import accuracy_plot
from jobs.loop_story import Event, Story
from jobs.loop_view import accuracy_rows, print_day, print_summary, subjects
from jobs.mail_catcher import catcher
from jobs.metrics_table import frame_of, latest_metrics
from jobs.tables import arrow_schema
from tests.conftest import PROJECT, free_port
from training.alias_moves import AliasMoves
from training.replay import replay
from training.versions import load_judge

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

DAYS, CHANGE = 24, 8
MATURITY = 2
START = datetime(2025, 6, 1, tzinfo=UTC)


def changed(settings, **sections):
    return settings.model_copy(
        update={
            name: getattr(settings, name).model_copy(update=values)
            for name, values in sections.items()
        }
    )


@pytest.fixture
def small(environment, tmp_path):
    """``conf/loop.toml`` with fewer cards and days, robbed more often, and everything sooner."""
    return changed(
        load_settings(PROJECT / "conf" / "loop.toml"),
        loop={
            "days": DAYS, "cards": 300, "burst_cycle_days": 60, "training_days": 30,
            "change_after_days": CHANGE, "report_days": MATURITY, "gather_days": 2, "compare_every_days": 1,
        },
        label={"maturity_days": MATURITY, "review_share": 0.02},
        # The first champion's month has no month before it, which the counts of 30 days tell.
        monitor={"max_feature_psi": 5.0, "max_effect_size": 2.0, "min_rows": 200},
        score={"history": (str(tmp_path / "training.csv"),)},
        smtp={"port": free_port()},
    )  # fmt: skip


@pytest.fixture
def mails(small, tmp_path):
    relay = catcher(tmp_path / "mails", small.smtp.host, small.smtp.port)
    relay.start()
    yield tmp_path / "mails"
    relay.stop()


def only(events):
    (event,) = events
    return event


def test_days_of_which_none_has_matured_are_plotted_too(tmp_path):
    row = dict.fromkeys(arrow_schema("model_metrics").names)
    row |= {"day": date(2025, 6, 1), "model_name": "fraud", "model_version": "1"}
    metrics = frame_of([row | {"is_matured": False, "computed_at": START}])
    story = Story([Event(START, "champion", "v1 trained", "1")])
    figure = accuracy_plot(metrics, story, START + timedelta(days=3), {"1": 0.8})
    figure.savefig(tmp_path / "accuracy.png")
    console = Console(file=io.StringIO(), width=120)
    print_summary(console, story, metrics, START + timedelta(days=20), tmp_path)
    assert "v1 trained" in console.file.getvalue()


def test_a_change_of_fraud_is_noticed_learned_and_mended(
    spark, small, mails, tmp_path, monkeypatch
):
    monkeypatch.setattr(jobs.monitor, "drift_page", lambda *arguments: "<html></html>")
    days, loop = [], Loop(spark, small, tmp_path / "training.csv")
    loop.play(days.append, threading.Event())
    story, change = loop.story, loop.world.change
    alarm, retrained, promoted = (
        only(story.of(kind)) for kind in ("alarm", "retrained", "promoted")
    )
    metrics = latest_metrics(small.warehouse.table("model_metrics"))

    # Accuracy falls, drift rises, the alarm goes out once.
    matured = metrics[metrics["is_matured"].astype(bool)]
    before = matured["day"] < change.date()
    is_first = matured["model_version"] == "1"
    assert mean_average_precision(matured[before]) > 0.9
    assert mean_average_precision(matured[~before & is_first]) < 0.4
    # Thieves of the new pattern come by day, those of the old one came at night.
    drift = pd.Series([psi["hour_of_day"] for psi in matured["psi"]], matured.index)
    assert drift[~before & is_first].mean() > 2 * drift[before].mean()
    assert alarm.moment > change + timedelta(days=MATURITY)
    assert "average precision (fraud v1)" in alarm.text
    found = [{breach.label for breach in day.look.breaches} for day in days]
    sent = subjects(mails)
    standing = [set()]
    for breaches, day in zip(found, days, strict=True):
        standing.append(standing[-1] - {judged.label for judged in day.look.judged} | breaches)
    assert len(sent) == sum(one != other for one, other in pairwise(standing))
    assert [moment for moment, _ in sent if moment <= alarm.moment] == [alarm.moment]

    # A version is trained on verdicts and scores in shadow, then in the champion's place.
    assert (retrained.version, promoted.version) == ("2", "2")
    rows = DeltaTable(small.warehouse.table("transactions")).to_pandas()
    assert len(rows) == sum(day.payments for day in days)
    assert rows["scored_at"].equals(rows["ingested_at"])  # simulated, too
    in_shadow = rows["ingested_at"].between(retrained.moment, promoted.moment, inclusive="left")
    assert in_shadow.sum() > 1000
    assert (rows["challenger_version"].eq("2") == in_shadow).all()
    assert (rows["challenger_score"].notna() == in_shadow).all()
    by_second = rows["ingested_at"] >= promoted.moment
    assert rows["model_version"].eq("2").equals(by_second)
    move = only(AliasMoves(small.warehouse).of("fraud", "champion"))
    assert (move.from_version, move.to_version) == ("1", "2")
    assert (move.kind, move.moved_at) == ("promotion", promoted.moment)
    ledger = DeltaTable(small.warehouse.table("labels")).to_pandas()
    assert set(ledger["source"]) == {"holder", "analyst", "review"}
    assert ledger.loc[ledger["source"] == "analyst", "label"].nunique() == 2

    # Accuracy is back, and the stream computed what training computes.
    assert mean_average_precision(matured[~is_first]) > 0.8
    report = replay(
        small,
        lambda name, version: load_judge(f"models:/{name}/{version}", small.registry),
        read_payments(tmp_path / "training.csv"),
    )
    assert report.differences == ()

    # The terminal and the plot tell it.
    console = Console(file=io.StringIO(), width=120)
    for day in days:
        print_day(console, day)
    print_summary(console, story, metrics, change, mails)
    told = console.file.getvalue()
    kinds = re.findall(r"▸ (change|alarm|retrained|promoted): ", told)
    assert kinds == ["change", "alarm", "retrained", "promoted"]
    assert f"{len(sent)} mails" in told
    versions = [row[1] for row in accuracy_rows(story, metrics, change)]
    assert versions == ["v1", "v1", "v2"]
    figure = accuracy_plot(metrics, story, loop.world.midnight(DAYS), {"1": 0.8})
    figure.savefig(tmp_path / "accuracy.png")
    shown = [text.get_text().strip() for text in figure.axes[0].texts]
    assert shown[:3] == ["v1", "v2", "v2"]
    assert [text.split(",")[0] for text in shown[3:]] == [
        "fraud changes", "alarm", "v2 trained", "v2 promoted"
    ]  # fmt: skip
