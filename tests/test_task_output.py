import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql import Row
from pyspark.sql.pandas.types import to_arrow_schema

import jobs.task_output
from ingest.schema import check_payment
from jobs.arrivals import PAYMENTS, REJECTED
from jobs.blocks import from_block, to_block
from jobs.card_memory import OPERATOR_OUTPUT
from jobs.data_files import DataFile, read_file
from jobs.hits_topic import HIT_COLUMNS
from jobs.tables import arrow_schema
from jobs.task_output import (
    TASK_REPORT,
    Folders,
    are_duplicates,
    collect_reports,
    gathered,
    rows_of,
    score_and_write,
)
from tests.conftest import payment
from tests.written_rows import duplicates_at

NOON = datetime(2024, 11, 5, 12, tzinfo=UTC)


def payments(*amounts, source="api"):
    """A block of payments whose positions are 0, 1, …"""
    rows = [
        check_payment(payment(position, amt=amount))
        | {"source": source, "position": position, "received_at": NOON}
        for position, amount in enumerate(amounts)
    ]
    return to_block(pa.Table.from_pylist(rows, schema=PAYMENTS))


def rejected(*payloads):
    rows = [
        {"source": "api", "position": position, "payload": payload, "reason": "no JSON",
         "received_at": NOON}
        for position, payload in enumerate(payloads)
    ]  # fmt: skip
    return to_block(pa.Table.from_pylist(rows, schema=REJECTED))


def duplicates(*positions):
    return to_block(duplicates_at(*positions))


def output(*buckets):
    """A batch of operator output, a row for each of ``buckets``."""
    nothing = {"bucket": 0, "received": 0, "valid": 0, "invalid": 0}
    schema = to_arrow_schema(OPERATOR_OUTPUT)
    return pa.RecordBatch.from_pylist([nothing | bucket for bucket in buckets], schema=schema)


class Judge:
    """Calls payments of more than 100 hits; remembers how many it was asked about."""

    def __init__(self):
        self.asked = []

    def __call__(self, payments):
        self.asked.append(len(payments))
        columns = {
            "ingested_at": payments["received_at"],
            "scored_at": payments["received_at"],
            "prediction": pc.greater(payments["amt"], 100),
            "fraud_score": pc.divide(payments["amt"], 1000.0),
            "threshold": np.full(len(payments), 0.1),
            "model_name": ["forest"] * len(payments),
            "model_version": ["3"] * len(payments),
            "reasons": pa.array([["dear"]] * len(payments)),
        }
        unscored = arrow_schema("duplicates").names
        return pa.table({n: payments[n] for n in unscored if n not in columns} | columns)


@pytest.fixture
def folders(tmp_path):
    for name in ("transactions", "rejected"):
        (tmp_path / name).mkdir()
    return Folders(str(tmp_path / "transactions"), str(tmp_path / "rejected"))


def run(folders, *batches, judge=None, tells_hits=False):
    """The task's report as a dict."""
    (report,) = score_and_write(iter(batches), folders, judge or Judge(), tells_hits)
    assert report.schema.names == TASK_REPORT.names
    assert report.schema.types == to_arrow_schema(TASK_REPORT).types
    (row,) = report.to_pylist()
    return row | {"files": json.loads(row["files"])}


def files_in(tmp_path):
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*"))


def test_a_task_writes_a_file_for_each_table_and_adds_up(folders, tmp_path):
    report = run(
        folders,
        output(
            {"received": 5, "valid": 2, "invalid": 1, "payments": payments(5, 700),
             "rejected": rejected("x")},
            {"bucket": -1, "duplicates": duplicates(1)},
            {"bucket": 1, "received": 1},
        ),
        output(),
        output(
            {"bucket": 2, "received": 4, "valid": 1, "invalid": 2,
             "payments": payments(9, source="b"), "rejected": rejected("y", "z")},
            {"bucket": -2, "duplicates": duplicates(8, 9)},
        ),
    )  # fmt: skip
    assert [report[name] for name in ("received", "valid", "invalid")] == [10, 3, 3]
    assert from_block(report["duplicates"])["position"].to_pylist() == [1, 8, 9]
    assert report["hits"] is None

    files = {table: DataFile(**told) for table, told in report["files"].items()}
    names = [f"{table}/{file.name}" for table, file in files.items()]
    assert files_in(tmp_path) == sorted(names)
    scored = read_file(folders.transactions, files["transactions"].name)
    assert scored.schema == arrow_schema("transactions")
    assert scored["amt"].to_pylist() == [5, 700, 9]
    assert scored["source"].to_pylist() == ["api", "api", "b"]
    assert scored["prediction"].to_pylist() == [False, True, False]
    assert scored["ingested_at"].to_pylist() == [NOON] * 3
    assert scored["label"].null_count == 3
    told = json.loads(files["transactions"].statistics)
    assert (told["numRecords"], sorted(told["minValues"])) == (3, ["event_time", "ingested_at"])
    others = read_file(folders.rejected, files["rejected"].name)
    assert others.schema == arrow_schema("rejected")
    assert others["payload"].to_pylist() == ["x", "y", "z"]


def test_hits_are_told_where_they_are_asked_for(folders):
    batch = output({"received": 3, "valid": 3, "payments": payments(5, 700, 800)})
    hits = from_block(run(folders, batch, tells_hits=True)["hits"])
    assert hits.column_names == [*HIT_COLUMNS, "source", "position"]
    assert hits["fraud_score"].to_pylist() == [0.7, 0.8]
    assert hits["position"].to_pylist() == [1, 2]
    assert run(folders, batch)["hits"] is None


def test_a_task_without_payments_calls_no_model_and_writes_no_file(folders, tmp_path):
    judge = Judge()
    for batches in ([], [output()], [output({"received": 7})]):
        report = run(folders, *batches, judge=judge, tells_hits=True)
        assert (report["files"], report["duplicates"], report["hits"]) == ({}, None, None)
    assert judge.asked == []
    assert files_in(tmp_path) == []


def test_small_blocks_are_scored_together(folders):
    judge = Judge()
    batches = [output(*[{"payments": payments(1, 2)}] * 3), output({"payments": payments(3)})]
    run(folders, *batches, judge=judge)
    assert judge.asked == [7]


def test_a_model_that_fails_leaves_no_files(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs.task_output, "ROWS_AT_ONCE", 2)
    judged = []

    def judge(payments):
        judged.append(len(files_in(tmp_path)))
        if len(judged) == 2:
            raise RuntimeError("no idea")
        return Judge()(payments)

    batch = output(*[{"payments": payments(1, 2), "rejected": rejected("x")}] * 2)
    with pytest.raises(RuntimeError, match="no idea"):
        run(folders, batch, judge=judge)
    assert judged == [1, 2]
    assert files_in(tmp_path) == []


def test_small_tables_are_gathered_and_large_ones_go_on_at_once(monkeypatch):
    monkeypatch.setattr(jobs.task_output, "ROWS_AT_ONCE", 10)
    sizes = [3, 4, 0, 3, 12, 10, 9, 8, 2, 1]
    rows = iter(range(1000))
    taken = []

    def tables():
        for size in sizes:
            taken.append(size)
            yield pa.table({"n": pa.array([next(rows) for _ in range(size)], pa.int64())})

    found, told = [], []
    for table in gathered(tables()):
        assert table["n"].num_chunks == 1
        found.append((len(table), len(taken)))
        told += table["n"].to_pylist()
    assert found == [(10, 4), (12, 5), (10, 6), (17, 8), (3, 10)]
    assert told == list(range(sum(sizes)))
    assert list(gathered(iter([]))) == []


class Reports:
    """What Spark would collect."""

    def __init__(self, *reports):
        self._reports = reports

    def collect(self):
        return [
            Row(**report | {"files": json.dumps(report["files"])}
                | {n: report[n] and bytearray(report[n]) for n in ("duplicates", "hits")})
            for report in self._reports
        ]  # fmt: skip


def test_the_reports_of_tasks_add_up(folders):
    first = run(folders, output({"received": 3, "valid": 2, "payments": payments(5, 700)}),
                tells_hits=True)  # fmt: skip
    second = run(
        folders,
        output({"received": 4, "valid": 1, "invalid": 1, "payments": payments(800, source="b"),
                "rejected": rejected("x")}, {"bucket": -1, "duplicates": duplicates(1)}),
        tells_hits=True,
    )  # fmt: skip
    third = run(folders, output({"bucket": -2, "duplicates": duplicates(1, 7)}), tells_hits=True)
    report = collect_reports(Reports(first, second, third))
    assert (report.received, report.valid, report.invalid) == (7, 3, 1)
    assert {table: [file.name for file in files] for table, files in report.files.items()} == {
        "transactions": [task["files"]["transactions"]["name"] for task in (first, second)],
        "rejected": [second["files"]["rejected"]["name"]],
    }
    assert report.files["transactions"][0] == DataFile(**first["files"]["transactions"])
    assert report.duplicates == set(rows_of(duplicates_at(1, 7)))
    assert report.hits["fraud_score"].to_pylist() == [0.7, 0.8]
    assert are_duplicates(report.hits, report.duplicates).to_pylist() == [True, False]


def test_without_rows_there_is_nothing_to_add_up(folders):
    for reports in (Reports(), Reports(run(folders, output()))):
        report = collect_reports(reports)
        assert (report.received, report.valid, report.invalid) == (0, 0, 0)
        assert (report.files, report.duplicates, report.hits) == ({}, frozenset(), None)
