"""The alert query over `transactions` in one Spark session, against real SMTP servers on loopback."""

import email
import shutil
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from email import policy
from pathlib import Path

import pyarrow as pa
import pytest
from aiosmtpd.controller import Controller
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import functions as F

from ingest.schema import check_payment
from jobs.alert import run_alert
from jobs.label import LabelJob
from jobs.lineup import FixedModels, Lineup
from jobs.maintain import maintain
from jobs.score import run_score
from jobs.tables import arrow_schema, ensure_table, read_table
from tests.conftest import free_port, land, payment
from tests.models import constant_version
from tests.upkeep import commits_of, keep_up


class Relay:
    """Takes mails into ``taken``, after refusing the first ``refusals`` of them."""

    def __init__(self, refusals=0):
        self.taken, self.refusals = [], refusals

    async def handle_DATA(  # noqa: N802
        self, server, session, envelope
    ):
        if self.refusals:
            self.refusals -= 1
            return "451 not now"
        self.taken.append(email.message_from_bytes(envelope.content, policy=policy.default))
        return "250 taken"

    def hits(self):
        """`trans_num`s in the attachments, mail by mail."""
        rows = [next(mail.iter_attachments()).get_content().splitlines()[1:] for mail in self.taken]
        return [sorted(int(row.rsplit(",", 1)[1], 16) for row in mail) for mail in rows]


@pytest.fixture
def mail_settings(settings):
    smtp = settings.smtp.model_copy(update={"port": free_port()})
    return settings.model_copy(update={"smtp": smtp})


@pytest.fixture
def relay(mail_settings):
    """Start a relay; it is stopped in the end."""
    started = []

    def start(refusals=0):
        handler = Relay(refusals)
        controller = Controller(handler, hostname="127.0.0.1", port=mail_settings.smtp.port)
        controller.start()
        started.append(controller)
        return handler

    yield start
    for controller in started:
        controller.stop()


@pytest.fixture
def score(mail_settings):
    """Append a micro-batch of scored payments to `transactions`."""
    path = ensure_table(mail_settings.warehouse, "transactions")

    def run(numbers, score=0.9):
        checked = [check_payment(payment(number)) for number in numbers]
        verdict = {"fraud_score": score, "prediction": score >= 0.5, "threshold": 0.5,
                   "model_name": "constant", "model_version": "1",
                   "reasons": ["900.00 is 14 times this card's 30-day mean", "at 23:14"]}  # fmt: skip
        rows = pa.Table.from_pylist(
            [values | verdict for values in checked], arrow_schema("transactions")
        )
        write_deltalake(path, rows, mode="append")

    return run


@pytest.fixture
def alert(spark, mail_settings):
    def run(settings=mail_settings):
        return run_alert(spark, settings, True, threading.Event())

    return run


@pytest.fixture
def ledger(spark, mail_settings):
    def rows():
        table = read_table(spark, mail_settings.warehouse, "alerts")
        return {int(row["trans_num"], 16): row for row in table.collect()}

    return rows


def test_each_hit_is_mailed_once(score, alert, ledger, relay):
    taken = relay()
    score([1, 2], score=0.9)
    score([3], score=0.1)
    assert alert() == 0
    assert alert() == 0
    score([2, 4], score=0.8)
    assert alert() == 0
    assert taken.hits() == [[1, 2], [4]]
    rows = ledger()
    assert sorted(rows) == [1, 2, 4]
    assert {row["status"] for row in rows.values()} == {"sent"}
    assert rows[1]["message_id"] == taken.taken[0]["Message-ID"]
    assert rows[1]["attempts"] == 1
    assert rows[1]["recipients"] == "fraud-team@localhost"
    assert rows[1]["reasons"] == ["900.00 is 14 times this card's 30-day mean", "at 23:14"]
    assert "- at 23:14" in taken.taken[0].get_body(("plain",)).get_content()


def test_a_relay_that_is_away_is_tried_again_without_new_payments(score, alert, ledger, relay):
    score([1])
    assert alert() == 1
    assert ledger()[1]["status"] == "pending"
    assert "refused" in ledger()[1]["last_error"]
    taken = relay(refusals=1)
    assert alert_when_due(alert, ledger) == 0
    assert taken.hits() == [[1]]
    row = ledger()[1]
    assert (row["status"], row["attempts"]) == ("sent", 3)


def alert_when_due(alert, ledger):
    """Run until the mail went out: each run tries what is due."""
    for _ in range(20):
        if alert() == 0:
            return 0
    return 1


def test_a_new_checkpoint_mails_nothing_again(score, alert, relay, mail_settings):
    taken = relay()
    score([1, 2])
    assert alert() == 0
    shutil.rmtree(mail_settings.warehouse.checkpoint("alert"))
    score([3])
    assert alert() == 0
    assert taken.hits() == [[1, 2], [3]]


def test_a_lost_journal_mails_nothing_again(score, alert, relay, mail_settings):
    taken = relay()
    score([1])
    assert alert() == 0
    Path(mail_settings.alert.journal).unlink()
    assert alert() == 0
    assert taken.hits() == [[1]]


def test_labels_merged_into_the_table_are_no_new_hits(spark, score, alert, relay, mail_settings):
    taken = relay()
    score([1, 2])
    assert alert() == 0
    path = mail_settings.warehouse.table("transactions")
    spark.sql(f"UPDATE delta.`{path}` SET label = true, label_source = 'test'")
    score([3])
    assert alert() == 0
    assert taken.hits() == [[1, 2], [3]]


def test_the_alert_job_goes_on_behind_a_log_that_was_shortened(score, alert, relay, mail_settings):
    taken = relay()
    at_once = mail_settings.maintain.model_copy(update={"vacuum_hours": 0.0})
    for number in range(1, 7):
        score([number])
        assert alert() == 0
        if number % 2 == 0:
            keep_up(mail_settings.model_copy(update={"maintain": at_once}), times=1)
    assert alert() == 0
    assert commits_of(mail_settings, "transactions")[0] > 3
    assert len(list(Path(mail_settings.warehouse.table("transactions")).glob("*.parquet"))) == 1
    score([7])
    assert alert() == 0
    assert taken.hits() == [[number] for number in range(1, 8)]


def test_nothing_is_cleaned_away_before_the_alert_job_has_read_it(
    score, alert, relay, mail_settings, caplog
):
    taken = relay()
    score([1, 2])
    assert alert() == 0
    score([3])
    score([4])
    table = DeltaTable(mail_settings.warehouse.table("transactions"))
    table.update({"label": "true"}, predicate="position IS NULL")
    keep_up(mail_settings)
    assert "the alert job has not read" in caplog.text
    assert commits_of(mail_settings, "transactions")[0] == 0
    score([5])
    assert alert() == 0
    assert sorted(hit for mail in taken.hits() for hit in mail) == [1, 2, 3, 4, 5]
    for number in (6, 7):
        keep_up(mail_settings, times=1)
        score([number])
        assert alert() == 0
    keep_up(mail_settings, times=1)
    assert commits_of(mail_settings, "transactions")[0] > 0


def test_more_hits_than_the_window_allows_go_out_in_one_digest(
    score, alert, ledger, relay, mail_settings
):
    taken = relay()
    few = mail_settings.alert.model_copy(update={"max_hits_in_window": 3})
    limited = mail_settings.model_copy(update={"alert": few})
    score(range(1, 7))
    assert alert(limited) == 0
    assert taken.hits() == [[1, 2, 3, 4, 5, 6]]
    assert taken.taken[0]["Subject"].startswith("Digest: 6 fraud hits")
    score([7])
    assert alert(limited) == 1  # waits for the window's end
    assert ledger()[7]["status"] == "pending"
    assert len(taken.taken) == 1


def test_times_in_the_mail_are_utc(spark, score, alert, relay, mail_settings):
    taken = relay()
    score([1])
    assert alert() == 0
    text = taken.taken[0].get_body(("plain",)).get_content()
    assert "2024-06-01 12:34:56 UTC" in text
    alerts = read_table(spark, mail_settings.warehouse, "alerts")
    moments = alerts.select(F.unix_micros("event_time"), F.unix_micros("sent_at")).first()
    assert moments[0] == 1_717_245_296_000_000
    assert abs(moments[1] / 1e6 - datetime.now(UTC).timestamp()) < 600


class Upkeep(threading.Thread):
    """The maintain job, again and again until ``ended``, with retentions of a few seconds."""

    def __init__(self, settings, ended):
        super().__init__()
        short = {"vacuum_hours": 6 / 3600, "log_hours": 6 / 3600, "landing_days": 6 / 86_400}
        upkeep = settings.maintain.model_copy(update=short)
        self._settings = settings.model_copy(update={"maintain": upkeep})
        self._ended, self.has_worked = ended, []

    def run(self):
        while not self._ended.wait(1):
            self.has_worked.append(maintain(self._settings, datetime.now(UTC)))


def test_all_jobs_go_on_undisturbed_beside_each_other(spark, mail_settings, relay):
    """Score, alert, label and maintain at once, many small micro-batches, verdicts before and after
    their payments.
    """
    numbers, mailed = range(480), relay()
    score = mail_settings.score.model_copy(update={"max_files_per_batch": 1})
    alert = mail_settings.alert.model_copy(update={"max_hits_in_window": len(numbers)})
    settings = mail_settings.model_copy(update={"score": score, "alert": alert})
    for first in numbers[::20]:
        land(settings.landing.path, first, [payment(n) for n in numbers[first : first + 20]])
    ended, status = threading.Event(), []
    models = FixedModels(Lineup(constant_version("1", 0.75)))
    upkeep = Upkeep(settings, ended)
    jobs = [
        threading.Thread(
            target=lambda: status.append(run_score(spark, settings, models, False, ended))
        ),
        threading.Thread(target=lambda: status.append(run_alert(spark, settings, False, ended))),
        upkeep,
    ]
    labels = LabelJob(settings)
    settings.label.inbox.mkdir()
    for job in jobs:
        job.start()
    told, deadline, operations = 0, time.monotonic() + 180, {}
    try:
        while time.monotonic() < deadline and status == []:
            if told < len(numbers):
                lines = [
                    f"{n:032x},{'yes' if n % 2 else 'no'},analyst"
                    for n in numbers[told : told + 30]
                ]
                (settings.label.inbox / f"{told}.csv").write_text(
                    "\n".join(["trans_num,fraud,source", *lines])
                )
                told += 30
            labels.look()
            table = DeltaTable(settings.warehouse.table("transactions"))
            # Maintain may remove a commit that was listed a moment ago: the next look has the others.
            with suppress(FileNotFoundError):
                operations |= {entry["version"]: entry["operation"] for entry in table.history()}
            rows = table.to_pyarrow_table().to_pylist()
            is_labelled = len(rows) == len(numbers) and all(
                row["label"] is not None for row in rows
            )
            if is_labelled and sum(len(hits) for hits in mailed.hits()) == len(numbers):
                break
    finally:
        ended.set()
        for job in jobs:
            job.join(120)
    assert status == [0, 0]
    assert sorted(row["trans_num"] for row in rows) == [f"{n:032x}" for n in numbers]
    assert {int(row["trans_num"], 16) % 2 == row["label"] for row in rows} == {True}
    assert sorted(hit for hits in mailed.hits() for hit in hits) == list(numbers)
    in_order = [operations[version] for version in sorted(operations)]
    # Merges and compactions were among the appends, not behind them; what is old was removed.
    among = in_order[: max(at for at, name in enumerate(in_order) if name == "WRITE")]
    assert among.count("MERGE") > 2
    assert {"OPTIMIZE", "VACUUM END"} <= set(among)
    assert commits_of(settings, "transactions")[0] > 0
    assert all(upkeep.has_worked)
    assert list(settings.maintain.archive.rglob("*.jsonl"))
