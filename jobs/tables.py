"""Every Delta table: its columns, its settings, and how it is made and opened."""

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Field, Schema
from deltalake.exceptions import CommitFailedError
from deltalake.schema import StructType as DeltaStruct
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from conf.settings import WarehouseSettings
from jobs.features import FEATURE_NAMES
from jobs.parse import PAYMENT_COLUMNS

FEATURES_STRUCT = StructType([StructField(name, DoubleType()) for name in FEATURE_NAMES])

TRANSACTIONS = StructType(
    [
        *from_arrow_schema(PAYMENT_COLUMNS).fields,
        StructField("source", StringType()),
        StructField("position", LongType()),
        StructField("event_time", TimestampType()),
        StructField("ingested_at", TimestampType()),
        StructField("scored_at", TimestampType()),
        StructField("features", FEATURES_STRUCT),
        StructField("fraud_score", DoubleType()),
        StructField("prediction", BooleanType()),
        StructField("threshold", DoubleType()),
        StructField("model_name", StringType()),
        StructField("model_version", StringType()),
        StructField("reasons", ArrayType(StringType())),
        StructField("label", BooleanType()),
        StructField("label_source", StringType()),
        StructField("labelled_at", TimestampType()),
    ]
)
"""One row a payment. `event_time`, `ingested_at` (receipt by ingest) and `scored_at` are UTC;
`fraud_score` is a probability; `reasons` is a list where it makes a hit, else NULL; `label` is NULL
until a verdict."""

REJECTED = StructType(
    [
        StructField("source", StringType()),
        StructField("position", LongType()),
        StructField("payload", StringType()),
        StructField("reason", StringType()),
        StructField("received_at", TimestampType()),
    ]
)
"""One row a payload that is no valid payment, with its address and why."""

DUPLICATES = StructType(
    [
        field
        for field in TRANSACTIONS
        if field.name in (*PAYMENT_COLUMNS.names, "source", "position", "event_time", "ingested_at")
    ]
)
"""One row a payment that was not scored because another card used its `trans_num` before: its own
card remembers it all the same, also with a new checkpoint."""

ALERTS = StructType(
    [
        StructField("trans_num", StringType()),
        StructField("cc_num", StringType()),
        StructField("event_time", TimestampType()),
        StructField("amt", DoubleType()),
        StructField("merchant", StringType()),
        StructField("category", StringType()),
        StructField("city", StringType()),
        StructField("state", StringType()),
        StructField("fraud_score", DoubleType()),
        StructField("threshold", DoubleType()),
        StructField("model_name", StringType()),
        StructField("model_version", StringType()),
        StructField("reasons", ArrayType(StringType())),
        StructField("batch", StringType()),
        StructField("recorded_at", TimestampType()),
        StructField("status", StringType()),
        StructField("attempts", IntegerType()),
        StructField("sent_at", TimestampType()),
        StructField("message_id", StringType()),
        StructField("recipients", StringType()),
        StructField("last_error", StringType()),
    ]
)
"""One row a hit: what the mail shows of it, the micro-batch that found it (`batch`), and how the
mail fared: `status` is pending, sent or failed; `message_id` is that of the mail it went into."""

WRITTEN_TABLES = ("transactions", "duplicates", "rejected")
"""What the score job fills."""

REMEMBERED_TABLES = ("transactions", "duplicates")
"""Where the payments are that a card's memory holds."""

_SCHEMAS = {
    "transactions": TRANSACTIONS,
    "rejected": REJECTED,
    "duplicates": DUPLICATES,
    "alerts": ALERTS,
}

STATISTICS = {
    "transactions": ("event_time", "ingested_at"),
    "rejected": ("received_at",),
    "duplicates": ("event_time", "ingested_at"),
    "alerts": ("recorded_at",),
}
"""The columns of each table that a reader can pass over files by; statistics cost at every commit.
"""


def arrow_schema(name: str) -> pa.Schema:
    """The columns of the table ``name`` as Arrow has them."""
    return to_arrow_schema(_SCHEMAS[name], timezone="UTC")


def ensure_table(warehouse: WarehouseSettings, name: str) -> str:
    """Make the table ``name`` where it is missing, add columns that it lacks; return its path."""
    path = warehouse.table(name)
    schema = Schema.from_arrow(arrow_schema(name))
    properties = {
        # A checkpoint holds the whole log: it costs more the larger the table is.
        "delta.checkpointInterval": "100",
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


def append(frame: DataFrame, path: str, application: str, version: int) -> None:
    """Append ``frame`` once: what (``application``, ``version``) wrote before is skipped.

    Args:
        application: identity of the writing query; a new checkpoint has a new one.
        version: its micro-batch.
    """
    (
        frame.write.format("delta")
        .mode("append")
        .option("txnAppId", application)
        .option("txnVersion", version)
        .save(path)
    )
