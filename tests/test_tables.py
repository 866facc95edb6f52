import threading

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema

from conf.sections import WarehouseSettings
from jobs.features import FEATURE_NAMES
from jobs.schemas import STATISTICS
from jobs.tables import arrow_schema, ensure_table


@pytest.fixture
def warehouse(tmp_path):
    return WarehouseSettings(path=str(tmp_path), checkpoints=str(tmp_path / "checkpoints"))


def columns_of(path):
    return {field.name: field.type for field in DeltaTable(path).schema().fields}


def expected_columns(name):
    return {field.name: field.type for field in Schema.from_arrow(arrow_schema(name)).fields}


@pytest.mark.parametrize("name", list(STATISTICS))
def test_a_table_is_made_with_its_columns_and_properties_and_is_left_alone_then(warehouse, name):
    path = ensure_table(warehouse, name)
    assert path == warehouse.table(name)
    assert [field.name for field in DeltaTable(path).schema().fields] == arrow_schema(name).names
    assert columns_of(path) == expected_columns(name)
    assert DeltaTable(path).metadata().configuration == {
        "delta.checkpointInterval": "100",
        "delta.enableExpiredLogCleanup": "false",
        "delta.dataSkippingStatsColumns": ",".join(STATISTICS[name]),
    }
    assert ensure_table(warehouse, name) == path
    assert DeltaTable(path).version() == 0


def test_the_columns_of_the_statistics_are_there():
    for name, columns in STATISTICS.items():
        assert set(columns) < set(arrow_schema(name).names)


def make(path, schema):
    DeltaTable.create(path, Schema.from_arrow(schema))


def test_columns_that_a_table_lacks_are_added(warehouse):
    path = warehouse.table("transactions")
    make(
        path,
        pa.schema(
            [
                f
                for f in arrow_schema("transactions")
                if f.name not in ("amt", "extra", "label", "reasons")
            ]
            + [pa.field("of_another_job", pa.string())]
        ),
    )
    ensure_table(warehouse, "transactions")
    found = columns_of(path)
    assert found.pop("of_another_job").type == "string"
    assert found == expected_columns("transactions")
    assert DeltaTable(path).version() == 1
    ensure_table(warehouse, "transactions")
    assert DeltaTable(path).version() == 1


def test_a_feature_that_a_table_lacks_is_added(warehouse):
    path, schema = warehouse.table("transactions"), arrow_schema("transactions")
    place = schema.names.index("features")
    fewer = pa.struct([(name, pa.float64()) for name in (*FEATURE_NAMES[1:], "of_last_year")])
    make(path, schema.set(place, pa.field("features", fewer)))
    ensure_table(warehouse, "transactions")
    names = {field.name for field in columns_of(path)["features"].fields}
    assert names == {*FEATURE_NAMES, "of_last_year"}
    ensure_table(warehouse, "transactions")
    assert DeltaTable(path).version() == 1


@pytest.mark.parametrize("turn", range(20))
def test_jobs_that_start_at_once_make_a_table_once(warehouse, turn):
    made, all_there = [], threading.Barrier(4)

    def start():
        all_there.wait()
        made.append(ensure_table(warehouse, "alerts"))

    jobs = [threading.Thread(target=start) for _ in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert made == [warehouse.table("alerts")] * 4
    assert DeltaTable(warehouse.table("alerts")).version() == 0
