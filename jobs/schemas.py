"""Every Delta table's columns."""

from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DateType,
    DoubleType,
    IntegerType,
    LongType,
    MapType,
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
        StructField("challenger_score", DoubleType()),
        StructField("challenger_version", StringType()),
        StructField("reasons", ArrayType(StringType())),
        StructField("label", BooleanType()),
        StructField("label_source", StringType()),
        StructField("labelled_at", TimestampType()),
    ]
)
"""One row a payment. `event_time`, `ingested_at` (receipt by ingest) and `scored_at` are UTC;
`fraud_score` is a probability; `challenger_score` is that of the challenger, NULL where there was
none; `reasons` is a list where the payment is a hit, else NULL; `label` is NULL until a verdict,
`labelled_at` is the verdict's `recorded_at`."""

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
        if field.name
        in (*PAYMENT_COLUMNS.names, "source", "position", "event_time", "ingested_at", "scored_at")
    ]
)
"""One row a payment that was not scored because another card used its `trans_num` before: its own
card remembers it all the same, also with a new checkpoint. `scored_at` is when the micro-batch was
that set it apart; NULL in rows from before there was the column."""

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

LABELS = StructType(
    [
        StructField("trans_num", StringType()),
        StructField("label", BooleanType()),
        StructField("verified_at", TimestampType()),
        StructField("recorded_at", TimestampType()),
        StructField("source", StringType()),
        StructField("analyst", StringType()),
        StructField("note", StringType()),
        StructField("file", StringType()),
        StructField("line", LongType()),
        StructField("arrival", LongType()),
    ]
)
"""One row a verdict; rows are only ever appended. `label` is True for a fraud; `verified_at` is
when it was found out, `recorded_at` when it became known here. `arrival` counts the files as
they are taken: a verdict of a later one, and in one file of a later `line`, supersedes an earlier
one on its `trans_num`. Rows from before there was the column (NULL) came before all others, by
`recorded_at`."""

REVIEWS = StructType(
    [
        StructField("trans_num", StringType()),
        StructField("drawn_at", TimestampType()),
        StructField("probability", DoubleType()),
        StructField("fraud_score", DoubleType()),
        StructField("model_name", StringType()),
        StructField("model_version", StringType()),
    ]
)
"""One row a payment below the threshold that was drawn for review, with the probability that it was
drawn with."""

REVIEW_SOURCE = "review"
"""`source` of a verdict that such a review led to."""

ALIAS_MOVES = StructType(
    [
        StructField("moved_at", TimestampType()),
        StructField("model_name", StringType()),
        StructField("alias", StringType()),
        StructField("from_version", StringType()),
        StructField("to_version", StringType()),
        StructField("kind", StringType()),
        StructField("who", StringType()),
        StructField("why", StringType()),
        StructField("run_id", StringType()),
    ]
)
"""One row a move of an alias: `kind` is promotion, forced, rollback, or found (the alias stood
elsewhere than its last move says); `run_id` is the MLflow run that holds the comparison, NULL where
there is none."""

MODEL_METRICS = StructType(
    [
        StructField("day", DateType()),
        StructField("model_name", StringType()),
        StructField("model_version", StringType()),
        StructField("computed_at", TimestampType()),
        StructField("is_matured", BooleanType()),
        StructField("payments", LongType()),
        StructField("hits", LongType()),
        StructField("labelled", LongType()),
        StructField("label_coverage", DoubleType()),
        StructField("labelled_hits", LongType()),
        StructField("verified_precision", DoubleType()),
        StructField("frauds", DoubleType()),
        StructField("precision", DoubleType()),
        StructField("recall", DoubleType()),
        StructField("average_precision", DoubleType()),
        StructField("card_precision_at_k", DoubleType()),
        StructField("expected_calibration_error", DoubleType()),
        StructField("money_saved_usd", DoubleType()),
        StructField("money_lost_usd", DoubleType()),
        StructField("alerts_sent", LongType()),
        StructField("rejected", LongType()),
        StructField("delay_seconds_p50", DoubleType()),
        StructField("delay_seconds_p95", DoubleType()),
        StructField("delay_seconds_p99", DoubleType()),
        StructField("score_psi", DoubleType()),
        StructField("psi", MapType(StringType(), DoubleType())),
        StructField("effect_size", MapType(StringType(), DoubleType())),
    ]
)
"""One row a UTC day of receipt and model version, written anew when it changed (the last
`computed_at` counts). Where `is_matured` is False, `frauds`, `precision`, `recall` and money are
estimates from the scores. `labelled` counts the payments with a verdict, `label_coverage` is their
share; `verified_precision` is the share of frauds among the `labelled_hits`. `alerts_sent` counts
the hits whose mail went out; `rejected` is the day's, the same on the rows of all its versions.
`psi` and `effect_size` compare each feature and the categories with the version's reference,
`score_psi` the score; NULL where there is none, or too few payments."""

WRITTEN_TABLES = ("transactions", "duplicates", "rejected")
"""What the score job fills."""

REMEMBERED_TABLES = ("transactions", "duplicates")
"""Where the payments are that a card's memory holds."""

SCHEMAS = {
    "transactions": TRANSACTIONS,
    "rejected": REJECTED,
    "duplicates": DUPLICATES,
    "alerts": ALERTS,
    "labels": LABELS,
    "reviews": REVIEWS,
    "alias_moves": ALIAS_MOVES,
    "model_metrics": MODEL_METRICS,
}

STATISTICS = {
    "transactions": ("event_time", "ingested_at"),
    "rejected": ("received_at",),
    "duplicates": ("event_time", "ingested_at"),
    "alerts": ("recorded_at",),
    "labels": ("recorded_at",),
    "reviews": ("drawn_at",),
    "alias_moves": ("moved_at",),
    "model_metrics": ("computed_at",),
}
"""The columns of each table that a reader can pass over files by; statistics cost at every commit.
"""
