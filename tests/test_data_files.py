import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.data_files import DataFileWriter, fitted, read_file, remove_file

MOMENT = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    {"name": pa.string(), "count": pa.int64(), "tags": pa.list_(pa.string()), "at": MOMENT}
)
NOON = datetime(2024, 11, 5, 12, tzinfo=UTC)


def rows(*moments, **columns):
    return pa.table({"at": pa.array(moments, MOMENT)} | columns)


def write(folder, *tables):
    with DataFileWriter(str(folder), SCHEMA, ["at"]) as writer:
        for table in tables:
            writer.write(table)
        return writer.finished()


def names_in(folder):
    return [path.name for path in folder.iterdir()]


def test_the_rows_of_a_file_come_back(tmp_path):
    given = rows(
        NOON, None, name=["a", None], count=[1, -(2**63)], tags=[["x", None], []]
    ).select(SCHEMA.names)  # fmt: skip
    file = write(tmp_path, given)
    assert names_in(tmp_path) == [file.name]
    assert file.size == (tmp_path / file.name).stat().st_size
    assert abs(file.modified_ms / 1000 - (tmp_path / file.name).stat().st_mtime) < 10
    found = read_file(str(tmp_path), file.name)
    assert found.schema == SCHEMA
    assert found.equals(given)
    assert read_file(str(tmp_path), file.name, ["count"]).equals(given.select(["count"]))


def test_columns_that_are_missing_are_null(tmp_path):
    file = write(tmp_path, rows(NOON, name=["a"]))
    found = read_file(str(tmp_path), file.name)
    assert found.to_pylist() == [{"name": "a", "count": None, "tags": None, "at": NOON}]


@pytest.mark.parametrize("tables", [[], [rows()], [rows(), rows()]])
def test_no_rows_make_no_file(tmp_path, tables):
    assert write(tmp_path, *tables) is None
    assert names_in(tmp_path) == []


def test_what_is_written_piece_by_piece_is_one_file_in_that_order(tmp_path):
    hours = [12, 10, 11]
    pieces = [rows(NOON.replace(hour=hour), name=[f"at {hour}"]) for hour in hours]
    file = write(tmp_path, rows(), *pieces, rows())
    told = read_file(str(tmp_path), file.name)["name"].to_pylist()
    assert told == ["at 12", "at 10", "at 11"]
    statistics = json.loads(file.statistics)
    assert statistics["numRecords"] == 3
    assert statistics["minValues"] == {"at": "2024-11-05T10:00:00.000Z"}
    assert statistics["maxValues"] == {"at": "2024-11-05T12:00:00.000Z"}


def test_every_file_has_a_name_of_its_own(tmp_path):
    assert write(tmp_path, rows(NOON)).name != write(tmp_path, rows(NOON)).name


@pytest.mark.parametrize("least", [0, 1, 999, 1000])
@pytest.mark.parametrize("greatest", [1000, 1001, 1999, 250_001, 999_001, 999_999])
def test_no_row_is_outside_of_the_bounds_and_they_are_narrow(tmp_path, least, greatest):
    moments = [NOON.replace(microsecond=micros) for micros in (greatest, least)]
    statistics = json.loads(write(tmp_path, rows(*moments)).statistics)
    low, high = (
        datetime.fromisoformat(statistics[key]["at"]) for key in ("minValues", "maxValues")
    )
    millisecond = timedelta(milliseconds=1)
    assert low <= moments[1] < low + millisecond
    assert high - millisecond < moments[0] <= high


def test_a_column_without_values_has_no_bounds(tmp_path):
    statistics = json.loads(write(tmp_path, rows(None, None)).statistics)
    assert statistics["numRecords"] == 2
    assert statistics["minValues"] == statistics["maxValues"] == {}


def test_an_exception_leaves_no_file(tmp_path):
    def die():
        with DataFileWriter(str(tmp_path), SCHEMA, ["at"]) as writer:
            writer.write(rows(NOON))
            assert names_in(tmp_path) == [writer.name]
            raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        die()
    assert names_in(tmp_path) == []


def test_rows_of_another_type_leave_no_file(tmp_path):
    with pytest.raises(pa.ArrowInvalid, match="many"):
        write(tmp_path, rows(NOON), rows(NOON, count=["many"]))
    assert names_in(tmp_path) == []


def test_a_file_that_cannot_be_written_to_its_end_is_not_left(tmp_path, monkeypatch):
    close = pq.ParquetWriter.close

    def closing(writer):
        close(writer)
        raise OSError("disk full")

    monkeypatch.setattr(pq.ParquetWriter, "close", closing)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path, rows(NOON))
    assert names_in(tmp_path) == []


def test_a_file_that_is_finished_stays_whatever_comes_after(tmp_path):
    def finish_and_die():
        with DataFileWriter(str(tmp_path), SCHEMA, ["at"]) as writer:
            writer.write(rows(NOON))
            writer.finished()
            raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        finish_and_die()
    (name,) = names_in(tmp_path)
    assert len(read_file(str(tmp_path), name)) == 1


def test_rows_are_fitted_to_the_columns_their_order_and_types():
    given = pa.table(
        {"unknown": [1], "at": pa.array([NOON], pa.timestamp("ms", "UTC")),
         "count": pa.array([7], pa.int32()), "name": pa.array(["a"], pa.large_string())}
    )  # fmt: skip
    found = fitted(given, SCHEMA)
    assert found.schema == SCHEMA
    assert found.to_pylist() == [{"name": "a", "count": 7, "tags": None, "at": NOON}]


def test_a_file_that_is_not_there_need_not_be_removed(tmp_path):
    file = write(tmp_path, rows(NOON))
    for _ in range(2):
        remove_file(str(tmp_path), file.name)
        assert names_in(tmp_path) == []
