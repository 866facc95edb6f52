"""Every Delta table's columns."""

from pyspark.sql.pandas.types import from_arrow_schema
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

SCHEMAS = {
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
