"""From landed lines to payments, or to the reason why a line is none: Arrow in, Arrow out.

What a valid payment is, ``ingest.schema.check_payment`` decides. Nearly all payments are taken a
quicker way, column by column, that accepts only what the check would accept, with the same values
(a test holds the two together); the check judges the rest, one by one.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.envelope import ENCRYPTED, cut_reason
from ingest.schema import (
    CARD_PATTERN,
    DATE_PATTERN,
    EARLIEST_DATE,
    EARLIEST_EVENT,
    LARGEST_MILLISECONDS,
    LATEST_EVENT,
    NON_EMPTY,
    PAYMENT_FIELDS,
    TIMESTAMP_PATTERN,
    InvalidPayment,
    PaymentField,
    check_payment,
    extra_of,
    is_unicode,
)
from jobs.envelopes import MOMENT
from jobs.json_rows import cast_texts, read_objects

_STORED_TYPE = {"number": pa.float64(), "integer": pa.int64(), "date": pa.date32()}

EXTRA = "extra"

_ENCRYPTED = (
    "encrypted by ingest: no row, none with a card number in cc_num, or one with a card number in "
    "trans_num"
)

PAYMENT_COLUMNS = pa.schema(
    [
        *((field.name, _STORED_TYPE.get(field.type, pa.string())) for field in PAYMENT_FIELDS),
        (EXTRA, pa.string()),
    ]
)
"""The payment's own columns in `transactions`, typed; `extra` holds what other fields it came with
(``ingest.schema.extra_of``)."""

PARSED = pa.schema(
    [
        ("source", pa.string()),
        ("position", pa.int64()),
        ("received_at", MOMENT),
        ("payload", pa.string()),
        ("reason", pa.string()),
        *PAYMENT_COLUMNS,
        ("event_time", MOMENT),
    ]
)
"""A payload: its address, and either the payment's columns and its `event_time` (`payload` and
`reason` are NULL then), or the payload as it came and the reason why it is no payment, with its
`trans_num` where there is one."""


@dataclass(frozen=True)
class Rules:
    """``optional``: required fields that may be missing all the same. ``max_days_ahead``: event
    time allowed past receipt, in days; 0 for any."""

    optional: Collection[str] = ()
    max_days_ahead: float = 0.0


def parse_payloads(envelopes: pa.Table, rules: Rules) -> pa.Table:
    """Judge the payload of each envelope (``ENVELOPES``); returns ``PARSED``, in any order."""
    is_text = pc.equal(envelopes["encoding"], "text").to_numpy()
    texts = envelopes["payload"].combine_chunks()
    read, places, may_have_others = read_objects(_only(texts, is_text), _PAYLOAD_SCHEMAS)
    places = np.flatnonzero(is_text)[places]
    columns, is_valid = _take_quickly(read, rules)
    columns[EXTRA], is_told = _extras(texts, places, may_have_others)
    is_valid &= is_told
    is_valid &= ~_is_ahead(columns["event_time"], envelopes["received_at"].take(places), rules)
    places = places[is_valid]
    quick = _address(envelopes.take(places), valid=True)
    for name, column in columns.items():
        quick[name] = column.filter(pa.array(is_valid))
    rest = np.ones(len(envelopes), np.bool_)
    rest[places] = False
    slow = _judge_each(envelopes.filter(pa.array(rest)), rules)
    return pa.concat_tables([pa.table(quick, schema=PARSED), slow])


def _only(texts: pa.StringArray, chosen: "np.ndarray[Any, Any]") -> pa.StringArray:
    return texts if chosen.all() else texts.filter(pa.array(chosen))


def _address(envelopes: pa.Table, valid: bool) -> dict[str, Any]:
    nothing = pa.nulls(len(envelopes), pa.string())
    return {
        "source": envelopes["source"],
        "position": envelopes["position"],
        "received_at": envelopes["received_at"],
        "payload": nothing if valid else envelopes["payload"],
        "reason": nothing,
    }


# A card number or a postal code comes as a number or as text; all other fields as one of the two.
_NUMERIC_TYPES = {"number": pa.float64(), "integer": pa.float64()}


def _payload_schema(**either: pa.DataType) -> pa.Schema:
    types = _NUMERIC_TYPES | dict.fromkeys(("text", "card", "date", "timestamp"), pa.string())
    return pa.schema(
        [(field.name, either.get(field.name, types[field.type])) for field in PAYMENT_FIELDS]
    )


_PAYLOAD_SCHEMAS = [
    _payload_schema(),
    _payload_schema(cc_num=pa.int64(), zip=pa.int64()),
    _payload_schema(zip=pa.int64()),  # the API's, with a token for the number
]


def _extras(
    texts: pa.StringArray, places: "np.ndarray[Any, Any]", may_have_others: "np.ndarray[Any, Any]"
) -> tuple[pa.Array, "np.ndarray[Any, Any]"]:
    """``ingest.schema.extra_of`` for the texts at ``places``, and where it can be told."""
    extras = np.full(len(places), None, dtype=object)
    is_told = np.ones(len(places), np.bool_)
    some = np.flatnonzero(may_have_others)
    for row, text in zip(some, texts.take(pa.array(places[some])).to_pylist(), strict=True):
        try:
            extras[row] = extra_of(json.loads(text))
        except (InvalidPayment, RecursionError):  # Arrow reads deeper than Python
            is_told[row] = False
    return pa.array(extras, pa.string()), is_told


def _take_quickly(read: pa.Table, rules: Rules) -> tuple[dict[str, Any], "np.ndarray[Any, Any]"]:
    """The typed columns, and which rows are payments beyond doubt."""
    columns: dict[str, Any] = {}
    is_valid = np.ones(len(read), np.bool_)
    for field in PAYMENT_FIELDS:
        column = read[field.name].combine_chunks()
        may_miss = not field.required or field.name in rules.optional
        columns[field.name], fits = _typed(field, column)
        missing = pa.scalar(may_miss)
        is_valid &= pc.if_else(pc.is_null(column), missing, fits).to_numpy(zero_copy_only=False)
    columns["event_time"], is_known = _event_times(columns)
    too_young = pc.greater(columns["dob"], columns["event_time"].cast(pa.date32()))
    return columns, is_valid & is_known & ~_true(too_young)


def _typed(field: PaymentField, column: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The column as it is stored, and where it fits (anything goes where it is NULL)."""
    match field.type:
        case "number" | "integer":
            # NaN is in no range.
            fits = pc.and_(
                pc.greater_equal(column, field.minimum), pc.less_equal(column, field.maximum)
            )
            if field.type == "number":
                return pc.add(column, 0.0), fits  # -0 becomes 0
            # A larger number may have been rounded to the greatest.
            fits = pc.and_(fits, pc.less(column, field.maximum))
            fits = pc.and_(fits, pc.equal(column, pc.floor(column)))
            whole = pc.if_else(fits, column, pa.scalar(None, pa.float64()))
            return whole.cast(pa.int64()), fits
        case "card":
            return column, pc.match_substring_regex(column, CARD_PATTERN)
        case "date":
            shaped = pc.match_substring_regex(column, DATE_PATTERN)
            days = cast_texts(pc.if_else(shaped, column, pa.scalar(None, pa.string())), pa.date32())
            return days, _and(pc.is_valid(days), pc.greater_equal(days, pa.scalar(EARLIEST_DATE)))
        case "timestamp":
            moments = _moments(column)
            return column, pc.is_valid(moments)
    fits = pc.not_equal(column, "") if field.name in NON_EMPTY else pc.is_valid(column)
    return column, fits


def _and(left: pa.Array, right: pa.Array) -> pa.Array:
    return pc.and_(left, pc.fill_null(right, False))


def _moments(texts: pa.Array) -> pa.Array:
    shaped = pc.match_substring_regex(texts, TIMESTAMP_PATTERN)
    return cast_texts(pc.if_else(shaped, texts, pa.scalar(None, pa.string())), pa.timestamp("us"))


def _event_times(columns: dict[str, Any]) -> tuple[pa.Array, "np.ndarray[Any, Any]"]:
    """``ingest.schema.event_time_of`` for every row, and where it is known."""
    told = _moments(columns["trans_date_trans_time"])
    number = columns["current_time"]
    near = pc.less(pc.abs(number), LARGEST_MILLISECONDS)
    micros = pc.multiply(pc.if_else(near, number, pa.scalar(None, pa.int64())), 1000)
    has_text = pc.is_valid(columns["trans_date_trans_time"])
    times = pc.if_else(has_text, told, micros.cast(pa.timestamp("us"))).cast(MOMENT)
    earliest, latest = pa.scalar(EARLIEST_EVENT, MOMENT), pa.scalar(LATEST_EVENT, MOMENT)
    known = pc.and_(pc.greater_equal(times, earliest), pc.less(times, latest))
    return times, _true(known)


def _true(column: pa.Array) -> "np.ndarray[Any, Any]":
    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False))


def _is_ahead(times: pa.Array, received_at: Any, rules: Rules) -> "np.ndarray[Any, Any]":
    if rules.max_days_ahead == 0:
        return np.zeros(len(times), np.bool_)
    ahead = pa.scalar(timedelta(days=rules.max_days_ahead), pa.duration("us"))
    latest = pc.add(received_at.combine_chunks(), ahead)
    return _true(pc.greater(times, latest))


def _judge_each(envelopes: pa.Table, rules: Rules) -> pa.Table:
    rows = [_judge(envelope, rules) for envelope in envelopes.to_pylist()]
    return pa.Table.from_pylist(rows, schema=PARSED)


def _judge(envelope: dict[str, Any], rules: Rules) -> dict[str, Any]:
    address = {name: envelope[name] for name in ("source", "position", "received_at")}
    payment: Any = None
    try:
        payment = _object_of(envelope)
        values = check_payment(payment, rules.optional)
        check_ahead(values["event_time"], envelope["received_at"], rules)
        values[EXTRA] = extra_of(payment)
    except InvalidPayment as problem:
        told = payment.get("trans_num") if isinstance(payment, dict) else None
        name = told if isinstance(told, str) and is_unicode(told) else None
        return address | {
            "payload": envelope["payload"], "reason": str(problem), "trans_num": name,
        }  # fmt: skip
    return address | values


def _object_of(envelope: dict[str, Any]) -> dict[str, Any]:
    if envelope["encoding"] == "none":
        raise InvalidPayment("no envelope: the line was not landed by ingest")
    if envelope["encoding"] == ENCRYPTED:
        raise InvalidPayment(_ENCRYPTED)
    if (why := cut_reason(envelope["encoding"])) is not None:
        raise InvalidPayment(why)
    if envelope["encoding"] != "text":
        raise InvalidPayment("not UTF-8 text; the payload is its base64")
    try:
        payment = json.loads(envelope["payload"])
    except (ValueError, RecursionError):
        payment = None
    if not isinstance(payment, dict):
        raise InvalidPayment("not a JSON object")
    return payment


def check_ahead(event_time: Any, received_at: datetime, rules: Rules) -> None:
    """Refuse an event time (a ``datetime``) that lies too far ahead of the moment of receipt.

    Raises:
        ingest.schema.InvalidPayment: it does.
    """
    days = rules.max_days_ahead
    if days and event_time > received_at + timedelta(days=days):
        raise InvalidPayment(
            f"event time: more than {days:g} days after receipt, {event_time:%Y-%m-%d %H:%M:%S}"
        )
