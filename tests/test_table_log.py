import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError

from jobs.data_files import DataFileWriter
from jobs.table_log import TableLog
from jobs.tables import ensure_table, read_table
from tests.written_rows import NOON, scored_rows, write_file

SCHEMA = pa.schema({"name": pa.string(), "amount": pa.float64(), "at": pa.timestamp("us", "UTC")})
START = datetime(2024, 11, 5, 12, tzinfo=UTC)


@pytest.fixture
def path(tmp_path):
    DeltaTable.create(str(tmp_path), Schema.from_arrow(SCHEMA))
    return str(tmp_path)


def file_of(path, *names, hour=0):
    moments = [START + timedelta(hours=hour)] * len(names)
    with DataFileWriter(path, SCHEMA, ["at"]) as writer:
        writer.write(pa.table({"name": names, "at": pa.array(moments, SCHEMA.field("at").type)}))
        return writer.finished()


def names_in(path):
    return sorted(DeltaTable(path).to_pyarrow_table()["name"].to_pylist())


def commits(path):
    """The actions of each commit, by kind."""
    for file in sorted(Path(path, "_delta_log").glob("*.json")):
        actions = [json.loads(line) for line in file.read_text().splitlines()]
        yield [action.popitem() for action in actions]


def test_files_are_there_for_readers_once_they_are_appended(path):
    files = [file_of(path, "a", "b"), file_of(path, "c")]
    assert names_in(path) == []
    assert TableLog(path).append(files, "query", 0)
    assert names_in(path) == ["a", "b", "c"]
    file_of(path, "of a task that died")
    assert names_in(path) == ["a", "b", "c"]
    assert DeltaTable(path).schema().to_arrow().names == SCHEMA.names


def test_a_batch_is_committed_once(path):
    log = TableLog(path)
    assert not log.holds("query", 0)
    assert log.append([file_of(path, "a")], "query", 0)
    assert not log.append([file_of(path, "again")], "query", 0)
    assert not TableLog(path).append([file_of(path, "again")], "query", 0)
    assert log.append([file_of(path, "b")], "query", 3)
    assert [log.holds("query", version) for version in (0, 2, 3, 4)] == [True, True, True, False]
    assert not log.append([file_of(path, "again")], "query", 2)
    assert not log.holds("another query", 0)
    assert log.append([file_of(path, "of another")], "another query", 0)
    assert names_in(path) == ["a", "b", "of another"]
    assert DeltaTable(path).version() == 3


def test_two_writers_take_turns_and_lose_nothing(path):
    logs = [TableLog(path), TableLog(path)]
    for version in range(6):
        for number in (version % 2, 1 - version % 2):
            file = file_of(path, f"{version} of {number}")
            assert logs[number].append([file], f"query {number}", version)
            assert logs[1 - number].holds(f"query {number}", version)
    assert names_in(path) == sorted(f"{version} of {n}" for version in range(6) for n in (0, 1))


def test_what_is_committed_is_known_behind_a_checkpoint(path):
    DeltaTable(path).alter.set_table_properties({"delta.checkpointInterval": "3"})
    log = TableLog(path)
    assert log.append([file_of(path, "of another")], "another query", 7)
    for version in range(8):
        assert log.append([file_of(path, f"{version}")], "query", version)
    assert Path(path, "_delta_log", "_last_checkpoint").exists()
    anew = TableLog(path)
    assert anew.holds("another query", 7)
    assert not anew.append([file_of(path, "again")], "query", 5)
    assert anew.append([file_of(path, "8")], "query", 8)
    assert names_in(path) == [*"012345678", "of another"]


def delete(path):
    DeltaTable(path).delete("name = 'b'")


def merge(path):
    source = pa.table({"name": ["b"], "amount": [7.0]})
    (
        DeltaTable(path)
        .merge(source, "target.name = source.name", source_alias="source", target_alias="target")
        .when_matched_update({"amount": "source.amount"})
        .execute()
    )


def optimize(path):
    DeltaTable(path).optimize.compact()


@pytest.mark.parametrize("before", ["holds", "_commit"])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (delete, [("a", None), ("c", None)]),
        (merge, [("a", None), ("b", 7.0), ("c", None)]),
        (optimize, [("a", None), ("b", None), ("c", None)]),
    ],
)
def test_rows_are_appended_beside_a_change_of_the_table(
    path, monkeypatch, before, change, expected
):
    log = TableLog(path)
    log.append([file_of(path, "a", "b")], "query", 0)
    meanwhile(monkeypatch, log, before, lambda: change(path))
    assert log.append([file_of(path, "c")], "query", 1)
    rows = DeltaTable(path).to_pyarrow_table().sort_by("name").to_pylist()
    assert [(row["name"], row["amount"]) for row in rows] == expected
    assert log.append([file_of(path, "d")], "query", 2)
    assert "d" in names_in(path)


def meanwhile(monkeypatch, log, before, act):
    """Somebody acts once, right before the log's next ``before``."""
    method = getattr(log, before)

    def late(*arguments):
        monkeypatch.undo()
        act()
        return method(*arguments)

    monkeypatch.setattr(log, before, late)


def test_of_two_that_commit_the_same_batch_at_once_one_does(path, monkeypatch):
    log, other = TableLog(path), TableLog(path)
    done = []

    def act():
        done.append(other.append([file_of(path, "of the other")], "query", 0))

    meanwhile(monkeypatch, log, "_commit", act)
    done.append(log.append([file_of(path, "a")], "query", 0))
    assert done == [True, False]
    assert names_in(path) == ["of the other"]


@pytest.mark.parametrize(("failures", "is_there"), [(4, True), (5, False)])
def test_a_commit_that_fails_is_tried_five_times(path, monkeypatch, failures, is_there):
    log, tries = TableLog(path), []
    commit = log._commit

    def failing(*arguments):
        tries.append(arguments)
        if len(tries) <= failures:
            raise CommitFailedError("changed")
        commit(*arguments)

    monkeypatch.setattr(log, "_commit", failing)
    if is_there:
        assert log.append([file_of(path, "a")], "query", 0)
    else:
        with pytest.raises(CommitFailedError):
            log.append([file_of(path, "a")], "query", 0)
    assert len(tries) == 5
    assert names_in(path) == ["a"] * is_there


def test_a_commit_says_whose_it_is_and_that_nothing_was_read_for_it(path):
    file = file_of(path, "a")
    TableLog(path).append([file], "query", 3)
    *_, actions = commits(path)
    told = dict(actions)
    assert told["commitInfo"]["isBlindAppend"] is True
    assert (told["txn"]["appId"], told["txn"]["version"]) == ("query", 3)
    assert told["add"] == {
        "path": file.name, "size": file.size, "modificationTime": file.modified_ms,
        "stats": file.statistics, "partitionValues": {}, "dataChange": True,
    } | {key: told["add"][key] for key in told["add"] if told["add"][key] is None}  # fmt: skip
    assert sorted(kind for kind, _ in actions) == ["add", "commitInfo", "txn"]


def test_readers_pass_over_files_by_their_bounds(path):
    log = TableLog(path)
    early, late = file_of(path, "a"), file_of(path, "b", hour=1)
    log.append([early, late], "query", 0)
    Path(path, early.name).unlink()
    since = pa.compute.field("at") > pa.scalar(
        START + timedelta(minutes=1), SCHEMA.field("at").type
    )
    found = DeltaTable(path).to_pyarrow_dataset().to_table(filter=since)
    assert found["name"].to_pylist() == ["b"]


def test_spark_passes_over_files_by_their_bounds(spark, settings):
    path = ensure_table(settings.warehouse, "transactions")
    files = [write_file(path, scored_rows(*some)) for some in [(0, 1), (2, 3), (4, 5)]]
    TableLog(path).append(files, "query", 0)
    table = read_table(spark, settings.warehouse, "transactions")
    for condition, expected in [
        ("ingested_at > '2024-11-05 15:00:00.250'", [3, 4, 5]),
        ("ingested_at < '2024-11-05 14:00:00.250'", [0, 1]),
        ("ingested_at = '2024-11-05 14:00:00.250001'", [2]),
        ("event_time > '2100-01-01'", []),
    ]:
        found = table.where(condition)
        names = {Path(uri).name for uri in found.inputFiles()}
        assert names == {files[position // 2].name for position in expected}
        assert [row["position"] for row in found.orderBy("position").collect()] == expected


def test_spark_reads_and_changes_what_was_appended(spark, settings):
    path = ensure_table(settings.warehouse, "transactions")
    log = TableLog(path)
    rows = scored_rows(0, 1)
    assert log.append([write_file(path, rows)], "query", 0)

    table = read_table(spark, settings.warehouse, "transactions")
    read = table.orderBy("position").toArrow()
    assert [(f.name, f.type) for f in read.schema] == [(f.name, f.type) for f in rows.schema]
    assert read.to_pylist() == rows.to_pylist()
    moments = table.selectExpr("unix_micros(event_time) e", "unix_micros(scored_at) s").first()
    seconds = [rows["event_time"][0].as_py().timestamp(), NOON.timestamp()]
    assert list(moments) == [round(moment * 1_000_000) for moment in seconds]

    verdicts = spark.createDataFrame([(rows["trans_num"][1].as_py(),)], "trans_num STRING")
    verdicts.createOrReplaceTempView("verdicts")
    spark.sql(
        f"MERGE INTO delta.`{path}` t USING verdicts v ON t.trans_num = v.trans_num "
        "WHEN MATCHED THEN UPDATE SET label = true"
    )
    assert log.append([write_file(path, scored_rows(2))], "query", 1)
    found = read_table(spark, settings.warehouse, "transactions").orderBy("position").toArrow()
    assert found["label"].to_pylist() == [None, True, None]
    assert found.drop("label").to_pylist() == scored_rows(0, 1, 2).drop("label").to_pylist()
