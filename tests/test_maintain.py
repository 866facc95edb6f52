"""Tables in upkeep: what goes, what stays, and what others that use them notice of it."""

import json
import logging
import os
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from conf.lock import locked
from jobs import maintain as job
from jobs.checkpoints import delta_position
from jobs.commits import committed
from jobs.maintain import maintain
from jobs.table_log import TableLog
from jobs.table_upkeep import TableUpkeep
from jobs.tables import ensure_table
from tests.upkeep import LONG_AGO, age, commits_of, keep_up
from tests.written_rows import scored_rows, write_file


class Table:
    """`transactions` with ten commits of one row each."""

    def __init__(self, settings):
        self.settings = settings
        self.path = ensure_table(settings.warehouse, "transactions")
        self.log = TableLog(self.path)
        for number in range(10):
            self.append(number)

    def append(self, number):
        file = write_file(self.path, scored_rows(number))
        return self.log.append([file], "query", number)

    def age(self):
        age(self.path)

    def maintain(self, **changes):
        upkeep = self.settings.maintain.model_copy(update=changes)
        assert maintain(self.settings.model_copy(update={"maintain": upkeep}), datetime.now(UTC))

    def alert_has_read(self, version, before=None, is_snapshot=False, is_committed=True):
        """The checkpoint of the alert job; ``before``: where its last micro-batch began."""
        root = Path(self.settings.warehouse.checkpoint("alert"))
        for name in ("offsets", "commits"):
            (root / name).mkdir(parents=True, exist_ok=True)
        for batch, at in ((2, version if before is None else before), (3, version)):
            offset = {"reservoirVersion": at, "index": -1, "isStartingVersion": is_snapshot}
            (root / "offsets" / str(batch)).write_text(f"v1\n{{}}\n{json.dumps(offset)}")
        if is_committed:
            (root / "commits" / "3").write_text("v1\n{}")

    @property
    def commits(self):
        return commits_of(self.settings, "transactions")

    @property
    def data_files(self):
        return {path.name for path in Path(self.path).glob("*.parquet")}

    @property
    def live_files(self):
        return {Path(uri).name for uri in DeltaTable(self.path).file_uris()}

    @property
    def positions(self):
        return sorted(
            DeltaTable(self.path).to_pyarrow_table(columns=["position"])["position"].to_pylist()
        )


@pytest.fixture
def table(settings):
    return Table(settings)


def test_small_files_are_put_together_and_nothing_else_changes(table, caplog):
    caplog.set_level(logging.INFO, "jobs.maintain")
    before = DeltaTable(table.path).to_pyarrow_table().sort_by("position")
    version = DeltaTable(table.path).version()
    table.maintain()
    after = DeltaTable(table.path).to_pyarrow_table().sort_by("position")
    assert after.to_pylist() == before.to_pylist()
    assert len(table.live_files) == 1
    assert len(table.data_files) == 11  # the ten are needed by whoever reads the version before
    assert "transactions: 10 files put together into 1" in caplog.messages
    done = DeltaTable(table.path).version()
    assert done == version + 2  # retention, compaction
    table.maintain()
    assert DeltaTable(table.path).version() == done


def test_what_is_put_together_is_no_new_row_to_a_stream(table):
    table.maintain()
    *_, last = sorted(Path(table.path, "_delta_log").glob("*.json"))
    actions = [json.loads(line) for line in last.read_text().splitlines()]
    changes = [
        action[kind]["dataChange"]
        for action in actions
        for kind in ("add", "remove")
        if kind in action
    ]
    assert changes == [False] * 11


def test_files_larger_than_the_target_are_left(table):
    size = max(Path(table.path, name).stat().st_size for name in table.live_files)
    table.maintain(target_file_mb=size / 1e6 / 2)
    assert len(table.live_files) == 10


def test_replaced_files_and_those_of_dead_tasks_go_once_they_are_old(table, caplog):
    caplog.set_level(logging.INFO, "jobs.maintain")
    dead = write_file(table.path, scored_rows(98))
    table.age()
    under_way = write_file(table.path, scored_rows(99))
    table.maintain(vacuum_hours=1)
    assert dead.name not in table.data_files
    assert len(table.data_files) == 12  # replaced a moment ago, their sum, and what is under way
    assert "transactions: 1 files removed that no commit names" in caplog.messages
    assert table.log.append([under_way], "query", 99)
    assert table.positions == [*range(10), 99]


def test_replaced_files_go_once_the_time_is_over(table, monkeypatch):
    table.maintain()
    removed = []
    vacuum = DeltaTable.vacuum

    def recorded(self, *arguments, **options):
        removed.extend(
            vacuum(self, *arguments, **options, retention_hours=0, enforce_retention_duration=False)
        )
        return removed  # fmt: skip

    monkeypatch.setattr(DeltaTable, "vacuum", recorded)
    table.maintain()
    assert len(removed) == 10
    assert table.data_files == table.live_files
    assert table.positions == list(range(10))


def test_the_log_is_shortened_behind_a_checkpoint_of_an_earlier_run(table, caplog):
    caplog.set_level(logging.INFO, "jobs.maintain")
    table.age()
    table.maintain()
    assert table.commits == list(range(13))
    table.age()
    table.maintain()
    assert table.commits == [12]
    assert "transactions: 12 commits removed from the log, 1 are left" in caplog.messages
    assert table.positions == list(range(10))


def test_a_table_that_nobody_writes_gets_no_checkpoint_at_each_run(table):
    keep_up(table.settings)
    checkpoint = max(Path(table.path, "_delta_log").glob("*.checkpoint.parquet"))
    keep_up(table.settings, times=1)
    assert (
        not list(Path(table.path, "_delta_log").glob("*.checkpoint.parquet"))
        or checkpoint.stat().st_mtime == LONG_AGO
    )


def test_young_commits_stay(table):
    table.maintain()
    table.maintain()
    assert len(table.commits) == 13


def test_the_log_is_not_shortened_by_a_commit(table):
    """delta-rs does so by itself behind a checkpoint, however far the readers are."""
    DeltaTable(table.path).alter.set_table_properties({"delta.checkpointInterval": "2"})
    table.age()
    for number in range(10, 14):
        table.append(number)
    assert table.commits == list(range(16))


def test_what_was_committed_is_known_when_the_log_is_gone(table):
    """A process that stood still meanwhile, and one that starts anew, write nothing twice."""
    keep_up(table.settings)
    assert 10 not in table.commits
    for log in (table.log, TableLog(table.path)):
        assert log.holds("query", 9)
        assert not log.append([write_file(table.path, scored_rows(9))], "query", 9)
    assert table.append(10)
    assert TableLog(table.path).append([write_file(table.path, scored_rows(11))], "query", 11)
    assert table.positions == list(range(12))


@pytest.mark.parametrize(
    ("unread", "is_kept"),
    [
        ({"version": 10}, True),
        ({"version": 99}, False),
        ({"version": 99, "is_snapshot": True}, True),
        ({"version": 99, "is_committed": False}, True),
    ],
)
def test_nothing_goes_that_the_alert_job_has_not_read(table, caplog, unread, is_kept):
    table.alert_has_read(**unread)
    dead = write_file(table.path, scored_rows(98))
    keep_up(table.settings)
    assert (table.commits[0] == 0) == is_kept
    assert (dead.name in table.data_files) == is_kept
    told = [line for line in caplog.messages if "the alert job has not read" in line]
    assert len(told) == 2 * is_kept
    if is_kept:
        assert "start it, or remove its checkpoint" in told[0]


def test_commits_that_bring_no_rows_keep_the_log_and_nothing_else(table, caplog):
    """The stream goes on with the first of them, whenever the next rows come."""
    table.alert_has_read(11)
    dead = write_file(table.path, scored_rows(98))
    keep_up(table.settings)
    assert 11 in table.commits
    assert dead.name not in table.data_files
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    table.append(10)
    table.alert_has_read(max(table.commits) + 1)
    keep_up(table.settings)
    assert 11 not in table.commits


def test_what_the_alert_job_has_not_read_yet_and_is_young_does_no_harm(table, caplog):
    table.alert_has_read(10)
    dead = write_file(table.path, scored_rows(98))
    table.age()
    os.utime(Path(table.path, "_delta_log", f"{10:020d}.json"))
    table.maintain()
    assert dead.name not in table.data_files
    assert not [line for line in caplog.messages if "alert job" in line]


def test_the_log_keeps_what_the_alert_job_lists_once_more_when_it_starts(table):
    table.alert_has_read(99, before=10)
    dead = write_file(table.path, scored_rows(98))
    keep_up(table.settings)
    assert 10 in table.commits
    assert dead.name not in table.data_files
    root = Path(table.settings.warehouse.checkpoint("alert"))
    for kind in ("offsets", "commits"):  # its first micro-batch, from the table as it stood
        (root / kind / "3").rename(root / kind / "0")
    (root / "offsets" / "2").unlink()
    keep_up(table.settings)
    assert table.commits[0] == 0


def test_where_the_alert_job_never_ran_there_is_nothing_to_wait_for(settings):
    assert delta_position(settings.warehouse.checkpoint("alert")) is None


def test_a_planned_batch_of_the_alert_job_counts_as_not_read(table):
    table.alert_has_read(5)
    root = Path(table.settings.warehouse.checkpoint("alert"))
    (root / "offsets" / "4").write_text((root / "offsets" / "3").read_text().replace("5", "9", 1))
    assert delta_position(str(root)).version == 5


def test_a_conflict_is_tried_again_then_left_to_the_next_run(table, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "jobs.maintain")
    monkeypatch.setattr("jobs.commits._PAUSE_SECONDS", 0)
    tries = []

    def conflict(self):
        tries.append(1)
        raise CommitFailedError("another changed it\nat length")

    monkeypatch.setattr(TableUpkeep, "_compact", conflict)
    keep_up(table.settings)
    assert len(tries) == 6
    assert (
        "transactions: others changed it, left to the next run: another changed it"
        in caplog.messages
    )
    assert len(table.commits) == 1


def test_compaction_gives_way_to_a_change_of_the_same_files(table, monkeypatch):
    compact = TableUpkeep._compact
    changes = [lambda: DeltaTable(table.path).delete("position = 3")]

    def late(self):
        table_of = DeltaTable.__init__

        def opened(*arguments, **options):
            table_of(*arguments, **options)
            if changes:
                monkeypatch.setattr(DeltaTable, "__init__", table_of)
                changes.pop()()

        monkeypatch.setattr(DeltaTable, "__init__", opened)
        compact(self)

    monkeypatch.setattr(TableUpkeep, "_compact", late)
    table.maintain()
    assert table.positions == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert len(table.live_files) == 1


def test_a_commit_that_others_are_in_conflict_with_is_made_in_the_end(monkeypatch):
    monkeypatch.setattr("jobs.commits._PAUSE_SECONDS", 0)
    tries = []

    def commit():
        tries.append(1)
        if len(tries) < 3:
            raise CommitFailedError("changed")
        return "done"

    assert committed(commit, attempts=3) == "done"
    tries.clear()
    with pytest.raises(CommitFailedError):
        committed(commit, attempts=2)


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (DeltaError("Failed to commit transaction: another was faster"), 3),
        (DeltaError("no table"), 1),
    ],
)
def test_a_conflict_that_is_told_in_general_is_tried_again_too(error, tries):
    made = []

    def commit():
        made.append(1)
        raise error

    with pytest.raises(DeltaError):
        committed(commit, attempts=3)
    assert len(made) == tries


def test_one_table_that_fails_does_not_keep_the_others(table, monkeypatch, caplog):
    for name in ("labels", "model_metrics"):
        ensure_table(table.settings.warehouse, name)
    done = []

    def run(self, now):
        done.append(self._name)
        if self._name == "labels":
            raise OSError("the disk is away")

    monkeypatch.setattr(TableUpkeep, "run", run)
    assert not maintain(table.settings, datetime.now(UTC))
    assert done == ["transactions", "labels", "model_metrics"]
    assert "labels: failed, tried again at the next run: the disk is away" in caplog.messages


def test_once_it_is_to_end_it_begins_with_no_other_table(table, monkeypatch):
    ensure_table(table.settings.warehouse, "labels")
    done, ended = [], threading.Event()

    def run(self, now):
        done.append(self._name)
        ended.set()

    monkeypatch.setattr(TableUpkeep, "run", run)
    assert maintain(table.settings, datetime.now(UTC), ended)
    assert done == ["transactions"]


def test_the_command_runs_once_and_not_twice_at_once(table, monkeypatch, capsys):
    monkeypatch.setattr(job, "log_to_stderr", lambda: None)
    monkeypatch.setattr(sys, "argv", ["maintain", "--config", "conf/local.toml"])
    assert job.main() == 0
    assert len(table.live_files) == 1
    lock = Path(table.settings.warehouse.path, "maintain.lock")
    with locked(lock), pytest.raises(SystemExit):
        job.main()
    assert "another maintain job works on" in capsys.readouterr().err
