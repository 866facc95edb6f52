"""How Delta tables are made and opened; their columns stand in ``jobs.schemas``."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Field, Schema
from deltalake.exceptions import CommitFailedError
from deltalake.schema import StructType as DeltaStruct
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from conf.sections import WarehouseSettings
from jobs.schemas import SCHEMAS, STATISTICS


def arrow_schema(name: str) -> pa.Schema:
    """The columns of the table ``name`` as Arrow has them."""
    return to_arrow_schema(SCHEMAS[name], timezone="UTC")


def ensure_table(warehouse: WarehouseSettings, name: str) -> str:
    """Make the table ``name`` where it is missing, add columns that it lacks; return its path."""
    path = warehouse.table(name)
    schema = Schema.from_arrow(arrow_schema(name))
    properties = {
        # A checkpoint holds the whole log: it costs more the larger the table is.
        "delta.checkpointInterval": "100",
        # Only jobs.maintain shortens the log: it looks first how far the readers are.
        "delta.enableExpiredLogCleanup": "false",
        "delta.dataSkippingStatsColumns": ",".join(STATISTICS[name]),
    }
    table = _made(path, schema, properties)
    lacking = _lacking(table, schema)
    if lacking:
        try:
            table.alter.add_columns(lacking)
        except CommitFailedError:  # another job may have added them
            if _lacking(DeltaTable(path), schema):
                raise
    return path


def _made(path: str, schema: Schema, properties: dict[str, str]) -> DeltaTable:
    try:
        return DeltaTable.create(
            path,
            schema,
            mode="ignore",
            configuration=properties,
            # A second try would be a second birth of the table that another job has just made.
            commit_properties=CommitProperties(max_commit_retries=0),
        )
    except CommitFailedError:
        return DeltaTable(path)


def _lacking(table: DeltaTable, wanted: Schema) -> list[Field]:
    present = {field.name: field for field in table.schema().fields}
    return [field for field in wanted.fields if _is_less(present.get(field.name), field)]


def _is_less(present: Field | None, wanted: Field) -> bool:
    """Whether a column is missing, or a field of it where it is a struct."""
    if present is None:
        return True
    if not isinstance(wanted.type, DeltaStruct) or not isinstance(present.type, DeltaStruct):
        return False
    names = {field.name for field in present.type.fields}
    return any(field.name not in names for field in wanted.type.fields)


def read_table(spark: SparkSession, warehouse: WarehouseSettings, name: str) -> DataFrame:
    """The table ``name`` as it stands now."""
    return spark.read.format("delta").load(warehouse.table(name))


def rows_where(
    dataset: ds.Dataset,
    columns: Sequence[str],
    asked: pc.Expression,
    bounds: pc.Expression | None = None,
) -> pa.Table:
    """The rows of which ``asked`` and ``bounds`` hold.

    A question about text belongs into ``asked``, which is put to the rows. ``bounds`` are put to
    the statistics of the Parquet files first, where pyarrow fails on text: delta-rs, whose MERGE
    rewrites files, declares it there as another type than the table does.

    Args:
        columns: those that ``asked`` is about are among them.
    """
    read = dataset.scanner(list(columns), filter=bounds).to_reader()
    return ds.Scanner.from_batches(read, filter=asked).to_table()
