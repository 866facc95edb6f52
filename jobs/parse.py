"""From landed lines to payments, or to the reason why a line is none.

Three steps over a streaming or a static DataFrame: ``open_envelopes``, ``check_payments`` and, once
a payment was found valid, ``payment_columns``. All rules come from ``ingest.schema``.
"""

from collections.abc import Collection
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    DataType,
    DateType,
    DoubleType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from ingest.schema import (
    DIGITS_PATTERN,
    EARLIEST_DATE,
    EARLIEST_EVENT,
    EVENT_TIME_EXPECTATION,
    LATEST_EVENT,
    NON_EMPTY,
    PAYMENT_FIELDS,
    PaymentField,
)

FOREIGN_SOURCE = "file:"
"""Prefix of `source` for a line that came without a valid envelope: the file's name follows."""

ENVELOPE = StructType(
    [
        StructField("source", StringType()),
        StructField("position", LongType()),
        StructField("received_at", TimestampType()),
        StructField("encoding", StringType()),
        StructField("payload", StringType()),
    ]
)

_STORED_TYPE: dict[str, DataType] = {
    "number": DoubleType(),
    "integer": LongType(),
    "date": DateType(),
}

# As parsed: numbers as doubles, so that 3.0 is a whole number; everything else as its text.
_PARSED = StructType(
    [
        StructField(
            field.name, DoubleType() if field.type in ("number", "integer") else StringType()
        )
        for field in PAYMENT_FIELDS
    ]
)

PAYMENT_COLUMNS = StructType(
    [
        StructField(field.name, _STORED_TYPE.get(field.type, StringType()))
        for field in PAYMENT_FIELDS
    ]
)
"""The payment's own columns in `transactions`, typed."""


def open_envelopes(lines: DataFrame) -> DataFrame:
    """The envelope's columns of each landed line.

    Args:
        lines: ``value`` (a line), ``file`` (name of its file).

    Returns:
        source, position, received_at, encoding, payload. A line that is no envelope becomes the
        payload itself (base64 where it is no UTF-8); its source is ``file:<name>``, its position a
        hash of the line.
    """
    # Bytes that are no UTF-8 would break the way into Python; ingest never lands any.
    is_text = F.is_valid_utf8("value")
    text = F.when(is_text, F.col("value")).otherwise(F.base64(F.col("value").cast("binary")))
    opened = lines.select(text.alias("value"), "file").withColumn(
        "envelope", F.from_json("value", ENVELOPE)
    )
    whole = reduce(
        lambda left, right: left & right,
        [F.col(f"envelope.{field.name}").isNotNull() for field in ENVELOPE.fields],
    )
    return opened.select(
        F.when(whole, F.col("envelope.source"))
        .otherwise(F.concat(F.lit(FOREIGN_SOURCE), F.col("file")))
        .alias("source"),
        F.when(whole, F.col("envelope.position"))
        .otherwise(F.xxhash64("value").bitwiseAND(F.lit(2**63 - 1)))
        .alias("position"),
        F.when(whole, F.least(F.col("envelope.received_at"), F.current_timestamp()))
        .otherwise(F.current_timestamp())
        .alias("received_at"),
        F.when(whole, F.col("envelope.encoding")).otherwise("none").alias("encoding"),
        F.when(whole, F.col("envelope.payload")).otherwise(F.col("value")).alias("payload"),
    )


def check_payments(
    envelopes: DataFrame, optional: Collection[str], max_days_ahead: float
) -> DataFrame:
    """Add ``reason`` (NULL for a valid payment), ``trans_num`` (where there is one) and ``payment``
    (struct of ``payment_columns``, NULL for what is rejected).

    Args:
        envelopes: as ``open_envelopes`` returns.
        optional: required fields that may be missing all the same.
        max_days_ahead: event time allowed past receipt, in days; 0 for any.
    """
    parsed = parse_payload(envelopes)
    problems = [_field_problem(field, field.name in optional) for field in PAYMENT_FIELDS]
    problems.append(_event_time_problem(max_days_ahead))
    problems.append(
        F.when(
            _typed("dob") > _event_time().cast("date"),
            F.concat(F.lit("dob: after the payment, "), F.col("parsed.dob")),
        )
    )
    found = F.concat_ws("; ", *problems)
    reason = (
        F.when(F.col("encoding") == "none", F.lit("no envelope: the line was not landed by ingest"))
        .when(F.col("encoding") != "text", F.lit("not UTF-8 text; the payload is its base64"))
        .when(~_is_object(), F.lit("not a JSON object"))
        .when(found != "", found)
    )
    return parsed.select(
        *envelopes.columns,
        "parsed",
        reason.alias("reason"),
    ).select(
        *envelopes.columns,
        "reason",
        F.col("parsed.trans_num").alias("trans_num"),
        F.when(F.col("reason").isNull(), F.struct(*payment_columns())).alias("payment"),
    )


def parse_payload(envelopes: DataFrame) -> DataFrame:
    """Add ``parsed``, the fields of ``payload`` before they are typed, for ``payment_columns``."""
    return envelopes.withColumn("parsed", F.from_json("payload", _PARSED))


def payment_columns() -> list[Column]:
    """The payment's typed columns and ``event_time``, from a column ``parsed``."""
    return [
        *(_typed(field.name).alias(field.name) for field in PAYMENT_FIELDS),
        _event_time().alias("event_time"),
    ]


def _is_object() -> Column:
    text = F.trim(F.col("payload"))
    is_json = F.col("parsed.trans_num").isNotNull() | F.get_json_object("payload", "$").isNotNull()
    return text.startswith("{") & text.endswith("}") & is_json


def _field_problem(field: PaymentField, is_optional: bool) -> Column:
    value = F.col(f"parsed.{field.name}")
    found = F.get_json_object("payload", f"$.{field.name}")
    expected = F.lit(f"{field.name}: expected {field.expectation}, found ")
    wrong = F.concat(expected, found)
    missing = (
        F.lit(f"{field.name}: missing, expected {field.expectation}")
        if field.required and not is_optional
        else F.lit(None)
    )
    # What could not be read as the field's type parses as NULL, like what is not there at all.
    return F.when(value.isNull(), F.coalesce(wrong, missing)).when(
        # Strict JSON has no NaN and no Infinity, so `found` is NULL beside one.
        ~_holds(field, value),
        F.coalesce(wrong, F.concat(expected, value.cast("string"))),
    )


def _holds(field: PaymentField, value: Column) -> Column:
    match field.type:
        case "number" | "integer":
            # NaN counts as larger than any number, so it is out of range too.
            in_range = value.between(field.minimum, field.maximum)
            return in_range & (value == F.floor(value)) if field.type == "integer" else in_range
        case "digits":
            return value.rlike(DIGITS_PATTERN)
        case "date":
            return value.rlike(r"^\d{4}-\d{2}-\d{2}$") & (
                F.coalesce(_typed(field.name) >= F.lit(EARLIEST_DATE), F.lit(False))
            )
        case "timestamp":
            return (
                value.rlike(r"^\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}$")
                & F.expr(f"try_cast(parsed.{field.name} AS TIMESTAMP)").isNotNull()
            )
    # An object or an array where text is expected arrives as its JSON text.
    nested = value.rlike(r"^[\[{]") & F.col("payload").rlike(rf'"{field.name}"\s*:\s*[\[{{]')
    return ~nested & (value != "") if field.name in NON_EMPTY else ~nested


def _typed(name: str) -> Column:
    stored = PAYMENT_COLUMNS[name].dataType.simpleString()
    return F.expr(f"try_cast(parsed.`{name}` AS {stored})")


def _event_time() -> Column:
    return F.coalesce(
        F.expr("try_cast(parsed.trans_date_trans_time AS TIMESTAMP)"),
        F.when(
            F.abs("parsed.current_time") < 1e14,
            F.timestamp_millis(F.col("parsed.current_time").cast("long")),
        ),
    )


def _event_time_problem(max_days_ahead: float) -> Column:
    time = _event_time()
    outside = time.isNull() | (time < F.lit(EARLIEST_EVENT)) | (time >= F.lit(LATEST_EVENT))
    found = F.coalesce(
        F.col("parsed.trans_date_trans_time"), F.col("parsed.current_time").cast("string")
    )
    problem = F.when(
        outside,
        F.concat(F.lit(EVENT_TIME_EXPECTATION + ", found "), F.coalesce(found, F.lit("neither"))),
    )
    if max_days_ahead == 0:
        return problem
    latest = F.col("received_at") + F.make_dt_interval(
        secs=F.lit(max_days_ahead * 86400).cast("decimal(18,6)")
    )
    return problem.when(
        time > latest,
        F.concat(
            F.lit(f"event time: more than {max_days_ahead:g} days after receipt, "),
            time.cast("string"),
        ),
    )
