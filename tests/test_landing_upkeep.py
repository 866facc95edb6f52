import json
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from ingest.landing import FileLanding
from jobs.landing_upkeep import clean_landing
from jobs.table_log import TableLog
from jobs.tables import ensure_table
from tests.conftest import land, payment
from tests.written_rows import scored_rows, write_file

NOW = datetime.now(UTC)
FIRST, SECOND, THIRD, LAST = (f"payments-{n:020d}.jsonl" for n in (0, 10, 20, 30))


class Place:
    """Four landing files of an answer each, of which the last one is the newest; and the tables."""

    def __init__(self, settings):
        self.settings, self.batch = settings, 0
        self.folder = Path(settings.landing.path)
        for first in (0, 10, 20, 30):
            land(self.folder, first, [payment(first), payment(first + 1)])

    def write(self, *positions, table="transactions", **columns):
        """Rows of ``table`` at these positions, received now as ``land`` has it."""
        self.batch += 1
        if table == "rejected":
            rows = pa.Table.from_pylist(
                [{"source": "api", "position": n, "received_at": NOW} | columns for n in positions]
            )
        else:
            rows = scored_rows(*positions, **{"ingested_at": NOW} | columns)
        log = TableLog(ensure_table(self.settings.warehouse, table))
        log.append([write_file(log.path, rows, table)], f"query of {table}", self.batch)

    def clean(self, **changes):
        maintain = self.settings.maintain.model_copy(update=changes)
        clean_landing(self.settings.model_copy(update={"maintain": maintain}), NOW)

    @property
    def names(self):
        return sorted(path.name for path in self.folder.iterdir())

    def checkpoint(self, offsets, commits, log):
        """What Spark's file source keeps; ``log``: by name, the files of its batches."""
        root = Path(self.settings.warehouse.checkpoint("score"))
        for name in ("offsets", "commits", "sources/0"):
            (root / name).mkdir(parents=True)
        for batch, offset in offsets.items():
            (root / "offsets" / str(batch)).write_text(f'v1\n{{}}\n{{"logOffset":{offset}}}')
        for batch in commits:
            (root / "commits" / str(batch)).write_text("v1\n{}")
        for name, files in log.items():
            lines = [
                json.dumps({"path": f"file://{self.folder}/{file}", "timestamp": 1, "batchId": at})
                for at, file in files
            ]
            (root / "sources" / "0" / name).write_text("\n".join(["v1", *lines]))
            (root / "sources" / "0" / f".{name}.crc").write_bytes(b"crc")


@pytest.fixture
def place(settings):
    return Place(settings)


def test_files_whose_rows_all_stand_in_tables_are_archived_by_day(place, caplog):
    caplog.set_level(logging.INFO, "jobs.maintain")
    place.write(0, 10)
    place.write(1, table="rejected", payload="x", reason="y")
    place.write(11, table="duplicates")
    before = (place.folder / SECOND).read_bytes()
    place.clean()
    assert place.names == [THIRD, LAST]
    archived = place.settings.maintain.archive / "2023-11-14" / SECOND
    assert archived.read_bytes() == before
    assert caplog.messages == [
        f"landing: 2 files moved to {place.settings.maintain.archive}",
        f"landing: 1 files stay, as some of their rows are in no table: {THIRD}",
    ]


def test_they_are_deleted_where_the_settings_say_so_and_kept_where_they_do(place):
    place.write(0, 1, 10)
    place.clean(landing="keep")
    assert place.names == [FIRST, SECOND, THIRD, LAST]
    place.clean(landing="delete")
    assert place.names == [SECOND, THIRD, LAST]
    assert not place.settings.maintain.archive.exists()


def test_the_same_position_of_another_source_is_another_row(place):
    place.write(0, 1, source="elsewhere", trans_num="another")
    place.clean()
    assert FIRST in place.names


def test_young_files_and_the_last_one_stay(place):
    place.write(0, 1, 10, 11, 20, 21, 30, 31)
    os.utime(place.folder / SECOND, (NOW.timestamp() - 3600,) * 2)
    os.utime(place.folder / LAST, (0, 0))  # the last by name; the second is the last by time
    place.clean(landing_days=1 / 48)
    assert place.names == [SECOND, LAST]
    # Ingest goes on behind it.
    assert FileLanding(place.folder).next_position() == 32


def test_of_files_of_one_second_the_last_by_name_stays(place):
    """S3 tells no more of when."""
    place.write(0, 1, 10, 11, 20, 21, 30, 31)
    for name in place.names:
        os.utime(place.folder / name, (1_700_000_000,) * 2)
    place.clean()
    assert place.names == [LAST]


def test_a_payment_served_again_is_accounted_for_by_its_first_arrival(place):
    land(place.folder, 10, [payment(0), payment(1)])
    place.write(0, 1)
    place.clean()
    assert place.names == [THIRD, LAST]


def test_a_payment_served_before_on_another_card_is_not(place):
    land(place.folder, 10, [payment(0, cc_num=4000111122223333), payment(1)])
    place.write(0, 1)
    place.clean()
    assert place.names == [SECOND, THIRD, LAST]


def test_a_rejected_payload_served_again_is_accounted_for_by_the_same_payload(place):
    bad = json.dumps(payment(0, amt="much"))
    land(place.folder, 0, [bad])
    land(place.folder, 10, [bad])
    land(place.folder, 20, [json.dumps(payment(0, amt="more"))])
    place.write(0, table="rejected", payload=bad, reason="amt: …")
    place.clean()
    assert place.names == [THIRD, LAST]


@pytest.mark.parametrize(("seen_days", "is_known"), [(8, True), (5, False)])
def test_a_first_arrival_accounts_for_what_the_score_job_still_remembers(
    place, seen_days, is_known
):
    land(place.folder, 10, [payment(0), payment(1)])
    score = place.settings.score.model_copy(update={"seen_days": seen_days})
    place.settings = place.settings.model_copy(update={"score": score})
    place.write(0, 1, ingested_at=NOW - timedelta(days=7), source="earlier")
    place.clean()
    assert (SECOND not in place.names) == is_known


def test_a_file_that_ingest_did_not_land_stays(place):
    place.write(0, 1)
    with (place.folder / FIRST).open("a") as file:
        file.write("no envelope\n")
    os.utime(place.folder / FIRST, (1_700_000_000,) * 2)
    place.clean()
    assert FIRST in place.names


def test_files_of_a_micro_batch_that_is_not_committed_stay(place):
    """Its rows stand in the tables; the process died before its checkpoint said so."""
    place.write(0, 1, 10, 11, 20, 21)
    place.checkpoint({4: 8, 5: 9}, [4], {"8": [(8, FIRST)], "9.compact": [(8, FIRST), (9, THIRD)]})
    place.clean()
    assert place.names == [THIRD, LAST]


def test_all_files_stay_until_a_micro_batch_is_committed(place):
    place.write(0, 1, 10, 11, 20, 21)
    place.checkpoint({0: 0}, [], {"0": [(0, FIRST)]})
    place.clean()
    assert place.names == [FIRST, SECOND, THIRD, LAST]


def test_without_tables_nothing_goes(place):
    place.clean()
    assert place.names == [FIRST, SECOND, THIRD, LAST]
