"""Tables, checkpoints and landed payments in upkeep on a real S3 server."""

import json
import logging
import sys
import threading
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from deltalake import DeltaTable

from ingest.envelope import envelope_line
from ingest.s3_landing import S3Landing
from jobs import maintain as job
from jobs.maintain import maintain
from jobs.sole import sole
from jobs.table_log import TableLog
from jobs.tables import ensure_table
from tests.conftest import payment
from tests.written_rows import scored_rows, write_file

SOON = datetime.now(UTC) + timedelta(days=40)


class Place:
    """Three landed answers of two payments each, and `transactions` with a commit for each."""

    def __init__(self, settings, bucket):
        # Without a pause: on this server nothing is old.
        upkeep = settings.maintain.model_copy(update={"vacuum_hours": 0.0, "log_hours": 0.0})
        self.settings = settings.model_copy(update={"maintain": upkeep})
        self._bucket, self._s3 = bucket, boto3.client("s3")
        self.table = ensure_table(settings.warehouse, "transactions")
        landing, received = S3Landing(settings.landing.path), datetime.now(UTC)
        for first in (0, 10, 20):
            lines = [
                envelope_line("api", n, received, json.dumps(payment(n)))
                for n in (first, first + 1)
            ]
            landing.land(lines, first)
            rows = scored_rows(first, first + 1, ingested_at=received)
            TableLog(self.table).append([write_file(self.table, rows)], "query", first)

    def put(self, key, text):
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=text.encode())

    def names(self, folder, ending=""):
        found = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=f"{folder}/", Delimiter="/")
        names = [item["Key"].rpartition("/")[2] for item in found.get("Contents", ())]
        return [name for name in names if name.endswith(ending)]

    @property
    def data_files(self):
        return self.names("warehouse/transactions", ".parquet")

    @property
    def commits(self):
        return [int(name[:20]) for name in self.names("warehouse/transactions/_delta_log", ".json")]

    @property
    def landed(self):
        return [int(name[9:29]) for name in self.names("landing")]

    @property
    def positions(self):
        rows = DeltaTable(self.table).to_pyarrow_table(columns=["position"])
        return sorted(rows["position"].to_pylist())


@pytest.fixture
def place(on_s3, bucket):
    return Place(on_s3, bucket)


def test_tables_are_kept_in_shape(place, caplog):
    caplog.set_level(logging.INFO, "jobs.maintain")
    before = place.positions
    place.put("warehouse/transactions/part-of-a-dead-task.parquet", "of nobody")
    for _ in range(2):  # the first run makes the checkpoint that the second shortens the log behind
        assert maintain(place.settings, SOON)
    assert "transactions: 3 files put together into 1" in caplog.messages
    assert len(place.data_files) == 1
    assert len(place.commits) == 1
    assert place.positions == before == [0, 1, 10, 11, 20, 21]
    assert TableLog(place.table).holds("query", 20)


def test_nothing_goes_that_the_alert_job_has_not_read(place, caplog):
    offset = {"reservoirVersion": 1, "index": -1, "isStartingVersion": False}
    for batch in (2, 3):
        place.put(f"checkpoints/alert/offsets/{batch}", f"v1\n{{}}\n{json.dumps(offset)}")
    place.put("checkpoints/alert/commits/3", "v1\n{}")
    for _ in range(2):
        assert maintain(place.settings, SOON)
    assert len(place.data_files) == 4
    assert place.commits[0] == 0
    assert "the alert job has not read" in caplog.text


def test_landed_payments_go_once_the_tables_have_them(place, tmp_path):
    lines = [envelope_line("api", 30, datetime.now(UTC), json.dumps(payment(30)))]
    for first in (30, 40):
        S3Landing(place.settings.landing.path).land(lines, first)
    place.put("checkpoints/score/offsets/4", 'v1\n{}\n{"logOffset":8}')
    place.put("checkpoints/score/commits/4", "v1\n{}")
    in_flight = {"path": f"{place.settings.landing.path}/payments-{10:020d}.jsonl", "batchId": 9}
    place.put("checkpoints/score/sources/0/9", f"v1\n{json.dumps(in_flight)}")
    assert maintain(place.settings, SOON)
    assert place.landed == [10, 30, 40]  # in flight, in no table, the last one
    archived = sorted((tmp_path / "archive").glob("*/*"))
    assert [int(path.name[9:29]) for path in archived] == [0, 20]
    told = json.loads(archived[1].read_text().splitlines()[1])
    assert (told["position"], json.loads(told["payload"])) == (21, payment(21))


def test_the_command_runs_once_and_not_twice_at_once(place, monkeypatch, capsys):
    monkeypatch.setattr(job, "log_to_stderr", lambda: None)
    monkeypatch.setattr(sys, "argv", ["maintain", "--config", "conf/s3.toml"])
    assert job.main() == 0
    assert len(DeltaTable(place.table).file_uris()) == 1
    with sole(place.settings.warehouse, "maintain", threading.Event()), pytest.raises(SystemExit):
        job.main()
    assert "another maintain job works on s3a://" in capsys.readouterr().err
